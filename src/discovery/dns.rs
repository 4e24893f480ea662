//! `dns`: node names out of A, AAAA or SRV records.
//!
//! No task of its own beyond those the DNS library keeps per connection.

mod client;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::rr::{RData, RecordType as Wire};

use self::client::{Client, LookupError};
use super::{Answer, BoxFuture, DiscoveryError, Strategy};
use crate::config::{DnsDiscovery, RecordType};
use crate::node::{Host, NodeName};

/// Entries reported as rejected; a broken zone of thousands needs no more.
const REJECTED_CAP: usize = 64;

/// The `dns` strategy.
pub struct Dns {
    own: NodeName,
    name: String,
    record_type: RecordType,
    app_name: String,
    client: Client,
}

impl Dns {
    /// Asks for the records of `config.name`; `nameservers` empty: the system's.
    #[must_use]
    pub fn new(config: &DnsDiscovery, own: &NodeName, nameservers: &[SocketAddr]) -> Self {
        Self {
            own: own.clone(),
            name: config.name.clone(),
            record_type: config.record_type,
            app_name: config.app_name.clone(),
            client: Client::new(nameservers),
        }
    }

    async fn ask(&mut self) -> Result<Answer, DiscoveryError> {
        if self.record_type != RecordType::Srv && matches!(self.own.host(), Host::Dns(_)) {
            let text = format!(
                "with address records the nodes are called name@IP, but this one is {}",
                self.own
            );
            return Err(DiscoveryError::Denied(text));
        }
        let (wire, word) = match self.record_type {
            RecordType::A => (Wire::A, "A"),
            RecordType::Aaaa => (Wire::AAAA, "AAAA"),
            RecordType::Srv => (Wire::SRV, "SRV"),
        };
        let found = self.client.records(&self.name, wire).await.map_err(|error| {
            let text = format!("{word} records of {}: {error}", self.name);
            match error {
                LookupError::Silent(_) => DiscoveryError::Unreachable(text),
                LookupError::Refused(_) => DiscoveryError::Denied(text),
                LookupError::Nonsense(_) => DiscoveryError::BadAnswer(text),
            }
        })?;
        Ok(read(&self.app_name, &found.data, found.ttl))
    }
}

impl Strategy for Dns {
    fn discover(&mut self) -> BoxFuture<'_, Result<Answer, DiscoveryError>> {
        Box::pin(self.ask())
    }
}

/// The nodes that records name: the name part at every address or target.
fn read(app_name: &str, records: &[RData], ttl: Option<Duration>) -> Answer {
    let mut nodes = BTreeSet::new();
    let mut rejected = Vec::new();
    for record in records {
        let host = match record {
            RData::A(ip) => address(IpAddr::V4(ip.0)),
            RData::AAAA(ip) => address(IpAddr::V6(ip.0)),
            // RFC 2782: the root as target says that nobody offers the service.
            RData::SRV(srv) if srv.target.is_root() => continue,
            // Without the dot at the end, which no node name has.
            RData::SRV(srv) => Ok(srv.target.to_ascii().trim_end_matches('.').to_owned()),
            _ => continue,
        };
        let node = host.and_then(|host| {
            let text = format!("{app_name}@{host}");
            NodeName::parse(&text).map_err(|error| format!("{host:?}: {error}"))
        });
        match node {
            Ok(node) => {
                nodes.insert(node);
            }
            Err(why) if rejected.len() < REJECTED_CAP => rejected.push(why),
            Err(_) => {}
        }
    }
    // Servers rotate the order of records, which is no change.
    rejected.sort_unstable();
    Answer { nodes, valid_for: ttl, rejected, ..Answer::default() }
}

/// An address that a node can have; `::ffff:192.0.2.1` is `192.0.2.1`.
fn address(ip: IpAddr) -> Result<String, String> {
    let ip = ip.to_canonical();
    let why = match ip {
        _ if ip.is_unspecified() => "is no node's address",
        _ if ip.is_multicast() => "is a multicast group",
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "means something on one link only",
        _ => return Ok(ip.to_string()),
    };
    Err(format!("{ip} {why}"))
}

#[cfg(test)]
mod tests;
