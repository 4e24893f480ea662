//! Processes: their lives, their clocks, and when they get to what they are told.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use muster::node::{BootId, ClusterId, LinkId, NodeName};
use muster::protocol::membership::{
    Action, DialFailure, Durable, Epoch, Membership, Record, RequestError, RequestId, Settings,
    Standing, Timing,
};
use rand::RngExt;

use crate::chaos::described;
use crate::history::{Fact, Pid};
use crate::world::{Event, World};

/// Places from here on are no node's own.
const ELSEWHERE: usize = 1_000_000;

/// What a process may be told.
#[derive(Clone, Debug)]
pub enum Input {
    LinkUp(LinkId, NodeName, Option<Duration>),
    LinkDown(LinkId),
    Frame(LinkId, Vec<u8>),
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
    /// When its freeze was to end: one that was cut short must not end the next.
    pub thaws: Duration,
    /// Since when its machine is suspended.
    asleep: Option<Duration>,
    pub slow: Option<Duration>,
    busy_until: Duration,
    /// Until then what it sends and is sent waits, while its timers run.
    pub blocked_until: Duration,
    draining: bool,
    pub inbox: VecDeque<Input>,
    /// Links that nobody holds the other end of, see `stranger`.
    pub strange: BTreeSet<LinkId>,
    /// Written but not yet safe, with its version.
    pub writing: Option<(u64, Durable)>,
    pub synced: u64,
    pub replies: Vec<(u64, RequestId, Result<(), RequestError>)>,
    pub links: BTreeMap<LinkId, (usize, usize)>,
    pub up: BTreeMap<NodeName, usize>,
    pub dials: BTreeMap<NodeName, (usize, Duration)>,
    pub discovery: bool,
    /// When this process was last started, frozen, slow or thawed.
    pub disturbed: Duration,
    pub own: Option<(Option<ClusterId>, Standing, Epoch)>,
    pub seen_version: u64,
    pub held: BTreeMap<NodeName, Record>,
}

/// How a process begins.
#[derive(Clone, Copy, Debug)]
pub struct Life {
    /// What its clock says.
    pub base: Duration,
    /// How fast its clock runs.
    pub rate: f64,
    /// Whether it is a second process of its node, at a place of its own.
    pub rogue: bool,
    /// Whether discovery runs.
    pub discovery: bool,
    /// See [`Node::amnesia`](crate::world::Node::amnesia).
    pub amnesia: bool,
}

impl World {
    /// The settings of a node's process.
    pub fn settings(&self, node: usize, boot: BootId) -> Settings {
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
            leave_on_stop: cluster.leave_on_stop,
            whole_view_limit: cluster.whole_view_limit,
            limits: cluster.limits,
            timing: Timing::default(),
        }
    }

    /// Starts a node's process; a rogue is a second one, elsewhere, with nothing on its disk.
    pub fn start(&mut self, node: usize, rogue: bool) {
        if !rogue && (self.nodes[node].pid.is_some() || self.nodes[node].is_retired) {
            return;
        }
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
        let discovery = settings.automatic && !disk.left && !disk.discovery_off;
        let machine = Membership::new(settings, disk, base, self.rng.random());
        if !rogue && self.has_old_links(node) {
            // As one that comes back with another address: its peers know nothing yet.
            self.count("came back beside its old links");
        }
        let amnesia = wiped || self.nodes[node].amnesia;
        self.begin(node, machine, Life { base, rate, rogue, discovery, amnesia });
    }

    /// A process of a node begins with this machine.
    pub fn begin(&mut self, node: usize, mut machine: Membership, life: Life) {
        let Life { base, rate, rogue, discovery, amnesia } = life;
        let pid = self.processes.len();
        machine.next_deadline();
        let boot = machine.me().boot;
        let name = self.nodes[node].name.clone();
        let plan = &self.plan.clusters[self.nodes[node].cluster];
        let (cluster, automatic) = (plan.name.clone(), plan.automatic);
        let mut held = BTreeMap::new();
        if self.noting {
            let records = machine.table().entries().map(|entry| &entry.record);
            held.extend(records.map(|record| (record.node.clone(), record.clone())));
        }
        let known = held.values().filter(|r| r.is_member()).map(|r| r.node.clone()).collect();
        let buried: Vec<Record> = held.values().filter(|r| !r.is_member()).cloned().collect();
        if !rogue {
            self.nodes[node].pid = Some(pid);
            self.nodes[node].host_up = true;
        }
        self.trace(|_| {
            format!("{name} starts as process {pid}, boot {boot}, rogue {rogue}, clock {rate}")
        });
        self.fact(Fact::Start {
            pid,
            node: name.clone(),
            cluster,
            automatic,
            known,
            amnesia,
            rogue,
        });
        buried.into_iter().for_each(|record| self.fact(Fact::Held(pid, record)));
        self.processes.push(Process {
            machine,
            node,
            place: if rogue { ELSEWHERE + pid } else { node },
            name,
            boot,
            alive: true,
            started: self.now,
            base,
            rate,
            suspended: Duration::ZERO,
            wake: None,
            frozen: false,
            thaws: Duration::ZERO,
            asleep: None,
            slow: None,
            busy_until: Duration::ZERO,
            blocked_until: Duration::ZERO,
            draining: false,
            inbox: VecDeque::new(),
            strange: BTreeSet::new(),
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
        if self.plan.describes() {
            // The agent's first words to its own machine, before anything is linked.
            self.ask(pid, described(3));
        }
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

    pub fn schedule(&mut self, pid: Pid) {
        let process = &mut self.processes[pid];
        let Some(deadline) = process.machine.next_deadline() else { return };
        let ran = deadline.saturating_sub(process.base).div_f64(process.rate);
        let at = process.started + process.suspended + ran + Duration::from_micros(1);
        if process.wake.is_none_or(|wake| at < wake) {
            process.wake = Some(at);
            self.at(at, Event::Wake(pid));
        }
    }

    pub fn wake(&mut self, pid: Pid) {
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
        if process.blocked_until > now && !matches!(input, Input::Timeout) {
            if process.inbox.is_empty() {
                let at = process.blocked_until;
                self.at(at, Event::Drain(pid));
            }
            self.processes[pid].inbox.push_back(input);
            return;
        }
        self.feed(pid, input);
    }

    pub fn drain(&mut self, pid: Pid) {
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

    /// Hands a process an input now.
    pub fn feed(&mut self, pid: Pid, input: Input) {
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

    pub fn freeze(&mut self, pid: Pid, time: Duration, suspended: bool) {
        let process = &mut self.processes[pid];
        if !process.alive || process.frozen {
            return;
        }
        process.frozen = true;
        process.disturbed = self.now;
        process.thaws = self.now + time;
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
}
