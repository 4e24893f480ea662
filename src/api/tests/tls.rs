use std::path::Path;

use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject as _;
use tokio_rustls::TlsConnector;

use super::*;

/// A CA and what it has issued, in a directory.
struct Authority {
    directory: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let directory = tempfile::tempdir().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        std::fs::write(directory.path().join("ca.pem"), pem).unwrap();
        Self { directory, issuer: Issuer::new(params, key) }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// Writes `<name>.pem` and `<name>.key`; the certificate's bytes.
    fn issue(&self, name: &str) -> Vec<u8> {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        std::fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        std::fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        certificate.der().to_vec()
    }

    fn config(&self, clients: bool) -> Config {
        let mut config = config(None);
        config.agent.api.tls = Some(crate::config::ApiTls {
            certfile: self.path("server.pem"),
            keyfile: self.path("server.key"),
            cacertfile: clients.then(|| self.path("ca.pem")),
        });
        config
    }

    fn connector(&self, client: Option<&str>) -> TlsConnector {
        let read = |path: &Path| {
            rustls::pki_types::CertificateDer::from_pem_file(path).unwrap().into_owned()
        };
        let mut roots = rustls::RootCertStore::empty();
        roots.add(read(&self.path("ca.pem"))).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some(name) => {
                let chain = vec![read(&self.path(&format!("{name}.pem")))];
                let key = self.path(&format!("{name}.key"));
                let key = rustls::pki_types::PrivateKeyDer::from_pem_file(key).unwrap();
                builder.with_client_auth_cert(chain, key).unwrap()
            }
        };
        TlsConnector::from(Arc::new(config))
    }

    /// The answer to `GET /livez`, and the server's certificate.
    async fn get(
        &self,
        server: &Server,
        client: Option<&str>,
    ) -> std::io::Result<(String, Vec<u8>)> {
        let name = ServerName::try_from("localhost").unwrap();
        let mut stream = self.connector(client).connect(name, server.connect().await).await?;
        let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
        Ok((answer, certificate))
    }
}

#[tokio::test]
async fn the_api_is_served_over_tls() {
    let authority = Authority::new();
    let certificate = authority.issue("server");
    let server = Server::with(authority.config(false), snapshot());
    let (answer, shown) = authority.get(&server, None).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!(shown, certificate);
    // In clear nothing is said.
    let mut plain = server.connect().await;
    plain.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _reset = plain.read_to_end(&mut said).await;
    assert!(!String::from_utf8_lossy(&said).contains("200"));
    let text = server.metrics.api_not_after.get();
    assert!(text > 1_700_000_000, "{text}");
}

#[tokio::test]
async fn with_a_ca_clients_need_a_certificate() {
    let authority = Authority::new();
    authority.issue("server");
    authority.issue("client");
    let server = Server::with(authority.config(true), snapshot());
    assert!(authority.get(&server, None).await.is_err());
    let (answer, _) = authority.get(&server, Some("client")).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let stranger = Authority::new();
    stranger.issue("client");
    for file in ["client.pem", "client.key"] {
        std::fs::copy(stranger.path(file), authority.path(file)).unwrap();
    }
    assert!(authority.get(&server, Some("client")).await.is_err());
}

#[tokio::test]
async fn changed_files_are_taken_up_and_broken_ones_are_not() {
    let authority = Authority::new();
    let first = authority.issue("server");
    let server = Server::with(authority.config(false), snapshot());
    assert_eq!(authority.get(&server, None).await.unwrap().1, first);
    let until = async |what: &str, holds: &dyn Fn(&[u8], i64) -> bool| {
        let seen = async {
            loop {
                let (_, shown) = authority.get(&server, None).await.unwrap();
                if holds(&shown, server.metrics.api_tls_stale.get()) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), seen).await.expect(what);
    };
    std::fs::write(authority.path("server.key"), "no key").unwrap();
    until("broken files to be noticed", &|shown, stale| shown == first && stale == 1).await;
    let second = authority.issue("server");
    until("the new certificate", &|shown, stale| shown == second && stale == 0).await;
}

#[tokio::test]
async fn files_that_cannot_be_used_stop_the_start() {
    let authority = Authority::new();
    authority.issue("server");
    let key = authority.path("server.key");
    let encrypted =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n";
    for (content, says) in [
        (None, "cannot read"),
        (Some("nothing"), "no private key"),
        (Some(encrypted), "openssl pkey -in"),
    ] {
        std::fs::remove_file(&key).unwrap();
        content.into_iter().for_each(|content| std::fs::write(&key, content).unwrap());
        let error = Listener::bind(&authority.config(false).agent.api).unwrap_err().to_string();
        assert!(error.starts_with("agent.api.tls: ") && error.contains(says), "{error}");
        std::fs::write(&key, "").unwrap();
    }
    let other = Authority::new();
    other.issue("server");
    std::fs::copy(other.path("server.key"), &key).unwrap();
    let error = Listener::bind(&authority.config(false).agent.api).unwrap_err().to_string();
    assert!(error.contains("not the key of the certificate"), "{error}");
}
