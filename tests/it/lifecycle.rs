//! What membership promises, on real processes: formation, crash, stop, freeze,
//! restart, conflict, and what operators ask for.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Ground, Spec, names};
use crate::support::cluster::Cluster;
use crate::support::wait::{LONG, eventually};

/// What "at once" may take on a machine that other tests load, too.
const AT_ONCE: Duration = Duration::from_millis(800);

/// The promise for a silent member, with room for starting to look.
const SILENT: Duration = Duration::from_millis(3000);

fn member(agent: &Agent, node: &str) -> Value {
    agent.get(&format!("/api/v1/members/{node}"))
}

fn all_but(cluster: &Cluster, gone: usize) -> (Vec<String>, Vec<String>) {
    let gone = cluster[gone].name().to_owned();
    (cluster.names().into_iter().filter(|name| *name != gone).collect(), vec![gone])
}

fn wait_agreed(cluster: &Cluster) {
    for agent in cluster.iter() {
        agent.wait_for("views that agree", LONG, |view| view["views_agree"] == json!(true));
    }
    let hashes: Vec<_> =
        cluster.iter().map(|agent| agent.get("/api/v1/cluster")["view_hash"].clone()).collect();
    assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
}

#[test]
fn simultaneous_starts_are_one_cluster_every_time() {
    for _ in 0..5 {
        let cluster = Cluster::start(5);
        let ids: Vec<_> = cluster
            .iter()
            .map(|agent| {
                agent.wait_for("itself joined", LONG, |view| view["state"] == "joined")["id"]
                    .clone()
            })
            .collect();
        assert!(ids.iter().all(|id| *id == ids[0] && id.is_string()), "{ids:?}");
        wait_agreed(&cluster);
    }
}

#[test]
fn seeds_that_are_dead_or_never_answer_cost_the_others_nothing() {
    // 8 and 9 have no agent: 8 refuses, 9 accepts and never says a word.
    let ground = Ground::new(9);
    let _mute = std::net::TcpListener::bind(("127.0.0.1", ground.ports.mesh_base() + 9)).unwrap();
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1", "emqx8@127.0.0.1", "emqx9@127.0.0.1"];
    let one = Spec::new(&ground, 1).seeds(&seeds).start();
    let two = Spec::new(&ground, 2).seeds(&seeds).start();
    for agent in [&one, &two] {
        agent.wait_nodes(AT_ONCE, &seeds[..2], &[]);
        agent.wait_for("itself joined", SILENT, |view| view["state"] == "joined");
    }
}

#[test]
fn a_crash_is_down_everywhere_at_once_and_a_restart_is_the_same_member() {
    let mut cluster = Cluster::start(5);
    let before = member(&cluster[0], cluster[2].name())["incarnation"].as_u64().unwrap();
    // Who is killed before its first state is on disk is another life of that name, no more.
    let state = cluster[2].home().join("data/muster/state.json");
    eventually("the state on disk", LONG, || state.exists().then_some(()));
    cluster[2].kill9();
    let (running, stopped) = all_but(&cluster, 2);
    cluster.wait_nodes_but(&[2], AT_ONCE, &running, &stopped);
    let shown = member(&cluster[0], cluster[2].name());
    assert_eq!(shown["status"], "down");
    assert_eq!(shown["last_change"]["from"], "up");
    assert_eq!(shown["last_change"]["reason"], "refused", "{shown}");
    assert!(shown["last_change"]["text"].as_str().unwrap().contains("refuses"), "{shown}");
    cluster[2].start_again();
    cluster.wait_formed();
    assert!(member(&cluster[0], cluster[2].name())["incarnation"].as_u64().unwrap() > before);
    wait_agreed(&cluster);
}

#[test]
fn a_stop_is_seen_at_once_and_the_member_stays_listed() {
    let mut cluster = Cluster::start(3);
    cluster[1].term();
    let (running, stopped) = all_but(&cluster, 1);
    cluster.wait_nodes_but(&[1], AT_ONCE, &running, &stopped);
    assert_eq!(member(&cluster[0], cluster[1].name())["last_change"]["text"], "it was stopped");
    assert!(cluster[1].wait_exit().success());
}

#[test]
fn a_frozen_member_is_down_in_time_and_comes_back_without_a_restart() {
    let cluster = Cluster::start(5);
    cluster[4].stop();
    let (running, stopped) = all_but(&cluster, 4);
    cluster.wait_nodes_but(&[4], SILENT, &running, &stopped);
    cluster[4].cont();
    cluster.wait_nodes_but(&[], LONG, &cluster.names(), &[]);
    wait_agreed(&cluster);
}

