//! How long the tests go on that are worth more time than an ordinary run has.

use std::time::Duration;

fn asked(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |number| number.parse().unwrap())
}

/// How often agents are started at once (`MUSTER_SOAK`).
pub fn rounds() -> u64 {
    asked("MUSTER_SOAK", 2)
}

/// How long a discovery backend is away (`MUSTER_OUTAGE`, in seconds).
pub fn outage() -> Duration {
    Duration::from_secs(asked("MUSTER_OUTAGE", 4))
}
