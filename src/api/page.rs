//! `/`: one self-contained page for people; it reads the API like any other client.

use axum::http::header;
use axum::response::{IntoResponse, Response};

const PAGE: &str = include_str!("page.html");

/// The status page.
#[utoipa::path(
    get,
    path = "/",
    tag = "health",
    responses((status = 200, description = "A page for people", body = String, content_type = "text/html"))
)]
pub(super) async fn page() -> Response {
    // Only the page's own style and script run, whatever else gets into it.
    let nonce = format!("{:032x}", rand::random::<u128>());
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8".to_owned()),
        (header::CONTENT_SECURITY_POLICY, policy),
        (header::REFERRER_POLICY, "no-referrer".to_owned()),
    ];
    (headers, PAGE.replace("{nonce}", &nonce)).into_response()
}
