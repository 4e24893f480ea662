//! What one seed decides before the first step: the clusters, the network, and which
//! faults may strike. Every history draws its own subset of faults, since some bugs
//! show only where others are quiet.

use std::time::Duration;

use muster::node::Role;
use muster::protocol::membership::Limits;
use rand::rngs::SmallRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};

/// How likely a history of some kind has many members: one takes as long as a hundred others.
const LARGE: f64 = 0.002;

/// Everything that can be done to a simulated cluster, by operators and by fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// `kill -9`: the host answers for the dead process.
    Kill,
    /// The host is gone, and answers nothing.
    PowerOff,
    /// A dead process is started again from its disk.
    Start,
    /// Started again with an empty disk.
    StartEmpty,
    /// SIGTERM.
    Stop,
    /// Every node is stopped and started, one after another.
    Rotation,
    /// Everybody is killed at once and started again.
    ColdRestart,
    /// The disk takes seconds, or nothing at all.
    SlowDisk,
    /// The network falls into two or three parts.
    Partition,
    /// Single pairs cannot talk.
    CutPairs,
    /// Frames go one way only.
    OneWay,
    /// A link breaks; the network is fine.
    BreakLink,
    /// Segments are lost and sent again.
    Loss,
    /// A process takes long for each input.
    Slow,
    /// SIGSTOP, then SIGCONT.
    Freeze,
    /// A suspended machine: its clock stood still too.
    Suspend,
    /// Discovery fails.
    DiscoveryError,
    /// Discovery answers what was true once.
    DiscoveryLag,
    /// Discovery names nobody, only some, or strangers.
    DiscoveryLies,
    /// Operators.
    Join,
    /// Operators.
    Leave,
    /// Operators.
    ForceLeave,
    /// Operators.
    Invite,
    /// Operators.
    DiscoveryOff,
    /// Operators.
    DiscoveryOn,
    /// A second process under a name that is taken.
    Rogue,
    /// One node is cut off from all others, both ways or one.
    Isolate,
    /// A node goes for good, and one under a new name comes in its place.
    Replace,
    /// A member says whatever the wire can carry.
    Lie,
    /// Somebody links who is not admitted, and talks.
    Stranger,
    /// Operators.
    Purge,
    /// A member says something else of itself: its tags, its broker, its drain.
    Describe,
}

/// All of them, with how often they are tried beside each other.
pub const FAULTS: [(Fault, u32); 26] = [
    (Fault::Kill, 6),
    (Fault::PowerOff, 3),
    (Fault::Start, 14),
    (Fault::StartEmpty, 3),
    (Fault::Stop, 4),
    (Fault::Rotation, 1),
    (Fault::ColdRestart, 1),
    (Fault::SlowDisk, 2),
    (Fault::Partition, 5),
    (Fault::CutPairs, 4),
    (Fault::OneWay, 4),
    (Fault::BreakLink, 5),
    (Fault::Loss, 3),
    (Fault::Slow, 3),
    (Fault::Freeze, 4),
    (Fault::Suspend, 3),
    (Fault::DiscoveryError, 2),
    (Fault::DiscoveryLag, 2),
    (Fault::DiscoveryLies, 3),
    (Fault::Join, 4),
    (Fault::Leave, 3),
    (Fault::ForceLeave, 3),
    (Fault::Invite, 3),
    (Fault::DiscoveryOff, 1),
    (Fault::DiscoveryOn, 3),
    (Fault::Rogue, 1),
];

/// What only histories of certain kinds know, see [`Plan::draw`].
pub const KINDS: [(Fault, u32); 6] = [
    (Fault::Isolate, 6),
    (Fault::Replace, 8),
    (Fault::Lie, 10),
    (Fault::Stranger, 6),
    (Fault::Purge, 1),
    (Fault::Describe, 6),
];

/// One configured cluster.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// `cluster.name`.
    pub name: String,
    /// Whether the strategy joins what it discovers.
    pub automatic: bool,
    /// `cluster.autoheal`.
    pub autoheal: bool,
    /// `cluster.autoclean`.
    pub autoclean: Option<Duration>,
    /// `agent.mesh.full_mesh_limit`.
    pub full_mesh_limit: usize,
    /// Up to so many records a view is sent whole.
    pub whole_view_limit: usize,
    /// Nodes of different cookies never finish a handshake.
    pub cookie: u8,
    /// Discovery knows the nodes that run (etcd), else all that are configured (static).
    pub registry: bool,
    /// `agent.leave_on_stop`.
    pub leave_on_stop: bool,
    /// Bounds of its members' tables.
    pub limits: Limits,
}

