//! Accepts connections and takes them through their handshake.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{Instrument, debug, debug_span, warn};

use super::carrier::{Carrier, Renewal, ShakeError};
use super::driver::{self, Established};
use super::gate::{Ends, Permit};
use super::shared::Shared;
use crate::escape::escaped;
use crate::node::NodeName;
use crate::protocol::dist::handshake::Handshake;

/// Connections that the kernel finishes before we accept them: what a flood brings while
/// this process waits for a processor, since who finds it full tries again after a second.
/// The system may hold it lower.
const BACKLOG: i32 = 4096;

/// Pause after a failed accept. What makes accept fail (no descriptors left) does not
/// go away at once, and the connection stays in the backlog meanwhile.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the kernel keeps trying to deliver what we wrote; Erlang's `net_ticktime`.
const USER_TIMEOUT: Duration = Duration::from_secs(60);

/// Binds one address. An IPv6 one takes no IPv4, which has its own protocol setting.
pub(super) fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restarted agent must not wait for its old connections to be forgotten.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Sets what every connection wants: small frames go out at once, and what a dead
/// peer never acknowledges is given up. Failures only cost speed.
pub(super) fn tune(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let tuned = socket.set_tcp_nodelay(true);
    #[cfg(target_os = "linux")]
    let tuned = tuned.and(socket.set_tcp_user_timeout(Some(USER_TIMEOUT)));
    if let Err(error) = tuned {
        debug!(%error, "socket options");
    }
}

/// Accepts until all ends.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let mut stopped = pin!(shared.stopped());
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut stopped => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, remote)) => admit(&shared, stream, remote),
            // The connection ended before it was accepted: its own affair.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                shared.refused("accept_error");
                if let Some(more) = shared.throttle.pass("accept_error") {
                    warn!(
                        %error,
                        "cannot accept connections, and tries again: has the agent reached its \
                         limit of open files (LimitNOFILE, ulimit -n)?{more}"
                    );
                }
                tokio::select! {
                    () = &mut stopped => return,
                    () = sleep(ACCEPT_PAUSE) => {}
                }
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, stream: TcpStream, remote: SocketAddr) {
    let Ok(local) = stream.local_addr() else { return };
    let ends = Ends { near: local, far: remote };
    let (permit, limit) = shared.gate.enter(ends);
    if let Some(limit) = limit {
        shared.refused(limit);
        if let Some(more) = shared.throttle.pass(limit) {
            warn!(
                %remote,
                limit,
                "too many connections in their handshake: an older one gives way to a new one{more}"
            );
        }
    }
    let span = debug_span!("link", %remote);
    shared.spawn(inbound(Arc::clone(shared), stream, ends, permit).instrument(span));
}

pub(super) async fn inbound(shared: Arc<Shared>, stream: TcpStream, ends: Ends, permit: Permit) {
    tune(&stream);
    let Ends { near: local, far: remote } = ends;
    if shared.registry().comes_from_itself(ends) {
        return debug!(%remote, "a dial of this node came out at itself");
    }
    // One deadline for everything up to the link.
    let deadline = Instant::now() + shared.settings.handshake_timeout;
    let mut machine = Handshake::accept(shared.handshake_prefix(), shared.local(), rand::random());
    // Who connects and says nothing costs no TLS. Its end shows in the handshake.
    let mut first = [0];
    tokio::select! {
        _ = timeout_at(deadline, stream.peek(&mut first)) => permit.spoke(),
        () = permit.taken() => return reset(&stream),
        () = shared.stopped() => return,
    }
    let opened = tokio::select! {
        opened = timeout_at(deadline, open(&shared, stream, &mut machine, permit.is_known())) => {
            opened.unwrap_or(Err(ShakeError::Timeout))
        }
        () = permit.taken() => return,
        () = shared.stopped() => return,
    };
    drop(permit);
    match opened {
        Ok((stream, renewal, peer)) => {
            shared.metrics.handshake("in", "ok");
            let rest = machine.into_rest();
            let (dialed, rtt) = (false, None);
            let up = Established { stream, peer, dialed, rtt, remote, local, rest, renewal };
            driver::start(&shared, up);
        }
        Err(error) => failed(&shared, remote, machine.peer(), &error),
    }
}

/// Has the kernel forget the connection at once: of a flood's it would keep each for a
/// minute. A failure only costs that.
fn reset(stream: &TcpStream) {
    if let Err(error) = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        debug!(%error, "socket options");
    }
}

/// TLS, where it is asked for, then the handshake.
async fn open(
    shared: &Shared,
    stream: TcpStream,
    machine: &mut Handshake,
    known: bool,
) -> Result<(Carrier, Option<Renewal>, NodeName), ShakeError> {
    let Some(tls) = &shared.settings.tls else {
        let mut stream = Carrier::Tcp(stream);
        let peer = driver::shake(shared, &mut stream, machine, None).await?;
        return Ok((stream, None, peer.name));
    };
    let goes_on = |said: &[u8]| shared.registry().goes_on(said, Instant::now());
    // Boxed: TLS handshakes are large, and no cost to those without.
    let (stream, certificate) = Box::pin(tls.accept(stream, known, goes_on)).await?;
    let mut stream = Carrier::Tls(Box::new(stream));
    let peer = driver::shake(shared, &mut stream, machine, Some(&certificate)).await?;
    Ok((stream, Some(Renewal::new(tls, &certificate)), peer.name))
}

fn failed(shared: &Shared, remote: SocketAddr, claimed: Option<&NodeName>, error: &ShakeError) {
    let cause = error.cause();
    shared.metrics.handshake("in", cause);
    let claimed = claimed.map_or("nobody yet", NodeName::as_str);
    let reason = escaped(&error.to_string());
    if error.is_ordinary() {
        debug!(%remote, claimed, "connection not taken: {reason}");
    } else if let Some(more) = shared.throttle.pass(cause) {
        warn!(%remote, claimed, "connection refused: {reason}{more}");
    }
}
