//! What is this node's own: whether it drains, and the broker next door.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::body::OptionalJson;
use super::commands::{COMMAND_DEADLINE, submit};
use super::error::{ApiError, ErrorBody};
use super::{App, BrokerState, DrainRequest, Member};
use crate::attributes::MAX_DETAIL;
use crate::command::Action;

/// Takes this node out of service, over restarts too: it stays a member, is not ready, and
/// whatever follows the members sends nobody new to it.
#[utoipa::path(
    put,
    path = "/api/v1/node/drain",
    operation_id = "drain",
    tag = "members",
    request_body = Option<DrainRequest>,
    responses(
        (status = 200, description = "It drains; the member as it is now", body = Member),
        (status = 400, description = "Unusable body: BAD_REQUEST", body = ErrorBody),
        (status = 404, description = "This node left its cluster: NOT_FOUND", body = ErrorBody),
        (status = 409, description = "Not as it is now: CONFLICT", body = ErrorBody),
        (status = 415, description = "Not JSON: UNSUPPORTED_MEDIA_TYPE", body = ErrorBody),
    )
)]
pub(super) async fn drain(
    State(app): State<Arc<App>>,
    OptionalJson(body): OptionalJson<DrainRequest>,
) -> Result<axum::Json<Member>, ApiError> {
    let reason = body.unwrap_or_default().reason;
    if reason.len() > MAX_DETAIL || reason.contains(char::is_control) {
        let message = format!("'reason' has at most {MAX_DETAIL} bytes and no control characters");
        return Err(ApiError::bad_request(message));
    }
    submit(&app, Action::Drain { reason }, COMMAND_DEADLINE).await?;
    let snapshot = app.snapshot();
    let own = snapshot.members.iter().find(|member| member.is_self);
    own.map(|member| axum::Json(member.into())).ok_or_else(|| {
        ApiError::not_found("it drains, and is in no cluster now: this node left it".to_owned())
    })
}

/// Ends the drain.
#[utoipa::path(
    delete,
    path = "/api/v1/node/drain",
    operation_id = "undrain",
    tag = "members",
    responses(
        (status = 204, description = "It serves again, or did not drain"),
        (status = 409, description = "Not as it is now: CONFLICT", body = ErrorBody),
    )
)]
pub(super) async fn undrain(State(app): State<Arc<App>>) -> Result<StatusCode, ApiError> {
    submit(&app, Action::Undrain, COMMAND_DEADLINE).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The broker next door, as this agent finds it.
#[utoipa::path(
    get,
    path = "/api/v1/broker",
    operation_id = "broker",
    tag = "members",
    responses((status = 200, description = "As it was last found", body = BrokerState))
)]
pub(super) async fn broker(State(app): State<Arc<App>>) -> axum::Json<BrokerState> {
    axum::Json((&*app.state.broker.borrow()).into())
}
