//! The validated configuration: what the rest of the program sees of `emqx.conf`.

mod agent;

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use agent::*;

use crate::cookies::Cookies;
use crate::node::{NodeName, Role};
use crate::secret::Secret;

/// Everything muster reads from its configuration, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The `node` block.
    pub node: NodeConfig,
    /// The `cluster` block.
    pub cluster: ClusterConfig,
    /// The `agent` block.
    pub agent: AgentConfig,
}

/// `node.*`.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// `node.name`.
    pub name: NodeName,
    /// `node.cookie`: never empty; the first is offered, any is accepted, also those of
    /// `agent.mesh.accept_cookies`, which stand behind the others. Those from files change
    /// with them while the agent runs, in every clone of this configuration.
    pub cookies: Cookies,
    /// `node.data_dir`; the state is kept in `muster/` below it.
    pub data_dir: PathBuf,
    /// `node.role`.
    pub role: Role,
    /// `node.ssl_dist_optfile`, with `${EMQX_ETC_DIR}` expanded; read only with TLS.
    pub ssl_dist_optfile: PathBuf,
}

/// `cluster.*`.
#[derive(Clone, Debug)]
pub struct ClusterConfig {
    /// `cluster.name`.
    pub name: String,
    /// `cluster.description`.
    pub description: String,
    /// `cluster.discovery_strategy` with the settings it needs.
    pub strategy: StrategyConfig,
    /// `cluster.autoclean`: how long a member is down before it is removed; `None`: never.
    pub autoclean: Option<Duration>,
    /// `cluster.autoheal`.
    pub autoheal: bool,
    /// `cluster.proto_dist`.
    pub proto_dist: ProtoDist,
    /// `cluster.core_nodes`: contacted besides what the strategy finds.
    pub core_nodes: Vec<NodeName>,
}

/// The selected strategy; the other strategies' blocks are checked and dropped.
#[derive(Clone, Debug)]
pub enum StrategyConfig {
    /// Discovers nothing; `join` is the way in.
    Manual,
    /// `cluster.static.seeds`.
    Static {
        /// The seeds; this node itself may be among them.
        seeds: Vec<NodeName>,
    },
    /// `cluster.mcast`.
    Mcast(McastConfig),
    /// `cluster.dns`.
    Dns(DnsDiscovery),
    /// `cluster.etcd`.
    Etcd(EtcdConfig),
    /// `cluster.k8s`.
    K8s(K8sConfig),
    /// No listener and no peers.
    Singleton,
}

impl StrategyConfig {
    /// The strategy's name as `cluster.discovery_strategy` spells it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Manual => "manual",
            Self::Static { .. } => "static",
            Self::Mcast(_) => "mcast",
            Self::Dns(_) => "dns",
            Self::Etcd(_) => "etcd",
            Self::K8s(_) => "k8s",
            Self::Singleton => "singleton",
        }
    }

    /// Whether nodes join what is discovered, without being told to.
    #[must_use]
    pub fn is_automatic(&self) -> bool {
        !matches!(self, Self::Manual | Self::Singleton)
    }
}

/// `cluster.mcast.*`.
#[derive(Clone, Debug)]
pub struct McastConfig {
    /// The group, IPv4 or IPv6.
    pub addr: IpAddr,
    /// Ports tried in order; the first free one is bound, all are sent to.
    pub ports: Vec<u16>,
    /// The interface, by address or by name.
    pub iface: String,
    /// Time to live, 0 to 255.
    pub ttl: u8,
    /// Whether this host's other sockets receive what is sent.
    pub multicast_loop: bool,
    /// Send buffer of the socket, bytes.
    pub sndbuf: usize,
    /// Receive buffer of the socket, bytes.
    pub recbuf: usize,
    /// User-level buffer, bytes: the longest datagram read.
    pub buffer: usize,
}

/// `cluster.dns.*`.
#[derive(Clone, Debug)]
pub struct DnsDiscovery {
    /// The name asked for.
    pub name: String,
    /// The record type asked for.
    pub record_type: RecordType,
    /// The part before the `@` of the names found: this node's own, unless `app` says
    /// otherwise.
    pub app_name: String,
}

/// `cluster.dns.record_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
    /// Targets; their ports are ignored.
    Srv,
}

/// `cluster.etcd.*`.
#[derive(Clone, Debug)]
pub struct EtcdConfig {
    /// At least one `http://` or `https://` URL.
    pub servers: Vec<String>,
    /// The first component of every key, without slashes around it.
    pub prefix: String,
    /// Lease time to live, at least 1 s.
    pub node_ttl: Duration,
    /// `username` and `password`, when authentication is on.
    pub auth: Option<(String, Secret)>,
    /// `ssl_options`, when enabled.
    pub tls: Option<ClientTls>,
}

/// `ssl_options` of a backend.
#[derive(Clone, Debug)]
pub struct ClientTls {
    /// Trusted CAs, PEM; `None`: the system's.
    pub cacertfile: Option<PathBuf>,
    /// The client certificate chain, PEM.
    pub certfile: Option<PathBuf>,
    /// Its key, PEM.
    pub keyfile: Option<PathBuf>,
    /// The key's passphrase.
    pub password: Option<Secret>,
    /// `verify_peer` (true) or `verify_none`.
    pub verify: bool,
    /// The name the server's certificate must carry, when it isn't the URL's host.
    pub server_name: Option<String>,
}

/// `cluster.k8s.*`.
#[derive(Clone, Debug)]
pub struct K8sConfig {
    /// The API server's URL; plain `http://` is allowed.
    pub apiserver: String,
    /// The service whose endpoints are the nodes.
    pub service_name: String,
    /// How an endpoint becomes a node name.
    pub address_type: AddressType,
    /// The service's namespace.
    pub namespace: String,
    /// Appended to the address for `dns` and `hostname`; empty: the bare address.
    pub suffix: String,
    /// The part before the `@`.
    pub app_name: String,
}

/// `cluster.k8s.address_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressType {
    /// `app@<ip>`.
    Ip,
    /// `app@<ip with dashes>.<namespace>.<suffix>`.
    Dns,
    /// `app@<hostname>.<service>.<namespace>.<suffix>`.
    Hostname,
}

/// `cluster.proto_dist`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtoDist {
    /// TCP over IPv4.
    InetTcp,
    /// TCP over IPv6.
    Inet6Tcp,
    /// TLS over IPv4.
    InetTls,
    /// TLS over IPv6.
    Inet6Tls,
}

impl ProtoDist {
    /// As the configuration spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::InetTcp => "inet_tcp",
            Self::Inet6Tcp => "inet6_tcp",
            Self::InetTls => "inet_tls",
            Self::Inet6Tls => "inet6_tls",
        }
    }

    /// Whether the links are TLS.
    #[must_use]
    pub fn is_tls(self) -> bool {
        matches!(self, Self::InetTls | Self::Inet6Tls)
    }

    /// Whether the links are IPv6.
    #[must_use]
    pub fn is_ipv6(self) -> bool {
        matches!(self, Self::Inet6Tcp | Self::Inet6Tls)
    }
}
