//! The mesh under abuse: what it costs, and that a healthy link does not notice.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use muster::mesh::tls::TlsContext;
use muster::mesh::{
    DialError, LinkTimes, MAX_UNAUTHENTICATED, MAX_UNAUTHENTICATED_PER_ADDRESS, MeshEvent,
    MeshSettings, QUEUE_BYTES, SendOutcome,
};
use muster::node::{LinkId, NodeName};
use muster::protocol::dist::control::Encoder;
use muster::protocol::dist::frame::Prefix;
use muster::protocol::dist::handshake::{Event, Handshake, Local};
use muster::secret::Secret;
use rand::Rng as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use crate::support::mesh::{Log, Node, free_port, linked, settings, tls};
use crate::support::pki::{Ca, Leaf, TlsFiles};
use crate::support::wait::LONG;

/// The node under attack, and a healthy peer with a link to it.
struct Scene {
    victim: Node,
    friend: Node,
    to_friend: LinkId,
    to_victim: LinkId,
    log: Log,
    _guard: tracing::subscriber::DefaultGuard,
}

impl Scene {
    async fn new(change: impl FnOnce(&mut MeshSettings)) -> Self {
        let (log, guard) = Log::capture();
        let port = free_port();
        let mut attacked = settings("victim@127.0.0.1", port);
        change(&mut attacked);
        let friend = settings("friend@127.0.0.2", port);
        let (victim, to_friend, friend, to_victim) = linked(attacked, friend).await;
        Self { victim, friend, to_friend, to_victim, log, _guard: guard }
    }

    /// The time of a frame to the victim and one back.
    async fn round_trip(&mut self) -> Duration {
        let start = Instant::now();
        assert_eq!(self.friend.mesh.send(self.to_victim, b"there?"), SendOutcome::Queued);
        assert_eq!(payload(&mut self.victim, self.to_friend).await, b"there?");
        assert_eq!(self.victim.mesh.send(self.to_friend, b"here"), SendOutcome::Queued);
        assert_eq!(payload(&mut self.friend, self.to_victim).await, b"here");
        start.elapsed()
    }

    fn address(&self) -> SocketAddr {
        self.victim.address()
    }

    async fn counted(&self, outcome: &str, at_least: u64) {
        let name = format!("handshakes_total{{direction=\"in\",outcome=\"{outcome}\"}}");
        self.victim.counted(&name, at_least).await;
    }
}

/// The next payload of one link; events of others are passed over.
async fn payload(node: &mut Node, wanted: LinkId) -> Vec<u8> {
    loop {
        match node.event().await {
            MeshEvent::Frame { link, payload, .. } if link == wanted => return payload,
            MeshEvent::Down { link, reason, .. } if link == wanted => panic!("down: {reason}"),
            _ => {}
        }
    }
}

/// From an address that is nobody's.
async fn connect(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.66:0".parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Waits until the other end closed; whatever it said before.
async fn closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    let end = timeout(LONG, stream.read_to_end(&mut said)).await.expect("closed in time");
    assert!(end.is_ok() || end.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    said
}

fn local(name: &str, cookie: &str) -> Arc<Local> {
    let name = NodeName::parse(name).unwrap();
    Arc::new(Local { name, creation: 1, cookies: [Secret::new(cookie)].into() })
}

/// A peer that knows the cookie, and then does with its connection what it likes.
async fn authenticated(to: SocketAddr, name: &str) -> TcpStream {
    let mut stream = connect(to).await;
    let victim = NodeName::parse("victim@127.0.0.1").unwrap();
    let mut machine = Handshake::dial(Prefix::Two, local(name, "C"), victim, 1);
    loop {
        stream.write_all(&machine.transmit()).await.unwrap();
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).await.unwrap();
        assert_ne!(count, 0, "refused");
        machine.handle(&bytes[..count]);
        if let Some(Event::Done(_)) = machine.poll().unwrap() {
            return stream;
        }
    }
}

fn name_message(name: &[u8]) -> Vec<u8> {
    let mut message = vec![b'N'];
    message.extend_from_slice(&u64::MAX.to_be_bytes());
    message.extend_from_slice(&1u32.to_be_bytes());
    message.extend_from_slice(&u16::try_from(name.len()).unwrap().to_be_bytes());
    message.extend_from_slice(name);
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], &message].concat()
}

/// Resident memory of this process, bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[tokio::test]
async fn garbage_is_refused_counted_and_logged_once_a_second() {
    let mut scene = Scene::new(|_| {}).await;
    for round in 0..50 {
        let mut stream = connect(scene.address()).await;
        let mut bytes = [0; 2000];
        rand::rng().fill_bytes(&mut bytes);
        // A length that fits, or one that does not.
        bytes[..2].copy_from_slice(if round % 2 == 0 { &[0, 40] } else { &[0xff, 0xff] });
        bytes[2] = b'?';
        // The victim may have closed already.
        let _broken = stream.write_all(&bytes).await;
        assert!(closed(&mut stream).await.is_empty());
    }
    scene.counted("garbage", 50).await;
    let warnings = scene.log.warnings();
    assert!((1..10).contains(&warnings.len()), "{warnings:?}");
    scene.round_trip().await;
}

