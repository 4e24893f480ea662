//! What carries a link: TCP, or TLS over it, which adds whose certificate it is, and
//! when it is time to make the link anew.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_rustls::TlsStream;

use super::tls::{Capped, FailureKind, Peer, REMAKE_WITHIN, TlsContext, TlsFailure};
use crate::protocol::dist::handshake::HandshakeError;

/// A connection of either kind. TLS is apart, so that its size costs only those who
/// use it.
pub(super) enum Carrier {
    Tcp(TcpStream),
    Tls(Box<TlsStream<Capped<TcpStream>>>),
}

/// Calls one method on whichever stream it is.
macro_rules! on {
    ($carrier:expr, $call:ident $arguments:tt) => {
        match $carrier.get_mut() {
            Carrier::Tcp(stream) => Pin::new(stream).$call $arguments,
            Carrier::Tls(stream) => Pin::new(stream).$call $arguments,
        }
    };
}

impl AsyncRead for Carrier {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        on!(self, poll_read(cx, buf))
    }
}

impl AsyncWrite for Carrier {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        on!(self, poll_write(cx, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        on!(self, poll_shutdown(cx))
    }
}

/// Why a connection did not become a link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ShakeError {
    /// In the handshake of the distribution protocol.
    #[error(transparent)]
    Dist(#[from] HandshakeError),
    /// In the TLS handshake before it, or by what the certificate says.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// Neither was finished in time.
    #[error("the handshake was not finished in time")]
    Timeout,
}

impl ShakeError {
    /// A fixed word for metrics and for limiting the log.
    pub(super) fn cause(&self) -> &'static str {
        match self {
            Self::Dist(error) => error.cause(),
            Self::Tls(failure) => failure.kind.word(),
            Self::Timeout => "timeout",
        }
    }

    /// Whether this happens without anybody being at fault: health checks connect and
    /// close, and of two attempts one gives way.
    pub(super) fn is_ordinary(&self) -> bool {
        match self {
            Self::Dist(error) => matches!(
                error,
                HandshakeError::Closed(_)
                    | HandshakeError::Simultaneous
                    | HandshakeError::AlreadyUp
                    | HandshakeError::Itself
            ),
            Self::Tls(failure) => {
                matches!(failure.kind, FailureKind::Closed | FailureKind::Crossed)
            }
            Self::Timeout => false,
        }
    }
}

/// When a TLS link is to be made anew.
pub(super) struct Renewal {
    generation: u64,
    current: watch::Receiver<u64>,
    not_after: SystemTime,
}

impl Renewal {
    pub(super) fn new(tls: &TlsContext, peer: &Peer) -> Self {
        Self {
            generation: peer.generation(),
            current: tls.generation(),
            not_after: peer.not_after(),
        }
    }

    /// Resolves when the link is to be made anew, with the reason: some time after new
    /// files came into use, or some time before the certificates end. The time is drawn,
    /// so that a node's links don't all go at once.
    pub(super) async fn due(mut self) -> &'static str {
        let generation = self.generation;
        let renewed = async {
            // An error means that the context is gone, and with it the mesh.
            if self.current.wait_for(|current| *current != generation).await.is_err() {
                std::future::pending::<()>().await;
            }
            sleep(REMAKE_WITHIN.mul_f64(rand::random_range(0.0..0.9))).await;
        };
        let left = self.not_after.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO);
        let ends = async {
            // A link made this late found no newer certificate; another would not either,
            // and a working link is worth more than none.
            match left.checked_sub(REMAKE_WITHIN * 2) {
                Some(wait) => sleep(wait + REMAKE_WITHIN.mul_f64(rand::random())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = renewed => "the TLS files changed: the link is made anew",
            () = ends => "a certificate ends soon: the link is made anew",
        }
    }
}

#[cfg(test)]
mod tests;
