//! What the fuzz targets run, one function a target: foreign bytes in, no panic, and
//! what must hold of any bytes asserted. `tests/it/fuzz_corpus.rs` runs the same
//! functions over the corpora.
#![allow(dead_code, unreachable_pub, reason = "every target uses one of these")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use muster::discovery::mcast::datagram::{Datagram, Keys};
use muster::node::{BootId, LinkId, NodeName, Role};
use muster::protocol::dist::control::{self, Incoming};
use muster::protocol::dist::frame::{Decoder, Prefix};
use muster::protocol::dist::handshake::{Decision, Event, Handshake, HandshakeError, Local};
use muster::protocol::dist::link::{self, Link, LinkTimes};
use muster::protocol::membership::{
    Durable, Effect, Limits, Membership, Message, Settings, Timing,
};
use muster::secret::Secret;

/// A target's function.
pub type Entry = fn(&[u8]);

/// Every target by the name of its corpus.
pub const ENTRIES: &[(&str, Entry)] = &[
    ("config", config),
    ("control", control),
    ("dns", dns),
    ("frames", frames),
    ("handshake_accept", handshake_accept),
    ("handshake_dial", handshake_dial),
    ("link", link),
    ("mcast", mcast),
    ("membership", membership),
    ("rex", rex),
    ("ssl_dist", ssl_dist),
];

/// Challenge of the handshake targets. Constant, so that a corpus can hold the proof
/// of the cookie that no fuzzer finds.
const CHALLENGE: u32 = 0x0102_0304;

/// Bytes as they may come: all at once, one by one, and in pieces of seven.
const PIECES: [usize; 3] = [usize::MAX, 1, 7];

fn name(text: &str) -> NodeName {
    NodeName::parse(text).expect("a node name")
}

fn local() -> Arc<Local> {
    let cookies = [Secret::new("offered"), Secret::new("accepted")].into();
    Arc::new(Local { name: name("a@127.0.0.1"), creation: 1, cookies })
}

/// Runs a handshake to its end; what came out must not hang on how the bytes came.
fn shake(
    make: impl Fn() -> Handshake,
    bytes: &[u8],
    mut answer: impl FnMut(&mut Handshake, &Event) -> Result<(), HandshakeError>,
) -> bool {
    let mut run = |piece: usize| {
        let mut machine = make();
        let mut sent = machine.transmit();
        for piece in bytes.chunks(piece.min(bytes.len().max(1))) {
            machine.handle(piece);
            loop {
                let event = machine.poll();
                let event = event.and_then(|event| match &event {
                    Some(told) => answer(&mut machine, told).map(|()| event),
                    None => Ok(None),
                });
                sent.extend(machine.transmit());
                match event {
                    Ok(None) => break,
                    Ok(Some(Event::Done(peer))) => {
                        assert_ne!(peer.name, name("a@127.0.0.1"));
                        return (sent, Some(Ok(peer)));
                    }
                    Ok(Some(_)) => {}
                    Err(error) => return (sent, Some(Err(error))),
                }
            }
        }
        (sent, None)
    };
    let whole = run(PIECES[0]);
    for piece in &PIECES[1..] {
        assert_eq!(run(*piece), whole);
    }
    matches!(whole.1, Some(Ok(_)))
}

/// The accepting handshake; the first byte is our own decision.
pub fn handshake_accept(data: &[u8]) {
    accept(data);
}

/// [`handshake_accept`]; whether the peer got in.
pub fn accept(data: &[u8]) -> bool {
    let Some((choice, bytes)) = data.split_first() else { return false };
    let decision = match choice % 5 {
        0 => Decision::Ok,
        1 => Decision::OkSimultaneous,
        2 => Decision::Nok,
        3 => Decision::NotAllowed,
        _ => Decision::Alive,
    };
    shake(
        || Handshake::accept(Prefix::Two, local(), CHALLENGE),
        bytes,
        |machine, event| match event {
            Event::Named(_) => machine.decide(decision),
            _ => Ok(()),
        },
    )
}

/// The dialling handshake; the first byte says whether another link is wanted.
pub fn handshake_dial(data: &[u8]) {
    dial(data);
}

/// [`handshake_dial`]; whether the peer was let in.
pub fn dial(data: &[u8]) -> bool {
    let Some((choice, bytes)) = data.split_first() else { return false };
    shake(
        || Handshake::dial(Prefix::Two, local(), name("b@127.0.0.2"), CHALLENGE),
        bytes,
        |machine, event| match event {
            Event::Alive => machine.answer_alive(choice % 2 == 0),
            _ => Ok(()),
        },
    )
}

