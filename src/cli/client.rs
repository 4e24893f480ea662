//! A client of one agent's API: a connection per request, with deadlines.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::error::CliError;
use super::sse::EventStream;
use super::target::Target;
use super::tls;
use crate::api::ErrorBody;
use crate::secret::Secret;

/// An agent that is there accepts at once.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longer than the agent's own deadline for a command.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Longest answer read, bytes: thousands of members fit.
const MAX_ANSWER: usize = 16 << 20;

/// Why there is no answer to use.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// No connection.
    #[error(
        "agent not reachable at {target}: {reason}; is it running? \
         (--url, MUSTER_URL or -c say where it is)"
    )]
    Unreachable {
        /// Where it should be.
        target: Target,
        /// What went wrong.
        reason: String,
    },
    /// A connection, and certificates that do not fit.
    #[error("cannot speak TLS with the agent at {target}: {reason}")]
    Untrusted {
        /// Where it is.
        target: Target,
        /// What went wrong, and what to do.
        reason: String,
    },
    /// A connection, and no answer.
    #[error(
        "the agent at {target} does not answer: {reason}; see its log, and restart it if it hangs"
    )]
    Silent {
        /// Where it is.
        target: Target,
        /// What went wrong.
        reason: String,
    },
    /// An answer, and it is no.
    #[error("{message} ({code}){}", hint(*.status))]
    Refused {
        /// Its status.
        status: StatusCode,
        /// Its code.
        code: String,
        /// Its message.
        message: String,
    },
    /// An answer that no agent gives.
    #[error("{target} gave an answer that is not an agent's: {reason}; is it the agent's API?")]
    Unreadable {
        /// Where it came from.
        target: Target,
        /// What is wrong with it.
        reason: String,
    },
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::Unreachable { .. }
            | ClientError::Untrusted { .. }
            | ClientError::Silent { .. } => Self::Unreachable(text),
            ClientError::Refused { .. } | ClientError::Unreadable { .. } => Self::Failed(text),
        }
    }
}

fn hint(status: StatusCode) -> &'static str {
    match status {
        StatusCode::UNAUTHORIZED => "; give it with --token, MUSTER_TOKEN or -c",
        _ => "",
    }
}

/// A client of one agent.
#[derive(Clone, Debug)]
pub(super) struct Client {
    target: Target,
    token: Option<Secret>,
    /// With [`Target::Tls`] only.
    tls: Option<Arc<ClientConfig>>,
}

impl Client {
    pub(super) fn new(target: Target, token: Option<Secret>, tls: Option<ClientConfig>) -> Self {
        Self { target, token, tls: tls.map(Arc::new) }
    }

