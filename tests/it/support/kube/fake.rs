//! As much of an API server as discovery meets: lists, watches, bookmarks, 401,
//! 403, 404, 410, and faults on demand.
//!
//! Behaviour as observed on a real 1.36: list items carry no `kind`; an expired
//! version on a watch is a 200 with an ERROR event; a label change out of the
//! selector arrives as DELETED; `timeoutSeconds` ends a watch cleanly.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use super::super::etcd::Tls;
use super::{ADMIN, LIMITED, Right};

type BoxBody = http_body_util::combinators::UnsyncBoxBody<Bytes, std::io::Error>;

/// `(resource, namespace, name)`.
type Key = (String, String, String);

#[derive(Clone)]
struct Change {
    version: u64,
    key: Key,
    before: Option<Value>,
    after: Option<Value>,
}

#[derive(Default)]
struct World {
    version: u64,
    objects: BTreeMap<Key, Value>,
    history: Vec<Change>,
    /// Versions below this are no longer kept.
    compacted: u64,
    rights: Vec<Right>,
    tokens: HashMap<String, &'static str>,
}

/// What the faults and the counters are set and read by.
#[derive(Default)]
pub struct Knobs {
    /// An expired version on a watch is a real 410 instead of an event.
    pub gone_by_status: AtomicBool,
    /// Requests get no answer.
    pub silent: AtomicBool,
    /// 404 for what an API server before 1.21 does not have.
    pub no_slices: AtomicBool,
    /// Requests without a token are the administrator's, as through `kubectl proxy`.
    pub open: AtomicBool,
    /// Whether a token came with the latest request.
    pub saw_token: AtomicBool,
    pub lists: AtomicUsize,
    pub watches: AtomicUsize,
    /// The `resourceVersion` of the latest watch.
    pub watched_from: AtomicUsize,
}

/// What all open watches are told.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Order {
    bookmarks: usize,
    ends: usize,
    breaks: usize,
    changes: u64,
}

struct Shared {
    world: Mutex<World>,
    knobs: Knobs,
    orders: watch::Sender<Order>,
}

/// The server; stopped when dropped.
pub struct Fake {
    shared: Arc<Shared>,
    address: SocketAddr,
    acceptor: Option<TlsAcceptor>,
    task: Option<JoinHandle<()>>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Fake {
    /// Over TLS, or plain http without.
    pub async fn start(tls: Option<&Tls>) -> Self {
        let mut world = World { version: 100, ..World::default() };
        world.tokens.insert(ADMIN.into(), "admin");
        world.tokens.insert(LIMITED.into(), "limited");
        let shared = Arc::new(Shared {
            world: Mutex::new(world),
            knobs: Knobs::default(),
            orders: watch::Sender::new(Order::default()),
        });
        let acceptor = tls.map(|tls| {
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let certs = CertificateDer::pem_file_iter(&tls.cert).unwrap();
            let config = rustls::ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .unwrap()
                .with_no_client_auth()
                .with_single_cert(
                    certs.collect::<Result<_, _>>().unwrap(),
                    PrivateKeyDer::from_pem_file(&tls.key).unwrap(),
                )
                .unwrap();
            TlsAcceptor::from(Arc::new(config))
        });
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut fake = Self { shared, address, acceptor, task: None };
        fake.run().await;
        fake
    }

    pub fn url(&self) -> String {
        let scheme = if self.acceptor.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    pub fn knobs(&self) -> &Knobs {
        &self.shared.knobs
    }

    /// Listens, on the port of before if there was one.
    pub async fn run(&mut self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        self.address = listener.local_addr().unwrap();
        let (shared, acceptor) = (Arc::clone(&self.shared), self.acceptor.clone());
        self.task = Some(tokio::spawn(async move {
            // Dropped with this task, and every connection with it.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (shared, acceptor) = (Arc::clone(&shared), acceptor.clone());
                connections.spawn(async move {
                    match acceptor {
                        None => serve(stream, shared).await,
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                serve(stream, shared).await;
                            }
                        }
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        }));
    }

    /// As a killed process: every connection is cut.
    pub async fn stop(&mut self) {
        let task = self.task.take().unwrap();
        task.abort();
        let _ = task.await;
    }

    /// Creates or replaces a slice without a request.
    pub fn put_slice(&self, name: &str, namespace: &str, service: &str, endpoints: Value) {
        let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": {"name": name, "namespace": namespace,
                "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": endpoints});
        write(&Method::PUT, Some(slice), Some(name), "endpointslices", namespace, &self.shared);
    }

    pub fn grant(&self, rights: &[Right]) {
        self.shared.world.lock().unwrap().rights = rights.to_vec();
    }

    /// Replaces the limited user's token.
    pub fn rotate(&self, token: &str) {
        let mut world = self.shared.world.lock().unwrap();
        world.tokens.retain(|_, user| *user != "limited");
        world.tokens.insert(token.to_owned(), "limited");
    }

    /// Forgets the history up to now.
    pub fn compact(&self) {
        let mut world = self.shared.world.lock().unwrap();
        world.version += 1;
        world.compacted = world.version;
    }

    /// Raises the version without a change to any endpoint.
    pub fn other_news(&self) {
        self.shared.world.lock().unwrap().version += 50;
    }

    /// Every open watch gets a bookmark.
    pub fn bookmark(&self) {
        self.shared.orders.send_modify(|order| order.bookmarks += 1);
    }

    /// Every open watch ends as after its `timeoutSeconds`.
    pub fn end_watches(&self) {
        self.shared.orders.send_modify(|order| order.ends += 1);
    }

    /// Every open watch breaks within an event.
    pub fn break_watches(&self) {
        self.shared.orders.send_modify(|order| order.breaks += 1);
    }

    /// The version of now.
    pub fn version(&self) -> u64 {
        self.shared.world.lock().unwrap().version
    }
}

async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(stream: S, shared: Arc<Shared>) {
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(answer(request, shared).await) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

fn json_response(status: StatusCode, value: &Value) -> Response<BoxBody> {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {});
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(body.boxed_unsync())
        .unwrap()
}

fn status(code: StatusCode, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code.as_u16()})
}

