//! The codec: what it writes it reads, and nothing else.

use proptest::prelude::*;

use super::*;

fn keys(cookies: &[&str]) -> Keys {
    Keys::new(&cookies.iter().map(|cookie| Secret::new(*cookie)).collect::<Vec<_>>())
}

fn sample() -> Datagram {
    Datagram {
        kind: Kind::Announce,
        cluster: "emqxcl".into(),
        node: NodeName::parse("emqx@10.0.0.1").unwrap(),
        boot: BootId(0x0102_0304_0506_0708),
        sequence: 9,
    }
}

/// The layout, and the seal as `openssl dgst -sha256 -hmac` computes it.
#[test]
fn the_bytes_on_the_wire_do_not_change() {
    let bytes = sample().encode(&keys(&["a cookie of the tests"])).unwrap();
    let (text, seal) = bytes.split_at(bytes.len() - 32);
    let mut expected = b"MSTR\x01\x01\x06\x0demqxclemqx@10.0.0.1".to_vec();
    expected.extend([1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 9]);
    assert_eq!(text, expected);
    let hex: String = seal.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, SEAL_OF_SAMPLE);
}

const SEAL_OF_SAMPLE: &str = "77ee641c026c74a246237f9a398d5d4335981a4e21e28a6925ea820abcc939e7";

#[test]
fn any_cookie_is_accepted_and_the_first_seals() {
    let bytes = sample().encode(&keys(&["old"])).unwrap();
    assert_eq!(Datagram::decode(&bytes, &keys(&["new", "old"])), Ok(sample()));
    assert_eq!(Datagram::decode(&bytes, &keys(&["new"])), Err(Reject::Unsigned));
    assert_eq!(Datagram::decode(&bytes, &keys(&[])), Err(Reject::Unsigned));
    let bytes = sample().encode(&keys(&["new", "old"])).unwrap();
    assert_eq!(Datagram::decode(&bytes, &keys(&["old"])), Err(Reject::Unsigned));
    assert_eq!(sample().encode(&keys(&[])), None);
}

#[test]
fn the_longest_names_fit_and_longer_ones_are_not_sent() {
    let host = ["h".repeat(60).as_str(); 4].join(".");
    let node = NodeName::parse(&format!("{}@{host}", "n".repeat(254 - host.len()))).unwrap();
    assert_eq!(node.as_str().len(), MAX_NODE_NAME);
    let mut longest = Datagram { cluster: "c".repeat(255), node, ..sample() };
    let bytes = longest.encode(&keys(&["k"])).unwrap();
    assert_eq!(bytes.len(), MAX_DATAGRAM);
    assert_eq!(Datagram::decode(&bytes, &keys(&["k"])), Ok(longest.clone()));
    longest.cluster.push('c');
    assert_eq!(longest.encode(&keys(&["k"])), None);
}

#[test]
fn a_right_seal_does_not_excuse_a_wrong_body() {
    let keys = keys(&["k"]);
    let good = sample().encode(&keys).unwrap();
    let text = &good[..good.len() - SEAL];
    let resealed = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut text = text.to_vec();
        change(&mut text);
        let seal = keys.seal(&text).unwrap();
        text.extend(seal);
        Datagram::decode(&text, &keys)
    };
    assert_eq!(resealed(&|_| {}), Ok(sample()));
    assert_eq!(resealed(&|text| text[4] = 2), Err(Reject::Version));
    assert_eq!(resealed(&|text| text[5] = 0), Err(Reject::Malformed));
    assert_eq!(resealed(&|text| text[6] = 255), Err(Reject::Malformed));
    assert_eq!(resealed(&|text| text[7] -= 1), Err(Reject::Malformed));
    assert_eq!(resealed(&|text| text[8] = 0xff), Err(Reject::Malformed));
    assert_eq!(resealed(&|text| text[19] = b'@'), Err(Reject::Malformed));
    assert_eq!(resealed(&|text| text.push(0)), Err(Reject::Malformed));
    assert_eq!(resealed(&|text| text.truncate(8)), Err(Reject::Malformed));
}

fn datagrams() -> impl proptest::strategy::Strategy<Value = Datagram> {
    let kind = prop_oneof![Just(Kind::Announce), Just(Kind::Answer), Just(Kind::Goodbye)];
    let node = "[a-z][a-z0-9_-]{0,20}@[a-z]{1,9}\\.[a-z]{1,9}";
    (kind, ".{0,60}", node, any::<u64>(), any::<u64>()).prop_map(
        |(kind, cluster, node, boot, sequence)| Datagram {
            kind,
            cluster,
            node: NodeName::parse(&node).unwrap(),
            boot: BootId(boot),
            sequence,
        },
    )
}

proptest! {
    #[test]
    fn what_is_written_is_read(datagram in datagrams(), cookie in ".{1,40}") {
        let keys = keys(&[&cookie]);
        let bytes = datagram.encode(&keys).unwrap();
        prop_assert!(bytes.len() <= MAX_DATAGRAM);
        prop_assert_eq!(Datagram::decode(&bytes, &keys), Ok(datagram));
    }

    #[test]
    fn no_single_damaged_bit_passes(datagram in datagrams(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let keys = keys(&["k"]);
        let mut bytes = datagram.encode(&keys).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        prop_assert!(Datagram::decode(&bytes, &keys).is_err());
    }

    #[test]
    fn any_bytes_are_rejected_and_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..700)) {
        prop_assert!(Datagram::decode(&bytes, &keys(&["k"])).is_err());
    }

    #[test]
    fn any_sealed_bytes_never_panic(body in prop::collection::vec(any::<u8>(), 0..600)) {
        let keys = keys(&["k"]);
        let mut bytes = b"MSTR\x01".to_vec();
        bytes.extend(body);
        let seal = keys.seal(&bytes).unwrap();
        bytes.extend(seal);
        if let Ok(datagram) = Datagram::decode(&bytes, &keys) {
            prop_assert_eq!(datagram.encode(&keys), Some(bytes));
        }
    }
}
