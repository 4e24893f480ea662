//! The mesh: authenticated links to other nodes over the Erlang distribution protocol.
//!
//! It carries frames and knows nothing of membership: the driver tells it whom to
//! dial, and it reports links, frames and failures.
//!
//! # Tasks
//!
//! | task | started by | ends |
//! | --- | --- | --- |
//! | accept, one a bound address | [`Mesh::start`] | at shutdown |
//! | inbound, one a connection | accept | with its handshake |
//! | dial, one a peer at a time | [`Mesh::dial`] | with its handshake |
//! | link, one a link | inbound or dial, after the handshake | when the connection does |
//! | renewal, one a TLS link that is to be made anew | link | when the old link has ended |
//!
//! All of them are counted; [`Mesh::shutdown`] returns when the last is gone. A
//! dropped [`Mesh`] ends them too, unwaited.
//!
//! # What is reported
//!
//! [`MeshEvent`]s come through one bounded channel of [`EVENT_QUEUE`] places. While it
//! is full the links' tasks wait, so nothing is lost and the peers are held back by
//! TCP. Of one link at most [`TURNS`] frames wait there, so that a link that floods has
//! that many places and no more; and a link whose frames take more than its share of the
//! receiver's time ([`Turn::took`]) is read the more slowly. Of one link the order is `Up`, any `Frame`s, exactly one `Down`. Every
//! [`Mesh::dial`] that started an attempt ends in one `Up` with `dialed`, or one
//! `DialFailed`. Nothing is reported once a shutdown began.
//!
//! Two links to one peer may be up for a moment: when both nodes dial at once and
//! neither notices in time, when the peer has lost a link that still looks up here (the
//! protocol's `alive`), and when a TLS link is made anew. The receiver of the events closes one. The end of
//! one of two links says nothing about the peer.

mod carrier;
mod dial;
mod driver;
mod gate;
mod listen;
mod queue;
mod rate;
mod registry;
mod shared;
mod turn;

pub mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};

pub use self::gate::{
    MAX_UNAUTHENTICATED, MAX_UNAUTHENTICATED_KNOWN, MAX_UNAUTHENTICATED_PER_ADDRESS,
};
pub use self::queue::{QUEUE_BYTES, QUEUE_FRAMES};
pub use self::turn::{TURNS, Turn};
pub use crate::protocol::dist::link::LinkTimes;

use self::shared::Shared;
use self::tls::TlsContext;
use crate::cookies::Cookies;
use crate::metrics::Metrics;
use crate::node::{LinkId, NodeName};
use crate::resolve::Resolver;

/// Places for events that the membership driver has not taken yet. It takes them as
/// fast as they come; a few hundred cover a burst of fifty links that form at once.
pub const EVENT_QUEUE: usize = 512;

/// What a dial attempt failed on. The kind is evidence about the peer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// The host does not resolve.
    #[error("{0}")]
    Resolve(String),
    /// Nothing listens there (RST), at any of the host's addresses: no process is
    /// alive under that name.
    #[error("connection refused: nothing listens there")]
    Refused,
    /// No answer in time, no route, or a connection cut before a handshake: nothing is
    /// known.
    #[error("{0}")]
    Unreachable(String),
    /// A handshake was begun and not finished in time.
    #[error("the handshake was not finished in time")]
    Timeout,
    /// The peer holds or prefers a connection of its own to us (`nok`, `alive`), or one
    /// from it came up while we dialled.
    #[error("another connection between the two nodes goes on")]
    Yield,
    /// This node itself listens at the address that the name has.
    #[error("this node itself answers there")]
    Itself,
    /// The handshake failed: cookie, flags, certificate, name; in words.
    #[error("{0}")]
    Rejected(String),
}

impl DialError {
    /// The kind, in a fixed word.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Resolve(_) => "resolve",
            Self::Refused => "refused",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout => "timeout",
            Self::Yield => "simultaneous",
            Self::Itself => "itself",
            Self::Rejected(_) => "rejected",
        }
    }
}

