//! `/api/v1/sd/prometheus`: whom Prometheus is to scrape, for its `http_sd_configs`.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::body::Params;
use super::error::ApiError;
use super::{App, TargetGroup};
use crate::config::{ApiListen, BrokerKind, Config};
use crate::node::{Host, NodeName};
use crate::view::{Member, MemberStatus};

/// Where EMQX serves its dashboard, and its metrics.
const EMQX_PORT: u16 = 18083;

/// Where EMQX serves its metrics there.
const EMQX_PATH: &str = "/api/v5/prometheus/stats";

/// Longest `path`.
const MAX_PATH: usize = 256;

/// What is to be scraped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Target {
    /// The brokers beside the members.
    #[default]
    Broker,
    /// The agents themselves.
    Agent,
}

/// The query.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TargetsParams {
    #[serde(default)]
    target: Target,
    #[serde(default, deserialize_with = "port")]
    port: Option<NonZeroU16>,
    path: Option<String>,
}

fn port<'de, D: Deserializer<'de>>(from: D) -> Result<Option<NonZeroU16>, D::Error> {
    let text = String::deserialize(from)?;
    let port = text.parse().map_err(|_| D::Error::custom("a port is a number from 1 to 65535"))?;
    Ok(Some(port))
}

/// The members that are up, for Prometheus' `http_sd_configs`.
#[utoipa::path(
    get,
    path = "/api/v1/sd/prometheus",
    operation_id = "prometheus_targets",
    tag = "members",
    params(
        ("target" = Option<Target>, Query, description = "The brokers (default), or the agents themselves"),
        ("port" = Option<u16>, Query, minimum = 1, maximum = 65535,
            description = "Port of the targets; unless given EMQX's 18083, or the agents' own"),
        ("path" = Option<String>, Query, pattern = "^/[!-~]*$", max_length = 256,
            description = "`__metrics_path__`; unless given where EMQX, or the agent, has its metrics"),
    ),
    responses((status = 200, description = "One group per member that is up", body = [TargetGroup]))
)]
pub(super) async fn targets(
    State(app): State<Arc<App>>,
    Params(params): Params<TargetsParams>,
) -> Result<Json<Vec<TargetGroup>>, ApiError> {
    let place = Place::new(&app.config(), &params)?;
    let snapshot = app.snapshot();
    let up = snapshot.members.iter().filter(|member| member.status == MemberStatus::Up);
    let group = |member: &Member| TargetGroup {
        targets: vec![format!("{}:{}", host(&member.node), place.port.of(&member.node))],
        labels: labels(&snapshot.name, member, place.path.as_deref()),
    };
    Ok(Json(up.map(group).collect()))
}

/// Where every target has its metrics.
struct Place {
    port: Port,
    path: Option<String>,
}

/// A port, or a rule for one.
enum Port {
    Same(u16),
    /// This, and the offset of the node's name.
    Offset(u16),
}

impl Port {
    fn of(&self, node: &NodeName) -> u16 {
        match self {
            Self::Same(port) => *port,
            Self::Offset(base) => base.wrapping_add(node.offset()),
        }
    }
}

impl Place {
    fn new(config: &Config, params: &TargetsParams) -> Result<Self, ApiError> {
        let given = params.port.map(|port| Port::Same(port.get()));
        let (port, path) = match params.target {
            Target::Agent => (given.or_else(|| agents(config)), None),
            Target::Broker => {
                let broker = &config.agent.broker;
                // Without a word on the broker it is EMQX.
                let emqx = matches!(broker.kind, BrokerKind::Emqx | BrokerKind::None);
                let port = match broker.kind {
                    BrokerKind::Emqx | BrokerKind::None => Some(EMQX_PORT),
                    BrokerKind::Http => port_of(&broker.probe.target),
                    BrokerKind::Tcp | BrokerKind::Mqtt => None,
                };
                (given.or(port.map(Port::Same)), emqx.then(|| EMQX_PATH.to_owned()))
            }
        };
        let port = port.ok_or_else(|| {
            ApiError::bad_request("what is asked for has no port that is known here: give port")
        })?;
        if let Some(path) = &params.path {
            let plain = path.bytes().all(|byte| byte.is_ascii_graphic());
            if !path.starts_with('/') || !plain || path.len() > MAX_PATH {
                let text = format!(
                    "path begins with '/' and has at most {MAX_PATH} letters, digits and signs"
                );
                return Err(ApiError::bad_request(text));
            }
        }
        Ok(Self { port, path: params.path.clone().or(path) })
    }
}

/// Where the other agents have their metrics, if they are set up as this one is.
fn agents(config: &Config) -> Option<Port> {
    if let Some(health) = config.agent.health.listen {
        return Some(Port::Same(health.port()));
    }
    let ApiListen::Tcp(own) = config.agent.api.listen else { return None };
    let offset = config.node.name.offset();
    // A port that follows from this node's name does so from the others', too.
    Some(match own.port().checked_sub(offset) {
        Some(base) if base == crate::config::API_BASE_PORT => Port::Offset(base),
        _ => Port::Same(own.port()),
    })
}

fn port_of(url: &str) -> Option<u16> {
    let url = url.parse::<Uri>().ok()?;
    url.port_u16().or_else(|| Some(if url.scheme_str() == Some("https") { 443 } else { 80 }))
}

fn host(node: &NodeName) -> String {
    match node.host() {
        Host::V6(ip) => format!("[{ip}]"),
        Host::V4(_) | Host::Dns(_) => node.host_str().to_owned(),
    }
}

fn labels(cluster: &str, member: &Member, path: Option<&str>) -> BTreeMap<String, String> {
    let meta = |name: &str| format!("__meta_muster_{name}");
    let mut labels = BTreeMap::from([
        (meta("cluster"), cluster.to_owned()),
        (meta("node"), member.node.to_string()),
        (meta("role"), member.role.to_string()),
        (meta("status"), member.status.name().to_owned()),
        (meta("draining"), member.draining.is_some().to_string()),
    ]);
    let tags = member.tags.iter();
    labels.extend(tags.map(|(name, value)| (meta(&format!("tag_{name}")), value.to_owned())));
    labels.extend(path.map(|path| ("__metrics_path__".to_owned(), path.to_owned())));
    labels
}
