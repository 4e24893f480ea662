//! Which route is answered by whom.

use std::sync::Arc;

use axum::Router;
use axum::http::{Method, StatusCode, Uri};
use axum::routing::{delete, get, post, put};

use super::error::ApiError;
use super::{
    App, commands, emqx, health, node, openapi, page, reads, reload, scrape, sse, targets,
};

/// Every route. [`openapi`] lists the same ones, and a test compares the two.
pub(super) fn router(app: Arc<App>) -> Router {
    Router::new()
        .route("/", get(page::page))
        .route("/livez", get(health::livez))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(scrape::metrics))
        .route("/openapi.json", get(openapi::openapi))
        .route("/api/v1/cluster", get(reads::cluster))
        .route("/api/v1/cluster/join", post(commands::join))
        .route("/api/v1/cluster/leave", post(commands::leave))
        .route("/api/v1/cluster/invite", post(commands::invite))
        .route("/api/v1/cluster/discovery", put(commands::discovery))
        .route("/api/v1/members", get(reads::members).delete(commands::purge))
        .route("/api/v1/members/{node}", get(reads::member).delete(commands::force_leave))
        .route("/api/v1/reach", get(reads::reach))
        .route("/api/v1/reload", post(reload::reload))
        .route("/api/v1/node/drain", put(node::drain).delete(node::undrain))
        .route("/api/v1/broker", get(node::broker))
        .route("/api/v1/events", get(sse::events))
        .route("/api/v1/sd/prometheus", get(targets::targets))
        .route("/api/v5/cluster", get(emqx::cluster))
        .route("/api/v5/cluster/{node}/invite", put(emqx::invite))
        .route("/api/v5/cluster/{node}/force_leave", delete(emqx::force_leave))
        .fallback(unknown_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(app)
}

async fn unknown_route(uri: Uri) -> ApiError {
    ApiError::not_found(format!("there is no '{}'; /openapi.json lists what is", uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> ApiError {
    let message = format!("'{}' does not take {method}", uri.path());
    ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message)
}
