//! The multicast datagram: what a node says of itself, under its cookie's seal.
//!
//! ```text
//!  0      4        5     6                7               8
//!  "MSTR" version  kind  cluster length   node length     cluster name, node name
//!  … boot id (8)  sequence number (8)  HMAC-SHA256 of everything before (32)
//! ```
//!
//! Numbers are big-endian. Nothing behind the version is looked at before the seal
//! is found right, so that only holders of the cookie reach the rest of the parser.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::node::{BootId, MAX_NODE_NAME, NodeName};
use crate::secret::Secret;

/// Longest datagram: both names at their longest.
pub const MAX_DATAGRAM: usize = FIXED + 255 + MAX_NODE_NAME;

const MAGIC: &[u8; 4] = b"MSTR";
const VERSION: u8 = 1;
const SEAL: usize = 32;
const HEAD: usize = 8;
/// Everything but the names.
const FIXED: usize = HEAD + 8 + 8 + SEAL;

/// What a datagram is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To the group: here I am; who does not know me yet, answer.
    Announce,
    /// To one node that was heard for the first time: here I am too.
    Answer,
    /// To the group: do not expect me any more.
    Goodbye,
}

/// What one node says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Why it says it.
    pub kind: Kind,
    /// Its `cluster.name`, at most 255 bytes.
    pub cluster: String,
    /// Its name.
    pub node: NodeName,
    /// Which life of the node speaks.
    pub boot: BootId,
    /// Grows with every datagram of that life.
    pub sequence: u64,
}

/// Why received bytes are no datagram of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Other software, or damaged.
    Malformed,
    /// Of a version we do not speak.
    Version,
    /// Sealed with none of our cookies: another cluster, or nobody's.
    Unsigned,
}

impl Reject {
    /// As metrics spell it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Version => "version",
            Self::Unsigned => "unsigned",
        }
    }
}

/// Cookies, ready to seal and to check.
#[derive(Clone)]
pub struct Keys(Vec<Hmac<Sha256>>);

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Keys({})", self.0.len())
    }
}

impl Keys {
    /// The first cookie seals, any is accepted. Without cookies nothing is sealed or
    /// accepted.
    #[must_use]
    pub fn new(cookies: &[Secret]) -> Self {
        // HMAC takes keys of any length: none is left out.
        let keys = cookies.iter().map(|cookie| Hmac::new_from_slice(cookie.expose().as_bytes()));
        Self(keys.filter_map(Result::ok).collect())
    }

    fn seal(&self, text: &[u8]) -> Option<[u8; SEAL]> {
        let mac = self.0.first()?.clone().chain_update(text);
        Some(mac.finalize().into_bytes().into())
    }

    /// In constant time for each cookie.
    fn sealed(&self, text: &[u8], seal: &[u8]) -> bool {
        self.0.iter().any(|key| key.clone().chain_update(text).verify_slice(seal).is_ok())
    }
}

impl Datagram {
    /// The bytes to send; `None` without a cookie or with a cluster name over 255 bytes.
    #[must_use]
    pub fn encode(&self, keys: &Keys) -> Option<Vec<u8>> {
        let kind = match self.kind {
            Kind::Announce => 1,
            Kind::Answer => 2,
            Kind::Goodbye => 3,
        };
        let node = self.node.as_str();
        let mut bytes = Vec::with_capacity(FIXED + self.cluster.len() + node.len());
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[
            VERSION,
            kind,
            u8::try_from(self.cluster.len()).ok()?,
            u8::try_from(node.len()).ok()?,
        ]);
        bytes.extend_from_slice(self.cluster.as_bytes());
        bytes.extend_from_slice(node.as_bytes());
        bytes.extend_from_slice(&self.boot.0.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        let seal = keys.seal(&bytes)?;
        bytes.extend_from_slice(&seal);
        Some(bytes)
    }

    /// Reads received bytes.
    ///
    /// # Errors
    /// [`Reject`], all of them the sender's doing.
    pub fn decode(bytes: &[u8], keys: &Keys) -> Result<Self, Reject> {
        let (magic, rest) = bytes.split_first_chunk::<4>().ok_or(Reject::Malformed)?;
        if magic != MAGIC || bytes.len() > MAX_DATAGRAM {
            return Err(Reject::Malformed);
        }
        let (&version, _) = rest.split_first().ok_or(Reject::Malformed)?;
        if version != VERSION {
            return Err(Reject::Version);
        }
        let (text, seal) = bytes.split_last_chunk::<SEAL>().ok_or(Reject::Malformed)?;
        if !keys.sealed(text, seal) {
            return Err(Reject::Unsigned);
        }
        let (head, names) = text.split_first_chunk::<HEAD>().ok_or(Reject::Malformed)?;
        let [_, _, _, _, _, kind, cluster, node] = *head;
        let kind = match kind {
            1 => Kind::Announce,
            2 => Kind::Answer,
            3 => Kind::Goodbye,
            _ => return Err(Reject::Malformed),
        };
        let (cluster, rest) = names.split_at_checked(cluster.into()).ok_or(Reject::Malformed)?;
        let (node, numbers) = rest.split_at_checked(node.into()).ok_or(Reject::Malformed)?;
        let (boot, sequence) = numbers.split_first_chunk::<8>().ok_or(Reject::Malformed)?;
        let sequence = sequence.try_into().map_err(|_| Reject::Malformed)?;
        let cluster = std::str::from_utf8(cluster).map_err(|_| Reject::Malformed)?;
        let node = std::str::from_utf8(node).ok().and_then(|node| NodeName::parse(node).ok());
        Ok(Self {
            kind,
            cluster: cluster.to_owned(),
            node: node.ok_or(Reject::Malformed)?,
            boot: BootId(u64::from_be_bytes(*boot)),
            sequence: u64::from_be_bytes(sequence),
        })
    }
}

#[cfg(test)]
mod tests;
