//! `agent.*`: what is muster's own.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::attributes::Tags;
use crate::node::NodeName;
use crate::secret::Secret;

/// `agent.*`.
#[derive(Clone, Debug)]
pub struct AgentConfig {
    /// `agent.mesh`.
    pub mesh: MeshConfig,
    /// `agent.api`.
    pub api: ApiConfig,
    /// `agent.health`.
    pub health: HealthConfig,
    /// `agent.discovery`.
    pub discovery: DiscoveryConfig,
    /// `agent.ready`.
    pub ready: ReadyConfig,
    /// `agent.leave_on_stop`.
    pub leave_on_stop: LeaveOnStop,
    /// `agent.tags`.
    pub tags: Tags,
    /// `agent.broker`.
    pub broker: BrokerConfig,
    /// `agent.render`: the files kept up to date.
    pub render: Vec<RenderConfig>,
    /// `agent.hooks`: what is told of events.
    pub hooks: Vec<HookConfig>,
    /// `agent.dns`; `None`: no name is served.
    pub dns: Option<DnsConfig>,
    /// `agent.log`.
    pub log: LogConfig,
}

/// `agent.mesh.*`. The cookies of `accept_cookies` stand behind those of `node.cookie`, in
/// [`NodeConfig::cookies`](super::NodeConfig::cookies).
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
    /// `agent.api.tls`; `None`: plain HTTP. Never with a Unix socket.
    pub tls: Option<ApiTls>,
}

/// `agent.api.tls.*`: HTTPS. The files are read when they are used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiTls {
    /// The certificate chain, PEM.
    pub certfile: PathBuf,
    /// Its key, PEM.
    pub keyfile: PathBuf,
    /// CAs of client certificates, PEM; set, clients need a certificate.
    pub cacertfile: Option<PathBuf>,
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

/// `agent.health.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthConfig {
    /// Where load balancers, kubelets and Prometheus ask without a token; `None`: nowhere.
    pub listen: Option<SocketAddr>,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadyConfig {
    /// Members that must be up before `/readyz` says yes.
    pub min_members: usize,
    /// Whether a node without the majority of the cores is not ready.
    pub majority: bool,
}

/// `agent.leave_on_stop`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaveOnStop {
    /// Where a name never comes back: `k8s` with `address_type` `ip` or `dns`.
    Auto,
    /// `true`.
    Always,
    /// `false`.
    Never,
}

/// `agent.log.*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// `agent.broker.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrokerConfig {
    /// What stands next door; [`BrokerKind::None`]: the rest means nothing.
    pub kind: BrokerKind,
    /// `host:port` that clients and other brokers connect to, an IPv6 host in brackets.
    pub address: String,
    /// How it is looked at.
    pub probe: ProbeConfig,
    /// Whether this node is not ready while its broker is down.
    pub required: bool,
    /// Whether agents make EMQX's nodes one cluster; with [`BrokerKind::Emqx`] only.
    pub drive: bool,
}

/// `agent.broker.kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BrokerKind {
    /// No broker.
    None,
    /// Up when it accepts a TCP connection.
    Tcp,
    /// Up when it answers an MQTT CONNECT with a CONNACK.
    Mqtt,
    /// Up when a GET gets 2xx.
    Http,
    /// As `http`, at EMQX's `/status`; and its own cluster is looked at.
    Emqx,
}

impl BrokerKind {
    /// As the configuration spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Tcp => "tcp",
            Self::Mqtt => "mqtt",
            Self::Http => "http",
            Self::Emqx => "emqx",
        }
    }

    /// Whether the probe's target is a URL, and not `host:port`.
    #[must_use]
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Emqx)
    }
}

/// `agent.broker.probe.*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeConfig {
    /// `host:port`, or an `http://` URL where [`BrokerKind::is_http`]; empty without a broker.
    pub target: String,
    /// Time between two probes.
    pub interval: Duration,
    /// A probe without an answer by then has failed; not above the interval.
    pub timeout: Duration,
    /// Successes in a row that make it up.
    pub rise: u32,
    /// Failures in a row that make it down.
    pub fall: u32,
}

/// One of `agent.render`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RenderConfig {
    /// The template.
    pub source: PathBuf,
    /// The file it becomes; no two of a configuration have the same.
    pub target: PathBuf,
    /// The program that judges a candidate, with its arguments, in which `{file}` stands for
    /// the candidate; empty: none.
    pub check: Vec<String>,
    /// The program run after the file was replaced, with its arguments; empty: none.
    pub command: Vec<String>,
    /// The mode of a target that is new, at most `0o777`.
    pub perms: u32,
    /// The members must have held still this long before a file is written …
    pub wait_min: Duration,
    /// … but a file waits no longer than this; not below the former.
    pub wait_max: Duration,
    /// The time that either program has.
    pub timeout: Duration,
    /// Whether nothing is written without the majority of the cores.
    pub require_majority: bool,
}

/// One of `agent.hooks`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookConfig {
    /// What it is told of: at least one, each once.
    pub on: Vec<HookEvent>,
    /// How.
    pub action: HookAction,
    /// The time that it has.
    pub timeout: Duration,
}

/// How a hook is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookAction {
    /// A program with its arguments, run without a shell: at least one text.
    Command(Vec<String>),
    /// An `http://` URL that the event is posted to.
    Url(String),
}

/// What a hook can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookEvent {
    /// A member is new.
    MemberJoined,
    /// A member is up again.
    MemberUp,
    /// A member is down.
    MemberDown,
    /// A member left by its own wish.
    MemberLeft,
    /// A member was removed, by an operator or by autoclean.
    MemberRemoved,
    /// A member's tags, drain or broker changed.
    MemberUpdated,
    /// This node became ready.
    Ready,
    /// It is ready no longer.
    NotReady,
    /// This node is no longer with the majority of the cores.
    MajorityLost,
    /// It is again.
    MajorityRegained,
    /// This node's broker is up.
    BrokerUp,
    /// It is down.
    BrokerDown,
}

impl HookEvent {
    /// All of them, in the order of the documents.
    pub const ALL: [Self; 12] = [
        Self::MemberJoined,
        Self::MemberUp,
        Self::MemberDown,
        Self::MemberLeft,
        Self::MemberRemoved,
        Self::MemberUpdated,
        Self::Ready,
        Self::NotReady,
        Self::MajorityLost,
        Self::MajorityRegained,
        Self::BrokerUp,
        Self::BrokerDown,
    ];

    /// As the configuration spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MemberJoined => "member_joined",
            Self::MemberUp => "member_up",
            Self::MemberDown => "member_down",
            Self::MemberLeft => "member_left",
            Self::MemberRemoved => "member_removed",
            Self::MemberUpdated => "member_updated",
            Self::Ready => "ready",
            Self::NotReady => "not_ready",
            Self::MajorityLost => "majority_lost",
            Self::MajorityRegained => "majority_regained",
            Self::BrokerUp => "broker_up",
            Self::BrokerDown => "broker_down",
        }
    }
}

/// `agent.dns.*`: the members as names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// Where it listens, UDP and TCP.
    pub listen: SocketAddr,
    /// The zone, in lower case and without a dot at its end.
    pub domain: String,
    /// The time to live of every record, whole seconds, at most a day.
    pub ttl: Duration,
}
