//! Every key that is known, with its default and what is allowed: one table for
//! reading, for the messages and for the documents.

/// What a key is worth when nobody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unset {
    /// This text, read like a written one.
    Text(&'static str),
    /// This list.
    List(&'static [&'static str]),
    /// Nothing; the words say what that means.
    Nothing(&'static str),
    /// It must be set.
    Required,
}

/// A known key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The whole path.
    pub path: &'static str,
    /// An older path with the same meaning.
    pub alias: Option<&'static str>,
    /// The default.
    pub unset: Unset,
    /// What is allowed, in the words of the messages.
    pub allowed: &'static str,
    /// What it is for, in a sentence.
    pub meaning: &'static str,
    /// Never printed.
    pub secret: bool,
}

/// What EMQX makes of a key in a file that it reads too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InEmqx {
    /// It has the same key with the same meaning.
    Same,
    /// It warns of the root and goes on.
    PassesBy,
    /// It does not start.
    Refuses,
}

impl Key {
    /// What EMQX makes of it in a shared file.
    #[must_use]
    pub fn in_emqx(&self) -> InEmqx {
        const REFUSED: [&str; 7] = [
            "node.ssl_dist_optfile",
            "cluster.core_nodes",
            "cluster.mcast.",
            "cluster.dns.app",
            "cluster.etcd.username",
            "cluster.etcd.password",
            "cluster.k8s.app_name",
        ];
        if self.path.starts_with("agent.") {
            InEmqx::PassesBy
        } else if REFUSED.iter().any(|refused| self.path.starts_with(refused)) {
            InEmqx::Refuses
        } else {
            InEmqx::Same
        }
    }

    /// Whether its value is a URL, or may be one.
    pub(super) fn is_url(&self) -> bool {
        let urls = [&HOOK_URL, &BROKER_PROBE_TARGET, &ETCD_SERVER, &K8S_APISERVER];
        urls.iter().any(|url| url.path == self.path)
    }

    /// `EMQX_CLUSTER__STATIC__SEEDS`, `MUSTER_API__LISTEN`: the variable that sets it.
    #[must_use]
    pub fn env(&self) -> String {
        let upper = |path: &str| path.to_ascii_uppercase().replace('.', "__");
        match self.path.strip_prefix("agent.") {
            Some(path) => format!("MUSTER_{}", upper(&path.replace("[]", ".1"))),
            None => format!("EMQX_{}", upper(self.path)),
        }
    }
}

macro_rules! keys {
    ($($name:ident: $path:literal $(or $alias:literal)?, $unset:expr, $allowed:literal, $meaning:literal $(, $secret:ident)?;)*) => {
        $(pub(super) const $name: Key = Key {
            path: $path,
            alias: keys!(@alias $($alias)?),
            unset: $unset,
            allowed: $allowed,
            meaning: $meaning,
            secret: keys!(@secret $($secret)?),
        };)*
        /// All of them, in the order of the documents.
        pub const KEYS: &[Key] = &[$($name),*];
    };
    (@alias) => { None };
    (@alias $alias:literal) => { Some($alias) };
    (@secret) => { false };
    (@secret secret) => { true };
}

use Unset::{List, Nothing, Required, Text};

