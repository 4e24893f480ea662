//! The validated configuration: what the rest of the program sees of `emqx.conf`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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
    /// `node.cookie`: never empty; the first is offered, any is accepted. Those from files
    /// change with them while the agent runs, in every clone of this configuration.
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
    Dns(DnsConfig),
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
pub struct DnsConfig {
    /// The name asked for.
    pub name: String,
    /// The record type asked for.
    pub record_type: RecordType,
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

/// `agent.*`.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// `agent.mesh`.
    pub mesh: MeshConfig,
    /// `agent.api`.
    pub api: ApiConfig,
    /// `agent.discovery`.
    pub discovery: DiscoveryConfig,
    /// `agent.ready`.
    pub ready: ReadyConfig,
    /// `agent.log`.
    pub log: LogConfig,
}

/// `agent.mesh.*`.
#[derive(Clone, Debug)]
pub struct MeshConfig {
    /// The node's offset is added to it.
    pub base_port: u16,
    /// Bound addresses; empty: every address of the protocol's family.
    pub bind: Vec<IpAddr>,
    /// A connection that has not finished its handshake by then is closed.
    pub handshake_timeout: Duration,
    /// Longest frame accepted, bytes.
    pub max_frame: usize,
    /// Up to so many members every pair holds a link.
    pub full_mesh_limit: usize,
    /// Whether a certificate must name the node it speaks for.
    pub verify_node_name: bool,
    /// Whether a shipped or short cookie may guard plain TCP beyond loopback.
    pub allow_insecure_cookie: bool,
}

impl MeshConfig {
    /// The port of a node's mesh listener: base port + offset. `None` beyond 65535.
    #[must_use]
    pub fn port_of(&self, node: &NodeName) -> Option<u16> {
        self.base_port.checked_add(node.offset())
    }
}

/// `agent.api.*`.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Where the API listens.
    pub listen: ApiListen,
    /// Guards mutating routes, and every route beyond loopback.
    pub token: Option<Secret>,
}

/// `agent.api.listen`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApiListen {
    /// A TCP address.
    Tcp(SocketAddr),
    /// `unix:/path`.
    Unix(PathBuf),
}

impl fmt::Display for ApiListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// `agent.discovery.*`.
#[derive(Clone, Debug)]
pub struct DiscoveryConfig {
    /// Time between two rounds of a strategy that is polled.
    pub interval: Duration,
    /// Name servers asked instead of the system's; empty: the system's.
    pub nameservers: Vec<SocketAddr>,
    /// Kubernetes client configuration used outside a cluster.
    pub kubeconfig: Option<PathBuf>,
    /// Whether endpoints that are not ready count.
    pub include_not_ready: bool,
}

/// `agent.ready.*`.
#[derive(Clone, Debug)]
pub struct ReadyConfig {
    /// Members that must be up before `/readyz` says yes.
    pub min_members: usize,
}

/// `agent.log.*`.
#[derive(Clone, Copy, Debug)]
pub struct LogConfig {
    /// The least severe level written.
    pub level: tracing::Level,
    /// How lines look.
    pub format: LogFormat,
}

/// `agent.log.format`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
