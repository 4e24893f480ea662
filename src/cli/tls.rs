//! HTTPS to an agent with `agent.api.tls`.

use std::path::{Path, PathBuf};

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig};

use super::error::CliError;
use crate::config::ClientTls;
use crate::discovery;
use crate::verifier::{Rule, Verifier};

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
        .map_err(|error| CliError::Failed(format!("TLS to the agent: {}", flags(&error))))?;
    if let Some(pinned) = pinned {
        let verifier = Verifier::new(pinned, config.crypto_provider());
        config.dangerous().set_certificate_verifier(verifier);
    }
    Ok(config)
}

/// What is wrong with a file, by the flag that names it.
fn flags(error: &discovery::TlsError) -> String {
    let discovery::TlsError::File { option, path, reason } = error else {
        return error.to_string();
    };
    let flag = match *option {
        "cacertfile" => "--cacert",
        "certfile" => "--cert",
        "keyfile" => "--key",
        other => other,
    };
    format!("{flag} {path}: {reason}")
}

/// Why TLS failed, and what to do, in an operator's words.
pub(super) fn reason(error: &rustls::Error) -> String {
    use rustls::AlertDescription as Alert;
    let text = match error {
        rustls::Error::InvalidCertificate(found) => match found {
            CertificateError::UnknownIssuer => {
                "its certificate is of no CA that is trusted here: name its CA with --cacert"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name: ask it under one that the certificate has"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired: renew it"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet: is the clock right?"
            }
            CertificateError::ApplicationVerificationFailure => {
                "it shows another certificate than agent.api.tls.certfile names: reload or \
                 restart it, or name its CA with --cacert"
            }
            _ => return error.to_string(),
        },
        rustls::Error::AlertReceived(Alert::CertificateRequired) => {
            "it wants a certificate from its clients: give one with --cert and --key"
        }
        rustls::Error::AlertReceived(
            Alert::UnknownCA | Alert::BadCertificate | Alert::DecryptError,
        ) => "it does not accept the certificate of --cert: take one of a CA in its cacertfile",
        rustls::Error::AlertReceived(Alert::CertificateExpired) => {
            "the certificate of --cert has expired: renew it"
        }
        rustls::Error::InvalidMessage(_) => "it does not speak TLS: write http://",
        _ => return error.to_string(),
    };
    text.to_owned()
}

/// Trusts one certificate.
#[derive(Debug)]
struct Pinned(CertificateDer<'static>);

impl Pinned {
    fn read(path: &Path) -> Result<Self, CliError> {
        match CertificateDer::from_pem_file(path) {
            Ok(certificate) => Ok(Self(certificate)),
            Err(error) => {
                let path = path.display();
                let text = format!("agent.api.tls.certfile {path}: {error}; --cacert does without");
                Err(CliError::Failed(text))
            }
        }
    }
}

impl Rule for Pinned {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: Option<&ServerName<'_>>,
        _now: UnixTime,
    ) -> Result<(), rustls::Error> {
        match *leaf == self.0 {
            true => Ok(()),
            false => Err(CertificateError::ApplicationVerificationFailure.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::ServerConfig;
    use rustls::pki_types::PrivateKeyDer;
    use serde_json::Value;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;
    use tokio_rustls::TlsAcceptor;

    use super::*;
    use crate::cli::client::{Client, ClientError};
    use crate::cli::target::Target;

    /// A certificate for a name, by itself or by an issuer, in a file and as a server needs it.
    struct Identity {
        file: PathBuf,
        server: Arc<ServerConfig>,
    }

    fn identity(file: PathBuf, name: &str, issuer: Option<&Issuer<'static, KeyPair>>) -> Identity {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let certificate = match issuer {
            Some(issuer) => params.signed_by(&key, issuer).unwrap(),
            None => params.self_signed(&key).unwrap(),
        };
        std::fs::write(&file, certificate.pem()).unwrap();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Identity { file, server: Arc::new(server) }
    }

    /// Answers every request with `null`; where it does so.
    async fn serve(server: Arc<ServerConfig>) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = Target::Tls(listener.local_addr().unwrap().to_string());
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Whoever does not trust it hangs up.
                let Ok(mut stream) = TlsAcceptor::from(Arc::clone(&server)).accept(stream).await
                else {
                    continue;
                };
                let mut head = [0; 1024];
                let _length = stream.read(&mut head).await.unwrap();
                stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nnull")
                    .await
                    .unwrap();
            }
        });
        target
    }

    async fn ask(target: &Target, files: TlsFiles) -> Result<Value, ClientError> {
        let client = Client::new(target.clone(), None, Some(client_config(files).unwrap()));
        client.get("/").await
    }

    #[tokio::test]
    async fn the_agent_s_own_certificate_is_known_under_any_name_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let agent = identity(directory.path().join("agent.pem"), "elsewhere.example", None);
        let other = identity(directory.path().join("other.pem"), "127.0.0.1", None);
        let target = serve(agent.server).await;
        let own = |file: PathBuf| TlsFiles { own: Some(file), ..TlsFiles::default() };
        assert_eq!(ask(&target, own(agent.file)).await.unwrap(), Value::Null);
        let error = ask(&target, own(other.file)).await.unwrap_err();
        assert!(error.to_string().contains("TLS"), "{error}");
    }

    #[tokio::test]
    async fn a_ca_vouches_for_the_name_that_is_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = directory.path().join("ca.pem");
        std::fs::write(&ca, params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let file = || directory.path().join("agent.pem");
        let named = identity(file(), "127.0.0.1", Some(&issuer));
        let misnamed = identity(file(), "elsewhere.example", Some(&issuer));
        let files = TlsFiles { cacert: Some(ca), ..TlsFiles::default() };
        let target = serve(named.server).await;
        assert_eq!(ask(&target, files.clone()).await.unwrap(), Value::Null);
        let target = serve(misnamed.server).await;
        assert!(ask(&target, files).await.is_err());
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named_by_its_flag() {
        let none = || Some(PathBuf::from("/no/such/file"));
        for (flag, files) in [
            ("--cacert", TlsFiles { cacert: none(), ..TlsFiles::default() }),
            ("--key", TlsFiles { cert: none(), key: none(), ..TlsFiles::default() }),
        ] {
            let error = client_config(files).unwrap_err().to_string();
            let begin = format!("TLS to the agent: {flag} /no/such/file: ");
            // Where the system has no CAs, these come first.
            assert!(error.starts_with(&begin) || error.contains("no CA"), "{error}");
        }
    }
}
