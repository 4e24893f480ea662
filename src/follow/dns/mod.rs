//! The members over DNS: an authoritative server for `<cluster>.<domain>`, over UDP and
//! TCP, out of the snapshot that the API shows.
//!
//! [`answer::answer`] is a pure function of a query, the [`zone`] and a [`table::Table`];
//! around it stand the sockets, the limits ([`limit`]) and what looks up hosts that are
//! names ([`names`]).
//!
//! # Tasks
//!
//! | task | owner | ends | when it is dropped |
//! | --- | --- | --- | --- |
//! | server | [`serve`]'s caller | when it is dropped | sockets close at once |
//! | connection, one a TCP client | the server | with the client, its idle time, or the server | an answer may be cut |
//!
//! The server never waits for the cluster, another name server or a client.

pub mod answer;
pub mod limit;
pub mod table;
pub mod zone;

mod names;
mod tcp;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, error};

use self::answer::{Answer, MAX_QUERY, answer};
use self::limit::{Limiter, Verdict};
use self::table::{Hosts, Table};
use self::zone::{Zone, ZoneError};
use crate::config::Config;
use crate::metrics::{Outcome, Word};
use crate::notices::Notices;
use crate::resolve::Resolver;
use crate::view::Snapshot;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// After a failure that lasts (no more descriptors), before the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// Why nothing can be served. The operator can help it.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The names.
    #[error("agent.dns.domain and cluster.name: {0}")]
    Zone(#[from] ZoneError),
    /// The address.
    #[error(transparent)]
    Bind(#[from] BindError),
}

/// Why the address cannot be listened on. The operator can help it.
#[derive(Debug, thiserror::Error)]
#[error("agent.dns.listen: cannot listen on {listen}: {}", self.reason())]
pub struct BindError {
    listen: SocketAddr,
    source: std::io::Error,
}

impl BindError {
    fn reason(&self) -> String {
        use std::io::ErrorKind;
        match self.source.kind() {
            ErrorKind::AddrInUse => "another process has the port; a name server of this \
                                     machine can forward the domain to another port"
                .to_owned(),
            ErrorKind::PermissionDenied => "a port below 1024 needs the capability \
                                            CAP_NET_BIND_SERVICE; take a higher one, or give it"
                .to_owned(),
            ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
            _ => self.source.to_string(),
        }
    }
}

/// The server's sockets, bound.
#[derive(Debug)]
pub struct Listener {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Listener {
    /// The listener and the names that a configuration asks for, if it does.
    ///
    /// # Errors
    /// [`DnsError`]; nothing is left bound.
    pub fn of(config: &Config) -> Result<Option<(Self, Zone)>, DnsError> {
        let Some(dns) = &config.agent.dns else { return Ok(None) };
        let zone = Zone::new(&config.cluster.name, &dns.domain, dns.ttl, dns.listen.ip())?;
        Ok(Some((Self::bind(dns.listen)?, zone)))
    }

    /// Binds one port for UDP and TCP.
    ///
    /// # Errors
    /// [`BindError`]; nothing is left bound.
    pub fn bind(listen: SocketAddr) -> Result<Self, BindError> {
        Self::try_bind(listen).map_err(|source| BindError { listen, source })
    }

    fn try_bind(listen: SocketAddr) -> std::io::Result<Self> {
        let open = |address: SocketAddr, kind, protocol| {
            let socket = Socket::new(Domain::for_address(address), kind, Some(protocol))?;
            if address.ip().is_unspecified() && address.is_ipv6() {
                // All addresses are those of IPv4 too.
                socket.set_only_v6(false)?;
            }
            socket.set_nonblocking(true)?;
            if kind == Type::STREAM {
                socket.set_reuse_address(true)?;
            }
            socket.bind(&address.into())?;
            Ok::<_, std::io::Error>(socket)
        };
        let tcp = open(listen, Type::STREAM, Protocol::TCP)?;
        tcp.listen(BACKLOG)?;
        let tcp = TcpListener::from_std(tcp.into())?;
        let udp = open(tcp.local_addr()?, Type::DGRAM, Protocol::UDP)?;
        Ok(Self { udp: UdpSocket::from_std(udp.into())?, tcp })
    }

    /// The address, with the port that was chosen where 0 was asked for.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.udp.local_addr()
    }
}

/// What all queries are answered from.
pub struct Server {
    zone: Zone,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    hosts: watch::Receiver<Arc<Hosts>>,
    queries: Queries,
    /// The newest table, with the snapshot and the hosts it was made of.
    current: Mutex<Current>,
    limiter: Mutex<Limiter>,
    start: Instant,
}

type Current = (Arc<Snapshot>, Arc<Hosts>, Arc<Table>);

/// `muster_dns_queries_total`.
pub type Queries = Family<Outcome, Counter>;

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Udp,
    Tcp,
}

