//! Cookies changed under a running mesh, and by restarts: nobody is lost on the way.

use std::path::Path;
use std::time::Duration;

use crate::support::agent::{Agent, Spec};
use crate::support::cluster::Cluster;
use crate::support::wait::{LONG, always, eventually};

pub(super) const OLD: &str = "the-old-cookie-of-the-tests";
pub(super) const NEW: &str = "the-new-cookie-of-the-tests";

/// As careful operators do: in one step.
pub(super) fn put(file: &Path, text: &str) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let temporary = file.with_extension("tmp");
    std::fs::write(&temporary, text).unwrap();
    std::fs::rename(temporary, file).unwrap();
}

/// Takes its cookies from the file `cookie` in its home.
pub(super) fn cookie_file(spec: Spec) -> Spec {
    let line = format!("node.cookie = \"file://{}\"", spec.home().join("cookie").display());
    spec.line(&line)
}

fn reloads(agent: &Agent, outcome: &str) -> u64 {
    agent.metric(&format!("muster_cookie_reloads_total{{outcome=\"{outcome}\"}}"))
}

/// What everybody but one knows of everybody but one.
fn histories_but(cluster: &Cluster, index: usize) -> Vec<serde_json::Value> {
    let names = cluster.names();
    let others = || (0..names.len()).filter(|other| *other != index);
    let pairs = others().flat_map(|at| others().map(move |of| (at, of)));
    pairs.map(|(at, of)| cluster[at].history_of(&names[of])).collect()
}

#[test]
fn rolling_restarts_rotate_the_cookie_and_only_the_restarted_is_away() {
    let cookie = |cookies: &str| format!("node.cookie = {cookies}");
    let mut cluster = Cluster::start_with(3, |spec| spec.line(&cookie(&format!("\"{OLD}\""))));
    let names = cluster.names();
    let id = cluster[0].get("/api/v1/cluster")["id"].clone();
    let steps = [
        format!("[\"{OLD}\", \"{NEW}\"]"),
        format!("[\"{NEW}\", \"{OLD}\"]"),
        format!("\"{NEW}\""),
    ];
    for cookies in steps {
        for index in 0..cluster.len() {
            let before = histories_but(&cluster, index);
            cluster[index].term();
            assert!(cluster[index].wait_exit().success());
            cluster[index].start_again_with(&cookie(&cookies));
            cluster[index].wait_api();
            for agent in cluster.iter() {
                agent.wait_nodes(LONG, &names, &[]);
            }
            assert_eq!(histories_but(&cluster, index), before, "{cookies}, {}", names[index]);
            for (at, agent) in cluster.iter().enumerate().filter(|(at, _)| *at != index) {
                // Its stop and its start, on its own word.
                let change = agent.get(&format!("/api/v1/members/{}", names[index]));
                assert_eq!(change["last_change"]["by"], names[index], "at {}: {change}", names[at]);
            }
        }
    }
    for agent in cluster.iter() {
        assert_eq!(agent.get("/api/v1/cluster")["id"], id);
        assert_eq!(agent.handshakes("in", "cookie"), 0, "{}", agent.name());
    }
}

#[test]
fn a_changed_cookie_file_serves_new_links_and_leaves_those_that_are_up() {
    let mut cluster = Cluster::start_with(3, |spec| {
        put(&spec.home().join("cookie"), OLD);
        cookie_file(spec)
    });
    let names = cluster.names();
    let before = cluster.histories();
    let links = |cluster: &Cluster| -> Vec<u64> {
        let made = |agent: &Agent| agent.handshakes("in", "ok") + agent.handshakes("out", "ok");
        cluster.iter().map(made).collect()
    };
    let made = links(&cluster);
    for (step, cookies) in
        [format!("{OLD}\n{NEW}\n"), format!("{NEW}\n{OLD}\n"), NEW.to_owned()].iter().enumerate()
    {
        for agent in cluster.iter() {
            put(&agent.home().join("cookie"), cookies);
        }
        for agent in cluster.iter() {
            eventually("the cookies in use", LONG, || {
                (reloads(agent, "ok") == step as u64 + 1).then_some(())
            });
        }
    }
    cluster[0].wait_log("changed cookies are in use for new links");
    assert_eq!(cluster.histories(), before);
    assert_eq!(links(&cluster), made, "links that were up stay up");

    // The old cookie opens nothing any more, the new one does.
    let spec = |k| Spec::new(cluster.ground(), k).seeds(&names);
    let stranger = spec(4).line(&format!("node.cookie = \"{OLD}\"")).start();
    for agent in cluster.iter() {
        eventually("a refusal", LONG, || (agent.handshakes("in", "cookie") > 0).then_some(()));
    }
    stranger.wait_nodes(LONG, &[stranger.name()], &[]);
    let friend = spec(5).line(&format!("node.cookie = \"{NEW}\"")).start();
    let all = [&names[..], &[friend.name().to_owned()]].concat();
    cluster.push(friend);
    for agent in cluster.iter() {
        agent.wait_nodes(LONG, &all, &[]);
    }
}

#[test]
fn cookie_files_that_cannot_be_used_are_told_until_they_can() {
    let cluster = Cluster::start_with(2, |spec| {
        put(&spec.home().join("cookie"), OLD);
        cookie_file(spec)
    });
    let (agent, file) = (&cluster[0], cluster[0].home().join("cookie"));
    // There is none as long as the files can be used.
    let told = || {
        let health = agent.get("/readyz?verbose");
        let notices = health["notices"].as_array().unwrap().clone();
        let notice = notices.into_iter().find(|notice| notice["name"] == "cookie_files");
        notice.is_some_and(|notice| notice["ok"] == false)
    };
    assert!(!told());
    put(&file, "");
    let line = agent.wait_log("changed cookies cannot be used, the old ones still are");
    assert!(line.contains("WARN") && line.contains("cookie: an empty cookie"), "{line}");
    eventually("the notice", LONG, || told().then_some(()));
    assert_eq!(reloads(agent, "failed"), 1);
    assert_eq!(agent.metric("muster_cookie_stale"), 1);
    put(&file, "not a cookie");
    eventually("the second failure", LONG, || (reloads(agent, "failed") == 2).then_some(()));
    assert!(!agent.logs().contains("not a cookie"), "a secret in the log");
    // Links are still made with the old one.
    let names = cluster.names();
    let third = Spec::new(cluster.ground(), 3).line(&format!("node.cookie = \"{OLD}\""));
    let third = third.seeds(&names).start();
    let all = [&names[..], &[third.name().to_owned()]].concat();
    agent.wait_nodes(LONG, &all, &[]);
    put(&file, OLD);
    eventually("the end of the notice", LONG, || (!told()).then_some(()));
    assert_eq!((reloads(agent, "ok"), agent.metric("muster_cookie_stale")), (0, 0));
}

#[test]
fn a_cookie_that_no_agent_would_start_with_is_not_taken_from_a_file_either() {
    // Beyond loopback and in clear text; nobody is dialled.
    let ground = crate::support::agent::Ground::new(1);
    let spec = Spec::new(&ground, 1).line("agent.mesh.bind = \"0.0.0.0\"").seeds(&[""; 0]);
    put(&spec.home().join("cookie"), OLD);
    let agent = cookie_file(spec).start();
    put(&agent.home().join("cookie"), "emqxsecretcookie");
    let line = agent.wait_log("changed cookies cannot be used");
    assert!(line.contains("one that EMQX ships"), "{line}");
    assert!(!line.contains("emqxsecretcookie"), "{line}");
    // It is told once.
    always("one failure", Duration::from_millis(1500), || reloads(&agent, "failed") == 1);
}
