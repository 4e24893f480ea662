use proptest::prelude::*;

use super::super::control::Encoder;
use super::*;
use crate::node::NodeName;

const TIMES: LinkTimes =
    LinkTimes { tick: Duration::from_secs(15), silence: Duration::from_secs(60) };

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn link() -> Link {
    Link::new(TIMES, 1000, &[], at(0))
}

fn message(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    assert!(Encoder::new(&NodeName::parse("a@h.io").unwrap(), 1).message(&mut out, payload, 9999));
    out
}

fn events(link: &mut Link) -> Vec<Event> {
    std::iter::from_fn(|| link.poll().unwrap()).collect()
}

#[test]
fn a_quiet_link_ticks_and_a_busy_one_does_not() {
    let mut link = link();
    assert_eq!(link.next_deadline(), at(15));
    link.handle_timeout(at(14)).unwrap();
    assert!(link.transmit().is_empty());
    link.handle_timeout(at(15)).unwrap();
    assert_eq!(link.transmit(), TICK);
    assert_eq!(link.next_deadline(), at(30));
    link.sent(at(29));
    assert_eq!(link.next_deadline(), at(44));
    link.handle_timeout(at(30)).unwrap();
    assert!(link.transmit().is_empty());
}

#[test]
fn silence_ends_the_link_and_any_byte_breaks_it() {
    let mut link = link();
    link.sent(at(50));
    assert_eq!(link.next_deadline(), at(60));
    assert_eq!(link.handle_timeout(at(60)), Err(LinkError::Silent(at(60))));
    link.handle(&[0], at(59));
    link.handle_timeout(at(60)).unwrap();
    link.sent(at(118));
    assert_eq!(link.next_deadline(), at(119));
    assert_eq!(link.handle_timeout(at(119)), Err(LinkError::Silent(at(60))));
}

#[test]
fn unsent_ticks_do_not_pile_up() {
    let mut link = link();
    for second in 1..59 {
        link.handle(&TICK, at(second));
        link.handle_timeout(at(second)).unwrap();
    }
    assert_eq!(link.transmit(), TICK);
}

#[test]
fn what_follows_the_handshake_counts() {
    let mut link = Link::new(TIMES, 1000, &message(b"early"), at(0));
    assert_eq!(events(&mut link), [Event::Payload(b"early".to_vec())]);
}

#[test]
fn frames_beyond_the_cap_end_the_link() {
    let mut link = link();
    link.handle(&[0xff; 4], at(1));
    let error = LinkError::TooLong(TooLong { length: u32::MAX, max: 1000 });
    assert_eq!(link.poll(), Err(error));
    assert_eq!(link.poll(), Err(error));
}

#[test]
fn answers_that_nobody_reads_are_bounded() {
    let mut link = link();
    let frame = is_auth();
    for _ in 0..1000 {
        link.handle(&frame, at(1));
        link.poll().unwrap();
    }
    let out = link.transmit();
    assert!(!out.is_empty() && out.len() <= MAX_UNSENT, "{}", out.len());
    link.handle(&frame, at(1));
    assert_eq!(link.poll(), Ok(None));
    assert!(!link.transmit().is_empty());
}

/// The question of `net_adm:ping/1`, as OTP 25 was seen to ask it.
fn is_auth() -> Vec<u8> {
    use super::super::term::{put_atom, put_pid, put_small, put_tuple};
    let mut out = vec![112, 131];
    put_tuple(&mut out, 4);
    put_small(&mut out, 6);
    put_pid(&mut out, "e@h.io", 9, 0, 5);
    put_atom(&mut out, "");
    put_atom(&mut out, "net_kernel");
    out.push(131);
    put_tuple(&mut out, 3);
    put_atom(&mut out, "$gen_call");
    put_tuple(&mut out, 2);
    put_pid(&mut out, "e@h.io", 9, 0, 5);
    put_atom(&mut out, "tag");
    put_tuple(&mut out, 2);
    put_atom(&mut out, "is_auth");
    put_atom(&mut out, "e@h.io");
    let length = u32::try_from(out.len()).unwrap().to_be_bytes();
    [&length[..], &out].concat()
}

proptest! {
    #[test]
    fn arbitrary_bytes_end_in_an_answer(
        pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 0..20),
    ) {
        let mut link = Link::new(TIMES, 200, &[], at(0));
        for piece in pieces {
            link.handle(&piece, at(1));
            while let Ok(Some(_)) = link.poll() {}
            prop_assert!(link.transmit().len() <= MAX_UNSENT);
        }
    }

    /// Payloads, ticks, questions and foreign frames in any order and any pieces.
    #[test]
    fn payloads_arrive_in_order_between_anything(
        kinds in prop::collection::vec(0..4u8, 0..40),
        cut in 1..97usize,
    ) {
        let (mut stream, mut expected) = (Vec::new(), Vec::new());
        for (number, kind) in kinds.iter().enumerate() {
            match kind {
                0 => {
                    let payload = number.to_string().into_bytes();
                    stream.extend(message(&payload));
                    expected.push(payload);
                }
                1 => stream.extend(TICK),
                2 => stream.extend(is_auth()),
                _ => stream.extend([0, 0, 0, 1, 9]),
            }
        }
        let mut link = link();
        let mut got = Vec::new();
        for piece in stream.chunks(cut) {
            link.handle(piece, at(1));
            got.extend(events(&mut link).into_iter().filter_map(|event| match event {
                Event::Payload(payload) => Some(payload),
                Event::Ignored(_) => None,
            }));
            let _answers = link.transmit();
        }
        prop_assert_eq!(got, expected);
    }
}
