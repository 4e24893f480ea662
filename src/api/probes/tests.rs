use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::*;
use crate::api::tests::{config, snapshot};
use crate::command::Commands;
use crate::view::Snapshot;

/// A running listener and what it is told.
struct Bed {
    address: SocketAddr,
    snapshot: watch::Sender<Arc<Snapshot>>,
    state: ApiState,
    _stop: oneshot::Sender<()>,
}

fn bed() -> Bed {
    let listener = ProbeListener::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.address();
    let (sender, snapshot) = watch::channel(Arc::new(snapshot()));
    let state = ApiState {
        // It guards the API alone.
        config: watch::channel(Arc::new(config(Some("t0ken")))).1,
        snapshot,
        commands: Commands::channel().0,
        reloads: crate::command::Reloads::channel().0,
        events: Arc::default(),
        metrics: Arc::default(),
        notices: Arc::default(),
        reach: Arc::default(),
        broker: tokio::sync::watch::channel(crate::broker::BrokerReport::default()).1,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    tokio::spawn(serve(listener, state.clone(), async { drop(stopped.await) }));
    Bed { address, snapshot: sender, state, _stop: stop }
}

impl Bed {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends a head as it stands and reads until the server hangs up.
    async fn exchange(&self, head: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

#[tokio::test]
async fn tools_are_answered_as_they_ask() {
    let bed = bed();
    for head in [
        "GET /readyz HTTP/1.0\r\n\r\n",
        "OPTIONS /readyz HTTP/1.0\r\n\r\n",
        "HEAD /readyz HTTP/1.0\r\n\r\n",
        "GET /readyz HTTP/1.1\r\nHost: broker.example.com\r\n\r\n",
        "GET /readyz?verbose HTTP/1.1\r\nHost: a\r\nHost: b\r\nOrigin: http://elsewhere\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n\r\n",
        "OPTIONS /livez HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /metrics HTTP/1.1\r\nHost: prometheus\r\nConnection: keep-alive\r\n\r\n",
    ] {
        let answer = bed.exchange(head).await;
        assert_eq!(answer.get(8..13), Some(" 200 "), "{head}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        assert_eq!(body.is_empty(), head.starts_with("HEAD"), "{head}: {answer}");
    }
    bed.snapshot.send_modify(|held| {
        let mut left = (**held).clone();
        left.state = crate::view::ClusterState::Left;
        *held = Arc::new(left);
    });
    for method in ["GET", "HEAD", "OPTIONS"] {
        let answer = bed.exchange(&format!("{method} /readyz HTTP/1.0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.0 503 "), "{answer}");
    }
}

#[tokio::test]
async fn nothing_else_is_served() {
    let bed = bed();
    for (head, status) in [
        ("GET / HTTP/1.0", 404),
        ("GET /api/v1/members HTTP/1.1", 404),
        ("GET /openapi.json HTTP/1.1", 404),
        ("POST /api/v1/cluster/leave HTTP/1.1\r\nAuthorization: Bearer t0ken", 404),
        ("POST /readyz HTTP/1.1", 405),
        ("DELETE /livez HTTP/1.1", 405),
        ("TRACE /metrics HTTP/1.1", 405),
    ] {
        let answer = bed.exchange(&format!("{head}\r\nHost: x\r\n\r\n")).await;
        assert_eq!(answer.get(9..12), Some(&*status.to_string()), "{head}: {answer}");
    }
}

#[tokio::test]
async fn idle_and_half_sent_clients_give_way() {
    let bed = bed();
    let mut idle = Vec::new();
    for k in 0..3 * places::MAX {
        let mut stream = bed.connect().await;
        if k % 2 == 0 {
            stream.write_all(b"GET /livez HTT").await.unwrap();
        }
        idle.push(stream);
    }
    let began = Instant::now();
    let answer = bed.exchange("GET /livez HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    let text = bed.state.metrics.render();
    let dropped = text
        .lines()
        .find(|line| line.contains("\"health_connections\""))
        .expect("a drop is counted");
    let dropped: usize = dropped.rsplit(' ').next().unwrap().parse().unwrap();
    assert!(dropped >= 2 * places::MAX, "{dropped}");
}

#[tokio::test(start_paused = true)]
async fn who_does_nothing_is_let_go() {
    let bed = bed();
    let mut stream = bed.connect().await;
    let began = Instant::now();
    assert_eq!(stream.read(&mut [0]).await.unwrap(), 0);
    assert!(began.elapsed() <= 2 * EXCHANGE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_taken_address_is_named() {
    let bed = bed();
    let error = ProbeListener::bind(bed.address).unwrap_err().to_string();
    let expected = format!(
        "cannot serve agent.health.listen = {}: the address is in use by another process: stop \
         that one, or change it",
        bed.address
    );
    assert_eq!(error, expected);
}
