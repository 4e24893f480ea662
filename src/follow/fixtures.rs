//! Snapshots for tests of what follows them.

use std::time::SystemTime;

use crate::attributes::{BrokerStatus, Tags};
use crate::node::{Incarnation, NodeName, Role};
use crate::view::{
    BrokerView, ClusterState, DiscoveryView, LinkState, Member, MemberStatus, Snapshot,
};

pub(super) fn node(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

/// A core that is up, with a broker that is up at its host.
pub(super) fn member(name: &str) -> Member {
    let node = node(name);
    let host = match node.host_str() {
        host if host.contains(':') => format!("[{host}]"),
        host => host.to_owned(),
    };
    Member {
        broker: Some(BrokerView {
            address: format!("{host}:1883"),
            status: BrokerStatus::Up,
            since: SystemTime::UNIX_EPOCH,
            detail: String::new(),
        }),
        node,
        status: MemberStatus::Up,
        role: Role::Core,
        address: None,
        incarnation: Incarnation(1),
        since: SystemTime::UNIX_EPOCH,
        link: LinkState::Connected,
        rtt_us: None,
        version: String::new(),
        is_self: false,
        last_change: None,
        tags: Tags::default(),
        draining: None,
    }
}

/// What the first of the members sees.
pub(super) fn snapshot(mut members: Vec<Member>) -> Snapshot {
    let self_node = members[0].node.clone();
    members[0].is_self = true;
    members.sort_by(|a, b| a.node.cmp(&b.node));
    Snapshot {
        name: "emqxcl".to_owned(),
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

/// Changes one member.
pub(super) fn with(snapshot: &mut Snapshot, name: &str, change: impl FnOnce(&mut Member)) {
    let member = snapshot.members.iter_mut().find(|member| member.node.as_str() == name);
    change(member.unwrap());
}