/// One configured node.
#[derive(Clone, Debug)]
pub struct NodePlan {
    /// Index into [`Plan::clusters`].
    pub cluster: usize,
    /// `node.role`.
    pub role: Role,
    /// When its process is first started.
    pub start: Duration,
}

/// One history before it happens.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Decides all the rest.
    pub seed: u64,
    /// The clusters in this network, which may hear of each other.
    pub clusters: Vec<ClusterPlan>,
    /// The nodes.
    pub nodes: Vec<NodePlan>,
    /// One-way delay of a segment.
    pub latency: Duration,
    /// At most so much more, per segment.
    pub jitter: Duration,
    /// Frames queued for a link at most.
    pub queue: usize,
    /// After so much silence a link is given up by the mesh.
    pub silence: Duration,
    /// A write to disk takes at most so long.
    pub disk: Duration,
    /// Between two rounds of discovery.
    pub discovery: Duration,
    /// How far processes' clocks run fast or slow.
    pub skew: f64,
    /// How long faults strike; zero: none at all.
    pub chaos: Duration,
    /// Mean time between two faults.
    pub gap: Duration,
    /// What may strike.
    pub faults: Vec<(Fault, u32)>,
    /// The node that lies.
    pub liar: Option<usize>,
    /// Bytes that a link takes in a second, in each direction; `None`: any number.
    pub bandwidth: Option<u64>,
    /// Tombstones that are on disks before anything happens.
    pub tombstones: usize,
    /// What is measured after everybody agrees.
    pub scene: Option<Scene>,
}

/// What happens to one node when all else is quiet, and has to be known in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// It is cut off from all others.
    CutOff,
    /// It hears nobody.
    Deaf,
    /// Nobody hears it.
    Mute,
    /// It is killed, and started again.
    Killed,
    /// It is frozen.
    Frozen,
    /// It is stopped, and started again.
    Stopped,
}

