//! The mesh: authenticated links to other nodes over the Erlang distribution protocol.
//!
//! It carries frames and knows nothing of membership: the driver tells it whom to
//! dial, and it reports links, frames and failures.

pub mod tls;

use std::net::SocketAddr;
use std::time::Duration;

use crate::node::NodeName;

/// One link, unique within the process; never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// What a dial attempt failed on. The kind is evidence about the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialError {
    /// The host does not resolve.
    Resolve(String),
    /// Nothing listens there (RST): no process is alive under that name.
    Refused,
    /// No answer in time, or no route: nothing is known.
    Unreachable(String),
    /// A handshake was begun and not finished in time.
    Timeout,
    /// The peer holds or prefers a connection of its own to us (`nok`, `alive`).
    Yield,
    /// The handshake failed: cookie, flags, certificate, name; in words.
    Rejected(String),
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
        /// How long it took.
        after: Duration,
    },
}
