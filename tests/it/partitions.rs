//! Real agents on hosts of their own, and a wire that fails.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::support::agent::Agent;
use crate::support::netns::{self, Lan, names, skip_without_namespaces};
use crate::support::programs::skip_without;
use crate::support::slow_wire::Lateness;
use crate::support::soak::killing;
use crate::support::wait::{LONG, always, eventually, repeatedly};
use crate::support::watch::Watch;

/// A silent member is down within this, with room for starting to look.
const SILENT: Duration = Duration::from_millis(3000);

fn everybody(agents: &[Agent]) -> Vec<String> {
    agents.iter().map(|agent| agent.name().to_owned()).collect()
}

/// One view everywhere, nobody lost, and every process still the one that was started.
#[track_caller]
fn assert_whole(agents: &mut [Agent]) {
    let all = everybody(agents);
    for agent in agents.iter() {
        agent.wait_nodes(LONG, &all, &[]);
        agent.wait_for("views that agree", LONG, |view| view["views_agree"] == json!(true));
    }
    for agent in agents {
        assert!(agent.is_running());
    }
}

#[track_caller]
fn assert_sides(agents: &[Agent], sides: &[&[u16]], within: Duration) {
    let all = everybody(agents);
    for side in sides {
        let running = names(side);
        let stopped: Vec<_> = all.iter().filter(|name| !running.contains(name)).cloned().collect();
        for &k in *side {
            agents[usize::from(k) - 1].wait_nodes(within, &running, &stopped);
        }
    }
}

#[test]
fn a_cut_off_member_is_down_in_time_and_returns() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(5);
    let mut agents = lan.agents();
    assert_whole(&mut agents);
    lan.cut(&[3], &[1, 2, 4, 5]);
    let all = everybody(&agents);
    let running = names(&[1, 2, 4, 5]);
    for k in [0, 1, 3, 4] {
        agents[k].wait_nodes(SILENT, &running, &all[2..3]);
        assert_eq!(agents[k].get("/api/v1/cluster")["majority"], true);
    }
    agents[2].wait_for("itself in the minority", LONG, |view| view["majority"] == json!(false));
    lan.heal();
    assert_whole(&mut agents);
}

#[test]
fn two_three_and_four_ways_cuts_heal_without_a_restart() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(7);
    let mut agents = lan.agents();
    assert_whole(&mut agents);
    let cuts: [&[&[u16]]; 3] = [
        &[&[1, 2, 3, 4], &[5, 6, 7]],
        &[&[1, 2, 3], &[4, 5], &[6, 7]],
        &[&[1, 7], &[2, 6], &[3, 5], &[4]],
    ];
    for sides in cuts {
        for (index, side) in sides.iter().enumerate() {
            for other in &sides[index + 1..] {
                lan.cut(side, other);
            }
        }
        assert_sides(&agents, sides, LONG);
        lan.heal();
        assert_whole(&mut agents);
    }
}

#[test]
fn two_nodes_that_were_cut_heal() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(2);
    let mut agents = lan.agents();
    assert_whole(&mut agents);
    lan.cut(&[1], &[2]);
    assert_sides(&agents, &[&[1], &[2]], SILENT);
    lan.heal();
    assert_whole(&mut agents);
}

#[test]
fn with_autoheal_off_the_sides_wait_for_a_join() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(3);
    let mut agents: Vec<Agent> =
        (1..=3).map(|k| lan.agent(k).line("cluster.autoheal = false").start()).collect();
    assert_whole(&mut agents);
    lan.cut(&[1, 2], &[3]);
    assert_sides(&agents, &[&[1, 2], &[3]], LONG);
    lan.heal();
    agents[2].wait_log("cluster.autoheal is false");
    assert_sides(&agents, &[&[1, 2], &[3]], Duration::ZERO.max(LONG));
    let answer = agents[2].post("/api/v1/cluster/join", &json!({ "node": netns::name(1) }));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_whole(&mut agents);
}

#[test]
fn a_member_that_some_cannot_hear_is_vouched_for_by_the_others() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(5);
    let mut agents = lan.agents();
    assert_whole(&mut agents);
    // Host 1 no longer hears host 2, which still hears host 1: a half cut.
    lan.deafen(1, 2);
    let all = everybody(&agents);
    always("nobody is down", Duration::from_secs(6), || {
        agents.iter().all(|agent| {
            let view = agent.get("/api/v1/cluster");
            crate::support::agent::names(&view["running_nodes"]) == all
        })
    });
    lan.heal();
    assert_whole(&mut agents);
}

