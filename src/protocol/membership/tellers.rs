//! How much one peer may tell of others.
//!
//! Everybody passes news on, so each piece costs each member something, and one member that
//! makes news up would cost the whole cluster what it likes. An honest member brings its
//! share of what happens; of whoever brings more nothing is passed on for the while. Nothing
//! is lost by that: views that differ are compared, at a pace that costs little whatever is
//! in them. Whoever brings far more than that, as much as if it had been away and all had
//! changed meanwhile, and more and more, is not listened to about others until it has kept
//! quiet for a while, as long as there is somebody else to listen to.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Membership;
use super::learn::Manner;
use super::limits::{Allowance, Limits};
use super::record::Record;
use crate::node::NodeName;

/// Peers whose allowance is not whole that are remembered. Beyond, the one that told least is
/// forgotten: it may tell as much as at first.
pub(super) const MAX_TELLERS: usize = 1024;

/// For each so many members a peer may tell one piece of news more in each second, one more
/// at once, and one more beyond that.
const MEMBERS: usize = 128;
const MEMBERS_AT_ONCE: usize = 8;
const MEMBERS_BEYOND: usize = 2;

/// So many statements about members are learned at once where views are compared, and one more
/// for every second member, whatever a peer told as news; for each so many members there is one
/// more in a second. Where much happens honest peers tell too much, and who heard none of them
/// any more might cause it.
const REPAIRS: u32 = 16;
const MEMBERS_REPAIRED: usize = 64;

/// Removals of nodes that are no members here, at once and in each second, where views are
/// compared: they change nothing that is shown, and who comes from another cluster, or was the
/// only one to keep its disk, may hold thousands. Only while half of the room for them is free,
/// or those of one member would push out all others'.
const GRAVES: u32 = 64;

/// A node that has just joined is told so many times as much at once: all there is.
const AT_FIRST: u32 = 8;

/// A member that joined within this hears whatever anybody tells.
const NEWCOMER: Duration = Duration::from_secs(10);

/// So few statements at once cost nobody its whole trust.
const FEW: usize = 16;

/// So often a node answers what is said of it, whoever says it: one that is not heard accuses
/// again, and is heard less for that.
const OBJECTS_EVERY: Duration = Duration::from_secs(5);

/// What can be owed: whoever told too much is heard again after it kept quiet until then.
const MOST_OWED: u32 = 32;

/// What a peer tells of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Matter {
    /// It may be news to everybody.
    News,
    /// Where views are compared: what became of a member.
    Repair,
    /// Where views are compared: the removal of who is no member here.
    Grave,
}

/// How what a peer tells of others is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// As news.
    Whole,
    /// It told enough: where views are compared it is learned, and not told on.
    Spent,
    /// It told far too much: not at all.
    Lost,
}

/// What a peer may tell.
#[derive(Clone, Copy, Debug)]
pub(super) struct Share {
    /// At once, to be told on.
    news: u32,
    /// At once beyond that, where views are compared.
    more: u32,
    /// Of each in a second after that.
    per_second: u32,
    /// What is learned in any case where views are compared, at once and in a second.
    repairs: (u32, u32),
}

impl Share {
    /// A peer's share among so many members.
    pub(super) fn new(limits: &Limits, members: usize, is_newcomer: bool) -> Self {
        let one_for = |each: usize| u32::try_from(members / each).unwrap_or(u32::MAX);
        let at_once = limits.news_at_once / if is_newcomer { 1 } else { AT_FIRST };
        Self {
            news: at_once.saturating_add(one_for(MEMBERS_AT_ONCE)),
            more: at_once.saturating_mul(2).saturating_add(one_for(MEMBERS_BEYOND)),
            per_second: limits.news_per_second.saturating_add(one_for(MEMBERS)),
            repairs: (
                REPAIRS.saturating_add(one_for(MEMBERS_BEYOND)),
                one_for(MEMBERS_REPAIRED).saturating_add(1),
            ),
        }
    }
}

/// What one peer may still tell.
#[derive(Clone, Copy, Debug)]
struct Account {
    news: Allowance,
    more: Allowance,
    repairs: Allowance,
    graves: Allowance,
}

impl Account {
    fn new(now: Duration, share: Share) -> Self {
        Self {
            news: Allowance::new(share.news, now),
            more: Allowance::new(share.more, now),
            repairs: Allowance::new(share.repairs.0, now),
            graves: Allowance::new(GRAVES, now),
        }
    }

    fn limit(&mut self, share: Share) {
        self.news.limit(share.news);
        self.more.limit(share.more);
        self.repairs.limit(share.repairs.0);
    }
}

/// What each peer may still tell; those that may tell all are in no book.
#[derive(Clone, Debug, Default)]
pub(super) struct Tellers {
    of: BTreeMap<NodeName, Account>,
}

impl Tellers {
    /// How many are remembered.
    pub(super) fn len(&self) -> usize {
        self.of.len()
    }

