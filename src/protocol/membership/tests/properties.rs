//! Records are a semilattice under a total order; tables hold the same whatever the order
//! in which they heard it, beyond their bounds too; the ring knows its neighbours.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::attributes::Attributes;
use crate::node::Role;

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Member(Health::Unknown)),
        Just(Standing::Member(Health::Up)),
        Just(Standing::Member(Health::Suspect)),
        Just(Standing::Member(Health::Down)),
        Just(Standing::Left),
        Just(Standing::ForceLeft),
        Just(Standing::Autocleaned),
    ]
}

/// A record of one of few nodes, with few values each, so that they meet.
fn record(nodes: u64) -> impl Strategy<Value = Record> {
    let numbers = (0..nodes, 0u64..2, 0u64..3, 0u64..2, 0u64..3);
    let said = prop::option::of("[ab]");
    (numbers, standing(), said, any::<bool>()).prop_map(
        |((node, epoch, incarnation, boot, burial), standing, said, stopped)| {
            let is_member = standing.health().is_some();
            let draining = said.filter(|_| is_member);
            let stopped = stopped && standing == Standing::Member(Health::Down);
            Record {
                node: name(node),
                epoch: Epoch(epoch),
                standing,
                incarnation: Incarnation(incarnation),
                boot: BootId(boot),
                role: Role::Core,
                reason: Some(if stopped { Reason::Stopped } else { Reason::Other }),
                by: name(node),
                version: String::new(),
                attributes: draining
                    .map(|text| Attributes { draining: Some(text), ..Attributes::default() })
                    .map(Arc::new),
                burial: if is_member { 0 } else { burial },
            }
        },
    )
}

fn table(members: usize, tombstones: usize, records: &[Record]) -> Table {
    let mut table = Table::new(members, tombstones);
    for record in records {
        table.apply(Duration::ZERO, record, &Origin::Known);
    }
    table
}

proptest! {
    #[test]
    fn supersedes_is_a_total_order(a in record(1), b in record(1), c in record(1)) {
        prop_assert_eq!(a.supersedes(&b) || b.supersedes(&a), !a.same_as(&b));
        prop_assert!(!(a.supersedes(&b) && b.supersedes(&a)));
        prop_assert!(!a.supersedes(&a));
        if a.supersedes(&b) && b.supersedes(&c) {
            prop_assert!(a.supersedes(&c));
        }
    }

    #[test]
    fn join_is_the_least_that_says_both(a in record(1), b in record(1), c in record(1)) {
        let joined = a.join(&b);
        prop_assert!(joined.same_as(&b.join(&a)));
        prop_assert!(!a.supersedes(&joined) && !b.supersedes(&joined));
        prop_assert!(a.join(&a).same_as(&a));
        prop_assert!(joined.join(&c).same_as(&a.join(&b.join(&c))));
    }

    /// Also where there is no room: everybody forgets the same tombstones.
    #[test]
    fn tables_hold_the_same_in_whatever_order(
        (records, shuffled) in prop::collection::vec(record(12), 0..60)
            .prop_flat_map(|records| (Just(records.clone()), Just(records).prop_shuffle())),
        room in 1usize..6,
    ) {
        // A tombstone that was forgotten lets an old membership back in, so of every node
        // there are either tombstones here or memberships, and the tombstones of one node
        // differ in their burials alone.
        let fit = |records: Vec<Record>| -> Vec<Record> {
            records
                .into_iter()
                .filter(|record| record.is_member() == (record.node.offset() % 2 == 0))
                .map(|record| match record.is_member() {
                    true => record,
                    false => Record {
                        epoch: Epoch(0),
                        boot: BootId(0),
                        standing: Standing::Left,
                        ..record
                    },
                })
                .collect()
        };
        let (one, other) =
            (table(100, room, &fit(records)), table(100, room, &fit(shuffled)));
        prop_assert!(one.tombstone_count() <= room);
        for version in [Version::V1, Version::V2] {
            prop_assert_eq!(one.view_hash(None, version), other.view_hash(None, version));
        }
        let names = |table: &Table| -> Vec<NodeName> {
            table.entries().map(|entry| entry.record.node.clone()).collect()
        };
        prop_assert_eq!(names(&one), names(&other));
    }

    /// What is computed of the records as they come is what they are.
    #[test]
    fn the_books_of_a_table_are_right(records in prop::collection::vec(record(9), 0..60)) {
        let table = table(100, 4, &records);
        let held: Vec<Record> = table.entries().map(|entry| entry.record.clone()).collect();
        let members = held.iter().filter(|record| record.is_member()).count();
        let running = held.iter().filter(|record| record.is_running()).count();
        prop_assert_eq!(table.member_count(), members);
        prop_assert_eq!(table.running_count(), running);
        prop_assert_eq!(table.stopped().count(), members - running);
        prop_assert_eq!(table.tombstone_count(), held.len() - members);
        let again = super::properties::table(100, 100, &held);
        prop_assert_eq!(table.digest(Version::V2), again.digest(Version::V2));
        prop_assert_eq!(table.digest(Version::V1), again.digest(Version::V1));
    }

    /// Two that hold different records of a node, tombstones too, have different hashes.
    #[test]
    fn different_views_say_so(a in record(1), b in record(1)) {
        let opinion = |r: &Record| {
            let mut r = r.clone();
            if let Standing::Member(health) = r.standing {
                let seen = if health.is_running() { Health::Up } else { Health::Down };
                r.standing = Standing::Member(seen);
            }
            if !r.is_member() {
                r.incarnation = Incarnation(0);
            }
            r
        };
        let (a, b) = (opinion(&a), opinion(&b));
        let hash = |r: &Record| table(9, 9, std::slice::from_ref(r)).view_hash(None, Version::V2);
        prop_assert_eq!(hash(&a) == hash(&b), a.same_as(&b));
    }

    #[test]
    fn the_ring_knows_its_neighbours(nodes in prop::collection::btree_set(0u64..500, 1..60)) {
        let mut ring = Ring::default();
        nodes.iter().for_each(|node| ring.insert(&name(*node)));
        for node in nodes.iter().take(5) {
            let neighbours = ring.neighbours(&name(*node));
            prop_assert!(neighbours.len() >= nodes.len().saturating_sub(1).min(2));
            for other in &nodes {
                let is_listed = neighbours.contains(&name(*other));
                prop_assert_eq!(ring.links(&name(*node), &name(*other)), is_listed);
            }
        }
    }
}
