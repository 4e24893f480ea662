//! What several keys must agree on, and the names that nobody knows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::error::Finding;
use super::keys::{self, KEYS, UNUSED};
use super::nearest::{near, nearest};
use super::read_agent::AgentParts;
use super::read_cluster::ClusterParts;
use super::read_node::NodeParts;
use super::reader::{Read, Reader};
use super::tree::{Node, ROOTS, Value};
use super::types::{AddressType, ApiListen, Config, ProtoDist, RecordType, StrategyConfig};
use crate::node::{Host, NodeName};
use crate::secret::Secret;

/// The API's port of a node with offset 0.
const API_BASE_PORT: u16 = 7370;

/// Cookies that EMQX ships: everybody knows them.
const SHIPPED_COOKIES: [&str; 2] = ["emqxsecretcookie", "emqx50elixir"];

/// A cookie shorter than this many characters is guessed offline from one recorded
/// handshake (a digest of MD5), whoever recorded it.
pub const SHORT_COOKIE: usize = 16;

/// Why a cookie is no secret, in words that follow "the cookie is".
fn weakness(text: &str) -> Option<String> {
    if SHIPPED_COOKIES.contains(&text) {
        return Some("one that EMQX ships".to_owned());
    }
    let short = text.chars().count() < SHORT_COOKIE;
    short.then(|| format!("shorter than {SHORT_COOKIE} characters"))
}

/// The weakness of the first cookie that is no secret.
fn weakest(cookies: &[Secret]) -> Option<String> {
    cookies.iter().find_map(|cookie| weakness(cookie.expose()))
}

/// Whether a recorded handshake is all it takes to guess a weak cookie.
fn is_exposed(proto: ProtoDist, loopback: bool, strategy: Option<&StrategyConfig>) -> bool {
    let alone = matches!(strategy, Some(StrategyConfig::Singleton));
    !proto.is_tls() && !loopback && !alone
}

impl Config {
    /// Says of the cookies in use why one is no secret, if one is none.
    #[must_use]
    pub fn weak_cookie(&self) -> Option<String> {
        Some(format!("a cookie is {}", weakest(&self.node.cookies.current())?))
    }

    /// Why the agent would not start with these cookies, if it would not.
    #[must_use]
    pub fn forbids_cookies(&self, cookies: &[Secret]) -> Option<String> {
        let cluster = &self.cluster;
        let loopback = self.mesh_bind().iter().all(IpAddr::is_loopback);
        let exposed = is_exposed(cluster.proto_dist, loopback, Some(&cluster.strategy));
        let forbidden = exposed && !self.agent.mesh.allow_insecure_cookie;
        weakest(cookies).filter(|_| forbidden).map(weak_and_exposed)
    }

    /// The addresses the mesh binds: those of `agent.mesh.bind`; else the node name's
    /// host if that is a loopback address, so that a local cluster stays local; else
    /// every address of the protocol's family.
    #[must_use]
    pub fn mesh_bind(&self) -> Vec<IpAddr> {
        if self.agent.mesh.bind.is_empty() {
            vec![default_bind(&self.node.name, self.cluster.proto_dist)]
        } else {
            self.agent.mesh.bind.clone()
        }
    }

    /// The mesh's own port: base port + offset.
    #[must_use]
    pub fn mesh_port(&self) -> u16 {
        // Checked when the configuration was read.
        self.agent.mesh.port_of(&self.node.name).unwrap_or(u16::MAX)
    }

    /// Where this host's clients reach the API: an address that is bound everywhere
    /// is reached over loopback.
    #[must_use]
    pub fn api_address(&self) -> ApiListen {
        match &self.agent.api.listen {
            ApiListen::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                    ip => ip,
                };
                ApiListen::Tcp(SocketAddr::new(ip, address.port()))
            }
            ApiListen::Unix(path) => ApiListen::Unix(path.clone()),
        }
    }
}

