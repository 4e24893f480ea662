//! Faults and operators, at random.

use std::time::Duration;

use muster::attributes::{Broker, BrokerStatus, Tags};
use muster::node::NodeName;
use muster::protocol::membership::Action;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::history::Pid;
use crate::plan::{Fault, NodePlan};
use crate::world::{Discovery, Event, World, name};

/// Nodes that a history ever has, at most: the names of strangers begin at 900.
const MOST_NODES: usize = 300;

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

/// What a process says of itself, of five kinds: nothing, or its tags and its broker.
pub fn described(kind: u8) -> Action {
    let mut tags = Tags::default();
    let status = match kind {
        0 => return Action::Describe { tags, broker: None },
        1 => BrokerStatus::Unknown,
        2 => BrokerStatus::Down,
        _ => BrokerStatus::Up,
    };
    let zone = if kind == 4 { "b" } else { "a" };
    if let Err(error) = tags.insert("zone", zone) {
        panic!("{error}");
    }
    let broker = Broker { address: "127.0.0.1:1883".to_owned(), status, detail: String::new() };
    Action::Describe { tags, broker: Some(broker) }
}

impl World {
    /// Something goes wrong, and something else will.
    pub fn strike(&mut self) {
        if self.calm {
            return;
        }
        let total: u32 = self.plan.faults.iter().map(|(_, weight)| weight).sum();
        let mut draw = self.rng.random_range(0..total.max(1));
        let mut chosen = None;
        for (fault, weight) in &self.plan.faults {
            if draw < *weight {
                chosen = Some(*fault);
                break;
            }
            draw -= weight;
        }
        if let Some(fault) = chosen
            && self.inflict(fault)
        {
            self.count(&format!("{fault:?}"));
        }
        let gap = self.plan.gap.mul_f64(self.rng.random_range(0.05..2.0));
        self.after(gap, Event::Chaos);
    }

    fn some_process(&mut self) -> Option<Pid> {
        let living: Vec<Pid> =
            self.living().into_iter().filter(|pid| !self.processes[*pid].frozen).collect();
        living.choose(&mut self.rng).copied()
    }

    /// A rightful process, not a rogue.
    fn some_rightful(&mut self) -> Option<Pid> {
        let living: Vec<Pid> = self.nodes.iter().filter_map(|node| node.pid).collect();
        living.choose(&mut self.rng).copied().filter(|pid| !self.processes[*pid].frozen)
    }

