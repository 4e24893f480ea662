//! What the fuzz targets run, one function a target: foreign bytes in, no panic, and
//! what must hold of any bytes asserted. `tests/it/fuzz_corpus.rs` runs the same
//! functions over the corpora.
#![allow(dead_code, unreachable_pub, reason = "every target uses one of these")]

use std::path::Path;

use muster::discovery::mcast::datagram::{Datagram, Keys};
use muster::secret::Secret;

/// A target's function.
pub type Entry = fn(&[u8]);

/// Every target by the name of its corpus.
pub const ENTRIES: &[(&str, Entry)] =
    &[("config", config), ("mcast", mcast), ("ssl_dist", ssl_dist)];

/// Multicast datagrams: as they come, and under the right seal, which no fuzzer finds.
/// What is understood is what its sender would have sent.
pub fn mcast(data: &[u8]) {
    use hmac::{Hmac, KeyInit, Mac};
    let cookie = "a cookie for fuzzing";
    let keys = Keys::new(&[Secret::new("another"), Secret::new(cookie)]);
    let _foreign = Datagram::decode(data, &keys);
    let Ok(mac) = Hmac::<sha2::Sha256>::new_from_slice(cookie.as_bytes()) else { return };
    let seal = mac.chain_update(data).finalize().into_bytes();
    let sealed = [data, &seal[..]].concat();
    if let Ok(datagram) = Datagram::decode(&sealed, &keys) {
        let again = datagram.encode(&Keys::new(&[Secret::new(cookie)]));
        assert_eq!(again.as_deref(), Some(&sealed[..]), "{datagram:?}");
    }
}

/// `emqx.conf` in EMQX's dialect, and the same bytes as what the environment and an
/// included file say: a mistake is told, and the cookie is not.
pub fn config(data: &[u8]) {
    struct Fixed<'a>(&'a str);
    impl muster::config::Files for Fixed<'_> {
        fn read(&self, path: &Path) -> std::io::Result<String> {
            match path.to_str() {
                Some("a.conf") => Ok(self.0.to_owned()),
                Some("b.conf") => {
                    Ok("node { cookie = \"hushhushhushhush\", k.l = [1] }".to_owned())
                }
                _ => Err(std::io::ErrorKind::NotFound.into()),
            }
        }
    }
    let Ok(text) = std::str::from_utf8(data) else { return };
    let value = text.lines().next().unwrap_or_default();
    let env = [
        ("EMQX_CLUSTER__STATIC__SEEDS".to_owned(), value.to_owned()),
        ("MUSTER_API__LISTEN".to_owned(), value.to_owned()),
    ];
    let paths = ["b.conf".into(), "a.conf".into()];
    for env in [&env[..0], &env[..]] {
        match muster::config::load_with(&paths, env.iter().cloned(), &Fixed(text)) {
            Ok(loaded) => assert!(!format!("{loaded:?}").contains("hushhush")),
            Err(errors) => {
                assert!(!errors.errors.is_empty());
                assert!(!errors.to_string().contains("hushhush"), "{errors}");
            }
        }
    }
}

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
