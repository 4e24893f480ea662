use super::*;
use crate::node::ClusterId;
use crate::view::{DiscoveryView, Member};

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

fn config() -> Config {
    let text = "node.name = \"emqx1@a.io\"\nnode.cookie = \"a-cookie-for-tests-only\"\n\
                cluster.discovery_strategy = static\n\
                cluster.static.seeds = [\"emqx1@a.io\", \"emqx2@a.io\"]\n";
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("emqx.conf");
    std::fs::write(&file, text).unwrap();
    crate::config::load(&[file], []).unwrap().config
}

fn member(name: &str, status: MemberStatus, link: LinkState) -> Member {
    let is_self = name == "emqx1@a.io";
    Member { status, link, is_self, ..Member::new(node(name), std::time::SystemTime::UNIX_EPOCH) }
}

fn alone() -> Snapshot {
    let members = vec![member("emqx1@a.io", MemberStatus::Up, LinkState::Idle)];
    Snapshot {
        id: Some(ClusterId(1)),
        discovery: DiscoveryView {
            enabled: true,
            answered: true,
            nodes: vec![node("emqx1@a.io"), node("emqx2@a.io")],
            ..DiscoveryView::default()
        },
        ..Snapshot::new(node("emqx1@a.io"), members)
    }
}

fn failed(snapshot: &Snapshot) -> Vec<(&'static str, String)> {
    let checks = checks(snapshot, &config());
    checks.into_iter().filter(|c| !c.ok).map(|c| (c.name, c.reason)).collect()
}

#[test]
fn alone_among_nodes_that_do_not_answer_is_ready() {
    assert_eq!(failed(&alone()), []);
}

#[test]
fn a_named_node_that_refuses_counts_while_nobody_is_linked() {
    let mut snapshot = alone();
    let refusal = |name: &str| Refusal {
        node: node(name),
        rule: Rule::Cookie,
        text: "wrong cookie".to_owned(),
    };
    snapshot.refusals = vec![refusal("emqx2@a.io")];
    let reason = "none linked of 1 named: emqx2@a.io: wrong cookie -> give both nodes the same \
                  node.cookie";
    assert_eq!(failed(&snapshot), [("peers", reason.to_owned())]);
    snapshot.members.push(member("emqx3@a.io", MemberStatus::Up, LinkState::Connected));
    assert_eq!(failed(&snapshot), [], "one link is enough");
    snapshot.members.pop();
    snapshot.refusals = vec![refusal("stranger@b.io")];
    assert_eq!(failed(&snapshot), [], "a stranger refuses nothing that counts");
}

#[test]
fn one_of_two_that_stopped_leaves_the_other_ready() {
    let mut snapshot = alone();
    snapshot.majority = false;
    snapshot.members.push(member("emqx2@a.io", MemberStatus::Down, LinkState::None));
    assert_eq!(failed(&snapshot), []);
    let mut strict = config();
    strict.agent.ready.majority = true;
    let checks = checks(&snapshot, &strict);
    let failed: Vec<_> = checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
    assert_eq!(failed, ["majority"], "only where that is asked for");
}

#[test]
fn a_node_that_drains_is_not_ready() {
    let mut snapshot = alone();
    snapshot.members[0].draining = Some("upgrade".into());
    let reason = "this node is draining: upgrade -> muster undrain";
    assert_eq!(failed(&snapshot), [("draining", reason.to_owned())]);
}

#[test]
fn a_node_that_its_own_view_lacks_is_not_ready() {
    let mut snapshot = alone();
    snapshot.members = vec![member("emqx2@a.io", MemberStatus::Up, LinkState::Connected)];
    assert_eq!(failed(&snapshot)[0].0, "own_view");
    snapshot.state = ClusterState::Left;
    snapshot.members.clear();
    assert_eq!(
        failed(&snapshot).iter().map(|(name, _)| *name).collect::<Vec<_>>(),
        ["state", "min_members"]
    );
}
