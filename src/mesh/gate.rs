//! Limits on connections that have not proven anything yet.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Most connections in their handshake at one time. At under 16 KiB each, a flood
/// costs at most 8 MiB.
pub const MAX_UNAUTHENTICATED: usize = 512;

/// Most of them from one IPv4 address or one IPv6 /64 network. Fifty agents on one
/// host that all start at once stay well below it.
pub const MAX_UNAUTHENTICATED_PER_ADDRESS: usize = 128;

/// Counts connections in their handshake.
#[derive(Debug, Default)]
pub(super) struct Gate {
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    /// Only addresses with a count above 0.
    by_source: HashMap<IpAddr, usize>,
}

/// A place among the unauthenticated; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    source: IpAddr,
}

impl Gate {
    /// A place for a connection from this address, or the limit that stands against it.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Permit, &'static str> {
        let source = source(address);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.total >= MAX_UNAUTHENTICATED {
            return Err("total_limit");
        }
        let count = counts.by_source.entry(source).or_insert(0);
        if *count >= MAX_UNAUTHENTICATED_PER_ADDRESS {
            return Err("address_limit");
        }
        *count += 1;
        counts.total += 1;
        Ok(Permit { gate: Arc::clone(self), source })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut counts = self.gate.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total -= 1;
        if let Some(count) = counts.by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                counts.by_source.remove(&self.source);
            }
        }
    }
}

/// What is counted as one source: one who has an IPv6 network has all its addresses.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => v4.into(),
            None => std::net::Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into(),
        },
    }
}

#[cfg(test)]
mod tests;
