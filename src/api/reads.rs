//! Routes that are answered from the newest snapshot.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::body::{NodePath, Params};
use super::error::{ApiError, ErrorBody};
use super::{App, Cluster, Member, MemberDetail, Members, TargetGroup};
use crate::metrics::{Status, Word};
use crate::node::Host;
use crate::view::MemberStatus;

/// Where EMQX serves its own metrics; the port of targets unless another is asked for.
const EMQX_METRICS_PORT: u16 = 18083;

/// The cluster as this node sees it.
#[utoipa::path(
    get,
    path = "/api/v1/cluster",
    tag = "cluster",
    responses((status = 200, description = "From the newest snapshot", body = Cluster))
)]
pub(super) async fn cluster(State(app): State<Arc<App>>) -> Response {
    json(app.bodies().cluster)
}

/// `?status=`.
#[derive(Debug, Deserialize)]
pub(super) struct MembersParams {
    status: Option<MemberStatus>,
}

/// All members, or those of one status.
#[utoipa::path(
    get,
    path = "/api/v1/members",
    tag = "members",
    params(("status" = Option<MemberStatus>, Query, description = "Only members of this status")),
    responses(
        (status = 200, description = "Sorted by name", body = Members),
        (status = 400, description = "No such status: BAD_REQUEST", body = ErrorBody),
    )
)]
pub(super) async fn members(
    State(app): State<Arc<App>>,
    Params(params): Params<MembersParams>,
) -> Response {
    let Some(status) = params.status else { return json(app.bodies().members) };
    let snapshot = app.snapshot();
    let members = snapshot.members.iter().filter(|member| member.status == status);
    Json(Members { members: members.map(Member::from).collect() }).into_response()
}

/// One member, with the last change of its status.
#[utoipa::path(
    get,
    path = "/api/v1/members/{node}",
    tag = "members",
    params(("node" = String, Path, description = "Its name, percent-encoded if need be")),
    responses(
        (status = 200, description = "That member", body = MemberDetail),
        (status = 404, description = "No such member: NOT_FOUND", body = ErrorBody),
    )
)]
pub(super) async fn member(
    State(app): State<Arc<App>>,
    NodePath(node): NodePath,
) -> Result<Json<MemberDetail>, ApiError> {
    let snapshot = app.snapshot();
    let member = snapshot.members.iter().find(|member| member.node.as_str() == node);
    member.map(|member| Json(member.into())).ok_or_else(|| not_a_member(&node))
}

pub(super) fn not_a_member(node: &str) -> ApiError {
    ApiError::not_found(format!("'{node}' is not a member of this cluster"))
}

/// Everything that is counted, for Prometheus.
#[utoipa::path(
    get,
    path = "/metrics",
    tag = "health",
    responses((
        status = 200,
        description = "Text exposition",
        body = String,
        content_type = "application/openmetrics-text"
    ))
)]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> impl IntoResponse {
    let snapshot = app.snapshot();
    let metrics = &app.state.metrics;
    for status in [MemberStatus::Up, MemberStatus::Suspect, MemberStatus::Down] {
        let count = snapshot.nodes(|of| of == status).count();
        metrics
            .members
            .get_or_create(&Status { status: Word(status.name()) })
            .set(i64::try_from(count).unwrap_or(i64::MAX));
    }
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], metrics.render())
}

/// `?port=`.
#[derive(Debug, Deserialize)]
pub(super) struct TargetsParams {
    port: Option<u16>,
}

/// The members that are up, for Prometheus' `http_sd_configs`.
#[utoipa::path(
    get,
    path = "/api/v1/sd/prometheus",
    tag = "members",
    params(("port" = Option<u16>, Query, description = "Port of the targets; EMQX's 18083 unless given")),
    responses(
        (status = 200, description = "One group per member that is up", body = [TargetGroup]),
        (status = 400, description = "No such port: BAD_REQUEST", body = ErrorBody),
    )
)]
pub(super) async fn targets(
    State(app): State<Arc<App>>,
    Params(params): Params<TargetsParams>,
) -> Json<Vec<TargetGroup>> {
    let port = params.port.unwrap_or(EMQX_METRICS_PORT);
    let snapshot = app.snapshot();
    let up = snapshot.members.iter().filter(|member| member.status == MemberStatus::Up);
    let groups = up.map(|member| {
        let host = match member.node.host() {
            Host::V6(ip) => format!("[{ip}]"),
            Host::V4(_) | Host::Dns(_) => member.node.host_str().to_owned(),
        };
        let labels = BTreeMap::from([
            ("__meta_muster_cluster".to_owned(), snapshot.name.clone()),
            ("__meta_muster_node".to_owned(), member.node.to_string()),
            ("__meta_muster_role".to_owned(), member.role.to_string()),
        ]);
        TargetGroup { targets: vec![format!("{host}:{port}")], labels }
    });
    Json(groups.collect())
}

fn json(body: Bytes) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
