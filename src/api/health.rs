//! `/livez` and `/readyz`: what a supervisor and a load balancer ask.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::body::Params;
use super::error::ErrorBody;
use super::{ApiState, App, Check, Health};
use crate::config::Config;
use crate::mesh::tls::EXPIRY_WARNING;
use crate::metrics::{Gauge, Metrics};
use crate::ready;
use crate::view::{LinkState, MemberStatus, Snapshot};

/// Whether the agent works at all; a restart helps when it does not.
#[utoipa::path(
    get,
    path = "/livez",
    operation_id = "livez",
    tag = "health",
    responses(
        (status = 200, description = "It works", body = Health),
        (status = 503, description = "A part of it has ended", body = Health),
    )
)]
pub(super) async fn livez(State(app): State<Arc<App>>) -> (StatusCode, Json<Health>) {
    let running = app.state.snapshot.has_changed().is_ok();
    let reason = if running { "running" } else { "the membership driver has ended" };
    answer(vec![check("membership", running, reason)], Vec::new())
}

/// Whether this node is where it should be in its cluster.
#[utoipa::path(
    get,
    path = "/readyz",
    operation_id = "readyz",
    tag = "health",
    params(("verbose" = Option<String>, Query, description = "With notices that do not count")),
    responses(
        (status = 200, description = "Ready", body = Health),
        (status = 400, description = "Unusable query: BAD_REQUEST", body = ErrorBody),
        (status = 503, description = "Not ready", body = Health),
    )
)]
pub(super) async fn readyz(
    State(app): State<Arc<App>>,
    Params(params): Params<HashMap<String, String>>,
) -> (StatusCode, Json<Health>) {
    let snapshot = app.snapshot();
    let config = app.config();
    let verbose = params.contains_key("verbose");
    let shown = if verbose { noticed(&app.state, &snapshot) } else { Vec::new() };
    answer(checks(&snapshot, &config), shown)
}

/// `muster_health` and its reasons.
pub(super) struct Verdict {
    /// 0: all is well; 1: something needs an operator; 2: not ready.
    pub(super) level: u8,
    /// Names of the checks that say so.
    pub(super) reasons: Vec<String>,
}

/// Choices that stand until the configuration changes, and links, which come back by
/// themselves: worth saying, and nothing to call somebody for.
const NO_ALARM: [&str; 4] = ["encryption", "cookie", "api_token", "links"];

/// Everything worth saying that does not stop the node from being ready: what is seen now,
/// and what stands on the board.
fn noticed(state: &ApiState, snapshot: &Snapshot) -> Vec<Check> {
    let mut noticed = notices(snapshot, &state.config.borrow(), &state.metrics);
    let standing = state.notices.all().into_iter();
    noticed.extend(standing.map(|notice| check(&notice.check, false, notice.text)));
    noticed
}

pub(super) fn verdict(state: &ApiState, snapshot: &Snapshot) -> Verdict {
    let failed = |check: &Check| !check.ok;
    let config = Arc::clone(&state.config.borrow());
    let unready = checks(snapshot, &config).into_iter().filter(failed);
    let mut reasons: Vec<_> = unready.map(|check| check.name).collect();
    let ready = reasons.is_empty();
    let notices = noticed(state, snapshot).into_iter().filter(failed);
    reasons.extend(
        notices.map(|notice| notice.name).filter(|name| !NO_ALARM.contains(&name.as_str())),
    );
    let level = match (ready, reasons.is_empty()) {
        (false, _) => 2,
        (true, false) => 1,
        (true, true) => 0,
    };
    Verdict { level, reasons }
}

fn answer(checks: Vec<Check>, notices: Vec<Check>) -> (StatusCode, Json<Health>) {
    let ready = checks.iter().all(|check| check.ok);
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(Health { ready, checks, notices }))
}

fn check(name: &str, ok: bool, reason: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok, reason: reason.into() }
}

/// A check that says what to do where it fails.
fn advised(name: &str, ok: bool, reason: impl Into<String>, remedy: &str) -> Check {
    let reason = reason.into();
    check(name, ok, if ok { reason } else { format!("{reason} -> {remedy}") })
}

fn checks(snapshot: &Snapshot, config: &Config) -> Vec<Check> {
    ready::checks(snapshot, config).into_iter().map(judged).collect()
}

fn judged(check: ready::Check) -> Check {
    Check { name: check.name.to_owned(), ok: check.ok, reason: check.reason }
}