#[test]
fn loss_in_one_direction_and_in_all_costs_nobody_its_membership() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(3);
    let mut agents = lan.agents();
    assert_whole(&mut agents);
    lan.lose(1, 2, 60);
    always("all are listed", Duration::from_secs(4), || listed(&agents) == [3, 3, 3]);
    lan.heal();
    assert_whole(&mut agents);
    for to in 1..=3 {
        for from in (1..=3).filter(|from| *from != to) {
            lan.lose(to, from, 30);
        }
    }
    always("all are listed", Duration::from_secs(6), || listed(&agents) == [3, 3, 3]);
    lan.heal();
    assert_whole(&mut agents);
}

/// Round trips of 500 to 700 ms. Whoever is silent is asked with that much more patience:
/// a probe, helpers' probes and an objection each take a round trip longer.
const SILENT_FAR_AWAY: Duration = Duration::from_millis(10_000);

#[test]
fn far_from_each_other_they_are_one_cluster_and_accuse_nobody_wrongly() {
    if skip_without_namespaces() {
        return;
    }
    let ms = Duration::from_millis;
    let lan = Lan::slow(5, Lateness { delay: ms(300), jitter: ms(50) });
    let mut agents = lan.agents();
    let mut watch = Watch::of(&agents);
    assert_whole(&mut agents);
    let delivered = lan.switch().delivered();
    always("nobody is suspect or down", ms(4000), || watch.bad_news().is_empty());
    assert!(lan.switch().delivered() > delivered + 100);
    for agent in &agents[1..] {
        let rtt = agent.get(&format!("/api/v1/members/{}", agents[0].name()))["rtt_ms"].clone();
        // The first connection had to wait for the other host's hardware address, too.
        assert!((450.0..=1000.0).contains(&rtt.as_f64().unwrap()), "{rtt}");
    }
    let all = everybody(&agents);
    let others = [0, 2, 4].map(|k| all[k].clone());
    agents[1].kill9();
    agents[3].stop();
    let killed = watch.wait_down(&all[1], &others, SILENT);
    let frozen = killed + watch.wait_down(&all[3], &others, SILENT_FAR_AWAY - killed);
    println!("killed: down after {killed:?}; frozen: after {frozen:?}");
    agents[1].start_again();
    agents[1].wait_api();
    agents[3].cont();
    assert_whole(&mut agents);
}

fn listed(agents: &[Agent]) -> Vec<usize> {
    agents
        .iter()
        .map(|agent| agent.get("/api/v1/members")["members"].as_array().unwrap().len())
        .collect()
}

#[test]
fn a_flapping_wire_leaves_one_view() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(5);
    let mut agents = lan.agents();
    assert_whole(&mut agents);
    let all = everybody(&agents);
    for _ in 0..4 {
        lan.cut(&[1], &[2, 3, 4, 5]);
        agents[1].wait_nodes(LONG, &all[1..], &all[..1]);
        lan.heal();
        agents[1].wait_for("the member again", LONG, |view| {
            view["running_nodes"].as_array().is_some_and(|nodes| nodes.len() == 5)
        });
    }
    assert_whole(&mut agents);
}

#[test]
fn frozen_in_a_minority_comes_back_whole() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(3);
    let mut agents = lan.agents();
    assert_whole(&mut agents);
    agents[0].stop();
    agents[1].wait_nodes(SILENT, &names(&[2, 3]), &names(&[1]));
    lan.cut(&[2], &[3]);
    assert_sides(&agents, &[&[2], &[3]], LONG);
    agents[0].cont();
    lan.heal();
    assert_whole(&mut agents);
}

#[test]
fn killed_again_and_again_it_is_always_the_same_member() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(3);
    let mut agents = lan.agents();
    assert_whole(&mut agents);
    let incarnation = |agents: &[Agent], k: usize| {
        let shown = agents[0].get(&format!("/api/v1/members/{}", agents[k].name()));
        shown["incarnation"].as_u64().unwrap()
    };
    let before: Vec<_> = (0..3).map(|k| incarnation(&agents, k)).collect();
    let kills = repeatedly(killing(), |round| {
        // Not one after another only: also those who have just come back.
        let victim = [0, 1, 1, 2, 0, 2][round % 6];
        agents[victim].kill9();
        agents[victim].start_again();
        agents[victim].wait_api();
        if round % 20 == 19 {
            assert_whole(&mut agents);
        }
    });
    assert!(kills >= 6);
    assert_whole(&mut agents);
    let risen: Vec<_> = (0..3).map(|k| incarnation(&agents, k) - before[k]).collect();
    println!("{kills} kills; incarnations rose by {risen:?}");
    assert!(risen.iter().all(|rise| *rise > 0), "{risen:?}");
    assert_eq!(listed(&agents), [3, 3, 3]);
}