keys! {
    NODE_NAME: "node.name", Text("emqx@127.0.0.1"),
        "name@host, at most 255 bytes; host: an IPv4 address, an IPv6 address or a DNS name",
        "Who this node is, and where the others reach it.";
    NODE_COOKIE: "node.cookie", Required,
        "1 to 255 bytes without blanks, quotes, backslashes and control characters, file:///path, or a list of these",
        "The secret that all nodes of the cluster share.", secret;
    NODE_DATA_DIR: "node.data_dir", Text("data"), "a directory",
        "Where the state is kept, in muster/ below it.";
    NODE_ROLE: "node.role" or "node.db_role", Text("core"), "core, replicant",
        "Only cores count for the majority.";
    NODE_SSL_DIST_OPTFILE: "node.ssl_dist_optfile", Text("etc/ssl_dist.conf"), "a file",
        "The certificates and options of inet_tls and inet6_tls, as Erlang terms.";

    CLUSTER_NAME: "cluster.name", Text("emqxcl"),
        "1 to 255 bytes without blanks, slashes and control characters",
        "Agents of different names never mix.";
    CLUSTER_DESCRIPTION: "cluster.description", Text(""), "a text of at most 1024 bytes",
        "A text for people, shown by the API.";
    CLUSTER_STRATEGY: "cluster.discovery_strategy", Text("manual"),
        "manual, static, mcast, dns, etcd, k8s, singleton",
        "How the node finds the others.";
    CLUSTER_AUTOCLEAN: "cluster.autoclean", Text("24h"), "a duration of at least 1s, or infinity",
        "How long a member is down before it is removed.";
    CLUSTER_AUTOHEAL: "cluster.autoheal", Text("true"), "true, false",
        "Whether the sides of a partition unite again without being told.";
    CLUSTER_PROTO_DIST: "cluster.proto_dist", Text("inet_tcp"),
        "inet_tcp, inet6_tcp, inet_tls, inet6_tls",
        "TCP or TLS, IPv4 or IPv6, for the mesh.";
    CLUSTER_CORE_NODES: "cluster.core_nodes", List(&[]),
        "a list of node names, or one text with commas between them",
        "Nodes to contact besides those that the strategy finds.";

    STATIC_SEEDS: "cluster.static.seeds", List(&[]),
        "a list of node names, or one text with commas between them",
        "The nodes of the cluster; this one may be among them.";

    MCAST_ADDR: "cluster.mcast.addr", Text("239.192.0.1"), "a multicast address, IPv4 or IPv6",
        "The group that nodes announce themselves to.";
    MCAST_PORTS: "cluster.mcast.ports", List(&["4369", "4370"]),
        "1 to 16 different ports, 1 to 65535",
        "Where announcements are sent; the first free one is listened on.";
    MCAST_IFACE: "cluster.mcast.iface", Text("0.0.0.0"),
        "the address of an interface, of the family of cluster.mcast.addr, or its name",
        "The interface that announcements leave by.";
    MCAST_TTL: "cluster.mcast.ttl", Text("255"), "0 to 255",
        "How many routers an announcement may cross.";
    MCAST_LOOP: "cluster.mcast.loop", Text("true"), "true, false",
        "Whether nodes of the same host hear it.";
    MCAST_SNDBUF: "cluster.mcast.sndbuf", Text("16KB"), "a size from 1KB to 64MB",
        "The socket's send buffer.";
    MCAST_RECBUF: "cluster.mcast.recbuf", Text("16KB"), "a size from 1KB to 64MB",
        "The socket's receive buffer.";
    MCAST_BUFFER: "cluster.mcast.buffer", Text("32KB"), "a size from 1KB to 1MB",
        "The longest datagram read.";

    DNS_NAME: "cluster.dns.name", Text("localhost"), "a DNS name, at most 253 bytes",
        "The name whose records are the nodes.";
    DNS_RECORD_TYPE: "cluster.dns.record_type" or "cluster.dns.type", Text("a"), "a, aaaa, srv",
        "Which records are asked for.";
    DNS_APP: "cluster.dns.app", Nothing("the part of node.name before the @"),
        "letters, digits, _ and -",
        "The part of the nodes' names before the @.";

    ETCD_SERVER: "cluster.etcd.server", Nothing("none"),
        "http://host:port or https://host:port; several as a list or with commas between them",
        "Where etcd is.";
    ETCD_PREFIX: "cluster.etcd.prefix", Text("emqxcl"),
        "1 to 255 bytes without blanks and control characters",
        "What the keys begin with.";
    ETCD_NODE_TTL: "cluster.etcd.node_ttl", Text("1m"), "a duration from 1s to 24h",
        "How long the registration outlives a node that no longer renews it.";
    ETCD_USERNAME: "cluster.etcd.username", Nothing("none"), "a text",
        "Who logs in to etcd.";
    ETCD_PASSWORD: "cluster.etcd.password", Nothing("none"),
        "a text, or file:///path",
        "With what.", secret;
    ETCD_SSL_ENABLE: "cluster.etcd.ssl_options.enable" or "cluster.etcd.ssl.enable",
        Nothing("true if a server is https://"), "true, false",
        "Whether etcd is reached over TLS.";
    ETCD_SSL_CACERTFILE: "cluster.etcd.ssl_options.cacertfile" or "cluster.etcd.ssl.cacertfile",
        Nothing("the system's CAs"), "a file",
        "The CAs that etcd's certificate may be of.";
    ETCD_SSL_CERTFILE: "cluster.etcd.ssl_options.certfile" or "cluster.etcd.ssl.certfile",
        Nothing("none"), "a file",
        "The certificate shown to etcd.";
    ETCD_SSL_KEYFILE: "cluster.etcd.ssl_options.keyfile" or "cluster.etcd.ssl.keyfile",
        Nothing("none"), "a file",
        "Its key.";
    ETCD_SSL_PASSWORD: "cluster.etcd.ssl_options.password" or "cluster.etcd.ssl.password",
        Nothing("none"), "a text, or file:///path",
        "What the key is encrypted with.", secret;
    ETCD_SSL_VERIFY: "cluster.etcd.ssl_options.verify" or "cluster.etcd.ssl.verify",
        Text("verify_peer"), "verify_peer, verify_none",
        "Whether etcd's certificate is checked. EMQX's own default is verify_none.";
    ETCD_SSL_SNI: "cluster.etcd.ssl_options.server_name_indication"
            or "cluster.etcd.ssl.server_name_indication",
        Nothing("the host of the URL"), "a DNS name, or disable",
        "The name that etcd's certificate must have.";

    K8S_APISERVER: "cluster.k8s.apiserver", Text("https://kubernetes.default.svc:443"),
        "http://host:port or https://host:port",
        "Where the Kubernetes API is.";
    K8S_SERVICE_NAME: "cluster.k8s.service_name", Text("emqx"),
        "a DNS label: letters, digits and -, at most 63",
        "The service whose endpoints are the nodes.";
    K8S_ADDRESS_TYPE: "cluster.k8s.address_type", Text("ip"), "ip, dns, hostname",
        "What the nodes' names are made of.";
    K8S_NAMESPACE: "cluster.k8s.namespace", Text("default"),
        "a DNS label: letters, digits and -, at most 63",
        "The namespace of the service.";
    K8S_SUFFIX: "cluster.k8s.suffix", Text("pod.local"), "a DNS name, or \"\"",
        "What dns and hostname names end with.";
    K8S_APP_NAME: "cluster.k8s.app_name", Nothing("the part of node.name before the @"),
        "letters, digits, _ and -",
        "The part of the nodes' names before the @.";

    MESH_BASE_PORT: "agent.mesh.base_port", Text("6370"), "1 to 65535",
        "The mesh listens on this port plus the digits of the node name.";
    MESH_BIND: "agent.mesh.bind", Nothing("all addresses of the family; loopback if node.name is"),
        "IP addresses of the family of cluster.proto_dist, as a list or with commas between them",
        "The addresses that the mesh listens on.";
    MESH_HANDSHAKE_TIMEOUT: "agent.mesh.handshake_timeout", Text("7s"),
        "a duration from 1s to 60s",
        "How long a handshake may take.";
    MESH_MAX_FRAME: "agent.mesh.max_frame", Text("1MB"), "a size from 64KB to 64MB",
        "The longest frame taken from a peer.";
    MESH_FULL_MESH_LIMIT: "agent.mesh.full_mesh_limit", Text("64"), "2 to 1024",
        "Up to so many members every pair holds a link; beyond it, links are as needed.";
    MESH_VERIFY_NODE_NAME: "agent.mesh.verify_node_name", Text("true"), "true, false",
        "Whether a peer's certificate must be for its node name. false: one certificate without names for all nodes.";
    MESH_ALLOW_INSECURE_COOKIE: "agent.mesh.allow_insecure_cookie", Text("false"), "true, false",
        "Whether a short or shipped cookie may guard plain TCP beyond loopback.";
    MESH_ACCEPT_COOKIES: "agent.mesh.accept_cookies", List(&[]),
        "a list of cookies, each as node.cookie or file:///path",
        "Cookies accepted besides node.cookie, while they are replaced.", secret;

    API_LISTEN: "agent.api.listen", Nothing("127.0.0.1:(7370 + offset)"),
        "IP:port, [IPv6]:port or unix:/path",
        "Where the HTTP API is.";
    API_TOKEN: "agent.api.token", Nothing("none"),
        "1 to 255 visible ASCII characters, or file:///path",
        "What clients must send to change anything; required to listen beyond loopback.", secret;
    API_TLS_CERTFILE: "agent.api.tls.certfile", Nothing("none: plain HTTP"), "a file",
        "Makes the API HTTPS, with this certificate.";
    API_TLS_KEYFILE: "agent.api.tls.keyfile", Nothing("none"), "a file",
        "Its key.";
    API_TLS_CACERTFILE: "agent.api.tls.cacertfile",
        Nothing("none: clients need no certificate"), "a file",
        "The CAs that clients' certificates must be of.";

    HEALTH_LISTEN: "agent.health.listen", Nothing("none"), "IP:port or [IPv6]:port",
        "Where /livez, /readyz and /metrics answer everybody, without a token.";

    DISCOVERY_INTERVAL: "agent.discovery.interval", Text("5s"), "a duration from 100ms to 1h",
        "How often the strategy is asked anew.";
    DISCOVERY_NAMESERVERS: "agent.discovery.dns.nameservers", Nothing("the system's"),
        "IP, IP:port or [IPv6]:port, as a list or with commas between them",
        "The name servers asked by dns.";
    DISCOVERY_KUBECONFIG: "agent.discovery.k8s.kubeconfig", Nothing("none"), "a file",
        "The file that names API server and credentials outside a pod.";
    DISCOVERY_INCLUDE_NOT_READY: "agent.discovery.include_not_ready", Text("true"),
        "true, false",
        "Whether endpoints that are not ready count as nodes.";

    READY_MIN_MEMBERS: "agent.ready.min_members", Text("1"), "1 to 10000",
        "How many members must be up before the node is ready.";
    READY_MAJORITY: "agent.ready.majority", Text("false"), "true, false",
        "Whether a node without the majority of the cores is not ready.";

    LEAVE_ON_STOP: "agent.leave_on_stop", Text("auto"), "auto, true, false",
        "Whether a stop leaves the cluster; auto: where a name never comes back.";

    TAGS: "agent.tags", Nothing("none"),
        "a block of names of a-z, 0-9 and _, each with a text; 512 bytes in all",
        "What this member says of itself, shown wherever members are.";

    BROKER_KIND: "agent.broker.kind", Text("none"), "none, tcp, mqtt, http, emqx",
        "What stands next door, and so how it is probed.";
    BROKER_ADDRESS: "agent.broker.address",
        Nothing("the host of node.name, and the port of listeners.tcp.default.bind"),
        "host:port, an IPv6 host in brackets",
        "Where others connect to the broker.";
    BROKER_PROBE_TARGET: "agent.broker.probe.target",
        Nothing("on loopback: that port; /status on 18083 for emqx; for http none"),
        "host:port for tcp and mqtt, an http:// URL for http and emqx",
        "What the probe asks.";
    BROKER_PROBE_INTERVAL: "agent.broker.probe.interval", Text("2s"),
        "a duration from 100ms to 1h",
        "How often.";
    BROKER_PROBE_TIMEOUT: "agent.broker.probe.timeout", Text("1s"),
        "a duration from 10ms to 1m, at most the interval",
        "How long an answer may take.";
    BROKER_PROBE_RISE: "agent.broker.probe.rise", Text("2"), "1 to 100",
        "So many good answers in a row: it is up.";
    BROKER_PROBE_FALL: "agent.broker.probe.fall", Text("3"), "1 to 100",
        "So many bad ones in a row: it is down.";
    BROKER_REQUIRED: "agent.broker.required", Text("false"), "true, false",
        "Whether the node is not ready while its broker is down.";
    BROKER_DRIVE: "agent.broker.drive", Text("false"), "true, false",
        "Whether the agents make EMQX's brokers one cluster; with kind = emqx.";
    LISTENER_BIND: "listeners.tcp.default.bind", Text("1883"),
        "a port, IP:port, [IPv6]:port or :port",
        "The broker's own key: where it listens, if agent.broker.address does not say.";

    RENDER: "agent.render", Nothing("none"), "a list of at most 64 blocks",
        "Files that follow the members.";
    RENDER_SOURCE: "agent.render[].source", Required, "a file",
        "The template.";
    RENDER_TARGET: "agent.render[].target", Required, "a file, another one in every block",
        "The file that is written.";
    RENDER_CHECK: "agent.render[].check", Nothing("none"),
        "a list: a program and its arguments, {file} for the candidate",
        "What must accept a candidate before it replaces the target.";
    RENDER_COMMAND: "agent.render[].command", Nothing("none"),
        "a list: a program and its arguments",
        "What is run after the target was replaced.";
    RENDER_PERMS: "agent.render[].perms", Text("0644"), "an octal mode from 0000 to 0777",
        "The mode of a target that is new.";
    RENDER_WAIT_MIN: "agent.render[].wait.min", Text("1s"), "a duration of at most 1h",
        "How long changes are collected at least.";
    RENDER_WAIT_MAX: "agent.render[].wait.max", Text("10s"),
        "a duration of at most 1h, not below wait.min",
        "And at most.";
    RENDER_TIMEOUT: "agent.render[].timeout", Text("30s"), "a duration from 100ms to 1h",
        "How long check and command may take.";
    RENDER_REQUIRE_MAJORITY: "agent.render[].require_majority", Text("true"), "true, false",
        "Whether only a node with the majority writes it.";

    HOOKS: "agent.hooks", Nothing("none"), "a list of at most 64 blocks",
        "What is told of events.";
    HOOK_ON: "agent.hooks[].on", Required,
        "member_joined, member_up, member_down, member_left, member_removed, member_updated, ready, not_ready, majority_lost, majority_regained, broker_up, broker_down",
        "Which events.";
    HOOK_COMMAND: "agent.hooks[].command", Nothing("none"),
        "a list: a program and its arguments",
        "What is run, with the event on its standard input.";
    HOOK_URL: "agent.hooks[].url", Nothing("none"), "http://host:port/path",
        "Or where the event is posted.";
    HOOK_TIMEOUT: "agent.hooks[].timeout", Text("30s"), "a duration from 100ms to 1h",
        "How long it may take.";

    SERVE_LISTEN: "agent.dns.listen", Nothing("none"), "IP:port or [IPv6]:port",
        "Where DNS queries are answered with the members.";
    SERVE_DOMAIN: "agent.dns.domain", Text("muster"), "a DNS name, at most 100 bytes",
        "What the names end with.";
    SERVE_TTL: "agent.dns.ttl", Text("1s"), "a duration of whole seconds, at most 24h",
        "How long answers may be kept.";

    LOG_LEVEL: "agent.log.level", Text("info"), "error, warn, info, debug, trace",
        "The least weight of a line in the log.";
    LOG_FORMAT: "agent.log.format", Text("text"), "text, json",
        "How lines are written.";
}

