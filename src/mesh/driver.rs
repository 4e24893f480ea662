//! Drives the two machines of `protocol::dist` over one connection.
//!
//! One task a link: it reads, writes and keeps time by itself, so that forming a
//! thousand links costs a thousand tasks and no more. Reads go through a buffer on
//! the stack, so an idle link holds no buffer at all.

use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead as _, AsyncWrite as _, AsyncWriteExt as _, ReadBuf};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument, debug};

use super::MeshEvent;
use super::carrier::{Carrier, Renewal, ShakeError};
use super::dial;
use super::queue::Queue;
use super::rate::{Rate, Used};
use super::shared::Shared;
use super::tls::{self, FailureKind, TlsFailure};
use super::turn::Turns;
use crate::node::{LinkId, NodeName};
use crate::protocol::dist::handshake::{Decision, Event as Shake, Handshake, Peer};
use crate::protocol::dist::link::{Event, Link};

/// Read at a time in a handshake: its messages are shorter.
const HANDSHAKE_READ: usize = 512;
/// Read at a time on a link.
const LINK_READ: usize = 8192;

/// A closing link's queue is written out for at most so long.
const FLUSH: Duration = Duration::from_millis(100);
/// Then the peer's end is awaited for at most so long: closing over unread bytes
/// would reset the connection and could destroy what was just flushed.
const LINGER: Duration = Duration::from_millis(50);
/// After a failed write, the peer's last words are read for at most so long.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Reads once and hands over what came; 0 is the end. Cancel-safe.
async fn read_some<const N: usize>(
    stream: &mut Carrier,
    mut take: impl FnMut(&[u8]),
) -> io::Result<usize> {
    poll_fn(|cx| poll_read_some::<N>(stream, cx, &mut take)).await
}

fn poll_read_some<const N: usize>(
    stream: &mut Carrier,
    cx: &mut Context<'_>,
    take: &mut impl FnMut(&[u8]),
) -> Poll<io::Result<usize>> {
    let mut bytes = [const { MaybeUninit::uninit() }; N];
    let mut bytes = ReadBuf::uninit(&mut bytes);
    ready!(Pin::new(stream).poll_read(cx, &mut bytes))?;
    take(bytes.filled());
    Poll::Ready(Ok(bytes.filled().len()))
}

/// Runs a handshake to its end. The caller sets the time limit. What the peer calls
/// itself must fit its `certificate`, where there is one.
pub(super) async fn shake(
    shared: &Shared,
    stream: &mut Carrier,
    machine: &mut Handshake,
    certificate: Option<&tls::Peer>,
) -> Result<Peer, ShakeError> {
    loop {
        let outcome = step(shared, machine, certificate);
        let out = machine.transmit();
        let written = async {
            stream.write_all(&out).await?;
            stream.flush().await
        };
        let sent = out.is_empty() || written.await.is_ok();
        match outcome {
            Ok(Some(peer)) if sent => return Ok(peer),
            Ok(None) if sent => {}
            Ok(_) => return Err(machine.closed().into()),
            Err(error) => return Err(error),
        }
        match read_some::<HANDSHAKE_READ>(stream, |bytes| machine.handle(bytes)).await {
            Ok(1..) => {}
            Ok(0) => return Err(machine.closed().into()),
            Err(error) => return Err(read_error(machine, &error)),
        }
    }
}

/// With TLS 1.3 a refused certificate shows only here.
fn read_error(machine: &Handshake, error: &io::Error) -> ShakeError {
    match TlsFailure::from_io(error) {
        TlsFailure { kind: FailureKind::Closed, .. } => machine.closed().into(),
        failure => failure.into(),
    }
}

/// Everything the bytes so far allow; what the machine asks is in the registry.
fn step(
    shared: &Shared,
    machine: &mut Handshake,
    certificate: Option<&tls::Peer>,
) -> Result<Option<Peer>, ShakeError> {
    while let Some(event) = machine.poll()? {
        match event {
            Shake::Named(peer) => {
                if let Some(Err(error)) = certificate.map(|certificate| certificate.check(&peer)) {
                    // Says so to the peer; why is not its business.
                    let _refusal = machine.decide(Decision::NotAllowed);
                    return Err(TlsFailure::from(error).into());
                }
                let own = &shared.settings.node;
                let decision = shared.registry().decide(own, &peer, Instant::now());
                machine.decide(decision)?;
            }
            Shake::Alive => {
                let wanted = machine.peer().is_some_and(|peer| {
                    let registry = shared.registry();
                    registry.wants_second(peer) || !registry.is_up(peer)
                });
                machine.answer_alive(wanted)?;
            }
            Shake::Done(peer) => return Ok(Some(peer)),
        }
    }
    Ok(None)
}

