//! A bound on what a peer may send before its TLS handshake is done.
//!
//! TLS allows a handshake message of 64 KiB, which has to be kept until it is whole:
//! without a bound, whoever begins one and stops has that much of our memory.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of TLS that every peer may send in its handshake: a certificate and an
/// intermediate or two. What is kept of it stays within 8 KiB.
pub const FREE_HANDSHAKE: usize = 4 * 1024;

/// Bytes that as many as [`LONG_HANDSHAKES`] may send at one time: a certificate and all
/// six intermediates, with RSA keys of 4096 bits.
pub const MAX_HANDSHAKE: usize = 12 * 1024;

/// Handshakes beyond [`FREE_HANDSHAKE`] at one time. As one in eight of the
/// unauthenticated they leave the others' average below 16 KiB.
pub const LONG_HANDSHAKES: usize = 64;

/// Why no more is read. Neither is kept, and the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooMuch {
    #[error("the peer sent more than {MAX_HANDSHAKE} bytes in its TLS handshake")]
    Ever,
    #[error(
        "the peer sent more than {FREE_HANDSHAKE} bytes in its TLS handshake, while \
         {LONG_HANDSHAKES} others do"
    )]
    Now,
}

/// Who may send more than [`FREE_HANDSHAKE`].
#[derive(Clone, Debug)]
pub(crate) struct Allowance(Arc<Semaphore>);

impl Default for Allowance {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LONG_HANDSHAKES)))
    }
}

/// A stream that lets so much in, and everything once it is opened.
#[derive(Debug)]
pub struct Capped<S> {
    stream: S,
    /// `None`: anything may come.
    handshake: Option<Handshake>,
}

#[derive(Debug)]
struct Handshake {
    received: usize,
    allowance: Allowance,
    long: Option<OwnedSemaphorePermit>,
}

impl Handshake {
    fn receive(&mut self, count: usize) -> Result<(), TooMuch> {
        self.received += count;
        if self.received > MAX_HANDSHAKE {
            return Err(TooMuch::Ever);
        }
        if self.received > FREE_HANDSHAKE && self.long.is_none() {
            let permit = Arc::clone(&self.allowance.0).try_acquire_owned();
            self.long = Some(permit.map_err(|_all_are_taken| TooMuch::Now)?);
        }
        Ok(())
    }
}

impl<S> Capped<S> {
    pub(crate) fn new(stream: S, allowance: &Allowance) -> Self {
        let handshake = Handshake { received: 0, allowance: allowance.clone(), long: None };
        Self { stream, handshake: Some(handshake) }
    }

    pub(crate) fn open(&mut self) {
        self.handshake = None;
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Capped<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        let held = self.handshake.as_mut().map_or(Ok(()), |handshake| handshake.receive(read));
        Poll::Ready(held.map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Capped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
