//! The places at the API: who holds one, and who gives way when they run out.
//!
//! A place is held by a connection. While the agent works on its request it keeps the
//! place; while the agent waits for the *client* (for a handshake, a head, a body, the
//! next request, or for it to read) it may have to give way: to any newcomer when all
//! places are taken, and to a newcomer of its own address when that address holds its
//! share. The longest waiting goes first. So neither idle connections nor half-sent
//! requests, however many, keep a supervisor's probe out.
//!
//! Readers of events hold a place too, and one of their own number, [`MAX_READERS`]: a
//! further reader takes the oldest's, which comes back by itself where it is alive
//! (`EventSource` and `muster events` resume behind the last event they saw).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::listen::Peer;
use crate::metrics::Metrics;
use crate::throttle::Throttle;

/// Connections at once: dashboards, probes and scripts of one machine.
pub const MAX_CONNECTIONS: usize = 256;

/// Connections of one address: half of all, since everybody on this machine, the
/// supervisor's probe among them, comes from one.
pub const MAX_PER_PEER: usize = MAX_CONNECTIONS / 2;

/// Readers of events at once: a quarter of all places.
pub const MAX_READERS: usize = MAX_CONNECTIONS / 4;

/// Whom connections are counted against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// An IPv4 address, or the network of an IPv6 one: a host has all of its 64 bits.
    Network(IpAddr),
    /// Whoever the socket file's mode lets in.
    Unix,
}

impl From<Peer> for Origin {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Unix => Self::Unix,
            Peer::Tcp { remote, .. } => Self::Network(match remote.ip().to_canonical() {
                IpAddr::V6(ip) if !ip.is_loopback() => {
                    IpAddr::V6((ip.to_bits() >> 64 << 64).into())
                }
                ip => ip,
            }),
        }
    }
}

/// What the agent does with a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It waits for the client.
    Waiting,
    /// It works on a request.
    Working,
    /// It tells events.
    Reading,
}

#[derive(Debug)]
struct Holder {
    origin: Origin,
    phase: Phase,
    /// When the phase began.
    since: Instant,
    leave: Arc<Notify>,
}

/// All places of one server.
#[derive(Debug)]
pub(super) struct Places {
    table: Mutex<Table>,
    metrics: Arc<Metrics>,
    throttle: Throttle,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    holders: BTreeMap<u64, Holder>,
}

impl Table {
    /// The one that has been in this phase longest, of all or of one origin.
    fn longest(&self, phase: Phase, origin: Option<Origin>) -> Option<u64> {
        let counts = |holder: &Holder| {
            holder.phase == phase && origin.is_none_or(|origin| origin == holder.origin)
        };
        let those = self.holders.iter().filter(|(_, holder)| counts(holder));
        those.min_by_key(|(_, holder)| holder.since).map(|(id, _)| *id)
    }

    /// Sends one away; its place is free at once, its task ends when it next runs.
    fn dismiss(&mut self, id: u64) {
        if let Some(holder) = self.holders.remove(&id) {
            holder.leave.notify_one();
        }
    }
}

impl Places {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self { table: Mutex::default(), metrics, throttle: Throttle::default() })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a newcomer, somebody else's if need be; `None`: it is to be hung up
    /// on, since everybody who could give way is being worked for.
    pub(super) fn take(self: &Arc<Self>, peer: Peer) -> Option<Place> {
        let origin = Origin::from(peer);
        let mut table = self.table();
        let same = table.holders.values().filter(|holder| holder.origin == origin).count();
        let full = table.holders.len() >= MAX_CONNECTIONS;
        let reached = match (full, same >= MAX_PER_PEER) {
            (_, true) => Some(("api_connections_per_peer", Some(origin), MAX_PER_PEER)),
            (true, false) => Some(("api_connections", None, MAX_CONNECTIONS)),
            (false, false) => None,
        };
        let mut room = true;
        if let Some((limit, of, most)) = reached {
            let longest = table.longest(Phase::Waiting, of);
            room = longest.is_some();
            longest.into_iter().for_each(|id| table.dismiss(id));
            self.reached(limit, || match (of, room) {
                (Some(origin), true) => format!(
                    "one peer ({origin}) holds {most} API connections, its limit; its longest \
                     idle one gave way to a new one"
                ),
                (Some(origin), false) => format!(
                    "one peer ({origin}) has {most} API requests under way, its limit; a further \
                     connection was closed"
                ),
                (None, true) => format!(
                    "all {most} API connections are taken, the limit; the longest idle one gave \
                     way to a new one"
                ),
                (None, false) => format!(
                    "all {most} API connections have requests under way, the limit; a further \
                     one was closed"
                ),
            });
        }
        if !room {
            return None;
        }
        let (id, leave) = (table.next, Arc::new(Notify::new()));
        table.next += 1;
        let holder =
            Holder { origin, phase: Phase::Waiting, since: Instant::now(), leave: leave.clone() };
        table.holders.insert(id, holder);
        drop(table);
        Some(Place { id, leave, places: Arc::clone(self) })
    }

    fn enter(&self, id: u64, phase: Phase) {
        if let Some(holder) = self.table().holders.get_mut(&id) {
            holder.phase = phase;
            holder.since = Instant::now();
        }
    }

    fn answered(&self, id: u64) {
        if let Some(holder) = self.table().holders.get_mut(&id)
            && holder.phase == Phase::Working
        {
            holder.phase = Phase::Waiting;
            holder.since = Instant::now();
        }
    }

    fn read(&self, id: u64) {
        let mut table = self.table();
        let readers =
            table.holders.values().filter(|holder| holder.phase == Phase::Reading).count();
        if readers >= MAX_READERS {
            table.longest(Phase::Reading, None).into_iter().for_each(|id| table.dismiss(id));
            self.reached("api_event_readers", || {
                format!(
                    "{MAX_READERS} readers of the API's events are the limit; the oldest one gave \
                     way to a new one, and resumes where it comes back"
                )
            });
        }
        drop(table);
        self.enter(id, Phase::Reading);
    }

    fn reached(&self, limit: &'static str, text: impl FnOnce() -> String) {
        self.metrics.limit(limit);
        if let Some(more) = self.throttle.pass(limit) {
            tracing::warn!(limit, "{}{more}", text());
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Network(ip) => ip.fmt(f),
            Self::Unix => f.write_str("the Unix socket"),
        }
    }
}