/// A connection whose handshake is done.
pub(super) struct Established {
    pub(super) stream: Carrier,
    pub(super) peer: NodeName,
    pub(super) dialed: bool,
    /// How long the peer's system took to answer a dial.
    pub(super) rtt: Option<Duration>,
    pub(super) remote: SocketAddr,
    pub(super) local: SocketAddr,
    /// What arrived behind the handshake.
    pub(super) rest: Vec<u8>,
    /// A TLS link's.
    pub(super) renewal: Option<Renewal>,
}

/// Why a link ended.
struct End {
    reason: String,
    closed_by_peer: bool,
}

impl End {
    fn ours(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), closed_by_peer: false }
    }

    fn of(error: &io::Error) -> Self {
        use io::ErrorKind;
        let closed_by_peer = matches!(
            error.kind(),
            ErrorKind::ConnectionReset
                | ErrorKind::ConnectionAborted
                | ErrorKind::BrokenPipe
                | ErrorKind::UnexpectedEof
        );
        let reason = match error.kind() {
            ErrorKind::UnexpectedEof => "the peer ended the connection without a goodbye".into(),
            _ => format!("the connection broke: {error}"),
        };
        Self { reason, closed_by_peer }
    }
}

/// Starts the task of a link. It is another than the handshake's, whose memory goes with
/// it, and which pays for no link that may never come.
pub(super) fn start(shared: &Arc<Shared>, up: Established) {
    let link = Arc::clone(shared);
    let span = tracing::Span::current();
    shared.spawn(async move { run(&link, up).await }.instrument(span));
}

/// A link's whole life, from its report as up to its report as down.
async fn run(shared: &Arc<Shared>, up: Established) {
    let Established { mut stream, peer, dialed, rtt, remote, local, rest, renewal } = up;
    let (link, queue) = shared.registry().link_up(&shared.local().name, &peer, dialed);
    shared.metrics.links.inc();
    debug!(link = link.0, %peer, dialed, "link up");
    let up = MeshEvent::Up { link, peer: peer.clone(), dialed, rtt, remote, local };
    shared.report(up).await;
    let machine = Link::new(shared.settings.times, shared.settings.max_frame, &rest, shared.now());
    drop(rest);
    let end = Driver::new(shared, link, peer.clone(), &queue, machine);
    let end = end.run(&mut stream, renewal).await;
    // At once, so that no new frame is taken for a link that is gone.
    shared.registry().forget(link);
    queue.close(&end.reason);
    drop(stream);
    shared.metrics.links.dec();
    debug!(link = link.0, %peer, reason = end.reason, "link down");
    let End { reason, closed_by_peer } = end;
    shared.report(MeshEvent::Down { link, reason, closed_by_peer }).await;
}

struct Driver<'a> {
    shared: &'a Arc<Shared>,
    link: LinkId,
    peer: NodeName,
    queue: &'a Queue,
    machine: Link,
    rate: Rate,
    turns: Turns,
    /// Taken from the queue and the machine, written up to `written`.
    out: Vec<u8>,
    written: usize,
    flushed: bool,
    /// A write failed; no more are tried.
    broken: Option<io::Error>,
    /// No reading before this: the peer sends faster than it may.
    resume: Option<Instant>,
}

impl<'a> Driver<'a> {
    fn new(
        shared: &'a Arc<Shared>,
        link: LinkId,
        peer: NodeName,
        queue: &'a Queue,
        machine: Link,
    ) -> Self {
        Self {
            shared,
            link,
            peer,
            queue,
            machine,
            rate: Rate::new(Instant::now()),
            turns: Turns::default(),
            out: Vec::new(),
            written: 0,
            flushed: true,
            broken: None,
            resume: None,
        }
    }

    async fn run(mut self, stream: &mut Carrier, renewal: Option<Renewal>) -> End {
        let queue = self.queue;
        let mut stopped = pin!(self.shared.stopped());
        let mut renewal = pin!(async {
            match renewal {
                Some(renewal) => renewal.due().await,
                None => std::future::pending().await,
            }
        });
        // Deadlines only move into the future, so the timer is set anew when it fires
        // and not with every frame.
        let mut sleep = pin!(sleep_until(self.shared.instant(self.machine.next_deadline())));
        let mut renewing = false;
        let mut read = 0;
        loop {
            if let Err(end) = self.deliver(read).await {
                return end;
            }
            if let Some(reason) = queue.closing() {
                self.finish(stream).await;
                return End::ours(reason);
            }
            self.gather();
            if let Some(resume) = self.resume
                && resume < sleep.deadline()
            {
                sleep.as_mut().reset(resume);
            }
            read = 0;
            tokio::select! {
                biased;
                () = &mut stopped => {
                    self.finish(stream).await;
                    return End::ours("this node stops");
                }
                result = poll_fn(|cx| self.poll_io(stream, cx)) => match result {
                    Ok(Io::Read(0)) => return self.end_of_stream(),
                    Ok(Io::Read(count)) => read = count,
                    Ok(Io::Broken) => sleep.as_mut().reset(Instant::now() + LAST_WORDS),
                    Err(error) => return End::of(&error),
                },
                () = queue.wake.notified() => {}
                reason = &mut renewal, if !renewing => {
                    renewing = true;
                    dial::renew(self.shared, self.peer.clone(), self.link, reason);
                }
                () = &mut sleep => {
                    if self.broken.is_some() {
                        return self.end_of_stream();
                    }
                    if let Err(error) = self.machine.handle_timeout(self.shared.now()) {
                        return End::ours(error.to_string());
                    }
                    self.resume.take_if(|resume| *resume <= Instant::now());
                    sleep.as_mut().reset(self.shared.instant(self.machine.next_deadline()));
                }
            }
        }
    }