#[test]
fn the_side_with_most_cores_cleans_up_and_the_larger_side_without_does_not() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(5);
    let role = |k| if k <= 3 { "core" } else { "replicant" };
    let spec =
        |k| lan.agent(k).line("cluster.autoclean = 2s").line(&format!("node.role = {}", role(k)));
    let mut agents: Vec<Agent> = (1..=5).map(|k| spec(k).spawn()).collect();
    agents.iter_mut().for_each(Agent::wait_api);
    assert_whole(&mut agents);
    // Two of three cores on one side, three of five members on the other.
    lan.cut(&[1, 2], &[3, 4, 5]);
    assert_sides(&agents, &[&[1, 2], &[3, 4, 5]], SILENT);
    for (k, majority) in [true, true, false, false, false].into_iter().enumerate() {
        assert_eq!(agents[k].get("/api/v1/cluster")["majority"], majority, "{k}");
    }
    for agent in &agents[..2] {
        agent.wait_nodes(LONG, &names(&[1, 2]), &[]);
    }
    // The others have waited as long as these by now, and go on waiting.
    always("nobody is removed", Duration::from_secs(2), || listed(&agents[2..]) == [5, 5, 5]);
    lan.heal();
    assert_whole(&mut agents);
}

#[test]
fn wall_clocks_that_are_wrong_or_jump_decide_nothing() {
    if skip_without_namespaces() || skip_without(&["faketime"]) {
        return;
    }
    let lan = Lan::new(4);
    let clock = lan.agent(1).home().with_extension("clock");
    let faked = |k: u16, offset: Option<&str>| {
        let library = faketime_library();
        let spec = lan
            .agent(k)
            .env("LD_PRELOAD", &library)
            .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
            .env("DONT_FAKE_MONOTONIC", "1")
            .env("FAKETIME_NO_CACHE", "1");
        match offset {
            Some(offset) => spec.env("FAKETIME", offset),
            None => spec.env("FAKETIME_TIMESTAMP_FILE", &clock.display().to_string()),
        }
    };
    std::fs::write(&clock, "+0").unwrap();
    let mut agents = vec![
        faked(1, None).spawn(),
        faked(2, Some("-3600s")).spawn(),
        faked(3, Some("+3600s")).spawn(),
        lan.agent(4).spawn(),
    ];
    for agent in &mut agents {
        agent.wait_api();
    }
    assert_whole(&mut agents);
    let all = everybody(&agents);
    for jump in ["+7200s", "-7200s", "+0"] {
        std::fs::write(&clock, jump).unwrap();
        always("nobody is down", Duration::from_secs(2), || {
            agents.iter().all(|agent| {
                let view = agent.get("/api/v1/cluster");
                crate::support::agent::names(&view["running_nodes"]) == all
            })
        });
    }
    agents[1].kill9();
    agents[1].start_again();
    agents[1].wait_api();
    assert_whole(&mut agents);
}

fn faketime_library() -> String {
    let found = std::fs::read_dir("/usr/lib")
        .unwrap()
        .flatten()
        .map(|entry| entry.path().join("faketime/libfaketimeMT.so.1"))
        .find(|path| path.is_file());
    found.expect("libfaketime is installed").display().to_string()
}

#[test]
fn a_full_disk_stops_nobody_and_is_said_until_there_is_room() {
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(3);
    let home = lan.agent(1).home().to_owned();
    let data = home.join("data");
    std::fs::create_dir_all(&data).unwrap();
    let _disk = SmallDisk::mount(&data);
    let mut agents = lan.agents();
    assert_whole(&mut agents);
    let filler = data.join("filler");
    // Written in small pieces, so that not a byte stays free.
    let mut full = false;
    let mut file = std::fs::File::create(&filler).unwrap();
    while !full {
        full = std::io::Write::write_all(&mut file, &[0; 512]).is_err();
    }
    agents[2].kill9();
    agents[2].start_again();
    agents[0].wait_log("the state is not saved");
    assert_whole(&mut agents);
    // What changes nothing needs no disk, unless what it relies on does.
    for (enabled, status) in [(true, 200), (false, 500), (false, 500)] {
        let body = json!({"enabled": enabled});
        let answer = agents[0].put("/api/v1/cluster/discovery", &body);
        assert_eq!(answer.status, status, "{enabled}: {}", answer.body);
    }
    let leave = agents[0].post("/api/v1/cluster/leave", &json!({}));
    assert_eq!(leave.status, 500, "{}", leave.body);
    drop(file);
    std::fs::remove_file(&filler).unwrap();
    agents[0].wait_log("over: the state is not saved");
    let state = eventually("the state file", LONG, || {
        let text = std::fs::read_to_string(data.join("muster/state.json")).ok()?;
        serde_json::from_str::<serde_json::Value>(&text).ok()
    });
    assert_eq!(state["left"], true);
}

/// A tmpfs of 64 KiB.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(at: &std::path::Path) -> Self {
        let status = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=64k", "tmpfs"])
            .arg(at)
            .status()
            .unwrap();
        assert!(status.success());
        Self(at.to_owned())
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the agent, dropped later, still has its files there.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
