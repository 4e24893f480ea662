//! One peer's trouble is its own: what floods, lies or knocks costs nobody else anything.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use muster::node::NodeName;
use muster::protocol::membership::{BUCKETS, Message};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::support::adversary::{ATTACKER, Door, Friend, resident};
use crate::support::agent::{Ground, Spec, names};
use crate::support::cluster::Cluster;
use crate::support::flood::Flood;
use crate::support::liar::{Liar, made_up};
use crate::support::wait::{LONG, always, eventually, repeatedly, timed};

const LOUD: &str = "loud@127.0.0.66";

fn door(cluster: &Cluster, victim: u16) -> Door {
    Door {
        address: (Ipv4Addr::LOCALHOST, cluster.ground().ports.mesh(victim)).into(),
        victim: NodeName::parse(cluster[usize::from(victim) - 1].name()).unwrap(),
        tls: None,
    }
}

/// Frames of one member, as fast as the victim reads them.
struct Noise {
    stop: Arc<AtomicBool>,
    said: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Noise {
    fn start(runtime: &Runtime, mut liar: Liar, message: Message) -> Self {
        let (stop, said) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let task = {
            let (stop, said) = (Arc::clone(&stop), Arc::clone(&said));
            runtime.spawn(async move {
                while !stop.load(Ordering::Relaxed) && liar.say(&message).await.is_ok() {
                    said.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        Self { stop, said, task }
    }

    fn end(self, runtime: &Runtime) {
        self.stop.store(true, Ordering::Relaxed);
        // It may be waiting for the victim to read.
        self.task.abort();
        assert!(runtime.block_on(self.task).err().is_none_or(|error| error.is_cancelled()));
    }
}

/// The slowest of a hundred commands but one.
fn commands(cluster: &Cluster) -> Duration {
    let mut times = Vec::new();
    repeatedly(Duration::from_secs(2), |_| {
        let (answer, took) =
            timed(|| cluster[0].put("/api/v1/cluster/discovery", &json!({"enabled": true})));
        assert_eq!(answer.status, 200);
        times.push(took);
    });
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[test]
fn a_member_that_floods_delays_nobody_else() {
    let runtime = Runtime::new().unwrap();
    let mut cluster = Cluster::start(4);
    let door = door(&cluster, 1);
    let usual = commands(&cluster);
    // The more there is to know, the more each question costs.
    let mut liar = runtime.block_on(Liar::enter(&door, ATTACKER, LOUD, "tests")).unwrap();
    for part in 0..4 {
        let records = (0..500).map(|number| made_up(part * 500 + number, LOUD)).collect();
        runtime.block_on(liar.say(&Message::Gossip { id: None, news: records })).unwrap();
    }
    eventually("the liar to be a member", LONG, || cluster[0].status_of(LOUD));
    let healthy: Vec<String> = cluster.names();
    let before: Vec<_> = healthy.iter().map(|node| cluster[0].history_of(node)).collect();
    let noise = Noise::start(&runtime, liar, Message::Digest { buckets: vec![1; BUCKETS] });
    eventually("the flood to be held back", LONG, || {
        let held = cluster[0].metric("muster_limit_reached_total{limit=\"link_rate\"}");
        (held > 0).then_some(())
    });

    let p99 = commands(&cluster);
    println!("commands, p99: {p99:?} under the flood, {usual:?} without");
    assert!(p99 <= Duration::from_millis(50).max(usual * 4), "{p99:?}");
    let mut friend = Friend::of(&door);
    let pings = (0..100).map(|_| runtime.block_on(friend.round_trip())).max().unwrap();
    println!("the slowest of a hundred pings: {pings:?}");
    assert!(pings <= Duration::from_millis(200), "{pings:?}");
    let after: Vec<_> = healthy.iter().map(|node| cluster[0].history_of(node)).collect();
    assert_eq!(before, after, "somebody was said to be down");
    let crashed = healthy[3].clone();
    cluster[3].kill9();
    let ((), took) = timed(|| {
        eventually("the crash to be seen", LONG, || {
            (cluster[0].status_of(&crashed).as_deref() == Some("down")).then_some(())
        });
    });
    println!("a crash was seen after {took:?}");
    assert!(took <= Duration::from_millis(300), "{took:?}");
    assert!(cluster[0].logs().contains("limit: the peer sends faster than it may"));
    let said = noise.said.load(Ordering::Relaxed);
    assert!(said > 1_000, "{said} frames are no flood");
    noise.end(&runtime);
}

#[test]
fn half_open_strangers_keep_no_member_out() {
    let mut cluster = Cluster::start(3);
    let all = cluster.names();
    let targets: Vec<_> =
        (1..=3).map(|k| (Ipv4Addr::LOCALHOST, cluster.ground().ports.mesh(k)).into()).collect();
    let before = [0, 2].map(|at| [0, 2].map(|of| cluster[at].history_of(&all[of])));
    let flood = Flood::start(targets, 250);
    for round in 0..3 {
        cluster[1].kill9();
        let others = [all[0].clone(), all[2].clone()];
        cluster.wait_nodes_but(&[1], LONG, &others, &all[1..2]);
        let ((), took) = timed(|| {
            cluster[1].start_again();
            cluster[1].wait_api();
            cluster.wait_nodes_but(&[], LONG, &all, &[]);
        });
        println!("restart {round}: back after {took:?}, {} connections so far", flood.made());
        assert!(took <= Duration::from_secs(2), "{took:?}");
    }
    drop(flood);
    let refused = "muster_connections_refused_total{cause=\"total_limit\"}";
    assert!(cluster[0].metric(refused) > 1_000, "{}", cluster[0].metric(refused));
    assert_eq!([0, 2].map(|at| [0, 2].map(|of| cluster[at].history_of(&all[of]))), before);
}

#[test]
fn a_rival_s_address_is_not_shown_for_the_member() {
    let runtime = Runtime::new().unwrap();
    let cluster = Cluster::start(2);
    let held = cluster[1].name();
    let address = || cluster[0].get(&format!("/api/v1/members/{held}"))["address"].clone();
    let before = address();
    let door = door(&cluster, 1);
    let rival = runtime.block_on(Liar::enter(&door, ATTACKER, held, "tests")).unwrap();
    let told = runtime.spawn(rival.ended());
    always("the live one's address", Duration::from_millis(500), || address() == before);
    assert!(runtime.block_on(told).unwrap() > 0, "it is told why");
    let line = cluster[0].wait_log("is held by another live process");
    assert!(line.contains("WARN") && line.contains(&ATTACKER.to_string()), "{line}");
    assert!(line.contains(before.as_str().unwrap()), "{line}");
    assert_eq!(address(), before);
    assert_eq!(cluster[0].status_of(held).as_deref(), Some("up"));
}

#[test]
fn foreign_names_leave_neither_lines_nor_memory() {
    const NAMES: usize = 1_500;
    let runtime = Runtime::new().unwrap();
    let cluster = Cluster::start(2);
    let door = door(&cluster, 1);
    let come_and_go = |from: usize, names: usize| {
        runtime.block_on(async {
            for number in from..from + names {
                let name = format!("foreign{number}@127.0.0.66");
                let link = Liar::enter(&door, ATTACKER, &name, "another").await.unwrap();
                link.ended().await;
            }
        });
    };
    // What is paid once is no part of what each name leaves.
    come_and_go(0, 200);
    let (memory, logged) = (resident(&cluster[0]), cluster[0].logs().len());
    let ((), took) = timed(|| come_and_go(200, NAMES));
    let refused = "muster_links_refused_total{cause=\"cluster_name\"}";
    assert!(cluster[0].metric(refused) >= NAMES as u64);
    let left = resident(&cluster[0]).saturating_sub(memory);
    println!("{NAMES} names in {took:?} left {left} bytes");
    assert!(left < 256 * 1024, "{left}");
    let warnings = || {
        let logs = cluster[0].logs();
        logs[logged..].lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
    };
    let (lines, seconds): (Vec<String>, _) = (warnings(), took.as_secs() as usize + 2);
    assert!(lines.len() <= seconds, "{} lines in {took:?}", lines.len());
    // The next line is due a second after the last, and says how many it stands for.
    let mut next = 200 + NAMES..;
    eventually("a line that counts the others", LONG, || {
        come_and_go(next.next()?, 1);
        warnings().into_iter().find(|line| line.contains("more like it"))
    });
}

#[test]
fn a_node_that_meets_itself_under_another_address_knows_it() {
    let ground = Ground::new(1);
    let (own, alias) = ("emqx1@127.0.0.2", "emqx1@127.0.0.1");
    let spec = Spec::named(&ground, 1, own).seeds(&[alias, own]);
    let agent = spec.line("agent.mesh.bind = \"0.0.0.0\"").start();
    let line = agent.wait_log("is this node itself, under another of its addresses");
    assert!(line.contains(alias), "{line}");
    agent.wait_nodes(LONG, &[own], &[]);
    assert_eq!(names(&agent.get("/api/v1/cluster")["discovery"]["nodes"]), [alias, own]);
    let dialed = agent.handshakes("out", "itself");
    assert_eq!(dialed, 1);
    always("not dialled again", Duration::from_secs(2), || {
        agent.handshakes("out", "itself") == dialed
    });
    let logs = agent.logs();
    assert!(!logs.contains("another node uses this node's name"), "{logs}");
}
