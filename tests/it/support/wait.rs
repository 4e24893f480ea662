//! Waiting for conditions: the only place where tests read a clock or sleep.

use std::time::{Duration, Instant};

/// Long enough for anything that is to happen at all, on a machine busy with
/// other tests.
pub const LONG: Duration = Duration::from_secs(30);

/// Between two looks at a condition.
const LOOK: Duration = Duration::from_millis(5);

/// What a stopwatch showed.
#[allow(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub fn timed<T>(action: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let value = action();
    (value, start.elapsed())
}

/// Asks until there is an answer; fails the test when there is none in time.
///
/// `what` completes "waited for …".
#[track_caller]
pub fn eventually<T>(what: &str, within: Duration, ask: impl FnMut() -> Option<T>) -> T {
    match try_eventually(within, ask) {
        Some(answer) => answer,
        None => panic!("waited {within:?} for {what}"),
    }
}

/// Asks until there is an answer, or the time is over. Asks at least once.
#[allow(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub fn try_eventually<T>(within: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if start.elapsed() >= within {
            return None;
        }
        std::thread::sleep(LOOK);
    }
}

/// Looks at an invariant again and again for a while; fails the test when it breaks.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub fn always(what: &str, during: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < during {
        assert!(holds(), "after {:?} no longer: {what}", start.elapsed());
        std::thread::sleep(LOOK);
    }
}

/// Does something again and again for a while; returns how often.
#[allow(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub fn repeatedly(during: Duration, mut action: impl FnMut(usize)) -> usize {
    let start = Instant::now();
    let mut rounds = 0;
    while start.elapsed() < during {
        action(rounds);
        rounds += 1;
    }
    rounds
}

/// Does something at most so often for a while.
#[allow(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub fn paced(during: Duration, every: Duration, mut action: impl FnMut()) {
    let start = Instant::now();
    while start.elapsed() < during {
        let ((), took) = timed(&mut action);
        std::thread::sleep(every.saturating_sub(took));
    }
}

/// Asks until two answers in a row are the same.
#[track_caller]
#[allow(clippy::disallowed_methods, reason = "tests of real processes live in real time")]
pub fn settled<T: PartialEq>(what: &str, within: Duration, mut ask: impl FnMut() -> T) -> T {
    let mut last = None;
    eventually(what, within, || {
        let answer = ask();
        if last.as_ref() == Some(&answer) {
            return Some(answer);
        }
        last = Some(answer);
        std::thread::sleep(LOOK * 4);
        None
    })
}