    fn some_dead(&mut self) -> Option<usize> {
        let dead: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.is_startable(*node)).collect();
        dead.choose(&mut self.rng).copied()
    }

    fn is_startable(&self, node: usize) -> bool {
        self.nodes[node].pid.is_none() && !self.nodes[node].is_retired
    }

    fn some_name(&mut self) -> NodeName {
        if self.rng.random_bool(0.05) {
            return name(901);
        }
        let node = self.rng.random_range(0..self.nodes.len());
        self.nodes[node].name.clone()
    }

    fn short(&mut self, most: u64) -> Duration {
        // Short ones are as interesting as long ones.
        let most = if self.rng.random_bool(0.5) { most } else { most / 8 };
        ms(self.rng.random_range(10..most))
    }

    /// Does it; false: there was nobody to do it to.
    fn inflict(&mut self, fault: Fault) -> bool {
        self.trace(|_| format!("FAULT {fault:?}"));
        match fault {
            Fault::Kill => self.some_rightful().map(|pid| self.kill(pid)).is_some(),
            Fault::PowerOff => self.some_rightful().map(|pid| self.end(pid, false)).is_some(),
            Fault::Stop => self.some_rightful().map(|pid| self.stop(pid)).is_some(),
            Fault::Start => self.some_dead().map(|node| self.start(node, false)).is_some(),
            Fault::StartEmpty => self
                .some_dead()
                .map(|node| {
                    self.nodes[node].wiped = true;
                    self.start(node, false);
                })
                .is_some(),
            Fault::Rotation => self.rotate(),
            Fault::ColdRestart => self.cold_restart(),
            Fault::SlowDisk => {
                self.slow_disk = Some(ms(self.rng.random_range(200..30_000)));
                let time = self.short(15_000);
                self.after(time, Event::FastDisk);
                true
            }
            Fault::Partition | Fault::CutPairs | Fault::OneWay => self.cut(fault),
            Fault::BreakLink => {
                let open = self.open_conns();
                open.choose(&mut self.rng).copied().map(|conn| self.break_link(conn)).is_some()
            }
            Fault::Loss => {
                self.network.loss = self.rng.random_range(0.02..0.4);
                let time = self.short(15_000);
                self.after(time, Event::EndLoss);
                true
            }
            Fault::Slow => {
                let Some(pid) = self.some_process() else { return false };
                let service = ms(self.rng.random_range(1..120));
                let now = self.now;
                let process = &mut self.processes[pid];
                (process.slow, process.disturbed) = (Some(service), now);
                let time = self.short(15_000);
                self.after(time, Event::Quick(pid));
                true
            }
            Fault::Freeze | Fault::Suspend => {
                let Some(pid) = self.some_process() else { return false };
                let time = self.short(20_000);
                self.freeze(pid, time, fault == Fault::Suspend);
                true
            }
            Fault::DiscoveryError | Fault::DiscoveryLag | Fault::DiscoveryLies => {
                self.corrupt_discovery(fault)
            }
            Fault::Join | Fault::Leave | Fault::ForceLeave | Fault::Invite => self.operate(fault),
            Fault::DiscoveryOff | Fault::DiscoveryOn => {
                let Some(pid) = self.some_rightful() else { return false };
                let enabled = fault == Fault::DiscoveryOn;
                self.ask(pid, Action::SetDiscovery { enabled });
                true
            }
            Fault::Rogue => {
                let Some(pid) = self.some_rightful() else { return false };
                let node = self.processes[pid].node;
                let rogue = self.processes.len();
                self.start(node, true);
                let time = self.short(20_000);
                self.after(time, Event::EndRogue(rogue));
                true
            }
            Fault::Isolate => self.isolate(),
            Fault::Replace => {
                let times = if self.rng.random_bool(0.2) { 4 } else { 1 };
                (0..times).any(|_| self.replace())
            }
            Fault::Lie => self.lie(),
            Fault::Stranger => self.some_rightful().is_some_and(|pid| self.intrude(pid)),
            Fault::Purge => {
                let Some(pid) = self.some_rightful() else { return false };
                let node = self.some_name();
                self.ask(pid, Action::ForceLeaveBroughtBy { node });
                true
            }
            Fault::Describe => self.some_rightful().map(|pid| self.describe(pid)).is_some(),
        }
    }

    /// A member says something else of itself.
    fn describe(&mut self, pid: Pid) {
        let action = match self.rng.random_range(0..4) {
            0 => Action::Drain { reason: "disk".to_owned() },
            1 => Action::Undrain,
            _ => described(self.rng.random_range(0..5)),
        };
        self.ask(pid, action);
    }

    fn rotate(&mut self) -> bool {
        let mut order: Vec<usize> =
            (0..self.nodes.len()).filter(|node| self.nodes[*node].pid.is_some()).collect();
        order.shuffle(&mut self.rng);
        let gap = self.short(3_000);
        let away = self.short(1_500);
        for (turn, node) in order.iter().enumerate() {
            let at = gap * (turn as u32 + 1);
            self.after(at, Event::StopNode(*node));
            self.after(at + away, Event::Start(*node));
        }
        !order.is_empty()
    }

    fn cold_restart(&mut self) -> bool {
        let living: Vec<Pid> = self.nodes.iter().filter_map(|node| node.pid).collect();
        for pid in &living {
            let orderly = self.rng.random_bool(0.5);
            self.end(*pid, orderly);
        }
        for node in
            (0..self.nodes.len()).filter(|node| !self.nodes[*node].is_retired).collect::<Vec<_>>()
        {
            let away = self.short(4_000);
            self.after(away, Event::Start(node));
        }
        !living.is_empty()
    }

    fn cut(&mut self, fault: Fault) -> bool {
        let count = self.nodes.len();
        let parts = if self.rng.random_bool(0.75) { 2 } else { 3 };
        let part: Vec<u32> = (0..count).map(|_| self.rng.random_range(0..parts)).collect();
        let share = self.rng.random_range(0.05..0.6);
        let mut directions = Vec::new();
        for a in 0..count {
            for b in 0..count {
                let blocked = match fault {
                    Fault::Partition => part[a] != part[b],
                    Fault::CutPairs => a < b && self.rng.random_bool(share),
                    _ => a != b && self.rng.random_bool(share),
                };
                if blocked {
                    directions.push((a, b));
                    if fault == Fault::CutPairs {
                        directions.push((b, a));
                    }
                }
            }
        }
        if directions.is_empty() {
            return false;
        }
        self.trace(|_| format!("cut {directions:?}"));
        let number = self.network.cut(directions);
        let time = self.short(25_000);
        self.after(time, Event::Uncut(number));
        true
    }

    /// One node cannot hear the others, or they it, or both.
    fn isolate(&mut self) -> bool {
        let Some(pid) = self.some_rightful() else { return false };
        let (is_deaf, is_mute) = *[(true, true), (true, false), (false, true)]
            .choose(&mut self.rng)
            .unwrap_or(&(true, true));
        let number = self.cut_off(self.processes[pid].node, is_deaf, is_mute);
        let time = self.short(20_000);
        self.after(time, Event::Uncut(number));
        true
    }

    /// Cuts one node off from all others.
    pub fn cut_off(&mut self, node: usize, is_deaf: bool, is_mute: bool) -> u64 {
        let others: Vec<usize> = (0..self.nodes.len()).filter(|other| *other != node).collect();
        let deaf = others.iter().filter(|_| is_deaf).map(|other| (*other, node));
        let mute = others.iter().filter(|_| is_mute).map(|other| (node, *other));
        let directions: Vec<(usize, usize)> = deaf.chain(mute).collect();
        self.trace(|w| {
            format!("{} is cut off: deaf {is_deaf}, mute {is_mute}", w.nodes[node].name)
        });
        self.network.cut(directions)
    }

    /// A node goes for good, and another takes its place.
    fn replace(&mut self) -> bool {
        let Some(pid) = self.some_rightful() else { return false };
        let node = self.processes[pid].node;
        if self.plan.liar == Some(node) || self.nodes.len() >= MOST_NODES {
            return false;
        }
        match self.rng.random_range(0..4) {
            0 => self.kill(pid),
            1 => self.end(pid, false),
            _ => self.stop(pid),
        }
        self.nodes[node].is_retired = true;
        let (cluster, role) = (self.nodes[node].cluster, self.plan.nodes[node].role);
        let new = self.add_node(NodePlan { cluster, role, start: self.now });
        let pause = self.short(2_000);
        self.after(pause, Event::Start(new));
        self.after(pause + ms(500), Event::Recruit(new));
        true
    }

    /// A new node of a cluster that is put together by hand is told to join.
    pub fn recruit(&mut self, node: usize) {
        let cluster = self.nodes[node].cluster;
        if self.plan.clusters[cluster].automatic {
            return;
        }
        let Some(pid) = self.nodes[node].pid else { return };
        let others: Vec<NodeName> = self
            .nodes
            .iter()
            .filter(|other| other.cluster == cluster && other.pid.is_some_and(|p| p != pid))
            .map(|other| other.name.clone())
            .collect();
        if let Some(node) = others.choose(&mut self.rng).cloned() {
            self.ask(pid, Action::Join { node, force: false });
        }
    }

    fn corrupt_discovery(&mut self, fault: Fault) -> bool {
        self.discovery = match fault {
            Fault::DiscoveryError => Discovery::Failing,
            Fault::DiscoveryLag => Discovery::Stale,
            _ => *[Discovery::Nobody, Discovery::Partial, Discovery::Strangers]
                .choose(&mut self.rng)
                .unwrap_or(&Discovery::Nobody),
        };
        for cluster in 0..self.plan.clusters.len() {
            let answer = self.truth(cluster);
            self.stale_answer.insert(self.plan.clusters[cluster].name.clone(), answer);
        }
        let time = self.short(15_000);
        self.after(time, Event::HonestDiscovery);
        true
    }

    fn operate(&mut self, fault: Fault) -> bool {
        let Some(pid) = self.some_rightful() else { return false };
        let node = self.some_name();
        let force = self.rng.random_bool(0.4);
        let action = match fault {
            Fault::Join => Action::Join { node, force },
            Fault::Leave => Action::Leave,
            Fault::ForceLeave => Action::ForceLeave { node, force },
            _ => Action::Invite { node },
        };
        self.ask(pid, action);
        true
    }

    /// A node's process is told to stop, if it can hear.
    pub fn stop_node(&mut self, node: usize) {
        if let Some(pid) = self.nodes[node].pid
            && !self.processes[pid].frozen
            && !self.calm
        {
            self.stop(pid);
        }
    }

    /// Ends every fault, and starts most of those that are dead.
    pub fn calm_down(&mut self) {
        self.trace(|_| "CALM".to_owned());
        self.calm = true;
        self.slow_disk = None;
        self.network.loss = 0.0;
        self.discovery = Discovery::Honest;
        for number in self.network.numbers() {
            self.uncut(number);
        }
        for pid in self.living() {
            if self.nodes[self.processes[pid].node].pid != Some(pid) {
                self.kill(pid);
                continue;
            }
            self.quicken(pid);
            self.thaw(pid);
            // What a stuck disk held is written now.
            self.after(ms(50), Event::Synced(pid));
        }
        self.end_the_liar();
        for node in 0..self.nodes.len() {
            if self.is_startable(node) {
                // The machine is there again, whether its agent is or not.
                self.nodes[node].host_up = true;
                if self.rng.random_bool(0.75) {
                    let delay = ms(self.rng.random_range(0..2_000));
                    self.after(delay, Event::Start(node));
                }
            }
        }
        self.history.calm_at = self.now;
        if self.plan.clusters.iter().any(|cluster| !cluster.autoheal) {
            self.after(ms(15_000), Event::Operator);
        }
    }

    /// Where sides do not heal by themselves, an operator joins them.
    pub fn heal_by_hand(&mut self) {
        for cluster in 0..self.plan.clusters.len() {
            if self.plan.clusters[cluster].autoheal {
                continue;
            }
            for (pid, node) in self.splits(cluster) {
                self.count("healed by hand");
                self.ask(pid, Action::Join { node, force: true });
            }
        }
        if self.now < self.history.calm_at + ms(60_000) {
            self.after(ms(11_000), Event::Operator);
        }
    }
}
