//! TLS for the mesh: `inet_tls` and `inet6_tls`.
//!
//! For whoever drives links, in order:
//!
//! 1. [`TlsContext::load`] once at start; log its [`warnings`](TlsContext::warnings);
//!    spawn [`TlsContext::watch`].
//! 2. An accepted connection goes through [`TlsContext::accept`], a dialled one through
//!    [`TlsContext::connect`] with the node dialled; both under the handshake deadline.
//!    Both give a stream to speak the distribution protocol on, and a [`Peer`].
//! 3. On an accepted link, [`Peer::check`] the name the peer claims in its first message
//!    **before** the status goes out. On a dialled one the TLS handshake has done that.
//! 4. An error of the stream's first read goes through [`TlsFailure::from_io`]: with
//!    TLS 1.3 that is where a dialler learns that it was refused.
//! 5. [`TlsContext::generation`] changes when new files are in use. A link whose
//!    [`Peer::generation`] is older is to be made anew within [`REMAKE_WITHIN`], each
//!    after a random part of it, and any link before its [`Peer::not_after`].
//!
//! `optfile` and `terms` are pure; `material` and `build` read files; `verify` and
//! `identity` judge certificates; `reload` watches the files.

mod build;
mod capped;
mod crossing;
mod failure;
pub mod identity;
mod material;
pub mod optfile;
mod reload;
pub mod terms;
mod verify;

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::Acceptor;
use rustls::{ClientConfig, ServerConfig};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio_rustls::{Accept, LazyConfigAcceptor, StartHandshake, TlsConnector, TlsStream};

pub(crate) use self::capped::Allowance;
pub use self::capped::{Capped, FREE_HANDSHAKE, LONG_HANDSHAKES, MAX_HANDSHAKE};
pub use self::crossing::Crossing;
pub use self::failure::{FailureKind, TlsFailure};
pub use self::identity::IdentityError;
pub use self::material::TlsError;
pub(crate) use self::reload::expiry_warning;
pub use self::reload::{EXPIRY_WARNING, Look};

use self::build::{Loaded, Material};
use self::identity::CertNames;
use self::optfile::Sni;
use self::reload::Reload;
use self::verify::DialedPeer;
use crate::node::{Host, NodeName};
use crate::verifier::Verifier;
use crate::watched::Watched;

/// Reading PEM files, for other parts that speak TLS.
pub(crate) mod pem {
    pub(crate) use super::build::{key_error, provider};
    pub(crate) use super::material::{certificates, private_key, read, roots};
}

/// New files reach every link within this time: long enough that a mesh of 64 remakes
/// two links a second, short enough for whoever waits to remove the old CA.
pub const REMAKE_WITHIN: Duration = Duration::from_secs(30);

/// Unsent plaintext and ciphertext that a TLS link keeps, bytes each. The link's own
/// bounded queue is in front of it; without this a stalled peer pins 64 KiB more.
const TLS_BUFFER: usize = 16 * 1024;

/// The TLS side of the mesh. Cheap to clone; every clone sees a reload.
#[derive(Clone, Debug)]
pub struct TlsContext(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    optfile: PathBuf,
    own: NodeName,
    verify_node_name: bool,
    current: RwLock<Arc<Material>>,
    generation: watch::Sender<u64>,
    reload: Mutex<Reload>,
    /// For connections that strangers may have begun, and for all others.
    strangers: Allowance,
    known: Allowance,
}

/// Who is at the other end of a TLS link, as far as certificates say.
#[derive(Clone, Debug)]
pub struct Peer {
    generation: u64,
    not_after: SystemTime,
    claim: Claim,
}

#[derive(Clone, Debug)]
enum Claim {
    /// `verify_none`, or `verify_node_name = false`: any name may be claimed.
    Any,
    /// What the certificate names may be claimed.
    Named(CertNames),
}

impl Peer {
    /// Whether the peer may speak as `node`. To be asked on accepted links.
    ///
    /// # Errors
    /// Says whose certificate it is.
    pub fn check(&self, node: &NodeName) -> Result<(), IdentityError> {
        match &self.claim {
            Claim::Any => Ok(()),
            Claim::Named(names) => names.check(node),
        }
    }

    /// The generation of files the link was made with.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// When the first certificate ends that the link was made with, ours or the peer's.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.not_after
    }
}

