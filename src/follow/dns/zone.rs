//! The names of the zone, and what each of them is.
//!
//! ```text
//! <domain>                                     SOA, NS
//!   <cluster>                                  exists, without records
//!     ns                                       A, AAAA of this name server
//!     nodes                                    A, AAAA of every node that is up
//!     node                                     exists, without records
//!       <name part>                            A, AAAA of the nodes of that name part
//!     service                                  exists, without records
//!       mqtt                                   A, AAAA of every broker that serves
//!       _tcp                                   exists, without records
//!         _mqtt                                SRV of every broker that serves
//!     addr                                     exists, without records
//!       10-0-0-1, 20010db8…                    A or AAAA: targets of the SRV records
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use hickory_resolver::proto::rr::Name;

/// Why a zone cannot be made of the configuration. The operator can help it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no domain name: {reason}")]
pub struct ZoneError {
    /// `cluster.name` or `agent.dns.domain`.
    pub text: String,
    /// Which rule it breaks.
    pub reason: String,
}

/// One cluster's part of one domain.
#[derive(Clone, Debug)]
pub struct Zone {
    apex: Name,
    /// `<cluster>.<domain>`.
    cluster: Name,
    ttl: u32,
    /// The address that is listened on, unless that is all of them.
    listen: Option<IpAddr>,
}

/// What a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Of no business of ours.
    Outside,
    /// The domain itself.
    Apex,
    /// A name that exists because others stand below it.
    Empty,
    /// No such name.
    Nowhere,
    /// `ns`.
    NameServer,
    /// `nodes`.
    Nodes,
    /// `<name part>.node`, the name part in lower case.
    Node(Vec<u8>),
    /// `mqtt.service`.
    Brokers,
    /// `_mqtt._tcp.service`.
    Endpoints,
    /// `<address>.addr`.
    Address(IpAddr),
}

impl Zone {
    /// `listen` is where queries are taken, `ttl` how long answers may be kept.
    ///
    /// # Errors
    /// [`ZoneError`] when the names do not make a domain name.
    pub fn new(
        cluster: &str,
        domain: &str,
        ttl: Duration,
        listen: IpAddr,
    ) -> Result<Self, ZoneError> {
        let refuse = |text: &str, reason: String| ZoneError { text: text.to_owned(), reason };
        let parse = |text: &str| {
            let mut name = Name::from_ascii(text).map_err(|e| refuse(text, e.to_string()))?;
            name.set_fqdn(true);
            Ok(name.to_lowercase())
        };
        let apex = parse(domain)?;
        if apex.is_root() {
            return Err(refuse(domain, "it is empty".to_owned()));
        }
        let cluster = parse(cluster)?;
        let whole = cluster.append_name(&apex);
        let whole = whole.map_err(|error| refuse(domain, error.to_string()))?;
        // The longest name below it is an address' or a name part's: 63 bytes and ".node".
        if whole.len() > 180 {
            return Err(refuse(domain, "with cluster.name it is longer than 180 bytes".to_owned()));
        }
        let ttl = u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX).min(MAX_TTL);
        let listen = Some(listen.to_canonical()).filter(|ip| !ip.is_unspecified());
        Ok(Self { apex, cluster: whole, ttl, listen })
    }

    /// The domain.
    #[must_use]
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// How long an answer may be kept, seconds.
    #[must_use]
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// The address that is listened on; `None`: any of this machine's.
    #[must_use]
    pub fn listen(&self) -> Option<IpAddr> {
        self.listen
    }

    /// What this name is, whatever the letter case it was asked in.
    #[must_use]
    pub fn place(&self, name: &Name) -> Place {
        match below(name, &self.apex) {
            None => return Place::Outside,
            Some(0) => return Place::Apex,
            Some(_) => {}
        }
        let Some(own) = below(name, &self.cluster) else {
            // Between the domain and the cluster, where its name has dots.
            let between = self.cluster.num_labels().saturating_sub(name.num_labels());
            let end = self.cluster.iter().skip(usize::from(between));
            let same = between > 0 && end.zip(name.iter()).all(|(a, b)| a.eq_ignore_ascii_case(b));
            return if same { Place::Empty } else { Place::Nowhere };
        };
        let labels: Vec<Vec<u8>> =
            name.iter().take(own).map(|label| label.to_ascii_lowercase()).collect();
        let labels: Vec<&[u8]> = labels.iter().map(Vec::as_slice).collect();
        match labels.as_slice() {
            [] | [b"node" | b"service" | b"addr"] | [b"_tcp", b"service"] => Place::Empty,
            [b"ns"] => Place::NameServer,
            [b"nodes"] => Place::Nodes,
            [b"mqtt", b"service"] => Place::Brokers,
            [b"_mqtt", b"_tcp", b"service"] => Place::Endpoints,
            [name, b"node"] => Place::Node(name.to_vec()),
            [label, b"addr"] => address(label).map_or(Place::Nowhere, Place::Address),
            _ => Place::Nowhere,
        }
    }

    /// `ns`, the name of this name server.
    #[must_use]
    pub fn name_server(&self) -> Name {
        self.child(b"ns")
    }

    /// Who is responsible, as the SOA names it.
    #[must_use]
    pub fn responsible(&self) -> Name {
        let label: &[u8] = b"hostmaster";
        self.apex.prepend_label(label).unwrap_or_else(|_| self.apex.clone())
    }

    /// The name that stands for an address, as target of SRV records.
    #[must_use]
    pub fn address_name(&self, ip: IpAddr) -> Name {
        let label = match ip {
            IpAddr::V4(ip) => ip.to_string().replace('.', "-"),
            IpAddr::V6(ip) => format!("{:032x}", ip.to_bits()),
        };
        let parent = self.child(b"addr");
        parent.prepend_label(label.as_bytes()).unwrap_or(parent)
    }

    /// The length of names is checked when the zone is made.
    fn child(&self, label: &[u8]) -> Name {
        self.cluster.prepend_label(label).unwrap_or_else(|_| self.cluster.clone())
    }
}

/// A day: nobody should keep what may have changed a second later for longer.
const MAX_TTL: u32 = 86_400;

/// How many labels a name has below another; `None` when it is not below it.
fn below(name: &Name, top: &Name) -> Option<usize> {
    let extra = usize::from(name.num_labels().checked_sub(top.num_labels())?);
    let same = name.iter().skip(extra).zip(top.iter()).all(|(a, b)| a.eq_ignore_ascii_case(b));
    same.then_some(extra)
}

fn address(label: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(label).ok()?;
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return u128::from_str_radix(text, 16).ok().map(|bits| Ipv6Addr::from_bits(bits).into());
    }
    // Only as it is written in our own answers: one name an address.
    let ip: Ipv4Addr = text.replace('-', ".").parse().ok()?;
    (!text.contains('.')).then_some(ip.into())
}

#[cfg(test)]
mod tests;
