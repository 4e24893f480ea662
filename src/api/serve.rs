//! The server: connections in, bounded in number, size and time.
//!
//! Tasks: the accept loop is the caller's ([`serve`]); every connection is one
//! task in its [`JoinSet`], ended by its peer, by a limit, or at shutdown.

use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderValue, Request, Response, header};
use axum::response::IntoResponse;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::guard;
use super::listen::{Listener, Peer, Stream};
use super::{ApiState, App, routes};
use crate::metrics::{Outcome, Word};

/// Connections at once: dashboards, probes and scripts of one machine. Further
/// ones wait in the kernel's queue until one ends.
pub const MAX_CONNECTIONS: usize = 256;

/// Request line and headers together; twice what browsers send.
pub const MAX_HEAD: usize = 16 * 1024;

/// Header fields of one request.
pub const MAX_HEADERS: usize = 64;

/// A connection may be silent for so long before and between requests, and a head
/// may take so long to arrive.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// A reader may block our writing for so long.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Requests that are under way at shutdown get so long to finish.
pub const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Pause after a failed accept, which is a lack of file descriptors as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Serves until `shutdown` resolves; then open requests are answered, event
/// streams ended, and what remains after [`DRAIN_GRACE`] is cut.
pub async fn serve(listener: Listener, state: ApiState, shutdown: impl Future<Output = ()>) {
    let (stop, stopped) = watch::channel(false);
    let app = Arc::new(App::new(state, stopped.clone()));
    let router = routes::router(Arc::clone(&app));
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    tokio::pin!(shutdown);
    loop {
        let accept = async {
            // The semaphore is never closed.
            let slot = Arc::clone(&slots).acquire_owned().await;
            (slot, listener.accept().await)
        };
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            (slot, accepted) = accept => match accepted {
                Ok((stream, peer)) => {
                    let connection =
                        connection(stream, peer, Arc::clone(&app), router.clone(), stopped.clone());
                    connections.spawn(async move {
                        connection.await;
                        drop(slot);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the API cannot accept connections");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_GRACE, drained).await.is_err() {
        tracing::debug!(open = connections.len(), "API connections cut at shutdown");
    }
}

async fn connection(
    stream: Stream,
    peer: Peer,
    app: Arc<App>,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let app = Arc::clone(&app);
        let routes = routes.clone();
        async move { Ok::<_, Infallible>(answer(&app, &routes, peer, request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_HEADERS)
        .serve_connection(TokioIo::new(Patient::new(stream)), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::trace!(%error, "an API connection broke off");
    }
}

async fn answer(
    app: &App,
    routes: &TowerToHyperService<Router>,
    peer: Peer,
    request: Request<Incoming>,
) -> Response<Body> {
    let config = app.config();
    let token = config.agent.api.token.as_ref();
    let mut response = match guard::check(token, peer, &request) {
        Ok(()) => match routes.call(request).await {
            Ok(response) => response,
            Err(impossible) => match impossible {},
        },
        Err(refusal) => refusal.into_response(),
    };
    let class = match response.status().as_u16() / 100 {
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    };
    app.state.metrics.http_requests.get_or_create(&Outcome { outcome: Word(class) }).inc();
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A stream whose writes fail once they have been blocked for [`WRITE_TIMEOUT`],
/// so that a reader that stopped reading holds no connection for ever.
struct Patient {
    stream: Stream,
    blocked: Option<Pin<Box<Sleep>>>,
}

impl Patient {
    fn new(stream: Stream) -> Self {
        Self { stream, blocked: None }
    }

    fn limit<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.blocked = None;
            return written;
        }
        let blocked = self.blocked.get_or_insert_with(|| {
            Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_TIMEOUT))
        });
        ready!(blocked.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Patient {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Patient {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.limit(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.limit(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
