//! Every fuzz target's corpus through the function that the target runs.

use std::path::Path;

#[path = "../../fuzz/entries.rs"]
mod entries;

#[test]
fn every_corpus_passes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, entry) in entries::ENTRIES {
        let mut inputs = 0;
        for file in std::fs::read_dir(root.join(name)).unwrap() {
            let path = file.unwrap().path();
            println!("{}", path.display());
            entry(&std::fs::read(path).unwrap());
            inputs += 1;
        }
        assert!(inputs >= 3, "{name} has {inputs} inputs");
    }
    let corpora = std::fs::read_dir(root).unwrap().count();
    assert_eq!(corpora, entries::ENTRIES.len(), "a corpus without a target");
}

/// A byte changed, cut or doubled anywhere in any input: what a fuzzer tries first.
#[test]
fn neighbours_of_every_corpus_pass() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, entry) in entries::ENTRIES {
        for file in std::fs::read_dir(root.join(name)).unwrap() {
            let whole = std::fs::read(file.unwrap().path()).unwrap();
            // Some hundred places an input: the rest is left to the fuzzer.
            for at in (0..whole.len()).step_by(whole.len() / 100 + 1) {
                entry(&whole[..at]);
                let mut changed = whole.clone();
                for byte in [0, 0xff, whole[at].wrapping_add(1), whole[at] ^ 0x80] {
                    changed[at] = byte;
                    entry(&changed);
                }
                changed[at] = whole[at];
                changed.insert(at, whole[at]);
                entry(&changed);
            }
        }
    }
}

/// Seeds that stop at the first field would prove nothing.
#[test]
fn the_seeds_get_through() {
    use muster::protocol::dist::control::{Incoming, parse};
    use muster::protocol::membership::Message;
    let read = |path: &str| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        std::fs::read(root.join(path)).unwrap()
    };
    for seed in ["done", "second_cookie", "old_name", "alive", "otp25"] {
        let done = entries::accept(&read(&format!("handshake_accept/{seed}")));
        assert_eq!(done, seed != "otp25", "accepting: {seed}");
    }
    for seed in ["done", "simultaneous", "alive", "unproven"] {
        let done = entries::dial(&read(&format!("handshake_dial/{seed}")));
        assert_eq!(done, seed != "unproven", "dialling: {seed}");
    }
    for seed in ["control/is_auth", "control/is_auth_alias"] {
        assert!(matches!(parse(&read(seed)), Incoming::IsAuth(_)), "{seed}");
    }
    assert_eq!(parse(&read("control/payload")), Incoming::Payload(b"hello"));
    let hello = read("membership/hello");
    assert!(matches!(Message::decode(&hello[2..]), Ok(Message::Hello(_))));
}
