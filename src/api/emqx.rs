//! The shapes and status codes of EMQX's own cluster routes, for its scripts.
//!
//! Source: `emqx_mgmt_api_cluster`. EMQX answers every refusal with 400 and the
//! code `BAD_REQUEST`, and a member that it does not know with 404.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::body::{NodePath, OptionalJson, Params, node_name};
use super::commands::{COMMAND_DEADLINE, ForceParams, submit};
use super::error::{ApiError, ErrorBody};
use super::model::names;
use super::{App, EmqxCluster, EmqxInviteRequest};
use crate::command::Action;
use crate::node::NodeName;

/// EMQX takes no shorter `timeout` than this, milliseconds.
const MIN_INVITE_TIMEOUT: u64 = 5_000;

/// A longer `timeout` than this is cut to it: requests have an end here.
const MAX_INVITE_TIMEOUT: u64 = 60_000;

/// The cluster in EMQX's shape.
#[utoipa::path(
    get,
    path = "/api/v5/cluster",
    operation_id = "emqx_cluster",
    tag = "emqx",
    responses((status = 200, description = "As EMQX answers", body = EmqxCluster))
)]
pub(super) async fn cluster(State(app): State<Arc<App>>) -> Json<EmqxCluster> {
    let snapshot = app.snapshot();
    Json(EmqxCluster {
        name: snapshot.name.clone(),
        description: snapshot.description.clone(),
        nodes: names(snapshot.running()),
        self_node: snapshot.self_node.to_string(),
    })
}

/// Asks a node to join this cluster.
#[utoipa::path(
    put,
    path = "/api/v5/cluster/{node}/invite",
    operation_id = "emqx_invite",
    tag = "emqx",
    params(("node" = NodeName, Path, description = "The node")),
    request_body = Option<EmqxInviteRequest>,
    responses(
        (status = 200, description = "It joined; no body"),
        (status = 400, description = "Refused: BAD_REQUEST", body = ErrorBody),
        (status = 415, description = "Not JSON: UNSUPPORTED_MEDIA_TYPE", body = ErrorBody),
    )
)]
pub(super) async fn invite(
    State(app): State<Arc<App>>,
    NodePath(node): NodePath,
    OptionalJson(body): OptionalJson<EmqxInviteRequest>,
) -> Result<StatusCode, ApiError> {
    let node = node_name(&node)?;
    let deadline = match body.and_then(|body| body.timeout) {
        None => COMMAND_DEADLINE,
        Some(given) => match given.as_u64() {
            None => return Err(ApiError::bad_request("timeout must be an integer")),
            Some(ms) if ms < MIN_INVITE_TIMEOUT => {
                return Err(ApiError::bad_request("timeout cannot be less than 5000ms"));
            }
            Some(ms) => Duration::from_millis(ms.min(MAX_INVITE_TIMEOUT)),
        },
    };
    if node == app.snapshot().self_node {
        return Err(ApiError::bad_request("Cannot invite self"));
    }
    submit(&app, Action::Invite { node }, deadline).await.map_err(as_bad_request)?;
    Ok(StatusCode::OK)
}

/// Removes a member for good.
#[utoipa::path(
    delete,
    path = "/api/v5/cluster/{node}/force_leave",
    operation_id = "emqx_force_leave",
    tag = "emqx",
    params(
        ("node" = NodeName, Path, description = "The member"),
        ("force" = Option<bool>, Query, description = "Even if it is alive; not known to EMQX"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 400, description = "Refused: BAD_REQUEST", body = ErrorBody),
        (status = 404, description = "No such member: NOT_FOUND", body = ErrorBody),
    )
)]
pub(super) async fn force_leave(
    State(app): State<Arc<App>>,
    NodePath(node): NodePath,
    Params(params): Params<ForceParams>,
) -> Result<StatusCode, ApiError> {
    let node: NodeName = node_name(&node)?;
    if node == app.snapshot().self_node {
        return Err(ApiError::bad_request("Can't leave self"));
    }
    let action = Action::ForceLeave { node, force: params.force };
    submit(&app, action, COMMAND_DEADLINE).await.map_err(as_bad_request)?;
    Ok(StatusCode::NO_CONTENT)
}

fn as_bad_request(error: ApiError) -> ApiError {
    match error.status() {
        StatusCode::NOT_FOUND => error,
        _ => error.with_status(StatusCode::BAD_REQUEST),
    }
}
