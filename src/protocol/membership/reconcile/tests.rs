//! Two tables and the exchange between them, over a link that may lose frames.

use proptest::prelude::*;

use super::*;
use crate::node::{BootId, Incarnation, NodeName, Role};
use crate::protocol::membership::table::Origin;
use crate::protocol::membership::{Epoch, Health, Reason, Standing};

const INTERVAL: Duration = Duration::from_millis(1000);
const KEY: LinkId = LinkId(1);

fn record(index: usize, incarnation: u64) -> Record {
    let node = NodeName::parse(&format!("n{index}@10.{}.{}.1", index / 250, index % 250)).unwrap();
    let standing =
        if index.is_multiple_of(2) { Standing::ForceLeft } else { Standing::Member(Health::Up) };
    let is_buried = standing == Standing::ForceLeft;
    Record {
        by: node.clone(),
        node,
        epoch: Epoch(if is_buried { incarnation } else { 0 }),
        standing,
        incarnation: Incarnation(incarnation),
        boot: BootId(1),
        role: Role::Core,
        reason: Some(Reason::Announced),
        version: "0.2.0".to_owned(),
        attributes: None,
        burial: u64::from(is_buried) * index as u64,
    }
}

struct End {
    table: Table,
    part: Reconciliation,
}

impl End {
    fn new(limit: usize, records: impl Iterator<Item = Record>) -> Self {
        let mut end =
            Self { table: Table::new(20_000, 20_000), part: Reconciliation::new(limit, INTERVAL) };
        records.for_each(|record| end.learn(&record));
        end
    }

    fn learn(&mut self, record: &Record) {
        self.table.apply(Duration::ZERO, record, &Origin::Known);
    }

    fn hash(&self) -> u64 {
        self.table.view_hash(None, Version::V2)
    }

    fn hears(&mut self, now: Duration, message: &Message, version: Version) -> Vec<Message> {
        let message = Message::decode(&message.encode()).unwrap();
        match &message {
            Message::Digest { buckets } => {
                self.part.compare(now, KEY, version, buckets, &self.table)
            }
            Message::Sync { records, want, ask } => {
                records.iter().for_each(|record| self.learn(record));
                self.part.answer(now, KEY, version, (records, want, *ask), &self.table)
            }
            _ => panic!("{message:?}"),
        }
    }
}

/// What an exchange came to.
#[derive(Debug, Default)]
struct Cost {
    frames: usize,
    records: usize,
    most_under_way: usize,
}

/// One exchange until nobody says anything more; `lost` decides which frames get lost.
fn exchange(
    ends: &mut [End; 2],
    now: Duration,
    version: Version,
    mut lost: impl FnMut() -> bool,
) -> Cost {
    let mut cost = Cost::default();
    let mut under_way: Vec<(usize, Message)> =
        ends[0].part.begin(now, KEY, version, &ends[0].table).map(|m| (1, m)).into_iter().collect();
    while !under_way.is_empty() {
        let bytes: usize = under_way.iter().map(|(_, message)| message.encode().len()).sum();
        cost.most_under_way = cost.most_under_way.max(bytes);
        let (to, message) = under_way.remove(0);
        cost.frames += 1;
        assert!(cost.frames < 3000, "no end");
        if let Message::Sync { records, .. } = &message {
            cost.records += records.len();
        }
        if lost() {
            continue;
        }
        let said = ends[to].hears(now, &message, version);
        under_way.extend(said.into_iter().map(|message| (1 - to, message)));
    }
    cost
}

#[test]
fn eight_thousand_records_reach_a_newcomer_in_one_exchange_batch_by_batch() {
    for newcomer in [0, 1] {
        let all = || (0..8000).map(|index| record(index, 1));
        let mut ends = [End::new(64, all()), End::new(64, (8000..8003).map(|i| record(i, 1)))];
        if newcomer == 0 {
            ends.reverse();
        }
        let cost = exchange(&mut ends, INTERVAL, Version::V2, || false);
        assert_eq!(ends[0].table.len(), 8003);
        assert_eq!(ends[0].hash(), ends[1].hash());
        assert!(cost.most_under_way < 2 * BATCH, "{cost:?}");
        // Nothing is sent back to who told it, and little twice.
        assert!(cost.records < 8003 + 200, "{cost:?}");
    }
}

