//! The simulated cluster: real machines, simulated processes, disks, links and time.
//!
//! | file | role |
//! | --- | --- |
//! | `world` | the queue of events; processes, their clocks and their disks |
//! | `network` | dials, links, frames; cuts and losses |
//! | `chaos` | faults and operators |
//! | `calm` | the end of all faults, and whether everybody agrees |
//!
//! A history is a function of its [`Plan`], which is a function of the seed: nothing
//! here iterates over anything unordered, or asks a clock.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::time::Duration;

use muster::node::{BootId, ClusterId, NodeName, Role};
use muster::protocol::membership::{
    Action, DialFailure, Durable, Effect, Epoch, LinkKey, Membership, Record, Refused, RequestId,
    Settings, Standing, Timing,
};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::history::{Fact, History, Pid};
use crate::network::{Conn, Dial, Network};
use crate::plan::Plan;

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
}

/// What a process may be told.
#[derive(Clone, Debug)]
pub enum Input {
    LinkUp(LinkKey, NodeName, Option<Duration>),
    LinkDown(LinkKey),
    Frame(LinkKey, Vec<u8>),
    DialFailed(NodeName, DialFailure),
    Discovered(BTreeSet<NodeName>),
    Request(RequestId, Action),
    Timeout,
}

/// A process: the machine and what the driver keeps around it.
#[derive(Debug)]
pub struct Process {
    pub machine: Membership,
    pub node: usize,
    pub place: usize,
    pub name: NodeName,
    pub boot: BootId,
    pub alive: bool,
    pub started: Duration,
    /// Local time is this plus the time since the start times the rate.
    base: Duration,
    rate: f64,
    suspended: Duration,
    wake: Option<Duration>,
    pub frozen: bool,
    /// Since when its machine is suspended.
    asleep: Option<Duration>,
    pub slow: Option<Duration>,
    busy_until: Duration,
    draining: bool,
    pub inbox: VecDeque<Input>,
    /// Written but not yet safe, with its version.
    writing: Option<(u64, Durable)>,
    synced: u64,
    replies: Vec<(u64, RequestId, Result<(), Refused>)>,
    pub links: BTreeMap<LinkKey, (usize, usize)>,
    pub up: BTreeMap<NodeName, usize>,
    pub dials: BTreeMap<NodeName, (usize, Duration)>,
    pub discovery: bool,
    /// When this process was last started, frozen, slow or thawed.
    pub disturbed: Duration,
    own: Option<(Option<ClusterId>, Standing, Epoch)>,
    seen_version: u64,
    held: BTreeMap<NodeName, Record>,
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
    Closed(Pid, LinkKey),
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
    pub processes: Vec<Process>,
    pub network: Network,
    pub conns: Vec<Conn>,
    pub dials: Vec<Dial>,
    queue: BinaryHeap<Reverse<(Duration, u64)>>,
    events: BTreeMap<u64, Event>,
    next_event: u64,
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
    /// Whether facts for the checkers are noted.
    pub noting: bool,
}

