//! How often work is done that costs as much as there are members.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// Time this thread has spent on a processor: what a step took, whatever else the machine
/// did meanwhile.
pub(super) fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, nanoseconds) = (time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs());
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// The part of a processor that goes into telling readers. While hundreds of agents form a
/// cluster, every one of their changes would otherwise have every one of them copied.
const SHARE: f64 = 0.002;
/// Seconds of it that may be spent at once: a change in a quiet cluster is told at once.
const BURST: f64 = 0.002;

/// Lets a repeated step pass at once as long as it is cheap or seldom, and with pauses when
/// it is neither.
#[derive(Debug)]
pub(super) struct Pace {
    held: f64,
    at: Instant,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { held: BURST, at: Instant::now() }
    }

    /// When the step may be done next, after no longer a pause than this; in the past: now.
    pub(super) fn next(&self, longest: Duration) -> Instant {
        let missing = Duration::from_secs_f64((-self.held / SHARE).max(0.0));
        self.at + missing.min(longest)
    }

    /// The step was done, and took so much of a processor.
    pub(super) fn took(&mut self, time: Duration) {
        let now = Instant::now();
        let passed = now.duration_since(self.at).as_secs_f64();
        self.held = (self.held + passed * SHARE).clamp(-1.0, BURST) - time.as_secs_f64();
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(200);

    #[tokio::test(start_paused = true)]
    async fn what_is_seldom_passes_at_once() {
        let mut pace = Pace::new();
        for _ in 0..100 {
            assert!(pace.next(LONGEST) <= Instant::now());
            pace.took(STEP);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_often_waits_and_never_long() {
        let mut pace = Pace::new();
        let start = Instant::now();
        let mut steps = 0;
        while start.elapsed() < Duration::from_secs(10) {
            let pause = pace.next(LONGEST).saturating_duration_since(Instant::now());
            assert!(pause <= LONGEST);
            tokio::time::advance(pause).await;
            pace.took(STEP);
            steps += 1;
        }
        assert!((45..=55).contains(&steps), "{steps}");
    }

    #[test]
    fn a_thread_s_time_on_a_processor_grows_by_what_it_does() {
        let before = processor_time();
        let sum: u64 = (0..200_000_u64).map(std::hint::black_box).sum();
        assert!(processor_time() > before, "{sum}");
    }
}
