//! `agent.health.listen`: health and metrics for standard tools, asked as they ask.
//!
//! HAProxy, kubelet and Prometheus send what they always send: HTTP/1.0, no `Host` or that
//! of the site they check for, no token. So this listener looks at neither; it serves four
//! paths that change nothing, and nothing else.
//!
//! Tasks: the accept loop is the caller's ([`serve`]); every connection is one task in its
//! [`Places`], ended by its answer, by a limit, or with the loop. Any of them may be dropped
//! at any await.

mod places;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{MethodRouter, get};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tracing::{trace, warn};

use super::error::ApiError;
use super::listen::{BindError, bind_tcp};
use super::{ApiState, App, health, scrape};
use crate::throttle::Throttle;
use places::Places;

/// From accepting to the last byte of the answer. A tool on a bad line takes a second.
const EXCHANGE: Duration = Duration::from_secs(5);

/// Request line and headers together.
const MAX_HEAD: usize = 8 * 1024;

/// Pause after a failed accept, which is a lack of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The bound address.
#[derive(Debug)]
pub struct ProbeListener {
    socket: TcpListener,
    address: SocketAddr,
}

impl ProbeListener {
    /// Binds `agent.health.listen`; needs a tokio runtime.
    ///
    /// # Errors
    /// [`BindError::Health`].
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let refused = |source| BindError::Health { address, source };
        let socket = bind_tcp(address).map_err(refused)?;
        let address = socket.local_addr().map_err(refused)?;
        Ok(Self { socket, address })
    }

    /// Where it listens; a port of 0 is replaced by the one that was given.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Serves until `shutdown` resolves. Answers are made from snapshots at once, so nothing
/// is waited for then.
pub async fn serve(listener: ProbeListener, state: ApiState, shutdown: impl Future<Output = ()>) {
    let metrics = Arc::clone(&state.metrics);
    let (_running, stopped) = watch::channel(false);
    let router = router(Arc::new(App::new(state, stopped)));
    let throttle = Throttle::default();
    let mut places = Places::default();
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => return,
            () = places.ended() => {}
            accepted = listener.socket.accept() => match accepted {
                Ok((stream, remote)) => {
                    let gave_way = places.take(remote.ip(), exchange(stream, router.clone()));
                    if gave_way {
                        metrics.limit("health_connections");
                        if let Some(more) = throttle.pass("health") {
                            warn!(
                                %remote,
                                "agent.health.listen reached its limit of {} connections: the one \
                                 that has kept its place for longest was closed{more}",
                                places::MAX
                            );
                        }
                    }
                    // Who came with a request is answered before others can push it out.
                    tokio::task::yield_now().await;
                }
                Err(error) => {
                    if let Some(more) = throttle.pass("accept") {
                        warn!(
                            %error,
                            "agent.health.listen cannot accept connections, and tries again: has \
                             the agent reached its limit of open files (LimitNOFILE, ulimit \
                             -n)?{more}"
                        );
                    }
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
}

fn router(app: Arc<App>) -> Router {
    // A check by OPTIONS asks what one by GET does: HAProxy reads the status.
    let live = || -> MethodRouter<Arc<App>> { get(health::livez).options(health::livez) };
    Router::new()
        .route("/livez", live())
        .route("/healthz", live())
        .route("/readyz", get(health::readyz).options(health::readyz))
        .route("/metrics", get(scrape::metrics).options(scrape::metrics))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

async fn unknown_route(uri: Uri) -> ApiError {
    let path = uri.path();
    ApiError::not_found(format!(
        "there is no '{path}' here; agent.health.listen serves /livez, /readyz, /healthz and /metrics"
    ))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("'{}' does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}

/// One request and its answer: tools come back with a new connection, and nobody holds a
/// place by doing nothing.
async fn exchange(stream: TcpStream, router: Router) {
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        // `nc` and its like close their side behind the request.
        .half_close(true)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    match timeout(EXCHANGE, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => trace!(%error, "a connection to agent.health.listen broke off"),
        Err(_) => trace!("a connection to agent.health.listen took too long"),
    }
}

#[cfg(test)]
mod tests;
