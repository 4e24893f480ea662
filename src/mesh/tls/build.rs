//! From the options file to what rustls works with.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use sha2::{Digest, Sha256};

use super::failure::TlsFailure;
use super::identity::CertNames;
use super::material::{TlsError, certificates, private_key, read, roots};
use super::optfile::{self, DistOptions, MAX_CHAIN_DEPTH, SideOptions, Sni, Verify, Versions};
use super::verify::{AcceptedPeer, Chain, DialedPeer, Usage};
use crate::node::NodeName;
use crate::verifier::Verifier;

/// What a set of files amounts to. Immutable; a reload makes a new one.
#[derive(Debug)]
pub(super) struct Material {
    pub(super) server: Arc<ServerConfig>,
    pub(super) client: Arc<ClientConfig>,
    /// Checks the peer of an accepted link; `None`: `verify_none`.
    pub(super) verifies_accepted: bool,
    /// Checks the peer of a dialled link; `None`: `verify_none`.
    pub(super) dialed_chain: Option<Arc<Chain>>,
    pub(super) sni: Option<Sni>,
    /// When the first of our own certificates ends, chains included.
    pub(super) not_after: SystemTime,
    pub(super) warnings: Vec<String>,
    /// Why peers with the same settings would refuse us. Known at the time of reading; an
    /// end of validity that comes later is in `not_after`.
    pub(super) refusals: Vec<String>,
    /// Over every byte read.
    pub(super) digest: [u8; 32],
}

/// The outcome of reading the files, and which files that were.
pub(super) struct Loaded {
    pub(super) paths: Vec<PathBuf>,
    pub(super) result: Result<Material, TlsError>,
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Reads everything anew.
pub(super) fn load(optfile: &Path, own: &NodeName, verify_node_name: bool) -> Loaded {
    let mut files = Files::default();
    let result = build(optfile, own, verify_node_name, &mut files);
    let mut paths: Vec<_> = files.0.into_keys().collect();
    // Watched even if it could not be read.
    if !paths.iter().any(|path| path == optfile) {
        paths.push(optfile.to_owned());
    }
    Loaded { paths, result }
}

/// Every file read so far, each read once. A file that cannot be read is there, empty:
/// it is watched, too.
#[derive(Default)]
struct Files(BTreeMap<PathBuf, Vec<u8>>);

impl Files {
    fn get(&mut self, path: &Path) -> Result<&[u8], TlsError> {
        if !self.0.contains_key(path) {
            self.0.insert(path.to_owned(), Vec::new());
            let bytes = read(path)?;
            self.0.insert(path.to_owned(), bytes);
        }
        Ok(self.0.get(path).map_or(&[], Vec::as_slice))
    }

    fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for (path, bytes) in &self.0 {
            for part in [path.as_os_str().as_encoded_bytes(), bytes] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hash.finalize().into()
    }
}

/// A certificate chain with its key.
struct Own {
    path: PathBuf,
    key_path: PathBuf,
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

fn build(
    optfile: &Path,
    own: &NodeName,
    verify_node_name: bool,
    files: &mut Files,
) -> Result<Material, TlsError> {
    let options = read_options(optfile, files)?;
    let DistOptions { server, client, mut warnings } = options;
    for warning in &mut warnings {
        *warning = format!("{}: {warning}", optfile.display());
    }
    let missing =
        |section, message| TlsError::Missing { path: optfile.to_owned(), section, message };
    let server_own = own_certificate(&server, "server", files)?
        .ok_or_else(|| missing("server", "has no certfile, and nobody could connect to us"))?;
    // Agents prove themselves both ways, so a client section without a certificate, as
    // EMQX ships it, borrows the server's.
    let client_own = match own_certificate(&client, "client", files)? {
        Some(own) => own,
        None => own_certificate(&server, "server", files)?
            .ok_or_else(|| missing("client", "has no certfile"))?,
    };
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms;
    let mut chain = |section, side: &SideOptions, other: &SideOptions| {
        if side.verify == Some(Verify::None) {
            return Ok(None);
        }
        let path = side.cacertfile.as_ref().or(other.cacertfile.as_ref()).ok_or_else(|| {
            let hint = "has no cacertfile to verify peers with; name one, or say \
                        {verify, verify_none} to trust everybody who has the cookie";
            missing(section, hint)
        })?;
        let store = roots(path, files.get(path)?)?;
        let depth = side.depth.unwrap_or(MAX_CHAIN_DEPTH);
        Ok(Some(Arc::new(Chain::new(store, depth, algorithms))))
    };
    let accepted_chain = chain("server", &server, &client)?;
    let dialed_chain = chain("client", &client, &server)?;

    let verification = Verification {
        optfile,
        own,
        verify_node_name,
        accepted: accepted_chain.as_deref(),
        dialed: dialed_chain.as_deref(),
    };
    verification.warn(&server, &client, &mut warnings);
    let mut refusals = verification.refusals(&server_own, Usage::Server);
    refusals.extend(verification.refusals(&client_own, Usage::Client));
    refusals.dedup();
    let not_after = [&server_own, &client_own]
        .into_iter()
        .flat_map(|own| &own.chain)
        .filter_map(|cert| CertNames::read(cert).ok())
        .map(|names| names.not_after())
        .min()
        .unwrap_or(SystemTime::UNIX_EPOCH);

    let verifies_accepted = accepted_chain.is_some();
    let server_config = server_config(&provider, &server, server_own, accepted_chain)?;
    let sni = client.server_name_indication.clone();
    let client_config = client_config(&provider, &client, client_own, dialed_chain.clone())?;
    Ok(Material {
        server: Arc::new(server_config),
        client: Arc::new(client_config),
        verifies_accepted,
        dialed_chain,
        sni,
        not_after,
        warnings,
        refusals,
        digest: files.digest(),
    })
}

fn read_options(optfile: &Path, files: &mut Files) -> Result<DistOptions, TlsError> {
    let bytes = files.get(optfile)?;
    let text = std::str::from_utf8(bytes).map_err(|_| TlsError::Pem {
        path: optfile.to_owned(),
        message: "not UTF-8 text".to_owned(),
    })?;
    // What EMQX sets the variable to: the folder its configuration lies in.
    let beside = || optfile.parent().unwrap_or(Path::new("")).to_string_lossy().into_owned();
    let etc_dir = std::env::var("EMQX_ETC_DIR").unwrap_or_else(|_| beside());
    optfile::parse(text, &etc_dir)
        .map_err(|errors| TlsError::Options { path: optfile.to_owned(), errors })
}

fn own_certificate(
    side: &SideOptions,
    section: &'static str,
    files: &mut Files,
) -> Result<Option<Own>, TlsError> {
    let Some(path) = &side.certfile else { return Ok(None) };
    let key_path = side.keyfile.as_ref().unwrap_or(path);
    let chain = certificates(path, files.get(path)?)?;
    let key = private_key(key_path, files.get(key_path)?, side.password.as_ref(), section)?;
    Ok(Some(Own { path: path.clone(), key_path: key_path.clone(), chain, key }))
}

fn versions(side: &SideOptions) -> Vec<&'static SupportedProtocolVersion> {
    let Versions { tls12, tls13 } = side.versions.unwrap_or_default();
    let both = [(tls12, &rustls::version::TLS12), (tls13, &rustls::version::TLS13)];
    both.into_iter().filter_map(|(wanted, version)| wanted.then_some(version)).collect()
}

pub(crate) fn key_error(own_path: PathBuf, key_path: PathBuf, error: &rustls::Error) -> TlsError {
    match error {
        rustls::Error::InconsistentKeys(_) => {
            TlsError::KeyMismatch { key: key_path, cert: own_path }
        }
        other => TlsError::Pem { path: own_path, message: other.to_string() },
    }
}

fn server_config(
    provider: &Arc<CryptoProvider>,
    side: &SideOptions,
    own: Own,
    chain: Option<Arc<Chain>>,
) -> Result<ServerConfig, TlsError> {
    let Own { path, key_path, chain: certs, key } = own;
    let failed = |error: rustls::Error| key_error(path.clone(), key_path.clone(), &error);
    let builder = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions(side))
        .map_err(failed)?;
    let builder = match chain {
        Some(chain) => {
            builder.with_client_cert_verifier(Verifier::new(AcceptedPeer { chain }, provider))
        }
        None => builder.with_no_client_auth(),
    };
    let mut config = builder.with_single_cert(certs, key).map_err(failed)?;
    // A resumed session is one whose certificates nobody checked again: it would outlive
    // an expired certificate and a removed CA. Links last long enough to do without.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    provider: &Arc<CryptoProvider>,
    side: &SideOptions,
    own: Own,
    chain: Option<Arc<Chain>>,
) -> Result<ClientConfig, TlsError> {
    let Own { path, key_path, chain: certs, key } = own;
    let failed = |error: rustls::Error| key_error(path.clone(), key_path.clone(), &error);
    let verifier = Verifier::new(DialedPeer { chain, node: None }, provider);
    let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_protocol_versions(&versions(side))
        .map_err(failed)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(certs, key)
        .map_err(failed)?;
    config.resumption = Resumption::disabled();
    config.enable_sni = side.server_name_indication != Some(Sni::Disable);
    Ok(config)
}

