//! A simulated cluster that has formed already.
//!
//! Thousands of members that start at once would exchange all records over all first links,
//! which is no part of what is measured. So each machine is told all records by one peer, over
//! a link that ends before anything else happens, and then enters the simulated network, where
//! it dials whom it wants. It is told through the same inputs as by any driver: every member
//! holds a table, books and timers of its own.

use std::time::Duration;

use muster::node::{BootId, ClusterId, LinkId, Role};
use muster::protocol::membership::{
    Action, DialFailure, Durable, Effect, Health, Hello, Intent, Limits, MAX_RECORDS, Membership,
    Message, PROTOCOL, PROTOCOL_MIN, Record, Standing, State as Stage, Timing,
};
use rand::RngExt;

use crate::cluster::{Change, Cluster, News, State, Traffic};
use crate::history::Fact;
use crate::plan::{ClusterPlan, NodePlan, Plan};
use crate::process::Life;
use crate::world::World;

/// Nodes that are configured and may join.
const JOINERS: usize = 8;

const ID: ClusterId = ClusterId(1);

/// Long enough for the gossip that is due to find no link and be forgotten, and short
/// enough that no dial is due.
const ASIDE: Duration = Duration::from_millis(100);

/// Phases of the members' timers are spread over this. No timer is due meanwhile that
/// would make a machine think it runs late.
const PHASES: u64 = 200;

/// One-way delay of a message, and at most so much more.
pub const LATENCY: Duration = Duration::from_micros(500);
pub const JITTER: Duration = Duration::from_micros(1000);

/// The world, of which every node runs but the joiners.
pub struct Formed {
    world: World,
    joiners: std::ops::Range<usize>,
}

impl Formed {
    pub fn new(members: usize, seed: u64) -> Self {
        let mut world = World::new(plan(members + JOINERS, seed), false);
        world.noting = false;
        let mut machines: Vec<(Membership, Duration)> = (0..members)
            .map(|node| {
                let boot = BootId(world.rng.random());
                let mut settings = world.settings(node, boot);
                // Nobody is to prove to thousands what thousands know.
                settings.limits.unproven_at_once = u32::MAX;
                let disk = Durable { id: Some(ID), ..Durable::default() };
                let base = Duration::from_millis(world.rng.random_range(0..100_000));
                (Membership::new(settings, disk, base, world.rng.random()), base)
            })
            .collect();
        let records: Vec<Record> = machines.iter().map(|(m, _)| m.me().clone()).collect();
        let frames: Vec<Vec<u8>> = records
            .chunks(MAX_RECORDS)
            .map(|part| {
                Message::Sync { records: part.to_vec(), want: Vec::new(), ask: None }.encode()
            })
            .collect();
        for (node, (machine, base)) in machines.iter_mut().enumerate() {
            tell(machine, *base, &records[(node + 1) % members], &frames);
        }
        for (node, (machine, base)) in machines.into_iter().enumerate() {
            let phase = Duration::from_millis(world.rng.random_range(0..PHASES));
            let base = base + ASIDE + phase;
            let life = Life { base, rate: 1.0, rogue: false, discovery: false, amnesia: false };
            world.begin(node, machine, life);
        }
        Self { world, joiners: members..members + JOINERS }
    }
}

/// One peer tells a machine all records, and their link ends.
fn tell(machine: &mut Membership, now: Duration, peer: &Record, frames: &[Vec<u8>]) {
    let key = LinkId(0);
    let hello = Hello {
        protocol_min: PROTOCOL_MIN,
        protocol: PROTOCOL,
        cluster: CLUSTER.to_owned(),
        id: Some(ID),
        automatic: false,
        intent: Intent::Meet,
        me: peer.clone(),
        you: None,
        view_v1: 0,
        view: Some(0),
    };
    machine.handle_link_up(now, key, &peer.node, false, None);
    machine.handle_frame(now, key, &Message::Hello(Box::new(hello)).encode());
    for frame in frames {
        machine.handle_frame(now, key, frame);
    }
    machine.handle_link_down(now, key);
    machine.handle_timeout(now + ASIDE);
    while let Some(effect) = machine.poll_effect() {
        if let Effect::Dial(node) = effect {
            // Planned again, and dropped by then unless it is still wanted.
            machine.handle_dial_failed(now, &node, &DialFailure::Yield);
        }
    }
}

const CLUSTER: &str = "emqxcl";

fn plan(nodes: usize, seed: u64) -> Plan {
    let never = Duration::from_secs(1 << 30);
    Plan {
        seed,
        clusters: vec![ClusterPlan {
            name: CLUSTER.to_owned(),
            automatic: false,
            autoheal: true,
            autoclean: None,
            full_mesh_limit: 64,
            whole_view_limit: 64,
            cookie: 0,
            registry: false,
            leave_on_stop: false,
            limits: Limits::default(),
        }],
        nodes: vec![NodePlan { cluster: 0, role: Role::Core, start: never }; nodes],
        latency: LATENCY,
        jitter: JITTER,
        queue: 1024,
        silence: Duration::from_secs(60),
        disk: Duration::from_millis(10),
        discovery: Duration::from_secs(5),
        skew: 0.0,
        chaos: Duration::ZERO,
        gap: Duration::from_secs(1),
        faults: Vec::new(),
        liar: None,
        bandwidth: None,
        tombstones: 0,
        scene: None,
    }
}

impl Cluster for Formed {
    fn period(&self) -> Duration {
        Timing::default().probe_period
    }

    fn now(&self) -> Duration {
        self.world.now
    }

    fn run(&mut self, until: Duration) {
        while self.world.step(until) {}
        self.world.now = until;
    }

    fn living(&self) -> Vec<usize> {
        let joined = |pid: &usize| self.world.processes[*pid].machine.state() == Stage::Joined;
        self.world.living().into_iter().filter(joined).collect()
    }

    fn sent(&self) -> Traffic {
        let (messages, bytes) = self.world.sent;
        Traffic { messages, bytes }
    }

    fn news(&mut self) -> Vec<News> {
        std::mem::take(&mut self.world.history.facts)
            .into_iter()
            .filter_map(|(at, _, fact)| {
                let Fact::News(observer, news) = fact else { return None };
                let state = match news.to {
                    Standing::Member(Health::Up) => State::Up,
                    Standing::Member(Health::Suspect) => State::Suspect,
                    Standing::Member(Health::Down | Health::Unknown) => State::Down,
                    _ => State::Left,
                };
                Some(News { at, observer, member: self.world.place(&news.node)?, state })
            })
            .collect()
    }

    fn block(&mut self, member: usize, time: Duration) {
        self.world.processes[member].blocked_until = self.world.now + time;
    }

    fn begin(&mut self, change: Change, member: usize) -> Option<usize> {
        match change {
            Change::Join => {
                let node = self.joiners.next()?;
                let pid = self.world.processes.len();
                self.world.start(node, false);
                let through = self.world.nodes[member].name.clone();
                self.world.ask(pid, Action::Join { node: through, force: false });
                return Some(pid);
            }
            Change::Leave => self.world.ask(member, Action::Leave),
            Change::Kill => self.world.kill(member),
            Change::PowerOff => self.world.end(member, false),
        }
        Some(member)
    }
}