#[test]
fn a_frozen_member_of_two_is_down_in_time() {
    let cluster = Cluster::start(2);
    cluster[1].stop();
    let (running, stopped) = all_but(&cluster, 1);
    cluster[0].wait_nodes(SILENT, &running, &stopped);
    cluster[1].cont();
    cluster.wait_nodes_but(&[], LONG, &cluster.names(), &[]);
}

#[test]
fn a_lost_disk_is_the_same_member_with_a_higher_incarnation() {
    let mut cluster = Cluster::start(3);
    let name = cluster[0].name().to_owned();
    for _ in 0..2 {
        cluster[0].kill9();
        cluster[0].start_again();
        cluster.wait_formed();
    }
    let before = member(&cluster[1], &name)["incarnation"].as_u64().unwrap();
    cluster[0].kill9();
    std::fs::remove_dir_all(cluster[0].home().join("data")).unwrap();
    cluster[0].start_again();
    cluster.wait_formed();
    let risen = |agent: &Agent| member(agent, &name)["incarnation"].as_u64().unwrap() > before;
    eventually("the incarnation to rise", LONG, || cluster.iter().all(risen).then_some(()));
}

#[test]
fn a_second_process_under_one_name_is_refused_and_does_not_flap_the_first() {
    // Both are `emqx3@127.0.0.1`, on two addresses of the loopback network; the second
    // one does the dialling.
    let ground = Ground::new(4);
    let name = "emqx3@127.0.0.1";
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1", name];
    let one = Spec::new(&ground, 1).seeds(&seeds).start();
    let two = Spec::new(&ground, 2).seeds(&seeds).start();
    let first = Spec::new(&ground, 3).seeds(&seeds).start();
    for agent in [&one, &two, &first] {
        agent.wait_nodes(LONG, &seeds, &[]);
    }
    let view = one.get("/api/v1/cluster")["view_hash"].clone();
    let second =
        Spec::named(&ground, 4, name).line("agent.mesh.bind = \"127.0.0.3\"").seeds(&seeds).start();
    let line = second.wait_log("is held by another live process");
    assert!(line.contains(name), "{line}");
    second.wait_for("no cluster", LONG, |view| view["state"] == "forming");
    let ready = second.request("GET", "/readyz", None).unwrap();
    assert_eq!(ready.status, 503);
    for agent in [&one, &two, &first] {
        agent.wait_nodes(AT_ONCE, &seeds, &[]);
    }
    assert_eq!(one.get("/api/v1/cluster")["view_hash"], view);
    drop(first);
    // The name is free: the second process is the node now.
    two.wait_for("the newcomer", LONG, |_| {
        member(&two, name)["address"].as_str().is_some_and(|at| at.starts_with("127.0.0.3:"))
            && two.status_of(name).as_deref() == Some("up")
    });
}

#[test]
fn a_restart_with_another_address_replaces_the_old_one() {
    // `emqx3@127.0.0.1` does the dialling, from one address of loopback after another.
    let ground = Ground::new(4);
    let name = "emqx3@127.0.0.1";
    let all = ["emqx1@127.0.0.1", "emqx2@127.0.0.1", name];
    let others: Vec<_> = (1..=2).map(|k| Spec::new(&ground, k).seeds(&all[..2]).start()).collect();
    let from = |address: &str| format!("agent.mesh.bind = \"{address}\"");
    let mut moving = Spec::new(&ground, 3).seeds(&all[..2]).line(&from("127.0.0.3")).start();
    let moved = |address: &str, after: u64| {
        for agent in &others {
            agent.wait_nodes(LONG, &all, &[]);
            agent.wait_for("the new address", LONG, |_| {
                let shown = member(agent, name);
                let risen = shown["incarnation"].as_u64().is_some_and(|n| n > after);
                let at = shown["address"].as_str().unwrap_or_default();
                risen && shown["status"] == "up" && at.starts_with(&format!("{address}:"))
            });
            assert_eq!(agent.get("/api/v1/members")["members"].as_array().unwrap().len(), 3);
        }
        member(&others[0], name)["incarnation"].as_u64().unwrap()
    };
    let first = moved("127.0.0.3", 0);
    moving.kill9();
    moving.start_again_with(&from("127.0.0.4"));
    let second = moved("127.0.0.4", first);
    // Its machine is gone without a word, and it comes back elsewhere without its disk.
    moving.stop();
    let _anew = Spec::named(&ground, 4, name).seeds(&all[..2]).line(&from("127.0.0.5")).start();
    moved("127.0.0.5", second);
}

