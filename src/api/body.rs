//! Reading what clients send, with limits; every failure in the API's own shape.

use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::error::ApiError;
use crate::node::NodeName;

/// Longest body read, bytes: a node name and a flag fit many times over.
pub(super) const MAX_BODY: usize = 8 * 1024;

/// A body must have arrived by then.
pub(super) const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// A JSON body.
pub(super) struct Json<T>(pub(super) T);

/// A JSON body, or none at all.
pub(super) struct OptionalJson<T>(pub(super) Option<T>);

/// The query string.
pub(super) struct Params<T>(pub(super) T);

/// `{node}` of the path, percent-decoded, not validated.
pub(super) struct NodePath(pub(super) String);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (typed, bytes) = whole(request).await?;
        parse(typed, &bytes).map(Self)
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for OptionalJson<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (typed, bytes) = whole(request).await?;
        // `null` is no body either.
        if bytes.is_empty() { Ok(Self(None)) } else { parse(typed, &bytes).map(Self) }
    }
}

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Query::try_from_uri(&parts.uri).map(|Query(params)| Self(params)).map_err(|rejection| {
            let text = rejection.body_text();
            let why = text.split_once(": ").map_or(&*text, |(_, why)| why);
            ApiError::bad_request(format!("the query is not what is expected: {why}"))
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for NodePath {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        axum::extract::Path::<String>::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(node)| Self(node))
            .map_err(|_| ApiError::bad_request("the node name in the path is not UTF-8"))
    }
}

/// A node name that a client sent.
pub(super) fn node_name(text: &str) -> Result<NodeName, ApiError> {
    NodeName::parse(text)
        .map_err(|error| ApiError::bad_request(format!("'{text}' is not a node name: {error}")))
}

/// Reads a body to its end, before anything is done for its sender.
///
/// # Errors
/// 408 when it does not arrive in time, 413 when it is too long, 400 when it breaks off.
pub(super) async fn read(body: Incoming) -> Result<Bytes, ApiError> {
    let body = Limited::new(body, MAX_BODY).collect();
    match timeout(BODY_TIMEOUT, body).await {
        Ok(Ok(bytes)) => Ok(bytes.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let message = format!("a body may have at most {MAX_BODY} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, message))
        }
        Ok(Err(_)) => Err(ApiError::bad_request("the body broke off")),
        Err(_) => {
            Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "the body did not arrive in time"))
        }
    }
}

/// The body that [`read`] has read, and whether it claims to be JSON.
async fn whole(request: Request) -> Result<(bool, Bytes), ApiError> {
    let typed = is_json(request.headers());
    let bytes = axum::body::to_bytes(request.into_body(), MAX_BODY).await;
    bytes.map(|bytes| (typed, bytes)).map_err(|_| ApiError::bad_request("the body broke off"))
}

/// A page of another site can send forms and plain text without asking, but no JSON.
fn is_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).is_some_and(|value| {
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().eq_ignore_ascii_case("application/json")
    })
}

fn parse<T: DeserializeOwned>(typed: bool, bytes: &[u8]) -> Result<T, ApiError> {
    if !typed {
        let message = "the body must be JSON with 'Content-Type: application/json'";
        return Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, message));
    }
    serde_json::from_slice(bytes).map_err(|error| {
        ApiError::bad_request(format!("the body is not what is expected: {error}"))
    })
}
