//! How much one peer may tell of others.
//!
//! Everybody passes news on, so each piece costs each member something, and one member that
//! makes news up would cost the whole cluster what it likes. An honest member brings its
//! share of what happens; whoever brings more is not believed for a while. Nothing is lost by
//! that: views that differ are compared.

use std::collections::BTreeMap;
use std::time::Duration;

use super::learn::Manner;
use super::limits::{Allowance, Limits};
use crate::node::NodeName;

/// Peers whose allowance is not whole that are remembered. Beyond, the one that told least is
/// forgotten: it may tell as much as at first.
pub(super) const MAX_TELLERS: usize = 1024;

/// For each so many members a peer may tell one piece of news more in each second.
const MEMBERS: usize = 128;

/// A way in which a peer tells something new of others; each has an allowance of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Telling {
    /// As it happens.
    News,
    /// Where views are compared, of a node that is known: after a cut that may be all at once.
    Turn,
    /// Where views are compared, of a node that is not: whoever joins learns all.
    Name,
}

impl Telling {
    pub(super) fn of(manner: Manner, is_known: bool) -> Self {
        match (manner, is_known) {
            (Manner::Told, _) => Self::News,
            (Manner::Compared, true) => Self::Turn,
            (Manner::Compared, false) => Self::Name,
        }
    }
}

/// Where views are compared, so much may be new of nodes that are known beyond one thing of
/// each member: an operator's removal of all that a liar brought is.
const TURNS: u32 = 512;

/// What each peer may still tell; those that may tell all are in no book.
#[derive(Clone, Debug)]
pub(super) struct Tellers {
    of: BTreeMap<NodeName, Teller>,
    at_once: u32,
    names_at_once: u32,
    per_second: u32,
}

#[derive(Clone, Debug)]
struct Teller {
    news: Allowance,
    turns: Allowance,
    names: Allowance,
}

impl Teller {
    fn allowance(&mut self, telling: Telling) -> &mut Allowance {
        match telling {
            Telling::News => &mut self.news,
            Telling::Turn => &mut self.turns,
            Telling::Name => &mut self.names,
        }
    }
}

impl Tellers {
    pub(super) fn new(limits: &Limits) -> Self {
        let whole = limits.members.saturating_add(limits.tombstones);
        Self {
            of: BTreeMap::new(),
            at_once: limits.news_at_once,
            names_at_once: u32::try_from(whole).unwrap_or(u32::MAX),
            per_second: limits.news_per_second,
        }
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether a peer may tell one more thing that is new, among so many members.
    pub(super) fn may_tell(
        &mut self,
        now: Duration,
        peer: &NodeName,
        telling: Telling,
        members: usize,
    ) -> bool {
        let rate = self.rate(members);
        self.of.get_mut(peer).is_none_or(|teller| teller.allowance(telling).has(now, rate))
    }

    /// A peer told something new, among so many members.
    pub(super) fn told(
        &mut self,
        now: Duration,
        peer: &NodeName,
        telling: Telling,
        members: usize,
    ) {
        if !self.of.contains_key(peer) {
            self.make_room();
            let all = u32::try_from(members).unwrap_or(u32::MAX);
            let teller = Teller {
                news: Allowance::new(self.at_once, now),
                turns: Allowance::new(TURNS.saturating_add(all), now),
                names: Allowance::new(self.names_at_once, now),
            };
            self.of.insert(peer.clone(), teller);
        }
        if let Some(teller) = self.of.get_mut(peer) {
            teller.allowance(telling).spend();
        }
    }

    /// Forgets those who may tell all again.
    pub(super) fn prune(&mut self, now: Duration, members: usize) {
        let rate = self.rate(members);
        self.of.retain(|_, Teller { news, turns, names }| {
            ![news, turns, names].into_iter().all(|allowance| allowance.is_full(now, rate))
        });
    }

    fn rate(&self, members: usize) -> u32 {
        let share = u32::try_from(members / MEMBERS).unwrap_or(u32::MAX);
        self.per_second.saturating_add(share)
    }

    fn make_room(&mut self) {
        if self.of.len() < MAX_TELLERS {
            return;
        }
        let least = self.of.iter().max_by(|(_, a), (_, b)| a.news.compare(&b.news));
        if let Some(peer) = least.map(|(peer, _)| peer.clone()) {
            self.of.remove(&peer);
        }
    }
}
