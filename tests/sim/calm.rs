//! After the faults: who should agree with whom, and whether they do.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use muster::node::NodeName;
use muster::protocol::membership::{Standing, State, Table};

use crate::checks;
use crate::history::{History, Pid, View};
use crate::plan::Plan;
use crate::world::{Event, World};

/// By then everybody agrees, counted from the end of the last fault.
pub const BOUND: Duration = Duration::from_secs(45);

/// More of it where operators have to heal.
pub const BY_HAND: Duration = Duration::from_secs(75);

/// More of it where a liar is thrown out, and what it brought is removed.
const CLEANING: Duration = Duration::from_secs(35);

/// By then every request of the faults' time is answered.
const ANSWERED: Duration = Duration::from_secs(11);

/// Before a scene.
const REST: Duration = Duration::from_secs(6);

/// For so long nothing may change any more.
const QUIET: Duration = Duration::from_secs(4);

/// What one history was.
pub struct Outcome {
    pub history: History,
    pub fired: BTreeMap<String, u64>,
    pub trace: Vec<(u64, String)>,
    /// From the end of the faults to the agreement that lasted.
    pub agreed_after: Option<Duration>,
}

/// Lets a history happen.
pub fn run(plan: Plan, traced: bool) -> Outcome {
    run_world(World::new(plan, traced))
}

/// Lets the history of a world happen that was made already.
pub fn run_world(mut world: World) -> Outcome {
    let last_start = world.plan.nodes.iter().map(|node| node.start).max().unwrap_or_default();
    let chaos = world.plan.chaos;
    if chaos.is_zero() {
        world.at(last_start, Event::Calm);
    } else {
        world.at(Duration::from_millis(200), Event::Chaos);
        world.at(chaos.max(last_start), Event::Calm);
    }
    while !world.calm {
        world.step(Duration::MAX);
    }
    let by_hand = world.plan.clusters.iter().any(|cluster| !cluster.autoheal);
    let slack = if world.plan.liar.is_some() { CLEANING } else { Duration::ZERO };
    let bound = world.history.calm_at + slack + if by_hand { BY_HAND } else { BOUND };
    world.agree(bound, slack + ANSWERED);
    let agreed_after = world.agreed_since.map(|at| at.saturating_sub(world.history.calm_at));
    if world.agreed_since.is_some() && world.plan.scene.is_some() {
        // Answers that came late in the time of faults are waited for no longer.
        let rested = world.now + REST;
        while world.step(rested) {}
        world.now = rested;
        world.play_scene();
        let bound = world.now + BOUND;
        world.agree(bound, world.now + ANSWERED - world.history.calm_at);
    }
    world.finish(agreed_after)
}

impl World {
    /// Lets time pass until everybody has agreed for a while, some time after the faults,
    /// or until a bound.
    fn agree(&mut self, bound: Duration, least: Duration) {
        self.agreed_since = None;
        while !(self.has_settled(least) || self.now > bound + QUIET) {
            let next = self.now + Duration::from_millis(100);
            while self.step(next) {}
            self.now = next;
            match (checks::agreement(&self.views()).is_ok(), self.agreed_since) {
                (true, None) => self.agreed_since = Some(self.now),
                (false, Some(_)) => self.agreed_since = None,
                _ => {}
            }
        }
    }

    fn has_settled(&self, least: Duration) -> bool {
        let quiet = self.agreed_since.is_some_and(|since| self.now >= since + QUIET);
        quiet && self.now >= self.history.calm_at + least
    }

    fn finish(mut self, agreed_after: Option<Duration>) -> Outcome {
        self.history.end = self.views();
        self.history.ended_at = self.now;
        self.history.steps = self.step;
        Outcome {
            agreed_after,
            history: self.history,
            fired: self.fired,
            trace: self.trace.unwrap_or_default(),
        }
    }

    /// Every live agent's view.
    pub fn views(&self) -> Vec<View> {
        let truth: Vec<BTreeSet<NodeName>> =
            (0..self.plan.clusters.len()).map(|cluster| self.truth(cluster)).collect();
        self.living()
            .into_iter()
            .map(|pid| {
                let process = &self.processes[pid];
                let cluster = self.nodes[process.node].cluster;
                let machine = &process.machine;
                let plan = &self.plan.clusters[cluster];
                let discovers = process.discovery || !plan.automatic;
                let contacts =
                    if process.discovery { truth[cluster].clone() } else { BTreeSet::new() };
                View {
                    node: process.name.clone(),
                    cluster: plan.name.clone(),
                    id: machine.id(),
                    state: machine.state(),
                    discovers,
                    conflict: machine.conflict().is_some(),
                    rightful: self.nodes[process.node].pid == Some(pid),
                    boot: process.boot,
                    hash: machine.view_hash(),
                    content: content(machine.table()),
                    disagreeing: machine.disagreeing().count(),
                    members: machine
                        .table()
                        .members()
                        .filter_map(|r| Some((r.node.clone(), r.boot, r.health()?)))
                        .collect(),
                    contacts: contacts.into_iter().collect(),
                }
            })
            .collect()
    }

    /// For every process of a cluster that disagrees with its first: whom to join.
    pub fn splits(&self, cluster: usize) -> Vec<(Pid, NodeName)> {
        let joined: Vec<Pid> = self
            .living()
            .into_iter()
            .filter(|pid| self.nodes[self.processes[*pid].node].cluster == cluster)
            .filter(|pid| {
                let machine = &self.processes[*pid].machine;
                machine.state() == State::Joined || machine.conflict().is_some()
            })
            .collect();
        let automatic = self.plan.clusters[cluster].automatic;
        let first_of = |pid: Pid| {
            let id = self.processes[pid].machine.id();
            joined.iter().find(|other| automatic || self.processes[**other].machine.id() == id)
        };
        joined
            .iter()
            .filter_map(|pid| {
                let first = &self.processes[*first_of(*pid)?];
                let differs = self.processes[*pid].machine.view_hash() != first.machine.view_hash();
                differs.then(|| (*pid, first.name.clone()))
            })
            .collect()
    }
}

/// A hash over all that members are to agree on, by no code of the machine's.
pub fn content(table: &Table) -> u64 {
    let mut hasher = DefaultHasher::new();
    for record in table.entries().map(|entry| &entry.record) {
        record.node.as_str().hash(&mut hasher);
        // How far a liar drove the numbers of who is gone, not everybody can know.
        let is_driven = record.epoch.0 >= 1 << 32 || record.incarnation.0 >= 1 << 40;
        if record.is_member() && !record.is_running() && is_driven {
            continue;
        }
        (record.epoch.0, record.boot.0).hash(&mut hasher);
        match record.standing {
            Standing::Member(health) => {
                (0, health.is_running(), record.incarnation.0).hash(&mut hasher);
            }
            Standing::Left => (1, record.burial).hash(&mut hasher),
            Standing::ForceLeft => (2, record.burial).hash(&mut hasher),
            Standing::Autocleaned => (3, record.burial).hash(&mut hasher),
        }
    }
    hasher.finish()
}
