//! Membership news in order, kept for those who come late.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::watch;

use crate::node::NodeName;
use crate::view::MemberStatus;

/// Events kept for resuming readers: minutes of news in the worst of storms, at
/// some 200 bytes each.
pub const EVENT_RING: usize = 4096;

/// What happened to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// A member this node did not know.
    Joined,
    /// The status of a known member changed.
    Changed,
    /// Its tags, its broker or its drain changed.
    Updated,
    /// It left by its own will.
    Left,
    /// It was removed by an operator or by autoclean.
    Removed,
}

impl EventKind {
    /// Every kind, for whoever lists them.
    pub const ALL: [Self; 5] =
        [Self::Joined, Self::Changed, Self::Updated, Self::Left, Self::Removed];

    /// As the API spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Changed => "changed",
            Self::Updated => "updated",
            Self::Left => "left",
            Self::Removed => "removed",
        }
    }
}

/// One piece of news about one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Grows by one with every event of this process.
    pub id: u64,
    /// When this node learned of it.
    pub at: SystemTime,
    /// What happened.
    pub kind: EventKind,
    /// To whom.
    pub node: NodeName,
    /// The status before, if it was a member.
    pub from: Option<MemberStatus>,
    /// The status since, if it still is one.
    pub to: Option<MemberStatus>,
    /// What was observed, as a code out of a fixed list.
    pub reason: &'static str,
    /// The same for people.
    pub text: String,
    /// Who observed it.
    pub by: NodeName,
}

/// The answer to a reader that asks for what it has not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Since {
    /// What came after the id it named, oldest first; may be empty.
    Events(Vec<Event>),
    /// The id is unknown or has left the ring: the reader starts anew behind this id.
    Reset(u64),
}

/// The last [`EVENT_RING`] events. One writer, any number of readers.
#[derive(Debug)]
pub struct EventLog {
    ring: Mutex<VecDeque<Event>>,
    last: watch::Sender<u64>,
}

impl Default for EventLog {
    /// Ids go on from the time of the start in milliseconds, so that an id out of an
    /// earlier life of this node is older than the ring, and its reader gets a
    /// reset instead of the wrong events. Below 2^53, as JavaScript wants it.
    fn default() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self::starting_after(u64::try_from(since_epoch.as_millis()).unwrap_or(0))
    }
}

impl EventLog {
    /// An empty log whose first event gets the id behind `last`.
    #[must_use]
    pub fn starting_after(last: u64) -> Self {
        Self { ring: Mutex::new(VecDeque::new()), last: watch::Sender::new(last) }
    }

    /// Appends an event built from its id.
    pub fn push(&self, build: impl FnOnce(u64) -> Event) {
        let mut ring = self.ring.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let id = self.last_id() + 1;
        if ring.len() == EVENT_RING {
            ring.pop_front();
        }
        ring.push_back(build(id));
        // Within the lock: whoever sees the id finds the event.
        self.last.send_replace(id);
    }

    /// The id of the newest event ever pushed.
    #[must_use]
    pub fn last_id(&self) -> u64 {
        *self.last.borrow()
    }

    /// At most `limit` events that happened after `seen` (0: everything kept).
    #[must_use]
    pub fn since(&self, seen: u64, limit: usize) -> Since {
        let ring = self.ring.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let last = self.last_id();
        let first = ring.front().map_or(last + 1, |event| event.id);
        if seen > last || (seen != 0 && seen + 1 < first) {
            return Since::Reset(last);
        }
        let skip = usize::try_from((seen + 1).saturating_sub(first)).unwrap_or(usize::MAX);
        Since::Events(ring.iter().skip(skip).take(limit).cloned().collect())
    }

    /// The id behind which the newest `count` events come.
    #[must_use]
    pub fn before_newest(&self, count: usize) -> u64 {
        let ring = self.ring.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let skip = ring.len().saturating_sub(count);
        ring.get(skip).map_or_else(|| self.last_id(), |event| event.id - 1)
    }

    /// Changes whenever an event was pushed; holds the last id.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.last.subscribe()
    }
}

#[cfg(test)]
mod tests;
