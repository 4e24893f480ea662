//! The cluster as a template sees it: the API's own shapes, so that `muster render` makes of
//! an agent's answers what the agent itself makes of its snapshots.

use serde::Serialize;

use crate::api::{Cluster, Member, Members};
use crate::attributes::BrokerStatus;
use crate::view::{ClusterState, LinkState, MemberStatus, Snapshot};

/// The port of a member whose agent says nothing of its broker: MQTT's own.
const MQTT_PORT: u16 = 1883;

/// What a file is rendered from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct View {
    pub(super) cluster: Cluster,
    members: Vec<Member>,
}

/// A member with the place that clients are sent to.
#[derive(Debug, Serialize)]
pub(super) struct Place<'a> {
    #[serde(flatten)]
    member: &'a Member,
    /// The host of `broker.address`, without brackets; else the node's own.
    host: String,
    /// The port of `broker.address`.
    port: u16,
}

impl From<&Snapshot> for View {
    fn from(snapshot: &Snapshot) -> Self {
        let members = snapshot.members.iter().map(Member::from).collect();
        Self { cluster: Cluster::from(snapshot), members }
    }
}

impl View {
    /// Out of the answers of an agent's API.
    pub(crate) fn new(cluster: Cluster, Members { mut members }: Members) -> Self {
        members.sort_by(|a, b| a.node.cmp(&b.node));
        Self { cluster, members }
    }

    /// Why nothing is rendered from it now; `None`: it may be.
    pub(crate) fn held(&self, require_majority: bool) -> Option<&'static str> {
        match self.cluster.state {
            ClusterState::Forming => Some("the cluster is still forming"),
            ClusterState::Left => Some("this node left its cluster"),
            ClusterState::Joined | ClusterState::Singleton => (require_majority
                && !self.cluster.majority)
                .then_some("this node is without the majority of the cores"),
        }
    }

    /// Whether another view differs from this in more than what changes by itself all the
    /// time: links, their round trips, and how discovery fares.
    pub(super) fn same_news(&self, other: &Self) -> bool {
        let (a, b) = (&self.cluster, &other.cluster);
        let standing =
            |member: &Member| Member { link: LinkState::None, rtt_ms: None, ..member.clone() };
        (&a.name, &a.id, a.state, a.majority) == (&b.name, &b.id, b.state, b.majority)
            && self.members.len() == other.members.len()
            && self.members.iter().zip(&other.members).all(|(a, b)| standing(a) == standing(b))
    }

    /// Every member, sorted by name.
    pub(super) fn members(&self) -> Vec<Place<'_>> {
        self.members.iter().map(Place::of).collect()
    }

    /// Those that clients may be sent to, sorted by name.
    pub(super) fn serving(&self) -> Vec<Place<'_>> {
        self.members.iter().filter(|member| serves(member)).map(Place::of).collect()
    }
}

/// As [`crate::view::Member::serves`], over the API's shape.
fn serves(member: &Member) -> bool {
    let down = member.broker.as_ref().is_some_and(|broker| broker.status == BrokerStatus::Down);
    member.status == MemberStatus::Up && !member.draining && !down
}

impl<'a> Place<'a> {
    fn of(member: &'a Member) -> Self {
        let told = member.broker.as_ref().and_then(|broker| split(&broker.address));
        let (host, port) = told.unwrap_or_else(|| (node_host(&member.node), MQTT_PORT));
        Self { member, host, port }
    }
}

/// The parts of `host:port`, an IPv6 host without its brackets.
fn split(address: &str) -> Option<(String, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    Some((host.to_owned(), port.parse().ok()?))
}

fn node_host(node: &str) -> String {
    node.rsplit_once('@').map_or(node, |(_, host)| host).to_owned()
}
