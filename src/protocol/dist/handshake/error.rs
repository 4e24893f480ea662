//! Why handshakes fail.

use crate::node::{NodeName, NodeNameError};
use crate::protocol::dist::frame::TooLong;

/// Why a handshake ended. The connection is to be closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The peer is at fault: a message that the protocol has no place for here.
    #[error("no handshake message of the distribution protocol where {0} was due")]
    Garbage(&'static str),
    /// The peer is at fault: longer than any handshake message.
    #[error(transparent)]
    TooLong(TooLong),
    /// The peer speaks TLS over a carrier without.
    #[error("what the peer sent is TLS, and this node speaks plain TCP (cluster.proto_dist)")]
    Tls,
    /// The peer's name is none.
    #[error("the peer's name is not valid: {0}")]
    BadName(#[from] NodeNameError),
    /// The peer bears our name: an operator's mistake, or an attempt.
    #[error("another node uses this node's name")]
    OwnName,
    /// The peer speaks the handshake of OTP 22 or older.
    #[error("the peer speaks an old version of the distribution protocol (before OTP 23)")]
    OldVersion,
    /// This node at both ends: it listens at the address that was dialled.
    #[error("this node itself answers there, under its own name")]
    Itself,
    /// The peer lacks capabilities that the protocol makes mandatory.
    #[error("the peer lacks mandatory capabilities (flags {0:#x})")]
    Flags(u64),
    /// Accepting: the peer's digest fits none of our cookies.
    #[error("wrong cookie: the peer's digest matches none of this node's cookies")]
    WrongCookie,
    /// Dialling: the peer accepted our digest and could not produce its own.
    #[error("wrong cookie: the peer did not prove that it knows this node's cookie")]
    UnprovenPeer,
    /// Dialling: the peer closed where it would have acknowledged our digest.
    #[error("the peer refused this node's cookie (it closed the connection at the challenge)")]
    CookieRefused,
    /// Dialling: the peer answered `not_allowed`.
    #[error("the peer does not allow this node to connect")]
    NotAllowed,
    /// Dialling: somebody else answered.
    #[error("the node that answered calls itself {0}")]
    OtherName(NodeName),
    /// The other attempt between the two nodes goes on instead of this one.
    #[error("the two nodes connect to each other at the same time; the other attempt goes on")]
    Simultaneous,
    /// A link between the two nodes is up already.
    #[error("a link between the two nodes is up already")]
    AlreadyUp,
    /// The peer closed the connection.
    #[error("the peer closed the connection where {0} was due")]
    Closed(&'static str),
}

impl HandshakeError {
    /// A fixed word for metrics and for limiting the log.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Garbage(_) | Self::TooLong(_) | Self::Tls => "garbage",
            Self::BadName(_) | Self::OtherName(_) => "name",
            Self::OwnName => "own_name",
            Self::Itself => "itself",
            Self::OldVersion | Self::Flags(_) => "version",
            Self::WrongCookie | Self::UnprovenPeer | Self::CookieRefused => "cookie",
            Self::NotAllowed => "not_allowed",
            Self::Simultaneous => "simultaneous",
            Self::AlreadyUp => "already_up",
            Self::Closed(_) => "closed",
        }
    }
}

impl From<TooLong> for HandshakeError {
    fn from(error: TooLong) -> Self {
        // A TLS record begins with its kind (an alert is 21, a handshake 22) and a 3.
        match error.length {
            0x1503 | 0x1603 => Self::Tls,
            _ => Self::TooLong(error),
        }
    }
}
