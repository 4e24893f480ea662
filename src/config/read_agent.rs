//! `agent.*`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tracing::Level;

use super::address::{ip, nameserver};
use super::keys;
use super::reader::{Fault, Read, Reader, boolean, duration_within, integer, size_within, word};
use super::types::{ApiListen, DiscoveryConfig, LogConfig, LogFormat, ReadyConfig};
use crate::secret::Secret;

/// Longest path of a Unix socket, bytes (`sun_path` less its final NUL).
const MAX_SOCKET_PATH: usize = 107;

pub(super) struct AgentParts {
    pub(super) base_port: Option<Read<u16>>,
    pub(super) bind: Option<Read<Vec<Read<IpAddr>>>>,
    pub(super) handshake_timeout: Option<Duration>,
    pub(super) max_frame: Option<usize>,
    pub(super) full_mesh_limit: Option<usize>,
    pub(super) verify_node_name: Option<bool>,
    pub(super) allow_insecure_cookie: Option<bool>,
    pub(super) listen: Option<Read<ApiListen>>,
    pub(super) token: Option<Read<Vec<Secret>>>,
    pub(super) discovery: Option<DiscoveryConfig>,
    pub(super) ready: Option<ReadyConfig>,
    pub(super) log: Option<LogConfig>,
}

pub(super) fn read(r: &mut Reader<'_>) -> AgentParts {
    let base_port = r.scalar(&keys::MESH_BASE_PORT, |text| port(text).ok_or_else(Fault::default));
    let bind = r.list(&keys::MESH_BIND, ip);
    let handshake_timeout = r.scalar(&keys::MESH_HANDSHAKE_TIMEOUT, |text| {
        duration_within(text, Duration::from_secs(1), Duration::from_secs(60))
    });
    let max_frame = r.scalar(&keys::MESH_MAX_FRAME, |text| size_within(text, 64 << 10, 64 << 20));
    let full_mesh_limit = r.scalar(&keys::MESH_FULL_MESH_LIMIT, |text| usize_within(text, 2, 1024));
    let verify_node_name = r.scalar(&keys::MESH_VERIFY_NODE_NAME, boolean);
    let allow_insecure_cookie = r.scalar(&keys::MESH_ALLOW_INSECURE_COOKIE, boolean);
    let listen = listen(r);
    let token = r.secrets(&keys::API_TOKEN, |text, _| token(text));
    let discovery = discovery(r);
    let ready = r
        .scalar(&keys::READY_MIN_MEMBERS, |text| usize_within(text, 1, 10_000))
        .map(|read| ReadyConfig { min_members: read.value });
    let level = r.scalar(&keys::LOG_LEVEL, |text| {
        let levels = [
            ("error", Level::ERROR),
            ("warn", Level::WARN),
            ("warning", Level::WARN),
            ("info", Level::INFO),
            ("debug", Level::DEBUG),
            ("trace", Level::TRACE),
        ];
        word(&levels, text)
    });
    let format = r.scalar(&keys::LOG_FORMAT, |text| {
        word(&[("text", LogFormat::Text), ("json", LogFormat::Json)], text)
    });
    AgentParts {
        base_port,
        bind,
        handshake_timeout: handshake_timeout.map(|read| read.value),
        max_frame: max_frame.map(|read| read.value),
        full_mesh_limit: full_mesh_limit.map(|read| read.value),
        verify_node_name: verify_node_name.map(|read| read.value),
        allow_insecure_cookie: allow_insecure_cookie.map(|read| read.value),
        listen,
        token,
        discovery,
        ready,
        log: level
            .zip(format)
            .map(|(level, format)| LogConfig { level: level.value, format: format.value }),
    }
}

fn discovery(r: &mut Reader<'_>) -> Option<DiscoveryConfig> {
    let interval = r.scalar(&keys::DISCOVERY_INTERVAL, |text| {
        duration_within(text, Duration::from_millis(100), Duration::from_secs(3600))
    });
    let nameservers = r.list(&keys::DISCOVERY_NAMESERVERS, nameserver);
    let kubeconfig = r.path(&keys::DISCOVERY_KUBECONFIG);
    let include_not_ready = r.scalar(&keys::DISCOVERY_INCLUDE_NOT_READY, boolean);
    Some(DiscoveryConfig {
        interval: interval?.value,
        nameservers: nameservers
            .map(|read| read.value.into_iter().map(|read| read.value).collect())
            .unwrap_or_default(),
        kubeconfig: kubeconfig.map(|read| read.value),
        include_not_ready: include_not_ready?.value,
    })
}

fn listen(r: &mut Reader<'_>) -> Option<Read<ApiListen>> {
    let read = r.scalar(&keys::API_LISTEN, |text| {
        let text = text.trim();
        if let Some(path) = text.strip_prefix("unix:") {
            return if path.starts_with('/') && path.len() <= MAX_SOCKET_PATH {
                Ok(ApiListen::Unix(PathBuf::from(path)))
            } else {
                Err(Fault::hint(format!(
                    "the path of a socket begins with / and has at most {MAX_SOCKET_PATH} bytes"
                )))
            };
        }
        if text.contains('%') {
            return Err(Fault::hint("scope ids (`%`) are not supported"));
        }
        text.parse::<SocketAddr>().map(ApiListen::Tcp).map_err(|_| {
            let number = text.strip_prefix(':').unwrap_or(text);
            if number.parse::<u16>().is_ok() {
                Fault::hint(format!("put an address before the port: 127.0.0.1:{number}"))
            } else if text.parse::<IpAddr>().is_ok() {
                Fault::hint("put a port behind the address")
            } else if let Some(port) = text.strip_prefix("localhost:") {
                Fault::hint(format!("give the address: 127.0.0.1:{port}"))
            } else {
                Fault::hint("a value with a `:` must be quoted: \"127.0.0.1:7370\"")
            }
        })
    })?;
    if let ApiListen::Unix(path) = &read.value {
        let (path, _) = r.expand(&path.to_string_lossy());
        return Some(Read { value: ApiListen::Unix(path.into()), ..read });
    }
    Some(read)
}

fn token(text: &str) -> Result<Secret, Fault> {
    const LONGEST: usize = 255;
    if text.is_empty() {
        Err(Fault::found("an empty token"))
    } else if text.len() > LONGEST {
        Err(Fault::found(format!("a token of {} bytes", text.len())))
    } else if let Some(at) = text.chars().position(|c| !c.is_ascii_graphic()) {
        Err(Fault::found(format!("a token whose character {} is not allowed", at + 1)))
    } else {
        Ok(Secret::new(text))
    }
}

pub(super) fn port(text: &str) -> Option<u16> {
    text.trim().parse::<u16>().ok().filter(|port| *port > 0)
}

fn usize_within(text: &str, min: u64, max: u64) -> Result<usize, Fault> {
    let n = integer(min, max)(text)?;
    usize::try_from(n).map_err(|_| Fault::default())
}
