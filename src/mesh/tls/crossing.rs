//! Which of two handshakes that cross goes on, known before either costs anything.
//!
//! Two agents that learn of each other at the same time dial each other at the same time,
//! and the distribution protocol settles that by their names, which come after TLS: by
//! then both handshakes are paid for. So the one who dials says in its first message which
//! pair of nodes it is about, as a name of a protocol (ALPN, RFC 7301) that nobody speaks:
//! a hash, since that message can be read by everybody. Who accepts, and dials that very
//! peer with the greater name, refuses there and then. Erlang nodes pass it over.

use sha2::{Digest as _, Sha256};

use crate::node::NodeName;

/// Bytes of the hash that are sent.
const LENGTH: usize = 16;

/// The fatal alert `no_application_protocol` (RFC 7301, 3.2), before any encryption.
pub(super) const REFUSAL: [u8; 7] = [21, 3, 3, 0, 2, 2, 120];

/// What a dialler says of a pair of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crossing(Vec<u8>);

impl Crossing {
    /// That of a handshake from one node to another.
    #[must_use]
    pub fn new(dials: &NodeName, accepts: &NodeName) -> Self {
        let mut hash = Sha256::new_with_prefix(b"muster");
        for name in [dials, accepts] {
            hash.update([0]);
            hash.update(name.as_str().as_bytes());
        }
        Self(hash.finalize()[..LENGTH].to_vec())
    }

    /// As it is sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_direction_of_each_pair_has_its_own() {
        let node = |name: &str| NodeName::parse(name).unwrap();
        let (a, b, c) = (node("a@h.io"), node("b@h.io"), node("c@h.io"));
        let all = [(&a, &b), (&b, &a), (&a, &c)].map(|(from, to)| Crossing::new(from, to));
        assert_eq!(all[0], Crossing::new(&a, &b));
        assert!(all[0] != all[1] && all[0] != all[2] && all[1] != all[2]);
    }
}
