//! The adversarial table: each way in that is none, tried on a running agent. For each
//! row the reason is in the log, a metric has counted it, the members are as before, the
//! agent's memory too, and a healthy peer was answered in time all the while.

use std::sync::Arc;

use muster::mesh::MAX_UNAUTHENTICATED;
use muster::mesh::tls::{FREE_HANDSHAKE, LONG_HANDSHAKES, MAX_HANDSHAKE, TlsContext};
use muster::node::{BootId, Incarnation, NodeName, Role};
use muster::protocol::dist::control::Encoder;
use muster::protocol::dist::handshake::{Event, Handshake};
use muster::protocol::membership::{
    Epoch, Health, Hello, Intent, Message, PROTOCOL, PROTOCOL_MIN, Reason, Record, Standing,
};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::adversary::{
    ATTACKER, Attack, Door, PER_CONNECTION, Scene, closed, cost, local, say,
};
use crate::support::agent::{COOKIE, Ground, Spec};
use crate::support::cluster::Cluster;
use crate::support::pki::{Ca, Leaf, TlsFiles};
use crate::support::wait::{LONG, eventually};

/// Connections of a flood.
const FLOOD: usize = 5_000;
const THIEF: &str = "thief@127.0.0.66";

fn handshake(outcome: &str) -> String {
    format!("muster_handshakes_total{{direction=\"in\",outcome=\"{outcome}\"}}")
}

/// A handshake message behind its length.
fn message(bytes: &[u8]) -> Vec<u8> {
    [&u16::try_from(bytes.len()).unwrap().to_be_bytes()[..], bytes].concat()
}

fn name_message(flags: u64, name: &[u8]) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap().to_be_bytes();
    message(&[&b"N"[..], &flags.to_be_bytes(), &1u32.to_be_bytes(), &length, name].concat())
}

/// A cookie and a name are not enough: says this to the victim's `muster`, and waits for
/// the end, where it is to come.
async fn tell(door: &Door, payload: &[u8], ends: bool) {
    let mut stream = door.enter(ATTACKER, THIEF, COOKIE).await.unwrap();
    let mut frame = Vec::new();
    let name = NodeName::parse(THIEF).unwrap();
    assert!(Encoder::new(&name, 1).message(&mut frame, payload, 1 << 20));
    stream.write_all(&frame).await.unwrap();
    stream.flush().await.unwrap();
    if ends {
        closed(&mut stream).await;
    }
}

fn hello(cluster: &str, protocol: u16) -> Vec<u8> {
    let node = NodeName::parse(THIEF).unwrap();
    let me = Record {
        node: node.clone(),
        epoch: Epoch(1),
        standing: Standing::Member(Health::Up),
        incarnation: Incarnation(1),
        boot: BootId(1),
        role: Role::Core,
        reason: Some(Reason::Announced),
        by: node,
        version: "0".to_owned(),
        attributes: None,
        burial: 0,
    };
    let hello = Hello {
        protocol_min: protocol,
        protocol,
        cluster: cluster.to_owned(),
        id: None,
        automatic: true,
        intent: Intent::Meet,
        me,
        you: None,
        view_v1: 0,
        view: Some(0),
    };
    Message::Hello(Box::new(hello)).encode()
}

