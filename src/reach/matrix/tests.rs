use std::time::SystemTime;

use super::*;
use crate::view::{Member, Refusal, Rule};

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

fn member(name: &str, status: MemberStatus, link: LinkState) -> Member {
    let since = SystemTime::UNIX_EPOCH;
    Member { status, link, version: "0.1.0".into(), ..Member::new(node(name), since) }
}

fn seen_by_a(others: Vec<Member>) -> Snapshot {
    let own = Member { is_self: true, ..Member::new(node("a@h"), SystemTime::UNIX_EPOCH) };
    Snapshot::new(node("a@h"), std::iter::once(own).chain(others).collect())
}

#[test]
fn a_line_that_is_not_known_says_why() {
    use LinkState::{Connected, Idle};
    use MemberStatus::{Down, Up};
    let mut snapshot = seen_by_a(vec![
        member("b@h", Up, Connected),
        member("c@h", Up, Connected),
        member("d@h", Up, Connected),
        member("e@h", Up, Connected),
        member("f@h", Up, Idle),
        member("g@h", Down, LinkState::None),
    ]);
    snapshot.refusals =
        vec![Refusal { node: node("x@h"), rule: Rule::Cookie, text: "wrong cookie".into() }];
    let told = Told::from([
        (node("a@h"), Cell::Connected),
        (node("c@h"), Cell::None),
        (node("stranger@h"), Cell::None),
    ]);
    let said = BTreeMap::from([
        (node("b@h"), Said::Told(told)),
        (node("c@h"), Said::Nothing),
        (node("d@h"), Said::TooOld),
    ]);
    let matrix = Matrix::seen(&snapshot, said);
    let names: Vec<_> = matrix.nodes.iter().map(NodeName::as_str).collect();
    assert_eq!(names, ["a@h", "b@h", "c@h", "d@h", "e@h", "f@h", "g@h", "x@h"]);
    use Cell::{Connected as Linked, Down as Gone, Idle as Unneeded, Itself, None as No, Unknown};
    let line = |at: usize| matrix.rows[at].reaches.clone();
    assert_eq!(line(0), [Itself, Linked, Linked, Linked, Linked, Unneeded, Gone, No]);
    assert_eq!(line(1), [Linked, Itself, No, Unknown, Unknown, Unknown, Unknown, Unknown]);
    assert!(line(2).iter().filter(|cell| **cell == Cell::Silent).count() == 7);
    let why: Vec<_> = matrix
        .rows
        .iter()
        .map(|row| row.silent.as_ref().map(|silent| (silent.reason, silent.text.as_str())))
        .collect();
    assert_eq!(
        why,
        [
            None,
            None,
            Some((Silence::NoAnswer, "asked, and it has not answered")),
            Some((Silence::TooOld, "not asked: muster 0.1.0 does not tell")),
            Some((Silence::Waiting, "being asked")),
            Some((Silence::NoLink, "not asked: this node holds no link to it")),
            Some((Silence::Down, "not asked: it is down")),
            Some((Silence::NoLink, "not asked: it is no member here, and refused")),
        ]
    );
}

#[test]
fn a_large_cluster_shows_this_node_and_whose_links_are_missing() {
    let others = (0..300).map(|k| {
        let link = if k == 299 { LinkState::None } else { LinkState::Connected };
        member(&format!("n{k:03}@h"), MemberStatus::Up, link)
    });
    let mut snapshot = seen_by_a(others.collect());
    snapshot.self_node = node("zz@h");
    let told = Told::from([(node("n250@h"), Cell::None), (node("unheard@h"), Cell::None)]);
    let said = BTreeMap::from([(node("n200@h"), Said::Told(told))]);
    let matrix = Matrix::seen(&snapshot, said);
    assert_eq!((matrix.nodes.len(), matrix.left_out), (MAX_SHOWN, 301 - MAX_SHOWN));
    for shown in ["zz@h", "n000@h", "n200@h", "n250@h", "n299@h"] {
        assert!(matrix.nodes.contains(&node(shown)), "{shown} is left out");
    }
    assert!(matrix.rows.iter().all(|row| row.reaches.len() == MAX_SHOWN));
    assert!(!matrix.nodes.contains(&node("unheard@h")), "a member's own invention is shown");
}
