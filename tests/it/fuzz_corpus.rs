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
            // Enough to meet every field of a message; long texts are left to the fuzzer.
            for at in 0..whole.len().min(512) {
                entry(&whole[..at]);
                let mut changed = whole.clone();
                for byte in [0, 0x7f, 0xff, whole[at].wrapping_add(1), whole[at] ^ 0x80] {
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
