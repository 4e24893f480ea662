//! A large cluster in which at any time some agents are killed, stopped, frozen or replaced
//! under new names, and one member is hostile: it has the cookie, and sends whatever the wire
//! can carry as fast as it is read.
//!
//! `SOAK_AGENTS=100 SOAK_TURMOIL=600 cargo test --release --test load turmoil -- --nocapture`
//! is ten minutes of it with a hundred agents.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use muster::node::{BootId, ClusterId, Incarnation, NodeName, Role};
use muster::protocol::membership::{
    Ask, BUCKETS, ByeCode, Epoch, Health, Message, Reason, Record, Standing,
};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::support::adversary::{ATTACKER, Door, resident};
use crate::support::agent::{Agent, Spec};
use crate::support::cluster::Cluster;
use crate::support::liar::Liar;
use crate::support::soak::{agents, pace, turmoil, victims};
use crate::support::wait::{LONG, eventually, paced, timed};
use crate::support::watch::{Said, Watch};

const HOSTILE: &str = "hostile@127.0.0.66";

/// Between two commands, and two moments at which something may happen.
const TICK: Duration = Duration::from_millis(200);

/// Each trouble lasts so many ticks.
const LASTS: std::ops::Range<u32> = 3..25;

/// A large cluster stands for so long before it is attacked: who joined less than ten seconds
/// ago hears whatever anybody tells, and many of those at once keep two processors busy with
/// it. The small one is attacked at once.
const STANDS: Duration = Duration::from_secs(15);

/// Names that the hostile member makes up.
const GHOSTS: usize = 500;

/// One view again, when nothing happens any more.
const CALM: Duration = Duration::from_secs(60);

/// What a hostile member sends. It removes no real member, as with the cookie it could.
struct Lies {
    rng: StdRng,
    members: Vec<NodeName>,
}

impl Lies {
    fn next(&mut self) -> Vec<u8> {
        let seq = self.rng.random_range(0..200);
        let id = self.rng.random_bool(0.5).then(|| ClusterId(self.rng.random()));
        let view = self.rng.random();
        let message = match self.rng.random_range(0..12) {
            0..4 => Message::Gossip { id: None, news: self.records() },
            4 => Message::Ping { seq, view, wanted: true, id: None, news: self.records() },
            5 => Message::Ack { seq, view, wanted: false, news: self.records() },
            6 => {
                let want = (0..self.rng.random_range(0..8)).map(|_| self.rng.random()).collect();
                let ask = *[None, Some(Ask::Whole), Some(Ask::Parts), Some(Ask::More)]
                    .choose(&mut self.rng)
                    .unwrap();
                Message::Sync { records: self.records(), want, ask }
            }
            7 => Message::Digest { buckets: vec![self.rng.random(); BUCKETS] },
            8 => Message::PingReq { seq, target: self.somebody() },
            9 => Message::View { view, id },
            10 if self.rng.random_bool(0.01) => {
                Message::Bye { code: Some(ByeCode::Idle), text: "as it pleases".to_owned() }
            }
            _ => {
                let mut bytes = Message::Gossip { id: None, news: self.records() }.encode();
                let at = self.rng.random_range(0..bytes.len());
                bytes[at] = self.rng.random();
                bytes.truncate(self.rng.random_range(1..=bytes.len()));
                return bytes;
            }
        };
        message.encode()
    }

    fn somebody(&mut self) -> NodeName {
        if self.rng.random_bool(0.5) {
            return self.members.choose(&mut self.rng).unwrap().clone();
        }
        NodeName::parse(&format!("ghost{}@10.9.9.9", self.rng.random_range(0..GHOSTS))).unwrap()
    }

    fn records(&mut self) -> Vec<Record> {
        (0..self.rng.random_range(1..20)).map(|_| self.record()).collect()
    }

    fn record(&mut self) -> Record {
        let node = self.somebody();
        let mut standings = vec![
            Standing::Member(Health::Up),
            Standing::Member(Health::Suspect),
            Standing::Member(Health::Down),
            Standing::Member(Health::Unknown),
        ];
        if !self.members.contains(&node) {
            standings.extend([Standing::Left, Standing::ForceLeft, Standing::Autocleaned]);
        }
        let hostile = NodeName::parse(HOSTILE).unwrap();
        let by = if self.rng.random_bool(0.5) { node.clone() } else { hostile };
        Record {
            node,
            epoch: Epoch(*[0, 0, 0, 1, 1 << 40, u64::MAX].choose(&mut self.rng).unwrap()),
            standing: *standings.choose(&mut self.rng).unwrap(),
            incarnation: Incarnation(
                *[0, 1, 2, 3, 4, 1 << 39, u64::MAX].choose(&mut self.rng).unwrap(),
            ),
            boot: BootId(self.rng.random()),
            role: Role::Core,
            reason: Reason::ALL.choose(&mut self.rng).copied(),
            by,
            version: "0".to_owned(),
            attributes: None,
            burial: 0,
        }
    }
}

