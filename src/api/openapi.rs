//! `/openapi.json`: made from the routes' own annotations.

use std::sync::OnceLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{commands, emqx, health, node, page, reads, reload, sse};

#[derive(OpenApi)]
#[openapi(
    info(title = "muster", description = "Cluster agent: membership as one node sees it"),
    tags(
        (name = "cluster", description = "The cluster, and this node's place in it"),
        (name = "members", description = "Its members"),
        (name = "health", description = "For supervisors and people"),
        (name = "emqx", description = "EMQX's shapes of the same"),
    ),
    paths(
        reads::cluster,
        reads::members,
        reads::member,
        reads::metrics,
        reads::targets,
        commands::join,
        commands::leave,
        commands::invite,
        commands::discovery,
        commands::force_leave,
        node::drain,
        node::undrain,
        node::broker,
        commands::purge,
        reload::reload,
        health::livez,
        health::readyz,
        sse::events,
        emqx::cluster,
        emqx::invite,
        emqx::force_leave,
        page::page,
        openapi,
    ),
    modifiers(&Token)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "`agent.api.token`. Once set it is needed for every change, and from \
                 other machines for every request.",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
    }
}

/// The description of this API.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object))
)]
pub(super) async fn openapi() -> impl IntoResponse {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| super::to_json(&document())).clone();
    ([(header::CONTENT_TYPE, "application/json")], text)
}
