//! What several keys must agree on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::keys;
use super::read_node::{Own, Selected};
use super::reader::Reader;
use super::types::{
    AddressType, AgentConfig, ApiConfig, ApiListen, Config, DnsDiscovery, MeshConfig, ProtoDist,
    RecordType, StrategyConfig,
};
use crate::node::{Host, NodeName};
use crate::secret::Secret;

/// The API's port of a node with offset 0.
pub(crate) const API_BASE_PORT: u16 = 7370;

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

impl Config {
    /// Says of the cookies in use why one is no secret, if one is none.
    #[must_use]
    pub fn weak_cookie(&self) -> Option<String> {
        Some(format!("a cookie is {}", weakest(&self.node.cookies.current())?))
    }

    /// Why the agent would not start with these cookies, if it would not.
    #[must_use]
    pub fn forbids_cookies(&self, cookies: &[Secret]) -> Option<String> {
        let alone = matches!(self.cluster.strategy, StrategyConfig::Singleton);
        let exposed = is_exposed(self.cluster.proto_dist, &self.mesh_bind(), alone);
        let forbidden = exposed && !self.agent.mesh.allow_insecure_cookie;
        Some(weak_and_exposed(&weakest(cookies).filter(|_| forbidden)?))
    }

    /// The addresses the mesh binds: those of `agent.mesh.bind`; else the node name's
    /// host if that is a loopback address, so that a local cluster stays local; else
    /// every address of the protocol's family.
    #[must_use]
    pub fn mesh_bind(&self) -> Vec<IpAddr> {
        bound(&self.agent.mesh, &self.node.name, self.cluster.proto_dist)
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

/// Whether a recorded handshake is all it takes to guess a weak cookie.
fn is_exposed(proto: ProtoDist, bound: &[IpAddr], alone: bool) -> bool {
    !proto.is_tls() && !bound.iter().all(IpAddr::is_loopback) && !alone
}

fn bound(mesh: &MeshConfig, node: &NodeName, proto: ProtoDist) -> Vec<IpAddr> {
    match mesh.bind.as_slice() {
        [] => vec![default_bind(node, proto)],
        bind => bind.to_vec(),
    }
}

fn default_bind(node: &NodeName, proto: ProtoDist) -> IpAddr {
    match (node.host().ip(), proto.is_ipv6()) {
        (Some(ip), _) if ip.is_loopback() => ip,
        (_, false) => Ipv4Addr::UNSPECIFIED.into(),
        (_, true) => Ipv6Addr::UNSPECIFIED.into(),
    }
}

/// The address in a node name must be of the protocol's family.
pub(super) fn family(r: &mut Reader<'_>, name: &NodeName, proto: ProtoDist) {
    let wrong = match name.host() {
        Host::V4(_) => proto.is_ipv6(),
        Host::V6(_) => !proto.is_ipv6(),
        Host::Dns(_) => false,
    };
    if wrong {
        let (message, hint) = wrong_family(name, proto, "the host");
        r.error(&keys::NODE_NAME, message, &hint);
    }
}

fn wrong_family(found: impl std::fmt::Display, proto: ProtoDist, what: &str) -> (String, String) {
    let (family, other) = match proto {
        ProtoDist::InetTcp => ("IPv4", ProtoDist::Inet6Tcp),
        ProtoDist::Inet6Tcp => ("IPv6", ProtoDist::InetTcp),
        ProtoDist::InetTls => ("IPv4", ProtoDist::Inet6Tls),
        ProtoDist::Inet6Tls => ("IPv6", ProtoDist::InetTls),
    };
    (
        format!("found `{found}`, but {} needs {family}", proto.name()),
        format!("set cluster.proto_dist = {}, or change {what}", other.name()),
    )
}

/// The names that discovery finds nodes by: this node's own should be one of them.
pub(super) fn found_names(r: &mut Reader<'_>, name: &NodeName, strategy: &StrategyConfig) {
    match strategy {
        StrategyConfig::Dns(dns) => records(r, name, dns),
        StrategyConfig::K8s(k8s) => {
            let ip = k8s.address_type == AddressType::Ip;
            if k8s.app_name != name.name() || ip != name.host().ip().is_some() {
                let host = if ip { "an address" } else { "a DNS name" };
                other_names(r, name, &k8s.app_name, host);
            }
        }
        _ => {}
    }
}

/// Address records name nodes `name@address`: a node with another kind of name would be
/// found under a name that is not its own.
fn records(r: &mut Reader<'_>, name: &NodeName, dns: &DnsDiscovery) {
    let address = match dns.record_type {
        RecordType::A => Some(("a", "IPv4", matches!(name.host(), Host::V4(_)))),
        RecordType::Aaaa => Some(("aaaa", "IPv6", matches!(name.host(), Host::V6(_)))),
        RecordType::Srv => None,
    };
    if let Some((record, family, false)) = address {
        let message = format!(
            "found `{name}`, but discovery by `{record}` records needs a node name with an {family} address",
        );
        let own = name.name();
        let hint = format!("name it {own}@ADDRESS, or set cluster.dns.record_type = srv");
        r.error(&keys::NODE_NAME, message, &hint);
    } else if dns.app_name != name.name() {
        let host = if address.is_some() { "an address" } else { "a DNS name" };
        other_names(r, name, &dns.app_name, host);
    }
}

fn other_names(r: &mut Reader<'_>, name: &NodeName, app: &str, host: &str) {
    let message = format!("found `{name}`, but discovery names the nodes {app}@ and {host}");
    let hint = "a node must have the name that the others find it by";
    r.warn(&keys::NODE_NAME, message, hint);
}

/// The mesh's addresses and port; notes what the addresses come to.
pub(super) fn mesh(r: &mut Reader<'_>, own: &Own, mesh: &MeshConfig) {
    let Some(name) = &own.name else { return };
    if mesh.port_of(name).is_none() {
        let message = too_high(name, mesh.base_port, "agent.mesh.base_port");
        r.error(&keys::NODE_NAME, message, "take a smaller number");
    }
    cookies(r, own, mesh);
    let Some(proto) = own.proto else { return };
    for (n, ip) in mesh.bind.iter().enumerate() {
        if ip.is_ipv6() != proto.is_ipv6() {
            let (message, hint) = wrong_family(ip, proto, "it");
            r.error_at(&keys::MESH_BIND, n, message, &hint);
        }
    }
    let ip = default_bind(name, proto);
    if name.host().ip().is_none_or(|host| host.is_ipv6() == proto.is_ipv6()) {
        r.derived(&keys::MESH_BIND, ip, true);
    }
}

fn too_high(name: &NodeName, base: u16, what: &str) -> String {
    let offset = name.offset();
    format!(
        "the digits at the end of `{}` make {offset}, and {what} {base} + {offset} is beyond 65535",
        name.name()
    )
}

/// Where the API listens if nobody says so.
pub(super) fn default_listen(r: &mut Reader<'_>, own: &Own) -> Option<ApiListen> {
    let name = own.name.as_ref()?;
    let Some(port) = API_BASE_PORT.checked_add(name.offset()) else {
        let message = too_high(name, API_BASE_PORT, "the API's port");
        r.error(&keys::NODE_NAME, message, "take a smaller number, or set agent.api.listen");
        return None;
    };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    r.derived(&keys::API_LISTEN, address, false);
    Some(ApiListen::Tcp(address))
}

/// Two listeners must not want one port.
pub(super) fn ports(r: &mut Reader<'_>, own: &Own, agent: &AgentConfig) {
    let api = match agent.api.listen {
        ApiListen::Tcp(address) => Some(address.port()),
        ApiListen::Unix(_) => None,
    };
    let health = agent.health.listen.map(|address| address.port());
    let mesh = own.name.as_ref().and_then(|name| agent.mesh.port_of(name));
    let hint = "change it or agent.mesh.base_port";
    if let Some(port) = api.filter(|port| mesh == Some(*port)) {
        let hint = "change agent.api.listen or agent.mesh.base_port";
        r.error(&keys::API_LISTEN, format!("port {port} is the mesh's too"), hint);
    }
    if let Some(port) = health.filter(|port| mesh == Some(*port)) {
        r.error(&keys::HEALTH_LISTEN, format!("port {port} is the mesh's too"), hint);
    }
    if let Some(port) = health.filter(|port| api == Some(*port)) {
        let hint = "change it or agent.api.listen";
        r.error(&keys::HEALTH_LISTEN, format!("port {port} is the API's too"), hint);
    }
    let dns = agent.dns.as_ref().map(|dns| dns.listen.port());
    for (other, whose) in [(mesh, "mesh"), (api, "API"), (health, "health listener")] {
        if let Some(port) = dns.filter(|port| other == Some(*port)) {
            let message = format!("port {port} is the {whose}'s too");
            r.error(&keys::SERVE_LISTEN, message, "change one of them");
        }
    }
}

fn weak_and_exposed(weak: &str) -> String {
    format!("the cookie is {weak}, and the mesh is plain TCP beyond loopback")
}

/// Cookies that are no secret, where everybody can listen.
fn cookies(r: &mut Reader<'_>, own: &Own, mesh: &MeshConfig) {
    let (Some(name), Some(proto), Some(cookies)) = (&own.name, own.proto, &own.cookies) else {
        return;
    };
    let cookies = cookies.current();
    let Some(n) = cookies.iter().position(|cookie| weakness(cookie.expose()).is_some()) else {
        return;
    };
    let alone = own.strategy == Some(Selected::Singleton);
    if !is_exposed(proto, &bound(mesh, name, proto), alone) {
        return;
    }
    let key = if n < own.offered { &keys::NODE_COOKIE } else { &keys::MESH_ACCEPT_COOKIES };
    let message = weak_and_exposed(&weakness(cookies[n].expose()).unwrap_or_default());
    if mesh.allow_insecure_cookie {
        r.warn(key, message, "allowed by agent.mesh.allow_insecure_cookie");
    } else {
        r.error(
            key,
            message,
            "take a long random one (openssl rand -hex 32), or TLS, or set \
             agent.mesh.allow_insecure_cookie = true",
        );
    }
}

/// An API that others reach must be guarded, and a socket's guard is its mode.
pub(super) fn api(r: &mut Reader<'_>, api: &ApiConfig) {
    match &api.listen {
        ApiListen::Tcp(address) if !address.ip().is_loopback() && api.token.is_none() => {
            let message = format!("found `{address}`, which is beyond loopback, without a token");
            r.error(&keys::API_LISTEN, message, "set agent.api.token, or listen on 127.0.0.1");
        }
        ApiListen::Unix(_) if api.tls.is_some() => {
            let message = "found TLS on a Unix socket".to_owned();
            let hint = "remove agent.api.tls, or listen on an address";
            r.error(&keys::API_TLS_CERTFILE, message, hint);
        }
        _ => {}
    }
}
