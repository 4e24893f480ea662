//! Why an answer names others and never this node, as far as the two can tell.
//!
//! Such a node finds the others and is found by none of those that start after it: things
//! work until somebody restarts.

use std::collections::BTreeSet;

use crate::config::{AddressType, Config, K8sConfig, RecordType, StrategyConfig};
use crate::node::{Host, NodeName};

/// Nodes of an answer shown in a reason.
const SHOWN: usize = 3;

/// The reason, where this node should be in the answer and is not; `None` elsewhere.
pub(super) fn reason(config: &Config, nodes: &BTreeSet<NodeName>) -> Option<String> {
    let own = &config.node.name;
    if nodes.is_empty() || nodes.contains(own) {
        return None;
    }
    match &config.cluster.strategy {
        // The first two name nobody, and multicast never the sender.
        StrategyConfig::Manual | StrategyConfig::Singleton | StrategyConfig::Mcast(_) => None,
        StrategyConfig::Static { .. } => Some(match meant(own, nodes) {
            Some(seed) => format!(
                "this node is {own}, and cluster.static.seeds has {seed} -> one of the two is \
                 mistyped: write {own} there, or set node.name"
            ),
            None => format!(
                "this node, {own}, is not among cluster.static.seeds: nodes that start from \
                 that list do not look for it -> add {own} to it on every node"
            ),
        }),
        StrategyConfig::Dns(dns) => {
            let what = match dns.record_type {
                RecordType::A => "A records",
                RecordType::Aaaa => "AAAA records",
                RecordType::Srv => "SRV records",
            };
            Some(format!(
                "the {what} of {} name {}, and never this node, {own} -> {}",
                dns.name,
                shown(nodes),
                match (dns.record_type, meant(own, nodes)) {
                    (RecordType::Srv, Some(target)) => format!("is {target} meant?"),
                    (RecordType::Srv, None) => "add its host as a target".to_owned(),
                    _ => "add its address".to_owned(),
                }
            ))
        }
        StrategyConfig::Etcd(etcd) => Some(format!(
            "etcd lists {} below /{}/{}/nodes/, and not this node, {own} -> start its agent, \
             or see in its log why it could not register",
            shown(nodes),
            etcd.prefix.trim_matches('/'),
            config.cluster.name
        )),
        StrategyConfig::K8s(k8s) => Some(format!(
            "the endpoints of service {} in namespace {} are named {}, and never {own}, as this \
             node is -> {}",
            k8s.service_name,
            k8s.namespace,
            shown(nodes),
            k8s_cause(k8s, own, nodes)
        )),
    }
}

/// Which part of the naming differs.
fn k8s_cause(k8s: &K8sConfig, own: &NodeName, nodes: &BTreeSet<NodeName>) -> String {
    if own.name() != k8s.app_name {
        return format!(
            "the part before the @ is {}, set cluster.k8s.app_name to it or change node.name",
            own.name()
        );
    }
    let wanted = match own.host() {
        Host::V4(_) | Host::V6(_) => AddressType::Ip,
        Host::Dns(host) => {
            let first = host.split('.').next().unwrap_or_default();
            if first.replace('-', ".").parse::<std::net::Ipv4Addr>().is_ok() {
                AddressType::Dns
            } else {
                AddressType::Hostname
            }
        }
    };
    if wanted != k8s.address_type {
        let word = match wanted {
            AddressType::Ip => "ip",
            AddressType::Dns => "dns",
            AddressType::Hostname => "hostname",
        };
        return format!("its name is of cluster.k8s.address_type = {word}");
    }
    let label = |node: &NodeName| node.host_str().split('.').next().map(str::to_owned);
    if wanted != AddressType::Ip
        && let Some(same) = nodes.iter().find(|node| label(node) == label(own))
    {
        return format!(
            "{same} is the same pod; compare cluster.k8s.suffix ({:?}), namespace and \
             service_name with node.name",
            k8s.suffix
        );
    }
    "is this pod selected by the service (its labels), and node.name its own?".to_owned()
}

