//! The way to the API server: address, credentials, requests, and what its
//! refusals mean.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::header::ACCEPT;
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ConfigExt};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio::time::timeout;
use tower::{BoxError, ServiceBuilder};

use super::objects::Status;
use crate::discovery::DiscoveryError;
use crate::discovery::text::{shown, words};
use crate::secret::shown_url;

/// One connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// One request until its answer is read, or until a watch begins. Two of them, for
/// slices and then endpoints, fit into a round; one and the longest wait between two
/// rounds stay below the 10 s in which a silent server is to be noticed.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Longest answer read: some 50,000 endpoints, more than any service has.
const MAX_ANSWER: usize = 16 << 20;

/// Where Kubernetes mounts what a pod needs to speak to the API server.
pub(super) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Where credentials come from.
#[derive(Clone, Debug)]
pub(super) struct Access {
    /// Used inside a cluster.
    pub(super) apiserver: String,
    /// Holds `token` and `ca.crt`.
    pub(super) account: PathBuf,
    /// Used instead of the two, when set.
    pub(super) kubeconfig: Option<PathBuf>,
}

/// Why there is no answer to use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Trouble {
    /// 403, with the server's words.
    #[error("{0}")]
    Forbidden(String),
    /// 404, with the server's words; `true`: the server has the resource but not the object.
    #[error("{0}")]
    NotFound(String, bool),
    /// 410: the version asked for is no longer kept.
    #[error("410 Gone")]
    Gone,
    /// Anything else, said in full.
    #[error("{0}")]
    Other(DiscoveryError),
}

/// A connected API server.
#[derive(Clone)]
pub(super) struct Api {
    client: Client,
    /// For messages.
    pub(super) url: String,
    /// For messages: what was sent to show who we are.
    credential: String,
    /// The files that it was made from, and what they held.
    files: Vec<(PathBuf, Option<Vec<u8>>)>,
}

impl Access {
    /// The namespace that this pod runs in, where it is one.
    pub(super) fn pod_namespace(&self) -> Option<String> {
        if self.kubeconfig.is_some() {
            return None;
        }
        let text = std::fs::read_to_string(self.account.join("namespace")).ok()?;
        let text = text.trim();
        (!text.is_empty()).then(|| text.to_owned())
    }

    /// Reads the credentials anew; connects only with the first request.
    pub(super) async fn open(&self) -> Result<Api, DiscoveryError> {
        let (mut config, mut credential) = match &self.kubeconfig {
            Some(path) => from_kubeconfig(path).await?,
            None => self.in_cluster()?,
        };
        if config.cluster_url.scheme_str() == Some("http") {
            // As kubectl: credentials never travel in clear text.
            config.auth_info = AuthInfo::default();
            credential = "no credentials, as the URL is plain http".into();
        }
        if config.accept_invalid_certs {
            tracing::warn!(
                "the kubeconfig says insecure-skip-tls-verify: whoever sits between this node \
                 and the API server can read the token and invent members"
            );
        }
        // Read here rather than by the library, which chokes on the newline that people
        // leave in such files and notices a new token only after a minute.
        let mut files = Vec::new();
        if let Some(path) = config.auth_info.token_file.take() {
            let token = std::fs::read_to_string(&path)
                .map_err(|error| DiscoveryError::Denied(format!("token {path}: {error}")))?;
            config.auth_info.token = Some(token.trim().to_owned().into());
            files.push((PathBuf::from(path), Some(token.into_bytes())));
        }
        if let Some(path) = config.root_cert_file.take() {
            let pem = std::fs::read(&path).ok();
            files.push((path, pem));
        }
        let url = config.cluster_url.to_string();
        let url = shown_url(url.trim_end_matches('/')).into_owned();
        let at = url.clone();
        // An exec credential plugin is a program that is waited for.
        tokio::task::spawn_blocking(move || client(&config))
            .await
            .map_err(|error| DiscoveryError::Crashed(error.to_string()))?
            .map(|client| Api { client, url, credential, files })
            .map_err(|error| {
                DiscoveryError::Denied(format!("Kubernetes API at {at}: {}", words(&error)))
            })
    }

    fn in_cluster(&self) -> Result<(Config, String), DiscoveryError> {
        let url: Uri = self.apiserver.parse().map_err(|error| {
            DiscoveryError::BadAnswer(format!("cluster.k8s.apiserver is no URL: {error}"))
        })?;
        let mut config = Config::new(url);
        let ca = self.account.join("ca.crt");
        if ca.exists() {
            config.root_cert = Some(certificates(&ca)?);
            config.root_cert_file = Some(ca);
        }
        let token = self.account.join("token");
        if !token.exists() {
            return Ok((config, format!("no token, as there is no {}", token.display())));
        }
        let sent = format!("the token of {}", token.display());
        config.auth_info.token_file = Some(token.display().to_string());
        Ok((config, sent))
    }
}

