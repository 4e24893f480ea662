//! Certificate chains checked by webpki, and the node name by [`identity`](super::identity).
//!
//! rustls' own verifiers tie the chain to a host name. Here the name to be found is a
//! node's, whose host may be an IP literal, and on accepted links it is known only once
//! the peer has said who it is.

use std::sync::Arc;

use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DistinguishedName, Error, OtherError, RootCertStore};
use webpki::{EndEntityCert, KeyUsage};

use super::identity::CertNames;
use crate::node::NodeName;
use crate::verifier::Rule;

/// A chain that is longer than the options allow.
#[derive(Debug, thiserror::Error)]
#[error("{found} intermediate certificates where the depth option allows {allowed}")]
pub(super) struct TooDeep {
    found: usize,
    allowed: u8,
}

/// Something in the certificate that webpki refuses and rustls has no word for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct BadChain(webpki::Error);

/// A CA that stands for itself, as `openssl req -x509` makes one.
#[derive(Debug, thiserror::Error)]
#[error(
    "it is a CA's own certificate (openssl req -x509 makes such): make one for each node and \
     have the CA sign it: openssl x509 -req -CA ca.pem -CAkey ca.key, with the extensions \
     basicConstraints=CA:FALSE and subjectAltName=DNS:HOST or IP:ADDRESS"
)]
pub(super) struct OwnCa;

/// Checks that a chain ends at one of the CAs.
#[derive(Debug)]
pub(super) struct Chain {
    roots: RootCertStore,
    subjects: Vec<DistinguishedName>,
    depth: u8,
    algorithms: WebPkiSupportedAlgorithms,
}

/// In which role the peer holds its certificate.
#[derive(Clone, Copy, Debug)]
pub(super) enum Usage {
    /// It accepted the connection.
    Server,
    /// It dialled.
    Client,
}

impl Chain {
    pub(super) fn new(
        roots: RootCertStore,
        depth: u8,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { subjects: roots.subjects(), roots, depth, algorithms }
    }

    pub(super) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
        usage: Usage,
    ) -> Result<(), Error> {
        let cert = EndEntityCert::try_from(leaf).map_err(translate)?;
        let usage = match usage {
            Usage::Server => KeyUsage::server_auth(),
            Usage::Client => KeyUsage::client_auth(),
        };
        let path = cert
            .verify_for_usage(
                self.algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                usage,
                None,
                None,
            )
            .map_err(translate)?;
        let found = path.intermediate_certificates().count();
        if found > usize::from(self.depth) {
            return Err(other(TooDeep { found, allowed: self.depth }));
        }
        Ok(())
    }
}

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

fn translate(error: webpki::Error) -> Error {
    use webpki::Error as E;
    match error {
        E::CertExpired { time, not_after } => {
            CertificateError::ExpiredContext { time, not_after }.into()
        }
        E::CertNotValidYet { time, not_before } => {
            CertificateError::NotValidYetContext { time, not_before }.into()
        }
        E::UnknownIssuer => CertificateError::UnknownIssuer.into(),
        E::InvalidSignatureForPublicKey => CertificateError::BadSignature.into(),
        E::RequiredEkuNotFoundContext(_) => CertificateError::InvalidPurpose.into(),
        E::BadDer | E::BadDerTime | E::TrailingData(_) => CertificateError::BadEncoding.into(),
        E::CaUsedAsEndEntity => other(OwnCa),
        rest => other(BadChain(rest)),
    }
}

/// For dialled links. Without a chain (`verify_none`) any certificate passes whose key
/// the peer holds.
#[derive(Debug)]
pub(super) struct DialedPeer {
    pub(super) chain: Option<Arc<Chain>>,
    /// The node the certificate must speak for.
    pub(super) node: Option<NodeName>,
}

impl Rule for DialedPeer {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let Some(chain) = &self.chain else { return Ok(()) };
        chain.verify(leaf, intermediates, now, Usage::Server)?;
        match &self.node {
            Some(node) => CertNames::read(leaf).and_then(|names| names.check(node)).map_err(other),
            None => Ok(()),
        }
    }
}

/// For accepted links: the chain only, since the peer has not named itself yet.
#[derive(Debug)]
pub(super) struct AcceptedPeer {
    pub(super) chain: Arc<Chain>,
}

impl Rule for AcceptedPeer {
    fn judge(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> Result<(), Error> {
        self.chain.verify(leaf, intermediates, now, Usage::Client)
    }

    fn subjects(&self) -> &[DistinguishedName] {
        &self.chain.subjects
    }
}
