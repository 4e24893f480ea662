//! Making two views the same, part by part.
//!
//! Who finds that views differ sends the hashes of its parts ([`Message::Digest`]). The
//! other answers with all it holds of the first parts that differ, as much as fits into
//! [`BATCH`], and asks for what the first one holds otherwise. The first one sends that,
//! and where more parts differ, its hashes again. So no more than a batch each way is under
//! way on a link, whatever the link takes; a frame that is lost ends the exchange, and the
//! next repair resumes it where it was, since parts that are the same differ no more.
//!
//! Small views are sent whole instead of their hashes.
//!
//! A peer gets each part once per repair interval, however often it asks, unless it brought
//! something new meanwhile; and what it wants from us only where we asked it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::message::{Ask, MAX_RECORDS, Message, Version};
use super::record::Record;
use super::table::Table;
use crate::node::LinkId;

/// Bytes of records under way in one direction of a link: a tenth of a second of a link
/// of 400 kB/s, which the probes on it can wait, and an eighth of a link's queue.
const BATCH: usize = 32 * 1024;

/// Bytes of records in one message; more are split. Well below the smallest frame that a
/// peer may be told to take.
const FRAME: usize = 48 * 1024;

/// Where this node stands with one peer.
#[derive(Clone, Debug, Default)]
struct Exchange {
    /// When we last asked and are not answered yet.
    asked: Option<Duration>,
    /// When the interval began in which these parts were sent.
    since: Duration,
    /// Parts sent on the peer's asking, while our view was this.
    sent: BTreeSet<u8>,
    view: u64,
    /// Whether a whole view was answered.
    whole: bool,
    /// Answers of the peer that were followed up.
    rounds: usize,
}

/// The exchanges under way, one for each link at most.
#[derive(Clone, Debug)]
pub(super) struct Reconciliation {
    /// Up to so many records are sent whole.
    whole_view_limit: usize,
    interval: Duration,
    exchanges: BTreeMap<LinkId, Exchange>,
}

impl Reconciliation {
    pub(super) fn new(whole_view_limit: usize, interval: Duration) -> Self {
        let whole_view_limit = whole_view_limit.min(MAX_RECORDS);
        Self { whole_view_limit, interval, exchanges: BTreeMap::new() }
    }

    /// A link has ended, or is about to.
    pub(super) fn ended(&mut self, key: LinkId) {
        self.exchanges.remove(&key);
    }

    /// Whether an exchange that we began is still under way, as far as can be known.
    fn is_under_way(&self, now: Duration, key: LinkId) -> bool {
        let asked = self.exchanges.get(&key).and_then(|exchange| exchange.asked);
        asked.is_some_and(|at| now.saturating_sub(at) < self.interval)
    }

    fn exchange(&mut self, now: Duration, key: LinkId) -> &mut Exchange {
        let interval = self.interval;
        let exchange = self.exchanges.entry(key).or_default();
        if now.saturating_sub(exchange.since) >= interval {
            *exchange = Exchange { asked: exchange.asked, since: now, ..Exchange::default() };
        }
        exchange
    }

    /// Views differ: what to say first, unless an exchange is under way.
    pub(super) fn begin(
        &mut self,
        now: Duration,
        key: LinkId,
        version: Version,
        table: &Table,
    ) -> Option<Message> {
        if self.is_under_way(now, key) {
            return None;
        }
        if table.len() <= self.whole_view_limit {
            let records = table.entries().map(|entry| entry.record.clone()).collect();
            let ask = (version == Version::V2).then_some(Ask::Whole);
            return Some(Message::Sync { records, want: Vec::new(), ask });
        }
        self.exchange(now, key).asked = Some(now);
        Some(Message::Digest { buckets: table.digest(version).to_vec() })
    }

    /// A peer sent the hashes of its parts: what we hold of the first that differ.
    pub(super) fn compare(
        &mut self,
        now: Duration,
        key: LinkId,
        version: Version,
        theirs: &[u64],
        table: &Table,
    ) -> Vec<Message> {
        let own = table.digest(version);
        if theirs.len() != own.len() {
            return Vec::new();
        }
        let view = table.view_hash(None, version);
        let exchange = self.exchange(now, key);
        if std::mem::replace(&mut exchange.view, view) != view {
            exchange.sent.clear();
        }
        let differing = (0..=u8::MAX)
            .zip(own.iter().zip(theirs))
            .filter(|(part, (own, theirs))| own != theirs && !exchange.sent.contains(part));
        let differing: BTreeSet<u8> = differing.map(|(part, _)| part).collect();
        if differing.is_empty() {
            return Vec::new();
        }
        let mut weights: BTreeMap<u8, usize> = BTreeMap::new();
        for record in table.in_buckets(&differing, version) {
            *weights.entry(Table::bucket(&record.node, version)).or_default() += record.weight();
        }
        let mut room = BATCH;
        let taken: BTreeSet<u8> = differing
            .iter()
            .copied()
            .enumerate()
            .take_while(|(position, part)| {
                let weight = weights.get(part).copied().unwrap_or_default();
                let fits = *position == 0 || weight <= room;
                room = room.saturating_sub(weight);
                // Version 1 has no word for "there is more".
                fits || version == Version::V1
            })
            .map(|(_, part)| part)
            .collect();
        exchange.sent.extend(&taken);
        let ask = match version {
            Version::V1 => None,
            Version::V2 if taken.len() < differing.len() => Some(Ask::More),
            Version::V2 => Some(Ask::Parts),
        };
        let records = table.in_buckets(&taken, version).cloned().collect();
        in_frames(records, taken.into_iter().collect(), ask)
    }

