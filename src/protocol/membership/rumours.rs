//! News on their way to everybody, each told a bounded number of times.

use std::collections::BTreeMap;

use super::record::{Health, Record, Standing};
use crate::node::NodeName;

/// How often each piece of news is told: this times log2 of the members. SWIM
/// (Das et al. 2002, section 4.1) shows that a small multiple of log n reaches all.
const TELL_FACTOR: u32 = 3;

/// News waiting to be told: at most one per node and, for suspicions, accuser, so
/// never more than the table's bound times the accusers that count.
#[derive(Clone, Debug, Default)]
pub(super) struct Rumours {
    waiting: BTreeMap<Key, Rumour>,
}

/// The node, and the accuser where confirmations are counted.
type Key = (NodeName, Option<NodeName>);

#[derive(Clone, Debug)]
struct Rumour {
    record: Record,
    told: u32,
}

impl Rumours {
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Queues news; what was queued of the same node and is superseded is dropped.
    pub(super) fn push(&mut self, record: &Record) {
        let suspicion = record.standing == Standing::Member(Health::Suspect);
        if !suspicion {
            let low = (record.node.clone(), None);
            let stale: Vec<Key> = self
                .waiting
                .range(low..)
                .take_while(|((node, _), _)| *node == record.node)
                .map(|(key, _)| key.clone())
                .collect();
            for key in stale {
                self.waiting.remove(&key);
            }
        }
        let key = (record.node.clone(), suspicion.then(|| record.by.clone()));
        self.waiting.insert(key, Rumour { record: record.clone(), told: 0 });
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }

    /// Drops news of members that are up beyond the first `limit`, but for those of `own`:
    /// what is left out is made up for where views differ, at far less cost.
    pub(super) fn shed(&mut self, own: &NodeName, limit: usize) {
        if self.waiting.len() <= limit {
            return;
        }
        let mut kept = 0;
        self.waiting.retain(|(node, _), rumour| {
            let common = rumour.record.health() == Some(Health::Up) && node != own;
            kept += usize::from(common);
            !common || kept <= limit
        });
    }

    /// The least told news, at most `limit`, counted as told `times` more often;
    /// news told often enough are dropped.
    pub(super) fn take(&mut self, limit: usize, times: u32, members: usize) -> Vec<Record> {
        if self.waiting.is_empty() || times == 0 {
            return Vec::new();
        }
        let enough = TELL_FACTOR * (members.max(2).ilog2() + 1);
        let mut least: Vec<(u32, &Key)> =
            self.waiting.iter().map(|(key, rumour)| (rumour.told, key)).collect();
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
