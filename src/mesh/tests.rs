use std::net::{Ipv4Addr, TcpListener};

use tokio::time::timeout;

use super::*;
use crate::secret::Secret;

/// Every wait of a test ends by then.
const PATIENCE: Duration = Duration::from_secs(10);

struct Node {
    mesh: Mesh,
    events: mpsc::Receiver<MeshEvent>,
    metrics: Arc<Metrics>,
    name: NodeName,
}

impl Node {
    fn start(name: &str, port: u16, cookies: &[&str]) -> Self {
        Self::with(name, port, cookies, |_| {})
    }

    fn with(
        name: &str,
        port: u16,
        cookies: &[&str],
        change: impl FnOnce(&mut MeshSettings),
    ) -> Self {
        let name = NodeName::parse(name).unwrap();
        let ip = name.host().ip().unwrap();
        let mut settings = MeshSettings {
            node: name.clone(),
            creation: 1,
            cookies: cookies.iter().map(|c| Secret::new(*c)).collect(),
            bind: vec![SocketAddr::new(ip, port + name.offset())],
            peer_base_port: port,
            ipv6: ip.is_ipv6(),
            handshake_timeout: Duration::from_secs(5),
            max_frame: 1 << 20,
            times: LinkTimes::default(),
            resolver: Arc::new(Resolver::new(&[]).unwrap()),
            tls: None,
        };
        change(&mut settings);
        let metrics = Arc::new(Metrics::default());
        let (mesh, events) = Mesh::bind(settings, Arc::clone(&metrics)).unwrap();
        Self { mesh, events, metrics, name }
    }

    async fn event(&mut self) -> MeshEvent {
        timeout(PATIENCE, self.events.recv()).await.expect("an event in time").expect("an event")
    }

    async fn up(&mut self) -> (LinkId, NodeName, bool) {
        match self.event().await {
            MeshEvent::Up { link, peer, dialed, .. } => (link, peer, dialed),
            other => panic!("not Up: {other:?}"),
        }
    }

    async fn frame(&mut self) -> Vec<u8> {
        match self.event().await {
            MeshEvent::Frame { payload, .. } => payload,
            other => panic!("not Frame: {other:?}"),
        }
    }

    async fn down(&mut self) -> (String, bool) {
        match self.event().await {
            MeshEvent::Down { reason, closed_by_peer, .. } => (reason, closed_by_peer),
            other => panic!("not Down: {other:?}"),
        }
    }

    async fn dial_failed(&mut self) -> DialError {
        match self.event().await {
            MeshEvent::DialFailed { error, .. } => error,
            other => panic!("not DialFailed: {other:?}"),
        }
    }
}

/// A port free on every loopback address that tests use, below those that the system
/// gives to outgoing connections.
fn free_port() -> u16 {
    (0..100)
        .map(|_| rand::random_range(10_000..30_000))
        .find(|&port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok())
        .expect("a free port")
}

async fn pair() -> (Node, LinkId, Node, LinkId) {
    let port = free_port();
    let mut a = Node::start("a@127.0.0.1", port, &["c"]);
    let mut b = Node::start("b@127.0.0.2", port, &["c"]);
    a.mesh.dial(b.name.clone());
    let (at_a, peer, dialed) = a.up().await;
    assert_eq!((peer, dialed), (b.name.clone(), true));
    let (at_b, peer, dialed) = b.up().await;
    assert_eq!((peer, dialed), (a.name.clone(), false));
    (a, at_a, b, at_b)
}

#[tokio::test]
async fn frames_pass_both_ways_and_close_flushes() {
    let (mut a, at_a, mut b, at_b) = pair().await;
    assert_eq!(a.mesh.send(at_a, b"to b"), SendOutcome::Queued);
    assert_eq!(b.mesh.send(at_b, b"to a"), SendOutcome::Queued);
    assert_eq!(b.frame().await, b"to b");
    assert_eq!(a.frame().await, b"to a");
    let large = vec![7; 200_000];
    assert_eq!(a.mesh.send(at_a, &large), SendOutcome::Queued);
    assert_eq!(b.frame().await, large);
    a.mesh.send(at_a, b"last words");
    a.mesh.close(at_a, "enough");
    assert_eq!(a.mesh.send(at_a, b"too late"), SendOutcome::NoLink);
    assert_eq!(b.frame().await, b"last words");
    assert_eq!(b.down().await, ("the peer closed the connection".to_owned(), true));
    assert_eq!(a.down().await, ("enough".to_owned(), false));
    assert_eq!(a.metrics.links.get(), 0);
}

