//! Agents of two releases in one cluster: what each protocol version looks like on the wire
//! is kept in `tests/data/wire`, one folder a version and one message a file, and never
//! changes. The second folder has what version 2 says otherwise than version 1.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use minicbor::Decoder;
use minicbor::data::Type;
use muster::attributes::{Attributes, Broker, BrokerStatus, Tags};
use muster::node::{BootId, ClusterId, Incarnation, LinkId, NodeName, Role};
use muster::protocol::membership::{
    Ask, BUCKETS, BUCKETS_V1, ByeCode, Durable, Effect, Epoch, Health, Hello, Intent, Limits,
    Membership, Message, Note, PROTOCOL, PROTOCOL_MIN, Reason, Record, Settings, Standing, Timing,
};

const LINK: LinkId = LinkId(1);
const NOW: Duration = Duration::from_millis(1);

fn name(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

fn record(node: &str) -> Record {
    Record {
        node: name(node),
        epoch: Epoch(2),
        standing: Standing::Member(Health::Up),
        incarnation: Incarnation(3),
        boot: BootId(0x0102_0304_0506_0708),
        role: Role::Core,
        reason: Some(Reason::Announced),
        by: name(node),
        version: "0.1.0".to_owned(),
        attributes: None,
        burial: 0,
    }
}

/// A record of every standing, health and reason, and of either role.
fn records() -> Vec<Record> {
    let standings = [
        (Standing::Member(Health::Unknown), Some(Reason::Unseen)),
        (Standing::Member(Health::Up), Some(Reason::Announced)),
        (Standing::Member(Health::Up), Some(Reason::Refuted)),
        (Standing::Member(Health::Up), Some(Reason::Restarted)),
        (Standing::Member(Health::Suspect), Some(Reason::Silent)),
        (Standing::Member(Health::Down), Some(Reason::Refused)),
        (Standing::Member(Health::Down), Some(Reason::Unrefuted)),
        (Standing::Member(Health::Down), Some(Reason::Stopped)),
        (Standing::Left, Some(Reason::Left)),
        (Standing::ForceLeft, Some(Reason::ForceLeft)),
        (Standing::Autocleaned, Some(Reason::Autocleaned)),
        (Standing::Left, Some(Reason::Other)),
        (Standing::Left, None),
    ];
    let of = |(index, (standing, reason))| Record {
        standing,
        reason,
        role: if index % 2 == 0 { Role::Core } else { Role::Replicant },
        by: name("emqx9@::1"),
        ..record(&format!("emqx{index}@h{index}.example.org"))
    };
    standings.into_iter().enumerate().map(of).collect()
}

fn hello(protocol_min: u16, protocol: u16) -> Hello {
    Hello {
        protocol_min,
        protocol,
        cluster: "emqxcl".to_owned(),
        id: Some(ClusterId(0x00ff_0000_0000_0000_0000_0000_0000_0007)),
        automatic: true,
        intent: Intent::Meet,
        me: record("emqx2@127.0.0.1"),
        you: Some(record("emqx1@127.0.0.1")),
        view_v1: u64::MAX,
        view: (protocol > 1).then_some(7),
    }
}

/// A record with everything that version 2 adds.
fn described(broker: Option<Broker>) -> Record {
    let mut tags = Tags::default();
    tags.insert("zone", "eu-1").unwrap();
    tags.insert("id", "\u{e9}").unwrap();
    let attributes = Attributes { tags, draining: Some("disk".to_owned()), broker };
    Record { attributes: Some(Arc::new(attributes)), ..record("emqx3@10.0.0.3") }
}

/// What version 2 says otherwise, by the name of its file.
fn messages_v2() -> Vec<(String, Message)> {
    let broker = |status| {
        let (address, detail) = ("[::1]:1883".to_owned(), "refused".to_owned());
        Some(Broker { address, status, detail })
    };
    let buried = Record {
        standing: Standing::ForceLeft,
        reason: Some(Reason::ForceLeft),
        burial: 41,
        ..record("emqx4@10.0.0.4")
    };
    let news = vec![
        described(None),
        described(broker(BrokerStatus::Unknown)),
        described(broker(BrokerStatus::Up)),
        described(broker(BrokerStatus::Down)),
        Record { reason: Some(Reason::Updated), ..record("emqx5@10.0.0.5") },
        buried,
    ];
    let hello = Hello { me: described(None), ..hello(1, 2) };
    let messages = [
        ("hello", Message::Hello(Box::new(hello))),
        ("gossip", Message::Gossip { id: None, news: news.clone() }),
        ("digest", Message::Digest { buckets: (0..BUCKETS as u64).map(|n| n << 50).collect() }),
        ("sync", Message::Sync { records: news, want: vec![0, 23, 24, 255], ask: Some(Ask::More) }),
        ("sync_whole", Message::Sync { records: vec![], want: vec![], ask: Some(Ask::Whole) }),
        ("sync_parts", Message::Sync { records: vec![], want: vec![7], ask: Some(Ask::Parts) }),
        ("purge", Message::Purge { id: 1 << 63, brought_by: name("emqx6@10.0.0.6") }),
    ];
    messages.into_iter().map(|(file, message)| (file.to_owned(), message)).collect()
}

/// Every kind of message, and every value of its parts, by the name of its file.
fn messages() -> Vec<(String, Message)> {
    let id = Some(ClusterId(1 << 127));
    let mut messages = vec![
        ("hello_meet", Message::Hello(Box::new(hello(1, 1)))),
        (
            "hello_join",
            Message::Hello(Box::new(Hello {
                intent: Intent::Join,
                id: None,
                you: None,
                automatic: false,
                ..hello(1, 1)
            })),
        ),
        ("hello_invite", Message::Hello(Box::new(Hello { intent: Intent::Invite, ..hello(1, 1) }))),
        ("bye_unknown", Message::Bye { code: None, text: String::new() }),
        ("ping", Message::Ping { seq: 300, view: 7, wanted: true, id, news: vec![] }),
        ("ping_news", Message::Ping { seq: 1, view: 0, wanted: false, id: None, news: records() }),
        ("ack", Message::Ack { seq: u64::MAX, view: 1 << 40, wanted: true, news: vec![] }),
        ("ack_news", Message::Ack { seq: 0, view: 0, wanted: false, news: records() }),
        ("ping_req", Message::PingReq { seq: 5, target: name("emqx3@10.0.0.3") }),
        ("ping_reply", Message::PingReply { seq: 5, target: name("emqx3@fe80::1"), alive: false }),
        ("gossip", Message::Gossip { id, news: records() }),
        ("digest", Message::Digest { buckets: (0..BUCKETS_V1 as u64).map(|n| n << 50).collect() }),
        ("sync", Message::Sync { records: records(), want: vec![0, 23, 24, 63], ask: None }),
        ("view", Message::View { view: 99, id }),
    ];
    let codes = [
        ("bye_version", ByeCode::Version),
        ("bye_cluster_name", ByeCode::ClusterName),
        ("bye_cluster_id", ByeCode::ClusterId),
        ("bye_left", ByeCode::Left),
        ("bye_name_conflict", ByeCode::NameConflict),
        ("bye_autoheal_off", ByeCode::AutohealOff),
        ("bye_stopping", ByeCode::Stopping),
        ("bye_idle", ByeCode::Idle),
        ("bye_duplicate", ByeCode::Duplicate),
        ("bye_refused", ByeCode::Other),
        ("bye_removed", ByeCode::Removed),
    ];
    let bye = |code| Message::Bye { code: Some(code), text: "in words".to_owned() };
    messages.extend(codes.map(|(file, code)| (file, bye(code))));
    messages.into_iter().map(|(file, message)| (file.to_owned(), message)).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<_> = text.chars().filter(char::is_ascii_hexdigit).collect();
    let byte = |pair: &[char]| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap();
    digits.chunks(2).map(byte).collect()
}

fn folder(version: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/wire")).join(version)
}

fn kept(version: &str, file: &str) -> Vec<u8> {
    let path = folder(version).join(format!("{file}.hex"));
    unhex(&std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())))
}

