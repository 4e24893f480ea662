//! When the machine's recurring work is due. Dials, probes and orders under way keep their
//! times themselves.

use std::time::Duration;

/// Work that is done again and again, or a while after something happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timer {
    /// Links and members are looked over for what has no timer of its own.
    Housekeeping,
    /// The next member is probed.
    Probe,
    /// The next round of gossip.
    Gossip,
    /// The view has not changed for a while: its hash is told.
    Settle,
    /// Views that differ are compared.
    Repair,
}

impl Timer {
    /// Each, in the order in which those that are due together are served.
    pub(super) const ALL: [Self; 5] =
        [Self::Housekeeping, Self::Probe, Self::Gossip, Self::Settle, Self::Repair];
}

/// The next time of each timer that is set, and how late this process runs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Timers {
    due: [Option<Duration>; Timer::ALL.len()],
    /// News that are not urgent wait for this.
    pub next_round: Duration,
    /// What the driver was last told to wake for.
    pub wake: Option<Duration>,
    /// Up to when lateness has been accounted for.
    pub accounted: Duration,
}

impl Timers {
    /// Sets a timer, in place of an earlier time.
    pub(super) fn set(&mut self, timer: Timer, at: Duration) {
        self.due[timer as usize] = Some(at);
    }

    /// Sets a timer that is not set.
    pub(super) fn begin(&mut self, timer: Timer, at: Duration) {
        self.due[timer as usize].get_or_insert(at);
    }

    /// Sets a timer, unless it is due sooner.
    pub(super) fn hasten(&mut self, timer: Timer, at: Duration) {
        let due = &mut self.due[timer as usize];
        *due = Some(due.map_or(at, |planned| planned.min(at)));
    }

    /// Whether a timer is due; then it is not set any more.
    pub(super) fn take(&mut self, timer: Timer, now: Duration) -> bool {
        self.due[timer as usize].take_if(|at| *at <= now).is_some()
    }

    /// Nothing is done any more.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The earliest time of all.
    pub(super) fn next(&self) -> Option<Duration> {
        self.due.into_iter().flatten().min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn each_timer_has_a_place_of_its_own() {
        let mut timers = Timers::default();
        for (timer, at) in Timer::ALL.into_iter().zip(10..) {
            timers.set(timer, s(at));
        }
        for (timer, at) in Timer::ALL.into_iter().zip(10..) {
            assert_eq!(timers.next(), Some(s(at)));
            assert!(!timers.take(timer, s(at - 1)), "{timer:?} is not due");
            assert!(timers.take(timer, s(at)), "{timer:?} is due");
            assert!(!timers.take(timer, s(at)), "{timer:?} was taken");
        }
        assert_eq!(timers.next(), None);
    }

    /// (is set to, begin, hasten, set): what each makes of a timer that is due in ten seconds,
    /// and of one that is not set.
    #[test]
    fn a_timer_is_set_anew_or_only_sooner_or_only_where_it_is_not_set() {
        for (held, at, begun, hastened, set) in [
            (None, 5, 5, 5, 5),
            (Some(10), 5, 10, 5, 5),
            (Some(10), 15, 10, 10, 15),
            (Some(10), 10, 10, 10, 10),
        ] {
            let after = |change: fn(&mut Timers, Timer, Duration)| {
                let mut timers = Timers::default();
                if let Some(held) = held {
                    timers.set(Timer::Gossip, s(held));
                }
                change(&mut timers, Timer::Gossip, s(at));
                timers.next()
            };
            assert_eq!(after(Timers::begin), Some(s(begun)), "begin {at} on {held:?}");
            assert_eq!(after(Timers::hasten), Some(s(hastened)), "hasten {at} on {held:?}");
            assert_eq!(after(Timers::set), Some(s(set)), "set {at} on {held:?}");
        }
    }
}
