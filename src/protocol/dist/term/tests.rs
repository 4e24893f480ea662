use proptest::prelude::*;

use super::*;

/// One term of each kind, as an Erlang node writes it.
fn every_term() -> Vec<Vec<u8>> {
    let node = [&[SMALL_ATOM_UTF8, 3][..], b"a@b"].concat();
    let with = |head: &[u8], tail: &[u8]| [head, &node, tail].concat();
    vec![
        vec![SMALL_INTEGER, 7],
        vec![INTEGER, 0, 0, 1, 0],
        [&[FLOAT][..], &[b'0'; 31]].concat(),
        [&[NEW_FLOAT][..], &[0; 8]].concat(),
        vec![NIL],
        vec![STRING, 0, 2, 1, 2],
        vec![ATOM, 0, 1, b'a'],
        vec![ATOM_UTF8, 0, 1, b'a'],
        vec![SMALL_ATOM, 1, b'a'],
        vec![SMALL_ATOM_UTF8, 1, b'a'],
        vec![BINARY, 0, 0, 0, 2, 1, 2],
        vec![BIT_BINARY, 0, 0, 0, 1, 3, 0xe0],
        vec![SMALL_BIG, 1, 0, 9],
        vec![LARGE_BIG, 0, 0, 0, 1, 0, 9],
        vec![SMALL_TUPLE, 2, NIL, NIL],
        vec![LARGE_TUPLE, 0, 0, 0, 1, NIL],
        vec![LIST, 0, 0, 0, 2, NIL, NIL, NIL],
        vec![MAP, 0, 0, 0, 1, NIL, NIL],
        vec![EXPORT, SMALL_ATOM, 1, b'm', SMALL_ATOM, 1, b'f', SMALL_INTEGER, 1],
        vec![NEW_FUN, 0, 0, 0, 6, 1, 2],
        with(&[PID], &[0; 9]),
        with(&[NEW_PID], &[0; 12]),
        with(&[PORT], &[0; 5]),
        with(&[NEW_PORT], &[0; 8]),
        with(&[V4_PORT], &[0; 12]),
        with(&[NEW_REFERENCE, 0, 2], &[0; 9]),
        with(&[NEWER_REFERENCE, 0, 3], &[0; 16]),
    ]
}

#[test]
fn every_kind_is_passed_over_whole() {
    for term in every_term() {
        let bytes = [&term[..], &[NIL]].concat();
        let mut cursor = Cursor::new(&bytes);
        assert_eq!(cursor.skip(), Ok(&term[..]), "{term:?}");
        assert_eq!(cursor.skip(), Ok(&[NIL][..]), "{term:?}");
        assert!(cursor.is_empty());
        for cut in 0..term.len() {
            let cut = Cursor::new(&term[..cut]).skip();
            assert_eq!(cut, Err(TermError::Truncated), "{term:?}");
        }
    }
}

#[test]
fn what_peers_choose_costs_nothing() {
    // Lengths of 4 GiB behind which nothing comes.
    for head in [BINARY, BIT_BINARY, LARGE_BIG, NEW_FUN] {
        let bytes = [head, 0xff, 0xff, 0xff, 0xff, 0, 0];
        assert_eq!(Cursor::new(&bytes).skip(), Err(TermError::Truncated));
    }
    for head in [LARGE_TUPLE, LIST, MAP] {
        let bytes = [head, 0xff, 0xff, 0xff, 0xff, NIL, NIL];
        assert_eq!(Cursor::new(&bytes).skip(), Err(TermError::TooMany));
    }
    // A million nested tuples: bounded work, and no stack.
    let deep = [SMALL_TUPLE, 1].repeat(1_000_000);
    assert_eq!(Cursor::new(&deep).skip(), Err(TermError::TooMany));
    let lists = [LIST, 0, 0, 0, 1].repeat(100_000);
    assert_eq!(Cursor::new(&lists).skip(), Err(TermError::TooMany));
}

#[test]
fn wrong_kinds_are_refused() {
    let nil = [NIL];
    assert_eq!(Cursor::new(&nil).atom(), Err(TermError::Unexpected));
    assert_eq!(Cursor::new(&nil).tuple(), Err(TermError::Unexpected));
    assert_eq!(Cursor::new(&nil).integer(), Err(TermError::Unexpected));
    assert_eq!(Cursor::new(&nil).binary(), Err(TermError::Unexpected));
    assert_eq!(Cursor::new(&nil).pid(), Err(TermError::Unexpected));
    assert_eq!(Cursor::new(&[]).pid(), Err(TermError::Truncated));
    assert_eq!(Cursor::new(&nil).version(), Err(TermError::UnknownTag(NIL)));
    assert_eq!(Cursor::new(&[SMALL_TUPLE, 2]).tuple_of(3), Err(TermError::Unexpected));
    // An atom cache reference: the cache was not offered.
    assert_eq!(Cursor::new(&[82, 0]).skip(), Err(TermError::UnknownTag(82)));
}

#[test]
fn what_is_written_is_read_back() {
    let mut out = vec![VERSION];
    put_tuple(&mut out, 4);
    put_small(&mut out, 6);
    put_atom(&mut out, "muster");
    put_pid(&mut out, "a@b.c", 1, 2, 3);
    put_binary_head(&mut out, 2);
    out.extend_from_slice(b"xy");
    let mut cursor = Cursor::new(&out);
    cursor.version().unwrap();
    cursor.tuple_of(4).unwrap();
    assert_eq!(cursor.integer(), Ok(6));
    assert_eq!(cursor.atom(), Ok(&b"muster"[..]));
    cursor.pid().unwrap();
    assert_eq!(cursor.binary(), Ok(&b"xy"[..]));
    assert!(cursor.is_empty());
}

proptest! {
    #[test]
    fn arbitrary_bytes_end_in_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut cursor = Cursor::new(&bytes);
        while let Ok(term) = cursor.skip() {
            prop_assert!(!term.is_empty());
        }
    }

    #[test]
    fn terms_in_a_list_are_passed_over_as_one(picks in prop::collection::vec(0..27usize, 0..50)) {
        let terms = every_term();
        let count = u8::try_from(picks.len()).unwrap();
        let mut bytes = vec![LIST, 0, 0, 0, count];
        bytes.extend(picks.iter().flat_map(|&pick| terms[pick].clone()));
        bytes.push(NIL);
        prop_assert_eq!(Cursor::new(&bytes).skip(), Ok(&bytes[..]));
    }
}