/// One connection's place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    id: u64,
    leave: Arc<Notify>,
    places: Arc<Places>,
}

impl Place {
    /// Resolves once the place was given to somebody else. Cancel-safe.
    pub(super) async fn lost(&self) {
        self.leave.notified().await;
    }

    /// The request is whole, and the agent works on it.
    pub(super) fn working(&self) {
        self.places.enter(self.id, Phase::Working);
    }

    /// The answer is the client's to read, and the next request its to send; an answer
    /// without an end is not over.
    pub(super) fn answered(&self) {
        self.places.answered(self.id);
    }

    /// The answer has no end: events, told as they happen.
    pub(super) fn reading(&self) {
        self.places.read(self.id);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.table().holders.remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(remote: &str) -> Peer {
        let remote = format!("{remote}:1000").parse().unwrap();
        Peer::Tcp { remote, local: "127.0.0.1:7370".parse().unwrap() }
    }

    fn lost(place: &Place) -> bool {
        use futures_util::FutureExt as _;
        place.lost().now_or_never().is_some()
    }

    async fn pass_time() {
        tokio::time::advance(std::time::Duration::from_millis(1)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_waiting_gives_way() {
        let metrics = Arc::new(Metrics::default());
        let places = Places::new(Arc::clone(&metrics));
        let mut held = Vec::new();
        for i in 0..MAX_CONNECTIONS {
            held.push(places.take(peer(&format!("10.0.{}.1", i % 250))).unwrap());
            pass_time().await;
        }
        assert!(!held.iter().any(lost));
        held[0].working();
        pass_time().await;
        held[1].working();
        held[1].answered();
        let newcomer = places.take(peer("10.1.0.1")).unwrap();
        assert!(lost(&held[2]) && !lost(&held[0]) && !lost(&held[1]) && !lost(&newcomer));
        // What the one sent away still says of itself counts no more.
        held[2].working();
        assert_eq!(places.table().holders.len(), MAX_CONNECTIONS);
        drop(held);
        assert_eq!(places.table().holders.len(), 1);
        let limit = crate::metrics::Limit { limit: crate::metrics::Word("api_connections") };
        assert_eq!(metrics.limit_reached.get_or_create(&limit).get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_takes_a_place_from_those_who_are_worked_for() {
        let places = Places::new(Arc::default());
        let held: Vec<_> = (0..MAX_CONNECTIONS)
            .map(|i| places.take(peer(&format!("10.0.{}.1", i % 250))).unwrap())
            .collect();
        held.iter().for_each(Place::working);
        assert!(places.take(peer("10.1.0.1")).is_none());
        held[7].answered();
        assert!(places.take(peer("10.1.0.1")).is_some());
        assert!(lost(&held[7]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_beyond_its_share_loses_its_own_places() {
        let places = Places::new(Arc::default());
        let other = places.take(peer("10.0.0.1")).unwrap();
        pass_time().await;
        // One host of an IPv6 network has all of its addresses.
        let mut held = Vec::new();
        for i in 0..=MAX_PER_PEER {
            held.push(places.take(peer(&format!("[2001:db8::{i:x}]"))).unwrap());
            pass_time().await;
        }
        assert!(lost(&held[0]) && !lost(&other));
        assert_eq!(held.iter().filter(|place| lost(place)).count(), 0, "one was enough");
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_reader_gives_way_to_a_new_one() {
        let places = Places::new(Arc::default());
        let mut readers = Vec::new();
        for i in 0..=MAX_READERS {
            readers.push(places.take(peer(&format!("10.0.0.{i}"))).unwrap());
            readers[i].reading();
            pass_time().await;
        }
        assert!(lost(&readers[0]));
        assert!(!readers[1..].iter().any(lost));
    }
}
