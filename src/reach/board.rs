//! What members said when they were asked whom they reach. Nobody is asked while nobody looks.
//!
//! Readers say that they look and read what is there; the membership driver, which has the
//! links, asks and writes down the answers. Neither waits for the other.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::Told;
use crate::node::NodeName;

/// Who has told is asked again no sooner, however many look.
const PAUSE: Duration = Duration::from_secs(2);

/// Who has not answered is asked again no sooner: an agent answers one at a time, and leaves
/// out who asks right behind another.
const AGAIN: Duration = Duration::from_millis(250);

/// Who has not answered for so long is said not to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What was told longer ago is not shown any more.
const FRESH: Duration = Duration::from_secs(10);

/// What is known of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Whom it reaches.
    Told(Told),
    /// It was asked, and has not answered in time.
    Nothing,
    /// It does not know the question.
    TooOld,
}

#[derive(Debug)]
struct Asked {
    /// When it was first asked what it has not answered since.
    since: Instant,
    last: Instant,
    is_open: bool,
    is_too_old: bool,
    told: Option<(Instant, Told)>,
}

/// Where answers stand. At most one for each member that is linked, of known names only:
/// some kilobytes in a cluster of fifty, and nothing before somebody looks.
#[derive(Debug, Default)]
pub struct Board {
    asked: Mutex<BTreeMap<NodeName, Asked>>,
    woken: Mutex<Option<Instant>>,
    looked: Notify,
}

impl Board {
    fn asked(&self) -> MutexGuard<'_, BTreeMap<NodeName, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes who asks, unless that was done a moment ago: readers may be many and fast.
    fn wake(&self, now: Instant) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        if woken.is_none_or(|at| now.saturating_duration_since(at) >= AGAIN) {
            *woken = Some(now);
            self.looked.notify_one();
        }
    }

    /// Somebody looks: has the members asked, and reads what they said before.
    #[must_use]
    pub fn look(&self, now: Instant) -> BTreeMap<NodeName, Said> {
        self.wake(now);
        let asked = self.asked();
        let said = asked.iter().filter_map(|(node, asked)| Some((node.clone(), asked.said(now)?)));
        said.collect()
    }

    /// Waits until somebody looks. Cancel-safe.
    pub async fn looked(&self) {
        self.looked.notified().await;
    }

    /// Whether a member is to be asked now; it then counts as asked.
    pub fn ask(&self, now: Instant, node: &NodeName) -> bool {
        let mut asked = self.asked();
        let Some(asked) = asked.get_mut(node) else {
            asked.insert(node.clone(), Asked::new(now));
            return true;
        };
        let pause = if asked.is_open { AGAIN } else { PAUSE };
        let idle = now.saturating_duration_since(asked.last);
        if idle < pause {
            return false;
        }
        if !asked.is_open || idle > FRESH {
            asked.since = now;
        }
        asked.last = now;
        asked.is_open = true;
        asked.is_too_old = false;
        true
    }

    /// A member cannot be asked: its version does not know the question.
    pub fn too_old(&self, now: Instant, node: &NodeName) {
        let old = Asked { is_open: false, is_too_old: true, ..Asked::new(now) };
        self.asked().insert(node.clone(), old);
    }

    /// Whether a member was asked and has not answered.
    pub fn awaits(&self, node: &NodeName) -> bool {
        self.asked().get(node).is_some_and(|asked| asked.is_open)
    }

    /// A member's answer to the last question.
    pub fn tell(&self, now: Instant, node: &NodeName, told: Told) {
        if let Some(asked) = self.asked().get_mut(node) {
            asked.is_open = false;
            asked.told = Some((now, told));
        }
    }

    /// Forgets who is a member no more.
    pub fn retain(&self, is_member: impl Fn(&NodeName) -> bool) {
        self.asked().retain(|node, _| is_member(node));
    }
}

impl Asked {
    fn new(now: Instant) -> Self {
        Self { since: now, last: now, is_open: true, is_too_old: false, told: None }
    }

    /// `None`: it is being asked.
    fn said(&self, now: Instant) -> Option<Said> {
        let ago = |at: Instant| now.saturating_duration_since(at);
        if ago(self.last) > FRESH {
            // Nobody has looked since.
            return None;
        }
        if self.is_too_old {
            return Some(Said::TooOld);
        }
        match &self.told {
            Some((at, told)) if ago(*at) <= FRESH => Some(Said::Told(told.clone())),
            _ if self.is_open && ago(self.since) > PATIENCE => Some(Said::Nothing),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
