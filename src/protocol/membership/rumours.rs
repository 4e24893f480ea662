//! News on their way to everybody, each told a bounded number of times.

use std::collections::BTreeMap;

use super::learn::Manner;
use super::record::{Health, Record, Standing};
use crate::node::NodeName;

/// How often each piece of news is told: this times log2 of the members. SWIM
/// (Das et al. 2002, section 4.1) shows that a small multiple of log n reaches all.
const TELL_FACTOR: u32 = 3;

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
    told: u32,
    /// Who told it to us last: it need not be told.
    from: Option<NodeName>,
}

/// Hearing of a piece of news that is being told counts as having told it so often: whoever
/// told it knows it, and so do those it told.
const HEARD_AGAIN: u32 = 2;

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
        let common = manner == Manner::Compared && record.health() != Some(Health::Down);
        if common && self.waiting.len() >= MOST_COMPARED {
            return true;
        }
        if self.waiting.len() >= self.most {
            return false;
        }
        let key = (record.node.clone(), suspicion.then(|| record.by.clone()));
        self.waiting.insert(key, Rumour { record: record.clone(), told: 0, from: None });
        true
    }

    /// News came from this member.
    pub(super) fn heard_from(&mut self, node: &NodeName, from: &NodeName) {
        if let Some(rumour) = self.waiting.get_mut(&(node.clone(), None)) {
            rumour.from = Some(from.clone());
        }
    }

    /// A member told what is being told: there are fewer left who have not heard it.
    pub(super) fn heard_again(&mut self, record: &Record, from: &NodeName) {
        let key = (record.node.clone(), None);
        if let Some(rumour) = self.waiting.get_mut(&key)
            && rumour.record.same_news(record)
        {
            rumour.told += HEARD_AGAIN;
            rumour.from = Some(from.clone());
        }
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// The least told news, at most `limit`, counted as told `times` more often;
    /// news told often enough are dropped. What `to` told us itself is left out.
    pub(super) fn take(
        &mut self,
        limit: usize,
        times: u32,
        members: usize,
        to: Option<&NodeName>,
    ) -> Vec<Record> {
        if self.waiting.is_empty() || times == 0 {
            return Vec::new();
        }
        let enough = TELL_FACTOR * (members.max(2).ilog2() + 1);
        self.waiting.retain(|_, rumour| rumour.told < enough);
        let mut least: Vec<(u32, &Key)> = self
            .waiting
            .iter()
            .filter(|(_, rumour)| to.is_none() || rumour.from.as_ref() != to)
            .map(|(key, rumour)| (rumour.told, key))
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
            rumour.told += times;
            if rumour.told >= enough {
                self.waiting.remove(&key);
            }
        }
        news
    }
}