impl World {
    /// The world before its first step.
    pub fn new(plan: Plan, traced: bool) -> Self {
        let nodes = (0..plan.nodes.len())
            .map(|index| Node {
                name: name(index),
                cluster: plan.nodes[index].cluster,
                disk: Durable::default(),
                pid: None,
                host_up: true,
                wiped: false,
                amnesia: false,
            })
            .collect();
        let mut world = Self {
            rng: SmallRng::seed_from_u64(plan.seed),
            now: Duration::ZERO,
            step: 0,
            nodes,
            processes: Vec::new(),
            network: Network::default(),
            conns: Vec::new(),
            dials: Vec::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            next_event: 0,
            next_id: 1000,
            history: History { faultless: plan.chaos.is_zero(), ..History::default() },
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
        for index in 0..world.plan.nodes.len() {
            world.at(world.plan.nodes[index].start, Event::Start(index));
        }
        world.at(Duration::from_secs(1), Event::Sweep);
        world
    }

    /// Queues an event.
    pub fn at(&mut self, at: Duration, event: Event) {
        self.next_event += 1;
        self.queue.push(Reverse((at.max(self.now), self.next_event)));
        self.events.insert(self.next_event, event);
    }

    /// Queues an event some time from now.
    pub fn after(&mut self, delay: Duration, event: Event) {
        self.at(self.now + delay, event);
    }

    /// Takes the next event; false: nothing is left before `end`.
    pub fn step(&mut self, end: Duration) -> bool {
        match self.queue.peek() {
            Some(Reverse((at, _))) if *at <= end => {}
            _ => return false,
        }
        let Some(Reverse((at, number))) = self.queue.pop() else { return false };
        let Some(event) = self.events.remove(&number) else { return true };
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
            Event::Calm => self.calm_down(),
        }
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

    /// The settings of a node's process.
    fn settings(&self, node: usize, boot: BootId) -> Settings {
        let cluster = &self.plan.clusters[self.nodes[node].cluster];
        Settings {
            node: self.nodes[node].name.clone(),
            boot,
            role: self.plan.nodes[node].role,
            version: "0.0.0".to_owned(),
            cluster: cluster.name.clone(),
            automatic: cluster.automatic,
            autoheal: cluster.autoheal,
            autoclean: cluster.autoclean,
            full_mesh_limit: cluster.full_mesh_limit,
            timing: Timing::default(),
        }
    }

    /// Starts a node's process; a rogue is a second one, elsewhere, with nothing on its disk.
    pub fn start(&mut self, node: usize, rogue: bool) {
        if !rogue && self.nodes[node].pid.is_some() {
            return;
        }
        let pid = self.processes.len();
        let boot = BootId(self.rng.random());
        let settings = self.settings(node, boot);
        let wiped = std::mem::take(&mut self.nodes[node].wiped) || rogue;
        let disk = if wiped { Durable::default() } else { self.nodes[node].disk.clone() };
        if wiped && !rogue {
            self.nodes[node].amnesia |= self.nodes[node].disk.incarnation.0 > 0;
            self.nodes[node].disk = Durable::default();
        }
        let base = Duration::from_millis(self.rng.random_range(0..100_000));
        let skew = self.plan.skew;
        let rate = 1.0 + if skew > 0.0 { self.rng.random_range(-skew..skew) } else { 0.0 };
        let automatic = settings.automatic;
        let cluster = settings.cluster.clone();
        let discovery = automatic && !disk.left && !disk.discovery_off;
        let mut machine = Membership::new(settings, disk, base, self.rng.random());
        machine.next_deadline();
        let known = machine.table().members().map(|record| record.node.clone()).collect();
        let held = machine
            .table()
            .entries()
            .map(|entry| (entry.record.node.clone(), entry.record.clone()))
            .collect();
        let name = self.nodes[node].name.clone();
        if !rogue {
            self.nodes[node].pid = Some(pid);
            self.nodes[node].host_up = true;
        }
        if !rogue && self.has_old_links(node) {
            // As one that comes back with another address: its peers know nothing yet.
            self.count("came back beside its old links");
        }
        let amnesia = wiped || self.nodes[node].amnesia;
        self.trace(|_| format!("{name} starts as process {pid}, boot {boot}, rogue {rogue}"));
        self.fact(Fact::Start {
            pid,
            node: name.clone(),
            cluster,
            automatic,
            known,
            amnesia,
            rogue,
        });
        self.processes.push(Process {
            machine,
            node,
            place: if rogue { self.nodes.len() + pid } else { node },
            name,
            boot,
            alive: true,
            started: self.now,
            base,
            rate,
            suspended: Duration::ZERO,
            wake: None,
            frozen: false,
            asleep: None,
            slow: None,
            busy_until: Duration::ZERO,
            draining: false,
            inbox: VecDeque::new(),
            writing: None,
            synced: 0,
            replies: Vec::new(),
            links: BTreeMap::new(),
            up: BTreeMap::new(),
            dials: BTreeMap::new(),
            discovery,
            disturbed: self.now,
            own: None,
            seen_version: 0,
            held,
        });
        if automatic {
            let delay = Duration::from_millis(self.rng.random_range(0..40));
            self.after(delay, Event::Discover(pid));
        }
        self.absorb(pid);
    }

    /// A process ends; `orderly`: its system closes its links.
    pub fn end(&mut self, pid: Pid, orderly: bool) {
        let process = &mut self.processes[pid];
        if !process.alive {
            return;
        }
        process.alive = false;
        process.inbox.clear();
        let lost = process.writing.take().is_some();
        let (node, name) = (process.node, process.name.clone());
        let links: Vec<(usize, usize)> = process.links.values().copied().collect();
        process.links.clear();
        if self.nodes[node].pid == Some(pid) {
            self.nodes[node].pid = None;
            self.nodes[node].host_up = orderly;
        }
        if lost {
            self.count("unsynced state lost");
        }
        for (conn, end) in links {
            self.abandon(conn, end, orderly);
        }
        self.trace(|_| format!("{name} ends (process {pid})"));
        self.fact(Fact::End(pid));
    }

    pub fn kill(&mut self, pid: Pid) {
        self.end(pid, true);
    }

    /// SIGTERM: goodbyes, everything written, the end.
    pub fn stop(&mut self, pid: Pid) {
        let now = self.local(pid);
        self.processes[pid].machine.stop(now);
        self.trace(|w| format!("{} is told to stop", w.processes[pid].name));
        self.absorb(pid);
        let process = &mut self.processes[pid];
        let (node, durable) = (process.node, process.machine.durable());
        for (_, request, result) in std::mem::take(&mut process.replies) {
            self.fact(Fact::Answered(pid, request, result));
        }
        self.processes[pid].writing = None;
        if self.nodes[node].pid == Some(pid) {
            self.nodes[node].disk = durable;
        }
        self.end(pid, true);
    }

    /// What a process' clock says.
    fn local(&self, pid: Pid) -> Duration {
        let process = &self.processes[pid];
        let ran = self.now - process.started - process.suspended;
        process.base + ran.mul_f64(process.rate)
    }

    fn schedule(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        let Some(deadline) = process.machine.next_deadline() else { return };
        let ran = deadline.saturating_sub(process.base).div_f64(process.rate);
        let at = process.started + process.suspended + ran + Duration::from_micros(1);
        if process.wake.is_none_or(|wake| at < wake) {
            process.wake = Some(at);
            self.at(at, Event::Wake(pid));
        }
    }

    fn wake(&mut self, pid: Pid) {
        let now = self.now;
        let process = &mut self.processes[pid];
        if process.wake.is_none_or(|wake| wake > now) || !process.alive {
            return;
        }
        process.wake = None;
        if process.frozen {
            return;
        }
        let local = self.local(pid);
        let process = &mut self.processes[pid];
        if process.machine.next_deadline().is_some_and(|deadline| deadline <= local) {
            self.tell(pid, Input::Timeout);
        } else {
            self.schedule(pid);
        }
    }

    /// Hands a process an input, when it gets to it.
    pub fn tell(&mut self, pid: Pid, input: Input) {
        let now = self.now;
        let process = &mut self.processes[pid];
        if !process.alive {
            return;
        }
        if process.frozen || process.draining || process.busy_until > now {
            let again = matches!(input, Input::Timeout)
                && process.inbox.iter().any(|waiting| matches!(waiting, Input::Timeout));
            if !again {
                process.inbox.push_back(input);
            }
            if !process.frozen && !process.draining {
                process.draining = true;
                let at = process.busy_until;
                self.at(at, Event::Drain(pid));
            }
            return;
        }
        self.feed(pid, input);
    }

    fn drain(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        process.draining = false;
        if !process.alive || process.frozen {
            return;
        }
        if let Some(input) = process.inbox.pop_front() {
            self.feed(pid, input);
        }
        let now = self.now;
        let process = &mut self.processes[pid];
        if process.alive && !process.inbox.is_empty() {
            process.draining = true;
            let at = process.busy_until.max(now);
            self.at(at, Event::Drain(pid));
        }
    }

    fn feed(&mut self, pid: Pid, input: Input) {
        if self.trace.is_some() {
            self.trace_input(pid, &input);
        }
        let now = self.local(pid);
        let due = self.now;
        let process = &mut self.processes[pid];
        if let Some(service) = process.slow {
            process.busy_until = due + service;
        }
        let machine = &mut process.machine;
        match input {
            Input::LinkUp(key, peer, rtt) => {
                machine.handle_link_up(now, key, &peer, rtt.is_some(), rtt);
            }
            Input::LinkDown(key) => machine.handle_link_down(now, key),
            Input::Frame(key, frame) => machine.handle_frame(now, key, &frame),
            Input::DialFailed(node, failure) => machine.handle_dial_failed(now, &node, &failure),
            Input::Discovered(nodes) => machine.handle_discovered(now, &nodes),
            Input::Request(request, action) => machine.handle_request(now, request, action),
            Input::Timeout => machine.handle_timeout(now),
        }
        self.absorb(pid);
    }

    /// Carries out what a machine wants, writes its state, and notes what it says.
    fn absorb(&mut self, pid: Pid) {
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
            Effect::Close(key, text) => {
                self.trace(|w| format!("{} closes {key:?}: {text}", w.processes[pid].name));
                self.close(pid, key);
            }
            Effect::Event(news) => {
                self.trace(|w| format!("{} REPORTS {news:?}", w.processes[pid].name));
                self.fact(Fact::News(pid, news));
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
        let process = &mut self.processes[pid];
        let version = process.machine.durable_version();
        if process.alive && process.writing.is_none() && version > process.synced {
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
        let process = &mut self.processes[pid];
        let machine = &process.machine;
        let version = machine.durable_version();
        if version == process.seen_version {
            return;
        }
        process.seen_version = version;
        let mut facts = Vec::new();
        let own = (machine.id(), machine.me().standing, machine.me().epoch);
        if process.own != Some(own) {
            process.own = Some(own);
            let (id, standing, epoch) = own;
            facts.push(Fact::Own { pid, id, standing, epoch });
        }
        let majority = majority(process.held.values());
        let mut gone: BTreeSet<NodeName> = process.held.keys().cloned().collect();
        let mut buried = Vec::new();
        for entry in machine.table().entries() {
            let record = &entry.record;
            gone.remove(&record.node);
            let same = process.held.get(&record.node).is_some_and(|held| held.same_as(record));
            if !same {
                let was_member = process.held.get(&record.node).is_some_and(Record::is_member);
                if was_member && !record.is_member() && record.by == process.name {
                    buried.push((record.node.clone(), record.standing));
                }
                process.held.insert(record.node.clone(), record.clone());
                facts.push(Fact::Held(pid, record.clone()));
            }
        }
        for node in gone {
            process.held.remove(&node);
            facts.push(Fact::Dropped(pid, node));
        }
        for (victim, standing) in buried {
            let reachable = self.reachable_for(pid, &victim, now);
            facts.push(Fact::Removed { pid, victim, standing, reachable, majority });
        }
        for fact in facts {
            self.fact(fact);
        }
    }

    /// For how long two processes could have talked, undisturbed.
    fn reachable_for(&self, pid: Pid, other: &NodeName, now: Duration) -> Option<Duration> {
        let other = self.nodes.iter().find(|node| node.name == *other)?.pid?;
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

    pub fn freeze(&mut self, pid: Pid, time: Duration, suspended: bool) {
        let process = &mut self.processes[pid];
        if !process.alive || process.frozen {
            return;
        }
        process.frozen = true;
        process.disturbed = self.now;
        process.asleep = suspended.then_some(self.now);
        self.trace(|w| {
            format!("{} is frozen for {time:?}, clock {suspended}", w.processes[pid].name)
        });
        self.after(time, Event::Thaw(pid));
    }

    pub fn thaw(&mut self, pid: Pid) {
        let now = self.now;
        let process = &mut self.processes[pid];
        if !process.alive || !process.frozen {
            return;
        }
        process.frozen = false;
        process.disturbed = now;
        process.wake = None;
        if let Some(since) = process.asleep.take() {
            process.suspended += now - since;
        }
        self.trace(|w| format!("{} runs again", w.processes[pid].name));
        // A driver that wakes takes its inputs and its timer in any order.
        if self.rng.random_bool(0.5) {
            self.processes[pid].inbox.push_front(Input::Timeout);
        } else {
            self.processes[pid].inbox.push_back(Input::Timeout);
        }
        self.processes[pid].draining = true;
        self.after(Duration::ZERO, Event::Drain(pid));
        self.release_flows();
    }

    pub fn quicken(&mut self, pid: Pid) {
        if self.processes[pid].slow.take().is_some() {
            self.processes[pid].disturbed = self.now;
        }
    }

    /// Processes that run, by number.
    pub fn living(&self) -> Vec<Pid> {
        (0..self.processes.len()).filter(|pid| self.processes[*pid].alive).collect()
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

/// Whether more than half of the cores run, by these records.
fn majority<'a>(records: impl Iterator<Item = &'a Record>) -> bool {
    let cores: Vec<bool> = records
        .filter(|record| record.is_member() && record.role == Role::Core)
        .map(Record::is_running)
        .collect();
    cores.iter().filter(|running| **running).count() * 2 > cores.len()
}

/// The name of a node; the order of names is not that of numbers.
pub fn name(index: usize) -> NodeName {
    NodeName::parse(&format!("n{index}@10.0.{}.{}", index / 250, index % 250 + 1)).expect("valid")
}
