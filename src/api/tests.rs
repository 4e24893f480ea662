//! A server in this process over a real socket, spoken to byte by byte.

mod events;
mod limits;
mod metrics;
mod routes;
mod targets;
mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::attributes::BrokerStatus;
use crate::command::{Action, Command, RequestError};
use crate::config::{ApiConfig, ApiListen, BrokerKind, Config};
use crate::events::{Event, EventKind};
use crate::node::{ClusterId, Incarnation, NodeName, Role};
use crate::secret::Secret;
use crate::view::{
    BrokerView, ClusterState, DiscoveryView, LastChange, LinkState, Member, MemberStatus,
};

pub(crate) fn node(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

/// 2026-01-31T12:34:56.789Z.
pub(super) fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_769_862_896_789)
}

pub(crate) fn config(token: Option<&str>) -> Config {
    let text = r#"
        node { name = "emqx@127.0.0.1", cookie = a-cookie-of-decent-length }
        cluster { description = "for tests", discovery_strategy = static, autoclean = infinity }
    "#;
    let mut config = crate::config::from_text(text).unwrap().config;
    config.agent.api.listen = ApiListen::Tcp("127.0.0.1:0".parse().unwrap());
    config.agent.api.token = token.map(Secret::new);
    config
}

pub(crate) fn member(name: &str, status: MemberStatus) -> Member {
    Member {
        node: node(name),
        status,
        role: Role::Core,
        address: Some("127.0.0.1:6370".parse().unwrap()),
        incarnation: Incarnation(3),
        since: at(),
        link: LinkState::Connected,
        rtt_us: Some(250),
        version: "0.1.0".into(),
        is_self: name == "emqx@127.0.0.1",
        last_change: Some(LastChange {
            from: Some(MemberStatus::Suspect),
            to: status,
            reason: "silent",
            text: "silent for 2 s".into(),
            by: node("emqx@127.0.0.1"),
            at: at(),
        }),
        tags: crate::attributes::Tags::default(),
        draining: None,
        broker: None,
    }
}

/// One member up, one suspect, one down.
pub(crate) fn snapshot() -> Snapshot {
    Snapshot {
        name: "emqxcl".into(),
        description: "for tests".into(),
        id: Some(ClusterId(0xabc)),
        self_node: node("emqx@127.0.0.1"),
        strategy: "static",
        proto_dist: "inet_tcp",
        state: ClusterState::Joined,
        members: vec![
            member("emqx2@127.0.0.1", MemberStatus::Suspect),
            member("emqx3@::1", MemberStatus::Down),
            member("emqx@127.0.0.1", MemberStatus::Up),
        ],
        view_hash: 0xbeef,
        disagreeing: Vec::new(),
        majority: true,
        discovery: DiscoveryView {
            enabled: true,
            answered: true,
            nodes: vec![node("emqx2@127.0.0.1")],
            last_success: Some(at()),
            last_error: None,
            notices: Vec::new(),
        },
        conflict: None,
        refusals: Vec::new(),
    }
}

/// A running server and the other ends of everything it was given.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    pub(super) snapshot: watch::Sender<Arc<Snapshot>>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) events: Arc<EventLog>,
    pub(super) metrics: Arc<Metrics>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(super) fn start() -> Self {
        Self::with(config(None), snapshot())
    }

    pub(super) fn with(config: Config, snapshot: Snapshot) -> Self {
        let listen = config.agent.api.clone();
        Self::bound(&listen, config, snapshot)
    }

    /// Listens as one configuration says, and is told another.
    pub(super) fn bound(listen: &ApiConfig, config: Config, snapshot: Snapshot) -> Self {
        let listener = Listener::bind(listen).unwrap();
        let ApiListen::Tcp(address) = *listener.listen() else { panic!("not TCP") };
        let (snapshot, snapshots) = watch::channel(Arc::new(snapshot));
        let (commands, queue) = Commands::channel();
        let events = Arc::new(EventLog::starting_after(100));
        let metrics = Arc::new(Metrics::default());
        let state = ApiState {
            config: watch::channel(Arc::new(config)).1,
            snapshot: snapshots,
            commands,
            reloads: crate::command::Reloads::channel().0,
            events: Arc::clone(&events),
            metrics: Arc::clone(&metrics),
            notices: Arc::default(),
            reach: Arc::default(),
            broker: tokio::sync::watch::channel(crate::broker::BrokerReport::default()).1,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let shutdown = async { drop(stopped.await) };
        let task = tokio::spawn(serve(listener, state, shutdown));
        Self { address, snapshot, commands: queue, events, metrics, stop: Some(stop), task }
    }

    /// Answers the next command so, and hands it over.
    pub(super) async fn on_command(&mut self, answer: Result<(), RequestError>) -> Action {
        let command = self.commands.recv().await.unwrap();
        command.reply.send(answer).unwrap();
        command.action
    }

    pub(super) fn push(&self, name: &str, to: MemberStatus) {
        self.events.push(|id| Event {
            id,
            at: at(),
            kind: EventKind::Changed,
            node: node(name),
            from: Some(MemberStatus::Up),
            to: Some(to),
            reason: "refused",
            text: "it\nsaid so".into(),
            by: node("emqx@127.0.0.1"),
        });
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A request over a connection of its own.
    pub(super) async fn ask(&self, method: &str, path: &str, more: &str, body: &str) -> Answer {
        let mut stream = self.connect().await;
        let length = body.len();
        let host = self.address;
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
             Content-Length: {length}\r\n{more}\r\n{body}"
        );
        stream.write_all(text.as_bytes()).await.unwrap();
        Answer::read(stream).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "", "").await
    }

    /// A request with a JSON body.
    pub(super) async fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        self.ask(method, path, "Content-Type: application/json\r\n", body).await
    }

    /// Asks for the shutdown and waits for its end.
    pub(super) async fn stop(mut self) {
        self.begin_stop();
        self.task.await.unwrap();
    }

    pub(super) fn begin_stop(&mut self) {
        drop(self.stop.take());
    }
}

/// What came back until the server closed the connection.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: String,
}

impl Answer {
    pub(super) async fn read(mut stream: TcpStream) -> Self {
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
        Self { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
    }

    #[track_caller]
    pub(super) fn json(&self) -> Value {
        assert!(self.head.contains("\r\ncontent-type: application/json"), "{self:?}");
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks the status and that the body is an error with this code.
    #[track_caller]
    pub(super) fn assert_error(&self, status: u16, code: &str) {
        let body = self.json();
        assert_eq!((self.status, body["code"].as_str()), (status, Some(code)), "{self:?}");
        let message = body["message"].as_str().unwrap_or_default();
        // In an operator's words, not in a library's.
        assert!(!message.is_empty() && !message.contains("deserialize"), "{self:?}");
        assert_eq!(body.as_object().map(serde_json::Map::len), Some(2), "{self:?}");
    }
}

/// A path in a directory that is removed with the first value.
pub(super) fn scratch(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    (dir, path)
}