/// What does not stop the node from being ready, and yet wants attention.
fn notices(snapshot: &Snapshot, config: &Config, metrics: &Metrics) -> Vec<Check> {
    let disagreeing = &snapshot.disagreeing;
    let views = match disagreeing.len() {
        0 => "every member reports this view".to_owned(),
        _ => format!("another view at {}", super::model::names(disagreeing.iter()).join(", ")),
    };
    let unlinked: Vec<_> = snapshot
        .members
        .iter()
        .filter(|m| !m.is_self && m.status != MemberStatus::Down && m.link == LinkState::None)
        .map(|m| m.node.to_string())
        .collect();
    let links = match unlinked.len() {
        0 => "every wanted link is up".to_owned(),
        _ => format!("no link to {}", unlinked.join(", ")),
    };
    let discovery = &snapshot.discovery;
    let token = config.agent.api.token.is_some();
    let mut notices = vec![
        judged(ready::majority(snapshot)),
        advised(
            "views_agree",
            disagreeing.is_empty(),
            views,
            "wait some seconds; if it lasts, muster doctor shows what is between these nodes",
        ),
        advised(
            "links",
            unlinked.is_empty(),
            links,
            "wait some seconds; if it lasts, muster doctor shows what is between these nodes",
        ),
        check(
            "discovery_backend",
            discovery.last_error.is_none(),
            discovery.last_error.clone().unwrap_or_else(|| "the newest round succeeded".to_owned()),
        ),
        encryption(config, metrics),
        cookie(config),
        advised(
            "api_token",
            token,
            if token {
                "set"
            } else {
                "agent.api.token is not set: every local user may change the cluster"
            },
            "set it where other users share this machine",
        ),
    ];
    notices.extend(certificate(
        "certificate",
        (&metrics.tls_not_after, &metrics.tls_stale),
        "renew or mend the files that ssl_dist.conf names: new ones are used without a restart",
    ));
    notices.extend(certificate(
        "api_certificate",
        (&metrics.api_not_after, &metrics.api_tls_stale),
        "renew or mend the files of agent.api.tls: new ones are used without a restart",
    ));
    if metrics.cookie_stale.get() != 0 {
        let reason =
            "the changed cookie files cannot be used, the old cookies still are; the log says why";
        let remedy = "mend the files that node.cookie and agent.mesh.accept_cookies name";
        notices.push(advised("cookie_files", false, reason, remedy));
    }
    notices
}

/// How far the mesh is protected on its way.
fn encryption(config: &Config, metrics: &Metrics) -> Check {
    let (reason, remedy) = if !config.cluster.proto_dist.is_tls() {
        (
            "the mesh is plain TCP: guarded by the cookie, readable on the way",
            "set cluster.proto_dist = inet_tls where the network is not yours alone",
        )
    } else if metrics.tls_unverified.get() != 0 {
        (
            "ssl_dist.conf says verify_none: peers are not verified",
            "say verify_peer there, and name the CA's file",
        )
    } else if !config.agent.mesh.verify_node_name {
        (
            "agent.mesh.verify_node_name is false: any certificate of the CA can speak as any node",
            "give each node a certificate with its name, and set it to true",
        )
    } else {
        return check("encryption", true, "TLS, peers verified");
    };
    advised("encryption", false, reason, remedy)
}

/// Whether the certificate files are usable and their certificates valid for long enough.
fn certificate(name: &str, (not_after, stale): (&Gauge, &Gauge), remedy: &str) -> Option<Check> {
    let ends = u64::try_from(not_after.get()).ok().filter(|ends| *ends != 0)?;
    if stale.get() != 0 {
        let reason =
            "the changed TLS files cannot be used, the old ones still are; the log says why";
        return Some(advised(name, false, reason, remedy));
    }
    let left = (UNIX_EPOCH + Duration::from_secs(ends))
        .duration_since(SystemTime::now())
        .unwrap_or_default();
    let days = left.as_secs() / 86_400;
    let reason = format!("valid for {days} more days");
    Some(advised(name, left > EXPIRY_WARNING, reason, remedy))
}

fn cookie(config: &Config) -> Check {
    let weak = config.weak_cookie();
    let is_strong = weak.is_none();
    let reason = weak.unwrap_or_else(|| "none is short or shipped".to_owned());
    advised("cookie", is_strong, reason, "take a long random one: openssl rand -hex 32")
}
