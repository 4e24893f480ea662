//! Who may say what of whom: the rules as a table, and a property: whatever is let in, the
//! node it is about can beat it.

use proptest::prelude::*;

use super::*;
use crate::node::{Incarnation, Role};
use crate::protocol::membership::{Epoch, Health, Reason};

fn name(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

fn record(node: &str, by: &str, epoch: u64, incarnation: u64, standing: Standing) -> Record {
    Record {
        node: name(node),
        epoch: Epoch(epoch),
        standing,
        incarnation: Incarnation(incarnation),
        boot: BootId(7),
        role: Role::Core,
        reason: Some(Reason::Other),
        by: name(by),
        version: String::new(),
        attributes: None,
        burial: 0,
    }
}

const UP: Standing = Standing::Member(Health::Up);
const SUSPECT: Standing = Standing::Member(Health::Suspect);
const DOWN: Standing = Standing::Member(Health::Down);
const MOST: u64 = u64::MAX;

/// At the end of a range whoever holds what is there believes the answer to it.
#[test]
fn a_node_whose_numbers_were_driven_to_the_end_can_answer() {
    let (x, s) = (name("x@h.io"), name("s@h.io"));
    for held in [
        record("x@h.io", "s@h.io", 1 << 32, 1 << 40, DOWN),
        record("x@h.io", "s@h.io", (1 << 62) + (2 << 16), 0, Standing::ForceLeft),
    ] {
        let answer = record("x@h.io", "x@h.io", held.epoch.0 + 1, held.incarnation.0 + 1, UP);
        for speaker in [&x, &s] {
            let known = Known {
                speaker,
                is_me: false,
                held: Some(&held),
                linked: None,
                burials: 0,
                vouched: None,
            };
            assert!(admit(answer.clone(), known).is_ok(), "{speaker} of {held:?}");
        }
        let removed = record("x@h.io", "s@h.io", answer.epoch.0, 0, Standing::ForceLeft);
        let known = Known {
            speaker: &s,
            is_me: false,
            held: Some(&answer),
            linked: None,
            burials: 0,
            vouched: None,
        };
        assert!(admit(removed, known).is_ok());
    }
}

/// Whoever is gone cannot be asked itself, so all hold the same highest numbers of it.
#[test]
fn numbers_of_who_is_gone_are_cut_to_their_range() {
    let speaker = name("s@h.io");
    for (epoch, incarnation, expected) in [
        (2, 5, (2, 5)),
        (2, MOST, (2, 1 << 40)),
        (MOST, 5, (1 << 32, 5)),
        (MOST, MOST, (1 << 32, 1 << 40)),
    ] {
        let claim = record("x@h.io", "s@h.io", epoch, incarnation, DOWN);
        let known = Known {
            speaker: &speaker,
            is_me: false,
            held: None,
            linked: None,
            burials: 0,
            vouched: None,
        };
        let admitted = admit(claim, known).unwrap();
        let record = admitted.record();
        assert_eq!((record.epoch.0, record.incarnation.0), expected);
        assert_eq!(admitted.is_capped, (epoch, incarnation) != expected);
        assert!(is_driven(record) == (expected != (2, 5)));
    }
}

/// One side holds a tombstone at the range's end, the other a member farther beyond it than the
/// first may believe: each kept what it had, and their views differed for ever.
#[test]
fn a_tombstone_at_the_end_of_the_range_ends_whatever_is_said_beyond() {
    let speaker = name("s@h.io");
    let hear = |claim: &Record, held: &Record| {
        let known = Known {
            speaker: &speaker,
            is_me: false,
            held: Some(held),
            linked: None,
            burials: 0,
            vouched: None,
        };
        admit(claim.clone(), known).unwrap().into_record()
    };
    for epoch in [1 << 32, (1 << 32) + 9, 1 << 40] {
        let buried = record("x@h.io", "s@h.io", epoch, 3, Standing::ForceLeft);
        for beyond in [EPOCHS_AHEAD + 1, EPOCHS_AHEAD * 9] {
            for standing in [DOWN, Standing::Member(Health::Unknown)] {
                let claim = record("x@h.io", "s@h.io", epoch + beyond, 5, standing);
                let admitted = hear(&claim, &buried);
                assert_eq!(admitted, Record { epoch: claim.epoch, ..buried.clone() });
                assert!(admitted.supersedes(&buried));
                let told = hear(&admitted, &claim);
                assert!(told.supersedes(&claim), "who held the claim believes its end");
            }
        }
    }
    // Of an honest life it ends no more than it did.
    let buried = record("x@h.io", "s@h.io", 2, 3, Standing::ForceLeft);
    let claim = record("x@h.io", "s@h.io", (1 << 32) + 1, 5, DOWN);
    assert!(hear(&claim, &buried).is_member());
}

/// What S says of X: held is X at epoch 2, incarnation 5, or nothing; X is linked, or not.
#[test]
fn what_may_be_said_of_whom() {
    let held = record("x@h.io", "x@h.io", 2, 5, UP);
    let (x, s, z) = ("x@h.io", "s@h.io", "z@h.io");
    let ok = Ok(());
    let numbers = Err(Unfit::Numbers);
    let not_own = Err(Unfit::NotItsOwn);
    // Who speaks, whether X is held, whether X is linked, the claim, the verdict.
    let table = [
        // X itself: anything within range, and only on its own word.
        (x, true, true, record(x, x, 2, 6, UP), ok),
        (x, true, true, record(x, x, 2, 1 << 61, UP), ok),
        (x, true, true, record(x, x, 3, 0, Standing::Left), ok),
        (x, true, true, record(x, z, 2, 5, SUSPECT), not_own),
        (x, true, false, record(x, x, MOST, 5, UP), numbers),
        (x, true, false, record(x, x, 2, MOST, UP), numbers),
        // Others, while X is linked: accusations as of now, and removals.
        (s, true, true, record(x, z, 2, 5, SUSPECT), ok),
        (s, true, true, record(x, s, 2, 5, DOWN), ok),
        (s, true, true, record(x, s, 2, 6, DOWN), not_own),
        (s, true, true, record(x, x, 2, 5, UP), ok),
        (s, true, true, record(x, x, 2, 6, UP), not_own),
        (s, true, true, record(x, x, 2, 5, Standing::Left), not_own),
        (s, true, true, record(x, s, 2, 0, Standing::ForceLeft), ok),
        (s, true, true, record(x, s, 9, 0, Standing::Autocleaned), ok),
        // Others, while it is not: news of news, in numbers that do not depend on what is held.
        (s, true, false, record(x, x, 2, 6, UP), ok),
        (s, true, false, record(x, x, 2, 5, Standing::Left), ok),
        (s, true, false, record(x, s, 2, 1 << 40, DOWN), ok),
        (s, false, false, record(x, s, 2, 1 << 40, DOWN), ok),
        (s, true, false, record(x, s, 2, (1 << 40) + 1, SUSPECT), numbers),
        (s, true, false, record(x, s, 2, MOST, SUSPECT), numbers),
        // Of whoever is gone higher numbers count as the highest; see below.
        (s, true, false, record(x, s, 2, (1 << 40) + 1, DOWN), ok),
        (s, false, false, record(x, s, MOST, MOST, DOWN), ok),
        (s, true, true, record(x, s, 2, MOST, DOWN), not_own),
        (x, true, false, record(x, x, 2, MOST, DOWN), numbers),
        (s, true, false, Record { burial: MOST, ..record(x, s, 2, MOST, DOWN) }, numbers),
        (s, true, false, record(x, x, 1 << 32, 1, UP), ok),
        (s, false, false, record(x, x, 1 << 32, 1, UP), ok),
        (s, true, false, record(x, x, (1 << 32) + 1, 1, UP), numbers),
        // The end of a membership is believed further than any membership.
        (s, true, false, record(x, s, 1 << 62, 0, Standing::Autocleaned), ok),
        (s, false, false, record(x, s, 1 << 62, MOST, Standing::ForceLeft), ok),
        (s, true, true, record(x, s, MOST, 0, Standing::Autocleaned), numbers),
        (s, false, false, record(x, s, 1 << 63, 0, Standing::ForceLeft), numbers),
    ];
    for (speaker, is_held, is_linked, claim, expected) in table {
        let known = Known {
            speaker: &name(speaker),
            is_me: false,
            held: is_held.then_some(&held),
            linked: is_linked.then_some(BootId(7)),
            burials: 0,
            vouched: None,
        };
        let verdict = admit(claim.clone(), known).map(|_| ());
        assert_eq!(verdict, expected, "{speaker} says {claim:?}, linked {is_linked}");
    }
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(UP),
        Just(SUSPECT),
        Just(DOWN),
        Just(Standing::Left),
        Just(Standing::ForceLeft),
        Just(Standing::Autocleaned),
    ]
}

proptest! {
    /// A liar repeats itself as often as it likes, always at the very limit: nothing that
    /// is held comes near the end of a type, so a node can always answer in a higher epoch
    /// and a higher incarnation.
    #[test]
    fn whatever_is_let_in_can_be_beaten(
        claims in prop::collection::vec((any::<u64>(), any::<u64>(), any::<u64>(), standing()), 1..60)
    ) {
        let mut held: Option<Record> = None;
        for (epoch, incarnation, burial, standing) in claims {
            let mut claim = record("x@h.io", "s@h.io", epoch, incarnation, standing);
            claim.burial = burial;
            let speaker = name("s@h.io");
            let burials = held.as_ref().map_or(0, |held| held.burial);
            let known = Known { speaker: &speaker, is_me: false, held: held.as_ref(), linked: None, burials, vouched: None };
            if let Ok(admitted) = admit(claim, known) {
                let record = admitted.into_record();
                prop_assert!(is_sound(&record));
                let answer = Record {
                    epoch: record.epoch.next(),
                    incarnation: record.incarnation.next(),
                    standing: UP,
                    ..record.clone()
                };
                prop_assert!(answer.supersedes(&record));
                held = Some(held.map_or(record.clone(), |held| held.join(&record)));
            }
        }
    }
}
