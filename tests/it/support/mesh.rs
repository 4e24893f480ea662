//! A mesh of this process, and what it logs.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use muster::cookies::Cookies;
use muster::mesh::tls::TlsContext;
use muster::mesh::{DialError, LinkTimes, Mesh, MeshEvent, MeshSettings};
use muster::metrics::Metrics;
use muster::node::{LinkId, NodeName};
use muster::resolve::Resolver;
use muster::secret::Secret;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tracing::subscriber::DefaultGuard;

use super::wait::LONG;

/// One node's mesh, with nobody above it.
pub struct Node {
    pub mesh: Mesh,
    pub events: mpsc::Receiver<MeshEvent>,
    pub metrics: Arc<Metrics>,
    pub name: NodeName,
    pub port: u16,
}

/// What a node starts from: cookie `C`, Erlang's times, and the address of its name.
pub fn settings(name: &str, base_port: u16) -> MeshSettings {
    let node = NodeName::parse(name).unwrap();
    let ip = node.host().ip().unwrap();
    MeshSettings {
        bind: vec![SocketAddr::new(ip, base_port + node.offset())],
        ipv6: ip.is_ipv6(),
        node,
        creation: 7,
        cookies: Cookies::from_iter([Secret::new("C")]),
        peer_base_port: base_port,
        handshake_timeout: Duration::from_secs(7),
        max_frame: 1 << 20,
        times: LinkTimes::default(),
        resolver: Arc::new(Resolver::new(&[]).unwrap()),
        tls: None,
    }
}

impl Node {
    pub fn start(settings: MeshSettings) -> Self {
        let name = settings.node.clone();
        let metrics = Arc::new(Metrics::default());
        let (mesh, events) = Mesh::bind(settings, Arc::clone(&metrics)).unwrap();
        let port = mesh.listening()[0].port();
        Self { mesh, events, metrics, name, port }
    }

    pub fn address(&self) -> SocketAddr {
        self.mesh.listening()[0]
    }

    pub async fn event(&mut self) -> MeshEvent {
        timeout(LONG, self.events.recv()).await.expect("an event in time").expect("an event")
    }

    pub async fn up(&mut self) -> (LinkId, NodeName) {
        match self.event().await {
            MeshEvent::Up { link, peer, .. } => (link, peer),
            other => panic!("not Up: {other:?}"),
        }
    }

    pub async fn frame(&mut self) -> Vec<u8> {
        match self.event().await {
            MeshEvent::Frame { payload, .. } => payload,
            other => panic!("not Frame: {other:?}"),
        }
    }

    pub async fn down(&mut self) -> (String, bool) {
        match self.event().await {
            MeshEvent::Down { reason, closed_by_peer, .. } => (reason, closed_by_peer),
            other => panic!("not Down: {other:?}"),
        }
    }

    pub async fn dial_failed(&mut self) -> DialError {
        match self.event().await {
            MeshEvent::DialFailed { error, .. } => error,
            other => panic!("not DialFailed: {other:?}"),
        }
    }

    /// A counter's value as the metrics page shows it, e.g. `handshakes_total{direction="in",outcome="ok"}`.
    pub fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.render();
        let line = text.lines().find_map(|line| line.strip_prefix("muster_")?.strip_prefix(name));
        line.map_or(0, |value| value.trim().parse().unwrap())
    }

    /// Waits until a counter has at least this value.
    pub async fn counted(&self, name: &str, at_least: u64) -> u64 {
        let wait = async {
            while self.metric(name) < at_least {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let seen = timeout(LONG, wait).await;
        assert!(seen.is_ok(), "{name} stayed at {}\n{}", self.metric(name), self.metrics.render());
        self.metric(name)
    }
}

/// Two nodes with a link; its number at each.
pub async fn linked(a: MeshSettings, b: MeshSettings) -> (Node, LinkId, Node, LinkId) {
    let (mut a, mut b) = (Node::start(a), Node::start(b));
    a.mesh.dial(b.name.clone());
    let (at_a, _) = a.up().await;
    let (at_b, _) = b.up().await;
    (a, at_a, b, at_b)
}

pub fn tls(settings: MeshSettings, context: TlsContext) -> MeshSettings {
    MeshSettings { tls: Some(context), ..settings }
}

/// A port free on every loopback address, below those that the system gives to
/// outgoing connections.
pub fn free_port() -> u16 {
    (0..100)
        .map(|_| rand::random_range(10_000..30_000))
        .find(|&port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
        .expect("a free port")
}

/// Everything this thread logs while the guard lives.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    pub fn capture() -> (Self, DefaultGuard) {
        let log = Self::default();
        let writer = log.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || writer.clone())
            .finish();
        (log, tracing::subscriber::set_default(subscriber))
    }

    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Lines at `WARN`.
    pub fn warnings(&self) -> Vec<String> {
        self.text().lines().filter(|line| line.contains(" WARN ")).map(str::to_owned).collect()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