/// Whether a reader of `old` understands `new`: all that was there is there, and arrays
/// may have more behind it, which the reader skips.
fn understands(old: &mut Decoder<'_>, new: &mut Decoder<'_>) -> bool {
    if old.datatype().unwrap() != Type::Array || new.datatype().unwrap() != Type::Array {
        let (from_old, from_new) = (old.position(), new.position());
        old.skip().unwrap();
        new.skip().unwrap();
        return old.input()[from_old..old.position()] == new.input()[from_new..new.position()];
    }
    let (few, many) = (old.array().unwrap().unwrap(), new.array().unwrap().unwrap());
    let same = few <= many && (0..few).all(|_| understands(old, new));
    (few..many).for_each(|_| new.skip().unwrap());
    same
}

#[test]
fn every_version_is_read_as_it_was_written() {
    for (version, messages) in [("v1", messages()), ("v2", messages_v2())] {
        for (file, message) in &messages {
            let bytes = kept(version, file);
            assert_eq!(Message::decode(&bytes).as_ref(), Ok(message), "{version}/{file}");
        }
        // None is forgotten, none too many.
        let mut files: Vec<_> = std::fs::read_dir(folder(version))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut expected: Vec<_> = messages.iter().map(|(file, _)| format!("{file}.hex")).collect();
        expected.sort();
        assert_eq!(files, expected);
    }
}

