use proptest::prelude::*;

use super::super::frame::TooLong;
use super::*;
use crate::node::NodeNameError;

const CHALLENGE: u32 = 0x0102_0304;

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

fn local(name: &str, cookies: &[&str]) -> Arc<Local> {
    let cookies = cookies.iter().map(|c| Secret::new(*c)).collect();
    Arc::new(Local { name: node(name), creation: 5, cookies })
}

fn acceptor() -> Handshake {
    Handshake::accept(Prefix::Two, local("b@h.io", &["c"]), CHALLENGE)
}

fn dialler() -> Handshake {
    let mut dialler =
        Handshake::dial(Prefix::Two, local("a@h.io", &["c"]), node("b@h.io"), CHALLENGE);
    assert_eq!(messages(&dialler.transmit()).len(), 1);
    dialler
}

fn framed(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_message(&mut out, Prefix::Two, message);
    out
}

fn messages(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk() {
        let (message, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        messages.push(message.to_vec());
        bytes = rest;
    }
    messages
}

fn new_name(name: &str, flags: u64) -> Vec<u8> {
    let mut message = vec![b'N'];
    message.extend_from_slice(&flags.to_be_bytes());
    message.extend_from_slice(&9u32.to_be_bytes());
    message.extend_from_slice(&u16::try_from(name.len()).unwrap().to_be_bytes());
    message.extend_from_slice(name.as_bytes());
    message
}

fn old_name(name: &str, flags: u32) -> Vec<u8> {
    [b"n\0\x05", &flags.to_be_bytes()[..], name.as_bytes()].concat()
}

fn challenge(name: &str, flags: u64, challenge: u32) -> Vec<u8> {
    let mut message = vec![b'N'];
    message.extend_from_slice(&flags.to_be_bytes());
    message.extend_from_slice(&challenge.to_be_bytes());
    message.extend_from_slice(&9u32.to_be_bytes());
    message.extend_from_slice(&u16::try_from(name.len()).unwrap().to_be_bytes());
    message.extend_from_slice(name.as_bytes());
    message
}

fn reply(cookie: &str, theirs: u32, ours: u32) -> Vec<u8> {
    [&b"r"[..], &theirs.to_be_bytes(), &digest(&Secret::new(cookie), ours)].concat()
}

fn feed(machine: &mut Handshake, message: &[u8]) -> Result<Option<Event>, HandshakeError> {
    machine.handle(&framed(message));
    machine.poll()
}

/// Runs two machines against each other, with the given pieces of bytes; their ends.
fn run(
    a: &mut Handshake,
    b: &mut Handshake,
    decision: Decision,
    wanted: bool,
    piece: usize,
) -> [Result<Option<Peer>, HandshakeError>; 2] {
    let mut ends = [Ok(None), Ok(None)];
    for _ in 0..20 {
        for side in 0..2 {
            let (from, to) = if side == 0 { (&mut *a, &mut *b) } else { (&mut *b, &mut *a) };
            let bytes = from.transmit();
            for piece in bytes.chunks(piece) {
                to.handle(piece);
                let end = &mut ends[1 - side];
                loop {
                    let answered = match to.poll() {
                        Ok(Some(Event::Named(_))) => to.decide(decision),
                        Ok(Some(Event::Alive)) => to.answer_alive(wanted),
                        Ok(Some(Event::Done(peer))) => {
                            *end = Ok(Some(peer));
                            Ok(())
                        }
                        Ok(None) => break,
                        Err(error) => Err(error),
                    };
                    if let Err(error) = answered {
                        *end = Err(error);
                    }
                }
            }
        }
    }
    ends
}

fn pair(a: &[&str], b: &[&str]) -> (Handshake, Handshake) {
    let dialler = Handshake::dial(Prefix::Two, local("a@h.io", a), node("b@h.io"), 1);
    (dialler, Handshake::accept(Prefix::Two, local("b@h.io", b), 2))
}

#[test]
fn md5_is_the_specifications() {
    // erl: erlang:md5("secret" ++ "12345").
    let expected = md5_of(b"secret12345");
    assert_eq!(digest(&Secret::new("secret"), 12345), expected);
}

fn md5_of(bytes: &[u8]) -> Digest {
    use md5::Digest as _;
    md5::Md5::digest(bytes).into()
}

#[test]
fn two_machines_agree() {
    for decision in [Decision::Ok, Decision::OkSimultaneous, Decision::Alive] {
        let (mut a, mut b) = pair(&["c"], &["c"]);
        let [at_a, at_b] = run(&mut a, &mut b, decision, true, 1000);
        let peer = |name| Peer { name: node(name), creation: 5, flags: flags::OFFERED };
        assert_eq!(at_a, Ok(Some(peer("b@h.io"))), "{decision:?}");
        assert_eq!(at_b, Ok(Some(peer("a@h.io"))), "{decision:?}");
        assert!(a.into_rest().is_empty() && b.into_rest().is_empty());
    }
}

#[test]
fn over_tls_lengths_are_four_bytes() {
    let mut a = Handshake::dial(Prefix::Four, local("a@h.io", &["c"]), node("b@h.io"), 1);
    let mut b = Handshake::accept(Prefix::Four, local("b@h.io", &["c"]), 2);
    let ends = run(&mut a, &mut b, Decision::Ok, true, 3);
    assert!(ends.iter().all(|end| matches!(end, Ok(Some(_)))), "{ends:?}");
    let mut b = Handshake::accept(Prefix::Four, local("b@h.io", &["c"]), 2);
    b.handle(&[0, 1, 0, 0]);
    let error = TooLong { length: 0x1_0000, max: MAX_MESSAGE };
    assert_eq!(b.poll(), Err(HandshakeError::TooLong(error)));
}

#[test]
fn refusals_reach_both() {
    use HandshakeError as E;
    let cases = [
        (Decision::Nok, true, E::Simultaneous, E::Simultaneous),
        (Decision::NotAllowed, true, E::NotAllowed, E::NotAllowed),
        (Decision::Alive, false, E::AlreadyUp, E::AlreadyUp),
    ];
    for (decision, wanted, at_a, at_b) in cases {
        let (mut a, mut b) = pair(&["c"], &["c"]);
        let ends = run(&mut a, &mut b, decision, wanted, 1000);
        assert_eq!(ends, [Err(at_a), Err(at_b)], "{decision:?}");
    }
}

#[test]
fn cookies_first_offered_any_accepted() {
    let good = |a: &[&str], b: &[&str]| {
        let (mut a, mut b) = pair(a, b);
        run(&mut a, &mut b, Decision::Ok, true, 7).map(|end| end.is_ok_and(|peer| peer.is_some()))
    };
    assert_eq!(good(&["c"], &["c"]), [true, true]);
    assert_eq!(good(&["new", "old"], &["old", "new"]), [true, true]);
    assert_eq!(good(&["old"], &["new", "old"]), [true, true]);
    // Only what is offered counts.
    assert_eq!(good(&["new", "old"], &["old"]), [false, false]);
    assert_eq!(good(&["c"], &["d"]), [false, false]);
}

#[test]
fn a_wrong_cookie_is_seen_by_the_acceptor_and_told_by_the_end() {
    let (mut a, mut b) = pair(&["x"], &["y"]);
    let [_, at_b] = run(&mut a, &mut b, Decision::Ok, true, 1000);
    assert_eq!(at_b, Err(HandshakeError::WrongCookie));
    assert!(b.transmit().is_empty());
    assert_eq!(a.closed(), HandshakeError::CookieRefused);
}

#[test]
fn the_acceptors_names() {
    use HandshakeError as E;
    let old = u32::try_from(flags::OFFERED & 0xffff_ffff).unwrap();
    let cases = [
        (new_name("a@h.io", flags::OFFERED), Ok(Some(Event::Named(node("a@h.io"))))),
        (new_name("a@h.io", flags::MANDATORY_25_DIGEST), Ok(Some(Event::Named(node("a@h.io"))))),
        (old_name("a@h.io", old), Ok(Some(Event::Named(node("a@h.io"))))),
        (old_name("a@h.io", 0x4), Err(E::OldVersion)),
        (new_name("a@h.io", 0x100_0000), Err(E::Flags(0x100_0000))),
        (new_name("b@h.io", flags::OFFERED), Err(E::OwnName)),
        (new_name("nobody", flags::OFFERED), Err(E::BadName(NodeNameError::At))),
        (new_name("a\n@h.io", flags::OFFERED), Err(E::BadName(NodeNameError::Name))),
        (new_name(&"x".repeat(300), flags::OFFERED), Err(E::BadName(NodeNameError::TooLong(300)))),
        (b"N".to_vec(), Err(E::Garbage("its name"))),
        (b"x".to_vec(), Err(E::Garbage("its name"))),
        (vec![], Err(E::Garbage("its name"))),
    ];
    for (message, expected) in cases {
        assert_eq!(feed(&mut acceptor(), &message), expected, "{message:?}");
    }
    // Bytes behind the name belong to a later version.
    let more = [new_name("a@h.io", flags::OFFERED), b"later".to_vec()].concat();
    assert!(feed(&mut acceptor(), &more).is_ok());
    // The refusals that the protocol has a word for.
    for name in [new_name("b@h.io", flags::OFFERED), new_name("a@h.io", 0x100_0000)] {
        let mut machine = acceptor();
        feed(&mut machine, &name).unwrap_err();
        assert_eq!(messages(&machine.transmit()), [b"snot_allowed"]);
    }
}

#[test]
fn an_old_name_is_completed() {
    let mut machine = acceptor();
    let old = u32::try_from(flags::OFFERED & 0xffff_ffff).unwrap();
    feed(&mut machine, &old_name("a@h.io", old)).unwrap();
    machine.decide(Decision::Ok).unwrap();
    assert_eq!(messages(&machine.transmit())[1][0], b'N');
    let complement = [&b"c"[..], &[0, 0, 0, 4], &[0, 0, 0, 9]].concat();
    assert_eq!(feed(&mut machine, &complement), Ok(None));
    let end = feed(&mut machine, &reply("c", 7, CHALLENGE)).unwrap();
    let flags = u64::from(old) | flags::V4_NC;
    assert_eq!(end, Some(Event::Done(Peer { name: node("a@h.io"), creation: 9, flags })));
    // Without the complement the reply comes where it is not due.
    let mut machine = acceptor();
    feed(&mut machine, &old_name("a@h.io", old)).unwrap();
    machine.decide(Decision::Ok).unwrap();
    let error = feed(&mut machine, &reply("c", 7, CHALLENGE)).unwrap_err();
    assert_eq!(error, HandshakeError::Garbage("the rest of its flags"));
}

#[test]
fn the_dialler_reads_every_status() {
    use HandshakeError as E;
    let cases: [(&[u8], _); 8] = [
        (b"sok", Ok(None)),
        (b"sok_simultaneous", Ok(None)),
        (b"snok", Err(E::Simultaneous)),
        (b"snot_allowed", Err(E::NotAllowed)),
        (b"salive", Ok(Some(Event::Alive))),
        (b"snamed:x", Err(E::Garbage("its status"))),
        (b"swhatever", Err(E::Garbage("its status"))),
        (b"N", Err(E::Garbage("its status"))),
    ];
    for (message, expected) in cases {
        assert_eq!(feed(&mut dialler(), message), expected, "{message:?}");
    }
}

#[test]
fn the_dialler_checks_who_answers_and_how() {
    use HandshakeError as E;
    let at_challenge = |message: &[u8]| {
        let mut machine = dialler();
        assert_eq!(feed(&mut machine, b"sok"), Ok(None));
        feed(&mut machine, message).map(|_| messages(&machine.transmit()))
    };
    let good = at_challenge(&challenge("b@h.io", flags::OFFERED, 77)).unwrap();
    assert_eq!(good, [reply("c", CHALLENGE, 77)]);
    let other = at_challenge(&challenge("x@h.io", flags::OFFERED, 77));
    assert_eq!(other, Err(E::OtherName(node("x@h.io"))));
    assert_eq!(at_challenge(&challenge("b@h.io", 0, 77)), Err(E::Flags(0)));
    assert_eq!(at_challenge(b"n\0\x05"), Err(E::OldVersion));
    assert_eq!(at_challenge(b"N\0"), Err(E::Garbage("its challenge")));

    let at_ack = |message: &[u8]| {
        let mut machine =
            Handshake::dial(Prefix::Two, local("a@h.io", &["c", "d"]), node("b@h.io"), CHALLENGE);
        feed(&mut machine, b"sok").unwrap();
        feed(&mut machine, &challenge("b@h.io", flags::OFFERED, 77)).unwrap();
        feed(&mut machine, message).map(|event| event.is_some())
    };
    let ack = |cookie| [&b"a"[..], &digest(&Secret::new(cookie), CHALLENGE)].concat();
    assert_eq!(at_ack(&ack("c")), Ok(true));
    assert_eq!(at_ack(&ack("d")), Err(E::UnprovenPeer));
    assert_eq!(at_ack(&ack("x")), Err(E::UnprovenPeer));
    // Our own digest, sent back.
    let reflected = [&b"a"[..], &digest(&Secret::new("c"), 77)].concat();
    assert_eq!(at_ack(&reflected), Err(E::UnprovenPeer));
    assert_eq!(at_ack(b"a"), Err(E::Garbage("its proof of the cookie")));
}

#[test]
fn a_digest_of_another_challenge_is_no_proof() {
    let mut machine = acceptor();
    feed(&mut machine, &new_name("a@h.io", flags::OFFERED)).unwrap();
    machine.decide(Decision::Ok).unwrap();
    let replayed = reply("c", 7, CHALLENGE - 1);
    assert_eq!(feed(&mut machine, &replayed), Err(HandshakeError::WrongCookie));
    // Over: even the right one is not read any more.
    assert_eq!(feed(&mut machine, &reply("c", 7, CHALLENGE)), Ok(None));
}

#[test]
fn nothing_is_read_before_the_drivers_word() {
    let mut machine = acceptor();
    machine.handle(&framed(&new_name("a@h.io", flags::OFFERED)));
    machine.handle(&framed(&reply("c", 7, CHALLENGE)));
    assert!(matches!(machine.poll(), Ok(Some(Event::Named(_)))));
    assert_eq!(machine.poll(), Ok(None));
    machine.decide(Decision::Ok).unwrap();
    assert!(matches!(machine.poll(), Ok(Some(Event::Done(_)))));
    // A second word changes nothing.
    let _status = machine.transmit();
    machine.decide(Decision::Nok).unwrap();
    machine.answer_alive(false).unwrap();
    assert!(machine.transmit().is_empty());
}

#[test]
fn the_end_of_the_connection_has_a_meaning_in_every_state() {
    assert_eq!(acceptor().closed(), HandshakeError::Closed("its name"));
    assert_eq!(dialler().closed(), HandshakeError::Closed("its status"));
    let mut machine = acceptor();
    feed(&mut machine, &new_name("a@h.io", flags::OFFERED)).unwrap();
    machine.decide(Decision::Alive).unwrap();
    assert_eq!(machine.closed(), HandshakeError::Closed("its word on the link that is up"));
    assert_eq!(feed(&mut machine, b"smaybe").unwrap_err().cause(), "garbage");
}

#[test]
fn messages_beyond_the_cap_are_refused_at_once() {
    let mut machine = acceptor();
    machine.handle(&[0xff, 0xff]);
    let error = machine.poll().unwrap_err();
    assert_eq!(error, HandshakeError::TooLong(TooLong { length: 0xffff, max: MAX_MESSAGE }));
}

#[test]
fn first_frames_behind_the_handshake_are_kept() {
    let (mut a, mut b) = pair(&["c"], &["c"]);
    b.handle(&a.transmit());
    b.poll().unwrap();
    b.decide(Decision::Ok).unwrap();
    a.handle(&b.transmit());
    a.poll().unwrap();
    b.handle(&a.transmit());
    assert!(matches!(b.poll(), Ok(Some(Event::Done(_)))));
    a.handle(&[b.transmit(), b"\0\0\0\0first".to_vec()].concat());
    assert!(matches!(a.poll(), Ok(Some(Event::Done(_)))));
    assert_eq!(a.into_rest(), b"\0\0\0\0first");
}

proptest! {
    #[test]
    fn pieces_change_nothing(piece in 1..90usize, alive in any::<bool>()) {
        let (mut a, mut b) = pair(&["c"], &["c"]);
        let decision = if alive { Decision::Alive } else { Decision::Ok };
        let ends = run(&mut a, &mut b, decision, true, piece);
        prop_assert!(ends.iter().all(|end| matches!(end, Ok(Some(_)))), "{:?}", ends);
    }

    #[test]
    fn arbitrary_bytes_never_prove_anything(
        bytes in prop::collection::vec(any::<u8>(), 0..600),
        valid_start in 0..3usize,
        dial in any::<bool>(),
    ) {
        let mut machine = if dial { dialler() } else { acceptor() };
        let start = if dial {
            vec![b"sok".to_vec(), challenge("b@h.io", flags::OFFERED, 3)]
        } else {
            vec![new_name("a@h.io", flags::OFFERED)]
        };
        for message in start.iter().take(valid_start) {
            machine.handle(&framed(message));
        }
        machine.handle(&bytes);
        for _ in 0..50 {
            match machine.poll() {
                Ok(Some(Event::Named(_))) => machine.decide(Decision::Ok).unwrap(),
                Ok(Some(Event::Alive)) => machine.answer_alive(true).unwrap(),
                Ok(Some(Event::Done(peer))) => prop_assert!(false, "{:?}", peer),
                Ok(None) | Err(_) => break,
            }
        }
    }
}
