//! What the outside sees of the cluster: an immutable snapshot, replaced on every change.
//!
//! The membership driver publishes it; the API and the metrics read it and never
//! wait for the cluster.

use std::net::SocketAddr;
use std::time::SystemTime;

use crate::attributes::{BrokerStatus, Tags};
use crate::node::{ClusterId, Incarnation, NodeName, Role};
use serde::{Deserialize, Serialize};

/// `state` of the cluster route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ClusterState {
    /// Discovery has not answered, or nobody it named has been tried yet.
    Forming,
    /// A member of a cluster; in manual mode also of a cluster of one.
    Joined,
    /// Left it, and stays out until told otherwise.
    Left,
    /// The `singleton` strategy.
    Singleton,
}

/// `status` of a member.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    Hash,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum MemberStatus {
    /// Heard from.
    Up,
    /// Silent for a while, and given time to object.
    Suspect,
    /// Stopped, crashed or cut off.
    Down,
}

impl MemberStatus {
    /// As the API spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Suspect => "suspect",
            Self::Down => "down",
        }
    }
}

/// `link` of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LinkState {
    /// A link is up.
    Connected,
    /// None is up and none is wanted: others watch this member.
    Idle,
    /// None is up, and one is wanted.
    None,
}

impl LinkState {
    /// As the API spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Connected => "connected",
            Self::Idle => "idle",
            Self::None => "none",
        }
    }
}

/// The last change of a member's status, and on whose word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastChange {
    /// The status before; `None` when the member was new.
    pub from: Option<MemberStatus>,
    /// The status since.
    pub to: MemberStatus,
    /// What was observed, as a code out of a fixed list.
    pub reason: &'static str,
    /// The same for people.
    pub text: String,
    /// Who observed it.
    pub by: NodeName,
    /// When this node learned of it.
    pub at: SystemTime,
}

/// The broker beside a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerView {
    /// `host:port` that clients connect to.
    pub address: String,
    /// What its agent's probe found.
    pub status: BrokerStatus,
    /// When this node learned of the status.
    pub since: SystemTime,
    /// Why, in words; may be empty.
    pub detail: String,
}

/// One member as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The node's name.
    pub node: NodeName,
    /// Whether it is up.
    pub status: MemberStatus,
    /// Its role.
    pub role: Role,
    /// Where its mesh port was last reached, or told to be.
    pub address: Option<SocketAddr>,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// When this node learned of the present status.
    pub since: SystemTime,
    /// Whether this node holds a link to it.
    pub link: LinkState,
    /// Round trip of the last answered probe, microseconds.
    pub rtt_us: Option<u64>,
    /// The agent's version; empty when never told.
    pub version: String,
    /// Whether it is this node itself.
    pub is_self: bool,
    /// The last change of its status.
    pub last_change: Option<LastChange>,
    /// `agent.tags` of its configuration.
    pub tags: Tags,
    /// Why it serves nobody new, possibly empty; `None`: it does not drain.
    pub draining: Option<String>,
    /// The broker beside it; `None` where its agent was not told of one.
    pub broker: Option<BrokerView>,
}

impl Member {
    /// A core that is up since then, and of which nothing else is known.
    #[must_use]
    pub fn new(node: NodeName, since: SystemTime) -> Self {
        Self {
            node,
            status: MemberStatus::Up,
            role: Role::Core,
            address: None,
            incarnation: Incarnation(1),
            since,
            link: LinkState::Idle,
            rtt_us: None,
            version: String::new(),
            is_self: false,
            last_change: None,
            tags: Tags::default(),
            draining: None,
            broker: None,
        }
    }

    /// Whether clients may be sent to it: it is up, does not drain, and its broker is not
    /// down.
    #[must_use]
    pub fn serves(&self) -> bool {
        let down = self.broker.as_ref().is_some_and(|broker| broker.status == BrokerStatus::Down);
        self.status == MemberStatus::Up && self.draining.is_none() && !down
    }
}

/// A rule by which two nodes refuse each other: neither comes in while it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// `node.cookie`.
    Cookie,
    /// A certificate, at one end or the other.
    Certificate,
    /// `cluster.name`.
    ClusterName,
    /// No protocol version in common.
    Version,
    /// The name is another's: taken, or not what the node there calls itself.
    NodeName,
    /// What is there speaks TLS where we speak plain TCP, or the reverse, or neither.
    Carrier,
}

/// That a node and this one refuse each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The other node.
    pub node: NodeName,
    /// By which rule.
    pub rule: Rule,
    /// What was seen, in words.
    pub text: String,
}

/// How discovery fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryView {
    /// Whether rounds are run.
    pub enabled: bool,
    /// Whether it answered at least once, or need not.
    pub answered: bool,
    /// The last answer, sorted.
    pub nodes: Vec<NodeName>,
    /// When it last answered.
    pub last_success: Option<SystemTime>,
    /// Why the newest round failed; `None` when it did not.
    pub last_error: Option<String>,
    /// What an operator should know of the newest answer: what the backend keeps from this
    /// node, or that this node is not in it.
    pub notices: Vec<String>,
}

/// Everything a read of the API can ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// `cluster.name`.
    pub name: String,
    /// `cluster.description`.
    pub description: String,
    /// The cluster's id; `None` while forming.
    pub id: Option<ClusterId>,
    /// This node.
    pub self_node: NodeName,
    /// The strategy's name.
    pub strategy: &'static str,
    /// The carrier's name.
    pub proto_dist: &'static str,
    /// Where this node stands.
    pub state: ClusterState,
    /// Every member, sorted by name, this node among them unless it left.
    pub members: Vec<Member>,
    /// Hash over what all members should agree on.
    pub view_hash: u64,
    /// Members whose last reported hash differs from ours.
    pub disagreeing: Vec<NodeName>,
    /// Whether more than half of the known cores are up.
    pub majority: bool,
    /// How discovery fares.
    pub discovery: DiscoveryView,
    /// Another live process holds this node's name: who refused us, and why.
    pub conflict: Option<String>,
    /// Nodes that are wanted, not linked, and of which the last attempt ended by a rule.
    pub refusals: Vec<Refusal>,
}

impl Snapshot {
    /// What a node shows of these members, sorted by name, when all is well: joined, with the
    /// majority, in agreement, and nothing heard of discovery.
    #[must_use]
    pub fn new(self_node: NodeName, members: Vec<Member>) -> Self {
        Self {
            name: String::new(),
            description: String::new(),
            id: None,
            self_node,
            strategy: "static",
            proto_dist: "inet_tcp",
            state: ClusterState::Joined,
            members,
            view_hash: 0,
            disagreeing: Vec::new(),
            majority: true,
            discovery: DiscoveryView::default(),
            conflict: None,
            refusals: Vec::new(),
        }
    }

    /// Names of members whose status passes, sorted.
    pub fn nodes(&self, pass: impl Fn(MemberStatus) -> bool) -> impl Iterator<Item = &NodeName> {
        self.members.iter().filter(move |m| pass(m.status)).map(|m| &m.node)
    }

    /// Names of the members that are up or suspect, sorted.
    pub fn running(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes(|status| status != MemberStatus::Down)
    }

    /// Names of the members that are down, sorted.
    pub fn stopped(&self) -> impl Iterator<Item = &NodeName> {
        self.nodes(|status| status == MemberStatus::Down)
    }
}
// x