#[tokio::test]
async fn names_that_are_none_are_refused_and_forge_no_line() {
    let scene = Scene::new(|_| {}).await;
    let long = [&b"x".repeat(300)[..], b"@h.io"].concat();
    let names: [&[u8]; 4] = [&long, b"a\n WARN forged@h.io", b"\xff\xfe@h.io", b"nobody"];
    for name in names {
        let mut stream = connect(scene.address()).await;
        stream.write_all(&name_message(name)).await.unwrap();
        assert!(closed(&mut stream).await.is_empty());
    }
    scene.counted("name", 4).await;
    let mut stream = connect(scene.address()).await;
    stream.write_all(&name_message(b"victim@127.0.0.1")).await.unwrap();
    assert_eq!(closed(&mut stream).await, b"\0\x0csnot_allowed");
    scene.counted("own_name", 1).await;
    assert!(scene.log.text().contains("another node uses this node's name"));
    assert!(!scene.log.text().contains("forged@"), "{}", scene.log.text());
}

#[tokio::test]
async fn replayed_and_reflected_digests_prove_nothing() {
    let scene = Scene::new(|_| {}).await;
    let victim = NodeName::parse("victim@127.0.0.1").unwrap();
    // What an eavesdropper has: a whole good handshake.
    let mut good = Handshake::dial(Prefix::Two, local("thief@127.0.0.66", "C"), victim.clone(), 1);
    let mut sent = VecDeque::new();
    let mut stream = connect(scene.address()).await;
    loop {
        let out = good.transmit();
        stream.write_all(&out).await.unwrap();
        sent.push_back(out);
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).await.unwrap();
        good.handle(&bytes[..count]);
        if good.poll().unwrap().is_some() {
            break;
        }
    }
    drop(stream);
    let mut stream = connect(scene.address()).await;
    for bytes in sent {
        let _broken = stream.write_all(&bytes).await;
    }
    let said = closed(&mut stream).await;
    // A status and a challenge, and no proof of the cookie.
    assert!(!said.windows(3).any(|bytes| bytes == b"\0\x11a"), "{said:?}");
    scene.counted("cookie", 1).await;
}