impl TlsContext {
    /// Reads `ssl_dist.conf` and all it names. `own` is this node, whose certificate
    /// should name it (a warning otherwise).
    ///
    /// # Errors
    /// What the operator has to repair; nothing is bound or kept then.
    pub fn load(optfile: &Path, own: &NodeName, verify_node_name: bool) -> Result<Self, TlsError> {
        let Loaded { paths, result } = build::load(optfile, own, verify_node_name);
        let material = result?;
        // Taken after reading: what changed in between is read again only if it changes
        // once more, and a file replaced within these microseconds is not a rotation.
        let reload = Reload { files: Watched::read(paths), failed: None };
        Ok(Self(Arc::new(Inner {
            optfile: optfile.to_owned(),
            own: own.clone(),
            verify_node_name,
            current: RwLock::new(Arc::new(material)),
            generation: watch::Sender::new(1),
            reload: Mutex::new(reload),
            strangers: Allowance::default(),
            known: Allowance::default(),
        })))
    }

    /// The TLS handshake of an accepted connection. To be run under a deadline; dropping
    /// it closes the connection. `known`: it comes from where a known node lives, and long
    /// handshakes of strangers do not count against its own. `goes_on`: whether a handshake
    /// of ours to the peer goes on instead of this one ([`Crossing`]).
    ///
    /// # Errors
    /// Why the peer was not let in, or went away.
    pub async fn accept<S>(
        &self,
        stream: S,
        known: bool,
        goes_on: impl Fn(&[u8]) -> bool,
    ) -> Result<(TlsStream<Capped<S>>, Peer), TlsFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (material, generation) = self.current();
        let allowance = if known { &self.0.known } else { &self.0.strangers };
        let stream = Capped::new(stream, allowance);
        // Each step is boxed for itself, so that a peer who stops in one does not cost the
        // memory of the others.
        let first = Box::pin(LazyConfigAcceptor::new(Acceptor::default(), stream));
        let heard = heard(first.await, &goes_on, &material.server)?;
        let handshake = match heard {
            Heard::Crosses(first) => {
                // Whether it is heard or not, this one is over.
                let _unheard = Box::pin(refuse(first)).await;
                return Err(TlsFailure::crossed());
            }
            Heard::GoesOn(handshake) => handshake,
        };
        let mut stream = handshake.await.map_err(|error| TlsFailure::from_io(&error))?;
        let certs = stream.get_ref().1.peer_certificates();
        let peer = self.peer(&material, generation, certs, material.verifies_accepted)?;
        stream.get_mut().0.open();
        Ok((stream.into(), peer))
    }

    /// The TLS handshake of a connection dialled to `node`, whose certificate must speak
    /// for it. To be run under a deadline; dropping it closes the connection.
    ///
    /// # Errors
    /// Why the peer is not the one we want, or refused us.
    pub async fn connect<S>(
        &self,
        node: &NodeName,
        stream: S,
    ) -> Result<(TlsStream<Capped<S>>, Peer), TlsFailure>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (material, generation) = self.current();
        let connector = TlsConnector::from(self.client_config(&material, node));
        let name = server_name(node, material.sni.as_ref());
        let mut stream = connector
            .connect_with(name, Capped::new(stream, &self.0.known), |connection| {
                connection.set_buffer_limit(Some(TLS_BUFFER));
            })
            .await
            .map_err(|error| TlsFailure::from_io(&error))?;
        let certs = stream.get_ref().1.peer_certificates();
        let peer = self.peer(&material, generation, certs, material.dialed_chain.is_some())?;
        stream.get_mut().0.open();
        Ok((stream.into(), peer))
    }

    /// Counts the files that came into use, from 1; changes when new ones do.
    #[must_use]
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// When the first of our own certificates ends.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.current().0.not_after
    }

    /// Whether peers are verified in both directions (no `verify_none`).
    #[must_use]
    pub fn verifies(&self) -> bool {
        let material = self.current().0;
        material.verifies_accepted && material.dialed_chain.is_some()
    }

    /// What an operator should know as long as it is so: verification that is off,
    /// options not used, an own certificate that ends soon or that peers will refuse,
    /// changed files that could not be used. One line each; never a secret.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let material = self.current().0;
        let mut warnings = material.warnings.clone();
        warnings.extend(material.refusals.iter().cloned());
        warnings.extend(reload::expiry_warning(material.not_after, SystemTime::now()));
        let failed = self.reload().failed.clone();
        warnings.extend(failed.map(|error| format!("changed TLS files are not used: {error}")));
        warnings
    }

    fn current(&self) -> (Arc<Material>, u64) {
        let current = self.0.current.read().unwrap_or_else(PoisonError::into_inner);
        (Arc::clone(&current), *self.0.generation.borrow())
    }

    fn reload(&self) -> MutexGuard<'_, Reload> {
        self.0.reload.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_files(&self) -> Loaded {
        build::load(&self.0.optfile, &self.0.own, self.0.verify_node_name)
    }

    /// Puts new material into use; says whether it differs from the old.
    ///
    /// # Errors
    /// It would cut us off, and what is in use does not: every link is remade with what
    /// is put here, so a certificate and a CA that do not go together end the mesh.
    fn replace(&self, material: Material) -> Result<bool, TlsError> {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        if current.digest == material.digest {
            return Ok(false);
        }
        let works = current.refusals.is_empty() && current.not_after > SystemTime::now();
        if works && !material.refusals.is_empty() {
            return Err(TlsError::Worse(material.refusals.join("; ")));
        }
        *current = Arc::new(material);
        // Within the lock, so that nobody pairs new files with the old number.
        self.0.generation.send_modify(|generation| *generation += 1);
        Ok(true)
    }

    fn client_config(&self, material: &Material, node: &NodeName) -> Arc<ClientConfig> {
        let mut config = ClientConfig::clone(&material.client);
        config.alpn_protocols = vec![Crossing::new(&self.0.own, node).as_bytes().to_vec()];
        if let Some(chain) = material.dialed_chain.as_ref().filter(|_| self.0.verify_node_name) {
            let rule = DialedPeer { chain: Some(Arc::clone(chain)), node: Some(node.clone()) };
            let verifier = Verifier::new(rule, material.client.crypto_provider());
            config.dangerous().set_certificate_verifier(verifier);
        }
        Arc::new(config)
    }

    fn peer(
        &self,
        material: &Material,
        generation: u64,
        certs: Option<&[CertificateDer<'static>]>,
        verified: bool,
    ) -> Result<Peer, TlsFailure> {
        if !verified {
            let not_after = material.not_after;
            return Ok(Peer { generation, not_after, claim: Claim::Any });
        }
        let leaf = certs.and_then(<[_]>::first).ok_or(IdentityError::Missing)?;
        let names = CertNames::read(leaf)?;
        let not_after = names.not_after().min(material.not_after);
        let claim = if self.0.verify_node_name { Claim::Named(names) } else { Claim::Any };
        Ok(Peer { generation, not_after, claim })
    }
}

