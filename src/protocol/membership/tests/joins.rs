//! Joins and invitations: an operator's word, and who may still act on it.

use super::*;

#[test]
fn manual_nodes_meet_only_on_an_operators_word() {
    let mut net = Net::new();
    for index in 1..=4 {
        net.start(settings(index, false), Durable::default());
    }
    net.run(Duration::from_secs(1));
    let join = |node, force| Action::Join { node: name(node), force };
    assert_eq!(net.ask(2, join(1, false)), Ok(()));
    assert_eq!(net.ask(3, join(2, false)), Ok(()));
    net.run(Duration::from_secs(1));
    assert_eq!(net.running(1), ["n1", "n2", "n3"]);
    assert_eq!(net.running(4), ["n4"]);
    // The wrong direction: node 1 has members, node 4 is another cluster.
    assert!(matches!(net.ask(1, join(4, false)), Err(RequestError::Conflict(_))));
    assert_eq!(net.ask(1, Action::Invite { node: name(4) }), Ok(()));
    net.run(Duration::from_secs(1));
    net.assert_agreed(&["n1", "n2", "n3", "n4"]);
}

#[test]
fn a_join_to_nobody_is_unreachable() {
    let mut net = Net::new();
    net.start(settings(1, false), Durable::default());
    let join = Action::Join { node: name(9), force: false };
    assert!(matches!(net.ask(1, join), Err(RequestError::Unreachable(_))));
}

/// Simulator, seed 26194: who joins us has been told the cluster we were in.
#[test]
fn who_joins_while_we_are_invited_elsewhere_begins_anew() {
    let mut net = Net::new();
    net.start(settings(1, false), Durable::default());
    let old = net.nodes[&name(1)].id();
    // The joiner's link is up and has our hello; its own is still on the way.
    let joiner = LinkId(7000);
    net.nodes.get_mut(&name(1)).unwrap().handle_link_up(net.now, joiner, &name(3), false, None);
    net.greet(1, 2, 102, |hello| Hello { intent: Intent::Invite, ..hello });
    let machine = net.nodes.get_mut(&name(1)).unwrap();
    assert_ne!(machine.id(), old);
    let played = Membership::new(settings(3, false), Durable::default(), net.now, 3);
    let hello = Hello { intent: Intent::Join, ..played.hello(&name(1), Intent::Join) };
    machine.handle_frame(net.now, joiner, &Message::Hello(Box::new(hello)).encode());
    assert!(machine.table().member(&name(3)).is_none());
    let closed = std::iter::from_fn(|| machine.poll_effect())
        .any(|effect| matches!(effect, Effect::Close(key, _) if key == joiner));
    assert!(closed);
}

/// Simulator, seed 6870: a node that had left, and was frozen, came back by an invitation of
/// which the operator had been told that it failed.
#[test]
fn an_invitation_ends_when_whoever_invites_gives_it_up() {
    for (waits, state) in [(7, State::Forming), (9, State::Left)] {
        let mut net = Net::new();
        net.start(settings(1, true), Durable { left: true, ..Durable::default() });
        let link = LinkId(7000);
        let machine = net.nodes.get_mut(&name(1)).unwrap();
        machine.handle_link_up(net.now, link, &name(2), false, None);
        let at = net.now + Duration::from_secs(waits);
        let host = Membership::new(settings(2, true), Durable::default(), net.now, 2);
        let hello = Hello { automatic: true, ..host.hello(&name(1), Intent::Invite) };
        machine.handle_frame(at, link, &Message::Hello(Box::new(hello)).encode());
        assert_eq!(machine.state(), state, "after {waits} s");
    }
}
