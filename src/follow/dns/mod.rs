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

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::Interest;
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use self::answer::{Answer, answer};
use self::limit::{Limiter, Verdict};
use self::table::{Hosts, Table};
use self::zone::{Zone, ZoneError};
use super::Standing;
use crate::config::Config;
use crate::metrics::{Metrics, Outcome, Word};
use crate::notices::Notices;
use crate::resolve::Resolver;
use crate::view::Snapshot;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;

/// After a failure that lasts (no more descriptors), before the next attempt.
const PAUSE: Duration = Duration::from_millis(100);

/// Longest datagram, and the longest row of datagrams of one sender and length that the
/// system hands over as one.
const MAX_READ: usize = 64 << 10;

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
    /// Tells which of this machine's addresses a query was sent to.
    addresses: UdpSocketState,
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
        let addresses = UdpSocketState::new((&udp).into())?;
        Ok(Self { udp: UdpSocket::from_std(udp.into())?, addresses, tcp })
    }

    /// Waits for a datagram, or some of one sender at once. Cancel-safe.
    async fn receive(&self, buffer: &mut [u8]) -> std::io::Result<RecvMeta> {
        let read = || {
            let mut from = [RecvMeta::default()];
            let mut slices = [IoSliceMut::new(buffer)];
            self.addresses.recv((&self.udp).into(), &mut slices, &mut from)?;
            let [from] = from;
            Ok(from)
        };
        self.udp.async_io(Interest::READABLE, read).await
    }

    /// Sends an answer, from the address that was asked: on a machine with several the
    /// system would take the one of the route, and a client drops what comes from another.
    fn send(&self, bytes: &[u8], asked: &RecvMeta) -> std::io::Result<()> {
        let answer = Transmit {
            destination: asked.addr,
            ecn: None,
            contents: bytes,
            segment_size: None,
            src_ip: asked.dst_ip,
        };
        self.addresses.try_send((&self.udp).into(), &answer)
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
    metrics: Arc<Metrics>,
    notices: Arc<Notices>,
    /// The newest table, with the snapshot and the hosts it was made of.
    current: Mutex<Current>,
    limiter: Mutex<Limiter>,
    start: Instant,
}

type Current = (Arc<Snapshot>, Arc<Hosts>, Arc<Table>);

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
    /// Where queries and reached limits are counted.
    pub metrics: Arc<Metrics>,
    /// Where it is said that a host is not found, or that a socket fails.
    pub notices: Arc<Notices>,
}

/// Serves until it is dropped.
pub async fn serve(listener: &Listener, parts: Parts) {
    let Parts { zone, snapshot, resolver, metrics, notices } = parts;
    let (found, hosts) = watch::channel(Arc::default());
    let names = names::follow(snapshot.clone(), resolver, found, Arc::clone(&notices));
    let server = Arc::new(Server::new(zone, snapshot, hosts, metrics, notices));
    let tcp = tcp::serve(&server, &listener.tcp);
    let ((), (), ()) = tokio::join!(server.udp(listener), tcp, names);
}

impl Server {
    fn new(
        zone: Zone,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        hosts: watch::Receiver<Arc<Hosts>>,
        metrics: Arc<Metrics>,
        notices: Arc<Notices>,
    ) -> Self {
        let (first, found) = (Arc::clone(&snapshot.borrow()), Arc::clone(&hosts.borrow()));
        let table = Arc::new(Table::new(&zone, &first, &found, 1));
        Self {
            zone,
            snapshot,
            hosts,
            metrics,
            notices,
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
        self.metrics.dns_queries.get_or_create(&Outcome { outcome: Word(outcome) }).inc();
    }

    /// Counts a bound that is reached, and says so the first time: a stranger may reach it
    /// as often as he likes.
    fn limit(&self, limit: &'static str, text: &str) {
        if self.metrics.limit(limit) {
            warn!("a limit is reached ({limit}): {text}");
        }
    }

    /// The bytes to send back, if any.
    fn respond(&self, query: &[u8], from: SocketAddr, carrier: Carrier) -> Option<Vec<u8>> {
        let now = self.start.elapsed();
        if !self.limiter.lock().unwrap_or_else(PoisonError::into_inner).query(now) {
            self.count("limited");
            self.limit("dns_queries", "20,000 DNS queries a second are read, others get no answer");
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
        if verdict != Verdict::Send {
            let text = "a network is sent 100 kB of DNS answers a second over UDP; beyond that \
                        it is told to ask over TCP, or nothing";
            self.limit("dns_answers", text);
        }
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
                let text = format!(
                    "a DNS answer could not be written: {error}; please report this with the log"
                );
                self.notices.set("dns_answer", &text);
                None
            }
        }
    }

    async fn udp(&self, listener: &Listener) {
        let trouble = Standing::new(&self.notices, "dns_udp".to_owned());
        let mut failing = false;
        let mut buffer = vec![0; MAX_READ];
        loop {
            let received = listener.receive(&mut buffer).await;
            match received {
                Ok(from) => {
                    if std::mem::take(&mut failing) {
                        trouble.clear();
                    }
                    let read = buffer.get(..from.len).unwrap_or_default();
                    for query in read.chunks(from.stride.max(1)) {
                        self.answer_datagram(query, &from, listener);
                    }
                }
                Err(error) => {
                    failing = true;
                    trouble.set(&format!(
                        "no DNS queries can be received over UDP: {error}; it is tried again"
                    ));
                    sleep(PAUSE).await;
                }
            }
        }
    }

    fn answer_datagram(&self, query: &[u8], from: &RecvMeta, listener: &Listener) {
        let Some(bytes) = self.respond(query, from.addr, Carrier::Udp) else { return };
        if let Err(error) = listener.send(&bytes, from) {
            // Whoever asks asks again. Nobody else is told: a forged sender would be.
            self.count("unsent");
            debug!(from = %from.addr, "an answer could not be sent: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
