//! How much one peer may tell of others.
//!
//! Everybody passes news on, so each piece costs each member something, and one member that
//! makes news up would cost the whole cluster what it likes. An honest member brings its
//! share of what happens; of whoever brings more nothing is passed on for the while. Nothing
//! is lost by that: views that differ are compared, at a pace that costs little whatever is
//! in them.

use std::collections::BTreeMap;
use std::time::Duration;

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
    of: BTreeMap<NodeName, Allowance>,
    at_once: u32,
    per_second: u32,
}

impl Tellers {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            of: BTreeMap::new(),
            at_once: limits.news_at_once,
            per_second: limits.news_per_second,
        }
    }

    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// Whether a peer may tell one more piece of news, among so many members.
    pub(super) fn may_tell(&mut self, now: Duration, peer: &NodeName, members: usize) -> bool {
        let rate = self.rate(members);
        self.of.get_mut(peer).is_none_or(|allowance| allowance.has(now, rate))
    }

    /// A peer told something new.
    pub(super) fn told(&mut self, now: Duration, peer: &NodeName) {
        if !self.of.contains_key(peer) {
            self.make_room();
            self.of.insert(peer.clone(), Allowance::new(self.at_once, now));
        }
        if let Some(allowance) = self.of.get_mut(peer) {
            allowance.spend();
        }
    }

    /// Forgets those who may tell all again.
    pub(super) fn prune(&mut self, now: Duration, members: usize) {
        let rate = self.rate(members);
        self.of.retain(|_, allowance| !allowance.is_full(now, rate));
    }

    fn rate(&self, members: usize) -> u32 {
        let share = u32::try_from(members / MEMBERS).unwrap_or(u32::MAX);
        self.per_second.saturating_add(share)
    }

    fn make_room(&mut self) {
        if self.of.len() < MAX_TELLERS {
            return;
        }
        let least = self.of.iter().max_by(|(_, a), (_, b)| a.compare(b));
        if let Some(peer) = least.map(|(peer, _)| peer.clone()) {
            self.of.remove(&peer);
        }
    }
}
