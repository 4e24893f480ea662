//! A link of the agent's own to a broker's node, over the Erlang distribution, and calls
//! over it: one at a time, each with a deadline.
//!
//! No task of its own: whoever holds a [`Link`] reads and ticks it while it calls or
//! waits. Dropping it closes the connection.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};

use crate::cookies::Cookies;
use crate::escape::escaped;
use crate::mesh::tls::TlsContext;
use crate::node::NodeName;
use crate::protocol::dist::control::{self, Incoming};
use crate::protocol::dist::frame::{Decoder, Prefix};
use crate::protocol::dist::handshake::{Event, Handshake, HandshakeError, Local};
use crate::protocol::dist::link::TICK;
use crate::protocol::dist::rex::{self, Call};
use crate::resolve::Resolver;

/// Longest frame that a broker may send: its view of some hundred brokers takes a tenth.
const MAX_FRAME: usize = 256 * 1024;

/// A broker gives a link up after its `net_ticktime`, 60 s unless set, of silence; a tick
/// is due after a quarter of it.
const TICK_AFTER: Duration = Duration::from_secs(15);

/// What a broker may send between two answers, bytes, each frame counted for 32 more: its
/// ticks and questions are some hundred. A broker that floods has its link made anew with
/// the next question, and so costs a bounded part of a core.
const MAX_STRAY: usize = 4 << 20;

/// The link is given up when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(60);

/// Longest wait for one address to accept.
const CONNECT: Duration = Duration::from_secs(3);

trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for T {}

/// Why there is no link.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LinkError {
    /// Another link under the same name is up, or coming up.
    #[error("another link under the same name is up")]
    Taken,
    /// Nothing listens there: the broker's node does not run.
    #[error("nothing listens on {0}")]
    Refused(SocketAddr),
    /// Anything else, in words.
    #[error("{0}")]
    Failed(String),
}

impl From<HandshakeError> for LinkError {
    fn from(error: HandshakeError) -> Self {
        match error {
            HandshakeError::AlreadyUp | HandshakeError::Simultaneous => Self::Taken,
            error => Self::Failed(escaped(&error.to_string())),
        }
    }
}

fn failed(text: impl Into<String>) -> LinkError {
    LinkError::Failed(text.into())
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// The link is up still; an answer that comes later is not taken for another's.
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// The link is gone.
    #[error("the link ended: {0}")]
    Ended(String),
}

/// What links are made with.
pub(super) struct Dialer {
    pub(super) cookies: Cookies,
    /// Tells this agent's lives apart; not 0.
    pub(super) creation: u32,
    pub(super) resolver: Resolver,
    pub(super) ipv6: bool,
    /// Brokers listen on this port plus their names' offsets.
    pub(super) base_port: u16,
    pub(super) tls: Option<TlsContext>,
    /// For each of: the look-up, the connection, the handshakes.
    pub(super) limit: Duration,
}

impl Dialer {
    /// Links to a broker under this name. With `replace`, a link of that name that the
    /// broker still believes in is replaced; else it stands against a new one.
    pub(super) async fn dial(
        &self,
        own: &NodeName,
        broker: &NodeName,
        replace: bool,
    ) -> Result<Link, LinkError> {
        let stream = self.connect(broker).await?;
        let prefix = if self.tls.is_some() { Prefix::Four } else { Prefix::Two };
        let cookies = self.cookies.current();
        let local = Local { name: own.clone(), creation: self.creation, cookies };
        let mut machine = Handshake::dial(prefix, Arc::new(local), broker.clone(), rand::random());
        let open = async {
            let (mut stream, certificate): (Box<dyn Stream>, _) = match &self.tls {
                None => (Box::new(stream), None),
                Some(tls) => {
                    let (stream, peer) = Box::pin(tls.connect(broker, stream))
                        .await
                        .map_err(|error| failed(escaped(&error.to_string())))?;
                    (Box::new(stream), Some(peer))
                }
            };
            let creation = shake(&mut stream, &mut machine, replace).await?;
            if let Some(Err(error)) = certificate.map(|certificate| certificate.check(broker)) {
                return Err(failed(escaped(&error.to_string())));
            }
            Ok((stream, creation))
        };
        let opened = timeout(self.limit, open).await;
        let (stream, broker_creation) =
            opened.map_err(|_| failed("the handshake was not finished in time"))??;
        let mut decoder = Decoder::new(Prefix::Four, MAX_FRAME);
        decoder.push(&machine.into_rest());
        let now = Instant::now();
        Ok(Link {
            stream,
            own: own.clone(),
            creation: self.creation,
            broker_creation,
            decoder,
            out: Vec::new(),
            calls: 0,
            stray: 0,
            sent: now,
            received: now,
        })
    }

    async fn connect(&self, broker: &NodeName) -> Result<TcpStream, LinkError> {
        let offset = broker.offset();
        let port = self.base_port.checked_add(offset);
        let port =
            port.ok_or_else(|| failed(format!("there is no port {} + {offset}", self.base_port)))?;
        let found = timeout(self.limit, self.resolver.resolve(broker, self.ipv6)).await;
        let found = found.map_err(|_| failed("its host was not resolved in time"))?;
        let found = found.map_err(|error| failed(error.to_string()))?;
        let mut last = failed("its host has no address");
        let deadline = Instant::now() + self.limit;
        for ip in found.into_iter().take(4) {
            let address = SocketAddr::new(ip, port);
            let by = deadline.min(Instant::now() + CONNECT);
            match timeout_at(by, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    let _best_effort = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    last = LinkError::Refused(address);
                }
                Ok(Err(error)) => last = failed(format!("cannot connect to {address}: {error}")),
                Err(_) => last = failed(format!("{address} does not answer")),
            }
        }
        Err(last)
    }
}

