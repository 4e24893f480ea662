//! Routes that change something: the membership driver decides, a deadline waits.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use tokio::time::timeout;

use super::body::{Json, NodePath, Params, node_name};
use super::error::{ApiError, ErrorBody};
use super::reads::not_a_member;
use super::{App, Cluster, DiscoveryRequest, InviteRequest, JoinRequest};
use crate::command::Action;
use crate::node::NodeName;

/// A command is answered by then. Joining takes a dial, a handshake and a round
/// trip, each with a shorter deadline of its own.
pub(super) const COMMAND_DEADLINE: Duration = Duration::from_secs(15);

/// Commands under way at once: each holds a place at the API for as long as
/// [`COMMAND_DEADLINE`], and those who only ask must find places then, too.
pub(super) const MAX_COMMANDS: usize = 64;

/// Has a wish granted, or says why not.
pub(super) async fn submit(app: &App, action: Action, deadline: Duration) -> Result<(), ApiError> {
    let Ok(_under_way) = app.commands.try_acquire() else {
        app.state.metrics.limit("api_commands");
        let message = format!("{MAX_COMMANDS} commands are under way, the limit; try again");
        return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message));
    };
    match app.asked.pass(word(&action)) {
        Some(more) => tracing::info!(?action, "asked over the API{more}"),
        None => tracing::debug!(?action, "asked over the API"),
    }
    match timeout(deadline, app.state.commands.submit(action)).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let message =
                format!("no answer within {} s; it may still be done", deadline.as_secs());
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, message))
        }
    }
}

/// The kind of a wish, of which one line a second is enough for the log.
fn word(action: &Action) -> &'static str {
    match action {
        Action::Join { .. } => "join",
        Action::Leave => "leave",
        Action::ForceLeave { .. } => "force_leave",
        Action::Invite { .. } => "invite",
        Action::Drain { .. } => "drain",
        Action::Undrain => "undrain",
        Action::SetDiscovery { .. } => "discovery",
        _ => "other",
    }
}

async fn submit_for_cluster(app: &App, action: Action) -> Result<axum::Json<Cluster>, ApiError> {
    submit(app, action, COMMAND_DEADLINE).await?;
    Ok(axum::Json(Cluster::from(&*app.snapshot())))
}

/// Joins the cluster of another node.
#[utoipa::path(
    post,
    path = "/api/v1/cluster/join",
    operation_id = "join",
    tag = "cluster",
    request_body = JoinRequest,
    responses(
        (status = 200, description = "Joined; the cluster as it is now", body = Cluster),
        (status = 400, description = "Unusable body or node name, or no joining here: BAD_REQUEST", body = ErrorBody),
        (status = 409, description = "It is another cluster, or this node has other members and `force` is not set: CONFLICT", body = ErrorBody),
        (status = 415, description = "Not JSON: UNSUPPORTED_MEDIA_TYPE", body = ErrorBody),
        (status = 504, description = "That node does not answer: GATEWAY_TIMEOUT", body = ErrorBody),
    )
)]
pub(super) async fn join(
    State(app): State<Arc<App>>,
    Json(body): Json<JoinRequest>,
) -> Result<axum::Json<Cluster>, ApiError> {
    let node = node_name(&body.node)?;
    submit_for_cluster(&app, Action::Join { node, force: body.force }).await
}

/// Leaves the cluster and stays out, over restarts too.
#[utoipa::path(
    post,
    path = "/api/v1/cluster/leave",
    operation_id = "leave",
    tag = "cluster",
    responses(
        (status = 200, description = "Left; the cluster as it is now", body = Cluster),
        (status = 400, description = "Nothing to leave: BAD_REQUEST", body = ErrorBody),
        (status = 409, description = "Not in this state, or with this strategy: CONFLICT", body = ErrorBody),
    )
)]
pub(super) async fn leave(State(app): State<Arc<App>>) -> Result<axum::Json<Cluster>, ApiError> {
    submit_for_cluster(&app, Action::Leave).await
}

