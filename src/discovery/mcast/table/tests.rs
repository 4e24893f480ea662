//! Every way in and out of the table.

use super::*;

fn said(kind: Kind, node: &str, boot: u64, sequence: u64) -> Datagram {
    let node = NodeName::parse(node).unwrap();
    Datagram { kind, cluster: "emqxcl".into(), node, boot: BootId(boot), sequence }
}

fn announce(node: &str, boot: u64, sequence: u64) -> Datagram {
    said(Kind::Announce, node, boot, sequence)
}

fn nodes(table: &Table, now: Instant) -> Vec<String> {
    table.nodes(now).iter().map(ToString::to_string).collect()
}

const A: &str = "emqx@10.0.0.1";
const B: &str = "emqx@10.0.0.2";

#[test]
fn lives_come_stay_and_go() {
    let (mut table, now) = (Table::default(), Instant::now());
    assert_eq!(table.heard(now, &announce(A, 1, 5)), Verdict::New);
    assert_eq!(table.heard(now, &said(Kind::Answer, B, 2, 1)), Verdict::New);
    assert_eq!(table.heard(now, &announce(A, 1, 6)), Verdict::Known);
    assert_eq!(nodes(&table, now), [A, B]);
    assert_eq!(table.heard(now, &said(Kind::Goodbye, A, 1, 7)), Verdict::Known);
    assert_eq!(nodes(&table, now), [B]);
    assert_eq!(nodes(&table, now + SILENCE), [""; 0]);
    let later = now + SILENCE;
    assert_eq!(table.heard(later, &announce(B, 2, 2)), Verdict::Known);
    assert_eq!(nodes(&table, later), [B]);
}

#[test]
fn what_was_said_before_counts_for_nothing() {
    let (mut table, now) = (Table::default(), Instant::now());
    table.heard(now, &announce(A, 1, 5));
    for sequence in [0, 4, 5] {
        assert_eq!(table.heard(now, &said(Kind::Goodbye, A, 1, sequence)), Verdict::Replayed);
    }
    assert_eq!(nodes(&table, now), [A]);
    table.heard(now, &said(Kind::Goodbye, A, 1, 6));
    assert_eq!(table.heard(now, &announce(A, 1, 5)), Verdict::Replayed);
    assert_eq!(nodes(&table, now), [""; 0]);
    // Remembered longer than the node is named.
    table.tidy(now + MEMORY - Duration::from_secs(1));
    assert_eq!(table.heard(now + SILENCE, &announce(A, 1, 5)), Verdict::Replayed);
    table.tidy(now + MEMORY);
    assert!(table.lives.is_empty());
}

#[test]
fn a_later_life_replaces_an_earlier_one() {
    let (mut table, now) = (Table::default(), Instant::now());
    table.heard(now, &announce(A, 1, 5));
    assert_eq!(table.heard(now, &announce(A, 2, 1)), Verdict::New);
    assert_eq!(nodes(&table, now), [A]);
    assert_eq!(table.heard(now, &said(Kind::Goodbye, A, 2, 2)), Verdict::Known);
    assert_eq!(nodes(&table, now), [""; 0], "the earlier life is not there again");
}

#[test]
fn a_goodbye_of_an_unknown_life_is_no_reason_to_answer() {
    let (mut table, now) = (Table::default(), Instant::now());
    assert_eq!(table.heard(now, &said(Kind::Goodbye, A, 1, 5)), Verdict::Known);
    assert_eq!(table.heard(now, &announce(A, 1, 4)), Verdict::Replayed);
    assert_eq!(nodes(&table, now), [""; 0]);
}

#[test]
fn a_full_table_makes_room_only_of_those_who_went() {
    let (mut table, now) = (Table::default(), Instant::now());
    for boot in 0..LIVES as u64 {
        table.heard(now, &announce(&format!("n{boot}@10.0.0.1"), boot, 1));
    }
    assert_eq!(table.heard(now, &announce(A, u64::MAX, 1)), Verdict::Full);
    table.heard(now, &said(Kind::Goodbye, "n0@10.0.0.1", 0, 2));
    assert_eq!(table.heard(now, &announce(A, u64::MAX, 1)), Verdict::New);
}