/// What the server is made from besides its sockets.
pub struct Parts {
    /// The names.
    pub zone: Zone,
    /// The cluster.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Looks up brokers' hosts that are names.
    pub resolver: Resolver,
    /// Where queries are counted.
    pub queries: Queries,
    /// Where it is said that a host is not found.
    pub notices: Arc<Notices>,
}

/// Serves until it is dropped.
pub async fn serve(listener: &Listener, parts: Parts) {
    let Parts { zone, snapshot, resolver, queries, notices } = parts;
    let (found, hosts) = watch::channel(Arc::default());
    let names = names::follow(snapshot.clone(), resolver, found, notices);
    let server = Arc::new(Server::new(zone, snapshot, hosts, queries));
    let Listener { udp, tcp } = listener;
    let ((), (), ()) = tokio::join!(server.udp(udp), tcp::serve(&server, tcp), names);
}

impl Server {
    fn new(
        zone: Zone,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        hosts: watch::Receiver<Arc<Hosts>>,
        queries: Queries,
    ) -> Self {
        let (first, found) = (Arc::clone(&snapshot.borrow()), Arc::clone(&hosts.borrow()));
        let table = Arc::new(Table::new(&zone, &first, &found, 1));
        Self {
            zone,
            snapshot,
            hosts,
            queries,
            current: Mutex::new((first, found, table)),
            limiter: Mutex::default(),
            start: Instant::now(),
        }
    }

    /// The newest snapshot's table, made when the first query after a change asks for it.
    fn table(&self) -> Arc<Table> {
        let (snapshot, hosts) =
            (Arc::clone(&self.snapshot.borrow()), Arc::clone(&self.hosts.borrow()));
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&current.0, &snapshot) || !Arc::ptr_eq(&current.1, &hosts) {
            let serial = current.2.serial;
            let mut table = Table::new(&self.zone, &snapshot, &hosts, serial);
            // Round trips and links change without a change of any answer.
            if table != *current.2 {
                table.serial = serial.wrapping_add(1);
                current.2 = Arc::new(table);
            }
            (current.0, current.1) = (snapshot, hosts);
        }
        Arc::clone(&current.2)
    }

    fn count(&self, outcome: &'static str) {
        self.queries.get_or_create(&Outcome { outcome: Word(outcome) }).inc();
    }

    /// The bytes to send back, if any.
    fn respond(&self, query: &[u8], from: SocketAddr, carrier: Carrier) -> Option<Vec<u8>> {
        let now = self.start.elapsed();
        if !self.limiter.lock().unwrap_or_else(PoisonError::into_inner).query(now) {
            self.count("limited");
            return None;
        }
        let Some(answer) = answer(query, &self.zone, &self.table(), &mut rand::rng()) else {
            self.count("ignored");
            return None;
        };
        let max = match carrier {
            Carrier::Udp => answer.udp,
            Carrier::Tcp => u16::MAX,
        };
        let bytes = self.encode(&answer, max)?;
        if carrier == Carrier::Tcp {
            self.count(answer.outcome);
            return Some(bytes);
        }
        let mut limiter = self.limiter.lock().unwrap_or_else(PoisonError::into_inner);
        let verdict = limiter.answer(from.ip(), bytes.len(), now);
        drop(limiter);
        match verdict {
            Verdict::Send => {
                self.count(answer.outcome);
                Some(bytes)
            }
            Verdict::Cut => {
                self.count("limited");
                self.encode(&answer.cut(), max)
            }
            Verdict::Drop => {
                self.count("limited");
                None
            }
        }
    }

    fn encode(&self, answer: &Answer, max: u16) -> Option<Vec<u8>> {
        match answer.encode(max) {
            Ok(bytes) => Some(bytes),
            Err(error) => {
                self.count("failed");
                error!("an answer could not be written: {error}");
                None
            }
        }
    }

    async fn udp(&self, socket: &UdpSocket) {
        // One byte more than is read, so that what is longer is seen to be.
        let mut buffer = [0; MAX_QUERY + 1];
        loop {
            match socket.recv_from(&mut buffer).await {
                Ok((length, from)) => {
                    let query = buffer.get(..length).unwrap_or_default();
                    if let Some(bytes) = self.respond(query, from, Carrier::Udp)
                        && let Err(error) = socket.try_send_to(&bytes, from)
                    {
                        // Whoever asks asks again.
                        self.count("unsent");
                        debug!(%from, "an answer could not be sent: {error}");
                    }
                }
                // An ICMP message about an earlier answer, or the system's limits.
                Err(error) => {
                    debug!("cannot receive: {error}");
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
