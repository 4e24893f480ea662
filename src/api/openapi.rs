//! `/openapi.json`: made from the routes' own annotations, and from what holds for all of
//! them: who may ask, and what the guard and the reading of a request may answer.

use std::sync::OnceLock;

use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::{ObjectBuilder, Schema, SchemaType, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi, PartialSchema, ToSchema};

use super::{commands, emqx, health, node, page, reads, reload, scrape, sse, targets};
use crate::attributes::MAX_TAG_BYTES;
use crate::node::{MAX_NODE_NAME, NodeName};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "muster",
        description = "Cluster agent: membership as one node sees it",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    servers((url = "/", description = "The agent that serves this document")),
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
        reads::reach,
        targets::targets,
        scrape::metrics,
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
    components(schemas(NodeName, TagFilter, targets::Target)),
    modifiers(&Everywhere)
)]
struct Document;

/// What every route has in common.
struct Everywhere;

/// Statuses that any request may be answered with before its route has seen it.
const REFUSALS: [(&str, &str); 5] = [
    ("400", "No usable request, or no single `Host`: BAD_REQUEST"),
    ("401", "The token is missing or wrong: UNAUTHORIZED"),
    ("403", "A foreign `Host` or `Origin`: FORBIDDEN"),
    ("408", "The body did not arrive in time: REQUEST_TIMEOUT"),
    ("413", "The body is too long: PAYLOAD_TOO_LARGE"),
];

/// What any change may be answered with.
const FAILURES: [(&str, &str); 3] = [
    ("500", "Done, and it could not be written to disk: INTERNAL_ERROR"),
    ("503", "The agent is stopping, or too many commands are under way: SERVICE_UNAVAILABLE"),
    ("504", "Not done in time; it may still be done: GATEWAY_TIMEOUT"),
];

impl Modify for Everywhere {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "`agent.api.token`. Once set it is needed for every change, and from \
                 other machines for every request but that for the status page.",
            ))
            .build();
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("token", SecurityScheme::Http(bearer));
        for (path, item) in &mut document.paths.paths {
            if let Some(read) = &mut item.get {
                describe(read, &REFUSALS);
                read.security = Some(access(path == "/"));
            }
            for change in [&mut item.put, &mut item.post, &mut item.delete].into_iter().flatten() {
                describe(change, &REFUSALS);
                // EMQX's routes answer every refusal with 400.
                if !path.starts_with("/api/v5/") {
                    describe(change, &FAILURES);
                }
                change.security = Some(access(false));
            }
        }
    }
}

/// Whether the token is needed depends on whether one is set and on who asks.
fn access(open: bool) -> Vec<SecurityRequirement> {
    let without = SecurityRequirement::default();
    let token = SecurityRequirement::new("token", Vec::<String>::new());
    if open { vec![without] } else { vec![without, token] }
}

/// Adds statuses that the route does not describe itself.
fn describe(operation: &mut Operation, statuses: &[(&str, &str)]) {
    let body = Ref::from_schema_name("ErrorBody");
    for (status, description) in statuses {
        let response = || {
            let content = ContentBuilder::new().schema(Some(body.clone())).build();
            let response = ResponseBuilder::new().description(*description);
            RefOr::T(response.content("application/json", content).build())
        };
        operation.responses.responses.entry((*status).to_owned()).or_insert_with(response);
    }
}

/// `name@host`, as [`NodeName::parse`] takes it, all but the rarest IPv6 spellings.
const NODE_PATTERN: &str = concat!(
    r"^[A-Za-z0-9_-]+@(?:",
    // A DNS name whose last label is no number.
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*",
    r"[0-9]{0,31}[A-Za-z_](?:[A-Za-z0-9_-]{0,30}[A-Za-z0-9_])?",
    // An IPv4 address.
    r"|(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\.){3}",
    r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])",
    // An IPv6 address, whole or with one gap.
    r"|(?:[0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}",
    r"|(?:[0-9A-Fa-f]{1,4}:){1,7}:",
    r"|(?:[0-9A-Fa-f]{1,4}:){1,6}:[0-9A-Fa-f]{1,4}",
    r"|(?:[0-9A-Fa-f]{1,4}:){1,5}(?::[0-9A-Fa-f]{1,4}){1,2}",
    r"|(?:[0-9A-Fa-f]{1,4}:){1,4}(?::[0-9A-Fa-f]{1,4}){1,3}",
    r"|(?:[0-9A-Fa-f]{1,4}:){1,3}(?::[0-9A-Fa-f]{1,4}){1,4}",
    r"|(?:[0-9A-Fa-f]{1,4}:){1,2}(?::[0-9A-Fa-f]{1,4}){1,5}",
    r"|[0-9A-Fa-f]{1,4}:(?::[0-9A-Fa-f]{1,4}){1,6}",
    r"|:(?:(?::[0-9A-Fa-f]{1,4}){1,7}|:)",
    r")$",
);

impl PartialSchema for NodeName {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .description(Some("A node's name: `name@host`"))
            .pattern(Some(NODE_PATTERN))
            .min_length(Some(3))
            .max_length(Some(MAX_NODE_NAME))
            .examples(["emqx@127.0.0.1", "emqx1@node1.example.org"])
            .into()
    }
}

impl ToSchema for NodeName {}

/// `name=value`, as `?tag=` takes it.
pub(super) struct TagFilter;

impl PartialSchema for TagFilter {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(SchemaType::Type(Type::String))
            .description(Some("A tag's name and value: `name=value`"))
            .pattern(Some("^[a-z0-9_]{1,32}="))
            .max_length(Some(MAX_TAG_BYTES + 1))
            .examples(["zone=a"])
            .into()
    }
}

impl ToSchema for TagFilter {}

/// The description of this API.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

/// This document.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "openapi",
    tag = "health",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object))
)]
pub(super) async fn openapi() -> impl IntoResponse {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    let text = TEXT.get_or_init(|| super::to_json(&document())).clone();
    ([(header::CONTENT_TYPE, "application/json")], text)
}
