use super::super::control::{self, Incoming};
use super::*;

fn name() -> NodeName {
    NodeName::parse("muster-emqx@127.0.0.1").unwrap()
}

fn frame(number: u32, call: &Call<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    put_call(&mut out, &name(), 7, number, call);
    let length = u32::from_be_bytes(*out.first_chunk().unwrap());
    assert_eq!(out.len(), length as usize + 4);
    out.split_off(4)
}

/// `{rex, Result}` to the process of that number.
fn reply(number: u32, result: &[u8]) -> Vec<u8> {
    let mut out = vec![PASS_THROUGH, VERSION];
    put_tuple(&mut out, 3);
    put_small(&mut out, SEND);
    put_atom(&mut out, "");
    put_pid(&mut out, "muster-emqx@127.0.0.1", number, 0, 7);
    out.push(VERSION);
    put_tuple(&mut out, 2);
    put_atom(&mut out, "rex");
    out.extend_from_slice(result);
    out
}

#[test]
fn a_call_is_what_a_c_node_sends() {
    let join = Call { module: "ekka", function: "join", arguments: &["emqx@127.0.0.2"] };
    let frame = frame(9, &join);
    let mut cursor = Cursor::new(&frame[1..]);
    cursor.version().unwrap();
    cursor.tuple_of(4).unwrap();
    assert_eq!(cursor.integer().unwrap(), 6);
    let from = cursor.pid().unwrap();
    assert_eq!(cursor.atom().unwrap(), b"");
    assert_eq!(cursor.atom().unwrap(), b"rex");
    cursor.version().unwrap();
    cursor.tuple_of(2).unwrap();
    assert_eq!(cursor.pid().unwrap(), from);
    cursor.tuple_of(5).unwrap();
    for atom in ["call", "ekka", "join"] {
        assert_eq!(cursor.atom().unwrap(), atom.as_bytes());
    }
    assert_eq!(cursor.list().unwrap(), 1);
    assert_eq!(cursor.atom().unwrap(), b"emqx@127.0.0.2");
    assert_eq!(cursor.list().unwrap(), 0);
    assert_eq!(cursor.atom().unwrap(), b"user");
    assert!(cursor.is_empty());
    // To another agent it is nothing.
    assert_eq!(control::parse(&frame), Incoming::Ignored("other_name"));
}

#[test]
fn a_call_without_arguments_has_the_empty_list() {
    let info = Call { module: "ekka", function: "info", arguments: &[] };
    let frame = frame(1, &info);
    assert!(frame.ends_with(b"\x77\x04info\x6a\x77\x04user"), "{frame:?}");
}

#[test]
fn an_answer_says_which_call_it_is_for() {
    let ok = b"\x77\x02ok";
    assert_eq!(parse_reply(&reply(9, ok)), Some(Reply { number: 9, result: ok }));
    let mut longer = reply(9, ok);
    longer.push(106);
    assert_eq!(parse_reply(&longer), None);
    for end in 0..reply(9, ok).len() {
        assert_eq!(parse_reply(&reply(9, ok)[..end]), None);
    }
    let question = frame(1, &Call { module: "m", function: "f", arguments: &[] });
    assert_eq!(parse_reply(&question), None);
    // A message of anybody else's to that process.
    let other = reply(9, ok);
    let at = other.windows(3).position(|bytes| bytes == b"rex").unwrap();
    let mut other = other;
    other[at] = b'R';
    assert_eq!(parse_reply(&other), None);
}