pub(super) fn default_bind(node: &NodeName, proto: ProtoDist) -> IpAddr {
    match (node.host().ip(), proto.is_ipv6()) {
        (Some(ip), _) if ip.is_loopback() => ip,
        (_, false) => Ipv4Addr::UNSPECIFIED.into(),
        (_, true) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// Checks across keys; gives `agent.api.listen` its derived value.
pub(super) fn across(
    r: &mut Reader<'_>,
    node: &NodeParts,
    cluster: &ClusterParts,
    agent: &mut AgentParts,
) {
    let Some(name) = &node.name else { return };
    ports(r, name, agent);
    if let Some(proto) = &cluster.proto_dist {
        families(r, name, proto, agent);
    }
    if let Some(strategy) = &cluster.strategy {
        record_type(r, name, strategy);
        k8s_names(r, name, strategy);
    }
    cookie(r, name, node, cluster, agent);
    api(r, agent);
}

fn ports(r: &mut Reader<'_>, name: &Read<NodeName>, agent: &mut AgentParts) {
    let offset = name.value.offset();
    let too_high = |base: u16, what: &str| {
        format!(
            "the digits at the end of `{}` make {offset}, and {what} {base} + {offset} is beyond 65535",
            name.value.name()
        )
    };
    let hint = "take a smaller number";
    if let Some(base) = &agent.base_port
        && base.value.checked_add(offset).is_none()
    {
        r.error(name, too_high(base.value, "agent.mesh.base_port"), hint);
    }
    if agent.listen.is_none() && r.find(&keys::API_LISTEN).is_none() {
        match API_BASE_PORT.checked_add(offset) {
            Some(port) => {
                let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
                r.derived(&keys::API_LISTEN, address, false);
                agent.listen = Some(Read {
                    value: ApiListen::Tcp(address),
                    origin: super::error::Origin::Default,
                    key: keys::API_LISTEN.path.to_owned(),
                });
            }
            None => r.error(
                name,
                too_high(API_BASE_PORT, "the API's port"),
                "take a smaller number, or set agent.api.listen",
            ),
        }
    }
    let mesh = agent.base_port.as_ref().and_then(|base| base.value.checked_add(offset));
    if let Some(listen) = &agent.listen
        && let ApiListen::Tcp(address) = listen.value
        && mesh == Some(address.port())
    {
        let message = format!("port {} is the mesh's too", address.port());
        r.error(listen, message, "change agent.api.listen or agent.mesh.base_port");
    }
}

fn families(
    r: &mut Reader<'_>,
    name: &Read<NodeName>,
    proto: &Read<ProtoDist>,
    agent: &AgentParts,
) {
    let v6 = proto.value.is_ipv6();
    let family = if v6 { "IPv6" } else { "IPv4" };
    let other = match (proto.value.is_tls(), v6) {
        (false, false) => "inet6_tcp",
        (false, true) => "inet_tcp",
        (true, false) => "inet6_tls",
        (true, true) => "inet_tls",
    };
    let wrong = match name.value.host() {
        Host::V4(_) => v6,
        Host::V6(_) => !v6,
        Host::Dns(_) => false,
    };
    let proto_name = proto.value.name();
    if wrong {
        let message = format!("found `{}`, but {proto_name} needs {family}", name.value);
        r.error(name, message, &format!("set cluster.proto_dist = {other}, or change the host"));
    }
    for ip in agent.bind.iter().flat_map(|bind| &bind.value) {
        if ip.value.is_ipv6() != v6 {
            let message = format!("found `{}`, but {proto_name} needs {family}", ip.value);
            r.error(ip, message, &format!("set cluster.proto_dist = {other}, or change it"));
        }
    }
    if !wrong && agent.bind.as_ref().is_none_or(|bind| bind.value.is_empty()) {
        r.derived(&keys::MESH_BIND, default_bind(&name.value, proto.value), true);
    }
}

/// Address records name nodes `name@address`: a node with another kind of name would
/// be found under a name that is not its own.
fn record_type(r: &mut Reader<'_>, name: &Read<NodeName>, strategy: &Read<StrategyConfig>) {
    let StrategyConfig::Dns(dns) = &strategy.value else { return };
    let (record, family, fits) = match dns.record_type {
        RecordType::A => ("a", "IPv4", matches!(name.value.host(), Host::V4(_))),
        RecordType::Aaaa => ("aaaa", "IPv6", matches!(name.value.host(), Host::V6(_))),
        RecordType::Srv => return,
    };
    if !fits {
        let message = format!(
            "found `{}`, but discovery by `{record}` records needs a node name with an {family} address",
            name.value
        );
        let own = name.value.name();
        let hint = format!("name it {own}@ADDRESS, or set cluster.dns.record_type = srv");
        r.error(name, message, &hint);
    }
}

/// Kubernetes' endpoints are given node names; this node's own should be one of them.
fn k8s_names(r: &mut Reader<'_>, name: &Read<NodeName>, strategy: &Read<StrategyConfig>) {
    let StrategyConfig::K8s(k8s) = &strategy.value else { return };
    let ip = k8s.address_type == AddressType::Ip;
    if k8s.app_name != name.value.name() || ip != name.value.host().ip().is_some() {
        let host = if ip { "an address" } else { "a DNS name" };
        let message = format!(
            "found `{}`, but discovery names the nodes {}@ and {host}",
            name.value, k8s.app_name
        );
        r.warn(name, message, "a node must have the name that the others find it by");
    }
}

fn weak_and_exposed(weak: String) -> String {
    format!("the cookie is {weak}, and the mesh is plain TCP beyond loopback")
}

fn cookie(
    r: &mut Reader<'_>,
    name: &Read<NodeName>,
    node: &NodeParts,
    cluster: &ClusterParts,
    agent: &AgentParts,
) {
    let (Some(cookies), Some(proto)) = (&node.cookies, &cluster.proto_dist) else { return };
    let Some(weak) = weakest(&cookies.value.current()) else { return };
    let bound = match agent.bind.as_ref().filter(|bind| !bind.value.is_empty()) {
        Some(bind) => bind.value.iter().all(|ip| ip.value.is_loopback()),
        None => default_bind(&name.value, proto.value).is_loopback(),
    };
    if !is_exposed(proto.value, bound, cluster.strategy.as_ref().map(|read| &read.value)) {
        return;
    }
    let message = weak_and_exposed(weak);
    if agent.allow_insecure_cookie == Some(true) {
        r.warn(cookies, message, "allowed by agent.mesh.allow_insecure_cookie");
    } else {
        r.error(
            cookies,
            message,
            "take a long random one (openssl rand -hex 32), or TLS, or set \
             agent.mesh.allow_insecure_cookie = true",
        );
    }
}

fn api(r: &mut Reader<'_>, agent: &AgentParts) {
    let Some(listen) = &agent.listen else { return };
    let ApiListen::Tcp(address) = listen.value else { return };
    let no_token = agent.token.is_none() && r.find(&keys::API_TOKEN).is_none();
    if !address.ip().is_loopback() && no_token {
        let message = format!("found `{address}`, which is beyond loopback, without a token");
        r.error(listen, message, "set agent.api.token, or listen on 127.0.0.1");
    }
}

/// Keys in the files that no table knows: errors under `cluster` and `agent`, warnings
/// under `node`, where EMQX adds more than it documents.
pub(super) fn unknown_keys(r: &mut Reader<'_>, root: &Node) {
    for name in ROOTS {
        if let Some(node) = root.child(name) {
            walk(r, name, node);
        }
    }
}

fn walk(r: &mut Reader<'_>, path: &str, node: &Node) {
    let Value::Object(fields) = &node.value else {
        let known = ROOTS.contains(&path) || is_block(path);
        if known && !is_key(path) {
            r.errors.push(Finding {
                origin: node.origin.clone(),
                key: path.to_owned(),
                message: "found a value, allowed: a block { … }".to_owned(),
                hint: None,
            });
        }
        return;
    };
    for (name, child) in fields {
        let path = format!("{path}.{name}");
        if is_key(&path) || UNUSED.contains(&path.as_str()) {
            continue;
        }
        if is_block(&path) {
            walk(r, &path, child);
            continue;
        }
        let finding = Finding {
            origin: child.key_origin.clone(),
            message: "unknown key".to_owned(),
            hint: Some(suggestion(&path)),
            key: path,
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

/// The key of the same last word elsewhere; else the nearest in the same block; else
/// the nearest of all.
fn suggestion(path: &str) -> String {
    let (block, last) = path.rsplit_once('.').unwrap_or(("", path));
    let root = path.split('.').next().unwrap_or_default();
    let known = || KEYS.iter().map(|key| key.path).filter(|known| known.starts_with(root));
    let moved = known().filter(|known| known.rsplit('.').next() == Some(last));
    let moved = nearest(path, moved);
    let depth = block.split('.').count();
    let siblings =
        known().filter(|known| known.starts_with(&format!("{block}."))).filter_map(|known| {
            known.match_indices('.').nth(depth).map_or(Some(known), |(at, _)| known.get(..at))
        });
    let found = moved.or_else(|| near(path, siblings)).or_else(|| nearest(path, known()));
    match found {
        Some(found) => format!("the nearest known key is {found}"),
        None => "see the list of keys in the documentation".to_owned(),
    }
}
