//! The simulated cluster: real machines, simulated processes, disks, links and time.
//!
//! | file | role |
//! | --- | --- |
//! | `world` | what happens in turn; what machines want, disks, discovery |
//! | `process` | processes and their clocks |
//! | `queue` | events in the order of their time |
//! | `network` | dials, links, frames; cuts and losses |
//! | `chaos` | faults and operators |
//! | `liar`, `stranger` | who says what is not so; who talks and was not admitted |
//! | `calm` | the end of all faults, and whether everybody agrees |
//! | `scene` | what one node's trouble in quiet times comes to, and how soon it is known |
//!
//! A history is a function of its [`Plan`], which is a function of the seed: nothing
//! here iterates over anything unordered, or asks a clock.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster::node::{BootId, ClusterId, Incarnation, LinkId, NodeName, Role};
use muster::protocol::membership::{
    Action, Durable, Effect, Epoch, Health, Reason, Record, RequestId, Standing, Table,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::history::{Fact, History, Pid};
use crate::network::{Conn, Dial, Network};
use crate::plan::{NodePlan, Plan};
use crate::process::{Input, Process};
use crate::queue::Queue;

/// Names from this one on were removed before the history began.
pub const BURIED: usize = 6_000;

/// Inputs waiting for one process at most; beyond, its links are held back.
pub const INBOX: usize = 128;

/// A configured node: what outlives its processes.
#[derive(Debug)]
pub struct Node {
    pub name: NodeName,
    pub cluster: usize,
    /// What is on its disk.
    pub disk: Durable,
    /// The process that its address leads to.
    pub pid: Option<Pid>,
    /// Whether its machine answers for dead processes.
    pub host_up: bool,
    /// Whether the next start finds an empty disk.
    pub wiped: bool,
    /// Whether what an earlier life knew, and answered for, was lost with a disk.
    pub amnesia: bool,
    /// Whether no process is ever to run here again.
    pub is_retired: bool,
    /// Whom its processes removed, by cluster and epoch: a later one may lose that with its disk
    /// and learn it anew, and has removed nobody.
    removed: BTreeSet<(Option<ClusterId>, NodeName, Epoch)>,
}

impl Node {
    fn new(name: NodeName, cluster: usize) -> Self {
        Self {
            name,
            cluster,
            disk: Durable::default(),
            pid: None,
            host_up: true,
            wiped: false,
            amnesia: false,
            is_retired: false,
            removed: BTreeSet::new(),
        }
    }
}

/// What happens at a time.
#[derive(Clone, Debug)]
pub enum Event {
    Start(usize),
    StopNode(usize),
    Wake(Pid),
    Drain(Pid),
    Thaw(Pid),
    Quick(Pid),
    Synced(Pid),
    Discover(Pid),
    Arrive(usize, usize),
    Closed(Pid, LinkId),
    Reset(usize, usize),
    Knock(usize),
    Accept(usize),
    DialTimeout(usize),
    Sweep,
    Chaos,
    Uncut(u64),
    EndLoss,
    FastDisk,
    HonestDiscovery,
    EndRogue(Pid),
    Operator,
    Recruit(usize),
    Cleanup,
    Calm,
}

/// How discovery answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    Honest,
    Failing,
    Stale,
    Nobody,
    Partial,
    Strangers,
}

/// Everything.
pub struct World {
    pub plan: Plan,
    pub rng: SmallRng,
    pub now: Duration,
    pub step: u64,
    pub nodes: Vec<Node>,
    /// Where in [`World::nodes`] a name is.
    places: BTreeMap<NodeName, usize>,
    pub processes: Vec<Process>,
    pub network: Network,
    pub conns: Vec<Conn>,
    pub dials: Vec<Dial>,
    queue: Queue<Event>,
    pub next_id: u64,
    pub history: History,
    /// How often each fault struck, and what came of it.
    pub fired: BTreeMap<String, u64>,
    pub discovery: Discovery,
    pub stale_answer: BTreeMap<String, BTreeSet<NodeName>>,
    pub slow_disk: Option<Duration>,
    pub calm: bool,
    pub agreed_since: Option<Duration>,
    /// Lines of the trace, with their steps; `None`: not wanted.
    pub trace: Option<Vec<(u64, String)>>,
    /// Frames sent and their bytes.
    pub sent: (u64, u64),
    /// Whether the checkers are to be told everything, and disks hold what is written: both
    /// take time and memory in proportion to the records of all processes. What agents
    /// report is noted in any case.
    pub noting: bool,
}

