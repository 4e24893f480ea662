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
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::error::ApiError;
use super::listen::{Listener, Peer, Stream};
use super::places::Place;
use super::tls::ApiTls;
use super::{ApiState, App, body, guard, routes};
use crate::metrics::{Outcome, Word};

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
    let mut connections = JoinSet::new();
    let tls = listener.tls();
    let watch = tls.clone().map(|tls| tokio::spawn(tls.watch(Arc::clone(&app.state.metrics))));
    tokio::pin!(shutdown);
    loop {
        tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // Without a place it is hung up on.
                    let Some(place) = app.places.take(peer).map(Arc::new) else { continue };
                    let app = Arc::clone(&app);
                    let (router, stopped, tls) = (router.clone(), stopped.clone(), tls.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            biased;
                            () = place.lost() => {}
                            () = async {
                                if let Some(stream) = secured(stream, tls).await {
                                    connection(stream, peer, &place, app, router, stopped).await;
                                }
                            } => {}
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(
                        %error,
                        "the API cannot accept connections, and tries again: has the agent reached \
                         its limit of open files (LimitNOFILE, ulimit -n)?"
                    );
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    watch.into_iter().for_each(|watch| watch.abort());
    stop.send_replace(true);
    let drained = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN_GRACE, drained).await.is_err() {
        tracing::debug!(open = connections.len(), "API connections cut at shutdown");
    }
}

/// The stream to speak HTTP on; `None` when the client did not finish its handshake.
async fn secured(stream: Stream, tls: Option<Arc<ApiTls>>) -> Option<Stream> {
    match (stream, tls) {
        (Stream::Tcp(stream), Some(tls)) => match timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
            Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a TLS handshake of the API failed");
                None
            }
            Err(_) => None,
        },
        (stream, _) => Some(stream),
    }
}

async fn connection(
    stream: Stream,
    peer: Peer,
    place: &Arc<Place>,
    app: Arc<App>,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let held = Arc::clone(place);
    let routes = TowerToHyperService::new(router);
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, place, routes) = (Arc::clone(&app), Arc::clone(&held), routes.clone());
        async move { Ok::<_, Infallible>(answer(&app, &routes, peer, &place, request).await) }
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
    place: &Arc<Place>,
    request: Request<Incoming>,
) -> Response<Body> {
    let mut response = match admitted(app, peer, place, request).await {
        Ok(request) => match routes.call(request).await {
            Ok(response) => response,
            Err(impossible) => match impossible {},
        },
        Err(refusal) => refusal.into_response(),
    };
    place.answered();
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

/// The whole request of a client that may ask: until it is here, the agent waits for the
/// client, and not the other way round.
async fn admitted(
    app: &App,
    peer: Peer,
    place: &Arc<Place>,
    request: Request<Incoming>,
) -> Result<Request<Body>, ApiError> {
    guard::check(app.config().agent.api.token.as_ref(), peer, &request)?;
    let (mut head, body) = request.into_parts();
    let body = body::read(body).await?;
    place.working();
    head.extensions.insert(Arc::clone(place));
    head.extensions.insert(peer);
    Ok(Request::from_parts(head, Body::from(body)))
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
