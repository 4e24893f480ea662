//! A cap on how fast one link's frames are read.

use std::time::Duration;

use tokio::time::Instant;

/// Frames a second that a peer may keep up; membership needs a few.
const FRAMES: u32 = 2_000;
/// Bytes a second that a peer may keep up.
const BYTES: u32 = 8 << 20;
/// Seconds' worth that may come at once.
const BURST: u32 = 2;

/// A token bucket of two kinds of token. What it holds back is not lost: it stays in
/// the socket, and TCP slows the peer down.
#[derive(Debug)]
pub(super) struct Rate {
    frames: f64,
    bytes: f64,
    at: Instant,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self { frames: f64::from(FRAMES * BURST), bytes: f64::from(BYTES * BURST), at: now }
    }

    /// Takes what was read; the answer is when to read again, if not at once.
    pub(super) fn take(&mut self, frames: u32, bytes: u32, now: Instant) -> Option<Instant> {
        let passed = now.duration_since(self.at).as_secs_f64();
        self.at = now;
        let refill = |held: f64, rate: u32, used: u32| {
            (held + passed * f64::from(rate)).min(f64::from(rate * BURST)) - f64::from(used)
        };
        self.frames = refill(self.frames, FRAMES, frames);
        self.bytes = refill(self.bytes, BYTES, bytes);
        let missing = (-self.frames / f64::from(FRAMES)).max(-self.bytes / f64::from(BYTES));
        (missing > 0.0).then(|| now + Duration::from_secs_f64(missing))
    }
}
