//! Places for connections that have not proven anything yet.
//!
//! Strangers and known nodes have places of their own: however many addresses strangers
//! come from, they take none of those that members, seeds and discovered nodes come in by.
//! Nobody is turned away at the door. Where places are short an older connection gives
//! way: one of the address that holds most of them, and of its connections one that has
//! not said a word.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::node::NodeName;

/// Most connections of strangers in their handshake at one time. At under 16 KiB each, a
/// flood costs at most 8 MiB.
pub const MAX_UNAUTHENTICATED: usize = 512;

/// Most of them from one IPv4 address or one IPv6 /64 network.
pub const MAX_UNAUTHENTICATED_PER_ADDRESS: usize = 128;

/// Most connections in their handshake from addresses of known nodes: hundreds of agents on
/// one host that start at once stay below it. Only whoever controls such an address can
/// fill it, and then another 8 MiB.
pub const MAX_UNAUTHENTICATED_KNOWN: usize = 512;

/// Most nodes whose addresses are remembered: as many as there may be members, and as many
/// again that discovery names.
const MAX_KNOWN: usize = 20_000;

/// Most addresses of one node.
const MAX_ADDRESSES: usize = 8;

/// The places, and who is known.
#[derive(Debug)]
pub(super) struct Gate(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    strangers: Pool,
    known: Pool,
    next: u64,
    addresses: Addresses,
}

/// The two ends of one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ends {
    pub(super) near: SocketAddr,
    pub(super) far: SocketAddr,
}

impl Ends {
    /// The same connection as the other end has it.
    pub(super) fn seen_from_there(self) -> Self {
        Self { near: self.far, far: self.near }
    }
}

/// A place among the unauthenticated; given back when dropped.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    known: bool,
    source: IpAddr,
    number: u64,
    ticket: Arc<Ticket>,
}

#[derive(Debug, Default)]
struct Ticket {
    /// Whether the peer has sent anything.
    spoke: AtomicBool,
    /// The place is another's now.
    leave: Notify,
}

impl Default for Gate {
    fn default() -> Self {
        Self(Mutex::new(Inner {
            strangers: Pool::new(MAX_UNAUTHENTICATED, MAX_UNAUTHENTICATED_PER_ADDRESS),
            known: Pool::new(MAX_UNAUTHENTICATED_KNOWN, MAX_UNAUTHENTICATED_KNOWN),
            next: 0,
            addresses: Addresses::default(),
        }))
    }
}

impl Gate {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for an accepted connection, and the limit that another one had to give way
    /// to for it.
    pub(super) fn enter(self: &Arc<Self>, ends: Ends) -> (Permit, Option<&'static str>) {
        let address = ends.far.ip().to_canonical();
        let source = source(address);
        let ticket = Arc::<Ticket>::default();
        let mut inner = self.lock();
        let known = inner.addresses.holds(address);
        let number = inner.next;
        inner.next += 1;
        let pool = if known { &mut inner.known } else { &mut inner.strangers };
        let limit = pool.make_room(source);
        pool.insert(source, Place { number, ends, ticket: Arc::clone(&ticket) });
        drop(inner);
        (Permit { gate: Arc::clone(self), known, source, number, ticket }, limit)
    }

    /// Whether this very connection was accepted and is in its handshake.
    pub(super) fn holds(&self, ends: Ends) -> bool {
        let source = source(ends.far.ip().to_canonical());
        let inner = self.lock();
        [&inner.strangers, &inner.known].into_iter().any(|pool| {
            let places = pool.places.get(&source);
            places.is_some_and(|places| places.iter().any(|place| place.ends == ends))
        })
    }

    /// Says where a node may connect from. Of one that is not [expected](Self::expect) by
    /// then it is forgotten with the next change of those.
    pub(super) fn know(&self, node: &NodeName, addresses: impl Iterator<Item = IpAddr>) {
        self.lock().addresses.add(node, addresses);
    }

    /// Replaces whom connections are expected from; their addresses are kept.
    pub(super) fn expect<'a>(&self, nodes: impl Iterator<Item = &'a NodeName>) {
        self.lock().addresses.replace(nodes);
    }

    /// Nodes whose addresses are remembered.
    #[cfg(test)]
    fn known_nodes(&self) -> usize {
        self.lock().addresses.by_node.len()
    }
}

impl Permit {
    /// Whether the connection comes from an address of a known node.
    pub(super) fn is_known(&self) -> bool {
        self.known
    }

    /// The peer has said something: of one address's connections the silent go first.
    pub(super) fn spoke(&self) {
        self.ticket.spoke.store(true, Ordering::Relaxed);
    }

