//! How long the tests go on that are worth more time than an ordinary run has.

use std::time::Duration;

fn asked(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |number| number.parse().unwrap())
}

/// How often agents are started at once (`SOAK_ROUNDS`).
pub fn rounds() -> u64 {
    asked("SOAK_ROUNDS", 2)
}

/// For how long agents are killed again and again (`SOAK_KILLING`, in seconds).
pub fn killing() -> Duration {
    Duration::from_secs(asked("SOAK_KILLING", 2))
}

/// For how long every core is kept busy (`SOAK_LOAD`, in seconds).
pub fn load() -> Duration {
    Duration::from_secs(asked("SOAK_LOAD", 6))
}

/// How long a discovery backend is away (`SOAK_OUTAGE`, in seconds).
pub fn outage() -> Duration {
    Duration::from_secs(asked("SOAK_OUTAGE", 4))
}

/// How many agents a cluster in turmoil has (`SOAK_AGENTS`, at most 100).
pub fn agents() -> u16 {
    u16::try_from(asked("SOAK_AGENTS", 12)).unwrap()
}

/// For how long a cluster is in turmoil (`SOAK_TURMOIL`, in seconds).
pub fn turmoil() -> Duration {
    Duration::from_secs(asked("SOAK_TURMOIL", 8))
}

/// Of how many fifths of a second one brings a change to a cluster in turmoil (`SOAK_PACE`).
pub fn pace() -> u32 {
    u32::try_from(asked("SOAK_PACE", 1)).unwrap()
}

/// With how many agents the hostile member of a cluster in turmoil links (`SOAK_VICTIMS`).
pub fn victims() -> usize {
    usize::try_from(asked("SOAK_VICTIMS", 5)).unwrap()
}
