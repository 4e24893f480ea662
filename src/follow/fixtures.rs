//! Snapshots for tests of what follows them.

use std::time::SystemTime;

use crate::attributes::BrokerStatus;
use crate::node::NodeName;
use crate::view::{BrokerView, LinkState, Member, Snapshot};

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
    let broker = BrokerView {
        address: format!("{host}:1883"),
        status: BrokerStatus::Up,
        since: SystemTime::UNIX_EPOCH,
        detail: String::new(),
    };
    Member {
        link: LinkState::Connected,
        broker: Some(broker),
        ..Member::new(node, SystemTime::UNIX_EPOCH)
    }
}

/// What the first of the members sees.
pub(super) fn snapshot(mut members: Vec<Member>) -> Snapshot {
    let self_node = members[0].node.clone();
    members[0].is_self = true;
    members.sort_by(|a, b| a.node.cmp(&b.node));
    Snapshot { name: "emqxcl".to_owned(), ..Snapshot::new(self_node, members) }
}

/// Changes one member.
pub(super) fn with(snapshot: &mut Snapshot, name: &str, change: impl FnOnce(&mut Member)) {
    let member = snapshot.members.iter_mut().find(|member| member.node.as_str() == name);
    change(member.unwrap());
}