/// Frames of both widths: the same ones however the bytes came, none beyond the cap, and
/// no more held than has arrived.
pub fn frames(data: &[u8]) {
    const MAX: usize = 600;
    for prefix in [Prefix::Two, Prefix::Four] {
        let run = |piece: usize| {
            let mut decoder = Decoder::new(prefix, MAX);
            let mut frames = Vec::new();
            for bytes in data.chunks(piece.min(data.len().max(1))) {
                decoder.push(bytes);
                loop {
                    match decoder.next_frame() {
                        Ok(Some(frame)) => frames.push(frame.to_vec()),
                        Ok(None) => break,
                        Err(error) => return (frames, Err(error)),
                    }
                }
                assert!(decoder.buffered() <= data.len());
                // A vector grows by doubling at most, from a small beginning.
                assert!(decoder.capacity() <= 2 * data.len() + 512);
            }
            (frames, Ok(decoder.buffered()))
        };
        let whole = run(PIECES[0]);
        assert!(whole.0.iter().all(|frame| frame.len() <= MAX));
        for piece in &PIECES[1..] {
            assert_eq!(run(*piece), whole);
        }
    }
}

/// Control messages and the terms in them; an answer is one frame, as long as it says.
pub fn control(data: &[u8]) {
    match control::parse(data) {
        Incoming::Payload(payload) => assert!(payload.len() < data.len()),
        Incoming::IsAuth(question) => {
            let mut out = Vec::new();
            control::put_yes(&mut out, &question);
            let length = out.first_chunk().map(|length| u32::from_be_bytes(*length));
            assert_eq!(length, u32::try_from(out.len() - 4).ok());
            assert!(out.len() <= question.answer_len(), "{} {}", out.len(), question.answer_len());
        }
        Incoming::Ignored(why) => assert!(!why.is_empty()),
    }
}

/// An established link: the same events however the bytes came, bounded answers.
pub fn link(data: &[u8]) {
    let run = |piece: usize| {
        let mut machine = Link::new(LinkTimes::default(), 600, &[], Duration::ZERO);
        let mut events = Vec::new();
        for (at, bytes) in (1..).zip(data.chunks(piece.min(data.len().max(1)))) {
            let now = Duration::from_micros(at);
            machine.handle(bytes, now);
            loop {
                match machine.poll() {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => return (events, Err(error)),
                }
            }
            assert!(machine.transmit().len() <= 8192);
            assert!(machine.next_deadline() > now);
        }
        (events, Ok(()))
    };
    // Answers that nobody reads are dropped, and how many depends on the pieces.
    let told = |(events, end): (Vec<link::Event>, _)| {
        let payloads = events.into_iter().filter(|event| matches!(event, link::Event::Payload(_)));
        (payloads.collect::<Vec<_>>(), end)
    };
    let whole = told(run(PIECES[0]));
    for piece in &PIECES[1..] {
        assert_eq!(told(run(*piece)), whole);
    }
}

/// Membership messages as a member sends them, which is after a good hello; the input is
/// frames behind two-byte lengths. Whatever they say, the node is who it is.
pub fn membership(data: &[u8]) {
    let settings = |node: &str, boot| Settings {
        node: name(node),
        boot: BootId(boot),
        role: Role::Core,
        version: "0".to_owned(),
        cluster: "emqxcl".to_owned(),
        automatic: true,
        autoheal: true,
        autoclean: Some(Duration::from_secs(60)),
        full_mesh_limit: 3,
        leave_on_stop: false,
        whole_view_limit: Settings::WHOLE_VIEW,
        limits: Limits::default(),
        timing: Timing::default(),
    };
    let start = |node, boot| {
        Membership::new(settings(node, boot), Durable::default(), Duration::ZERO, boot)
    };
    let (mut here, mut there) = (start("a@127.0.0.1", 1), start("b@127.0.0.2", 2));
    let (key, mut now) = (LinkId(1), Duration::from_millis(1));
    here.handle_link_up(now, key, &name("b@127.0.0.2"), false, None);
    there.handle_link_up(now, key, &name("a@127.0.0.1"), true, None);
    while let Some(effect) = there.poll_effect() {
        if let Effect::Send(_, frame) = effect {
            here.handle_frame(now, key, &frame);
        }
    }
    let mut decoder = Decoder::new(Prefix::Two, usize::from(u16::MAX));
    decoder.push(data);
    while let Ok(Some(frame)) = decoder.next_frame() {
        if let Ok(message) = Message::decode(frame) {
            assert_eq!(Message::decode(&message.encode()).as_ref(), Ok(&message));
        }
        now += Duration::from_millis(700);
        here.handle_frame(now, key, frame);
        here.handle_timeout(now);
        // What it asks of its driver goes with what it was sent.
        let effects = std::iter::from_fn(|| here.poll_effect()).count();
        assert!(effects <= 64 + 4 * frame.len(), "{effects} effects");
        assert!(here.next_deadline().is_some());
    }
    assert_eq!(here.me().node, name("a@127.0.0.1"));
    assert_eq!(here.me().boot, BootId(1));
    assert!(here.table().member_count() <= Limits::default().members);
}

