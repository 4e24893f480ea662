//! `POST /api/v1/reload`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use tokio::time::timeout;

use super::App;
use super::commands::COMMAND_DEADLINE;
use super::error::{ApiError, ErrorBody};
use crate::command::{NotReloaded, Reloaded};

/// Reads the configuration again, as SIGHUP does.
#[utoipa::path(
    post,
    path = "/api/v1/reload",
    tag = "cluster",
    security((), ("token" = [])),
    responses(
        (status = 200, description = "What is in use since now, and what waits for a restart", body = Reloaded),
        (status = 401, description = "The token is missing or wrong: UNAUTHORIZED", body = ErrorBody),
        (status = 422, description = "It cannot be used, for every reason named, and nothing has changed: UNPROCESSABLE_ENTITY", body = ErrorBody),
        (status = 503, description = "The agent is stopping: SERVICE_UNAVAILABLE", body = ErrorBody),
        (status = 504, description = "The files were not read in time: GATEWAY_TIMEOUT", body = ErrorBody),
    )
)]
pub(super) async fn reload(State(app): State<Arc<App>>) -> Result<Json<Reloaded>, ApiError> {
    match timeout(COMMAND_DEADLINE, app.state.reloads.reload()).await {
        Ok(Ok(reloaded)) => Ok(Json(reloaded)),
        Ok(Err(error)) => {
            let status = match error {
                NotReloaded::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
                NotReloaded::Stopping => StatusCode::SERVICE_UNAVAILABLE,
            };
            Err(ApiError::new(status, error.to_string()))
        }
        Err(_) => {
            let message =
                format!("no answer within {} s; it may still be done", COMMAND_DEADLINE.as_secs());
            Err(ApiError::new(StatusCode::GATEWAY_TIMEOUT, message))
        }
    }
}