impl Plan {
    /// Draws a plan. Half of the histories are of one kind or several: of a hostile member,
    /// large tables, narrow links, names that change without end, stops that leave, isolated
    /// nodes, strangers, members that say more of themselves. The others are what
    /// [`Plan::basic`] draws, and stay what they are.
    pub fn draw(seed: u64) -> Self {
        let mut plan = Self::basic(seed);
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x517c_c1b7_2722_0a95);
        if rng.random_bool(0.5) {
            plan.add_kinds(&mut rng);
        }
        plan
    }

    fn add_kinds(&mut self, rng: &mut SmallRng) {
        let mut is_of = |probability| rng.random_bool(probability);
        let (lies, replaces, isolates) = (is_of(0.35), is_of(0.3), is_of(0.3));
        let (strangers, purges) = (is_of(0.35), is_of(0.2));
        let (buries, is_narrow, leaves) = (is_of(0.25), is_of(0.25), is_of(0.3));
        let (is_small, has_scene) = (is_of(0.15), is_of(0.6));
        let describes = is_of(0.5);
        if !self.chaos.is_zero() {
            let drawn = [isolates, replaces, lies, strangers, purges, describes];
            let drawn = KINDS.into_iter().zip(drawn).filter(|(_, is_drawn)| *is_drawn);
            self.faults.extend(drawn.map(|(kind, _)| kind));
        }
        if lies && !self.chaos.is_zero() {
            self.liar = Some(rng.random_range(0..self.nodes.len()));
        }
        if is_narrow {
            let rates = [60_000, 150_000, 400_000, 1_000_000];
            self.bandwidth = rates.choose(rng).copied();
        }
        if buries {
            self.tombstones = match rng.random_range(0..20) {
                0..15 => rng.random_range(20..300),
                15..19 => rng.random_range(300..1_000),
                _ => rng.random_range(1_000..3_000),
            };
        }
        if is_small {
            let limits = Limits {
                members: rng.random_range(60..120),
                tombstones: rng.random_range(20..200),
                unproven_at_once: rng.random_range(25..60),
                unproven_per_second: rng.random_range(5..60),
                news_at_once: rng.random_range(8..200),
                news_per_second: rng.random_range(2..16),
                rumours: rng.random_range(20..200),
            };
            self.clusters.iter_mut().for_each(|cluster| cluster.limits = limits);
        }
        if leaves {
            self.clusters.iter_mut().for_each(|cluster| cluster.leave_on_stop = true);
        }
        let scenes =
            [Scene::CutOff, Scene::Deaf, Scene::Mute, Scene::Killed, Scene::Frozen, Scene::Stopped];
        self.scene = scenes.choose(rng).copied().filter(|_| has_scene);
        for cluster in &mut self.clusters {
            cluster.whole_view_limit = match rng.random_range(0..3) {
                0 => rng.random_range(2..9),
                1 => rng.random_range(9..64),
                _ => 64,
            };
        }
        if rng.random_bool(LARGE) {
            self.grow(rng.random_range(60..130));
        }
    }

    /// So many members of the first cluster, and faults for as long as that takes to run.
    fn grow(&mut self, members: usize) {
        let like = self.nodes[0].clone();
        self.nodes.resize(members.max(self.nodes.len()), like);
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.start += Duration::from_millis(index as u64);
        }
        self.chaos = self.chaos.min(Duration::from_secs(5));
        self.tombstones = self.tombstones.min(300);
        for cluster in &mut self.clusters {
            cluster.limits.members = cluster.limits.members.max(2 * members);
        }
    }

    /// Whether members say more of themselves than that they are there.
    pub fn describes(&self) -> bool {
        self.faults.iter().any(|(fault, _)| *fault == Fault::Describe)
    }

    /// What [`Plan::basic`] draws, and no fault.
    pub fn undisturbed(seed: u64) -> Self {
        Self { chaos: Duration::ZERO, ..Self::basic(seed) }
    }

    /// A history of the faults in [`FAULTS`].
    pub fn basic(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x9e37_79b9_7f4a_7c15);
        let ms = Duration::from_millis;
        let second = rng.random_bool(0.15);
        let clusters: Vec<ClusterPlan> = (0..=u8::from(second))
            .map(|index| ClusterPlan {
                name: if index == 0 { "emqxcl" } else { "other" }.to_owned(),
                automatic: rng.random_bool(0.75),
                autoheal: rng.random_bool(0.85),
                autoclean: rng.random_bool(0.4).then(|| ms(rng.random_range(15_000..60_000))),
                full_mesh_limit: if rng.random_bool(0.3) { 6 } else { 64 },
                whole_view_limit: if rng.random_bool(0.5) { rng.random_range(2..9) } else { 64 },
                cookie: if rng.random_bool(0.3) { index } else { 0 },
                registry: rng.random_bool(0.5),
                leave_on_stop: false,
                limits: Limits::default(),
            })
            .collect();
        let count = match rng.random_range(0..10) {
            0..6 => rng.random_range(3..=6),
            6..9 => rng.random_range(5..=12),
            _ => rng.random_range(10..=20),
        };
        let at_once = rng.random_bool(0.6);
        let spread = if at_once { 300 } else { 8000 };
        let nodes = (0..count)
            .map(|index| NodePlan {
                cluster: if index < 2 { 0 } else { rng.random_range(0..clusters.len()) },
                role: if rng.random_bool(0.85) { Role::Core } else { Role::Replicant },
                start: ms(rng.random_range(0..spread)),
            })
            .collect();
        let fair = rng.random_bool(0.05);
        let share = rng.random_range(0.15..1.0);
        let mut faults: Vec<_> =
            FAULTS.into_iter().filter(|_| rng.random_bool(share)).collect::<Vec<_>>();
        let kills =
            |f: &Fault| matches!(f, Fault::Kill | Fault::PowerOff | Fault::Stop | Fault::Rotation);
        if faults.iter().any(|(f, _)| kills(f)) && !faults.contains(&FAULTS[2]) {
            faults.push(FAULTS[2]);
        }
        faults.shuffle(&mut rng);
        let chaos = if fair || faults.is_empty() { 0 } else { rng.random_range(5_000..45_000) };
        Self {
            seed,
            clusters,
            nodes,
            latency: Duration::from_micros(
                *[50, 200, 1_000, 10_000, 40_000, 300_000]
                    .get(rng.random_range(0..6usize))
                    .unwrap_or(&50),
            ),
            jitter: Duration::from_micros(rng.random_range(1..20_000)),
            queue: *[8, 64, 1024].get(rng.random_range(0..3usize)).unwrap_or(&64),
            silence: ms(rng.random_range(8_000..60_000)),
            disk: ms(rng.random_range(1..60)),
            discovery: ms(rng.random_range(300..5_000)),
            skew: if rng.random_bool(0.5) { 0.1 } else { 0.0 },
            chaos: ms(chaos),
            gap: ms(rng.random_range(150..3_000)),
            faults,
            liar: None,
            bandwidth: None,
            tombstones: 0,
            scene: None,
        }
    }
}
