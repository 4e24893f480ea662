//! One attempt to reach one peer.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};
use tracing::{Instrument, debug, debug_span, warn};

use super::carrier::{Carrier, Renewal, ShakeError};
use super::driver::{self, Established};
use super::listen::tune;
use super::shared::Shared;
use super::{DialError, MeshEvent, MeshSettings};
use crate::escape::escaped;
use crate::node::NodeName;
use crate::protocol::dist::handshake::{Handshake, HandshakeError};

/// Longest wait for one address to accept. Beyond loopback and a data centre this is
/// two lost SYNs.
const CONNECT: Duration = Duration::from_secs(3);

/// Most addresses of one name that are tried in one attempt.
const MAX_ADDRESSES: usize = 8;

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
        Err(Failure { error, cause }) => {
            shared.metrics.handshake("out", cause);
            let news = {
                let mut registry = shared.registry();
                registry.end_dial(&peer);
                registry.is_news(&peer, cause)
            };
            // Said once, until it is another failure: dials are repeated for ever.
            let reason = escaped(&error.to_string());
            if news && matches!(error, DialError::Rejected(_)) {
                warn!(%peer, "cannot link: {reason}");
            } else {
                debug!(%peer, kind = error.kind(), "dial failed: {reason}");
            }
            let after = start.elapsed();
            shared.report(MeshEvent::DialFailed { peer, error, cause, after }).await;
        }
    }
}

/// Why an attempt failed, with a fixed word for the metrics.
struct Failure {
    error: DialError,
    cause: &'static str,
}

impl From<DialError> for Failure {
    fn from(error: DialError) -> Self {
        let cause = error.kind();
        Self { error, cause }
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
        let error = match error {
            ShakeError::Dist(H::Simultaneous | H::AlreadyUp) => DialError::Yield,
            ShakeError::Timeout => DialError::Timeout,
            // A limit of the peer's, or its end in this moment.
            error if error.is_ordinary() => DialError::Unreachable(error.to_string()),
            error => DialError::Rejected(error.to_string()),
        };
        Self { error, cause }
    }
}

async fn attempt(shared: &Shared, peer: &NodeName) -> Result<Established, Failure> {
    if *peer == shared.settings.node {
        return Err(HandshakeError::OwnName.into());
    }
    let limit = shared.settings.handshake_timeout;
    let addresses = addresses(shared, peer, limit).await?;
    let (stream, rtt) = connect(&addresses, source(&shared.settings), CONNECT.min(limit)).await?;
    tune(&stream);
    let ends = stream.peer_addr().and_then(|remote| Ok((remote, stream.local_addr()?)));
    let (remote, local) = ends.map_err(|error| DialError::Unreachable(error.to_string()))?;
    let (prefix, local_node) = (shared.handshake_prefix(), shared.local());
    let mut machine = Handshake::dial(prefix, local_node, peer.clone(), rand::random());
    let opened = timeout(limit, open(shared, peer, stream, &mut machine)).await;
    let (stream, renewal) = opened.unwrap_or(Err(ShakeError::Timeout))?;
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