#[test]
fn a_second_process_on_one_state_directory_is_refused() {
    let ground = Ground::new(2);
    let first = Spec::new(&ground, 1).seeds::<&str>(&[]).start();
    let data = first.home().join("data");
    let mut second = Spec::new(&ground, 2)
        .seeds::<&str>(&[])
        .line(&format!("node.data_dir = {:?}", data.display().to_string()))
        .spawn();
    assert_eq!(second.wait_exit().code(), Some(1));
    assert!(second.logs().contains("in use by another muster process"), "{}", second.logs());
}

#[test]
fn leaving_outlasts_a_restart_until_discovery_is_enabled() {
    let mut cluster = Cluster::start(3);
    let name = cluster[2].name().to_owned();
    let rest: Vec<_> = cluster.names().into_iter().filter(|other| *other != name).collect();
    assert_eq!(cluster[2].post("/api/v1/cluster/leave", &json!({})).status, 200);
    cluster.wait_nodes_but(&[2], AT_ONCE, &rest, &[]);
    cluster[2].kill9();
    cluster[2].start_again();
    cluster[2].wait_api();
    cluster[2].wait_for("itself left", LONG, |view| view["state"] == "left");
    assert_eq!(cluster[0].status_of(&name), None);
    let enable = json!({"enabled": true});
    assert_eq!(cluster[2].put("/api/v1/cluster/discovery", &enable).status, 200);
    cluster.wait_formed();
    wait_agreed(&cluster);
}

#[test]
fn force_leave_is_refused_for_the_living_and_lasts_for_the_dead() {
    let mut cluster = Cluster::start(4);
    let (victim, live) = (cluster[3].name().to_owned(), cluster[1].name().to_owned());
    let at = |node: &str, query: &str| format!("/api/v1/members/{node}{query}");
    assert_eq!(cluster[0].delete(&at(&live, "")).status, 409);
    assert_eq!(cluster[0].delete(&at("emqx99@127.0.0.1", "")).status, 404);
    cluster[3].kill9();
    let (running, stopped) = all_but(&cluster, 3);
    cluster.wait_nodes_but(&[3], LONG, &running, &stopped);
    assert_eq!(cluster[0].delete(&at(&victim, "")).status, 204);
    cluster.wait_nodes_but(&[3], AT_ONCE, &running, &[]);
    // A live one that is removed by force is told, and stays out.
    assert_eq!(cluster[0].delete(&at(&live, "?force=true")).status, 204);
    cluster[1].wait_for("itself left", LONG, |view| view["state"] == "left");
    let rest = vec![cluster[0].name().to_owned(), cluster[2].name().to_owned()];
    cluster.wait_nodes_but(&[1, 3], LONG, &rest, &[]);
    // The dead one starts anew: its own join brings it back.
    cluster[3].start_again();
    cluster[3].wait_api();
    let with = [&rest[..], &[victim]].concat();
    cluster.wait_nodes_but(&[1], LONG, &with, &[]);
}

#[test]
fn all_restart_cold_from_their_disks_without_seeds() {
    let mut cluster = Cluster::start(4);
    wait_agreed(&cluster);
    let id = cluster[0].get("/api/v1/cluster")["id"].clone();
    for agent in cluster.iter() {
        agent.term();
    }
    for agent in cluster.iter_mut() {
        assert!(agent.wait_exit().success());
    }
    for agent in cluster.iter_mut() {
        agent.start_again_with("cluster.static.seeds = []");
    }
    cluster.wait_formed();
    wait_agreed(&cluster);
    assert!(cluster.iter().all(|agent| agent.get("/api/v1/cluster")["id"] == id));
}

#[test]
fn a_damaged_state_file_is_moved_aside() {
    let mut cluster = Cluster::start(2);
    let state = cluster[0].home().join("data/muster/state.json");
    eventually("the state on disk", LONG, || state.exists().then_some(()));
    cluster[0].kill9();
    let text = std::fs::read_to_string(&state).unwrap();
    std::fs::write(&state, &text[..text.len() / 2]).unwrap();
    cluster[0].start_again();
    cluster.wait_formed();
    cluster[0].wait_log("was moved to");
    let aside = state.with_file_name("state.json.unusable-1");
    assert_eq!(std::fs::read_to_string(aside).unwrap(), text[..text.len() / 2]);
}

