//! Accepts connections and takes them through their handshake.

use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tracing::{Instrument, debug, debug_span, warn};

use super::carrier::{Carrier, Renewal, ShakeError};
use super::driver::{self, Established};
use super::gate::Permit;
use super::shared::Shared;
use crate::escape::escaped;
use crate::node::NodeName;
use crate::protocol::dist::handshake::Handshake;

/// Connections that the kernel finishes before we accept them: fifty agents that
/// dial at once, many times over. The system may hold it lower.
const BACKLOG: i32 = 1024;

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
                    warn!(%error, "cannot accept connections{more}");
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
    match shared.gate.enter(remote.ip()) {
        Ok(permit) => {
            let span = debug_span!("link", %remote);
            shared.spawn(inbound(Arc::clone(shared), stream, remote, permit).instrument(span));
        }
        Err(limit) => {
            shared.refused(limit);
            if let Some(more) = shared.throttle.pass(limit) {
                warn!(%remote, limit, "too many connections in their handshake, one is refused{more}");
            }
        }
    }
}

pub(super) async fn inbound(
    shared: Arc<Shared>,
    stream: TcpStream,
    remote: SocketAddr,
    permit: Permit,
) {
    tune(&stream);
    let Ok(local) = stream.local_addr() else { return };
    let mut machine = Handshake::accept(shared.handshake_prefix(), shared.local(), rand::random());
    let open = open(&shared, stream, &mut machine);
    let opened = tokio::select! {
        // One deadline for everything up to the link.
        opened = timeout(shared.settings.handshake_timeout, open) => {
            opened.unwrap_or(Err(ShakeError::Timeout))
        }
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

/// TLS, where it is asked for, then the handshake.
async fn open(
    shared: &Shared,
    stream: TcpStream,
    machine: &mut Handshake,
) -> Result<(Carrier, Option<Renewal>, NodeName), ShakeError> {
    let Some(tls) = &shared.settings.tls else {
        let mut stream = Carrier::Tcp(stream);
        let peer = driver::shake(shared, &mut stream, machine, None).await?;
        return Ok((stream, None, peer.name));
    };
    // Who connects and says nothing costs no TLS. Its end shows in the handshake.
    let _something = stream.peek(&mut [0]).await;
    // Boxed: TLS handshakes are large, and no cost to those without.
    let (stream, certificate) = Box::pin(tls.accept(stream)).await?;
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
