//! Attempts to reach one peer: for a first link, or to put a new one in an old one's place.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tracing::{Instrument, debug, debug_span, warn};

use super::carrier::{Carrier, Renewal, ShakeError};
use super::driver::{self, Established};
use super::gate::Ends;
use super::listen::tune;
use super::shared::Shared;
use super::tls::{Crossing, FailureKind};
use super::{DialError, MeshEvent, MeshSettings};
use crate::escape::escaped;
use crate::node::{LinkId, NodeName};
use crate::protocol::dist::handshake::{Handshake, HandshakeError};

/// Longest wait for one address to accept. Beyond loopback and a data centre this is
/// two lost SYNs.
const CONNECT: Duration = Duration::from_secs(3);

/// Most addresses of one name that are tried in one attempt.
const MAX_ADDRESSES: usize = 8;

/// Pauses, in milliseconds, before another connection where the peer ended one at once and without a word, as
/// a process does that is ending: its listener goes a moment later than its links, and then
/// the answer is that nobody is there.
const ENDING: [u64; 4] = [2, 3, 5, 8];
/// What is at once.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Attempts to put a new link in an old one's place. A peer that took up its own new files
/// a moment later refuses the first.
const RENEWALS: u32 = 3;
/// Between two of them.
const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// Once the new link is up, whoever is above the mesh ends the old one within this.
const RENEWAL_GRACE: Duration = Duration::from_secs(5);

/// Starts an attempt, unless one to this peer is under way.
pub(super) fn start(shared: &Arc<Shared>, peer: NodeName) {
    if shared.is_stopped() {
        return;
    }
    let Some(give_up) = shared.registry().begin_dial(&peer, Instant::now()) else { return };
    let span = debug_span!("link", %peer);
    shared.spawn(run(Arc::clone(shared), peer, give_up).instrument(span));
}

async fn run(shared: Arc<Shared>, peer: NodeName, give_up: Arc<Notify>) {
    let start = Instant::now();
    let result = tokio::select! {
        biased;
        () = shared.stopped() => return,
        result = attempt(&shared, &peer) => result,
        () = give_up.notified() => {
            Err(Failure::from(HandshakeError::Simultaneous))
        }
    };
    match result {
        Ok(up) => {
            shared.metrics.handshake("out", "ok");
            driver::start(&shared, up);
        }
        Err(failure) => {
            shared.registry().end_dial(&peer);
            failed(&shared, &peer, &failure);
            let Failure { error, cause, .. } = failure;
            let after = start.elapsed();
            shared.report(MeshEvent::DialFailed { peer, error, cause, after }).await;
        }
    }
}

/// Counts a failure, and says it once until it is another: dials are repeated for ever.
fn failed(shared: &Shared, peer: &NodeName, failure: &Failure) {
    let Failure { error, cause, remote, .. } = failure;
    shared.metrics.handshake("out", cause);
    let news = shared.registry().is_news(peer, cause);
    let reason = escaped(&error.to_string());
    let at = remote.map_or_else(String::new, |remote| format!(" at {remote}"));
    if news && matches!(error, DialError::Rejected(_)) {
        warn!(%peer, "cannot link to {peer}{at}: {reason}");
    } else {
        debug!(%peer, kind = error.kind(), "dial failed: {reason}");
    }
}

/// Puts a new link in the place of one that is to end: the new one is up before the old one
/// goes. Where none can be had the old one ends all the same.
pub(super) fn renew(shared: &Arc<Shared>, peer: NodeName, old: LinkId, reason: &'static str) {
    let span = debug_span!("link", %peer);
    let shared_too = Arc::clone(shared);
    shared.spawn(
        async move {
            tokio::select! {
                biased;
                () = shared_too.stopped() => return,
                () = replace(&shared_too, &peer, old) => {}
            }
            if let Some(queue) = shared_too.registry().forget(old) {
                queue.close(reason);
            }
        }
        .instrument(span),
    );
}

/// Ends when the old link may go.
async fn replace(shared: &Arc<Shared>, peer: &NodeName, old: LinkId) {
    for _ in 0..RENEWALS {
        if !has_successor(shared, peer, old).await {
            return;
        }
        let replaced = async {
            while shared.registry().queue(old).is_some() {
                sleep(RENEWAL_GRACE / 50).await;
            }
        };
        let in_time = timeout(RENEWAL_GRACE, replaced).await.is_ok();
        if in_time || shared.registry().has_other(peer, old) {
            return;
        }
        // Whoever is above the mesh kept the old one: one so young looks like the other of
        // two that crossed on their way. It is older now.
    }
}