/// Three nodes in manual mode, each on its own.
fn manual(count: u16) -> Vec<Agent> {
    let ground = Ground::new(count);
    (1..=count)
        .map(|k| Spec::new(&ground, k).line("cluster.discovery_strategy = manual").start())
        .collect()
}

fn node(agent: &Agent) -> Value {
    json!({ "node": agent.name() })
}

#[test]
fn manual_nodes_join_are_guarded_against_the_wrong_direction_and_can_be_invited() {
    let agents = manual(4);
    let all: Vec<_> = agents.iter().map(|agent| agent.name().to_owned()).collect();
    for agent in &agents {
        let view = agent.get("/api/v1/cluster");
        assert_eq!(view["state"], "joined");
        assert_eq!(names(&view["running_nodes"]), [agent.name()]);
    }
    let joined = agents[1].post("/api/v1/cluster/join", &node(&agents[0]));
    assert_eq!(joined.status, 200, "{}", joined.body);
    assert_eq!(names(&joined.json()["running_nodes"]), &all[..2]);
    agents[0].wait_nodes(AT_ONCE, &all[..2], &[]);
    let wrong = agents[0].post("/api/v1/cluster/join", &node(&agents[2]));
    assert_eq!(wrong.status, 409, "{}", wrong.body);
    assert_eq!(agents[0].post("/api/v1/cluster/invite", &node(&agents[2])).status, 200);
    for agent in &agents[..3] {
        agent.wait_nodes(LONG, &all[..3], &[]);
    }
    // By force: only the one that is told so moves.
    let forced = json!({ "node": agents[3].name(), "force": true });
    assert_eq!(agents[2].post("/api/v1/cluster/join", &forced).status, 200);
    for agent in &agents[..2] {
        agent.wait_nodes(LONG, &all[..2], &[]);
    }
    for agent in &agents[2..] {
        agent.wait_nodes(LONG, &all[2..], &[]);
    }
}

#[test]
fn a_join_to_nobody_is_unreachable_and_to_another_name_a_conflict() {
    let agents = manual(1);
    let nobody = agents[0].post("/api/v1/cluster/join", &json!({"node": "emqx9@127.0.0.1"}));
    assert_eq!(nobody.status, 504, "{}", nobody.body);
    let ground = Ground::new(2);
    let manual = |k| Spec::new(&ground, k).line("cluster.discovery_strategy = manual");
    let one = manual(1).start();
    let two = manual(2).line("cluster.name = another").start();
    let answer = two.post("/api/v1/cluster/join", &node(&one));
    assert_eq!(answer.status, 409, "{}", answer.body);
    assert!(answer.body.contains("cluster.name"), "{}", answer.body);
}

#[test]
fn agents_with_other_cookies_stay_apart_and_say_why() {
    let ground = Ground::new(2);
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let one = Spec::new(&ground, 1).seeds(&seeds).start();
    let two = Spec::new(&ground, 2)
        .seeds(&seeds)
        .line("node.cookie = \"another-cookie-of-the-tests-1\"")
        .start();
    two.wait_log("cookie");
    one.wait_log("cookie");
    for (agent, name) in [(&one, seeds[0]), (&two, seeds[1])] {
        agent.wait_nodes(LONG, &[name], &[]);
    }
}

#[test]
fn a_singleton_refuses_everything_and_listens_for_nobody() {
    let ground = Ground::new(2);
    let single = Spec::new(&ground, 1).line("cluster.discovery_strategy = singleton").start();
    let view = single.get("/api/v1/cluster");
    assert_eq!(view["state"], "singleton");
    assert_eq!(names(&view["running_nodes"]), [single.name()]);
    assert_eq!(
        single.post("/api/v1/cluster/join", &json!({"node": "emqx2@127.0.0.1"})).status,
        409
    );
    assert_eq!(single.request("GET", "/readyz", None).unwrap().status, 200);
    let port = ground.ports.mesh_base() + 1;
    assert!(std::net::TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn autoclean_removes_who_was_down_too_long_and_its_return_is_a_join() {
    let mut cluster = Cluster::start_with(4, |spec| spec.line("cluster.autoclean = 2s"));
    cluster[3].kill9();
    let (running, stopped) = all_but(&cluster, 3);
    cluster.wait_nodes_but(&[3], AT_ONCE, &running, &stopped);
    cluster.wait_nodes_but(&[3], LONG, &running, &[]);
    cluster[3].start_again();
    cluster.wait_formed();
    wait_agreed(&cluster);
}