/// Asks a node to join this cluster.
#[utoipa::path(
    post,
    path = "/api/v1/cluster/invite",
    operation_id = "invite",
    tag = "cluster",
    request_body = InviteRequest,
    responses(
        (status = 200, description = "It joined; the cluster as it is now", body = Cluster),
        (status = 400, description = "Unusable body or node name: BAD_REQUEST", body = ErrorBody),
        (status = 409, description = "It is in another cluster: CONFLICT", body = ErrorBody),
        (status = 415, description = "Not JSON: UNSUPPORTED_MEDIA_TYPE", body = ErrorBody),
        (status = 504, description = "That node does not answer: GATEWAY_TIMEOUT", body = ErrorBody),
    )
)]
pub(super) async fn invite(
    State(app): State<Arc<App>>,
    Json(body): Json<InviteRequest>,
) -> Result<axum::Json<Cluster>, ApiError> {
    let node = node_name(&body.node)?;
    submit_for_cluster(&app, Action::Invite { node }).await
}

/// Switches discovery on or off. Switching it on ends `left`.
#[utoipa::path(
    put,
    path = "/api/v1/cluster/discovery",
    operation_id = "discovery",
    tag = "cluster",
    request_body = DiscoveryRequest,
    responses(
        (status = 200, description = "Done; the cluster as it is now", body = Cluster),
        (status = 400, description = "Unusable body: BAD_REQUEST", body = ErrorBody),
        (status = 409, description = "Not with this strategy: CONFLICT", body = ErrorBody),
        (status = 415, description = "Not JSON: UNSUPPORTED_MEDIA_TYPE", body = ErrorBody),
    )
)]
pub(super) async fn discovery(
    State(app): State<Arc<App>>,
    Json(body): Json<DiscoveryRequest>,
) -> Result<axum::Json<Cluster>, ApiError> {
    submit_for_cluster(&app, Action::SetDiscovery { enabled: body.enabled }).await
}

/// `?brought_by=`.
#[derive(Debug, Deserialize)]
pub(super) struct PurgeParams {
    brought_by: String,
}

/// Removes every member that only one has vouched for.
///
/// For when an agent made members up. Names that any agent ever linked with stay, and so
/// does whoever brought the others: remove it first.
#[utoipa::path(
    delete,
    path = "/api/v1/members",
    tag = "members",
    params(("brought_by" = String, Query, description = "Who told of them first")),
    security((), ("token" = [])),
    responses(
        (status = 204, description = "Removed, however many there were"),
        (status = 400, description = "`brought_by` is missing or no node name: BAD_REQUEST", body = ErrorBody),
        (status = 401, description = "The token is missing or wrong: UNAUTHORIZED", body = ErrorBody),
        (status = 503, description = "The agent is stopping: SERVICE_UNAVAILABLE", body = ErrorBody),
        (status = 504, description = "Not done in time: GATEWAY_TIMEOUT", body = ErrorBody),
    )
)]
pub(super) async fn purge(
    State(app): State<Arc<App>>,
    Params(params): Params<PurgeParams>,
) -> Result<StatusCode, ApiError> {
    let node = node_name(&params.brought_by)?;
    submit(&app, Action::ForceLeaveBroughtBy { node }, COMMAND_DEADLINE).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// `?force=`.
#[derive(Debug, Deserialize)]
pub(super) struct ForceParams {
    #[serde(default)]
    pub(super) force: bool,
}

/// Removes a member for good.
#[utoipa::path(
    delete,
    path = "/api/v1/members/{node}",
    operation_id = "force_leave",
    tag = "members",
    params(
        ("node" = NodeName, Path, description = "Its name, percent-encoded if need be"),
        ("force" = Option<bool>, Query, description = "Even if it is alive"),
    ),
    responses(
        (status = 204, description = "Removed"),
        (status = 400, description = "`force` is neither true nor false: BAD_REQUEST", body = ErrorBody),
        (status = 404, description = "No such member: NOT_FOUND", body = ErrorBody),
        (status = 409, description = "It is alive and `force` is not set: CONFLICT", body = ErrorBody),
    )
)]
pub(super) async fn force_leave(
    State(app): State<Arc<App>>,
    NodePath(node): NodePath,
    Params(params): Params<ForceParams>,
) -> Result<StatusCode, ApiError> {
    let node = NodeName::parse(&node).map_err(|_| not_a_member(&node))?;
    let action = Action::ForceLeave { node, force: params.force };
    submit(&app, action, COMMAND_DEADLINE).await?;
    Ok(StatusCode::NO_CONTENT)
}
