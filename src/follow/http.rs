//! One HTTP request to a server of the operator's: the broker's status, a web hook.

use std::convert::Infallible;
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Bytes of an answer's body that are read before the connection is closed: whether it was
/// taken is in its head.
const MAX_BODY: usize = 64 << 10;

/// How long such a body is waited for: who sends one slowly, or without end, has answered.
const BODY: Duration = Duration::from_millis(200);

/// Headers of an answer, and bytes of its head.
const MAX_HEADERS: usize = 64;
const MAX_HEAD: usize = 16 << 10;

/// Sends one request over a connection of its own, and returns the answer's status once its
/// body has been read, or is longer or slower than anybody asked for. Cancel-safe.
///
/// # Errors
/// Why there is no answer, in words.
pub(super) async fn send(
    method: Method,
    url: &str,
    json: Option<Vec<u8>>,
    within: Duration,
) -> Result<StatusCode, String> {
    match timeout(within, exchange(method, url, json)).await {
        Ok(answer) => answer,
        Err(_) => Err(format!("no answer within {} s", within.as_secs_f64())),
    }
}

async fn exchange(method: Method, url: &str, json: Option<Vec<u8>>) -> Result<StatusCode, String> {
    let uri: Uri = url.parse().map_err(|error| format!("not a URL: {error}"))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err("not an http:// URL".to_owned());
    };
    // Brackets are the URL's, not the address's.
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let place = (host, authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(place).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority.as_str())
        .header(header::USER_AGENT, concat!("muster/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close");
    if json.is_some() {
        request = request.header(header::CONTENT_TYPE, "application/json");
    }
    let body = Full::new(Bytes::from(json.unwrap_or_default()));
    let request = request.body(body).map_err(|error| error.to_string())?;
    let answer = async {
        let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, mut body) = answer.into_parts();
        let drain = async {
            let mut read = 0;
            while read < MAX_BODY {
                // A body that breaks off changes nothing about the status.
                let Some(Ok(frame)) = body.frame().await else { break };
                read += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        let _drained = timeout(BODY, drain).await;
        Ok(head.status)
    };
    let carried = async {
        // How it ended is known from the answer, or from its absence.
        let _ended = connection.await;
        std::future::pending::<Infallible>().await
    };
    tokio::select! {
        answer = answer => answer,
        never = carried => match never {},
    }
}

#[cfg(test)]
mod tests;