/// The hostile member: a link to each of some agents, made again whenever it is ended.
struct Hostile {
    runtime: Runtime,
    stop: Arc<AtomicBool>,
    said: Arc<AtomicUsize>,
    links: Vec<JoinHandle<()>>,
}

impl Hostile {
    fn start(doors: Vec<Door>, members: &[NodeName]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (stop, said) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let links = doors
            .into_iter()
            .zip(0..)
            .map(|(door, seed)| {
                let (stop, said) = (Arc::clone(&stop), Arc::clone(&said));
                let rng = StdRng::seed_from_u64(seed);
                let mut lies = Lies { rng, members: members.to_vec() };
                runtime.spawn(async move {
                    while !stop.load(Ordering::Relaxed) {
                        let link = Liar::enter(&door, ATTACKER, HOSTILE, "tests").await;
                        let Ok(mut link) = link else { continue };
                        while !stop.load(Ordering::Relaxed)
                            && link.say_bytes(&lies.next()).await.is_ok()
                        {
                            said.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        Self { runtime, stop, said, links }
    }

    /// Ends it; how many frames it sent.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        for link in self.links {
            // It may be waiting for its victim to read.
            link.abort();
            assert!(self.runtime.block_on(link).err().is_none_or(|error| error.is_cancelled()));
        }
        self.said.load(Ordering::Relaxed)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Killed,
    Stopped,
    Frozen,
}

/// The agents that have no peace, behind those that nothing happens to.
struct Turmoil {
    cluster: Cluster,
    /// Something happens after so many ticks, and is over after a multiple of it.
    pace: u32,
    ticks: u32,
    /// So many from the first on are left alone.
    healthy: usize,
    /// Who is in trouble, and for how many ticks.
    troubled: Vec<(usize, Trouble, u32)>,
    /// How often each was replaced.
    generations: Vec<u8>,
    rng: StdRng,
    happened: [usize; 4],
}

impl Turmoil {
    fn tick(&mut self) {
        for (_, _, left) in &mut self.troubled {
            *left = left.saturating_sub(1);
        }
        while let Some(at) = self.troubled.iter().position(|(.., left)| *left == 0) {
            let (index, trouble, _) = self.troubled.swap_remove(at);
            self.cure(index, trouble);
        }
        self.ticks += 1;
        if !self.ticks.is_multiple_of(self.pace) || self.troubled.len() * 10 > self.cluster.len() {
            return;
        }
        let index = self.rng.random_range(self.healthy..self.cluster.len());
        if self.troubled.iter().any(|(troubled, ..)| *troubled == index) {
            return;
        }
        let kind = self.rng.random_range(0..4);
        self.happened[kind] += 1;
        let trouble = match kind {
            0 => {
                self.cluster[index].kill9();
                Trouble::Killed
            }
            1 => {
                // Before it says that it is there a signal just ends it.
                self.cluster[index].wait_api();
                self.cluster[index].term();
                assert!(self.cluster[index].wait_exit().success());
                Trouble::Stopped
            }
            2 => {
                self.cluster[index].stop();
                Trouble::Frozen
            }
            _ => return self.replace(index),
        };
        self.troubled.push((index, trouble, self.rng.random_range(LASTS) * self.pace));
    }

    fn cure(&mut self, index: usize, trouble: Trouble) {
        match trouble {
            Trouble::Killed | Trouble::Stopped => self.cluster[index].start_again(),
            Trouble::Frozen => self.cluster[index].cont(),
        }
    }

    /// Its machine is gone: an operator removes it, and another comes under another name.
    fn replace(&mut self, index: usize) {
        self.cluster[index].kill9();
        let removed = self.cluster[index].name().to_owned();
        let path = format!("/api/v1/members/{removed}?force=true");
        let status = self.cluster[0].delete(&path).status;
        // It may have been so new that it is not known yet.
        assert!(status == 204 || status == 404, "{status}");
        self.generations[index] += 1;
        let k = self.cluster[index].k();
        let host = Ipv4Addr::new(127, 0, 0, 1 + self.generations[index]);
        let name = format!("emqx{k}@{host}");
        let home = self.cluster[index].home().join(format!("data{}", self.generations[index]));
        let seeds = self.cluster.names()[..3].to_vec();
        let spec = Spec::named(self.cluster.ground(), k, &name)
            .seeds(&seeds)
            .line("agent.log.level = warning")
            .line(&format!("agent.mesh.bind = [\"{host}\"]"))
            .line(&format!("node.data_dir = {:?}", home.display().to_string()));
        self.cluster[index] = spec.spawn();
    }

    /// The others are left alone from now on.
    fn calm(&mut self) {
        for (index, trouble, _) in std::mem::take(&mut self.troubled) {
            self.cure(index, trouble);
        }
    }
}

/// Whether a healthy member was said to be down, or gone: on an honest member's word, or as
/// the hostile one has it, which beyond a full mesh is believed until its victim answers. It
/// speaks in its own name and in that of whom it speaks of.
fn is_false(said: &Said, healthy: &[String]) -> bool {
    healthy.contains(&said.node) && (said.to == "down" || said.to == "gone")
}

/// How long a command takes that changes nothing.
fn command(agent: &Agent) -> Duration {
    let body = json!({"enabled": true});
    let (answer, took) = timed(|| agent.put("/api/v1/cluster/discovery", &body));
    assert_eq!(answer.status, 200, "{}", answer.body);
    took
}

/// What 99 of a hundred do not exceed.
fn late(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

fn memory(agents: &[Agent]) -> Vec<usize> {
    agents.iter().map(resident).collect()
}

#[test]
fn a_cluster_in_turmoil_with_a_hostile_member_stays_true() {
    let n = agents();
    let cluster = Cluster::start_with(n, |spec| spec.line("agent.log.level = warning"));
    let healthy = usize::from(n) * 3 / 10;
    let names: Vec<String> =
        cluster[..healthy].iter().map(|agent| agent.name().to_owned()).collect();
    let members: Vec<NodeName> =
        cluster.names().iter().map(|name| NodeName::parse(name).unwrap()).collect();
    let doors = cluster[..healthy.min(victims())].iter().map(|victim| Door {
        address: (Ipv4Addr::LOCALHOST, cluster.ground().ports.mesh(victim.k())).into(),
        victim: NodeName::parse(victim.name()).unwrap(),
        tls: None,
    });
    let doors = doors.collect();
    if n > 64 {
        paced(STANDS, TICK, || assert!(command(&cluster[0]) < LONG));
    }
    let mut watch = Watch::of(&cluster[..healthy]);
    watch.forget();
    let mut usual: Vec<Duration> = (0..30).map(|at| command(&cluster[at % healthy])).collect();
    let hostile = Hostile::start(doors, &members);
    let mut storm = Turmoil {
        pace: pace(),
        ticks: 0,
        generations: vec![0; cluster.len()],
        cluster,
        healthy,
        troubled: Vec::new(),
        rng: StdRng::seed_from_u64(7),
        happened: [0; 4],
    };
    let mut commands = Vec::new();
    let mut resident = Vec::new();
    for _half in 0..2 {
        paced(turmoil() / 2, TICK, || {
            storm.tick();
            commands.push(command(&storm.cluster[commands.len() % healthy]));
        });
        resident.push(memory(&storm.cluster[..healthy]));
    }
    let said = hostile.end();
    storm.calm();
    let Turmoil { mut cluster, happened, .. } = storm;
    let (p99, usual) = (late(&mut commands), late(&mut usual));
    let (lied, wrong): (Vec<_>, Vec<_>) = watch
        .bad_news()
        .into_iter()
        .filter(|said| is_false(said, &names))
        .partition(|said| said.word_of == HOSTILE || said.word_of == said.node);
    let grown = resident[0].iter().zip(&resident[1]).map(|(a, b)| b.saturating_sub(*a)).max();
    let median = commands[commands.len() / 2];
    println!(
        "{n} agents, {:?}: killed, stopped, frozen, replaced {happened:?}; {said} hostile frames; \
         {} commands, median {median:?}, p99 {p99:?}, before {usual:?}; false downs of the healthy: {}, \
         on the word of the hostile {}; memory {} to {} kB, at most {} kB more than at half-time",
        turmoil(),
        commands.len(),
        wrong.len(),
        lied.len(),
        resident[1].iter().min().unwrap() / 1024,
        resident[1].iter().max().unwrap() / 1024,
        grown.unwrap() / 1024,
    );
    assert!(wrong.is_empty(), "{wrong:?}");
    for agent in cluster.iter_mut() {
        agent.wait_api();
    }
    eventually("the hostile member to be removed", LONG, || {
        let path = format!("/api/v1/members/{HOSTILE}?force=true");
        let status = cluster[0].delete(&path).status;
        (status == 204 || status == 404).then_some(())
    });
    let path = format!("/api/v1/members?brought_by={HOSTILE}");
    assert_eq!(cluster[0].delete(&path).status, 204);
    let all = cluster.names();
    let ((), took) = timed(|| {
        for agent in cluster.iter() {
            agent.wait_nodes(CALM, &all, &[]);
            agent.wait_for("that all agree", CALM, |view| view["views_agree"] == true);
        }
    });
    eventually("one view of members and tombstones", CALM, || {
        let hash = |agent: &Agent| agent.get("/api/v1/cluster")["view_hash"].to_string();
        let hashes: BTreeSet<String> = cluster.iter().map(hash).collect();
        (hashes.len() == 1).then_some(())
    });
    println!("one view {took:?} later");
    let bound = Duration::from_millis(50).max(usual * 4);
    assert!(median <= bound, "{median:?}, before {usual:?}");
    // Of a few dozen commands the slowest says more of the machine than of the agents.
    assert!(commands.len() < 1000 || p99 <= Duration::from_millis(50), "{p99:?}");
    assert!(grown.is_none_or(|bytes| bytes <= 1 << 20), "{resident:?}");
}