/// Everything a whole good handshake said, as an eavesdropper has it.
async fn recorded(door: &Door) -> Vec<Vec<u8>> {
    let mut stream = door.open(ATTACKER).await.unwrap();
    let mut good = Handshake::dial(door.prefix(), local(THIEF, COOKIE), door.victim.clone(), 1);
    let mut sent = Vec::new();
    loop {
        let out = good.transmit();
        stream.write_all(&out).await.unwrap();
        sent.push(out);
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).await.unwrap();
        good.handle(&bytes[..count]);
        if let Some(Event::Done(_)) = good.poll().unwrap() {
            return sent;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tcp_nobody_without_the_cookie_and_the_right_words() {
    let mut scene = Scene::new(Cluster::start(2), None);
    let (door, address) = (scene.door(None), scene.address());

    scene.flood("half-open flood of 5,000", FLOOD, b"").await;

    let (cookie, log) = (handshake("cookie"), "wrong cookie");
    let wrong = async || {
        let entered = door.enter(ATTACKER, THIEF, "a-cookie-of-another-mesh").await;
        assert!(entered.is_err());
    };
    scene.row("wrong cookie", &cookie, log, wrong).await;
    let sent = recorded(&door).await;
    let replay = async || {
        let mut stream = door.open(ATTACKER).await.unwrap();
        for bytes in &sent {
            let _closed = stream.write_all(bytes).await;
        }
        let said = closed(&mut stream).await;
        assert!(!said.windows(3).any(|bytes| bytes == b"\0\x11a"), "a proof of the cookie");
    };
    scene.row("replayed digests", &cookie, log, replay).await;

    // Before version 6 of the handshake; then as OTP 22 says it, in so many flags.
    let version = handshake("version");
    let old = message(&[&b"n\0\x05\0\x07\xff\xff"[..], THIEF.as_bytes()].concat());
    let say_old = async || drop(say(address, &old).await);
    scene.row("downgraded handshake", &version, "old version of the distribution", say_old).await;
    let few = name_message(1 << 24, THIEF.as_bytes());
    let say_few = async || drop(say(address, &few).await);
    scene.row("downgraded capabilities", &version, "lacks mandatory capabilities", say_few).await;
    let downgraded = hello("tests", PROTOCOL_MIN - 1);
    let refused = "muster_links_refused_total{cause=\"version\"}";
    let told = async || tell(&door, &downgraded, true).await;
    scene.row("downgraded membership", refused, "speaks protocol versions 0 to 0", told).await;

    let other = hello("another", PROTOCOL);
    let refused = "muster_links_refused_total{cause=\"cluster_name\"}";
    let told = async || tell(&door, &other, true).await;
    scene.row("another cluster's name", refused, "has cluster.name \"another\"", told).await;

    let own = name_message(u64::MAX, b"emqx1@127.0.0.1");
    let say_own = async || drop(say(address, &own).await);
    scene
        .row("the victim's own name", &handshake("own_name"), "uses this node's name", say_own)
        .await;

    let long = name_message(u64::MAX, &[&[b'x'; 300][..], b"@h.io"].concat());
    let say_long = async || drop(say(address, &long).await);
    scene.row("oversized name", &handshake("name"), "at most 255 are allowed", say_long).await;
    let huge = [&[0xff, 0xff, b'N'][..], &[0; 600]].concat();
    let say_huge = async || drop(say(address, &huge).await);
    scene
        .row("oversized handshake", &handshake("garbage"), "65535 bytes was announced", say_huge)
        .await;
    let announced = async || {
        let mut stream = door.enter(ATTACKER, THIEF, COOKIE).await.unwrap();
        stream.write_all(&[0xff; 4]).await.unwrap();
        closed(&mut stream).await;
    };
    let too_long = "muster_frames_ignored_total{cause=\"too_long\"}";
    scene.row("oversized frame", too_long, "4294967295 bytes was announced", announced).await;
    let wide = hello(&"x".repeat(60_000), PROTOCOL);
    let told = async || tell(&door, &wide, false).await;
    let unreadable = "muster_frames_ignored_total{cause=\"unreadable_message\"}";
    scene.row("oversized hello", unreadable, "a text of 60000 bytes", told).await;
}

/// The victim's certificates, and some that are none for it.
struct Certificates {
    dir: TempDir,
    old: Ca,
    new: Ca,
}

impl Certificates {
    /// An attacker's, who checks nobody himself.
    fn of(&self, name: &str, leaf: &Leaf) -> TlsContext {
        let files = TlsFiles::write(&self.dir.path().join(name), &self.new.pem, leaf);
        let node = NodeName::parse(THIEF).unwrap();
        TlsContext::load(&files.verify_none().conf(), &node, true).unwrap()
    }

    /// A good one for an address.
    fn good(&self, ca: &Ca, ip: &str) -> TlsContext {
        self.of(ip, &ca.leaf(&[&format!("ip:{ip}")]))
    }
}

/// What a client of these versions says first.
fn client_hello(versions: &[&'static rustls::SupportedProtocolVersion]) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("127.0.0.1").unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}

/// From a time when TLS 1.1 was the newest: there is no extension, and of the suites one
/// that is spoken today.
fn old_client_hello() -> Vec<u8> {
    let hello = [&[3, 2][..], &[7; 32], &[0], &[0, 4, 0xc0, 0x2b, 0, 0x2f], &[1, 0]].concat();
    let length = u8::try_from(hello.len()).unwrap();
    [&[22, 3, 1, 0, length + 4, 1, 0, 0, length][..], &hello].concat()
}

/// The beginning of one record of 16 KiB.
fn half_a_record(bytes: usize) -> Vec<u8> {
    let mut record = vec![22, 3, 3, 0x40, 0];
    record.resize(bytes, 1);
    record
}

/// The beginning of a handshake message as long as any, in small records.
fn half_a_message(bytes: usize) -> Vec<u8> {
    let mut message = vec![22, 3, 1, 0, 200, 1, 0, 0xff, 0xf0];
    message.resize(205, 0);
    while message.len() + 205 <= bytes {
        message.extend([22, 3, 1, 0, 200]);
        message.extend([0; 200]);
    }
    message
}

#[tokio::test]
async fn a_connection_that_has_proven_nothing_costs_less_than_16_kib() {
    let ground = Ground::new(10);
    let total = "muster_connections_refused_total{cause=\"total_limit\"}";
    let all =
        |what, bytes, answered| Attack { what, connections: MAX_UNAUTHENTICATED, bytes, answered };
    let tcp = |k| Spec::new(&ground, k);
    let half = name_message(u64::MAX, THIEF.as_bytes());
    let half = &half[..half.len() - 1];
    let mut worst = cost(tcp(1), 1, all("TCP, silent", b"", false), total).await;
    worst = worst.max(cost(tcp(2), 2, all("TCP, half a message", half, false), total).await);

    let certificates =
        Certificates { dir: TempDir::new().unwrap(), old: Ca::new("old"), new: Ca::new("new") };
    let tls = |k| over_tls(Spec::new(&ground, k), &certificates);
    let (first, first_12) =
        (client_hello(rustls::ALL_VERSIONS), client_hello(&[&rustls::version::TLS12]));
    let (record, message) = (half_a_record(FREE_HANDSHAKE), half_a_message(FREE_HANDSHAKE));
    let attacks = [
        all("TLS, silent", b"", false),
        all("TLS 1.2, a ClientHello", &first_12, true),
        all("TLS 1.3, a ClientHello", &first, true),
        all("TLS, half a record", &record, false),
        all("TLS, half a message", &message, false),
    ];
    for (k, attack) in (3..).zip(attacks) {
        worst = worst.max(cost(tls(k), k, attack, total).await);
    }
    assert!(worst < PER_CONNECTION, "{worst}");

    // Long handshakes cost more, and are few.
    let mut worst_long = 0;
    let too_much = handshake("tls_too_much");
    for (k, what, bytes) in [
        (8, "TLS, half a long record", half_a_record(MAX_HANDSHAKE)),
        (9, "TLS, half a long message", half_a_message(MAX_HANDSHAKE)),
    ] {
        let attack = Attack { what, connections: LONG_HANDSHAKES, bytes: &bytes, answered: false };
        worst_long = worst_long.max(cost(tls(k), k, attack, &too_much).await);
    }
    let average = (worst * (MAX_UNAUTHENTICATED - LONG_HANDSHAKES) + worst_long * LONG_HANDSHAKES)
        / MAX_UNAUTHENTICATED;
    println!("at worst: {average} bytes for each of {MAX_UNAUTHENTICATED} connections");
    assert!(average < PER_CONNECTION, "{average}");
}

fn over_tls(spec: Spec, certificates: &Certificates) -> Spec {
    let dir = spec.home().join("tls");
    let both = format!("{}{}", certificates.old.pem, certificates.new.pem);
    let names = ["dns:127.0.0.1", &format!("uri:muster:{}", spec.name())];
    let files = TlsFiles::write(&dir, &both, &certificates.new.leaf(&names));
    spec.line("cluster.proto_dist = inet_tls")
        .line(&format!("node.ssl_dist_optfile = {:?}", files.conf().display().to_string()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_nobody_without_a_certificate_for_that_very_name() {
    let certificates =
        Certificates { dir: TempDir::new().unwrap(), old: Ca::new("old"), new: Ca::new("new") };
    let Certificates { old, new, .. } = &certificates;
    let cluster = Cluster::start_with(2, |spec| over_tls(spec, &certificates));
    let mut scene = Scene::new(cluster, Some(certificates.good(new, "127.0.0.2")));
    let address = scene.address();

    let first = client_hello(rustls::ALL_VERSIONS);
    scene.flood("flood of 5,000 ClientHellos", FLOOD, &first).await;

    let old_hello = old_client_hello();
    let downgrade = async || drop(say(address, &old_hello).await);
    let log = "nothing in common with the peer";
    scene.row("downgraded TLS", &handshake("tls_incompatible"), log, downgrade).await;
    let plain = name_message(u64::MAX, THIEF.as_bytes());
    let in_clear = async || drop(say(address, &plain).await);
    scene.row("no TLS at all", &handshake("tls_garbage"), "is not TLS", in_clear).await;
    let more = half_a_message(MAX_HANDSHAKE + 1024);
    let oversized = async || drop(say(address, &more).await);
    let log = "more than 12288 bytes in its TLS handshake";
    scene.row("oversized TLS handshake", &handshake("tls_too_much"), log, oversized).await;

    let names = &["ip:127.0.0.66"];
    let rows = [
        ("wrong name", new.leaf(&["ip:127.0.0.67"]), "wrong_name", "not for thief@127.0.0.66"),
        ("expired", new.expired(names), "expired", "expired at 2021-01-01"),
        ("not yet valid", new.not_yet_valid(names), "not_yet_valid", "not valid before 2098"),
        ("wrong CA", Ca::new("other").leaf(names), "unknown_ca", "a CA that is not in cacertfile"),
    ];
    for (name, leaf, word, log) in rows {
        let door = scene.door(Some(certificates.of(name, &leaf)));
        let entered = async || assert!(door.enter(ATTACKER, THIEF, COOKIE).await.is_err());
        scene.row(name, &handshake(&format!("tls_{word}")), log, entered).await;
    }
    let door = scene.door(Some(certificates.good(new, "127.0.0.66")));
    let wrong = async || {
        let entered = door.enter(ATTACKER, THIEF, "a-cookie-of-another-mesh").await;
        assert!(entered.is_err());
    };
    scene.row("a certificate and no cookie", &handshake("cookie"), "wrong cookie", wrong).await;

    // Good until its CA is taken out of the file.
    let door = scene.door(Some(certificates.of("revoked", &old.leaf(names))));
    assert!(door.enter(ATTACKER, THIEF, COOKIE).await.is_ok());
    for agent in scene.cluster.iter() {
        TlsFiles::open(&agent.home().join("tls")).put("ca.pem", &new.pem);
    }
    for agent in scene.cluster.iter() {
        eventually("the CA gone", LONG, || {
            (agent.metric("muster_tls_reloads_total{outcome=\"ok\"}") == 1).then_some(())
        });
    }
    let revoked = async || assert!(door.enter(ATTACKER, THIEF, COOKIE).await.is_err());
    scene.row("revoked", &handshake("tls_unknown_ca"), "not in cacertfile", revoked).await;
}