fn refuse(code: StatusCode, reason: &str, message: &str) -> Response<BoxBody> {
    json_response(code, &status(code, reason, message))
}

fn no_such_path() -> Response<BoxBody> {
    let body = Full::new(Bytes::from_static(b"404 page not found\n"));
    let body = body.map_err(|never| match never {}).boxed_unsync();
    Response::builder().status(404).body(body).unwrap()
}

async fn answer(request: Request<Incoming>, shared: Arc<Shared>) -> Response<BoxBody> {
    if shared.knobs.silent.load(Ordering::SeqCst) {
        return std::future::pending().await;
    }
    let (parts, body) = request.into_parts();
    let token = parts
        .headers
        .get("authorization")
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    shared.knobs.saw_token.store(token.is_some(), Ordering::SeqCst);
    let user = match token {
        None if shared.knobs.open.load(Ordering::SeqCst) => Some("admin"),
        None => None,
        Some(token) => shared.world.lock().unwrap().tokens.get(token).copied(),
    };
    let Some(user) = user else {
        return refuse(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized");
    };
    let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    let (group, namespace, resource, name) = match path.as_slice() {
        [
            "apis",
            "discovery.k8s.io",
            "v1",
            "namespaces",
            namespace,
            "endpointslices",
            rest @ ..,
        ] if !shared.knobs.no_slices.load(Ordering::SeqCst) => {
            ("discovery.k8s.io", *namespace, "endpointslices", rest.first().copied())
        }
        ["api", "v1", "namespaces", namespace, "endpoints", rest @ ..] => {
            ("", *namespace, "endpoints", rest.first().copied())
        }
        _ => return no_such_path(),
    };
    let query: HashMap<String, String> = parts
        .uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.replace("%3D", "=").replace("%2F", "/")))
        .collect();
    let watching = query.get("watch").is_some_and(|value| value == "true");
    let verb = match (&parts.method, name) {
        (&Method::GET, None) if watching => "watch",
        (&Method::GET, None) => "list",
        (&Method::GET, Some(_)) => "get",
        _ => "write",
    };
    let allowed =
        user == "admin" || shared.world.lock().unwrap().rights.contains(&(verb, resource));
    if !allowed {
        let named = name.map(|name| format!(" \"{name}\"")).unwrap_or_default();
        let message = format!(
            "{resource}{}{}{named} is forbidden: User \"limited\" cannot {verb} resource \
             \"{resource}\" in API group \"{group}\" in the namespace \"{namespace}\"",
            if group.is_empty() { "" } else { "." },
            group
        );
        return refuse(StatusCode::FORBIDDEN, "Forbidden", &message);
    }
    match verb {
        "watch" => watch_from(&query, resource, namespace, &shared),
        "list" => list(&query, resource, namespace, &shared),
        "get" => {
            let name = name.unwrap_or_default();
            let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
            match shared.world.lock().unwrap().objects.get(&key) {
                Some(object) => json_response(StatusCode::OK, object),
                None => refuse(
                    StatusCode::NOT_FOUND,
                    "NotFound",
                    &format!("{resource} \"{name}\" not found"),
                ),
            }
        }
        _ => {
            let bytes = body.collect().await.unwrap().to_bytes();
            let object = serde_json::from_slice(&bytes).ok();
            write(&parts.method, object, name, resource, namespace, &shared)
        }
    }
}