#[test]
fn what_is_written_today_is_understood_by_every_version() {
    for (version, messages) in [("v1", messages()), ("v2", messages_v2())] {
        for (file, message) in messages {
            let (old, new) = (kept(version, &file), message.encode());
            let understood = understands(&mut Decoder::new(&old), &mut Decoder::new(&new));
            assert!(understood, "{version}/{file}: was {}, is {}", hex(&old), hex(&new));
        }
    }
    // What version 2 adds to a record is behind all that version 1 reads of one.
    let [old, new] = [record("emqx3@10.0.0.3"), described(None)]
        .map(|record| Message::Gossip { id: None, news: vec![record] }.encode());
    assert!(understands(&mut Decoder::new(&old), &mut Decoder::new(&new)));
    // The check itself: a field more passes, one less or another value does not.
    let [old, more, less, other] =
        ["820281182a", "820282182a01", "820280", "820281182b"].map(unhex);
    let check = |new: &[u8]| understands(&mut Decoder::new(&old), &mut Decoder::new(new));
    assert!(check(&old) && check(&more) && !check(&less) && !check(&other));
}

/// This release's machine with a link to `emqx2@127.0.0.1`, whose hello it awaits.
fn machine() -> Membership {
    let settings = Settings {
        node: name("emqx1@127.0.0.1"),
        boot: BootId(1),
        role: Role::Core,
        version: "0.1.0".to_owned(),
        cluster: "emqxcl".to_owned(),
        automatic: true,
        autoheal: true,
        autoclean: None,
        full_mesh_limit: 64,
        leave_on_stop: false,
        whole_view_limit: Settings::WHOLE_VIEW,
        limits: Limits::default(),
        timing: Timing::default(),
    };
    let mut machine = Membership::new(settings, Durable::default(), Duration::ZERO, 1);
    machine.handle_link_up(NOW, LINK, &name("emqx2@127.0.0.1"), false, None);
    machine
}

/// What the machine says to a frame, and what it notes.
fn answers(machine: &mut Membership, frame: &[u8]) -> (Vec<Message>, Vec<Note>, bool) {
    machine.handle_frame(NOW, LINK, frame);
    let (mut said, mut noted, mut closed) = (Vec::new(), Vec::new(), false);
    while let Some(effect) = machine.poll_effect() {
        match effect {
            Effect::Send(_, frame) => said.push(Message::decode(&frame).unwrap()),
            Effect::Note(note) => noted.push(note),
            Effect::Close(..) => closed = true,
            _ => {}
        }
    }
    (said, noted, closed)
}

fn is_answered(machine: &mut Membership) -> bool {
    let ping = Message::Ping { seq: 77, view: 0, wanted: true, id: None, news: vec![] };
    let (said, _, closed) = answers(machine, &ping.encode());
    !closed && said.iter().any(|message| matches!(message, Message::Ack { seq: 77, .. }))
}

/// An array of fewer than 23 fields that begins at `at` and ends the bytes, with one more
/// field, of a kind that nobody expects.
fn with_a_field_more(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    assert!((0x80..0x97).contains(&bytes[at]), "no short array at {at}");
    bytes[at] += 1;
    bytes.extend_from_slice(b"\xa1\x63new\x82\x01\xf6");
    bytes
}

/// Such an array with nothing in the fields that it lacks of those this release knows: so a
/// newer one fills what it leaves out in front of a field of its own.
fn filled(mut bytes: Vec<u8>, at: usize, known: u8) -> Vec<u8> {
    assert!((0x80..=0x80 + known).contains(&bytes[at]), "no array of up to {known} at {at}");
    bytes.extend((bytes[at]..0x80 + known).map(|_| 0xf6));
    bytes[at] = 0x80 + known;
    bytes
}