    /// Resolves when another connection has taken this one's place.
    pub(super) async fn taken(&self) {
        self.ticket.leave.notified().await;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inner = self.gate.lock();
        let pool = if self.known { &mut inner.known } else { &mut inner.strangers };
        pool.remove(self.source, |place| place.number == self.number);
    }
}

#[derive(Debug)]
struct Place {
    number: u64,
    ends: Ends,
    ticket: Arc<Ticket>,
}

/// Where a source stands: the one with most places is last, and of several the one with
/// the oldest.
type Rank = (usize, Reverse<u64>, IpAddr);

#[derive(Debug)]
struct Pool {
    limit: usize,
    per_source: usize,
    total: usize,
    /// Oldest first; only sources that hold any.
    places: HashMap<IpAddr, VecDeque<Place>>,
    ranks: BTreeSet<Rank>,
}

impl Pool {
    fn new(limit: usize, per_source: usize) -> Self {
        let (places, ranks) = (HashMap::new(), BTreeSet::new());
        Self { limit, per_source, total: 0, places, ranks }
    }

    fn rank(&self, source: IpAddr) -> Option<Rank> {
        let places = self.places.get(&source)?;
        Some((places.len(), Reverse(places.front()?.number), source))
    }

    /// Has one connection give way, if places are short for one more from this source.
    fn make_room(&mut self, source: IpAddr) -> Option<&'static str> {
        let held = self.places.get(&source).map_or(0, VecDeque::len);
        let (from, limit) = if held >= self.per_source {
            (source, "address_limit")
        } else if self.total >= self.limit {
            let &(most, _, greediest) = self.ranks.last()?;
            (if held >= most { source } else { greediest }, "total_limit")
        } else {
            return None;
        };
        let silent = |place: &Place| !place.ticket.spoke.load(Ordering::Relaxed);
        if !self.remove(from, silent) {
            self.remove(from, |_| true);
        }
        Some(limit)
    }

    fn insert(&mut self, source: IpAddr, place: Place) {
        self.change(source, |places| places.push_back(place));
        self.total += 1;
    }

    /// Ends the oldest place of a source for which this holds; whether there is one.
    fn remove(&mut self, source: IpAddr, which: impl Fn(&Place) -> bool) -> bool {
        let mut removed = None;
        self.change(source, |places| {
            let at = places.iter().position(which);
            removed = at.and_then(|at| places.remove(at));
        });
        let Some(place) = removed else { return false };
        self.total -= 1;
        place.ticket.leave.notify_one();
        true
    }

    fn change(&mut self, source: IpAddr, change: impl FnOnce(&mut VecDeque<Place>)) {
        if let Some(rank) = self.rank(source) {
            self.ranks.remove(&rank);
        }
        let places = self.places.entry(source).or_default();
        change(places);
        if places.is_empty() {
            self.places.remove(&source);
        }
        self.ranks.extend(self.rank(source));
    }
}

/// Where known nodes may connect from.
#[derive(Debug, Default)]
struct Addresses {
    by_node: HashMap<NodeName, Vec<IpAddr>>,
    /// How many nodes each is an address of.
    nodes: HashMap<IpAddr, usize>,
}

impl Addresses {
    fn holds(&self, address: IpAddr) -> bool {
        self.nodes.contains_key(&address)
    }

    fn add(&mut self, node: &NodeName, addresses: impl Iterator<Item = IpAddr>) {
        if self.by_node.len() >= MAX_KNOWN && !self.by_node.contains_key(node) {
            return;
        }
        let held = self.by_node.entry(node.clone()).or_default();
        for address in addresses.map(|address| address.to_canonical()) {
            // The newest are kept: a node moves, and then is seen at its new address.
            if let Some(at) = held.iter().position(|held| *held == address) {
                held.remove(at);
            } else {
                *self.nodes.entry(address).or_default() += 1;
            }
            held.push(address);
            if held.len() > MAX_ADDRESSES {
                let oldest = held.remove(0);
                release(&mut self.nodes, oldest);
            }
        }
    }

    fn replace<'a>(&mut self, nodes: impl Iterator<Item = &'a NodeName>) {
        let mut before = std::mem::take(&mut self.by_node);
        self.nodes.clear();
        for node in nodes.take(MAX_KNOWN) {
            let held = before.remove(node).unwrap_or_default();
            self.add(node, node.host().ip().into_iter().chain(held));
        }
    }
}

fn release(nodes: &mut HashMap<IpAddr, usize>, address: IpAddr) {
    if let Some(count) = nodes.get_mut(&address) {
        *count -= 1;
        if *count == 0 {
            nodes.remove(&address);
        }
    }
}

/// What is counted as one source: one who has an IPv6 network has all its addresses.
fn source(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            std::net::Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX)).into()
        }
    }
}

#[cfg(test)]
mod tests;