    /// How what a peer tells is to be taken. Who must be trusted, since there is nobody else,
    /// has its word told on all the same as far as it may tell.
    pub(super) fn trust(
        &mut self,
        now: Duration,
        peer: &NodeName,
        share: Share,
        matter: Matter,
        is_must: bool,
    ) -> Trust {
        let Some(account) = self.of.get_mut(peer) else { return Trust::Whole };
        account.limit(share);
        let Account { news, more, repairs, graves } = account;
        let is_lost = !is_must && !more.has(now, share.per_second);
        match matter {
            _ if !is_lost && news.has(now, share.per_second) => Trust::Whole,
            _ if is_must => Trust::Spent,
            Matter::Grave if graves.has(now, GRAVES) => Trust::Spent,
            Matter::Grave => Trust::Lost,
            Matter::Repair if repairs.has(now, share.repairs.1) => Trust::Spent,
            Matter::News | Matter::Repair if is_lost => Trust::Lost,
            Matter::News | Matter::Repair => Trust::Spent,
        }
    }

    /// A peer told something new, that is told on if its trust was whole.
    pub(super) fn told(&mut self, now: Duration, peer: &NodeName, share: Share, matter: Matter) {
        if !self.of.contains_key(peer) {
            self.make_room();
            self.of.insert(peer.clone(), Account::new(now, share));
        }
        if let Some(Account { news, more, repairs, graves }) = self.of.get_mut(peer) {
            match matter {
                _ if news.has(now, share.per_second) => news.spend(),
                Matter::Grave => graves.owe(now, GRAVES, 0),
                Matter::Repair if repairs.has(now, share.repairs.1) => repairs.spend(),
                Matter::News | Matter::Repair => more.owe(now, share.per_second, MOST_OWED),
            }
        }
    }

    /// Forgets those who may tell all again.
    pub(super) fn prune(&mut self, now: Duration, share: Share) {
        self.of.retain(|_, account| {
            account.limit(share);
            let Account { news, more, repairs, graves } = account;
            let is_whole = news.is_full(now, share.per_second)
                && more.is_full(now, share.per_second)
                && repairs.is_full(now, share.repairs.1)
                && graves.is_full(now, GRAVES);
            !is_whole
        });
    }

    fn make_room(&mut self) {
        if self.of.len() < MAX_TELLERS {
            return;
        }
        let least = self
            .of
            .iter()
            .max_by(|(_, a), (_, b)| a.more.compare(&b.more).then_with(|| a.news.compare(&b.news)));
        if let Some(peer) = least.map(|(peer, _)| peer.clone()) {
            self.of.remove(&peer);
        }
    }
}

impl Membership {
    /// Whether one more member may be learned of that no link has proven.
    pub(super) fn may_grow(&mut self, now: Duration) -> bool {
        let limits = &self.settings.limits;
        let (mut at_once, mut per_second) = (limits.unproven_at_once, limits.unproven_per_second);
        if !self.is_newcomer(now) {
            let proven = u32::try_from(self.proven_count()).unwrap_or(u32::MAX);
            at_once = (at_once / 16).saturating_add(proven / 2);
            per_second = (per_second / 32).saturating_add(proven / 32).max(1);
        }
        self.growth.limit(at_once);
        self.growth.take(now, per_second)
    }

    /// Whether this node joined so lately that there is much to learn.
    fn is_newcomer(&self, now: Duration) -> bool {
        self.joined_at.is_none_or(|at| now.saturating_sub(at) < NEWCOMER)
    }

    /// How what a peer says of others is taken.
    pub(super) fn trust(
        &mut self,
        now: Duration,
        speaker: &NodeName,
        matter: Matter,
        is_only: bool,
    ) -> Trust {
        let share = self.share(now);
        self.tellers.trust(now, speaker, share, matter, is_only)
    }

    /// A peer told something new of others.
    pub(super) fn told_by(&mut self, now: Duration, speaker: &NodeName, matter: Matter) {
        let share = self.share(now);
        self.tellers.told(now, speaker, share, matter);
    }

    /// Whether what is said of this node is to be heard although its speaker told enough.
    pub(super) fn must_object(&mut self, now: Duration, said: &Record) -> bool {
        let is_due = self.objected.is_none_or(|at| now.saturating_sub(at) >= OBJECTS_EVERY);
        let must = is_due && said.supersedes(&self.me);
        if must {
            self.objected = Some(now);
        }
        must
    }

    /// What it is that is said of another.
    pub(super) fn matter(&self, record: &Record, manner: Manner) -> Matter {
        let is_held = self.table.member(&record.node).is_some();
        let has_room = || self.table.tombstone_count() < self.settings.limits.tombstones / 2;
        match manner {
            Manner::Told => Matter::News,
            _ if is_held => Matter::Repair,
            _ if !record.is_member() && has_room() => Matter::Grave,
            _ => Matter::News,
        }
    }

    /// What each peer may tell.
    pub(super) fn share(&self, now: Duration) -> Share {
        Share::new(&self.settings.limits, self.proven_count(), self.is_newcomer(now))
    }

    /// Whether a peer must be listened to whatever it tells: this node has just come and
    /// knows nothing yet, or there is nobody else to listen to.
    pub(super) fn is_only_teller(
        &mut self,
        now: Duration,
        speaker: &NodeName,
        claims: usize,
    ) -> bool {
        if self.is_newcomer(now) {
            return true;
        }
        if claims < FEW && self.trust(now, speaker, Matter::News, false) == Trust::Whole {
            return false;
        }
        let peers = self.links.all_active().map(|(_, link)| link.peer.clone());
        let others: Vec<NodeName> = peers.filter(|peer| peer != speaker).collect();
        others.iter().all(|peer| self.trust(now, peer, Matter::News, false) == Trust::Lost)
    }
}