#[test]
fn releases_that_share_a_version_agree_on_it() {
    let newer = PROTOCOL + 1;
    let mut machine = machine();
    let greeting = std::iter::from_fn(|| machine.poll_effect());
    let mut frames = greeting.filter_map(|effect| match effect {
        Effect::Send(_, frame) => Some(frame),
        _ => None,
    });
    // What the newer one is told; it then speaks as we do.
    let Ok(Message::Hello(ours)) = Message::decode(&frames.next().unwrap()) else {
        panic!("no hello first");
    };
    assert_eq!((ours.protocol_min, ours.protocol), (PROTOCOL_MIN, PROTOCOL));
    assert!(ours.protocol_min <= PROTOCOL && ours.protocol < newer);
    drop(frames);
    let hello = Message::Hello(Box::new(hello(PROTOCOL, newer))).encode();
    // [0, [[fields of the hello]]], the newer one's with a field more.
    let (_, noted, closed) = answers(&mut machine, &with_a_field_more(hello, 3));
    assert!(!closed && noted.iter().all(|note| matches!(note, Note::Joined(_))), "{noted:?}");
    assert!(is_answered(&mut machine));
    let known = machine.table().members().any(|record| record.node == name("emqx2@127.0.0.1"));
    assert!(known, "the newer one is a member");
}

#[test]
fn releases_without_a_version_in_common_part_and_say_why() {
    for (min, max) in [(PROTOCOL + 1, PROTOCOL + 2), (0, PROTOCOL_MIN - 1)] {
        let mut machine = machine();
        let hello = Message::Hello(Box::new(hello(min, max))).encode();
        let (said, noted, closed) = answers(&mut machine, &hello);
        let bye = said.iter().find_map(|message| match message {
            Message::Bye { code, text } => Some((*code, text.clone())),
            _ => None,
        });
        let (code, text) = bye.expect("a bye");
        assert_eq!(code, Some(ByeCode::Version));
        assert!(text.contains(&format!("protocol versions {min} to {max}")), "{text}");
        let refused =
            |note: &Note| matches!(note, Note::Refusal { code: ByeCode::Version, ours: true, .. });
        assert!(noted.iter().any(refused), "{noted:?}");
        assert!(closed);
        assert!(machine.table().members().all(|record| record.node == name("emqx1@127.0.0.1")));
    }
}

#[test]
fn what_a_newer_release_adds_is_skipped_or_dropped_and_ends_no_link() {
    let mut machine = machine();
    let _hello = answers(&mut machine, &kept("v1", "hello_meet"));
    assert!(is_answered(&mut machine));

    // Fields at the end of any message.
    for (version, messages) in [("v1", messages()), ("v2", messages_v2())] {
        for (file, message) in messages {
            let mut bytes = kept(version, &file);
            if matches!(message, Message::Sync { .. }) {
                // Version 1 has two.
                bytes = filled(bytes, 2, 3);
            }
            let longer = with_a_field_more(bytes, 2);
            assert_eq!(Message::decode(&longer), Ok(message), "{version}/{file}");
        }
    }
    // Fields at the end of a record within one.
    let one = Message::Gossip { id: None, news: vec![record("emqx5@127.0.0.1")] };
    let bytes = one.encode();
    assert_eq!(bytes[..6], [0x82, 6, 0x82, 0xf6, 0x81, 0x89], "the layout this test builds on");
    let longer = with_a_field_more(filled(bytes.clone(), 5, 11), 5);
    assert_eq!(Message::decode(&longer), Ok(one));
    // A reason and a code that this release has no word for.
    let mut reason = bytes.clone();
    let behind = record("emqx5@127.0.0.1");
    let at = reason.len() - (2 + behind.by.as_str().len() + behind.version.len()) - 1;
    assert_eq!(reason[at], 1, "announced");
    reason[at] = 22;
    let Ok(Message::Gossip { news, .. }) = Message::decode(&reason) else { panic!("unreadable") };
    assert_eq!((news[0].reason, news[0].reason()), (None, Reason::Other));
    let code = Message::decode(b"\x82\x01\x82\x17\x63why");
    assert_eq!(code, Ok(Message::Bye { code: None, text: "why".to_owned() }));

    // A kind that this release has no word for, and a standing: the closed ones need a
    // version of their own.
    let standing: Vec<u8> = {
        let mut bytes = bytes;
        let at = bytes.iter().rposition(|byte| *byte == 0x82).unwrap();
        assert_eq!(bytes[at..at + 2], [0x82, 0], "a member");
        bytes[at + 1] = 17;
        bytes
    };
    for frame in [&b"\x82\x0b\x81\x01"[..], b"\x82\x18\xff\x80", &standing, b"", b"\xff"] {
        let (said, noted, closed) = answers(&mut machine, frame);
        assert!(said.is_empty() && !closed, "{frame:?}: {said:?}");
        assert!(matches!(noted[..], [Note::BadMessage(..)]), "{frame:?}: {noted:?}");
        assert!(is_answered(&mut machine), "{frame:?}");
    }
}