/// Sees to a second link; whether there is one, or will be at once.
async fn has_successor(shared: &Arc<Shared>, peer: &NodeName, old: LinkId) -> bool {
    for round in 0..RENEWALS {
        if round > 0 {
            sleep(RENEWAL_PAUSE).await;
        }
        // The peer's own attempt may have come first.
        if shared.registry().has_other(peer, old) {
            return true;
        }
        // Whatever is under way already gives a link, too.
        let Some(give_up) = shared.registry().begin_renewal(peer, Instant::now()) else { continue };
        let result = tokio::select! {
            result = attempt(shared, peer) => result,
            () = give_up.notified() => Err(Failure::from(HandshakeError::Simultaneous)),
        };
        let failure = match result {
            Ok(up) => {
                shared.metrics.handshake("out", "ok");
                // Its task enters it into the registry, which may take a moment.
                driver::start(shared, up);
                return true;
            }
            Err(failure) => failure,
        };
        let awaited = shared.registry().end_dial(peer);
        failed(shared, peer, &failure);
        let Failure { error, cause, .. } = failure;
        // Who cannot be dialled at all has dialled us, and does so again.
        let hopeless = matches!(error, DialError::Refused | DialError::Resolve(_));
        if awaited {
            let (peer, after) = (peer.clone(), Duration::ZERO);
            shared.report(MeshEvent::DialFailed { peer, error, cause, after }).await;
        }
        if hopeless {
            return false;
        }
    }
    shared.registry().has_other(peer, old)
}

/// Why an attempt failed, with a fixed word for the metrics.
struct Failure {
    error: DialError,
    cause: &'static str,
    /// Who was reached.
    remote: Option<SocketAddr>,
    /// The peer closed the connection without saying why.
    closed: bool,
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let cause = error.kind();
        Self { error, cause, remote: None, closed: false }
    }
}

impl From<HandshakeError> for Failure {
    fn from(error: HandshakeError) -> Self {
        ShakeError::from(error).into()
    }
}

impl From<ShakeError> for Failure {
    fn from(error: ShakeError) -> Self {
        use HandshakeError as H;
        let cause = error.cause();
        let closed = match &error {
            ShakeError::Dist(error) => matches!(error, H::Closed(_)),
            ShakeError::Tls(failure) => failure.kind == FailureKind::Closed,
            ShakeError::Timeout => false,
        };
        let error = match error {
            ShakeError::Dist(H::Simultaneous | H::AlreadyUp) => DialError::Yield,
            ShakeError::Dist(H::Itself) => DialError::Itself,
            ShakeError::Tls(failure) if failure.kind == FailureKind::Crossed => DialError::Yield,
            ShakeError::Timeout => DialError::Timeout,
            // A limit of the peer's, or its end in this moment.
            error if error.is_ordinary() => DialError::Unreachable(error.to_string()),
            error => DialError::Rejected(error.to_string()),
        };
        Self { error, cause, remote: None, closed }
    }
}

/// A dialled connection, noted as long as its handshake lasts.
struct Noted<'a> {
    shared: &'a Shared,
    ends: Ends,
}

impl<'a> Noted<'a> {
    fn new(shared: &'a Shared, ends: Ends) -> Self {
        shared.registry().note_dialed(ends);
        Self { shared, ends }
    }

    /// Whether this node has accepted its own connection. Each side notes it before it looks
    /// for the other's note, so that one of them finds it.
    fn is_itself(&self) -> bool {
        self.shared.gate.holds(self.ends.seen_from_there())
            || !self.shared.registry().is_noted(self.ends)
    }
}

impl Drop for Noted<'_> {
    fn drop(&mut self) {
        self.shared.registry().forget_dialed(self.ends);
    }
}

async fn attempt(shared: &Shared, peer: &NodeName) -> Result<Established, Failure> {
    if *peer == shared.settings.node {
        return Err(HandshakeError::OwnName.into());
    }
    let limit = shared.settings.handshake_timeout;
    let addresses = addresses(shared, peer, limit).await?;
    shared.gate.know(peer, addresses.iter().map(SocketAddr::ip));
    let mut pauses = ENDING.into_iter();
    loop {
        let start = Instant::now();
        let result = connection(shared, peer, &addresses, limit).await;
        let closed = result.as_ref().is_err_and(|failure| failure.closed);
        match pauses.next() {
            Some(pause) if closed && start.elapsed() < AT_ONCE => {
                sleep(Duration::from_millis(pause)).await;
            }
            _ => return result,
        }
    }
}