/// What the mesh reports.
#[derive(Debug)]
pub enum MeshEvent {
    /// A link finished its handshake.
    Up {
        /// The link.
        link: LinkId,
        /// The authenticated name of the other end.
        peer: NodeName,
        /// Whether we dialled.
        dialed: bool,
        /// How long the peer's system took to answer, where we dialled.
        rtt: Option<Duration>,
        /// The other end's address.
        remote: SocketAddr,
        /// Our end's address.
        local: SocketAddr,
    },
    /// A frame for the registered name `muster`; its binary payload.
    Frame {
        /// The link it came over.
        link: LinkId,
        /// The payload.
        payload: Vec<u8>,
        /// Ends when the payload has been dealt with.
        turn: Turn,
    },
    /// A link ended.
    Down {
        /// The link.
        link: LinkId,
        /// In words.
        reason: String,
        /// Whether the other end's system ended it (FIN, RST), in contrast to us or silence.
        closed_by_peer: bool,
    },
    /// A dial attempt failed.
    DialFailed {
        /// Whom we dialled.
        peer: NodeName,
        /// On what.
        error: DialError,
        /// The same in a fixed word, finer than [`DialError::kind`]: that of the metrics.
        cause: &'static str,
        /// How long it took.
        after: Duration,
    },
}

/// What the mesh is made from.
#[derive(Clone, Debug)]
pub struct MeshSettings {
    /// This node's name.
    pub node: NodeName,
    /// Tells this node's lives apart in Erlang's identifiers; 0 is taken as 1.
    pub creation: u32,
    /// Never empty: the first is offered, any is accepted. Changes serve new links.
    pub cookies: Cookies,
    /// Listening addresses, all bound or none, and where peers are dialled from; empty: no
    /// listener.
    pub bind: Vec<SocketAddr>,
    /// A peer listens on this port plus its name's offset.
    pub peer_base_port: u16,
    /// Whether peers are dialled over IPv6, otherwise IPv4.
    pub ipv6: bool,
    /// A handshake not finished by then is given up, in either direction.
    pub handshake_timeout: Duration,
    /// Longest frame accepted and sent, bytes.
    pub max_frame: usize,
    /// Ticks and silence; [`LinkTimes::default`] outside tests.
    pub times: LinkTimes,
    /// Finds a peer's addresses, anew at each attempt.
    pub resolver: Arc<Resolver>,
    /// Links are TLS with this, plain TCP without. Whoever loaded it watches its files;
    /// links older than the files in use, or near their certificates' end, end with a
    /// reason that says so, each at a time of its own, and are to be dialled again.
    pub tls: Option<TlsContext>,
}

/// Why the mesh could not be made. The operator can help it; nothing was left bound.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// An address could not be listened on.
    #[error("cannot listen on {addr}: {}", bind_reason(source))]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// There is no cookie.
    #[error("needs at least one cookie: set node.cookie")]
    NoCookie,
}

fn bind_reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::AddrInUse => "the port is in use by another process: stop that one, or set \
                                 agent.mesh.base_port, to the same on all nodes"
            .to_owned(),
        ErrorKind::AddrNotAvailable => {
            "this machine has no such address: mend agent.mesh.bind".to_owned()
        }
        ErrorKind::PermissionDenied => "a port below 1024 needs the capability \
                                        CAP_NET_BIND_SERVICE: set a higher agent.mesh.base_port"
            .to_owned(),
        _ => error.to_string(),
    }
}

/// What became of a payload that was to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendOutcome {
    /// It is in the link's queue.
    Queued,
    /// The link's queue is full, since the peer does not read: dropped and counted.
    Full,
    /// Longer than a frame may be: dropped and counted.
    TooLong,
    /// The link has ended, or is ending.
    NoLink,
}

/// Bound addresses that nobody accepts on yet.
#[derive(Debug)]
pub struct Listening(Vec<TcpListener>);

