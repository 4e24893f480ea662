//! The names that nobody knows, and what was meant by them.

use super::error::{Finding, Origin};
use super::keys::{KEYS, Key, UNUSED};
use super::nearest::{near, nearest};
use super::reader::Reader;
use super::tree::{Node, ROOTS, Value};

/// Names of EMQX 4 and of its early 5, and those that people expect, with ours.
const MEANT: &[(&str, &str)] = &[
    ("cluster.discovery", "cluster.discovery_strategy"),
    ("cluster.strategy", "cluster.discovery_strategy"),
    ("cluster.discovery_type", "cluster.discovery_strategy"),
    ("cluster.type", "cluster.discovery_strategy"),
    ("cluster.seeds", "cluster.static.seeds"),
    ("cluster.nodes", "cluster.static.seeds"),
    ("cluster.static.nodes", "cluster.static.seeds"),
    ("cluster.join", "cluster.static.seeds"),
    ("cluster.cookie", "node.cookie"),
    ("cluster.secret", "node.cookie"),
    ("cluster.protocol", "cluster.proto_dist"),
    ("cluster.autoclean_period", "cluster.autoclean"),
    ("cluster.dns.domain", "cluster.dns.name"),
    ("cluster.dns.record", "cluster.dns.record_type"),
    ("cluster.etcd.endpoints", "cluster.etcd.server"),
    ("cluster.etcd.servers", "cluster.etcd.server"),
    ("cluster.etcd.url", "cluster.etcd.server"),
    ("cluster.etcd.ttl", "cluster.etcd.node_ttl"),
    ("cluster.etcd.lease", "cluster.etcd.node_ttl"),
    ("cluster.etcd.user", "cluster.etcd.username"),
    ("cluster.etcd.tls", "cluster.etcd.ssl_options.enable"),
    ("cluster.k8s.server", "cluster.k8s.apiserver"),
    ("cluster.k8s.service", "cluster.k8s.service_name"),
    ("cluster.k8s.app", "cluster.k8s.app_name"),
    ("cluster.mcast.interface", "cluster.mcast.iface"),
    ("cluster.mcast.address", "cluster.mcast.addr"),
    ("cluster.multicast", "cluster.mcast.addr"),
    ("cluster.kubernetes", "cluster.k8s.apiserver"),
    ("agent.mesh.port", "agent.mesh.base_port"),
    ("agent.mesh.listen", "agent.mesh.bind"),
    ("agent.api.bind", "agent.api.listen"),
    ("agent.api.port", "agent.api.listen"),
    ("agent.api.address", "agent.api.listen"),
    ("agent.api.key", "agent.api.token"),
    ("agent.api.password", "agent.api.token"),
    ("agent.api.ssl", "agent.api.tls.certfile"),
    ("agent.health.bind", "agent.health.listen"),
    ("agent.metrics.listen", "agent.health.listen"),
    ("agent.cookie", "node.cookie"),
    ("agent.level", "agent.log.level"),
    ("agent.loglevel", "agent.log.level"),
    ("agent.dns.nameservers", "agent.discovery.dns.nameservers"),
    ("agent.dns.zone", "agent.dns.domain"),
    ("agent.templates", "agent.render"),
    ("agent.labels", "agent.tags"),
    ("agent.meta", "agent.tags"),
    ("agent.handlers", "agent.hooks"),
];

/// Keys in the files that no table knows: errors under `cluster` and `agent`, warnings
/// under `node`, where EMQX adds more than it documents.
pub(super) fn unknown(r: &mut Reader<'_>, root: &Node) {
    for name in ROOTS {
        if let Some(node) = root.child(name) {
            unknown_below(r, name, name, node);
        }
    }
}

/// Older names that files set beside the newer ones. As in EMQX the newer one counts, in
/// whatever layer it is.
pub(super) fn older(r: &mut Reader<'_>, root: &Node) {
    for key in KEYS {
        let Some((alias, older)) = key.alias.and_then(|alias| Some((alias, root.at(alias)?)))
        else {
            continue;
        };
        let Some(newer) = root.at(key.path) else { continue };
        let same = match (&older.value, &newer.value) {
            (Value::Text(older), Value::Text(newer)) => older.text == newer.text,
            _ => false,
        };
        if !same && !matches!(newer.origin, Origin::Env(_)) {
            r.warnings.push(Finding {
                origin: older.key_origin.clone(),
                key: alias.to_owned(),
                message: format!("it is not used beside {}, its newer name", key.path),
                hint: Some(format!("{} is set at {}: keep one of them", key.path, newer.origin)),
            });
        }
    }
}

/// As [`unknown`], below one block, whose keys the table lists under `path`.
pub(super) fn unknown_below(r: &mut Reader<'_>, path: &str, shown: &str, node: &Node) {
    let Value::Object(fields) = &node.value else {
        let known = ROOTS.contains(&path) || is_block(path);
        if known && !is_key(path) {
            r.errors.push(Finding {
                origin: node.origin.clone(),
                key: shown.to_owned(),
                message: "found a value, allowed: a block { … }".to_owned(),
                hint: None,
            });
        }
        return;
    };
    for (name, child) in fields {
        let (path, shown) = (format!("{path}.{name}"), format!("{shown}.{name}"));
        if is_key(&path) || UNUSED.contains(&path.as_str()) {
            continue;
        }
        if is_block(&path) {
            unknown_below(r, &path, &shown, child);
            continue;
        }
        let finding = Finding {
            origin: child.key_origin.clone(),
            message: "unknown key".to_owned(),
            hint: meant(&path).map(|key| format!("the nearest known key is {}", key.path)),
            key: shown,
        };
        if finding.key.starts_with("node.") {
            r.warnings.push(finding);
        } else {
            r.errors.push(finding);
        }
    }
}

fn paths() -> impl Iterator<Item = &'static str> {
    KEYS.iter().flat_map(|key| [Some(key.path), key.alias]).flatten()
}

fn is_key(path: &str) -> bool {
    paths().any(|known| known == path)
}

fn is_block(path: &str) -> bool {
    let below = |known: &str| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    paths().any(below) || UNUSED.iter().any(|known| below(known))
}

/// The key that was meant: by what its name says; else that of the same last word
/// elsewhere; else the nearest in the same block; else the nearest of all.
pub(super) fn meant(path: &str) -> Option<&'static Key> {
    let key = |path: &str| KEYS.iter().find(|key| key.path == path);
    if let Some(found) = MEANT.iter().find(|(old, _)| *old == path).and_then(|(_, new)| key(new)) {
        return Some(found);
    }
    let (block, last) = path.rsplit_once('.').unwrap_or(("", path));
    let root = path.split('.').next().unwrap_or_default();
    let known = || KEYS.iter().map(|key| key.path).filter(|known| known.starts_with(root));
    let moved = nearest(path, known().filter(|known| known.rsplit('.').next() == Some(last)));
    let within = format!("{block}.");
    let siblings = || known().filter(|known| known.starts_with(&within));
    let depth = block.split('.').count();
    let names = siblings().filter_map(|known| {
        known.match_indices('.').nth(depth).map_or(Some(known), |(at, _)| known.get(..at))
    });
    let name = moved.or_else(|| near(path, names)).or_else(|| nearest(path, known()))?;
    // A block stands for the first key inside it.
    key(name).or_else(|| KEYS.iter().find(|key| key.path.starts_with(&format!("{name}."))))
}