#[tokio::test]
async fn a_frame_beyond_the_cap_is_not_sent_and_ends_the_receiver() {
    let (a, at_a, mut b, at_b) = pair().await;
    assert_eq!(a.mesh.send(at_a, &vec![0; 2 << 20]), SendOutcome::TooLong);
    let port = free_port();
    let mut small = Node::with("s@127.0.0.3", port, &["c"], |s| s.max_frame = 1000);
    let mut large = Node::start("l@127.0.0.4", port, &["c"]);
    large.mesh.dial(small.name.clone());
    let (link, ..) = large.up().await;
    small.up().await;
    large.mesh.send(link, &[0; 5000]);
    let (reason, closed_by_peer) = small.down().await;
    assert!(reason.contains("at most 1000"), "{reason}");
    assert!(!closed_by_peer);
    // The other link of the test is unharmed.
    assert_eq!(b.mesh.send(at_b, b"x"), SendOutcome::Queued);
    assert_eq!(a.mesh.send(at_a, b"x"), SendOutcome::Queued);
    assert_eq!(b.frame().await, b"x");
}

#[tokio::test]
async fn nothing_listens_is_refused() {
    let port = free_port();
    let mut a = Node::start("a@127.0.0.1", port, &["c"]);
    a.mesh.dial(NodeName::parse("b@127.0.0.2").unwrap());
    assert_eq!(a.dial_failed().await, DialError::Refused);
    a.mesh.dial(NodeName::parse("b@nowhere.invalid").unwrap());
    assert!(matches!(a.dial_failed().await, DialError::Resolve(_)));
    a.mesh.dial(NodeName::parse("b@::1").unwrap());
    assert!(matches!(a.dial_failed().await, DialError::Resolve(_)));
    a.mesh.dial(a.name.clone());
    assert!(matches!(a.dial_failed().await, DialError::Rejected(_)));
}

