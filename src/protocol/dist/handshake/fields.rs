//! The fields of handshake messages, and the digest that proves a cookie.

use subtle::ConstantTimeEq;

use super::HandshakeError;
use crate::node::{NodeName, NodeNameError};
use crate::protocol::dist::flags;
use crate::secret::Secret;

/// MD5 of a cookie and a challenge.
pub(super) type Digest = [u8; 16];

/// Reads big-endian fields from the front.
pub(super) struct Fields<'a>(pub(super) &'a [u8]);

impl<'a> Fields<'a> {
    pub(super) fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, tail) = self.0.split_first_chunk::<N>()?;
        self.0 = tail;
        Some(*head)
    }

    pub(super) fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// A name behind its length. What follows it belongs to a later version of the
    /// protocol and is passed over, as the specification asks.
    pub(super) fn name(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(self.u16()?);
        self.0.get(..length)
    }
}

pub(super) fn put_name(out: &mut Vec<u8>, name: &NodeName) {
    // Node names are at most 255 bytes.
    let length = u16::try_from(name.as_str().len()).unwrap_or(u16::MAX);
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(name.as_str().as_bytes());
}

pub(super) fn parse_name(name: &[u8]) -> Result<NodeName, HandshakeError> {
    let text = std::str::from_utf8(name).map_err(|_| NodeNameError::Name)?;
    Ok(NodeName::parse(text)?)
}

/// The flags with what they imply spelled out, if nothing mandatory is missing.
pub(super) fn checked_flags(flags: u64) -> Result<u64, HandshakeError> {
    let flags = flags::expand(flags);
    if flags & flags::REQUIRED == flags::REQUIRED {
        Ok(flags)
    } else {
        Err(HandshakeError::Flags(flags))
    }
}

/// MD5 over the cookie and the challenge in decimal digits.
pub(super) fn digest(cookie: &Secret, challenge: u32) -> Digest {
    use md5::Digest as _;
    let mut md5 = md5::Md5::new();
    md5.update(cookie.expose().as_bytes());
    md5.update(challenge.to_string().as_bytes());
    md5.finalize().into()
}

/// The cookie that gives this digest. Every cookie is tried and every comparison
/// takes the same time, so that an answer's timing says nothing about a digest.
pub(super) fn matching<'a>(
    cookies: &'a [Secret],
    challenge: u32,
    given: &Digest,
) -> Option<&'a Secret> {
    let mut found = None;
    for cookie in cookies {
        let same = digest(cookie, challenge).ct_eq(given);
        if bool::from(same) {
            found = Some(cookie);
        }
    }
    found
}