#[test]
fn small_views_are_sent_whole_and_answered_with_what_differs() {
    let mut ends = [
        End::new(64, (0..20).map(|index| record(index, 1))),
        End::new(64, (10..30).map(|index| record(index, 2))),
    ];
    let cost = exchange(&mut ends, INTERVAL, Version::V2, || false);
    assert_eq!(ends[0].hash(), ends[1].hash());
    assert_eq!((cost.frames, cost.records), (2, 40));
    let cost = exchange(&mut ends, INTERVAL * 2, Version::V2, || false);
    assert_eq!((cost.frames, cost.records), (1, 30));
}

#[test]
fn a_peer_that_asks_again_and_again_is_answered_once_per_interval() {
    let mut end = End::new(64, (0..2000).map(|index| record(index, 1)));
    let nothing = vec![0; crate::protocol::membership::BUCKETS];
    let mut count = |now: Duration, message: &Message| {
        (0..500).map(|_| end.hears(now, message, Version::V2).len()).sum::<usize>()
    };
    let digest = Message::Digest { buckets: nothing };
    let first = count(INTERVAL, &digest);
    // All of it once, in as many batches as that takes, and then nothing more.
    assert!((1..=40).contains(&first), "{first}");
    assert_eq!(count(INTERVAL, &digest), 0);
    assert_eq!(count(INTERVAL * 2, &digest), first);
    // Whoever was not asked gets nothing.
    let want: Vec<u8> = (0..=255).collect();
    for ask in [None, Some(Ask::Parts), Some(Ask::More)] {
        let unasked = Message::Sync { records: Vec::new(), want: want.clone(), ask };
        assert_eq!(count(INTERVAL * 3, &unasked), 0, "{ask:?}");
    }
    let whole = Message::Sync { records: Vec::new(), want: Vec::new(), ask: Some(Ask::Whole) };
    assert_eq!(count(INTERVAL * 4, &whole), 1);
    end.part.ended(KEY);
    assert_eq!(end.part.len(), 0);
}

#[test]
fn what_was_lost_is_resumed_at_the_next_interval() {
    let mut ends = [
        End::new(0, std::iter::once(record(9000, 1))),
        End::new(0, (0..3000).map(|index| record(index, 1))),
    ];
    let mut number = 0;
    let lost = || {
        number += 1;
        number == 6
    };
    exchange(&mut ends, INTERVAL, Version::V2, lost);
    let held = ends[0].table.len();
    assert!((100..2900).contains(&held), "{held}");
    assert!(ends[0].part.begin(INTERVAL, KEY, Version::V2, &ends[0].table).is_none());
    let cost = exchange(&mut ends, INTERVAL * 2, Version::V2, || false);
    assert_eq!(ends[0].hash(), ends[1].hash());
    assert!(cost.records < 3100 - held + 700, "what had come is not sent again: {cost:?}");
}

#[test]
fn with_version_1_members_are_made_the_same() {
    let mut ends = [
        End::new(2, (0..300).map(|index| record(index, 1))),
        End::new(2, (200..500).map(|index| record(index, 1))),
    ];
    exchange(&mut ends, INTERVAL, Version::V1, || false);
    let hashes = ends.map(|end| end.table.view_hash(None, Version::V1));
    assert_eq!(hashes[0], hashes[1]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever both hold, whatever the limit, and though a tenth of the frames get lost:
    /// after some intervals without loss both hold the same.
    #[test]
    fn two_views_become_one(
        limit in 0usize..100,
        one in prop::collection::vec((0usize..400, 0u64..3), 0..200),
        other in prop::collection::vec((0usize..400, 0u64..3), 0..200),
        losses in prop::collection::vec(prop::bool::weighted(0.1), 64),
    ) {
        let side = |records: Vec<(usize, u64)>| {
            End::new(limit, records.into_iter().map(|(index, n)| record(index, n)))
        };
        let mut ends = [side(one), side(other)];
        let mut losses = losses.into_iter();
        let mut now = INTERVAL;
        for _ in 0..20 {
            ends.reverse();
            exchange(&mut ends, now, Version::V2, || losses.next().unwrap_or(false));
            now += INTERVAL;
        }
        prop_assert_eq!(ends[0].hash(), ends[1].hash());
    }
}