/// Runs a handshake to its end; the answer is the broker's creation.
async fn shake(
    stream: &mut Box<dyn Stream>,
    machine: &mut Handshake,
    replace: bool,
) -> Result<u32, LinkError> {
    let mut buffer = [0; 512];
    loop {
        let outcome = loop {
            match machine.poll() {
                Ok(Some(Event::Alive)) => {
                    if let Err(error) = machine.answer_alive(replace) {
                        break Err(error);
                    }
                }
                Ok(Some(Event::Done(peer))) => break Ok(Some(peer.creation)),
                // Only who accepts is told a name.
                Ok(Some(Event::Named(_)) | None) => break Ok(None),
                Err(error) => break Err(error),
            }
        };
        let out = machine.transmit();
        let written = async {
            stream.write_all(&out).await?;
            stream.flush().await
        };
        let written = written.await;
        if let Some(creation) = outcome? {
            return Ok(creation);
        }
        let read = match written {
            Ok(()) => stream.read(&mut buffer).await,
            Err(error) => Err(error),
        };
        match read {
            Ok(0) | Err(_) => return Err(machine.closed().into()),
            Ok(count) => machine.handle(buffer.get(..count).unwrap_or_default()),
        }
    }
}

/// One link.
pub(super) struct Link {
    stream: Box<dyn Stream>,
    own: NodeName,
    creation: u32,
    broker_creation: u32,
    decoder: Decoder,
    /// To be written.
    out: Vec<u8>,
    calls: u32,
    /// Bytes that came since the last answer and were none.
    stray: usize,
    sent: Instant,
    received: Instant,
}

impl Link {
    /// Changes with every start of the broker.
    pub(super) fn broker_creation(&self) -> u32 {
        self.broker_creation
    }

    /// Calls a function of the broker's; the answer is what it returned, or `{badrpc, _}`.
    ///
    /// Cancel-safe: a dropped call's answer is passed over.
    pub(super) async fn call(
        &mut self,
        call: &Call<'_>,
        limit: Duration,
    ) -> Result<Vec<u8>, CallError> {
        self.calls = self.calls.wrapping_add(1) & 0x7fff_ffff;
        let number = self.calls;
        rex::put_call(&mut self.out, &self.own, self.creation, number, call);
        let deadline = Instant::now() + limit;
        match timeout_at(deadline, self.run(Some(number))).await {
            Ok(Ok(result)) => Ok(result),
            Ok(Err(error)) => Err(CallError::Ended(error)),
            Err(_) => Err(CallError::Timeout(limit)),
        }
    }

    /// Keeps the link alive for as long as this is awaited; returns with the reason when
    /// it ends.
    pub(super) async fn idle(&mut self) -> String {
        match self.run(None).await {
            Ok(_) => "an answer that nobody asked for".to_owned(),
            Err(reason) => reason,
        }
    }

    /// Reads, writes and ticks until the answer of that number, or the end. Cancel-safe.
    async fn run(&mut self, wanted: Option<u32>) -> Result<Vec<u8>, String> {
        let mut buffer = [0; 4096];
        loop {
            loop {
                let frame = match self.decoder.next_frame() {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(error) => return Err(error.to_string()),
                };
                match rex::parse_reply(frame) {
                    Some(reply) if Some(reply.number) == wanted => {
                        let result = reply.result.to_vec();
                        self.stray = 0;
                        return Ok(result);
                    }
                    // A call's that was given up.
                    Some(_) => {}
                    None => {
                        if let Incoming::IsAuth(question) = control::parse(frame) {
                            control::put_yes(&mut self.out, &question);
                        }
                    }
                }
                self.stray = self.stray.saturating_add(frame.len() + 32);
                if self.stray > MAX_STRAY {
                    let most = MAX_STRAY >> 20;
                    return Err(format!("it sent {most} MiB that nobody asked for, the limit"));
                }
            }
            if !self.out.is_empty() {
                self.write().await.map_err(|error| error.to_string())?;
            }
            let tick = self.sent + TICK_AFTER;
            let silence = self.received + SILENCE;
            tokio::select! {
                read = self.stream.read(&mut buffer) => match read {
                    Ok(0) => return Err("the broker closed it".to_owned()),
                    Ok(count) => {
                        self.received = Instant::now();
                        self.decoder.push(buffer.get(..count).unwrap_or_default());
                    }
                    Err(error) => return Err(error.to_string()),
                },
                () = sleep_until(tick.min(silence)) => {
                    if Instant::now() >= silence {
                        return Err(format!("nothing came for {} s", SILENCE.as_secs()));
                    }
                    self.out.extend_from_slice(&TICK);
                }
            }
        }
    }

    /// Cancel-safe: what was written is noted before this returns.
    async fn write(&mut self) -> io::Result<()> {
        let write = async {
            while !self.out.is_empty() {
                let count = self.stream.write(&self.out).await?;
                if count == 0 {
                    return Err(io::ErrorKind::WriteZero.into());
                }
                self.out.drain(..count);
            }
            self.stream.flush().await
        };
        // A broker that takes no hundred bytes for so long is frozen.
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        timeout(SILENCE, write).await.map_err(late)??;
        self.sent = Instant::now();
        Ok(())
    }
}
