//! A cap on how fast one link's frames are read.

use std::time::Duration;

use tokio::time::Instant;

/// Frames a second that a peer may keep up; membership needs a few.
const FRAMES: f64 = 2_000.0;
/// Bytes a second that a peer may keep up.
const BYTES: f64 = (8 << 20) as f64;
/// Seconds' worth of both that may come at once.
const BURST: f64 = 2.0;

/// The part of one processor that what a peer says may keep busy. Hundreds of agents that
/// form a cluster stay below a hundredth.
const WORK: f64 = 0.02;
/// Seconds of work that may come at once: two views of thousands made the same.
const WORK_BURST: f64 = 0.25;

/// A token bucket of three kinds of token. What it holds back is not lost: it stays in
/// the socket, and TCP slows the peer down.
#[derive(Debug)]
pub(super) struct Rate {
    frames: Bucket,
    bytes: Bucket,
    work: Bucket,
    at: Instant,
}

#[derive(Debug)]
struct Bucket {
    held: f64,
    rate: f64,
    most: f64,
}

impl Bucket {
    fn full(rate: f64, most: f64) -> Self {
        Self { held: most, rate, most }
    }

    /// Takes so much after so many seconds; how long until nothing is owed.
    fn take(&mut self, used: f64, passed: f64) -> f64 {
        self.held = (self.held + passed * self.rate).min(self.most) - used;
        (-self.held / self.rate).max(0.0)
    }
}

/// What was read, and what earlier frames have cost.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) frames: u32,
    pub(super) bytes: u32,
    pub(super) work: Duration,
}

impl Rate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            frames: Bucket::full(FRAMES, FRAMES * BURST),
            bytes: Bucket::full(BYTES, BYTES * BURST),
            work: Bucket::full(WORK, WORK_BURST),
            at: now,
        }
    }

    /// Takes what was used; the answer is when to read again, if not at once.
    pub(super) fn take(&mut self, used: Used, now: Instant) -> Option<Instant> {
        let passed = now.duration_since(self.at).as_secs_f64();
        self.at = now;
        let missing = self
            .frames
            .take(f64::from(used.frames), passed)
            .max(self.bytes.take(f64::from(used.bytes), passed))
            .max(self.work.take(used.work.as_secs_f64(), passed));
        (missing > 0.0).then(|| now + Duration::from_secs_f64(missing))
    }
}

#[cfg(test)]
mod tests;