    /// A peer sent records, which are heard by now, and asks for ours.
    pub(super) fn answer(
        &mut self,
        now: Duration,
        key: LinkId,
        version: Version,
        asked: (&[Record], &[u8], Option<Ask>),
        table: &Table,
    ) -> Vec<Message> {
        let (received, want, ask) = asked;
        let known: BTreeMap<_, _> = received.iter().map(|r| (&r.node, r)).collect();
        let is_news = |record: &&Record| known.get(&record.node).is_none_or(|r| !r.same_as(record));
        let exchange = self.exchange(now, key);
        if ask == Some(Ask::Whole) {
            if std::mem::replace(&mut exchange.whole, true) {
                return Vec::new();
            }
            let records = table.entries().map(|entry| &entry.record).filter(is_news);
            let (records, complete) = up_to_a_batch(records, version);
            if complete && records.is_empty() {
                return Vec::new();
            }
            if complete {
                return in_frames(records, Vec::new(), None);
            }
            exchange.asked = Some(now);
            return vec![Message::Digest { buckets: table.digest(version).to_vec() }];
        }
        // Whoever was not asked has nothing to ask for.
        if want.is_empty() || exchange.asked.take().is_none() {
            return Vec::new();
        }
        let wanted: BTreeSet<u8> = want.iter().copied().collect();
        let records = table.in_buckets(&wanted, version).filter(is_news);
        let (records, complete) = match version {
            Version::V1 => (records.cloned().collect(), true),
            Version::V2 => up_to_a_batch(records, version),
        };
        let mut messages = match records.is_empty() {
            true => Vec::new(),
            false => in_frames(records, Vec::new(), None),
        };
        // Each round brings one part at least, if the peer is what it should be.
        if (ask == Some(Ask::More) || !complete) && exchange.rounds < table.digest(version).len() {
            exchange.rounds += 1;
            exchange.asked = Some(now);
            messages.push(Message::Digest { buckets: table.digest(version).to_vec() });
        }
        messages
    }

    /// How many links have an exchange in the books.
    pub(super) fn len(&self) -> usize {
        self.exchanges.len()
    }
}

/// The records of the first parts that fit, of one part at least, and whether they are all.
fn up_to_a_batch<'a>(
    records: impl Iterator<Item = &'a Record>,
    version: Version,
) -> (Vec<Record>, bool) {
    let mut parts: BTreeMap<u8, Vec<&Record>> = BTreeMap::new();
    for record in records {
        parts.entry(Table::bucket(&record.node, version)).or_default().push(record);
    }
    let (mut taken, mut room) = (Vec::new(), BATCH);
    for part in parts.into_values() {
        let weight: usize = part.iter().map(|record| record.weight()).sum();
        if weight > room && !taken.is_empty() {
            return (taken, false);
        }
        room = room.saturating_sub(weight);
        taken.extend(part.into_iter().cloned());
    }
    (taken, true)
}

/// Records in as many messages as it takes, of which the last one asks.
fn in_frames(records: Vec<Record>, want: Vec<u8>, ask: Option<Ask>) -> Vec<Message> {
    let mut frames: Vec<Vec<Record>> = vec![Vec::new()];
    let mut weight = 0;
    for record in records {
        weight += record.weight();
        let full = frames.last().is_some_and(|frame| frame.len() >= MAX_RECORDS);
        if full || weight > FRAME {
            weight = record.weight();
            frames.push(Vec::new());
        }
        if let Some(frame) = frames.last_mut() {
            frame.push(record);
        }
    }
    let last = frames.pop().unwrap_or_default();
    let part = |records| Message::Sync { records, want: Vec::new(), ask: None };
    let mut messages: Vec<Message> = frames.into_iter().map(part).collect();
    messages.push(Message::Sync { records: last, want, ask });
    messages
}

#[cfg(test)]
mod tests;