/// What a first message leads to.
enum Heard<S> {
    /// A handshake of ours goes on instead.
    Crosses(Box<StartHandshake<Capped<S>>>),
    GoesOn(Pin<Box<Accept<Capped<S>>>>),
}

/// Reads what the peer said first.
fn heard<S>(
    first: io::Result<StartHandshake<Capped<S>>>,
    goes_on: impl Fn(&[u8]) -> bool,
    config: &Arc<ServerConfig>,
) -> Result<Heard<S>, TlsFailure>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let first = first.map_err(|error| TlsFailure::from_io(&error))?;
    if first.client_hello().alpn().is_some_and(|mut names| names.any(goes_on)) {
        return Ok(Heard::Crosses(Box::new(first)));
    }
    let handshake = first.into_stream_with(Arc::clone(config), |connection| {
        connection.set_buffer_limit(Some(TLS_BUFFER));
    });
    Ok(Heard::GoesOn(Box::pin(handshake)))
}

/// Tells the peer that its handshake crosses one that goes on.
async fn refuse<S>(mut first: Box<StartHandshake<Capped<S>>>) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    first.io.write_all(&crossing::REFUSAL).await
}

/// The name sent to the peer; an IP address is never sent (RFC 6066, 3).
fn server_name(node: &NodeName, sni: Option<&Sni>) -> ServerName<'static> {
    let unnamed = ServerName::from(IpAddr::from(Ipv4Addr::UNSPECIFIED));
    match (sni, node.host()) {
        (Some(Sni::Name(name)), _) => ServerName::try_from(name.clone()).unwrap_or(unnamed),
        (_, Host::Dns(host)) => ServerName::try_from(host.to_owned()).unwrap_or(unnamed),
        (_, Host::V4(_) | Host::V6(_)) => unnamed,
    }
}

#[cfg(test)]
mod tests;
