//! `/`: one self-contained page for people; it reads the API like any other client, and
//! changes nothing.
//!
//! It holds no data, so that it can be served to a browser that has no token yet and ask
//! for it. The browser keeps the token until the tab is closed.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;
use axum::http::{Method, header};
use axum::response::{IntoResponse, Response};

use super::App;
use super::guard::needs_token;
use super::listen::Peer;

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The status page.
#[utoipa::path(
    get,
    path = "/",
    operation_id = "page",
    tag = "health",
    responses((status = 200, description = "A page for people", body = String, content_type = "text/html"))
)]
pub(super) async fn page(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
) -> Response {
    // Only the page's own style and script run, whatever else gets into it.
    let nonce = format!("{:032x}", rand::random::<u128>());
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
         require-trusted-types-for 'script'; trusted-types 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    // Known from the start, so that the page need not try in vain.
    let guarded = app.config().agent.api.token.is_some() && needs_token(&Method::GET, peer);
    let text = PAGE
        .replace("@TOKEN@", if guarded { "needed" } else { "" })
        .replace("@NONCE@", &nonce)
        .replace("@STYLE@", STYLE)
        .replace("@SCRIPT@", SCRIPT);
    (headers, text).into_response()
}