#[tokio::test]
async fn handshakes_that_stop_or_crawl_end_in_time() {
    let limit = Duration::from_millis(600);
    let mut scene = Scene::new(|settings| settings.handshake_timeout = limit).await;
    let mut silent = connect(scene.address()).await;
    let mut half = connect(scene.address()).await;
    half.write_all(&name_message(b"half@127.0.0.66")).await.unwrap();
    let mut crawling = connect(scene.address()).await;
    let start = Instant::now();
    let crawl = async {
        let (mut reader, mut writer) = crawling.split();
        let mut end = Vec::new();
        tokio::select! {
            _ = reader.read_to_end(&mut end) => {}
            () = async {
                for byte in name_message(b"slow@127.0.0.66").iter().cycle() {
                    let _broken = writer.write_all(&[*byte]).await;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            } => {}
        }
    };
    timeout(LONG, crawl).await.expect("the crawling one is cut");
    assert!(start.elapsed() >= limit / 2 && start.elapsed() < limit * 4, "{:?}", start.elapsed());
    closed(&mut silent).await;
    assert!(closed(&mut half).await.starts_with(b"\0\x03sok"));
    scene.counted("timeout", 3).await;
    scene.round_trip().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_5000_connections_costs_little_and_keeps_nobody_out() {
    const FLOOD: usize = 5000;
    let limit = Duration::from_secs(3);
    let mut scene = Scene::new(|settings| settings.handshake_timeout = limit).await;
    let before = resident();
    // From eight addresses: more than each one's share, and more than the total.
    let mut held = VecDeque::new();
    let mut slowest = Duration::ZERO;
    for number in 0..FLOOD {
        let socket = TcpSocket::new_v4().unwrap();
        let source = format!("127.0.1.{}:0", 1 + number % 8);
        socket.bind(source.parse().unwrap()).unwrap();
        held.push_back(socket.connect(scene.address()).await.unwrap());
        // Descriptors of this process are limited, too.
        if held.len() > MAX_UNAUTHENTICATED + 100 {
            held.pop_front();
        }
        if number % 100 == 0 {
            slowest = slowest.max(scene.round_trip().await);
        }
    }
    let grown = resident().saturating_sub(before);
    println!("flood: {} KiB more resident, slowest round trip {slowest:?}", grown / 1024);
    assert!(grown < MAX_UNAUTHENTICATED * 16 * 1024, "{grown}");
    assert!(slowest < Duration::from_millis(500), "{slowest:?}");
    let refused = |limit: &str| {
        scene.victim.metric(&format!("connections_refused_total{{cause=\"{limit}\"}}"))
    };
    assert!(refused("total_limit") + refused("address_limit") > 100);
    assert!(scene.log.warnings().len() < 60, "{:?}", scene.log.warnings());
    drop(held);
    // Once the flood is over a new peer gets in.
    let mut newcomer = Node::start(settings("new@127.0.0.3", scene.victim.port));
    let linked = async {
        loop {
            newcomer.mesh.dial(scene.victim.name.clone());
            if let MeshEvent::Up { .. } = newcomer.event().await {
                break;
            }
        }
    };
    timeout(LONG, linked).await.expect("a link after the flood");
}

#[tokio::test]
async fn one_address_cannot_take_all_places() {
    let mut scene = Scene::new(|_| {}).await;
    let mut held = Vec::new();
    for _ in 0..MAX_UNAUTHENTICATED_PER_ADDRESS + 20 {
        held.push(connect(scene.address()).await);
    }
    scene.victim.counted("connections_refused_total{cause=\"address_limit\"}", 20).await;
    // From elsewhere, at the same time.
    let mut newcomer = Node::start(settings("new@127.0.0.3", scene.victim.port));
    newcomer.mesh.dial(scene.victim.name.clone());
    newcomer.up().await;
    scene.round_trip().await;
}

#[tokio::test]
async fn a_length_of_4_gib_ends_that_link_alone() {
    let mut scene = Scene::new(|_| {}).await;
    let before = resident();
    let mut stream = authenticated(scene.address(), "liar@127.0.0.66").await;
    scene.victim.up().await;
    stream.write_all(&[0xff; 4]).await.unwrap();
    let (reason, closed_by_peer) = scene.victim.down().await;
    assert!(reason.contains("4294967295 bytes was announced"), "{reason}");
    assert!(!closed_by_peer);
    closed(&mut stream).await;
    assert!(resident().saturating_sub(before) < 8 << 20);
    assert_eq!(scene.victim.metric("frames_ignored_total{cause=\"too_long\"}"), 1);
    scene.round_trip().await;
}

#[tokio::test]
async fn frames_of_nonsense_are_counted_and_dropped() {
    let mut scene = Scene::new(|_| {}).await;
    let mut stream = authenticated(scene.address(), "fool@127.0.0.66").await;
    scene.victim.up().await;
    for _ in 0..100 {
        let mut frame = [0; 104];
        rand::rng().fill_bytes(&mut frame);
        frame[..4].copy_from_slice(&100u32.to_be_bytes());
        stream.write_all(&frame).await.unwrap();
    }
    scene.victim.counted("frames_ignored_total{cause=\"malformed\"}", 100).await;
    scene.round_trip().await;
}

#[tokio::test]
async fn a_peer_that_does_not_read_stalls_nobody() {
    let times = LinkTimes { tick: Duration::from_secs(1), silence: Duration::from_secs(60) };
    let mut scene = Scene::new(|settings| settings.times = times).await;
    let stream = authenticated(scene.address(), "frozen@127.0.0.66").await;
    let (frozen, _) = scene.victim.up().await;
    let payload = vec![1; 50_000];
    // Until the kernel's buffers are full, then the queue; both have their ends.
    let mut sent = 0;
    let filled = async {
        while scene.victim.mesh.send(frozen, &payload) == SendOutcome::Queued {
            sent += payload.len();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(LONG, filled).await.expect("full in the end");
    let before = resident();
    for _ in 0..10_000 {
        assert_eq!(scene.victim.mesh.send(frozen, &payload), SendOutcome::Full);
    }
    let grown = resident().saturating_sub(before);
    println!("frozen reader: {sent} bytes taken by the kernel and the queue, then {grown}");
    assert!(grown < 4 * QUEUE_BYTES, "{grown}");
    assert!(scene.victim.metric("queue_drops_total{cause=\"link\"}") >= 10_000);
    assert!(scene.round_trip().await < Duration::from_millis(200));
    // Nor does it hold up the end.
    let start = Instant::now();
    scene.victim.mesh.shutdown().await;
    assert!(start.elapsed() < Duration::from_millis(400), "{:?}", start.elapsed());
    drop(stream);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_floods_is_held_back() {
    let mut scene = Scene::new(|_| {}).await;
    let mut stream = authenticated(scene.address(), "loud@127.0.0.66").await;
    let (loud, _) = scene.victim.up().await;
    let name = NodeName::parse("loud@127.0.0.66").unwrap();
    let mut frames = Vec::new();
    for _ in 0..1000 {
        assert!(Encoder::new(&name, 1).message(&mut frames, b"me!", 1 << 20));
    }
    let flood = tokio::spawn(async move { while stream.write_all(&frames).await.is_ok() {} });
    let (start, mut heard, mut slowest) = (Instant::now(), 0u32, Duration::ZERO);
    let window = Duration::from_secs(4);
    while start.elapsed() < window {
        scene.friend.mesh.send(scene.to_victim, b"ping");
        let asked = Instant::now();
        loop {
            match scene.victim.event().await {
                MeshEvent::Frame { link, .. } if link == loud => heard += 1,
                MeshEvent::Frame { .. } => break,
                other => panic!("{other:?}"),
            }
        }
        slowest = slowest.max(asked.elapsed());
    }
    flood.abort();
    println!("flood of frames: {heard} heard in {window:?}, a friend waited {slowest:?} at most");
    // Two seconds' worth at once, then 2,000 a second, and one read beyond.
    assert!((2_000..15_000).contains(&heard), "{heard}");
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
}

/// A node's TLS files; kept while its mesh runs.
fn context(node: &str, ca: &Ca, leaf: &Leaf) -> (TlsContext, TempDir) {
    let dir = TempDir::new().unwrap();
    let files = TlsFiles::write(dir.path(), &ca.pem, leaf);
    let node = NodeName::parse(node).unwrap();
    (TlsContext::load(&files.conf(), &node, true).unwrap(), dir)
}

#[tokio::test]
async fn links_run_over_tls() {
    let (ca, port) = (Ca::new("the cluster's"), free_port());
    let (a, b) = ("a@127.0.0.1", "b@127.0.0.2");
    let (tls_a, _files_a) = context(a, &ca, &ca.leaf(&["ip:127.0.0.1"]));
    let (tls_b, _files_b) = context(b, &ca, &ca.leaf(&["ip:127.0.0.2"]));
    let (a, b) = (tls(settings(a, port), tls_a), tls(settings(b, port), tls_b));
    let (mut a, at_a, mut b, at_b) = linked(a, b).await;
    let large = vec![3; 300_000];
    assert_eq!(a.mesh.send(at_a, &large), SendOutcome::Queued);
    assert_eq!(b.frame().await, large);
    assert_eq!(b.mesh.send(at_b, b"back"), SendOutcome::Queued);
    assert_eq!(a.frame().await, b"back");
    a.mesh.send(at_a, b"last words");
    a.mesh.close(at_a, "done");
    assert_eq!(b.frame().await, b"last words");
    assert_eq!(b.down().await, ("the peer closed the connection".to_owned(), true));
    assert_eq!(a.down().await, ("done".to_owned(), false));
}

#[tokio::test]
async fn a_certificate_speaks_for_its_own_node_alone() {
    let (log, _guard) = Log::capture();
    let (ca, port) = (Ca::new("the cluster's"), free_port());
    let (tls_a, _files_a) = context("a@127.0.0.1", &ca, &ca.leaf(&["ip:127.0.0.1"]));
    let mut a = Node::start(tls(settings("a@127.0.0.1", port), tls_a));
    // Has the cookie, and another node's certificate.
    let (tls_b, _files_b) = context("b@127.0.0.2", &ca, &ca.leaf(&["ip:127.0.0.9"]));
    let mut b = Node::start(tls(settings("b@127.0.0.2", port), tls_b));
    b.mesh.dial(a.name.clone());
    assert!(matches!(b.dial_failed().await, DialError::Rejected(_)));
    let name = "handshakes_total{direction=\"in\",outcome=\"tls_wrong_name\"}";
    a.counted(name, 1).await;
    a.mesh.dial(b.name.clone());
    let DialError::Rejected(reason) = a.dial_failed().await else { panic!("not Rejected") };
    assert!(reason.contains("127.0.0.9"), "{reason}");
    assert!(log.warnings().iter().any(|line| line.contains("b@127.0.0.2")), "{:?}", log.warnings());
    assert_eq!(a.metric("links"), 0);
}

#[tokio::test]
async fn tcp_and_tls_do_not_meet() {
    let (ca, port) = (Ca::new("the cluster's"), free_port());
    let (tls_a, _files_a) = context("a@127.0.0.1", &ca, &ca.leaf(&["ip:127.0.0.1"]));
    let mut a = Node::start(tls(settings("a@127.0.0.1", port), tls_a));
    let mut b = Node::start(settings("b@127.0.0.2", port));
    b.mesh.dial(a.name.clone());
    b.dial_failed().await;
    a.mesh.dial(b.name.clone());
    a.dial_failed().await;
    a.counted("handshakes_total{direction=\"in\",outcome=\"tls_garbage\"}", 1).await;
    b.counted("handshakes_total{direction=\"in\",outcome=\"garbage\"}", 1).await;
}
