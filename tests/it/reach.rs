//! Who reaches whom, as an agent's API tells it.

use serde_json::{Value, json};

use crate::support::agent::Agent;
use crate::support::cluster::Cluster;
use crate::support::netns::{Lan, name, skip_without_namespaces};
use crate::support::wait::{LONG, eventually};

/// The line of `from` becomes this.
#[track_caller]
fn wait_line(at: &Agent, from: &str, wanted: &Value) {
    let what = format!("{} to say {wanted} of {from}", at.name());
    eventually(&what, LONG, || {
        let matrix = at.get("/api/v1/reach");
        let row = matrix["rows"].as_array()?.iter().find(|row| row["node"] == from)?.clone();
        let line = match row["silent"].is_null() {
            true => &row["reaches"],
            false => &row["silent"]["reason"],
        };
        (line == wanted).then_some(())
    });
}

#[test]
fn every_member_says_whom_it_reaches_and_a_dead_one_nothing() {
    let mut cluster = Cluster::start(3);
    let [one, two, three] = ["emqx1@127.0.0.1", "emqx2@127.0.0.1", "emqx3@127.0.0.1"];
    for agent in cluster.iter() {
        wait_line(agent, one, &json!(["itself", "connected", "connected"]));
        wait_line(agent, two, &json!(["connected", "itself", "connected"]));
        wait_line(agent, three, &json!(["connected", "connected", "itself"]));
    }
    cluster[2].kill9();
    for agent in [&cluster[0], &cluster[1]] {
        wait_line(agent, one, &json!(["itself", "connected", "down"]));
        wait_line(agent, two, &json!(["connected", "itself", "down"]));
        wait_line(agent, three, &json!("down"));
    }
}

/// Who asks sees what no member sees alone.
#[test]
fn a_link_that_is_missing_between_others_is_seen() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(3);
    let agents = lan.agents();
    let all: Vec<_> = agents.iter().map(|agent| agent.name().to_owned()).collect();
    agents[2].wait_nodes(LONG, &all, &[]);
    wait_line(&agents[2], &name(1), &json!(["itself", "connected", "connected"]));
    lan.cut(&[1], &[2]);
    wait_line(&agents[2], &name(1), &json!(["itself", "none", "connected"]));
    wait_line(&agents[2], &name(2), &json!(["none", "itself", "connected"]));
    wait_line(&agents[2], &name(3), &json!(["connected", "connected", "itself"]));
    lan.heal();
    wait_line(&agents[2], &name(1), &json!(["itself", "connected", "connected"]));
}
