//! What the machine is told at its start, and its time constants.

use std::collections::BTreeMap;
use std::time::Duration;

use super::limits::Limits;
use super::record::{Epoch, Record};
use crate::node::{BootId, ClusterId, Incarnation, NodeName, Role};

/// Who this node is and how it behaves.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `node.name`.
    pub node: NodeName,
    /// This process life.
    pub boot: BootId,
    /// `node.role`.
    pub role: Role,
    /// This agent's version, at most [`super::record::MAX_VERSION`] bytes.
    pub version: String,
    /// `cluster.name`.
    pub cluster: String,
    /// Whether the strategy joins what it discovers.
    pub automatic: bool,
    /// `cluster.autoheal`.
    pub autoheal: bool,
    /// `cluster.autoclean`; `None`: never.
    pub autoclean: Option<Duration>,
    /// `agent.mesh.full_mesh_limit`.
    pub full_mesh_limit: usize,
    /// `agent.leave_on_stop`, as it comes out: whether a stop leaves the cluster, and the
    /// next start joins it again. For nodes whose names never come back.
    pub leave_on_stop: bool,
    /// Up to so many records a view is sent whole where views differ; beyond, the hashes
    /// of its parts go first. More costs bytes, less costs round trips.
    pub whole_view_limit: usize,
    /// Bounds of tables.
    pub limits: Limits,
    /// Time constants.
    pub timing: Timing,
}

impl super::Membership {
    /// What of the settings may change while the node runs. It counts from the next
    /// healing and the next look at who is down.
    pub fn reconfigure(&mut self, autoheal: bool, autoclean: Option<Duration>) {
        self.settings.autoheal = autoheal;
        self.settings.autoclean = autoclean;
    }
}

impl Settings {
    /// How many records are sent whole, unless there is a reason for another number: some
    /// 5 KiB.
    pub const WHOLE_VIEW: usize = 64;
}

/// Time constants. The defaults keep §8's promises: a silent member is down within
/// `probe_period + 2 × ack_timeout + suspicion`, below three seconds for any
/// cluster in a full mesh.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// One member is probed in every period. Longer is cheaper and detects later.
    pub probe_period: Duration,
    /// How long a probe, and then the helpers' probes, may take at least; scaled up
    /// with the measured round trip and with this node's own ill health.
    pub ack_timeout: Duration,
    /// How long a helper waits for the target before it says that it is silent too;
    /// below `ack_timeout`, so that the answer comes in time.
    pub helper_timeout: Duration,
    /// Time to object to a suspicion that enough others confirm.
    pub suspicion_min: Duration,
    /// Time to object to a suspicion that nobody confirms.
    pub suspicion_max: Duration,
    /// How late a timer must be for this node to think itself slow.
    pub lag: Duration,
    /// News wait so long for others to travel with them.
    pub gossip_delay: Duration,
    /// Time between two rounds of gossip.
    pub gossip_interval: Duration,
    /// The same where news come without end.
    pub gossip_pause: Duration,
    /// A view that has not changed for so long is told to the neighbours.
    pub settle: Duration,
    /// Least time between two repairs of differing views.
    pub repair_interval: Duration,
    /// First delay after a failed dial; doubles with every failure.
    pub redial_min: Duration,
    /// Where discovery names many, the next few are dialled after this, unless they are
    /// known by then from those before.
    pub contact_pause: Duration,
    /// Longest delay between two dials of one node.
    pub redial_max: Duration,
    /// The same where a link ended unasked: whoever held it finds out at once what became
    /// of its node, also when the first dial is accepted by a socket about to close.
    pub redial_follow: Duration,
    /// Delay after a peer refused us by a rule that only an operator can change.
    pub redial_refused: Duration,
    /// A node that dialled must have said hello by then.
    pub hello_timeout: Duration,
    /// The holder of a name must have answered by then when another process claims it.
    pub challenge_timeout: Duration,
    /// Longest wait for the nodes that discovery named before a cluster is founded.
    pub founding_grace: Duration,
    /// How long an operator's join or invitation is tried.
    pub request_timeout: Duration,
    /// A link that neither side needs is closed after this.
    pub idle_link: Duration,
    /// From then on this process holds its name against newcomers.
    pub established: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            probe_period: ms(320),
            ack_timeout: ms(320),
            helper_timeout: ms(220),
            suspicion_min: ms(700),
            suspicion_max: ms(1300),
            lag: ms(150),
            gossip_delay: ms(3),
            gossip_interval: ms(40),
            gossip_pause: ms(500),
            settle: ms(250),
            repair_interval: ms(1000),
            redial_min: ms(200),
            contact_pause: ms(250),
            redial_max: ms(4000),
            redial_follow: ms(3),
            redial_refused: ms(10_000),
            hello_timeout: ms(3000),
            challenge_timeout: ms(1000),
            founding_grace: ms(1000),
            request_timeout: ms(8000),
            idle_link: ms(10_000),
            established: ms(5000),
        }
    }
}

/// What must survive a restart. The records hold members and tombstones, not this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    /// The cluster this node belongs to.
    pub id: Option<ClusterId>,
    /// How often this node has joined.
    pub epoch: Epoch,
    /// The highest incarnation this node has used.
    pub incarnation: Incarnation,
    /// Whether it left.
    pub left: bool,
    /// Whether an operator switched discovery off.
    pub discovery_off: bool,
    /// Why this node drains, if it does.
    pub draining: Option<String>,
    /// Members and tombstones.
    pub records: Vec<Record>,
    /// Which member brought which, of those that no link has proven.
    pub brought: BTreeMap<NodeName, NodeName>,
}