    fn end_of_stream(&mut self) -> End {
        match self.broken.take() {
            Some(error) => End::of(&error),
            None => {
                End { reason: "the peer closed the connection".to_owned(), closed_by_peer: true }
            }
        }
    }

    /// Reports what `read` bytes more gave, and keeps the peer's rate.
    async fn deliver(&mut self, read: usize) -> Result<(), End> {
        let mut frames = 0;
        loop {
            match self.machine.poll() {
                Ok(Some(Event::Payload(payload))) => {
                    let turn = tokio::select! {
                        turn = self.turns.next() => turn,
                        // Nothing is reported any more, and there is a goodbye to send.
                        () = self.shared.stopped() => continue,
                    };
                    let frame = MeshEvent::Frame { link: self.link, payload, turn };
                    self.shared.report(frame).await;
                }
                Ok(Some(Event::Ignored(why))) => self.shared.ignored(why),
                Ok(None) => break,
                Err(error) => {
                    self.shared.ignored("too_long");
                    return Err(End::ours(error.to_string()));
                }
            }
            frames += 1;
        }
        if read > 0 {
            let bytes = u32::try_from(read).unwrap_or(u32::MAX);
            let used = Used { frames, bytes, work: self.turns.take_spent() };
            self.resume = self.rate.take(used, Instant::now());
            if self.resume.is_some() {
                self.held_back();
            }
        }
        Ok(())
    }

    /// The peer says more than it may, or what it says keeps this node too busy.
    fn held_back(&self) {
        self.shared.metrics.limit("link_rate");
        if let Some(more) = self.shared.throttle.pass("flood") {
            tracing::warn!(
                link = self.link.0,
                peer = %self.peer,
                "limit: the peer sends faster than it may, or what costs too much, and is held \
                 back{more}"
            );
        }
    }

    /// Takes what is to be written next, once all before it is.
    fn gather(&mut self) {
        if !self.out.is_empty() {
            return;
        }
        self.out = self.queue.take();
        self.out.append(&mut self.machine.transmit());
        if self.broken.is_some() {
            self.out = Vec::new();
        }
        if !self.out.is_empty() {
            self.written = 0;
            self.flushed = false;
            self.machine.sent(self.shared.now());
        }
    }

    /// Writes as much as goes, reads once. Cancel-safe: what was written or read is
    /// noted before this returns.
    fn poll_io(&mut self, stream: &mut Carrier, cx: &mut Context<'_>) -> Poll<io::Result<Io>> {
        if self.broken.is_none()
            && let Poll::Ready(Err(error)) = self.poll_write(stream, cx)
        {
            self.broken = Some(error);
            self.out = Vec::new();
            return Poll::Ready(Ok(Io::Broken));
        }
        if self.resume.is_some() {
            return Poll::Pending;
        }
        let (machine, now) = (&mut self.machine, self.shared.now());
        poll_read_some::<LINK_READ>(stream, cx, &mut |bytes| machine.handle(bytes, now))
            .map_ok(Io::Read)
    }

    fn poll_write(&mut self, stream: &mut Carrier, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.written < self.out.len() {
            let rest = &self.out[self.written..];
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += count;
        }
        // Freed and not kept: most links are idle most of the time.
        self.out = Vec::new();
        if !self.flushed {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.flushed = true;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what is queued and ends the connection in an orderly way, if the peer
    /// takes it in time.
    async fn finish(&mut self, stream: &mut Carrier) {
        if self.broken.is_some() {
            return;
        }
        let queued = self.queue.take();
        let flush = async {
            stream.write_all(&self.out[self.written.min(self.out.len())..]).await?;
            stream.write_all(&queued).await?;
            stream.shutdown().await
        };
        if let Ok(Ok(())) = timeout(FLUSH, flush).await {
            let drain =
                async { while let Ok(1..) = read_some::<LINK_READ>(stream, |_| {}).await {} };
            let _in_time = timeout(LINGER, drain).await;
        }
    }
}

enum Io {
    Read(usize),
    /// A write failed; what the peer still said is read.
    Broken,
}
