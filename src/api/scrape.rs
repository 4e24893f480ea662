//! `/metrics`: what was counted, and what the newest snapshot shows.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;

use super::{ApiState, App, health};
use crate::attributes::BrokerStatus;
use crate::metrics::{Format, Scrape, measure_process};
use crate::view::{ClusterState, MemberStatus, Snapshot};

/// Members that have a series of their own: Prometheus keeps every series that it ever
/// saw for hours, and a cluster whose names change would fill it.
pub(super) const MAX_MEMBER_SERIES: usize = 256;

/// The commit that was built, where the build was told.
const REVISION: Option<&str> = option_env!("MUSTER_REVISION");

/// Everything that is counted and measured, for Prometheus.
///
/// OpenMetrics where `Accept` asks for it, as Prometheus does, and the older text format
/// for everybody else.
#[utoipa::path(
    get,
    path = "/metrics",
    operation_id = "metrics",
    tag = "health",
    responses(
        (status = 200, description = "See docs/metrics.md for every name", content(
            (String = "text/plain"),
            (String = "application/openmetrics-text"),
        )),
    )
)]
pub(super) async fn metrics(State(app): State<Arc<App>>, headers: HeaderMap) -> impl IntoResponse {
    let (kind, text) = exposition(&app.state, &headers);
    ([(header::CONTENT_TYPE, kind)], text)
}

/// The metrics in the format that a request accepts, with their content type.
pub(super) fn exposition(state: &ApiState, headers: &HeaderMap) -> (&'static str, String) {
    let values = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let format = Format::accepted(&values.collect::<Vec<_>>().join(","));
    let mut scrape = Scrape::default();
    let revision = REVISION.unwrap_or("unknown").to_owned();
    let version = env!("CARGO_PKG_VERSION").to_owned();
    scrape.labelled("muster_build_info", vec![("version", version), ("revision", revision)], 1);
    let snapshot = Arc::clone(&state.snapshot.borrow());
    measure_members(&mut scrape, &snapshot);
    measure_health(&mut scrape, state, &snapshot);
    measure_tls(&mut scrape, state);
    measure_broker(&mut scrape, state, &snapshot);
    measure_process(&mut scrape);
    (format.content_type(), state.metrics.expose(&scrape, format))
}

fn measure_members(scrape: &mut Scrape, snapshot: &Snapshot) {
    for status in [MemberStatus::Up, MemberStatus::Suspect, MemberStatus::Down] {
        let count = snapshot.nodes(|of| of == status).count();
        scrape.labelled(
            "muster_members",
            vec![("status", status.name().into())],
            i64::try_from(count).unwrap_or(i64::MAX),
        );
    }
    for member in snapshot.members.iter().take(MAX_MEMBER_SERIES) {
        let labels = vec![("node", member.node.to_string()), ("role", member.role.to_string())];
        scrape.labelled("muster_member_up", labels, i64::from(member.status == MemberStatus::Up));
    }
    if matches!(snapshot.state, ClusterState::Forming | ClusterState::Joined) {
        scrape.gauge("muster_views_agree", i64::from(snapshot.disagreeing.is_empty()));
        scrape.gauge("muster_majority", i64::from(snapshot.majority));
    }
    if let Some(at) = snapshot.discovery.last_success {
        scrape.gauge("muster_discovery_last_success_timestamp_seconds", seconds(at));
    }
}

fn measure_health(scrape: &mut Scrape, state: &ApiState, snapshot: &Snapshot) {
    let verdict = health::verdict(state, snapshot);
    scrape.gauge("muster_health", i64::from(verdict.level));
    for check in verdict.reasons {
        scrape.labelled("muster_health_reason", vec![("check", check)], 1);
    }
}

fn measure_tls(scrape: &mut Scrape, state: &ApiState) {
    let metrics = &state.metrics;
    let not_after = metrics.tls_not_after.get();
    if not_after != 0 {
        scrape.gauge("muster_tls_certificate_expiry_timestamp_seconds", not_after);
        scrape.gauge("muster_tls_certificate_not_after_seconds", not_after);
        scrape.gauge("muster_tls_unverified", metrics.tls_unverified.get());
        scrape.gauge("muster_tls_stale", metrics.tls_stale.get());
    }
    let not_after = metrics.api_not_after.get();
    if not_after != 0 {
        scrape.gauge("muster_api_certificate_expiry_timestamp_seconds", not_after);
        scrape.gauge("muster_api_tls_stale", metrics.api_tls_stale.get());
    }
}

fn measure_broker(scrape: &mut Scrape, state: &ApiState, snapshot: &Snapshot) {
    let own = snapshot.members.iter().find(|member| member.is_self);
    match own.and_then(|own| own.broker.as_ref()).map(|broker| broker.status) {
        Some(BrokerStatus::Up) => scrape.gauge("muster_broker_up", 1_i64),
        Some(BrokerStatus::Down) => scrape.gauge("muster_broker_up", 0_i64),
        Some(BrokerStatus::Unknown) | None => {}
    }
    let agrees = state.metrics.broker_view_agrees.get();
    if agrees >= 0 {
        scrape.gauge("muster_broker_view_agrees", agrees);
    }
}

fn seconds(at: SystemTime) -> f64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
