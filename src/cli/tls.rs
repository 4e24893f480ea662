//! HTTPS to an agent with `agent.api.tls`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::error::CliError;
use crate::config::ClientTls;
use crate::discovery;

/// Whom to trust, and what to show.
#[derive(Clone, Debug, Default)]
pub(super) struct TlsFiles {
    /// `--cacert`; without it the system's CAs count.
    pub(super) cacert: Option<PathBuf>,
    /// `--cert`.
    pub(super) cert: Option<PathBuf>,
    /// `--key`.
    pub(super) key: Option<PathBuf>,
    /// The certificate that the agent's own configuration names, which `-c` tells: whoever
    /// holds its key is that agent, whatever name it was issued to.
    pub(super) own: Option<PathBuf>,
}

/// A configuration of these files.
pub(super) fn client_config(files: TlsFiles) -> Result<ClientConfig, CliError> {
    let TlsFiles { cacert, cert, key, own } = files;
    let own = own.filter(|_| cacert.is_none());
    let pinned = own.as_deref().map(Pinned::read).transpose()?;
    let options = ClientTls {
        // Where one certificate is known, no CA is asked.
        cacertfile: cacert.or(own),
        certfile: cert,
        keyfile: key,
        password: None,
        verify: true,
        server_name: None,
    };
    let mut config = discovery::client_config(Some(&options), &[b"http/1.1"])
        .map_err(|error| CliError::Failed(format!("TLS to the agent: {error}")))?;
    if let Some(pinned) = pinned {
        config.dangerous().set_certificate_verifier(Arc::new(pinned));
    }
    Ok(config)
}

/// Trusts one certificate.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: CryptoProvider,
}

impl Pinned {
    fn read(path: &Path) -> Result<Self, CliError> {
        let provider = rustls::crypto::ring::default_provider();
        match CertificateDer::from_pem_file(path) {
            Ok(certificate) => Ok(Self { certificate, provider }),
            Err(error) => {
                let path = path.display();
                let text = format!("agent.api.tls.certfile {path}: {error}; --cacert does without");
                Err(CliError::Failed(text))
            }
        }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match *end_entity == self.certificate {
            true => Ok(ServerCertVerified::assertion()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
