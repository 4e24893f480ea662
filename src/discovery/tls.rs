//! `ssl_options` of a backend, made into a rustls client configuration.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pkcs8::EncryptedPrivateKeyInfoRef;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, RootCertStore};
use x509_cert::der::Decode as _;

use crate::config::ClientTls;
use crate::verifier::{Rule, Verifier};

/// Why the options cannot be used. The operator's to mend; nothing was changed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file is missing, unreadable, or not what it should hold.
    #[error("{option} {path}: {reason}")]
    File {
        /// The option that names the file.
        option: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Half of a certificate and key pair.
    #[error("certfile and keyfile must be set together")]
    HalfIdentity,
    /// The system has no CA certificates and `cacertfile` is not set.
    #[error("no CA certificates: set cacertfile, or install the system's")]
    NoRoots,
    /// rustls refused the combination.
    #[error("{0}")]
    Rustls(#[from] rustls::Error),
}

/// Reads the files anew, so that a connection made after they changed uses the new ones.
///
/// `None`: the system's CAs, no client certificate, full verification.
///
/// # Errors
/// [`TlsError`].
pub(crate) fn client_config(
    tls: Option<&ClientTls>,
    alpn: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?;
    let builder = if tls.is_some_and(|tls| !tls.verify) {
        builder.dangerous().with_custom_certificate_verifier(Verifier::new(AcceptAny, &provider))
    } else {
        let file = tls.and_then(|tls| tls.cacertfile.as_deref());
        let rule = Listed::new(file, Arc::clone(&provider))?;
        builder.dangerous().with_custom_certificate_verifier(Verifier::new(rule, &provider))
    };
    let identity = tls.map(|tls| (tls.certfile.as_deref(), tls.keyfile.as_deref()));
    let mut config = match identity {
        None | Some((None, None)) => builder.with_no_client_auth(),
        Some((Some(cert), Some(key))) => {
            let password = tls.and_then(|tls| tls.password.as_ref());
            let key = private_key(key, password.map(|password| password.expose()))?;
            builder.with_client_auth_cert(certificates("certfile", cert)?, key)?
        }
        Some(_) => return Err(TlsError::HalfIdentity),
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

fn file_error(option: &'static str, path: &Path, reason: impl ToString) -> TlsError {
    TlsError::File { option, path: path.display().to_string(), reason: reason.to_string() }
}

/// What is trusted, and of `cacertfile` the certificates themselves.
fn roots(file: Option<&Path>) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), TlsError> {
    let mut store = RootCertStore::empty();
    let mut listed = Vec::new();
    match file {
        Some(path) => {
            listed = certificates("cacertfile", path)?;
            for cert in &listed {
                store.add(cert.clone()).map_err(|error| file_error("cacertfile", path, error))?;
            }
        }
        None => {
            store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    if store.is_empty() { Err(TlsError::NoRoots) } else { Ok((store, listed)) }
}

fn certificates(
    option: &'static str,
    path: &Path,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = std::fs::read(path).map_err(|error| file_error(option, path, error))?;
    let certs = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| file_error(option, path, error))?;
    if certs.is_empty() {
        return Err(file_error(option, path, "holds no PEM certificate"));
    }
    Ok(certs)
}

fn private_key(path: &Path, password: Option<&str>) -> Result<PrivateKeyDer<'static>, TlsError> {
    const OPTION: &str = "keyfile";
    let pem = std::fs::read_to_string(path).map_err(|error| file_error(OPTION, path, error))?;
    if !pem.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
        return PrivateKeyDer::from_pem_slice(pem.as_bytes())
            .map_err(|error| file_error(OPTION, path, error));
    }
    let Some(password) = password else {
        return Err(file_error(OPTION, path, "is encrypted, and no password is set"));
    };
    let wrong = |error: &dyn ToString| file_error(OPTION, path, error.to_string());
    let (_, document) = pkcs8::SecretDocument::from_pem(&pem).map_err(|error| wrong(&error))?;
    let encrypted =
        EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).map_err(|error| wrong(&error))?;
    let clear = encrypted
        .decrypt(password)
        .map_err(|_| file_error(OPTION, path, "cannot be decrypted: is the password right?"))?;
    Ok(PrivatePkcs8KeyDer::from(clear.as_bytes().to_vec()).into())
}

/// As rustls verifies; besides, a server may show a certificate that is its own CA (what
/// `openssl req -x509` makes) where that very certificate is in `cacertfile`. Its name and
/// its time are checked all the same.
#[derive(Debug)]
struct Listed {
    webpki: Arc<WebPkiServerVerifier>,
    listed: Vec<CertificateDer<'static>>,
}

impl Listed {
    fn new(file: Option<&Path>, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let (roots, listed) = roots(file)?;
        let webpki = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        Ok(Self { webpki, listed })
    }
}

fn is_own_ca(error: &rustls::Error) -> bool {
    let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = error else {
        return false;
    };
    matches!(other.0.downcast_ref(), Some(webpki::Error::CaUsedAsEndEntity))
}

/// Whether a certificate is valid now by its own dates.
fn in_time(cert: &CertificateDer<'_>, now: UnixTime) -> Result<(), CertificateError> {
    let cert = x509_cert::Certificate::from_der(cert).map_err(|_| CertificateError::BadEncoding)?;
    let validity = cert.tbs_certificate().validity();
    let now = Duration::from_secs(now.as_secs());
    if now < validity.not_before.to_unix_duration() {
        Err(CertificateError::NotValidYet)
    } else if now > validity.not_after.to_unix_duration() {
        Err(CertificateError::Expired)
    } else {
        Ok(())
    }
}

impl Rule for Listed {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        let name = name.ok_or(CertificateError::ApplicationVerificationFailure)?;
        match self.webpki.verify_server_cert(leaf, intermediates, name, &[], now) {
            Err(error) if is_own_ca(&error) && self.listed.contains(leaf) => {
                in_time(leaf, now)?;
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)
            }
            verified => verified.map(drop),
        }
    }
}

/// `verify_none`: any certificate will do, though its owner must hold the key.
#[derive(Debug)]
struct AcceptAny;

impl Rule for AcceptAny {
    fn judge(
        &self,
        _leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: Option<&ServerName<'_>>,
        _now: UnixTime,
    ) -> Result<(), rustls::Error> {
        Ok(())
    }
}

impl From<TlsError> for io::Error {
    fn from(error: TlsError) -> Self {
        Self::new(io::ErrorKind::InvalidInput, error)
    }
}
