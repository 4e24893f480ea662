//! How much is answered: enough for everybody who asks, too little to be worth a forged
//! sender's while.
//!
//! A query over UDP may carry anybody's address, and its answer is longer than itself. So
//! what one network is sent is limited in bytes; beyond it, every second query is answered
//! with a short "ask over TCP", which no forger gets anything of. All queries together are
//! limited too, so that a flood takes a part of one core and no more.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Bytes that one network is sent in a second: some thousand answers of one address, and
/// no burden for whoever did not ask.
pub const BYTES_PER_SECOND: u32 = 100_000;

/// Bytes that it may be sent at once.
pub const BYTES_AT_ONCE: u32 = 200_000;

/// Queries read in a second, in all. At some ten microseconds each they take a fifth of a
/// core.
pub const QUERIES_PER_SECOND: u32 = 20_000;

/// Networks kept apart. Those that share a place by chance share an allowance.
const PLACES: usize = 4096;

/// What may be done with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Send it.
    Send,
    /// Send "ask over TCP" instead.
    Cut,
    /// Send nothing.
    Drop,
}

/// Tokens that come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    /// Milliseconds since the limiter's start.
    filled: u32,
}

impl Bucket {
    /// What is in it now.
    fn fill(&mut self, now: u32, rate: u32, most: u32) -> u32 {
        let since = u64::from(now.saturating_sub(self.filled));
        let more = since * u64::from(rate) / 1000;
        // What is less than a token yet is not forgotten.
        if more > 0 {
            let tokens = u64::from(self.tokens).saturating_add(more).min(u64::from(most));
            self.tokens = u32::try_from(tokens).unwrap_or(most);
            self.filled = now;
        }
        self.tokens
    }
}

/// Keeps count.
#[derive(Debug)]
pub struct Limiter {
    queries: Bucket,
    networks: Vec<Bucket>,
    /// Drawn at the start, so that nobody can aim at another's place.
    hasher: RandomState,
    /// Whether the next answer beyond a limit is [`Verdict::Cut`].
    turn: bool,
}

impl Default for Limiter {
    fn default() -> Self {
        let full = Bucket { tokens: BYTES_AT_ONCE, filled: 0 };
        Self {
            queries: Bucket { tokens: QUERIES_PER_SECOND, filled: 0 },
            networks: vec![full; PLACES],
            hasher: RandomState::new(),
            turn: false,
        }
    }
}

impl Limiter {
    /// Whether one more query is read, `now` being the time since the limiter was made.
    pub fn query(&mut self, now: Duration) -> bool {
        let tokens = self.queries.fill(millis(now), QUERIES_PER_SECOND, QUERIES_PER_SECOND);
        self.queries.tokens = tokens.saturating_sub(1);
        tokens > 0
    }

    /// What becomes of an answer of so many bytes. Loopback has no limit: nobody outside
    /// this machine can make it the sender.
    pub fn answer(&mut self, to: IpAddr, bytes: usize, now: Duration) -> Verdict {
        let to = to.to_canonical();
        if to.is_loopback() {
            return Verdict::Send;
        }
        let place = self.hasher.hash_one(network(to)) as usize % PLACES;
        let Some(bucket) = self.networks.get_mut(place) else { return Verdict::Drop };
        let tokens = bucket.fill(millis(now), BYTES_PER_SECOND, BYTES_AT_ONCE);
        let left = u32::try_from(bytes).ok().and_then(|bytes| tokens.checked_sub(bytes));
        if let Some(left) = left {
            bucket.tokens = left;
            return Verdict::Send;
        }
        self.turn = !self.turn;
        if self.turn { Verdict::Cut } else { Verdict::Drop }
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// Those who share an allowance: a /24 of IPv4, a /56 of IPv6.
fn network(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & 0xffff_ff00).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 72 << 72).into(),
    }
}

#[cfg(test)]
mod tests;
