//! How long to wait after a failure, the longer the more there were in a row.

use std::time::Duration;

use rand::{Rng, RngExt as _};

/// A pause that doubles with every failure, up to a longest one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
}

impl Backoff {
    /// `first` after one failure. A `longest` below it counts as `first`: the pause then
    /// never grows.
    #[must_use]
    pub const fn new(first: Duration, longest: Duration) -> Self {
        let longest = if longest.as_nanos() < first.as_nanos() { first } else { longest };
        Self { first, longest }
    }

    /// The pause when `before` others have failed in a row before this one.
    #[must_use]
    pub fn after(self, before: u32) -> Duration {
        let factor = 1_u32.checked_shl(before).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    /// The same, times something between `from` and `to`, so that those who failed together
    /// do not come back together.
    pub fn jittered(self, before: u32, (from, to): (f64, f64), rng: &mut impl Rng) -> Duration {
        self.after(before).mul_f64(rng.random_range(from..to))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn it_doubles_up_to_the_longest() {
        let ms = Duration::from_millis;
        let backoff = Backoff::new(ms(200), ms(5_000));
        let waits: Vec<_> = [0, 1, 2, 4, 5, 31, 32, u32::MAX].map(|n| backoff.after(n)).into();
        assert_eq!(waits, [200, 400, 800, 3_200, 5_000, 5_000, 5_000, 5_000].map(ms));
        assert_eq!(Backoff::new(ms(200), ms(50)).after(9), ms(200));
        let mut rng = rand::rngs::SmallRng::seed_from_u64(1);
        for n in 0..40 {
            let wait = backoff.jittered(n, (0.5, 1.0), &mut rng);
            assert!(wait >= backoff.after(n) / 2 && wait <= backoff.after(n), "{n}: {wait:?}");
        }
    }
}