#[tokio::test]
async fn a_wrong_cookie_is_refused_at_both_ends() {
    let port = free_port();
    let mut a = Node::start("a@127.0.0.1", port, &["right"]);
    let b = Node::start("b@127.0.0.2", port, &["wrong"]);
    a.mesh.dial(b.name.clone());
    let DialError::Rejected(reason) = a.dial_failed().await else { panic!("not Rejected") };
    assert!(reason.contains("cookie"), "{reason}");
    assert!(a.metrics.render().contains(r#"direction="out",outcome="cookie""#));
    assert!(b.metrics.render().contains(r#"direction="in",outcome="cookie""#));
}

#[tokio::test]
async fn the_first_cookie_is_offered_and_any_accepted() {
    let port = free_port();
    let mut a = Node::start("a@127.0.0.1", port, &["new", "old"]);
    let mut b = Node::start("b@127.0.0.2", port, &["old", "new"]);
    a.mesh.dial(b.name.clone());
    a.up().await;
    let (link, ..) = b.up().await;
    b.mesh.close(link, "again, the other way");
    b.down().await;
    a.down().await;
    b.mesh.dial(a.name.clone());
    a.up().await;
    b.up().await;
}

#[tokio::test]
async fn simultaneous_dials_give_one_link() {
    for _ in 0..20 {
        let port = free_port();
        let mut a = Node::start("a@127.0.0.1", port, &["c"]);
        let mut b = Node::start("b@127.0.0.2", port, &["c"]);
        a.mesh.dial(b.name.clone());
        a.mesh.dial(b.name.clone());
        b.mesh.dial(a.name.clone());
        // Each side: one Up of the link that stays, one DialFailed or dialed Up.
        let (mut links, mut ended) = ([0i32; 2], [0; 2]);
        while ended != [1, 1] || links != [1, 1] {
            let (side, event) = tokio::select! {
                event = a.event() => (0, event),
                event = b.event() => (1, event),
            };
            match event {
                MeshEvent::Up { dialed, .. } => {
                    links[side] += 1;
                    ended[side] += i32::from(dialed);
                }
                MeshEvent::DialFailed { error, .. } => {
                    assert_eq!(error, DialError::Yield);
                    ended[side] += 1;
                }
                MeshEvent::Down { .. } => links[side] -= 1,
                MeshEvent::Frame { .. } => {}
            }
        }
        // The greater name's.
        assert_eq!(a.mesh.shared.metrics.links.get(), 1);
        a.mesh.shutdown().await;
        b.mesh.shutdown().await;
    }
}

#[tokio::test]
async fn a_peer_that_lost_its_link_gets_a_new_one_beside_the_old() {
    let (mut a, _, b, _) = pair().await;
    // The peer's process is gone without a trace, and a new one has its name.
    let port = a.mesh.listening()[0].port();
    let mut again = Node::with("b@127.0.0.2", port, &["c"], |s| s.bind.clear());
    again.mesh.dial(a.name.clone());
    assert!(again.up().await.2);
    let (second, peer, dialed) = a.up().await;
    assert_eq!((peer, dialed), (b.name.clone(), false));
    assert_eq!(a.mesh.send(second, b"x"), SendOutcome::Queued);
    assert_eq!(again.frame().await, b"x");
    // Whereas one that has its link needs no other.
    let mut a = a;
    a.mesh.dial(b.name.clone());
    assert_eq!(a.dial_failed().await, DialError::Yield);
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let port = free_port();
    let _a = Node::start("a@127.0.0.1", port, &["c"]);
    let addr: SocketAddr = ([127, 0, 0, 1], port).into();
    let settings = MeshSettings {
        bind: vec![addr],
        ..Node::start("b@127.0.0.2", port, &["c"]).mesh.shared.settings.clone()
    };
    let error = Mesh::bind(settings, Arc::default()).map(|_| ()).unwrap_err();
    let expected = format!(
        "cannot listen on {addr}: the port is in use by another process: stop that one, \
                            or set agent.mesh.base_port, to the same on all nodes"
    );
    assert_eq!(error.to_string(), expected);
}

#[tokio::test]
async fn shutdown_flushes_and_waits_for_every_task() {
    let (a, at_a, mut b, _) = pair().await;
    // One that accepts and never answers.
    let port = a.mesh.listening()[0].port();
    let _mute = TcpListener::bind(("127.0.0.9", port)).unwrap();
    a.mesh.dial(NodeName::parse("c@127.0.0.9").unwrap());
    a.mesh.send(at_a, b"goodbye");
    let before = tokio::time::Instant::now();
    a.mesh.shutdown().await;
    assert!(before.elapsed() < Duration::from_millis(200), "{:?}", before.elapsed());
    assert_eq!(a.mesh.shared.tasks.ended().await, ());
    assert_eq!(b.frame().await, b"goodbye");
    assert!(b.down().await.1);
    a.mesh.dial(b.name.clone());
    assert_eq!(a.mesh.send(at_a, b"x"), SendOutcome::NoLink);
    assert_eq!(b.metrics.links.get(), 0);
}

#[tokio::test]
async fn silence_is_noticed_and_ticks_prevent_it() {
    let port = free_port();
    let times = |tick, silence| LinkTimes {
        tick: Duration::from_millis(tick),
        silence: Duration::from_millis(silence),
    };
    let mut a = Node::with("a@127.0.0.1", port, &["c"], |s| s.times = times(50, 200));
    let mut b = Node::with("b@127.0.0.2", port, &["c"], |s| s.times = times(50, 200));
    a.mesh.dial(b.name.clone());
    a.up().await;
    b.up().await;
    let quiet = timeout(Duration::from_millis(700), a.events.recv()).await;
    assert!(quiet.is_err(), "{quiet:?}");
    // A node that ticks too rarely for the other.
    let mut c = Node::with("c@127.0.0.3", port, &["c"], |s| s.times = times(60_000, 60_000));
    c.mesh.dial(a.name.clone());
    c.up().await;
    a.up().await;
    let (reason, closed_by_peer) = a.down().await;
    assert_eq!(reason, "nothing was received for 200ms");
    assert!(!closed_by_peer);
    assert!(c.down().await.1);
}

#[tokio::test]
async fn tasks_are_small_enough_for_floods() {
    let a = Node::start("a@127.0.0.1", free_port(), &["c"]);
    let (client, server) =
        tokio::join!(tokio::net::TcpStream::connect(a.mesh.listening()[0]), async {
            tokio::net::TcpListener::bind("127.0.0.1:0").await
        },);
    let (client, _server) = (client.unwrap(), server.unwrap());
    let remote = client.peer_addr().unwrap();
    let ends = gate::Ends { near: client.local_addr().unwrap(), far: remote };
    let (permit, _) = a.mesh.shared.gate.enter(ends);
    let task = listen::inbound(Arc::clone(&a.mesh.shared), client, ends, permit);
    let size = size_of_val(&task);
    println!("an inbound connection's task: {size} bytes");
    assert!(size < 6 * 1024, "{size}");
}
