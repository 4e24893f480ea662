//! What waits to be told, over which links, and for how long.

use super::super::rumours::enough;
use super::hostile::{UP, claim, made_up};
use super::*;

/// What goes over a link, where it is to go over nine.
fn told(rumours: &mut Rumours, over: u64) -> Vec<NodeName> {
    rumours.take(1000, 9, LinkId(over)).into_iter().map(|record| record.node).collect()
}

fn links(ids: impl IntoIterator<Item = u64>) -> BTreeSet<LinkId> {
    ids.into_iter().map(LinkId).collect()
}

#[test]
fn of_a_flood_of_members_that_are_up_the_first_are_told_on_and_all_else_is() {
    let down = Standing::Member(Health::Down);
    let mut rumours = Rumours::new(4096);
    for index in 0..600 {
        let standing = if index == 599 { down } else { UP };
        assert!(rumours.push(&claim(made_up(index), standing), Manner::Compared));
    }
    assert!(rumours.push(&claim(made_up(700), UP), Manner::Told));
    // Of a peer that told enough nothing more is told on, whatever it is.
    assert!(rumours.push(&claim(made_up(800), down), Manner::Repaired));
    let told = told(&mut rumours, 1);
    assert_eq!(told.len(), 514);
    assert!(told.contains(&made_up(599)) && told.contains(&made_up(700)));
}

#[test]
fn news_pass_a_link_once_and_are_let_go_of_where_all_have_them_or_enough() {
    let [first, second, third] = [1, 2, 3].map(|index| claim(made_up(index), UP));
    let mut rumours = Rumours::new(2);
    assert!(rumours.push(&first, Manner::Told));
    assert!(rumours.push(&second, Manner::Told));
    assert!(!rumours.push(&third, Manner::Told), "there is room for two");
    rumours.passed(&first, LinkId(9));
    assert_eq!(told(&mut rumours, 9), [made_up(2)], "not back to who told it");
    assert_eq!(told(&mut rumours, 8), [made_up(1), made_up(2)]);
    assert_eq!(told(&mut rumours, 8), [], "it has them");
    rumours.passed(&first, LinkId(7));
    rumours.settle(&links(7..=9), 9);
    assert_eq!(rumours.len(), 1, "all three have the first");
    for link in [7, 10, 11, 12, 13, 14, 15] {
        assert_eq!(told(&mut rumours, link), [made_up(2)]);
    }
    assert_eq!(told(&mut rumours, 16), [], "nine times is enough");
    rumours.settle(&links(7..=16), 9);
    assert!(rumours.is_empty());
}

/// Else who links again and again, and tells it each time, would keep it from the others.
#[test]
fn links_that_have_ended_are_nobody_who_knows() {
    let mut rumours = Rumours::new(2);
    let news = claim(made_up(1), UP);
    assert!(rumours.push(&news, Manner::Told));
    for link in 1..100 {
        rumours.passed(&news, LinkId(link));
    }
    rumours.settle(&links([200, 201]), 9);
    assert_eq!(told(&mut rumours, 200), [made_up(1)]);
    assert_eq!(told(&mut rumours, 201), [made_up(1)]);
    rumours.settle(&links([200, 201]), 9);
    assert!(rumours.is_empty());
}

/// Beyond the full mesh two accusations of a member reach one that watches over it, and one
/// that does not.
#[test]
fn who_does_not_watch_over_the_accused_passes_on_the_first_accusation_only() {
    let mut net = Net::beyond_full_mesh(20, 4);
    net.run(Duration::from_secs(60));
    let passed_on = |watches: bool| {
        let now = net.now;
        let (at, accused) = (1..=20)
            .flat_map(|at| (1..=20).map(move |accused| (name(at), name(accused))))
            .find(|(at, accused)| at != accused && net.nodes[at].is_probed(accused) == watches)
            .unwrap();
        let mut machine = net.nodes[&at].clone();
        let over: Vec<(LinkId, NodeName)> = machine
            .links
            .all_active()
            .filter(|(_, link)| link.peer != accused)
            .map(|(key, link)| (key, link.peer.clone()))
            .take(2)
            .collect();
        for (key, accuser) in &over {
            let held = machine.table().member(&accused).unwrap();
            let suspect = Standing::Member(Health::Suspect);
            let accusation = held.with(suspect, Reason::Silent, accuser);
            let frame = Message::Gossip { id: None, news: vec![accusation] }.encode();
            machine.handle_frame(now, *key, &frame);
        }
        machine.rumours.take(1000, 20, LinkId(u64::MAX)).len()
    };
    assert_eq!(passed_on(true), 2);
    assert_eq!(passed_on(false), 1);
}

#[test]
fn news_go_to_a_multiple_of_log_n_and_to_fewer_in_unrest() {
    for (members, calm, unrest) in [(1, 6, 10), (64, 21, 10), (1000, 30, 10), (5000, 39, 13)] {
        assert_eq!(enough(members, true), calm, "{members}");
        assert_eq!(enough(members, false), unrest, "{members}");
    }
}