    /// The agent.
    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// `GET`, with a JSON answer.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.read(&self.call(Method::GET, path, None).await?)
    }

    /// `GET`, with a JSON answer of the same shape under any status, as the health routes
    /// have it.
    pub(super) async fn get_any<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let (status, body) = self.exchange(Method::GET, path, None).await?;
        match serde_json::from_slice(&body) {
            Ok(answer) => Ok(answer),
            Err(_) if !status.is_success() => Err(self.refused(status, &body)),
            Err(error) => Err(self.unreadable(error)),
        }
    }

    /// `GET`, with the answer's text whatever its status.
    pub(super) async fn text(&self, path: &str) -> Result<String, ClientError> {
        let (_, body) = self.exchange(Method::GET, path, None).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Any method, with a JSON body and a JSON answer.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|error| self.unreadable(error))?;
        self.read(&self.call(method, path, Some(body)).await?)
    }

    /// `DELETE`, whose answer has no body.
    pub(super) async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.call(Method::DELETE, path, None).await.map(drop)
    }

    /// Membership news, behind the named event if one is named.
    pub(super) async fn events(&self, after: Option<u64>) -> Result<EventStream, ClientError> {
        let mut request = self.request(Method::GET, "/api/v1/events", None);
        if let Some(after) = after {
            request.headers_mut().insert("last-event-id", after.into());
        }
        let (status, body) = self.answer(request).await?;
        if status.is_success() {
            return Ok(EventStream::new(body));
        }
        Err(self.refused(status, &self.collect(body).await?))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<Bytes, ClientError> {
        let (status, body) = self.exchange(method, path, body).await?;
        if status.is_success() { Ok(body) } else { Err(self.refused(status, &body)) }
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<Vec<u8>>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let exchange = async {
            let (status, body) = self.answer(self.request(method, path, body)).await?;
            Ok((status, self.collect(body).await?))
        };
        match timeout(ANSWER_TIMEOUT, exchange).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent(format!("{} s are over", ANSWER_TIMEOUT.as_secs()))),
        }
    }

    fn request(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Request<Full<Bytes>> {
        let host = match &self.target {
            Target::Tcp(authority) | Target::Tls(authority) => authority,
            Target::Unix(_) => "localhost",
        };
        let json = body.is_some();
        let mut request = Request::new(Full::from(body.unwrap_or_default()));
        *request.method_mut() = method;
        // Paths are ours, but for node names, and those are encoded.
        if let Ok(uri) = path.parse() {
            *request.uri_mut() = uri;
        }
        let headers = request.headers_mut();
        if let Ok(host) = host.parse() {
            headers.insert(header::HOST, host);
        }
        if json {
            let kind = header::HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, kind);
        }
        let bearer = self.token.as_ref().map(|token| format!("Bearer {}", token.expose()));
        if let Some(mut value) =
            bearer.and_then(|bearer| header::HeaderValue::try_from(bearer).ok())
        {
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        request
    }

    async fn answer(
        &self,
        request: Request<Full<Bytes>>,
    ) -> Result<(StatusCode, Incoming), ClientError> {
        let mut sender = match timeout(CONNECT_TIMEOUT, self.connect()).await {
            Ok(Ok(sender)) => sender,
            Ok(Err(error)) => {
                return Err(match tls_error(&error) {
                    Some(error) => self.untrusted(error),
                    None => self.unreachable(reason(&error)),
                });
            }
            Err(_) => return Err(self.unreachable("no answer to the connection attempt".into())),
        };
        match timeout(ANSWER_TIMEOUT, sender.send_request(request)).await {
            Ok(Ok(response)) => Ok((response.status(), response.into_body())),
            Ok(Err(error)) if error.is_parse() && matches!(self.target, Target::Tcp(_)) => {
                Err(self.unreadable(format!("{error}; if it speaks TLS, write https://")))
            }
            Ok(Err(error)) if error.is_parse() => Err(self.unreadable(error)),
            // In TLS 1.3 a refused client learns it behind its own handshake.
            Ok(Err(error)) => Err(match tls_error(&error) {
                Some(error) => self.untrusted(error),
                // Or its system's word for the end comes before it.
                None if matches!(self.target, Target::Tls(_)) => self.silent(format!(
                    "{}; does it want a certificate from its clients? (--cert and --key)",
                    words(&error)
                )),
                None => self.silent(words(&error)),
            }),
            Err(_) => Err(self.silent(format!("{} s are over", ANSWER_TIMEOUT.as_secs()))),
        }
    }

    async fn connect(&self) -> io::Result<http1::SendRequest<Full<Bytes>>> {
        match &self.target {
            Target::Tcp(authority) => handshake(TcpStream::connect(authority).await?).await,
            Target::Tls(authority) => {
                let stream = TcpStream::connect(authority).await?;
                handshake(self.secure(authority, stream).await?).await
            }
            Target::Unix(path) => handshake(UnixStream::connect(path).await?).await,
        }
    }

    async fn secure(&self, authority: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let config = self.tls.clone().ok_or(io::ErrorKind::Unsupported)?;
        let host = authority.rsplit_once(':').map_or(authority, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        TlsConnector::from(config).connect(name, stream).await
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, ClientError> {
        match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(self.silent(error.to_string())),
        }
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(body).map_err(|error| self.unreadable(error))
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice(body) {
            Ok(ErrorBody { code, message }) => ClientError::Refused { status, code, message },
            Err(_) => self.unreadable(format!("status {status}")),
        }
    }

    fn unreachable(&self, reason: String) -> ClientError {
        ClientError::Unreachable { target: self.target.clone(), reason }
    }

    fn untrusted(&self, error: &rustls::Error) -> ClientError {
        ClientError::Untrusted { target: self.target.clone(), reason: tls::reason(error) }
    }

    fn silent(&self, reason: String) -> ClientError {
        ClientError::Silent { target: self.target.clone(), reason }
    }

    fn unreadable(&self, reason: impl ToString) -> ClientError {
        ClientError::Unreadable { target: self.target.clone(), reason: reason.to_string() }
    }
}

async fn handshake<S>(stream: S) -> io::Result<http1::SendRequest<Full<Bytes>>>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let (sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // Ends with the connection: when the response is read, or with the runtime.
    tokio::spawn(connection);
    Ok(sender)
}

/// What TLS found, wherever it is in an error.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let found = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let found = found.and_then(|inner| inner.downcast_ref());
    found.or_else(|| tls_error(error.source()?))
}

/// An error and what caused it.
fn words(error: &dyn Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", words(cause)),
        None => error.to_string(),
    }
}

/// Without the system's number behind it.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        io::ErrorKind::NotFound => "no such socket".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}

/// A node name as one segment of a path.
pub(super) fn encode(segment: &str) -> String {
    let mut encoded = String::with_capacity(segment.len());
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~@".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}