fn write(
    method: &Method,
    object: Option<Value>,
    name: Option<&str>,
    resource: &str,
    namespace: &str,
    shared: &Shared,
) -> Response<BoxBody> {
    let mut world = shared.world.lock().unwrap();
    let named = object.as_ref().and_then(|object| object["metadata"]["name"].as_str());
    let name = name.or(named).unwrap().to_owned();
    let key = (resource.to_owned(), namespace.to_owned(), name);
    world.version += 1;
    let version = world.version;
    let before = world.objects.get(&key).cloned();
    let after = match object {
        Some(mut object) if method != Method::DELETE => {
            object["metadata"]["resourceVersion"] = json!(version.to_string());
            world.objects.insert(key.clone(), object.clone());
            Some(object)
        }
        _ => {
            world.objects.remove(&key);
            None
        }
    };
    let answer = after.clone().unwrap_or_else(|| json!({"kind": "Status", "status": "Success"}));
    world.history.push(Change { version, key, before, after });
    drop(world);
    shared.orders.send_modify(|order| order.changes = version);
    json_response(StatusCode::OK, &answer)
}

/// The selectors that are used here: one label, or the name.
fn selected(object: &Value, query: &HashMap<String, String>) -> bool {
    let label = query.get("labelSelector").and_then(|text| text.split_once('='));
    let field = query.get("fieldSelector").and_then(|text| text.split_once('='));
    label.is_none_or(|(key, value)| object["metadata"]["labels"][key] == value)
        && field.is_none_or(|(_, name)| object["metadata"]["name"] == name)
}

fn list(
    query: &HashMap<String, String>,
    resource: &str,
    namespace: &str,
    shared: &Shared,
) -> Response<BoxBody> {
    shared.knobs.lists.fetch_add(1, Ordering::SeqCst);
    let world = shared.world.lock().unwrap();
    let items: Vec<Value> = world
        .objects
        .iter()
        .filter(|((kind, space, _), object)| {
            kind == resource && space == namespace && selected(object, query)
        })
        .map(|(_, object)| {
            let mut object = object.clone();
            let fields = object.as_object_mut().unwrap();
            fields.remove("kind");
            fields.remove("apiVersion");
            object
        })
        .collect();
    let kind = if resource == "endpoints" { "EndpointsList" } else { "EndpointSliceList" };
    let version = world.version.to_string();
    json_response(
        StatusCode::OK,
        &json!({"kind": kind, "metadata": {"resourceVersion": version}, "items": items}),
    )
}

struct Watcher {
    shared: Arc<Shared>,
    query: HashMap<String, String>,
    resource: String,
    namespace: String,
    seen: u64,
    order: Order,
    orders: watch::Receiver<Order>,
    pending: Vec<Value>,
    ends: tokio::time::Instant,
    broken: bool,
}

