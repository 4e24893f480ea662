//! What the fuzz targets run, one function a target: foreign bytes in, no panic, and
//! what must hold of any bytes asserted. `tests/it/fuzz_corpus.rs` runs the same
//! functions over the corpora.
#![allow(dead_code, unreachable_pub, reason = "every target uses one of these")]

/// A target's function.
pub type Entry = fn(&[u8]);

/// Every target by the name of its corpus.
pub const ENTRIES: &[(&str, Entry)] = &[("ssl_dist", ssl_dist)];

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
