//! After the faults: who should agree with whom, and whether they do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use muster::node::NodeName;
use muster::protocol::membership::State;

use crate::checks;
use crate::history::{History, Pid, View};
use crate::plan::Plan;
use crate::world::{Event, World};

/// By then everybody agrees, counted from the end of the last fault.
pub const BOUND: Duration = Duration::from_secs(45);

/// More of it where operators have to heal.
pub const BY_HAND: Duration = Duration::from_secs(75);

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
    let mut world = World::new(plan, traced);
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
    let bound = world.history.calm_at + if by_hand { BY_HAND } else { BOUND };
    loop {
        let next = world.now + Duration::from_millis(100);
        while world.step(next) {}
        world.now = next;
        let agreed = checks::agreement(&world.views()).is_ok();
        match (agreed, world.agreed_since) {
            (true, None) => world.agreed_since = Some(world.now),
            (false, Some(_)) => world.agreed_since = None,
            _ => {}
        }
        let quiet = world.agreed_since.is_some_and(|since| {
            world.now >= since + QUIET && world.now >= world.history.calm_at + QUIET
        });
        // Everybody answers before the end.
        let answered = world.now >= world.history.calm_at + Duration::from_secs(11);
        if (quiet && answered) || world.now > bound + QUIET {
            break;
        }
    }
    world.finish()
}

impl World {
    fn finish(mut self) -> Outcome {
        self.history.end = self.views();
        self.history.ended_at = self.now;
        self.history.steps = self.step;
        let calm_at = self.history.calm_at;
        Outcome {
            agreed_after: self.agreed_since.map(|at| at.saturating_sub(calm_at)),
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