fn watch_from(
    query: &HashMap<String, String>,
    resource: &str,
    namespace: &str,
    shared: &Arc<Shared>,
) -> Response<BoxBody> {
    shared.knobs.watches.fetch_add(1, Ordering::SeqCst);
    let world = shared.world.lock().unwrap();
    let from = query.get("resourceVersion").map(|text| text.parse::<u64>().unwrap());
    let last = usize::try_from(from.unwrap_or_default()).unwrap();
    shared.knobs.watched_from.store(last, Ordering::SeqCst);
    let mut pending = Vec::new();
    let mut over = false;
    if from.is_some_and(|from| from < world.compacted) {
        let message = "too old resource version";
        if shared.knobs.gone_by_status.load(Ordering::SeqCst) {
            return refuse(StatusCode::GONE, "Expired", message);
        }
        let object = status(StatusCode::GONE, "Expired", message);
        pending.push(json!({"type": "ERROR", "object": object}));
        over = true;
    }
    if from.is_none() {
        let objects = world.objects.iter().filter(|((kind, space, _), object)| {
            kind == resource && space == namespace && selected(object, query)
        });
        pending.extend(objects.map(|(_, object)| json!({"type": "ADDED", "object": object})));
    }
    let seconds = query.get("timeoutSeconds").map_or(300, |text| text.parse().unwrap());
    let ends = if over { Duration::ZERO } else { Duration::from_secs(seconds) };
    let orders = shared.orders.subscribe();
    let order = *orders.borrow();
    let watcher = Watcher {
        shared: Arc::clone(shared),
        query: query.clone(),
        resource: resource.to_owned(),
        namespace: namespace.to_owned(),
        seen: from.unwrap_or(world.version),
        order,
        orders,
        pending,
        ends: tokio::time::Instant::now() + ends,
        broken: false,
    };
    drop(world);
    let frames = stream::unfold(watcher, |mut watcher| async move {
        let frame = watcher.next().await?;
        Some((frame, watcher))
    });
    Response::builder()
        .header("content-type", "application/json")
        .body(StreamBody::new(frames).boxed_unsync())
        .unwrap()
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, std::io::Error>> {
        loop {
            if self.broken {
                return Some(Err(std::io::Error::other("broken on demand")));
            }
            if !self.pending.is_empty() {
                let line = format!("{}\n", self.pending.remove(0));
                return Some(Ok(Frame::data(Bytes::from(line))));
            }
            self.collect();
            if !self.pending.is_empty() {
                continue;
            }
            tokio::select! {
                changed = self.orders.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.ends) => return None,
            }
            let order = *self.orders.borrow_and_update();
            let before = std::mem::replace(&mut self.order, order);
            if order.ends != before.ends {
                return None;
            }
            if order.breaks != before.breaks {
                self.broken = true;
                return Some(Ok(Frame::data(Bytes::from_static(b"{\"type\":\"ADD"))));
            }
            if order.bookmarks != before.bookmarks {
                self.collect();
                let version = self.shared.world.lock().unwrap().version;
                self.seen = version;
                let kind = if self.resource == "endpoints" { "Endpoints" } else { "EndpointSlice" };
                self.pending.push(json!({"type": "BOOKMARK", "object": {"kind": kind,
                    "metadata": {"resourceVersion": version.to_string()}}}));
            }
        }
    }

    fn collect(&mut self) {
        let world = self.shared.world.lock().unwrap();
        for change in world.history.iter().filter(|change| change.version > self.seen) {
            let (resource, namespace, _) = &change.key;
            if *resource != self.resource || *namespace != self.namespace {
                continue;
            }
            let was = change.before.as_ref().filter(|object| selected(object, &self.query));
            let is = change.after.as_ref().filter(|object| selected(object, &self.query));
            let version = json!(change.version.to_string());
            let event = match (was, is) {
                (None, None) => continue,
                (None, Some(object)) => json!({"type": "ADDED", "object": object}),
                (Some(_), Some(object)) => json!({"type": "MODIFIED", "object": object}),
                (Some(object), None) => {
                    let mut object = object.clone();
                    object["metadata"]["resourceVersion"] = version;
                    json!({"type": "DELETED", "object": object})
                }
            };
            self.pending.push(event);
        }
        self.seen = self.seen.max(world.version);
    }
}