async fn from_kubeconfig(path: &Path) -> Result<(Config, String), DiscoveryError> {
    let unusable = |error: &(dyn std::error::Error + 'static)| {
        DiscoveryError::Denied(format!("kubeconfig {}: {}", path.display(), words(error)))
    };
    let file = Kubeconfig::read_from(path).map_err(|error| unusable(&error))?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default())
        .await
        .map_err(|error| unusable(&error))?;
    Ok((config, format!("the credentials of {}", path.display())))
}

fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, DiscoveryError> {
    let unusable =
        |why: String| DiscoveryError::Denied(format!("CA file {}: {why}", path.display()));
    let pem = std::fs::read(path).map_err(|error| unusable(error.to_string()))?;
    let certs = CertificateDer::pem_slice_iter(&pem)
        .map(|cert| cert.map(|cert| cert.to_vec()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| unusable(error.to_string()))?;
    if certs.is_empty() { Err(unusable("holds no PEM certificate".into())) } else { Ok(certs) }
}

/// The library's own stack logs every failure as an error and retries by itself;
/// this one leaves both to the runner.
fn client(config: &Config) -> Result<Client, kube::Error> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    http.set_keepalive(Some(Duration::from_secs(30)));
    let https = config.rustls_https_connector_with_connector(http)?;
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .service(HttpClient::builder(TokioExecutor::new()).build::<_, Body>(https));
    Ok(Client::new(service, config.default_namespace.clone()))
}

impl Api {
    /// Whether the token or the CA has been replaced since.
    pub(super) fn is_outdated(&self) -> bool {
        self.files.iter().any(|(path, was)| match std::fs::read(path) {
            Ok(is) => Some(is) != *was,
            // Half-replaced or taken away: what was read before may still be good.
            Err(_) => false,
        })
    }

    /// The whole answer to a GET.
    pub(super) async fn get(&self, path: &str) -> Result<Vec<u8>, Trouble> {
        let answer = async {
            let body = self.begin(path).await?;
            match Limited::new(body, MAX_ANSWER).collect().await {
                Ok(whole) => Ok(whole.to_bytes().to_vec()),
                Err(error) => Err(self.unreachable(&words(&*error))),
            }
        };
        timeout(REQUEST_TIMEOUT, answer).await.unwrap_or_else(|_| Err(self.silent()))
    }

    /// A successful answer whose body goes on for as long as the server likes.
    pub(super) async fn stream(&self, path: &str) -> Result<Body, Trouble> {
        timeout(REQUEST_TIMEOUT, self.begin(path)).await.unwrap_or_else(|_| Err(self.silent()))
    }

    async fn begin(&self, path: &str) -> Result<Body, Trouble> {
        let request = Request::get(path)
            .header(ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| self.odd(&error.to_string()))?;
        let response = match self.client.send(request).await {
            Ok(response) => response,
            Err(kube::Error::Auth(error)) => {
                return Err(Trouble::Other(DiscoveryError::Denied(self.say(&words(&error)))));
            }
            Err(error) => return Err(self.unreachable(&words(&error))),
        };
        let status = response.status();
        if status.is_success() {
            return Ok(response.into_body());
        }
        let body = Limited::new(response.into_body(), 64 << 10).collect().await;
        let body = body.map(|whole| whole.to_bytes()).unwrap_or_default();
        Err(self.refusal(status, &body))
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> Trouble {
        let parsed: Option<Status> = serde_json::from_slice(body).ok();
        let parsed = parsed.filter(|status| status.kind == "Status");
        let known = parsed.is_some();
        let words = parsed
            .map(|status| status.message)
            .unwrap_or_else(|| shown(String::from_utf8_lossy(body).trim()));
        match status {
            StatusCode::FORBIDDEN => Trouble::Forbidden(words),
            StatusCode::NOT_FOUND => Trouble::NotFound(words, known),
            StatusCode::GONE => Trouble::Gone,
            StatusCode::UNAUTHORIZED => Trouble::Other(DiscoveryError::Denied(self.say(&format!(
                "401 Unauthorized: it does not accept {}: {words}",
                self.credential
            )))),
            status if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS => {
                Trouble::Other(DiscoveryError::Unreachable(self.say(&format!("{status}: {words}"))))
            }
            status => self.odd(&format!("{status}: {words}")),
        }
    }

    fn unreachable(&self, why: &str) -> Trouble {
        Trouble::Other(DiscoveryError::Unreachable(self.say(&format!("cannot ask: {why}"))))
    }

    fn silent(&self) -> Trouble {
        self.unreachable(&format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()))
    }

    /// An answer that makes no sense.
    pub(super) fn odd(&self, why: &str) -> Trouble {
        Trouble::Other(DiscoveryError::BadAnswer(self.say(why)))
    }

    pub(super) fn say(&self, what: &str) -> String {
        format!("Kubernetes API at {}: {what}", self.url)
    }
}