/// How peers are verified, for the warnings about it.
struct Verification<'a> {
    optfile: &'a Path,
    own: &'a NodeName,
    verify_node_name: bool,
    accepted: Option<&'a Chain>,
    dialed: Option<&'a Chain>,
}

impl Verification<'_> {
    fn warn(&self, server: &SideOptions, client: &SideOptions, warnings: &mut Vec<String>) {
        let file = self.optfile.display();
        for (section, chain, links) in
            [("server", self.accepted, "accepted"), ("client", self.dialed, "dialled")]
        {
            if chain.is_none() {
                warnings.push(format!(
                    "{file}: {section} says verify_none: whoever has the cookie can speak as \
                     any node on {links} links, and whoever sits between can listen"
                ));
            }
        }
        let verifies = self.accepted.is_some() || self.dialed.is_some();
        if verifies && !self.verify_node_name {
            warnings.push(
                "agent.mesh.verify_node_name is false: whoever has the cookie and any \
                 certificate of the CA can speak as any node"
                    .to_owned(),
            );
        }
        if self.accepted.is_some() && server.fail_if_no_peer_cert == Some(false) {
            warnings.push(format!(
                "{file}: server says fail_if_no_peer_cert = false with verify_peer: a \
                 certificate is demanded all the same, only verify_none does without"
            ));
        }
        if client.server_name_indication == Some(Sni::Disable) {
            warnings.push(format!(
                "{file}: client disables server_name_indication: no name is sent, and the \
                 certificate is checked all the same"
            ));
        }
        for path in [server, client].into_iter().filter_map(key_path) {
            let mode = std::fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
            if mode & 0o004 != 0 {
                let path = path.display();
                warnings.push(format!("{path}: every user of this host can read the key"));
            }
        }
    }

    /// What a peer with the same settings would hold against our own certificate.
    fn refusals(&self, own: &Own, usage: Usage) -> Vec<String> {
        // Whoever we dial runs a server section, and the other way round.
        let (chain, role) = match usage {
            Usage::Server => (self.dialed, "accept"),
            Usage::Client => (self.accepted, "dial"),
        };
        let mut refusals = Vec::new();
        let (Some(chain), [leaf, rest @ ..]) = (chain, own.chain.as_slice()) else {
            return refusals;
        };
        let path = own.path.display();
        if let Err(error) = chain.verify(leaf, rest, UnixTime::now(), usage) {
            let failure = TlsFailure::from_tls(&error);
            refusals.push(format!(
                "{path}: peers with the same settings refuse us where we {role}: {failure}"
            ));
        }
        if self.verify_node_name
            && let Err(error) = CertNames::read(leaf).and_then(|names| names.check(self.own))
        {
            refusals.push(format!("{path}: peers that verify refuse us: {error}"));
        }
        refusals
    }
}

fn key_path(side: &SideOptions) -> Option<&PathBuf> {
    side.keyfile.as_ref().or(side.certfile.as_ref())
}
