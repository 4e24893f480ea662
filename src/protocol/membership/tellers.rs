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

/// What each peer may still tell; those that may tell all are in no book.
#[derive(Clone, Debug)]
pub(super) struct Tellers {
    of: BTreeMap<NodeName, Teller>,
    at_once: u32,
    compared_at_once: u32,
    per_second: u32,
}

#[derive(Clone, Debug)]
struct Teller {
    told: Allowance,
    compared: Allowance,
}

impl Teller {
    fn allowance(&mut self, manner: Manner) -> &mut Allowance {
        match manner {
            Manner::Told => &mut self.told,
            Manner::Compared => &mut self.compared,
        }
    }
}

impl Tellers {
    pub(super) fn new(limits: &Limits) -> Self {
        let whole = limits.members.saturating_add(limits.tombstones);
        Self {
            of: BTreeMap::new(),
            at_once: limits.news_at_once,
            compared_at_once: u32::try_from(whole).unwrap_or(u32::MAX),
            per_second: limits.news_per_second,
        }
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether a peer may tell one more piece of news, among so many members.
    pub(super) fn may_tell(
        &mut self,
        now: Duration,
        peer: &NodeName,
        manner: Manner,
        members: usize,
    ) -> bool {
        let rate = self.rate(members);
        self.of.get_mut(peer).is_none_or(|teller| teller.allowance(manner).has(now, rate))
    }

    /// A peer told something new.
    pub(super) fn told(&mut self, now: Duration, peer: &NodeName, manner: Manner) {
        if !self.of.contains_key(peer) {
            self.make_room();
            let told = Allowance::new(self.at_once, now);
            let compared = Allowance::new(self.compared_at_once, now);
            self.of.insert(peer.clone(), Teller { told, compared });
        }
        if let Some(teller) = self.of.get_mut(peer) {
            teller.allowance(manner).spend();
        }
    }

    /// Forgets those who may tell all again.
    pub(super) fn prune(&mut self, now: Duration, members: usize) {
        let rate = self.rate(members);
        self.of.retain(|_, Teller { told, compared }| {
            !(told.is_full(now, rate) && compared.is_full(now, rate))
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
        let least = self.of.iter().max_by(|(_, a), (_, b)| a.told.compare(&b.told));
        if let Some(peer) = least.map(|(peer, _)| peer.clone()) {
            self.of.remove(&peer);
        }
    }
}
