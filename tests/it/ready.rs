//! What `/readyz` says of real agents.

use std::sync::Arc;

use serde_json::Value;

use crate::support::agent::{Agent, Ground, Spec};
use crate::support::wait::{LONG, eventually};

const ONE: &str = "emqx1@127.0.0.1";
const TWO: &str = "emqx2@127.0.0.1";

fn pair(ground: &Arc<Ground>, second: impl FnOnce(Spec) -> Spec) -> [Agent; 2] {
    let spec = |k| Spec::new(ground, k).seeds(&[ONE, TWO]);
    [spec(1).start(), second(spec(2)).start()]
}

fn check(agent: &Agent, name: &str) -> Option<Value> {
    let health = agent.get("/readyz");
    health["checks"].as_array()?.iter().find(|check| check["name"] == name).cloned()
}

/// Waits until a check fails, and returns its reason.
#[track_caller]
fn fails(agent: &Agent, name: &str) -> String {
    let reason = eventually(&format!("{name} to fail at {}", agent.name()), LONG, || {
        let check = check(agent, name)?;
        (check["ok"] == false).then(|| check["reason"].as_str().unwrap().to_owned())
    });
    assert_eq!(agent.request("GET", "/readyz", None).unwrap().status, 503);
    reason
}

#[track_caller]
fn ready(agent: &Agent) {
    eventually(&format!("{} to be ready", agent.name()), LONG, || {
        (agent.request("GET", "/readyz", None).unwrap().status == 200).then_some(())
    });
}

#[test]
fn two_that_refuse_each_other_are_not_ready_until_they_agree() {
    let ground = Ground::new(2);
    let [one, mut two] =
        pair(&ground, |spec| spec.line("node.cookie = \"another-cookie-of-the-tests-Yq3\""));
    for (agent, other) in [(&one, TWO), (&two, ONE)] {
        let reason = fails(agent, "peers");
        let begin = format!("none linked of 1 named: {other}: ");
        assert!(reason.starts_with(&begin) && reason.contains("cookie"), "{reason}");
        assert!(reason.ends_with("-> give both nodes the same node.cookie"), "{reason}");
    }
    two.term();
    two.wait_exit();
    // Who is gone refuses nobody.
    ready(&one);
    two.start_again_with(&format!("node.cookie = \"{}\"", crate::support::agent::COOKIE));
    two.wait_api();
    ready(&one);
    ready(&two);
}

#[test]
fn two_cluster_names_are_not_ready() {
    let ground = Ground::new(2);
    let agents = pair(&ground, |spec| spec.line("cluster.name = others"));
    for (agent, text) in agents.iter().zip([
        "emqx2@127.0.0.1 has cluster.name \"others\", this node \"tests\"",
        "emqx1@127.0.0.1 has cluster.name \"tests\", this node \"others\"",
    ]) {
        let reason = fails(agent, "peers");
        assert!(reason.contains(text), "{reason}");
    }
}

#[test]
fn one_of_two_that_was_stopped_leaves_the_other_ready() {
    let ground = Ground::new(2);
    let [one, mut two] = pair(&ground, |spec| spec);
    one.wait_nodes(LONG, &[ONE, TWO], &[]);
    two.term();
    two.wait_exit();
    one.wait_nodes(LONG, &[ONE], &[TWO]);
    ready(&one);
}

/// Five nodes' names, and any of them with all as seeds and this line.
fn five(line: &str) -> (Vec<String>, impl Fn(u16) -> Spec) {
    let ground = Ground::new(5);
    let names: Vec<String> = (1..=5).map(|k| format!("emqx{k}@127.0.0.1")).collect();
    let (seeds, line) = (names.clone(), line.to_owned());
    (names, move |k| Spec::new(&ground, k).seeds(&seeds).line(&line))
}

/// As a StatefulSet that shrinks does it: who stops by its own word is on no other side.
#[test]
fn scaled_down_in_order_the_last_two_of_five_stay_ready() {
    let (names, spec) = five("agent.ready.majority = true");
    let mut agents: Vec<Agent> = (1..=5).map(|k| spec(k).start()).collect();
    for agent in &agents {
        agent.wait_nodes(LONG, &names, &[]);
    }
    for mut stopped in agents.drain(2..).rev() {
        stopped.term();
        stopped.wait_exit();
    }
    for agent in &agents {
        agent.wait_nodes(LONG, &names[..2], &names[2..]);
        ready(agent);
    }
}

/// As Kubernetes replaces pods whose names have their addresses: the old names are gone.
#[test]
fn replaced_one_by_one_under_new_names_the_new_ones_are_ready() {
    let (names, spec) = five("agent.leave_on_stop = true");
    let mut agents: Vec<Agent> = (1..=2).map(|k| spec(k).start()).collect();
    agents[0].wait_nodes(LONG, &names[..2], &[]);
    for k in [3, 4] {
        let new = spec(k).start();
        new.wait_nodes(LONG, &names[usize::from(k) - 3..usize::from(k)], &[]);
        ready(&new);
        let mut old = agents.remove(0);
        old.term();
        old.wait_exit();
        agents.push(new);
    }
    for agent in &agents {
        agent.wait_nodes(LONG, &names[2..4], &[]);
        ready(agent);
    }
}

#[test]
fn a_node_that_its_seeds_do_not_name_says_so() {
    let ground = Ground::new(1);
    let agent = Spec::new(&ground, 1).seeds(&[TWO]).start();
    let notices = eventually("the notice", LONG, || {
        let notices = agent.get("/readyz?verbose")["notices"].to_string();
        notices.contains("cluster.static.seeds").then_some(notices)
    });
    assert!(notices.contains("this node, emqx1@127.0.0.1, is not among cluster.static.seeds"));
    ready(&agent);
}
