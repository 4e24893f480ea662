use proptest::prelude::*;

use super::super::term::{put_atom, put_pid, put_small, put_tuple};
use super::*;

fn name() -> NodeName {
    NodeName::parse("a@h.io").unwrap()
}

/// A frame without its length: a REG_SEND to `to` of the term that `message` writes.
fn reg_send(to: &str, message: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = vec![PASS_THROUGH, VERSION];
    put_tuple(&mut out, 4);
    put_small(&mut out, REG_SEND);
    put_pid(&mut out, "e@h.io", 90, 0, 5);
    put_atom(&mut out, "");
    put_atom(&mut out, to);
    out.push(VERSION);
    message(&mut out);
    out
}

fn gen_call(out: &mut Vec<u8>, label: &str, question: &str) {
    put_tuple(out, 3);
    put_atom(out, label);
    put_tuple(out, 2);
    put_pid(out, "e@h.io", 91, 0, 5);
    // OTP's tag: [alias | Ref].
    out.extend_from_slice(&[108, 0, 0, 0, 1]);
    put_atom(out, "alias");
    out.extend_from_slice(&[90, 0, 1]);
    put_atom(out, "e@h.io");
    out.extend_from_slice(&[0, 0, 0, 5, 0, 0, 0, 1]);
    put_tuple(out, 2);
    put_atom(out, question);
    put_atom(out, "e@h.io");
}

#[test]
fn a_message_is_read_back() {
    let encoder = Encoder::new(&name(), 3);
    let mut out = Vec::new();
    assert!(encoder.message(&mut out, b"hello", 1000));
    assert_eq!(out.len(), encoder.framed_len(5));
    let length = u32::from_be_bytes(*out.first_chunk().unwrap());
    assert_eq!(usize::try_from(length).unwrap(), out.len() - 4);
    assert_eq!(parse(&out[4..]), Incoming::Payload(b"hello"));
    assert_eq!(parse(&out[4..out.len() - 1]), Incoming::Ignored("malformed"));
}

#[test]
fn a_message_beyond_the_cap_is_not_begun() {
    let encoder = Encoder::new(&name(), 3);
    let max = encoder.framed_len(5) - 4;
    let mut out = Vec::new();
    assert!(!encoder.message(&mut out, b"hello!", max));
    assert!(out.is_empty());
    assert!(encoder.message(&mut out, b"hello", max));
}

#[test]
fn is_auth_is_answered_in_its_own_terms() {
    let frame = reg_send("net_kernel", |out| gen_call(out, "$gen_call", "is_auth"));
    let Incoming::IsAuth(question) = parse(&frame) else { panic!("{:?}", parse(&frame)) };
    let mut out = b"before".to_vec();
    put_yes(&mut out, &question);
    assert!(out.len() - 6 <= question.answer_len());
    let length = u32::from_be_bytes(*out[6..].first_chunk().unwrap());
    assert_eq!(usize::try_from(length).unwrap(), out.len() - 10);
    let mut cursor = Cursor::new(&out[11..]);
    cursor.version().unwrap();
    cursor.tuple_of(3).unwrap();
    assert_eq!(cursor.integer(), Ok(2));
    assert_eq!(cursor.atom(), Ok(&b""[..]));
    assert_eq!(cursor.pid(), Ok(question.from));
    cursor.version().unwrap();
    cursor.tuple_of(2).unwrap();
    assert_eq!(cursor.skip(), Ok(question.tag));
    assert_eq!(cursor.atom(), Ok(&b"yes"[..]));
    assert!(cursor.is_empty());
}

#[test]
fn the_rest_is_ignored_by_kind() {
    let cases: [(&str, Vec<u8>); 7] = [
        ("other_name", reg_send("rex", |out| put_atom(out, "x"))),
        ("other_name", reg_send("net_kernel", |out| gen_call(out, "$gen_cast", "is_auth"))),
        ("other_name", reg_send("net_kernel", |out| gen_call(out, "$gen_call", "spawn"))),
        ("malformed", reg_send("muster", |out| put_atom(out, "no_binary"))),
        ("malformed", reg_send("muster", |out| out.extend_from_slice(&[109, 255, 255, 255, 255]))),
        // A distribution header, which was not offered.
        ("malformed", vec![131, 68, 0]),
        ("malformed", vec![]),
    ];
    for (why, frame) in cases {
        assert_eq!(parse(&frame), Incoming::Ignored(why), "{frame:?}");
    }
    let mut monitor = vec![PASS_THROUGH, VERSION];
    put_tuple(&mut monitor, 4);
    put_small(&mut monitor, 19);
    assert_eq!(parse(&monitor), Incoming::Ignored("control"));
}

proptest! {
    #[test]
    fn arbitrary_frames_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _answer = parse(&bytes);
        let _answer = parse(&[&[PASS_THROUGH, VERSION][..], &bytes].concat());
        let to_us = reg_send("net_kernel", |out| out.extend_from_slice(&bytes));
        let _answer = parse(&to_us);
    }

    #[test]
    fn every_payload_arrives(payload in prop::collection::vec(any::<u8>(), 0..2000)) {
        let encoder = Encoder::new(&name(), u32::MAX);
        let mut out = Vec::new();
        prop_assert!(encoder.message(&mut out, &payload, 1 << 20));
        prop_assert_eq!(parse(&out[4..]), Incoming::Payload(&payload));
    }
}
