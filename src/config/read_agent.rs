//! `agent.*`, but for what follows the membership.

use std::path::PathBuf;

use tracing::Level;

use super::address::{ip, nameserver, socket};
use super::checks;
use super::keys;
use super::read_follow as follow;
use super::read_node::Own;
use super::reader::{Fault, Reader, all, boolean, duration, integer, size, word};
use super::types::{
    AgentConfig, ApiConfig, ApiListen, ApiTls, DiscoveryConfig, HealthConfig, LeaveOnStop,
    LogConfig, LogFormat, MeshConfig, ReadyConfig,
};
use crate::secret::Secret;

/// Longest path of a Unix socket, bytes (`sun_path` less its final NUL).
const MAX_SOCKET_PATH: usize = 107;

pub(super) fn read(r: &mut Reader<'_>, own: &Own) -> Option<AgentConfig> {
    let agent = all!(AgentConfig {
        mesh: mesh(r, own),
        api: api(r, own),
        health: r.optional(&keys::HEALTH_LISTEN, socket).map(|listen| HealthConfig { listen }),
        discovery: discovery(r),
        ready: ready(r),
        leave_on_stop: r.get(&keys::LEAVE_ON_STOP, |text| {
            let boolean = |text| {
                boolean(text).map(|on| if on { LeaveOnStop::Always } else { LeaveOnStop::Never })
            };
            word(&[("auto", LeaveOnStop::Auto)], text).or_else(|_| boolean(text))
        }),
        tags: follow::tags(r),
        broker: follow::broker(r, own),
        render: follow::render(r),
        hooks: follow::hooks(r),
        dns: follow::dns(r),
        log: log(r),
    })?;
    checks::ports(r, own, &agent);
    Some(agent)
}

fn mesh(r: &mut Reader<'_>, own: &Own) -> Option<MeshConfig> {
    let mesh = all!(MeshConfig {
        base_port: r.get(&keys::MESH_BASE_PORT, port),
        bind: r.list(&keys::MESH_BIND, ip),
        handshake_timeout: r.get(&keys::MESH_HANDSHAKE_TIMEOUT, duration(1000, 60_000)),
        max_frame: r.get(&keys::MESH_MAX_FRAME, size(64 << 10, 64 << 20)),
        full_mesh_limit: r.get(&keys::MESH_FULL_MESH_LIMIT, integer(2, 1024)),
        verify_node_name: r.get(&keys::MESH_VERIFY_NODE_NAME, boolean),
        allow_insecure_cookie: r.get(&keys::MESH_ALLOW_INSECURE_COOKIE, boolean),
    })?;
    checks::mesh(r, own, &mesh);
    Some(mesh)
}

fn api(r: &mut Reader<'_>, own: &Own) -> Option<ApiConfig> {
    let api = all!(ApiConfig {
        listen: listen(r, own),
        token: r.optional_secret(&keys::API_TOKEN, token),
        tls: api_tls(r),
    })?;
    checks::api(r, &api);
    Some(api)
}

fn api_tls(r: &mut Reader<'_>) -> Option<Option<ApiTls>> {
    let certfile = r.optional_path(&keys::API_TLS_CERTFILE);
    let keyfile = r.optional_path(&keys::API_TLS_KEYFILE);
    let cacertfile = r.optional_path(&keys::API_TLS_CACERTFILE)?;
    match (certfile?, keyfile?) {
        (Some(certfile), Some(keyfile)) => Some(Some(ApiTls { certfile, keyfile, cacertfile })),
        (None, None) if cacertfile.is_none() => Some(None),
        (None, _) => {
            r.missing(&keys::API_TLS_CERTFILE, "HTTPS needs a certificate and its key");
            None
        }
        (Some(_), None) => {
            r.missing(&keys::API_TLS_KEYFILE, "HTTPS needs a certificate and its key");
            None
        }
    }
}

fn discovery(r: &mut Reader<'_>) -> Option<DiscoveryConfig> {
    all!(DiscoveryConfig {
        interval: r.get(&keys::DISCOVERY_INTERVAL, duration(100, 3_600_000)),
        nameservers: r.list(&keys::DISCOVERY_NAMESERVERS, nameserver),
        kubeconfig: r.optional_path(&keys::DISCOVERY_KUBECONFIG),
        include_not_ready: r.get(&keys::DISCOVERY_INCLUDE_NOT_READY, boolean),
    })
}

fn ready(r: &mut Reader<'_>) -> Option<ReadyConfig> {
    all!(ReadyConfig {
        min_members: r.get(&keys::READY_MIN_MEMBERS, integer(1, 10_000)),
        majority: r.get(&keys::READY_MAJORITY, boolean),
    })
}

fn log(r: &mut Reader<'_>) -> Option<LogConfig> {
    let levels = [
        ("error", Level::ERROR),
        ("warn", Level::WARN),
        ("warning", Level::WARN),
        ("info", Level::INFO),
        ("debug", Level::DEBUG),
        ("trace", Level::TRACE),
    ];
    all!(LogConfig {
        level: r.get(&keys::LOG_LEVEL, |text| word(&levels, text)),
        format: r.get(&keys::LOG_FORMAT, |text| {
            word(&[("text", LogFormat::Text), ("json", LogFormat::Json)], text)
        }),
    })
}

fn listen(r: &mut Reader<'_>, own: &Own) -> Option<ApiListen> {
    let listen = r.optional(&keys::API_LISTEN, |text| {
        let Some(path) = text.trim().strip_prefix("unix:") else {
            return socket(text).map(ApiListen::Tcp);
        };
        if path.starts_with('/') && path.len() <= MAX_SOCKET_PATH {
            return Ok(ApiListen::Unix(PathBuf::from(path)));
        }
        Err(Fault::hint(format!(
            "the path of a socket begins with / and has at most {MAX_SOCKET_PATH} bytes"
        )))
    });
    match listen? {
        Some(ApiListen::Unix(path)) => {
            let (path, _) = r.expand(&path.to_string_lossy());
            Some(ApiListen::Unix(path.into()))
        }
        Some(tcp) => Some(tcp),
        None => checks::default_listen(r, own),
    }
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

/// A port, not 0.
pub(super) fn port(text: &str) -> Result<u16, Fault> {
    text.trim().parse::<u16>().ok().filter(|port| *port > 0).ok_or_else(Fault::default)
}