/// DNS queries: an answer of theirs, which can be read, is no longer than it may be, and
/// comes out the same for the same randomness.
pub fn dns(data: &[u8]) {
    use muster::follow::dns::answer::answer;
    use muster::follow::dns::table::{Endpoint, Table};
    use muster::follow::dns::zone::Zone;
    use std::net::IpAddr;
    let own = IpAddr::from([10, 0, 0, 1]);
    let Ok(zone) = Zone::new("emqxcl", "muster", Duration::from_secs(1), own) else { return };
    let addresses = (0..100u8).map(|n| IpAddr::from([10, 0, 0, n]));
    let mut table = Table { able: !data.len().is_multiple_of(7), serial: 1, ..Table::default() };
    table.own.insert(own);
    for ip in addresses {
        let target = zone.address_name(ip);
        table.nodes.insert(ip);
        table.brokers.insert(ip);
        table.by_name.entry(b"emqx".to_vec()).or_default().insert(ip);
        table.targets.entry(target.clone()).or_default().insert(ip);
        table.endpoints.insert(Endpoint { target, port: 1883 });
    }
    let run = || {
        use rand::SeedableRng;
        let answer = answer(data, &zone, &table, &mut rand::rngs::StdRng::seed_from_u64(1))?;
        let short = answer.encode(answer.udp).expect("an answer that can be written");
        let long = answer.encode(u16::MAX).expect("an answer that can be written");
        let cut = answer.clone().cut().encode(512).expect("an answer that can be written");
        assert!(short.len() <= usize::from(answer.udp));
        assert!(cut.len() <= data.len().max(300));
        for bytes in [&short, &long, &cut] {
            assert!(bytes[..2] == data[..2] && bytes[2] & 0x80 != 0, "another query's answer");
            let code = u16::from(bytes[3] & 0xf);
            assert!([0, 1, 2, 3, 4, 5].contains(&code), "{code}");
        }
        // What is left out is marked.
        assert!(
            short == long || short[2] & 2 != 0 || short[11] != long[11] || short[10] != long[10]
        );
        Some((answer.outcome, short, long))
    };
    assert_eq!(run(), run());
}

/// What a broker answers: whatever it is, it is read or shown, and bounded.
pub fn rex(data: &[u8]) {
    use muster::follow::emqx::answers::{self, Joined};
    use muster::protocol::dist::{rex, show};
    if let Some(reply) = rex::parse_reply(data) {
        assert!(reply.result.len() < data.len());
        read(reply.result);
    }
    read(data);
    fn read(result: &[u8]) {
        assert!(show::show(result, 160).len() <= 160);
        if let Ok(info) = answers::info(result) {
            assert!(info.running.len() + info.stopped.len() <= result.len());
        }
        let _either = answers::strategy(result);
        if let Joined::Failed(why) | Joined::Refused(why) = answers::joined(result, "ekka") {
            assert!(!why.is_empty() && why.len() < 500);
        }
    }
}

/// Multicast datagrams: as they come, and under the right seal, which no fuzzer finds.
/// What is understood is what its sender would have sent.
pub fn mcast(data: &[u8]) {
    use hmac::{Hmac, KeyInit, Mac};
    let cookie = "a cookie for fuzzing";
    let keys = Keys::new(&[Secret::new("another"), Secret::new(cookie)]);
    let _foreign = Datagram::decode(data, &keys);
    let Ok(mac) = Hmac::<sha2::Sha256>::new_from_slice(cookie.as_bytes()) else { return };
    let seal = mac.chain_update(data).finalize().into_bytes();
    let sealed = [data, &seal[..]].concat();
    if let Ok(datagram) = Datagram::decode(&sealed, &keys) {
        let again = datagram.encode(&Keys::new(&[Secret::new(cookie)]));
        assert_eq!(again.as_deref(), Some(&sealed[..]), "{datagram:?}");
    }
}

/// `emqx.conf` in EMQX's dialect, and the same bytes as what the environment and an
/// included file say: a mistake is told, and the cookie is not.
pub fn config(data: &[u8]) {
    struct Fixed<'a>(&'a str);
    impl muster::config::Files for Fixed<'_> {
        fn read(&self, path: &Path) -> std::io::Result<String> {
            match path.to_str() {
                Some("a.conf") => Ok(self.0.to_owned()),
                Some("b.conf") => {
                    Ok("node { cookie = \"hushhushhushhush\", k.l = [1] }".to_owned())
                }
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    if text.contains("hushhush") {
        // No secret: whoever wrote this file wrote it where it shows.
        return;
    }
    let value = text.lines().next().unwrap_or_default();
    let env = [
        ("EMQX_CLUSTER__STATIC__SEEDS".to_owned(), value.to_owned()),
        ("MUSTER_API__LISTEN".to_owned(), value.to_owned()),
    ];
    let paths = ["b.conf".into(), "a.conf".into()];
    for env in [&env[..0], &env[..]] {
        match muster::config::load_with(&paths, env.iter().cloned(), &Fixed(text)) {
            Ok(loaded) => assert!(!format!("{loaded:?}").contains("hushhush")),
            Err(errors) => {
                assert!(!errors.errors.is_empty());
                assert!(!errors.to_string().contains("hushhush"), "{errors}");
            }
        }
    }
}

/// `ssl_dist.conf`: a mistake stands at a place that the text has.
pub fn ssl_dist(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Err(errors) = muster::mesh::tls::optfile::parse(text, "/etc/emqx") {
        assert!(!errors.is_empty());
        let lines = text.matches('\n').count() + 1;
        for error in errors {
            assert!((1..=lines).contains(&(error.pos.line as usize)), "{error}");
        }
    }
}
