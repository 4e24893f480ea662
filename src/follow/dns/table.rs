//! What there is to answer with: one snapshot of the cluster, sorted by name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use hickory_resolver::proto::rr::Name;

use super::zone::Zone;
use crate::node::Host;
use crate::view::{ClusterState, Member, MemberStatus, Snapshot};

/// The port of a broker whose agent says nothing of it.
const MQTT_PORT: u16 = 1883;

/// Addresses of the hosts that are names, by the name in lower case.
pub type Hosts = BTreeMap<String, Vec<IpAddr>>;

/// Where a broker is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The target of its SRV record.
    pub target: Name,
    /// Its port.
    pub port: u16,
}

/// The answers of one snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Whether this node belongs to a cluster it could speak of.
    pub able: bool,
    /// The serial number of the zone.
    pub serial: u32,
    /// Addresses of the nodes that are up.
    pub nodes: BTreeSet<IpAddr>,
    /// The same by name part, in lower case.
    pub by_name: BTreeMap<Vec<u8>, BTreeSet<IpAddr>>,
    /// Addresses of the brokers that serve.
    pub brokers: BTreeSet<IpAddr>,
    /// Where they are reached.
    pub endpoints: BTreeSet<Endpoint>,
    /// Addresses of the endpoints' targets.
    pub targets: BTreeMap<Name, BTreeSet<IpAddr>>,
    /// Addresses of this name server.
    pub own: BTreeSet<IpAddr>,
}

impl Table {
    /// Sorts a snapshot. `hosts` has what was found out about hosts that are names.
    #[must_use]
    pub fn new(zone: &Zone, snapshot: &Snapshot, hosts: &Hosts, serial: u32) -> Self {
        let able = matches!(snapshot.state, ClusterState::Joined | ClusterState::Singleton);
        let mut table = Self { able, serial, ..Self::default() };
        table.own.extend(zone.listen());
        for member in &snapshot.members {
            let addresses = of_node(member, hosts);
            if member.is_self && table.own.is_empty() {
                table.own.extend(&addresses);
            }
            if member.status == MemberStatus::Up {
                table.add_node(member, &addresses);
            }
            if member.serves() {
                table.add_broker(zone, member, &addresses, hosts);
            }
        }
        for ip in &table.own {
            table.targets.entry(zone.address_name(*ip)).or_default().insert(*ip);
        }
        table
    }

    fn add_node(&mut self, member: &Member, addresses: &[IpAddr]) {
        let name = member.node.name().to_ascii_lowercase().into_bytes();
        self.by_name.entry(name).or_default().extend(addresses);
        self.nodes.extend(addresses);
    }

    fn add_broker(&mut self, zone: &Zone, member: &Member, node: &[IpAddr], hosts: &Hosts) {
        let told = member.broker.as_ref().and_then(|broker| split(&broker.address));
        let (host, port) = told.unwrap_or((member.node.host_str(), MQTT_PORT));
        let literal = host.parse::<IpAddr>().map(|ip| ip.to_canonical());
        let addresses = match literal {
            Ok(ip) => vec![ip],
            Err(_) if host.eq_ignore_ascii_case(member.node.host_str()) => node.to_vec(),
            Err(_) => hosts.get(&host.to_ascii_lowercase()).cloned().unwrap_or_default(),
        };
        let target = match literal {
            Ok(ip) => zone.address_name(ip),
            // The name itself, which certificates speak of; it is resolved elsewhere too.
            Err(_) => match Name::from_ascii(host) {
                Ok(mut name) => {
                    name.set_fqdn(true);
                    name.to_lowercase()
                }
                Err(_) => return,
            },
        };
        self.brokers.extend(&addresses);
        self.targets.entry(target.clone()).or_default().extend(&addresses);
        self.endpoints.insert(Endpoint { target, port });
    }

    /// Whether an address belongs to anybody here.
    #[must_use]
    pub fn knows(&self, ip: IpAddr) -> bool {
        [&self.nodes, &self.brokers, &self.own].iter().any(|set| set.contains(&ip))
    }
}

/// Hosts of a snapshot that are names and have to be looked up: those of brokers that
/// stand elsewhere than their node, and of nodes that no link has reached.
pub(super) fn names(snapshot: &Snapshot) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for member in snapshot.members.iter().filter(|member| member.status == MemberStatus::Up) {
        let own = member.node.host_str();
        if matches!(member.node.host(), Host::Dns(_)) && member.address.is_none() {
            names.insert(own.to_ascii_lowercase());
        }
        let broker = member.broker.as_ref().and_then(|broker| split(&broker.address));
        if let Some((host, _)) = broker
            && host.parse::<IpAddr>().is_err()
            && !host.eq_ignore_ascii_case(own)
        {
            names.insert(host.to_ascii_lowercase());
        }
    }
    names
}

/// Where a node is: the address in its name, else the one it was reached at, else what
/// its name resolves to.
fn of_node(member: &Member, hosts: &Hosts) -> Vec<IpAddr> {
    match member.node.host() {
        Host::V4(ip) => vec![ip.into()],
        Host::V6(ip) => vec![IpAddr::V6(ip).to_canonical()],
        Host::Dns(host) => match member.address {
            Some(address) => vec![address.ip().to_canonical()],
            None => hosts.get(&host.to_ascii_lowercase()).cloned().unwrap_or_default(),
        },
    }
}

/// `host:port`, an IPv6 host in brackets.
fn split(address: &str) -> Option<(&str, u16)> {
    let (host, port) = address.rsplit_once(':')?;
    let port = port.parse().ok()?;
    match host.strip_prefix('[') {
        Some(rest) => {
            let host = rest.strip_suffix(']')?;
            host.parse::<Ipv6Addr>().ok().map(|_| (host, port))
        }
        None => (!host.is_empty() && !host.contains(':')).then_some((host, port)),
    }
}

#[cfg(test)]
mod tests;
