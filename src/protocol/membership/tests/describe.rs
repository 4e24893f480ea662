//! What a member says of itself beyond being there, and who hears of it.

use super::*;
use crate::attributes::{Attributes, Broker, BrokerStatus, Tags};

fn tags(zone: &str) -> Tags {
    let mut tags = Tags::default();
    tags.insert("zone", zone).unwrap();
    tags
}

fn broker(status: BrokerStatus) -> Option<Broker> {
    Some(Broker { address: "127.0.0.1:1883".to_owned(), status, detail: "says so".to_owned() })
}

fn said(net: &Net, at: u64, of: u64) -> Attributes {
    let record = net.nodes[&name(at)].table().member(&name(of)).unwrap();
    record.attributes.as_deref().cloned().unwrap_or_default()
}

fn updates(net: &Net, at: u64, of: u64) -> usize {
    let of = name(of);
    let told = net.news.iter().filter(|(node, news)| *node == name(at) && news.node == of);
    told.filter(|(_, news)| news.reason == Reason::Updated).count()
}

#[test]
fn everybody_hears_what_a_member_says_of_itself_and_reports_each_change_once() {
    let mut net = Net::cluster(5);
    let describe = Action::Describe { tags: tags("a"), broker: broker(BrokerStatus::Down) };
    assert_eq!(net.ask(2, describe.clone()), Ok(()));
    assert_eq!(net.ask(2, describe), Ok(()));
    assert_eq!(net.ask(2, Action::Drain { reason: "disk".to_owned() }), Ok(()));
    net.run(Duration::from_secs(2));
    let expected = Attributes {
        tags: tags("a"),
        draining: Some("disk".to_owned()),
        broker: broker(BrokerStatus::Down),
    };
    for at in 1..=5 {
        assert_eq!(said(&net, at, 2), expected, "at {at}");
        assert!(!said(&net, at, 2).serves());
        assert_eq!(updates(&net, at, 2), 2, "at {at}");
    }
    let describe = Action::Describe { tags: Tags::default(), broker: None };
    assert_eq!(net.ask(2, describe), Ok(()));
    assert_eq!(net.ask(2, Action::Undrain), Ok(()));
    net.run(Duration::from_secs(2));
    net.assert_agreed(&["n1", "n2", "n3", "n4", "n5"]);
    assert!((1..=5).all(|at| said(&net, at, 2) == Attributes::default()));
}

/// What a member says of itself first, at its start, hid that it joined and that it is up again.
#[test]
fn what_a_member_says_of_itself_hides_no_change_of_its_health() {
    let mut net = Net::cluster(2);
    let describe = |zone| Action::Describe { tags: tags(zone), broker: None };
    net.start(Settings { automatic: true, ..settings(3, true) }, Durable::default());
    assert_eq!(net.ask(3, describe("a")), Ok(()));
    net.discover_all();
    net.run(Duration::from_secs(2));
    let durable = net.nodes[&name(3)].durable();
    net.kill(3);
    net.run(Duration::from_secs(2));
    net.start(Settings { boot: BootId(77), ..settings(3, true) }, durable);
    assert_eq!(net.ask(3, describe("b")), Ok(()));
    net.run(Duration::from_secs(2));
    let told = net.news.iter().filter(|(at, news)| *at == name(1) && news.node == name(3));
    let told: Vec<_> = told.map(|(_, news)| (news.from, news.to.health(), news.reason)).collect();
    let (up, down) = (Some(Health::Up), Some(Health::Down));
    assert_eq!(
        told,
        [
            (None, up, Reason::Announced),
            (up, down, Reason::Refused),
            (down, up, Reason::Restarted),
            (up, up, Reason::Updated),
        ]
    );
}

/// Nor does the word of whoever claims that it does.
#[test]
fn no_claim_hides_a_change_of_health() {
    let held = Net::cluster(1).nodes[&name(1)].me().clone();
    let claimed = Record { reason: Some(Reason::Updated), ..held };
    assert_eq!(claimed.reason(), Reason::Other);
}