impl World {
    /// The world before its first step.
    pub fn new(plan: Plan, traced: bool) -> Self {
        let nodes: Vec<Node> = plan
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| Node::new(name(index), node.cluster))
            .collect();
        let mut world = Self {
            rng: SmallRng::seed_from_u64(plan.seed),
            now: Duration::ZERO,
            step: 0,
            places: nodes.iter().enumerate().map(|(i, node)| (node.name.clone(), i)).collect(),
            nodes,
            processes: Vec::new(),
            network: Network::default(),
            conns: Vec::new(),
            dials: Vec::new(),
            queue: Queue::default(),
            next_id: 1000,
            history: History {
                faultless: plan.chaos.is_zero() && plan.tombstones == 0,
                ..History::default()
            },
            fired: BTreeMap::new(),
            discovery: Discovery::Honest,
            stale_answer: BTreeMap::new(),
            slow_disk: None,
            calm: false,
            agreed_since: None,
            trace: traced.then(Vec::new),
            sent: (0, 0),
            noting: true,
            plan,
        };
        world.fill_disks();
        for index in 0..world.plan.nodes.len() {
            world.at(world.plan.nodes[index].start, Event::Start(index));
        }
        world.at(Duration::from_secs(1), Event::Sweep);
        world
    }

    /// Tombstones of names that nobody here ever had are on most disks; on the others some
    /// of these names are members still.
    fn fill_disks(&mut self) {
        let tombstones: Vec<Record> = (0..self.plan.tombstones)
            .map(|index| {
                let standings = [Standing::Left, Standing::ForceLeft, Standing::Autocleaned];
                let standing = standings[self.rng.random_range(0..3)];
                let node = name(BURIED + index);
                Record {
                    by: if standing == Standing::Left { node.clone() } else { name(0) },
                    node,
                    epoch: Epoch(self.rng.random_range(0..3)),
                    standing,
                    incarnation: Incarnation(self.rng.random_range(1..9)),
                    boot: BootId(self.rng.random()),
                    role: Role::Core,
                    reason: Some(Reason::Other),
                    version: "0.0.0".to_owned(),
                    attributes: None,
                    burial: index as u64 + 1,
                }
            })
            .collect();
        if tombstones.is_empty() {
            return;
        }
        // A table that is full forgets the oldest: only what stays in it over the history,
        // in which more are buried, is remembered by somebody for sure.
        let room = self.plan.clusters.iter().map(|cluster| cluster.limits.tombstones).min();
        let kept = tombstones.len().saturating_sub(room.unwrap_or_default() / 4);
        for node in 0..self.nodes.len() {
            let share = [0.0, 0.5, 1.0, 1.0][self.rng.random_range(0..4)];
            for (index, tombstone) in tombstones.iter().enumerate() {
                let record = if self.rng.random_bool(share) {
                    tombstone.clone()
                } else if share < 1.0 && self.rng.random_bool(0.01) && index >= kept {
                    let (node, epoch) = (tombstone.node.clone(), tombstone.epoch);
                    self.fact(Fact::Hearsay { node, epoch });
                    let standing = Standing::Member(Health::Down);
                    Record { standing, burial: 0, ..tombstone.clone() }
                } else {
                    continue;
                };
                self.nodes[node].disk.records.push(record);
            }
        }
    }

    /// A further node, under a name that nobody had before.
    pub fn add_node(&mut self, plan: NodePlan) -> usize {
        let node = self.nodes.len();
        self.nodes.push(Node::new(name(node), plan.cluster));
        self.places.insert(name(node), node);
        self.plan.nodes.push(plan);
        node
    }

    /// Queues an event.
    pub fn at(&mut self, at: Duration, event: Event) {
        self.queue.push(at.max(self.now), event);
    }

    /// Queues an event some time from now.
    pub fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Takes the next event; false: nothing is left before `end`.
    pub fn step(&mut self, end: Duration) -> bool {
        let Some((at, event)) = self.queue.pop(end) else { return false };
        self.now = at;
        self.step += 1;
        self.happen(event);
        true
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(node) => self.start(node, false),
            Event::StopNode(node) => self.stop_node(node),
            Event::Wake(pid) => self.wake(pid),
            Event::Drain(pid) => self.drain(pid),
            Event::Thaw(pid) if self.processes[pid].thaws > self.now => {}
            Event::Thaw(pid) => self.thaw(pid),
            Event::Quick(pid) => self.quicken(pid),
            Event::Synced(pid) => self.synced(pid),
            Event::Discover(pid) => self.discover(pid),
            Event::Arrive(conn, flow) => self.arrive(conn, flow),
            Event::Closed(pid, key) => self.tell(pid, Input::LinkDown(key)),
            Event::Reset(conn, end) => self.reset(conn, end),
            Event::Knock(dial) => self.knock(dial),
            Event::Accept(dial) => self.accept(dial),
            Event::DialTimeout(dial) => self.dial_timeout(dial),
            Event::Sweep => self.sweep(),
            Event::Chaos => self.strike(),
            Event::Uncut(number) => self.uncut(number),
            Event::EndLoss => self.network.loss = 0.0,
            Event::FastDisk => self.slow_disk = None,
            Event::HonestDiscovery => self.discovery = Discovery::Honest,
            Event::EndRogue(pid) => self.kill(pid),
            Event::Operator => self.heal_by_hand(),
            Event::Recruit(node) => self.recruit(node),
            Event::Cleanup => self.clean_up_after_the_liar(),
            Event::Calm => self.calm_down(),
        }
    }

    /// The node of this name.
    pub fn place(&self, name: &NodeName) -> Option<usize> {
        self.places.get(name).copied()
    }

    /// Counts what happened, for the assertion that it did.
    pub fn count(&mut self, what: &str) {
        if let Some(count) = self.fired.get_mut(what) {
            *count += 1;
        } else {
            self.fired.insert(what.to_owned(), 1);
        }
    }

    pub fn trace(&mut self, line: impl FnOnce(&Self) -> String) {
        if self.trace.is_some() {
            let line = format!("{:>10.4} {}", self.now.as_secs_f64(), line(self));
            if let Some(trace) = &mut self.trace {
                trace.push((self.step, line));
            }
        }
    }

    pub fn fact(&mut self, fact: Fact) {
        if self.noting {
            self.history.note(self.now, self.step, fact);
        }
    }

    /// Carries out what a machine wants, writes its state, and notes what it says.
    pub fn absorb(&mut self, pid: Pid) {
        let mut effects = Vec::new();
        while let Some(effect) = self.processes[pid].machine.poll_effect() {
            effects.push(effect);
        }
        if self.noting {
            self.observe(pid);
        }
        for effect in effects {
            self.carry_out(pid, effect);
        }
        self.write(pid);
        if self.processes[pid].alive {
            self.schedule(pid);
        }
    }

    fn carry_out(&mut self, pid: Pid, effect: Effect) {
        match effect {
            Effect::Dial(peer) => self.dial(pid, peer),
            Effect::Send(key, frame) => self.send(pid, key, frame),
            Effect::Close(key, _) if self.processes[pid].strange.remove(&key) => {
                self.after(Duration::from_millis(1), Event::Closed(pid, key));
            }
            Effect::Close(key, text) => {
                self.trace(|w| format!("{} closes {key:?}: {text}", w.processes[pid].name));
                self.close(pid, key);
            }
            Effect::Event(news) => {
                self.trace(|w| format!("{} REPORTS {news:?}", w.processes[pid].name));
                self.history.note(self.now, self.step, Fact::News(pid, news));
            }
            Effect::Note(note) => {
                self.trace(|w| format!("{} notes {note:?}", w.processes[pid].name));
            }
            Effect::Reply(request, result) => {
                let version = self.processes[pid].machine.durable_version();
                self.processes[pid].replies.push((version, request, result));
            }
            Effect::Discovery(on) => {
                let process = &mut self.processes[pid];
                let automatic = self.plan.clusters[self.nodes[process.node].cluster].automatic;
                let starts = on && automatic && !process.discovery;
                process.discovery = on && automatic;
                if starts {
                    self.after(Duration::from_millis(1), Event::Discover(pid));
                }
            }
        }
    }

    /// Begins to write what changed, unless a write is under way, and answers what is safe.
    fn write(&mut self, pid: Pid) {
        let noting = self.noting;
        let process = &mut self.processes[pid];
        let version = process.machine.durable_version();
        if !noting {
            process.synced = version;
        } else if process.alive && process.writing.is_none() && version > process.synced {
            process.writing = Some((version, process.machine.durable()));
            let most = self.slow_disk.unwrap_or(self.plan.disk);
            let delay = Duration::from_micros(self.rng.random_range(1..most.as_micros() as u64));
            self.after(delay, Event::Synced(pid));
        }
        self.answer(pid);
    }

    fn answer(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        let synced = process.synced;
        let ready: Vec<_> = process.replies.extract_if(.., |reply| reply.0 <= synced).collect();
        for (_, request, result) in ready {
            self.trace(|w| format!("{} ANSWERS {request:?} {result:?}", w.processes[pid].name));
            self.fact(Fact::Answered(pid, request, result));
        }
    }

    fn synced(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        let node = process.node;
        let Some((version, durable)) = process.writing.take() else { return };
        process.synced = version;
        if self.nodes[node].pid == Some(pid) {
            self.nodes[node].disk = durable;
        }
        self.write(pid);
    }

    /// Notes what changed in what a process says of itself and holds of others.
    fn observe(&mut self, pid: Pid) {
        let now = self.now;
        let automatic = self.plan.clusters[self.nodes[self.processes[pid].node].cluster].automatic;
        let process = &mut self.processes[pid];
        let machine = &process.machine;
        let version = machine.durable_version();
        if version == process.seen_version {
            return;
        }
        process.seen_version = version;
        let mut facts = Vec::new();
        let books = machine.books();
        let lets_go =
            books.iter().any(|(table, held, most)| *table == "tombstones" && held == most);
        for (table, held, bound) in books {
            if held > bound {
                let text = format!("{table}: {held} of {bound}");
                facts.push(Fact::Overfull { pid, text });
            }
        }
        let own = (machine.id(), machine.me().standing, machine.me().epoch);
        let before = process.own.and_then(|(id, ..)| id);
        let moved = !automatic && before.is_some() && before != own.0;
        if process.own != Some(own) {
            process.own = Some(own);
            let (id, standing, epoch) = own;
            facts.push(Fact::Own { pid, id, standing, epoch });
        }
        let majority = majority(process.held.values(), machine.table());
        if moved {
            // Whatever was held of a node in the old cluster says nothing of it in the new.
            let held = std::mem::take(&mut process.held);
            facts.extend(held.into_keys().map(|node| Fact::Dropped(pid, node)));
        }
        let mut gone: BTreeSet<NodeName> = process.held.keys().cloned().collect();
        let mut buried = Vec::new();
        for entry in machine.table().entries() {
            let record = &entry.record;
            gone.remove(&record.node);
            let same = process.held.get(&record.node).is_some_and(|held| held.same_as(record));
            if !same {
                let was_member = process.held.get(&record.node).is_some_and(Record::is_member);
                // A purge says no more than that nobody vouched for a name; if somebody does
                // it is back.
                let is_purge = record.standing == Standing::Autocleaned
                    && record.reason == Some(Reason::ForceLeft);
                if was_member && !record.is_member() && record.by == process.name && !is_purge {
                    buried.push((record.node.clone(), record.epoch, record.standing));
                }
                let held = process.held.insert(record.node.clone(), record.clone());
                // A full table may let go of a tombstone, and learn of its node, in one step.
                if lets_go && held.is_some_and(|held| !held.is_member()) {
                    facts.push(Fact::Dropped(pid, record.node.clone()));
                }
                facts.push(Fact::Held(pid, record.clone()));
            }
        }
        for node in gone {
            process.held.remove(&node);
            facts.push(Fact::Dropped(pid, node));
        }
        for (victim, epoch, standing) in buried {
            let node = self.processes[pid].node;
            if self.nodes[node].removed.insert((own.0, victim.clone(), epoch)) {
                let reachable = self.reachable_for(pid, &victim, now);
                facts.push(Fact::Removed { pid, victim, standing, reachable, majority });
            }
        }
        for fact in facts {
            self.fact(fact);
        }
    }

    /// For how long two processes could have talked, undisturbed.
    fn reachable_for(&self, pid: Pid, other: &NodeName, now: Duration) -> Option<Duration> {
        let other = self.nodes[self.place(other)?].pid?;
        let (a, b) = (&self.processes[pid], &self.processes[other]);
        let (x, y) = (&a.machine, &b.machine);
        let apart = !self.plan.clusters[self.nodes[a.node].cluster].automatic && x.id() != y.id();
        if apart || y.me().standing == Standing::Left {
            return None;
        }
        if a.frozen || b.frozen || a.slow.is_some() || b.slow.is_some() {
            return Some(Duration::ZERO);
        }
        let since = a.disturbed.max(b.disturbed).max(self.network.last_cut(a.place, b.place, now));
        Some(now.saturating_sub(since))
    }

    fn discover(&mut self, pid: Pid) {
        if !self.processes[pid].alive {
            return;
        }
        let jitter = self.rng.random_range(0.7..1.3);
        if self.processes[pid].discovery {
            if let Some(answer) = self.answer_of_discovery(pid) {
                self.tell(pid, Input::Discovered(answer));
            }
            let again = self.plan.discovery.mul_f64(jitter);
            self.after(again, Event::Discover(pid));
        }
    }

    /// What discovery would say if it told the truth.
    pub fn truth(&self, cluster: usize) -> BTreeSet<NodeName> {
        let registry = self.plan.clusters[cluster].registry;
        self.nodes
            .iter()
            .filter(|node| node.cluster == cluster && (!registry || node.pid.is_some()))
            .filter(|node| !node.is_retired)
            .filter(|node| {
                let left = |pid: Pid| self.processes[pid].machine.me().standing == Standing::Left;
                !registry || !node.pid.is_some_and(left)
            })
            .map(|node| node.name.clone())
            .collect()
    }

    fn answer_of_discovery(&mut self, pid: Pid) -> Option<BTreeSet<NodeName>> {
        let cluster = self.nodes[self.processes[pid].node].cluster;
        let truth = self.truth(cluster);
        let kind = self.discovery;
        if kind != Discovery::Honest {
            self.count(&format!("answer: {kind:?}"));
        }
        match kind {
            Discovery::Honest => Some(truth),
            Discovery::Failing => None,
            Discovery::Stale => {
                let key = self.plan.clusters[cluster].name.clone();
                Some(self.stale_answer.get(&key).cloned().unwrap_or(truth))
            }
            Discovery::Nobody => Some(BTreeSet::new()),
            Discovery::Partial => {
                Some(truth.into_iter().filter(|_| self.rng.random_bool(0.5)).collect())
            }
            Discovery::Strangers => {
                let mut answer = truth;
                answer.insert(name(900 + self.rng.random_range(0..3)));
                answer.extend(self.nodes.iter().map(|node| node.name.clone()));
                Some(answer)
            }
        }
    }

    /// An operator asks a process for something.
    pub fn ask(&mut self, pid: Pid, action: Action) {
        self.next_id += 1;
        let request = RequestId(self.next_id);
        self.trace(|w| format!("{} IS ASKED {request:?} {action:?}", w.processes[pid].name));
        self.fact(Fact::Asked(pid, request, action.clone()));
        self.tell(pid, Input::Request(request, action));
    }
}

/// Whether more than half of the cores ran before the table came to be as it is. What was
/// held may be old, and what is there now may have changed since, in the same step.
fn majority<'a>(held: impl Iterator<Item = &'a Record>, table: &Table) -> bool {
    let cores: Vec<bool> = held
        .filter(|record| record.is_member() && record.role == Role::Core)
        .filter(|held| {
            // Who stopped by its own word is on no side, unless it runs again.
            let known = table.member(&held.node);
            !held.has_stopped() || known.is_some_and(|known| !known.has_stopped())
        })
        .map(|held| held.is_running() || table.member(&held.node).is_some_and(Record::is_running))
        .collect();
    cores.iter().filter(|running| **running).count() * 2 > cores.len()
}

/// The name of a node; the order of names is not that of numbers.
pub fn name(index: usize) -> NodeName {
    NodeName::parse(&format!("n{index}@10.0.{}.{}", index / 250, index % 250 + 1)).expect("valid")
}
