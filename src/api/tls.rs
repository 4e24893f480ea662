//! HTTPS for the API: `agent.api.tls`.
//!
//! The files are looked at while the API serves; changed ones that are in order are used
//! for new connections, others are named and the old ones kept.
//!
//! Tasks: [`ApiTls::watch`], owned by [`serve`](super::serve()) and ended with it. It may be
//! dropped at any time.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use rustls::ServerConfig;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};

use crate::config;
use crate::mesh::tls::identity::CertNames;
use crate::mesh::tls::{Allowance, Capped, TlsError, expiry_warning, pem};
use crate::metrics::Metrics;
use crate::watched::{LOOK_INTERVAL, Watched};

/// Between two warnings of one certificate's end.
const WARN_AGAIN: std::time::Duration = std::time::Duration::from_secs(24 * 3600);

/// An encrypted stream of the API.
pub(super) type ApiStream = TlsStream<Capped<TcpStream>>;

/// What keeps the files from being used. The operator's to mend; what is in use stays.
#[derive(Debug, thiserror::Error)]
pub enum ApiTlsError {
    /// A file is missing, unreadable, or not what it should hold.
    #[error("agent.api.tls: {0}")]
    File(#[from] TlsError),
    /// The key is encrypted, and there is no place for a password.
    #[error(
        "agent.api.tls: {0}: the key is encrypted, which is not taken here; decrypt it with: \
         openssl pkey -in {0} -out {0}.plain", path.display()
    )]
    EncryptedKey {
        /// The key file.
        path: PathBuf,
    },
    /// The CAs cannot verify clients.
    #[error("agent.api.tls.cacertfile: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
}

/// The certificate of the API, and how it is kept fresh.
#[derive(Debug)]
pub(super) struct ApiTls {
    config: config::ApiTls,
    current: RwLock<Current>,
    files: Mutex<Watched>,
    allowance: Allowance,
}

#[derive(Clone, Debug)]
struct Current {
    server: Arc<ServerConfig>,
    not_after: SystemTime,
}

impl ApiTls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`ApiTlsError`].
    pub(super) fn load(config: &config::ApiTls) -> Result<Self, ApiTlsError> {
        // Looked at before they are read: a change in between is found afterwards.
        let files = Watched::read(paths(config));
        Ok(Self {
            config: config.clone(),
            current: RwLock::new(read(config)?),
            files: Mutex::new(files),
            allowance: Allowance::default(),
        })
    }

    /// Does the server's side of a handshake; whoever calls it sets the deadline.
    ///
    /// # Errors
    /// What the client did not do right.
    pub(super) async fn accept(&self, stream: TcpStream) -> io::Result<ApiStream> {
        let server = Arc::clone(&self.current().server);
        let capped = Capped::new(stream, &self.allowance);
        let mut stream = TlsAcceptor::from(server).accept(capped).await?;
        stream.get_mut().0.open();
        Ok(stream)
    }

    /// Keeps looking at the files, and says in the log and in `metrics` what it finds.
    pub(super) async fn watch(self: Arc<Self>, metrics: Arc<Metrics>) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut warned: Option<tokio::time::Instant> = None;
        self.measure(&metrics);
        loop {
            let now = ticks.tick().await;
            let this = Arc::clone(&self);
            // Files may lie on a network, where looking takes its time.
            let look = tokio::task::spawn_blocking(move || this.look()).await;
            match look {
                Ok(None) | Err(_) => {}
                Ok(Some(Ok(()))) => {
                    info!("new files of agent.api.tls are in use for new connections");
                    metrics.api_tls_stale.set(0);
                    warned = None;
                    self.measure(&metrics);
                }
                Ok(Some(Err(error))) => {
                    warn!("changed files cannot be used, the old ones still are: {error}");
                    metrics.api_tls_stale.set(1);
                }
            }
            if warned.is_none_or(|at| now - at >= WARN_AGAIN)
                && let Some(warning) = expiry_warning(self.current().not_after, SystemTime::now())
            {
                warn!("agent.api.tls: {warning}");
                warned = Some(now);
            }
        }
    }

    fn current(&self) -> Current {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks once; `None`: nothing new, or new a moment ago.
    fn look(&self) -> Option<Result<(), ApiTlsError>> {
        if !self.files.lock().unwrap_or_else(PoisonError::into_inner).changed() {
            return None;
        }
        Some(read(&self.config).map(|new| {
            *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
        }))
    }

    fn measure(&self, metrics: &Metrics) {
        let since = self.current().not_after.duration_since(SystemTime::UNIX_EPOCH);
        let seconds = since.unwrap_or_default().as_secs();
        metrics.api_not_after.set(i64::try_from(seconds).unwrap_or(i64::MAX));
    }
}

fn paths(config: &config::ApiTls) -> Vec<PathBuf> {
    [Some(&config.certfile), Some(&config.keyfile), config.cacertfile.as_ref()]
        .into_iter()
        .flatten()
        .cloned()
        .collect()
}

fn read(config: &config::ApiTls) -> Result<Current, ApiTlsError> {
    let provider = pem::provider();
    let chain = pem::certificates(&config.certfile, &pem::read(&config.certfile)?)?;
    let bytes = pem::read(&config.keyfile)?;
    let key = match pem::private_key(&config.keyfile, &bytes, None, "agent.api.tls") {
        Err(TlsError::PasswordMissing { path, .. }) => {
            return Err(ApiTlsError::EncryptedKey { path });
        }
        other => other?,
    };
    let ends = chain.iter().filter_map(|cert| CertNames::read(cert).ok());
    let not_after = ends.map(|names| names.not_after()).min().unwrap_or(SystemTime::UNIX_EPOCH);
    let unusable = |error: &rustls::Error| {
        pem::key_error(config.certfile.clone(), config.keyfile.clone(), error)
    };
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| unusable(&error))?;
    let builder = match &config.cacertfile {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let roots = Arc::new(pem::roots(path, &pem::read(path)?)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut server = builder.with_single_cert(chain, key).map_err(|error| unusable(&error))?;
    server.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A session that is resumed would pass with a client certificate of yesterday's CA.
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;
    Ok(Current { server: Arc::new(server), not_after })
}