/// One connection to the first address that accepts, and its handshake.
async fn connection(
    shared: &Shared,
    peer: &NodeName,
    addresses: &[SocketAddr],
    limit: Duration,
) -> Result<Established, Failure> {
    let (stream, rtt) = connect(addresses, source(&shared.settings), CONNECT.min(limit)).await?;
    tune(&stream);
    let ends = stream.peer_addr().and_then(|remote| Ok((remote, stream.local_addr()?)));
    let (remote, local) = ends.map_err(|error| DialError::Unreachable(error.to_string()))?;
    let noted = Noted::new(shared, Ends { near: local, far: remote });
    if noted.is_itself() {
        return Err(HandshakeError::Itself.into());
    }
    let (prefix, local_node) = (shared.handshake_prefix(), shared.local());
    let mut machine = Handshake::dial(prefix, local_node, peer.clone(), rand::random());
    let opened = timeout(limit, open(shared, peer, stream, &mut machine)).await;
    let opened = opened.unwrap_or(Err(ShakeError::Timeout));
    let (stream, renewal) = opened.map_err(|error| {
        let error = if noted.is_itself() { HandshakeError::Itself.into() } else { error };
        Failure { remote: Some(remote), ..error.into() }
    })?;
    let (peer, rest) = (peer.clone(), machine.into_rest());
    let (dialed, rtt) = (true, Some(rtt));
    Ok(Established { stream, peer, dialed, rtt, remote, local, rest, renewal })
}

/// TLS, where it is asked for, then the handshake.
async fn open(
    shared: &Shared,
    peer: &NodeName,
    stream: TcpStream,
    machine: &mut Handshake,
) -> Result<(Carrier, Option<Renewal>), ShakeError> {
    let Some(tls) = &shared.settings.tls else {
        let mut stream = Carrier::Tcp(stream);
        driver::shake(shared, &mut stream, machine, None).await?;
        return Ok((stream, None));
    };
    let own = &shared.settings.node;
    if own > peer {
        shared.registry().prefer_own(peer, Crossing::new(peer, own));
    }
    // Boxed: TLS handshakes are large, and no cost to those without.
    let (stream, certificate) = Box::pin(tls.connect(peer, stream)).await?;
    let mut stream = Carrier::Tls(Box::new(stream));
    driver::shake(shared, &mut stream, machine, Some(&certificate)).await?;
    Ok((stream, Some(Renewal::new(tls, &certificate))))
}

async fn addresses(
    shared: &Shared,
    peer: &NodeName,
    limit: Duration,
) -> Result<Vec<SocketAddr>, DialError> {
    let settings = &shared.settings;
    let port = settings.peer_base_port.checked_add(peer.offset()).ok_or_else(|| {
        let (base, offset) = (settings.peer_base_port, peer.offset());
        DialError::Resolve(format!("there is no port {base} + {offset}"))
    })?;
    let found = timeout(limit, settings.resolver.resolve(peer, settings.ipv6)).await;
    let found = found
        .map_err(|_| DialError::Resolve(format!("{} was not resolved in time", peer.host_str())))?
        .map_err(|error| DialError::Resolve(error.to_string()))?;
    Ok(found.into_iter().take(MAX_ADDRESSES).map(|ip| SocketAddr::new(ip, port)).collect())
}

/// Where connections come from: the one address that is listened on, so that peers
/// see the address they can reach; with several, or any, the system chooses.
fn source(settings: &MeshSettings) -> Option<IpAddr> {
    match settings.bind.as_slice() {
        [only] if !only.ip().is_unspecified() => Some(only.ip()),
        _ => None,
    }
}

async fn connect_from(source: Option<IpAddr>, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    if let Some(source) = source.filter(|source| source.is_ipv6() == address.is_ipv6()) {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
}

/// The first address that accepts, in order, and how long it took.
async fn connect(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    limit: Duration,
) -> Result<(TcpStream, Duration), DialError> {
    let mut unreachable = None;
    for &address in addresses {
        let start = Instant::now();
        match timeout(limit, connect_from(source, address)).await {
            Ok(Ok(stream)) if is_itself(&stream) => {}
            Ok(Ok(stream)) => return Ok((stream, start.elapsed())),
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Ok(Err(error)) => unreachable = Some(format!("cannot connect to {address}: {error}")),
            Err(_elapsed) => {
                unreachable = Some(format!("{address} did not answer within {limit:?}"));
            }
        }
    }
    // Refused only where all refused: another address may be the living one.
    Err(unreachable.map_or(DialError::Refused, DialError::Unreachable))
}

/// On loopback a connect to a free port of the ephemeral range can meet itself.
fn is_itself(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(a), Ok(b)) if a == b)
}
