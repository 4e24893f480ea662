//! Members that somebody made up, until an operator removes them.

use super::hostile::{UP, claim, made_up};
use super::*;

/// FAULTS: 12,000 made-up members in an instant.
#[test]
fn made_up_members_grow_slowly_and_take_no_real_ones_place() {
    let (mut net, keys) = Net::with_liar(4);
    let lies: Vec<Record> = (0..12_000).map(|index| claim(made_up(index), UP)).collect();
    net.lie(1, keys[0], lies.clone());
    assert!(net.noted(1, Limit::News));
    let count = net.nodes[&name(1)].table().member_count();
    assert!(count < 150, "{count}");
    // Where views are compared more may come at once.
    for part in lies.chunks(100) {
        let said = Message::Sync { records: part.to_vec(), want: Vec::new(), ask: None };
        let machine = net.nodes.get_mut(&name(1)).unwrap();
        machine.handle_frame(net.now, keys[0], &said.encode());
    }
    net.settle();
    for (to, key) in (1..=4).zip(&keys) {
        net.nodes.get_mut(&name(to)).unwrap().handle_link_down(net.now, *key);
    }
    net.settle();
    let machine = &net.nodes[&name(1)];
    assert!(machine.table().member_count() < 600, "{}", machine.table().member_count());
    assert!(net.noted(1, Limit::Unproven));
    net.run(Duration::from_millis(200));
    // A real one freezes meanwhile: it is noticed as ever.
    net.frozen.insert(name(3));
    net.run(Duration::from_secs(3));
    for at in [1, 2, 4] {
        let machine = &net.nodes[&name(at)];
        let three = machine.table().member(&name(3)).unwrap();
        assert_eq!(three.health(), Some(Health::Down), "at {at}");
        for other in [1, 2, 4].into_iter().filter(|other| *other != at) {
            assert!(machine.table().member(&name(other)).unwrap().is_running());
            assert!(machine.link(&name(other)).is_some(), "{at} to {other}");
        }
    }
    // One command removes what the liar brought.
    net.frozen.clear();
    net.run(Duration::from_secs(5));
    assert_eq!(net.ask(2, Action::ForceLeave { node: name(9), force: true }), Ok(()));
    assert_eq!(net.ask(2, Action::ForceLeaveBroughtBy { node: name(9) }), Ok(()));
    net.run(Duration::from_secs(3));
    net.assert_agreed(&["n1", "n2", "n3", "n4"]);
    for at in 1..=4 {
        let machine = &net.nodes[&name(at)];
        assert_eq!(machine.table().member_count(), 4, "at {at}");
        assert_eq!(machine.durable().brought.len(), 0);
    }
}

/// Who has its place in a cluster has little to learn that nobody can prove.
#[test]
fn who_is_no_newcomer_learns_few_made_up_members() {
    let (mut net, keys) = Net::with_liar(3);
    net.run(Duration::from_secs(11));
    let key = net.come_again(keys[0]);
    let lies: Vec<Record> = (0..200).map(|index| claim(made_up(index), UP)).collect();
    for part in lies.chunks(4) {
        let said = Message::Sync { records: part.to_vec(), want: Vec::new(), ask: None };
        net.nodes.get_mut(&name(1)).unwrap().handle_frame(net.now, key, &said.encode());
    }
    net.settle();
    let machine = &net.nodes[&name(1)];
    let unproven = machine.table().member_count() - machine.proven_count();
    assert_eq!(unproven, Limits::default().unproven_at_once as usize / 16 + 2);
    assert!(net.noted(1, Limit::Unproven));
}

/// News of what a liar brought may still be under way when an operator removes it.
#[test]
fn what_a_liar_brought_goes_although_news_of_it_come_late() {
    let (mut net, keys) = Net::with_liar(3);
    net.lie(1, keys[0], (1..=4).map(|index| claim(made_up(index), UP)).collect());
    for (to, key) in (1..=3).zip(&keys) {
        net.nodes.get_mut(&name(to)).unwrap().handle_link_down(net.now, *key);
    }
    assert_eq!(net.ask(2, Action::ForceLeave { node: name(9), force: true }), Ok(()));
    net.next += 1;
    let order = Action::ForceLeaveBroughtBy { node: name(9) };
    let (now, request) = (net.now, RequestId(net.next));
    net.nodes.get_mut(&name(2)).unwrap().handle_request(now, request, order);
    net.run(Duration::from_secs(1));
    // Through an honest member, whose view was another.
    for (index, standing) in [(1, UP), (2, Standing::Member(Health::Down))] {
        let late = Record { incarnation: Incarnation(7), ..claim(made_up(index), standing) };
        net.nodes.get_mut(&name(3)).unwrap().hold(now, &late);
    }
    let members = |net: &Net| {
        let table = net.nodes[&name(1)].table();
        (1..=4).filter(|index| table.member(&made_up(*index)).is_some()).collect::<Vec<_>>()
    };
    net.run(Duration::from_millis(2500));
    assert!(members(&net).iter().all(|index| *index == 1), "{:?}", members(&net));
    net.run(Duration::from_secs(25));
    assert!(members(&net).is_empty(), "{:?}", members(&net));
    net.assert_agreed(&["n1", "n2", "n3"]);
}

/// Else a view could lack for ever what all others hold (seed 2129).
#[test]
fn however_slowly_made_up_members_are_learned_they_are() {
    let (mut net, keys) = Net::with_liar(3);
    net.run(Duration::from_secs(11));
    let key = net.come_again(keys[0]);
    let tell = |net: &mut Net, index: u64| {
        let records = vec![claim(made_up(index), UP)];
        let said = Message::Sync { records, want: Vec::new(), ask: None };
        let machine = net.nodes.get_mut(&name(1)).unwrap();
        machine.settings.limits.unproven_at_once = 0;
        machine.settings.limits.unproven_per_second = 1;
        machine.handle_frame(net.now, key, &said.encode());
        machine.table().member(&made_up(index)).is_some()
    };
    let learned = (0..20).filter(|index| tell(&mut net, *index)).count();
    assert!(learned < 20, "{learned}");
    net.run(Duration::from_secs(2));
    assert!(tell(&mut net, 19));
}
