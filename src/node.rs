//! The words every part uses: who a node is, which life of it, which cluster.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A link to another node, as the mesh numbers it: unique within a process's life, and never
/// used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Longest node name, in bytes; an Erlang atom holds no more.
pub const MAX_NODE_NAME: usize = 255;

/// The ports of nodes on one host are a base plus the offset, which stays below this.
const OFFSET_MODULUS: u64 = 60_000;

/// `name@host`: the identity of a node for as long as it belongs to a cluster.
///
/// There is one spelling for each node, so equal names are the same node wherever they come
/// from. Cheap to clone; ordered as its text is, which is the order the Erlang
/// distribution protocol uses to settle simultaneous connects.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeName(Arc<str>);

/// The part of a node name behind the `@`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// An IPv4 literal.
    V4(Ipv4Addr),
    /// An IPv6 literal, written without brackets.
    V6(Ipv6Addr),
    /// A DNS name.
    Dns(&'a str),
}

impl Host<'_> {
    /// The literal's address; a DNS name has none.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match *self {
            Self::V4(ip) => Some(ip.into()),
            Self::V6(ip) => Some(ip.into()),
            Self::Dns(_) => None,
        }
    }
}

/// Why a text is no node name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeNameError {
    /// Longer than [`MAX_NODE_NAME`].
    #[error("{0} bytes long, at most {MAX_NODE_NAME} are allowed")]
    TooLong(usize),
    /// Not exactly one `@`.
    #[error("must be name@host with exactly one '@'")]
    At,
    /// Nothing before the `@`, or a character Erlang would not take there.
    #[error("the part before '@' must be letters, digits, '_' or '-'")]
    Name,
    /// Nothing behind the `@`, or something that is no address and no DNS name.
    #[error("the part behind '@' must be an IPv4 address, an IPv6 address or a DNS name")]
    Host,
    /// `fe80::1%eth0`: a scope means something on one machine only.
    #[error("an IPv6 address with a scope id ('%') names a node on this machine only")]
    Scope,
}

impl NodeName {
    /// Parses `name@host`, into the one spelling of every node: a DNS name in lower case
    /// without the dot at its end, an IPv6 address as RFC 5952 writes it. The part before
    /// the `@` keeps its letter case.
    ///
    /// # Errors
    /// Says which rule of the naming table the text breaks.
    pub fn parse(text: &str) -> Result<Self, NodeNameError> {
        if text.len() > MAX_NODE_NAME {
            return Err(NodeNameError::TooLong(text.len()));
        }
        let (name, host) = text.split_once('@').ok_or(NodeNameError::At)?;
        if host.contains('@') {
            return Err(NodeNameError::At);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(NodeNameError::Name);
        }
        if host.contains('%') {
            return Err(NodeNameError::Scope);
        }
        let host = match host.parse::<IpAddr>() {
            // As RFC 5952 writes it.
            Ok(ip) => ip.to_string(),
            Err(_) => host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase(),
        };
        if host.parse::<IpAddr>().is_err() && !is_dns_name(&host) {
            return Err(NodeNameError::Host);
        }
        let canonical = format!("{name}@{host}");
        match canonical.len() {
            ..=MAX_NODE_NAME => Ok(Self(canonical.into())),
            long => Err(NodeNameError::TooLong(long)),
        }
    }

    /// The whole `name@host`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the `@`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.split_once('@').map_or(&*self.0, |(name, _)| name)
    }

    /// The part behind the `@`, as text.
    #[must_use]
    pub fn host_str(&self) -> &str {
        self.0.split_once('@').map_or("", |(_, host)| host)
    }

    /// The part behind the `@`, read.
    #[must_use]
    pub fn host(&self) -> Host<'_> {
        let host = self.host_str();
        match host.parse::<IpAddr>() {
            Ok(IpAddr::V4(ip)) => Host::V4(ip),
            Ok(IpAddr::V6(ip)) => Host::V6(ip),
            Err(_) => Host::Dns(host),
        }
    }

    /// The digits that end the part before the `@`, modulo 60000; none: 0.
    ///
    /// Added to a base port, so that several nodes share a host without settings.
    #[must_use]
    pub fn offset(&self) -> u16 {
        let name = self.name();
        let digits = name.bytes().rev().take_while(u8::is_ascii_digit).count();
        let value = name[name.len() - digits..]
            .bytes()
            .fold(0u64, |sum, digit| (sum * 10 + u64::from(digit - b'0')) % OFFSET_MODULUS);
        u16::try_from(value).unwrap_or(0)
    }

    /// A host without a dot, which an Erlang node would not take for a long name.
    #[must_use]
    pub fn is_single_label(&self) -> bool {
        matches!(self.host(), Host::Dns(host) if !host.contains('.'))
    }
}

/// RFC 1123 labels of at most 63 bytes, 253 in all; `_` too, which container runtimes use.
fn is_dns_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    // Digits and dots alone are a mistyped address, never a name.
    let numeric = host.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    !host.is_empty() && host.len() <= 253 && !numeric && host.split('.').all(label)
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for NodeName {
    type Err = NodeNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse(text)
    }
}

impl Serialize for NodeName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Orders what is said of one member: every restart and every refuted suspicion raises it.
///
/// It never falls for one node name, not even over a lost disk, since peers tell
/// a returning node the highest one they know.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// The next higher one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// One process life: drawn at random at every start, so that two processes under
/// one node name can be told apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BootId(pub u64);

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Which cluster a node belongs to; drawn at random by the node that founds it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(pub u128);

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl Serialize for ClusterId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ClusterId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u128::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// `node.role`: shown to operators; only cores count for the majority.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Counts for the majority.
    #[default]
    Core,
    /// Does not.
    Replicant,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Core => "core",
            Self::Replicant => "replicant",
        })
    }
}

#[cfg(test)]
mod tests;