impl Listening {
    /// Binds every address, or none; needs a tokio runtime.
    ///
    /// # Errors
    /// [`MeshError`]: the address that can't be bound is named, with the reason.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, MeshError> {
        let bind = |&addr| listen::bind(addr).map_err(|source| MeshError::Bind { addr, source });
        addresses.iter().map(bind).collect::<Result<_, _>>().map(Self)
    }
}

/// The mesh, running. Dropping it ends its tasks without waiting for them.
#[derive(Debug)]
pub struct Mesh {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    listening: Vec<SocketAddr>,
}

impl Mesh {
    /// Binds every address of the settings, then starts.
    ///
    /// # Errors
    /// As [`Listening::bind`] and [`Mesh::start`].
    pub fn bind(
        settings: MeshSettings,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, mpsc::Receiver<MeshEvent>), MeshError> {
        let listening = Listening::bind(&settings.bind)?;
        Self::start(settings, listening, metrics)
    }

    /// Starts to accept on addresses that were bound before.
    ///
    /// # Errors
    /// [`MeshError::NoCookie`].
    pub fn start(
        settings: MeshSettings,
        Listening(listeners): Listening,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, mpsc::Receiver<MeshEvent>), MeshError> {
        if settings.cookies.current().is_empty() {
            return Err(MeshError::NoCookie);
        }
        let listening = listeners.iter().filter_map(|l| l.local_addr().ok()).collect();
        let (stop, stopped) = watch::channel(false);
        let (events, receiver) = mpsc::channel(EVENT_QUEUE);
        let shared = Arc::new(Shared::new(settings, metrics, events, stopped));
        for listener in listeners {
            shared.spawn(listen::accept(Arc::clone(&shared), listener));
        }
        Ok((Self { shared, stop, listening }, receiver))
    }

    /// The addresses listened on; a port that was given as 0 is the real one here.
    #[must_use]
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Starts one attempt to reach a peer. Where one is under way already, that one
    /// stands for both.
    pub fn dial(&self, peer: NodeName) {
        dial::start(&self.shared, peer);
    }

    /// Puts a payload into a link's queue. Never blocks; the queue holds at most
    /// [`QUEUE_BYTES`] (or a single larger frame) and [`QUEUE_FRAMES`].
    pub fn send(&self, link: LinkId, payload: &[u8]) -> SendOutcome {
        let Some(queue) = self.shared.registry().queue(link) else { return SendOutcome::NoLink };
        let outcome = queue.push(&self.shared.encoder, payload, self.shared.settings.max_frame);
        match outcome {
            SendOutcome::Full => self.shared.metrics.dropped("link"),
            SendOutcome::TooLong => self.shared.metrics.dropped("link_too_long"),
            SendOutcome::Queued | SendOutcome::NoLink => {}
        }
        outcome
    }

    /// Says where an admitted node was met: connections from there are a known node's.
    pub fn know(&self, node: &NodeName, address: IpAddr) {
        self.shared.gate.know(node, std::iter::once(address));
    }

    /// Replaces the nodes that connections are expected from, members and discovered ones.
    /// What is known of their addresses is kept, and of all others forgotten.
    pub fn expect<'a>(&self, nodes: impl Iterator<Item = &'a NodeName>) {
        self.shared.gate.expect(nodes);
    }

    /// Ends a link: what is queued is still sent, within a tenth of a second, then the
    /// connection is closed and reported down with this reason.
    pub fn close(&self, link: LinkId, reason: &str) {
        if let Some(queue) = self.shared.registry().forget(link) {
            queue.close(reason);
        }
    }

    /// Ends everything: links are closed as by [`Mesh::close`], all at once, and every
    /// task has ended when this returns, a fifth of a second later at most.
    pub async fn shutdown(&self) {
        self.stop.send_replace(true);
        self.shared.tasks.ended().await;
    }
}

#[cfg(test)]
mod tests;
