//! Throwaway certificates for a throwaway cluster.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};

use super::error::{Context as _, DevError};

/// An authority that lives as long as the cluster's start; its key is never written.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(super) fn new() -> Result<Self, DevError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "muster dev");
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { issuer: Issuer::new(params, key), pem })
    }

    /// Writes key, certificate, authority and `ssl_dist.conf` of a node into its
    /// directory; the path of the last.
    pub(super) fn issue(&self, node: &str, home: &Path) -> Result<PathBuf, DevError> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        let uri = format!("{}{node}", crate::mesh::tls::identity::URI_SCHEME);
        params.subject_alt_names = vec![SanType::URI(uri.try_into()?)];
        params.distinguished_name.push(DnType::CommonName, node);
        let certificate = params.signed_by(&key, &self.issuer)?.pem();
        let write = |name: &str, text: &str| {
            let path = home.join(name);
            std::fs::write(&path, text).context(|| format!("cannot write {}", path.display()))?;
            Ok::<_, DevError>(path)
        };
        let certificate = write("cert.pem", &certificate)?;
        let key = write("key.pem", &key.serialize_pem())?;
        let authority = write("ca.pem", &self.pem)?;
        let common = format!(
            "{{certfile, {certificate:?}}}, {{keyfile, {key:?}}}, {{cacertfile, {authority:?}}}, \
             {{verify, verify_peer}}"
        );
        let text = format!(
            "[{{server, [{common}, {{fail_if_no_peer_cert, true}}]}},\n {{client, [{common}]}}].\n"
        );
        write("ssl_dist.conf", &text)
    }
}