#[test]
fn a_drain_outlasts_a_restart_and_tags_are_the_configurations() {
    let mut net = Net::cluster(3);
    assert_eq!(net.ask(2, Action::Describe { tags: tags("a"), broker: None }), Ok(()));
    assert_eq!(net.ask(2, Action::Drain { reason: String::new() }), Ok(()));
    let durable = net.nodes[&name(2)].durable();
    assert_eq!(durable.draining.as_deref(), Some(""));
    net.kill(2);
    net.start(Settings { boot: BootId(77), ..settings(2, true) }, durable);
    net.run(Duration::from_secs(1));
    let draining = Attributes { draining: Some(String::new()), ..Attributes::default() };
    assert!((1..=3).all(|at| said(&net, at, 2) == draining));
    // It leaves, stops draining while it is out, and comes back.
    assert_eq!(net.ask(2, Action::Leave), Ok(()));
    assert_eq!(net.ask(2, Action::Undrain), Ok(()));
    assert_eq!(net.ask(2, Action::SetDiscovery { enabled: true }), Ok(()));
    net.discover_all();
    net.run(Duration::from_secs(15));
    net.assert_agreed(&["n1", "n2", "n3"]);
    assert!((1..=3).all(|at| said(&net, at, 2) == Attributes::default()));
}

#[test]
fn what_is_out_of_bounds_is_refused() {
    let mut net = Net::cluster(1);
    for reason in ["x".repeat(201), "a\nb".to_owned()] {
        let refused = net.ask(1, Action::Drain { reason });
        assert!(matches!(refused, Err(RequestError::BadRequest(_))), "{refused:?}");
    }
    assert_eq!(net.nodes[&name(1)].durable().draining, None);
}

/// A relay of version 1 passes records on without what it does not know.
#[test]
fn what_a_relay_leaves_out_is_not_lost_where_it_was_heard() {
    let mut net = Net::cluster(3);
    assert_eq!(net.ask(2, Action::Describe { tags: tags("a"), broker: None }), Ok(()));
    net.run(Duration::from_secs(1));
    let machine = net.nodes.get_mut(&name(1)).unwrap();
    let held = machine.table().member(&name(2)).unwrap().clone();
    let accused = Record { attributes: None, ..held };
    let accused = accused.with(Standing::Member(Health::Suspect), Reason::Silent, &name(3));
    let (key, _) = machine.link(&name(3)).unwrap();
    let frame = Message::Gossip { id: None, news: vec![accused.clone()] }.encode();
    machine.handle_frame(net.now, key, &frame);
    let held = machine.table().member(&name(2)).unwrap().clone();
    assert_eq!(held.health(), Some(Health::Suspect));
    assert_eq!(held.attributes.as_deref().unwrap().tags, tags("a"));
    // And the other way round: what completes a record that is held is taken.
    assert_eq!(accused.join(&held), held);
    assert_eq!(held.join(&accused), held);
}

impl Net {
    /// A link from a node of version 1 that the test plays; all that it was sent so far.
    fn greet_v1(&mut self, to: u64, from: u64) -> LinkId {
        self.greet(to, from, from, |hello| {
            let me = Record { attributes: None, burial: 0, ..hello.me };
            Hello { protocol: 1, protocol_min: 1, view: None, me, automatic: true, ..hello }
        })
    }
}

/// With version 1 views are compared by its hash, which knows no tombstones.
#[test]
fn a_peer_of_version_1_is_told_version_1s_hash() {
    let mut net = Net::cluster(2);
    assert_eq!(net.ask(2, Action::Leave), Ok(()));
    let key = net.greet_v1(1, 9);
    let machine = net.nodes.get_mut(&name(1)).unwrap();
    while machine.poll_effect().is_some() {}
    let ping = Message::Ping { seq: 1, view: 0, wanted: true, id: None, news: Vec::new() };
    machine.handle_frame(net.now, key, &ping.encode());
    let (v1, v2) = (
        machine.table().view_hash(machine.id(), Version::V1),
        machine.table().view_hash(machine.id(), Version::V2),
    );
    assert_ne!(v1, v2);
    let told: Vec<u64> = std::iter::from_fn(|| machine.poll_effect())
        .filter_map(|effect| match effect {
            Effect::Send(to, frame) if to == key => Some(Message::decode(&frame).unwrap()),
            _ => None,
        })
        .filter_map(|message| match message {
            Message::Ack { view, .. } => Some(view),
            _ => None,
        })
        .collect();
    assert_eq!(told, [v1]);
    let view = Message::View { view: v1, id: machine.id() };
    machine.handle_frame(net.now, key, &view.encode());
    assert_eq!(machine.disagreeing().count(), 0);
}
