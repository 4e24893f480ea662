//! News on their way to everybody, each passed once over a link, one way or the other, and
//! over a bounded number of links.
//!
//! Beyond the full mesh there are fewer links than that bound: news flood, and whoever holds
//! a link to anybody hears them. Links deliver what they take; what one that ends takes with
//! it is made up for where views are compared.

use std::collections::{BTreeMap, BTreeSet};

use super::learn::Manner;
use super::record::{Health, Record, Standing};
use crate::node::{LinkId, NodeName};

/// Over how many links each piece of news is passed: this times log2 of the members. SWIM
/// (Das et al. 2002, section 4.1) shows that a small multiple of log n reaches all.
const PASS_FACTOR: usize = 3;

/// The same while there is something new all the time: log2 of the members, at least this. A
/// piece of news in some hundred misses somebody then, who hears it where views are compared.
const PASSES: usize = 10;

/// Of what was learned where views were compared, as much is told on: a node that joins
/// thousands learns of them all at once, and they know each other. What is left out is
/// made up for by comparing, at far less cost.
const MOST_COMPARED: usize = 512;

/// News waiting to be told: at most one per node and, for suspicions, accuser.
#[derive(Clone, Debug, Default)]
pub(super) struct Rumours {
    waiting: BTreeMap<Key, Rumour>,
    most: usize,
}

/// The node, and the accuser where confirmations are counted.
type Key = (NodeName, Option<NodeName>);

#[derive(Clone, Debug)]
struct Rumour {
    record: Record,
    /// The links that it was passed over: whoever is at their ends knows it.
    passed: Vec<LinkId>,
}

/// Over so many links a piece of news is passed among so many members.
pub(super) fn enough(members: usize, is_calm: bool) -> usize {
    let log = members.max(2).ilog2() as usize + 1;
    if is_calm { PASS_FACTOR * log } else { log.max(PASSES) }
}

/// Where a piece of news waits: suspicions are told apart by their accusers.
fn place(record: &Record) -> Key {
    let suspicion = record.standing == Standing::Member(Health::Suspect);
    (record.node.clone(), suspicion.then(|| record.by.clone()))
}

impl Rumours {
    pub(super) fn new(most: usize) -> Self {
        Self { waiting: BTreeMap::new(), most }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Queues news; what was queued of the same node and is superseded is dropped. False:
    /// there was no room for them.
    pub(super) fn push(&mut self, record: &Record, manner: Manner) -> bool {
        let suspicion = record.standing == Standing::Member(Health::Suspect);
        let low = (record.node.clone(), None);
        let same_life = |other: &Record| {
            suspicion && (other.incarnation, other.boot) == (record.incarnation, record.boot)
        };
        let stale: Vec<Key> = self
            .waiting
            .range(low..)
            .take_while(|((node, _), _)| *node == record.node)
            .filter(|(_, rumour)| !same_life(&rumour.record))
            .map(|(key, _)| key.clone())
            .collect();
        for key in stale {
            self.waiting.remove(&key);
        }
        if manner == Manner::Repaired {
            return true;
        }
        let common = manner == Manner::Compared && record.health() != Some(Health::Down);
        if common && self.waiting.len() >= MOST_COMPARED {
            return true;
        }
        if self.waiting.len() >= self.most {
            return false;
        }
        self.waiting.insert(place(record), Rumour { record: record.clone(), passed: Vec::new() });
        true
    }

    /// What came over a link, or went over it already, need not go over it.
    pub(super) fn passed(&mut self, record: &Record, over: LinkId) {
        if let Some(rumour) = self.waiting.get_mut(&place(record))
            && rumour.record.same_news(record)
            && !rumour.passed.contains(&over)
        {
            rumour.passed.push(over);
        }
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Lets go of news that were passed over enough links, or over all that there are. Links
    /// that have ended do not count: who comes again and again to tell a piece of news would
    /// keep it from the others.
    pub(super) fn settle(&mut self, links: &BTreeSet<LinkId>, enough: usize) {
        let enough = enough.min(links.len());
        self.waiting.retain(|_, Rumour { passed, .. }| {
            passed.retain(|link| links.contains(link));
            passed.len() < enough
        });
    }

    /// What is to go over a link: of the news that did not pass it yet, nor enough others, those
    /// that passed the fewest, at most `limit`.
    pub(super) fn take(&mut self, limit: usize, enough: usize, over: LinkId) -> Vec<Record> {
        let mut least: Vec<(usize, &Key)> = self
            .waiting
            .iter()
            .filter(|(_, Rumour { passed, .. })| passed.len() < enough && !passed.contains(&over))
            .map(|(key, rumour)| (rumour.passed.len(), key))
            .collect();
        if least.len() > limit {
            least.select_nth_unstable(limit);
            least.truncate(limit);
        }
        least.sort_unstable();
        let keys: Vec<Key> = least.into_iter().map(|(_, key)| key.clone()).collect();
        let mut news = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(rumour) = self.waiting.get_mut(&key) else { continue };
            news.push(rumour.record.clone());
            rumour.passed.push(over);
        }
        news
    }
}