/// Blocks whose names are free.
pub(super) const OPEN: &[&str] = &["agent.tags"];

/// EMQX's own further keys under `cluster` and `node`, and everything below them:
/// known, and unused here.
pub(super) const UNUSED: &[&str] = &[
    "cluster.links",
    "cluster.quic_lb_mode",
    "cluster.prevent_overlapping_partitions",
    "cluster.heartbeat_interval",
    "cluster.missed_heartbeats",
    "cluster.durable_timers",
    "cluster.etcd.ssl_options.cacerts",
    "cluster.etcd.ssl_options.ciphers",
    "cluster.etcd.ssl_options.depth",
    "cluster.etcd.ssl_options.hibernate_after",
    "cluster.etcd.ssl_options.log_level",
    "cluster.etcd.ssl_options.managed_certs",
    "cluster.etcd.ssl_options.middlebox_comp_mode",
    "cluster.etcd.ssl_options.partial_chain",
    "cluster.etcd.ssl_options.reuse_sessions",
    "cluster.etcd.ssl_options.secure_renegotiate",
    "cluster.etcd.ssl_options.user_lookup_fun",
    "cluster.etcd.ssl_options.verify_peer_ext_key_usage",
    "cluster.etcd.ssl_options.versions",
    "cluster.etcd.ssl.cacerts",
    "cluster.etcd.ssl.ciphers",
    "cluster.etcd.ssl.depth",
    "cluster.etcd.ssl.hibernate_after",
    "cluster.etcd.ssl.log_level",
    "cluster.etcd.ssl.managed_certs",
    "cluster.etcd.ssl.middlebox_comp_mode",
    "cluster.etcd.ssl.partial_chain",
    "cluster.etcd.ssl.reuse_sessions",
    "cluster.etcd.ssl.secure_renegotiate",
    "cluster.etcd.ssl.user_lookup_fun",
    "cluster.etcd.ssl.verify_peer_ext_key_usage",
    "cluster.etcd.ssl.versions",
    "node.applications",
    "node.backtrace_depth",
    "node.broker_pool_size",
    "node.channel_cleanup_batch_size",
    "node.cluster_call",
    "node.config_files",
    "node.crash_dump_bytes",
    "node.crash_dump_file",
    "node.crash_dump_seconds",
    "node.db_backend",
    "node.default_bootstrap_batch_size",
    "node.default_shard_transport",
    "node.dist_bind_address",
    "node.dist_buffer_size",
    "node.dist_connect_options",
    "node.dist_listen_options",
    "node.dist_net_ticktime",
    "node.etc_dir",
    "node.generic_pool_size",
    "node.global_gc_interval",
    "node.max_ets_tables",
    "node.max_ports",
    "node.process_limit",
    "node.rpc_module",
    "node.schedulers",
    "node.shard_transports",
    "node.tls_server_session_ticket_lifetime",
    "node.tls_server_session_tickets_amount",
    "node.tls_stateless_tickets_seed",
    "node.tlog_push_mode",
];
