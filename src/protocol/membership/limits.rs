//! What bounds the machine's memory against whatever is said to it, and what happens at a
//! bound: it is noted, at most once a second each, and counted by whoever reads the notes.
//! `docs/membership.md` has the table of all maps.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::Duration;

/// Bounds that depend on how large a cluster may grow.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Members held at most; what is said of further nodes is dropped.
    pub members: usize,
    /// Tombstones held at most, those buried first going first: years of replaced pods, at
    /// some 200 bytes each.
    pub tombstones: usize,
    /// Members that no link has proven, learned at once at most by a node that has just joined:
    /// it hears of its cluster's members faster than it could link with them. Later it learns
    /// a sixteenth of it at once, and one more for every second proven member: somebody who
    /// makes members up gets no further than this.
    pub unproven_at_once: u32,
    /// And so many more in each second after that; later a thirty-second of it, and one more
    /// for each 32 proven members.
    pub unproven_per_second: u32,
    /// News of others that one peer may tell a node at once that has just joined; later an
    /// eighth of it. One more comes for each eight members. What it tells beyond is dropped;
    /// where views are compared it is learned, and not told on. After twice as much again, and
    /// one for every second member, it is not listened to.
    pub news_at_once: u32,
    /// And so many more in each second after that, in a small cluster: where there are more
    /// members there is more to tell.
    pub news_per_second: u32,
    /// News waiting to be told at most. What finds no room is made up for where views are
    /// compared.
    pub rumours: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            members: 10_000,
            tombstones: 10_000,
            unproven_at_once: 512,
            unproven_per_second: 128,
            news_at_once: 128,
            news_per_second: 1,
            rumours: 4096,
        }
    }
}

/// A bound that was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Limit {
    /// [`Limits::members`].
    Members,
    /// [`Limits::tombstones`].
    Tombstones,
    /// [`Limits::unproven_per_second`].
    Unproven,
    /// [`Limits::news_per_second`].
    News,
    /// [`Limits::rumours`].
    Rumours,
    /// Epochs, incarnations or burials that no honest growth explains.
    Numbers,
    /// Processes that spoke under this node's name.
    Rivals,
    /// Probes made for others.
    Favours,
    /// An operator's purges, passed on.
    Purges,
}

impl Limit {
    /// A fixed word for metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Members => "members",
            Self::Tombstones => "tombstones",
            Self::Unproven => "unproven_members",
            Self::News => "news",
            Self::Rumours => "rumours",
            Self::Numbers => "numbers",
            Self::Rivals => "rivals",
            Self::Favours => "favours",
            Self::Purges => "purges",
        }
    }

    /// What it means, for operators.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Members => "the table of members is full: further members are not taken",
            Self::Tombstones => {
                "the table of removed members is full: those removed first are forgotten"
            }
            Self::Unproven => {
                "a peer names more members than it can be believed at once; if nobody knows them, \
                 remove them with `muster cluster force-leave --brought-by`"
            }
            Self::News => {
                "a peer tells more of others than can be news; it is not believed for the while, \
                 and views are compared instead"
            }
            Self::Rumours => "more news than can be told; views are compared instead",
            Self::Numbers => {
                "a peer makes statements whose epoch or incarnation is out of range; they are \
                 dropped"
            }
            Self::Rivals => "more processes than can be remembered speak under this node's name",
            Self::Favours => "peers ask for more probes than are made for others at once",
            Self::Purges => "operators' purges come faster than they are passed on",
        }
    }
}

/// Between two notes of one bound.
const NOTED_EVERY: Duration = Duration::from_secs(1);

/// When each bound was last noted.
#[derive(Clone, Debug, Default)]
pub(super) struct Reached(BTreeMap<Limit, Duration>);

impl Reached {
    /// Whether a bound that is reached now is to be noted.
    pub(super) fn is_news(&mut self, now: Duration, limit: Limit) -> bool {
        let last = self.0.get(&limit).copied();
        let is_news = last.is_none_or(|last| now.saturating_sub(last) >= NOTED_EVERY);
        if is_news {
            self.0.insert(limit, now);
        }
        is_news
    }
}

/// What may be done so often, and so often more in each second after that: a token bucket.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    at_once: f64,
    left: f64,
    at: Duration,
}

impl Allowance {
    /// A full one.
    pub(super) fn new(at_once: u32, now: Duration) -> Self {
        Self { at_once: f64::from(at_once), left: f64::from(at_once), at: now }
    }

    /// What came together since this was last asked is added.
    fn refill(&mut self, now: Duration, per_second: u32) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        self.at = self.at.max(now);
        self.left = (self.left + passed * f64::from(per_second)).min(self.at_once);
    }

    /// Whether it may be done now.
    pub(super) fn has(&mut self, now: Duration, per_second: u32) -> bool {
        self.refill(now, per_second);
        self.left >= 1.0
    }

    /// Whether nothing is owed.
    pub(super) fn is_full(&mut self, now: Duration, per_second: u32) -> bool {
        self.refill(now, per_second);
        self.left >= self.at_once
    }

    /// Whether more than half of it is used.
    pub(super) fn is_low(&mut self, now: Duration, per_second: u32) -> bool {
        self.refill(now, per_second);
        self.left < self.at_once / 2.0
    }

    /// Whether less of it is used than of another, or more.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        self.left.total_cmp(&other.left)
    }

    /// No more than this may be done at once from now on.
    pub(super) fn limit(&mut self, at_once: u32) {
        self.at_once = f64::from(at_once);
        self.left = self.left.min(self.at_once);
    }

    /// It was done.
    pub(super) fn spend(&mut self) {
        self.left -= 1.0;
    }

    /// It was done, whether it might be or not; so much can be owed.
    pub(super) fn owe(&mut self, now: Duration, per_second: u32, most: u32) {
        self.refill(now, per_second);
        self.left = (self.left - 1.0).max(-f64::from(most));
    }

    /// Whether it may be done now; then it is.
    pub(super) fn take(&mut self, now: Duration, per_second: u32) -> bool {
        let may = self.has(now, per_second);
        if may {
            self.spend();
        }
        may
    }
}
