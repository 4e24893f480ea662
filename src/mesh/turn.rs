//! What one link may have under way, and what its frames have cost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Frames of one link that wait for the receiver at one time: enough that it never waits
/// for a link that has more, few enough that those of all others are behind a handful.
pub const TURNS: usize = 16;

/// A link's frames under way, shared by the link's task and the receiver.
#[derive(Clone, Debug)]
pub(super) struct Turns {
    free: Arc<Semaphore>,
    /// Nanoseconds that were spent on frames of this link since they were last asked for.
    spent: Arc<AtomicU64>,
}

impl Default for Turns {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(TURNS)), spent: Arc::default() }
    }
}

impl Turns {
    /// Waits until one more frame may be handed over.
    pub(super) async fn next(&self) -> Turn {
        // It is never closed.
        let place = Arc::clone(&self.free).acquire_owned().await.ok();
        Turn { spent: Arc::clone(&self.spent), _place: place }
    }

    /// What frames have cost since this was last asked.
    pub(super) fn take_spent(&self) -> Duration {
        Duration::from_nanos(self.spent.swap(0, Ordering::Relaxed))
    }
}

/// One frame's turn. Dropped when the frame has been dealt with.
#[derive(Debug)]
pub struct Turn {
    spent: Arc<AtomicU64>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Turn {
    /// The frame took so much of the receiver's time on a processor, with all it made it do.
    pub fn took(self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.spent.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}