/// The node that `own`, or the one that was to be written, may be a slip of the finger from:
/// the same digits, other letters. Names that differ in digits are different nodes.
pub fn meant<'a>(
    own: &NodeName,
    among: impl IntoIterator<Item = &'a NodeName>,
) -> Option<&'a NodeName> {
    let digits =
        |node: &NodeName| node.as_str().chars().filter(char::is_ascii_digit).collect::<String>();
    among
        .into_iter()
        .filter(|node| *node != own && digits(node) == digits(own))
        .map(|node| (strsim::osa_distance(node.as_str(), own.as_str()), node))
        .filter(|(distance, _)| *distance <= 2)
        .min()
        .map(|(_, node)| node)
}

fn shown(nodes: &BTreeSet<NodeName>) -> String {
    let names: Vec<_> = nodes.iter().take(SHOWN).map(NodeName::as_str).collect();
    match nodes.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::load;

    fn config(name: &str, cluster: &str) -> Config {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("emqx.conf");
        let node = format!("node {{ name = \"{name}\", cookie = \"a-cookie-for-tests-only\" }}\n");
        std::fs::write(&file, node + cluster).unwrap();
        load(&[file], []).unwrap().config
    }

    fn nodes(names: &[&str]) -> BTreeSet<NodeName> {
        names.iter().map(|name| NodeName::parse(name).unwrap()).collect()
    }

    #[test]
    fn the_reason_is_the_one_that_can_be_seen() {
        const K8S: &str = "cluster.discovery_strategy = k8s\ncluster.k8s { suffix = \"x.local\", \
                           namespace = prod, address_type = hostname, app_name = emqx }";
        for (own, cluster, answer, expected) in [
            (
                "emqx1@a.io",
                "cluster.discovery_strategy = static\ncluster.static.seeds = [\"x@y.io\"]",
                &["emqx2@a.io"][..],
                "is not among cluster.static.seeds",
            ),
            (
                "emqx1@a.io",
                "cluster.discovery_strategy = static\ncluster.static.seeds = [\"x@y.io\"]",
                &["eqmx1@a.io"],
                "has eqmx1@a.io -> one of the two is mistyped",
            ),
            (
                "emqx@10.0.0.1",
                "cluster.discovery_strategy = dns\ncluster.dns.name = n.io",
                &["emqx@10.0.0.2"],
                "add its address",
            ),
            (
                "emqx@10.0.0.1",
                K8S,
                &["emqx@a.emqx.prod.x.local"],
                "of cluster.k8s.address_type = ip",
            ),
            ("app@a.b.c", K8S, &["emqx@a.emqx.prod.x.local"], "set cluster.k8s.app_name"),
            (
                "emqx@a.emqx.prod.svc.x.local",
                K8S,
                &["emqx@a.emqx.prod.x.local"],
                "emqx@a.emqx.prod.x.local is the same pod; compare cluster.k8s.suffix",
            ),
            ("emqx@b.emqx.prod.x.local", K8S, &["emqx@a.emqx.prod.x.local"], "its labels"),
        ] {
            let reason = reason(&config(own, cluster), &nodes(answer)).unwrap();
            assert!(reason.contains(expected), "{own}: {reason}");
        }
        let one = config(
            "emqx1@a.io",
            "cluster.discovery_strategy = static\ncluster.static.seeds = [\"x@y.io\"]",
        );
        assert_eq!(reason(&one, &nodes(&["emqx1@a.io", "x@y.io"])), None);
        assert_eq!(reason(&one, &nodes(&[])), None, "nobody at all is another matter");
    }

    #[test]
    fn other_digits_are_other_nodes() {
        let of = |name: &str| NodeName::parse(name).unwrap();
        let seen = nodes(&["emqx1@a.io", "emqx2@a.io"]);
        assert_eq!(meant(&of("eqmx2@a.io"), &seen), Some(&of("emqx2@a.io")));
        assert_eq!(meant(&of("emqx3@a.io"), &seen), None);
        assert_eq!(meant(&of("broker2@b.io"), &seen), None);
    }
}
