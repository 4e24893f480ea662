//! Which node a certificate speaks for.
//!
//! A URI `muster:<node name>` among the subject's alternative names is the strongest
//! statement: where a certificate carries one, it speaks for the nodes it lists and for
//! no others on the same host. Otherwise the host part of the node name must be there:
//! as an IP address, or as a DNS name with at most its leftmost label a `*`. An IP literal
//! spelled as a DNS name counts too, since an Erlang node's own check asks for it.
//! The subject's common name is never looked at (RFC 6125, 6.4.4; RFC 9525).

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::node::{Host, NodeName};

/// The scheme of a URI that names a node.
pub const URI_SCHEME: &str = "muster:";

/// Names shown in a message at most: the peer chose them.
const NAMES_SHOWN: usize = 8;

/// What a certificate says about its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertNames {
    dns: Vec<String>,
    ips: Vec<IpAddr>,
    /// What follows [`URI_SCHEME`].
    nodes: Vec<String>,
    not_after: SystemTime,
}

/// Why a certificate does not speak for a node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// It speaks for somebody else (the peer's doing, or whoever issued the certificate).
    #[error("the certificate is for {presented}, not for {node}")]
    OtherNode {
        /// The node it was to speak for.
        node: NodeName,
        /// Whom it speaks for, shortened, with control characters escaped.
        presented: String,
    },
    /// It names nobody.
    #[error(
        "the certificate names no host (no subjectAltName) and so does not speak for {node}; \
         agent.mesh.verify_node_name = false accepts a certificate that nodes share"
    )]
    Nameless {
        /// The node it was to speak for.
        node: NodeName,
    },
    /// The link was to be verified and the peer showed no certificate.
    #[error("the peer showed no certificate")]
    Missing,
    /// It is no X.509 certificate, or its names cannot be read.
    #[error("the certificate cannot be read: {0}")]
    Unreadable(String),
}

impl CertNames {
    /// Reads the names and the end of validity out of a certificate.
    ///
    /// # Errors
    /// [`IdentityError::Unreadable`].
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let unreadable =
            |error: x509_cert::der::Error| IdentityError::Unreadable(error.to_string());
        let cert = Certificate::from_der(der).map_err(unreadable)?;
        let tbs = cert.tbs_certificate();
        let seconds = tbs.validity().not_after.to_unix_duration().as_secs();
        let mut names = Self {
            dns: Vec::new(),
            ips: Vec::new(),
            nodes: Vec::new(),
            not_after: UNIX_EPOCH + Duration::from_secs(seconds),
        };
        let alternatives = tbs.get_extension::<SubjectAltName>().map_err(unreadable)?;
        for name in alternatives.into_iter().flat_map(|(_critical, san)| san.0) {
            match name {
                GeneralName::DnsName(name) => names.dns.push(name.as_str().to_owned()),
                GeneralName::IpAddress(octets) => names.ips.extend(ip(octets.as_bytes())),
                GeneralName::UniformResourceIdentifier(uri) => {
                    names.nodes.extend(uri.as_str().strip_prefix(URI_SCHEME).map(str::to_owned));
                }
                _ => {}
            }
        }
        Ok(names)
    }

    /// When the certificate ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }

    /// Whether the certificate speaks for `node`, by the rules on top of this module.
    ///
    /// # Errors
    /// [`IdentityError::OtherNode`] or [`IdentityError::Nameless`].
    pub fn check(&self, node: &NodeName) -> Result<(), IdentityError> {
        if self.speaks_for(node) {
            return Ok(());
        }
        if self.dns.is_empty() && self.ips.is_empty() && self.nodes.is_empty() {
            return Err(IdentityError::Nameless { node: node.clone() });
        }
        Err(IdentityError::OtherNode { node: node.clone(), presented: self.to_string() })
    }

    fn speaks_for(&self, node: &NodeName) -> bool {
        if !self.nodes.is_empty() {
            return self.nodes.iter().any(|name| name == node.as_str());
        }
        match node.host() {
            Host::Dns(host) => self.dns.iter().any(|pattern| dns_matches(pattern, host)),
            Host::V4(_) | Host::V6(_) => {
                let wanted = node.host().ip();
                self.ips.iter().copied().map(Some).any(|ip| ip == wanted)
                    || self.dns.iter().any(|name| name.parse().ok() == wanted)
            }
        }
    }
}

impl fmt::Display for CertNames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes = self.nodes.iter().map(|node| format!("{URI_SCHEME}{node}"));
        let all = nodes.chain(self.dns.iter().cloned());
        let all = all.chain(self.ips.iter().map(ToString::to_string));
        for (index, name) in all.enumerate() {
            if index == NAMES_SHOWN {
                return f.write_str(", ...");
            }
            if index > 0 {
                f.write_str(", ")?;
            }
            for c in name.chars().take(crate::node::MAX_NODE_NAME) {
                write!(f, "{}", c.escape_default())?;
            }
        }
        Ok(())
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    if let Ok(v4) = <[u8; 4]>::try_from(octets) {
        return Some(v4.into());
    }
    <[u8; 16]>::try_from(octets).ok().map(IpAddr::from)
}

/// RFC 6125, 6.4: whole labels, letter case ignored, `*` only as all of the leftmost
/// label, where it stands for exactly one.
fn dns_matches(pattern: &str, host: &str) -> bool {
    let pattern = pattern.strip_suffix('.').unwrap_or(pattern);
    let host = host.strip_suffix('.').unwrap_or(host);
    match pattern.strip_prefix("*.") {
        Some(domain) => host.split_once('.').is_some_and(|(_label, rest)| {
            !domain.contains('*') && rest.eq_ignore_ascii_case(domain)
        }),
        None => !pattern.contains('*') && pattern.eq_ignore_ascii_case(host),
    }
}

#[cfg(test)]
mod tests;
