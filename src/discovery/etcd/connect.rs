//! One connection to one etcd endpoint, and what its errors mean.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use etcd_client::{Channel, Client, ConnectOptions, Error};
use hyper::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tonic::Code;
use tonic::transport::Endpoint;

use crate::config::{ClientTls, EtcdConfig};
use crate::discovery::text::words;
use crate::discovery::{DiscoveryError, tls};

/// One request, or one TCP and TLS handshake.
pub(super) const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// etcd closes connections of clients that ping more often than every 5 s.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// The NOSPACE alarm: reads are answered, writes are not.
const NO_SPACE: &str = "its space is used up (NOSPACE alarm), so it answers reads and refuses \
                        writes: compact and defragment it, then etcdctl alarm disarm";

/// What went wrong with a call, as far as the next step depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// This endpoint does not serve us; another one may.
    Endpoint(String),
    /// Credentials or rights; every endpoint will say the same.
    Denied(String),
    /// The lease that the call names does not exist (any more).
    NoLease,
    /// etcd is there and refuses this very call: no space, compacted, …
    Refused(String),
}

impl From<Failure> for DiscoveryError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Endpoint(text) => Self::Unreachable(text),
            Failure::Denied(text) => Self::Denied(text),
            Failure::NoLease => Self::BadAnswer("etcd: the lease does not exist".into()),
            Failure::Refused(text) => Self::BadAnswer(text),
        }
    }
}

/// Bounds a call in time and sorts its error.
pub(super) async fn call<T>(
    server: &str,
    what: &str,
    future: impl Future<Output = Result<T, Error>>,
) -> Result<T, Failure> {
    match timeout(CALL_TIMEOUT, future).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(failure(server, what, &error)),
        Err(_) => Err(Failure::Endpoint(format!(
            "etcd at {server}: cannot {what}: no answer within {} s",
            CALL_TIMEOUT.as_secs()
        ))),
    }
}

pub(super) fn failure(server: &str, what: &str, error: &Error) -> Failure {
    let say = |reason: &str| format!("etcd at {server}: cannot {what}: {reason}");
    match error {
        Error::GRpcStatus(status) => {
            let text = status.message();
            match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => Failure::Denied(say(text)),
                // etcd reports these two as invalid arguments.
                Code::InvalidArgument if text.contains("authentication failed") => {
                    Failure::Denied(say("wrong username or password"))
                }
                Code::InvalidArgument if text.contains("user name is empty") => Failure::Denied(
                    say("authentication is on: set cluster.etcd.username and password"),
                ),
                Code::NotFound if text.contains("lease not found") => Failure::NoLease,
                Code::ResourceExhausted if text.contains("space exceeded") => {
                    Failure::Refused(say(NO_SPACE))
                }
                Code::InvalidArgument
                | Code::FailedPrecondition
                | Code::ResourceExhausted
                | Code::OutOfRange
                | Code::NotFound
                | Code::Unimplemented => Failure::Refused(say(text)),
                _ => Failure::Endpoint(say(&words(status))),
            }
        }
        // The library's word for an answer with a time to live of 0.
        Error::LeaseKeepAliveError(text) if text.contains("not found") => Failure::NoLease,
        Error::TransportError(error) => Failure::Endpoint(say(&words(error))),
        other => Failure::Endpoint(say(&words(other))),
    }
}

/// An endpoint that takes our calls.
pub(super) struct Connected {
    pub(super) client: Client,
    /// Credentials are configured, and this etcd has authentication off.
    pub(super) login_unused: bool,
}

/// Connects to one endpoint and authenticates there.
pub(super) async fn connect(config: &EtcdConfig, server: &str) -> Result<Connected, Failure> {
    let unusable =
        |reason: &str| Failure::Endpoint(format!("etcd at {server}: cannot connect: {reason}"));
    let target = Target::parse(server, config.tls.is_some()).map_err(|why| unusable(&why))?;
    // The scheme is always http here: the connector below does TLS itself, so that
    // certificate files are read anew for every connection.
    let endpoint = Endpoint::from_shared(format!("http://{}", target.authority()))
        .map_err(|error| unusable(&words(&error)))?
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let target = Arc::new(target);
    let client_tls = config.tls.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let target = Arc::clone(&target);
        let client_tls = client_tls.clone();
        async move { open(&target, client_tls.as_ref()).await.map(TokioIo::new) }
    });
    let channel = match timeout(CALL_TIMEOUT, endpoint.connect_with_connector(connector)).await {
        Ok(Ok(channel)) => channel,
        Ok(Err(error)) => return Err(unusable(&words(&error))),
        Err(_) => return Err(unusable("no answer in time")),
    };
    let options = ConnectOptions::new().with_require_leader(true).with_auto_token_refresh(true);
    let Some((user, password)) = &config.auth else {
        let client = Client::from_channel(Channel::Tonic(channel), Some(options));
        let client = call(server, "connect", client).await?;
        return Ok(Connected { client, login_unused: false });
    };
    let with_user = options.clone().with_user(user, password.expose());
    let client = Client::from_channel(Channel::Tonic(channel.clone()), Some(with_user));
    match call(server, "log in", client).await {
        // As etcd's own client does: credentials for an etcd that asks for none are no error.
        Err(Failure::Refused(text)) if text.contains("not enabled") => {
            let client = Client::from_channel(Channel::Tonic(channel), Some(options));
            let client = call(server, "connect", client).await?;
            Ok(Connected { client, login_unused: true })
        }
        Ok(client) => Ok(Connected { client, login_unused: false }),
        Err(failure) => Err(failure),
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

async fn open(target: &Target, tls: Option<&ClientTls>) -> io::Result<Box<dyn Stream>> {
    let in_time = async {
        let tcp = TcpStream::connect((target.host.as_str(), target.port)).await?;
        tcp.set_nodelay(true)?;
        if !target.tls {
            return Ok(Box::new(tcp) as Box<dyn Stream>);
        }
        let config = tls::client_config(tls, &[b"h2"])?;
        let name = tls.and_then(|tls| tls.server_name.as_deref()).unwrap_or(&target.host);
        let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, tcp).await?;
        Ok(Box::new(stream) as Box<dyn Stream>)
    };
    timeout(CALL_TIMEOUT, in_time)
        .await
        .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
}

/// Where an endpoint's URL leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// A name or an address, an IPv6 one without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl Target {
    /// `ssl_options` switch TLS on whatever the scheme says: never clear text by mistake.
    pub(super) fn parse(server: &str, ssl_options: bool) -> Result<Self, String> {
        let full =
            if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let uri: Uri = full.parse().map_err(|error| format!("not a URL: {error}"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => ssl_options,
            _ => return Err("the URL must begin with http:// or https://".into()),
        };
        let host = uri.host().ok_or("the URL has no host")?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { host, port: uri.port_u16().unwrap_or(2379), tls })
    }

    fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}
