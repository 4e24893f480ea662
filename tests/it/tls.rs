//! TLS between two agents, and certificates changed under a running one.

use std::path::Path;
use std::time::{Duration, SystemTime};

use muster::mesh::tls::{Crossing, FailureKind, Look, Peer, TlsContext, TlsError, TlsFailure};
use muster::node::NodeName;
use rcgen::ExtendedKeyUsagePurpose;
use rustls::pki_types::pem::PemObject;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::pki::{Ca, Leaf, TlsFiles};

const A: &str = "emqx1@127.0.0.1";
const B: &str = "emqx2@127.0.0.2";
const A_NAMES: &[&str] = &["dns:127.0.0.1"];
const B_NAMES: &[&str] = &["ip:127.0.0.2"];

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

/// One end: its files and what was loaded of them.
struct End {
    name: NodeName,
    files: TlsFiles,
    context: TlsContext,
    _dir: TempDir,
}

impl End {
    fn new(name: &str, ca: &str, leaf: &Leaf) -> Self {
        Self::with(name, ca, leaf, true, |files| files)
    }

    fn with(
        name: &str,
        ca: &str,
        leaf: &Leaf,
        verify_node_name: bool,
        change: impl FnOnce(TlsFiles) -> TlsFiles,
    ) -> Self {
        let dir = TempDir::new().unwrap();
        let files = change(TlsFiles::write(dir.path(), ca, leaf));
        let name = node(name);
        let context = TlsContext::load(&files.conf(), &name, verify_node_name).unwrap();
        Self { name, files, context, _dir: dir }
    }
}

type Outcome = Result<Peer, TlsFailure>;

/// `dialer` dials `wanted`, reaches `acceptor` and claims its own name: what each makes
/// of it, the first byte in each direction included.
async fn link(dialer: &End, wanted: &NodeName, acceptor: &End) -> (Outcome, Outcome) {
    let (near, far) = tokio::io::duplex(4096);
    let dial = async {
        let (mut stream, peer) = dialer.context.connect(wanted, near).await?;
        let io = async {
            stream.write_all(b"d").await?;
            stream.flush().await?;
            stream.read_u8().await
        };
        io.await.map_err(|error| TlsFailure::from_io(&error))?;
        Ok(peer)
    };
    let accept = async {
        let (mut stream, peer) = acceptor.context.accept(far, false, |_| false).await?;
        let io = async {
            stream.read_u8().await?;
            stream.write_all(b"a").await?;
            stream.flush().await
        };
        peer.check(&dialer.name)?;
        io.await.map_err(|error| TlsFailure::from_io(&error))?;
        Ok(peer)
    };
    let both = async { tokio::join!(dial, accept) };
    tokio::time::timeout(Duration::from_secs(10), both).await.expect("a handshake that hangs")
}

fn kinds(outcome: &(Outcome, Outcome)) -> (Option<FailureKind>, Option<FailureKind>) {
    let kind = |end: &Outcome| end.as_ref().err().map(|failure| failure.kind);
    (kind(&outcome.0), kind(&outcome.1))
}

async fn assert_up(dialer: &End, acceptor: &End) {
    let outcome = link(dialer, &acceptor.name, acceptor).await;
    assert!(outcome.0.is_ok() && outcome.1.is_ok(), "{outcome:?}");
}

#[tokio::test]
async fn two_nodes_of_one_ca() {
    let ca = Ca::new("ca");
    let a = End::new(A, &ca.pem, &ca.leaf(A_NAMES));
    let b = End::new(B, &ca.pem, &ca.leaf(B_NAMES));
    assert_eq!(a.context.warnings(), Vec::<String>::new());
    assert_eq!(b.context.warnings(), Vec::<String>::new());
    assert_up(&a, &b).await;
    assert_up(&b, &a).await;
}

/// The end that dials the other itself refuses at the first message, and is understood.
#[tokio::test]
async fn of_two_handshakes_that_cross_one_ends_at_once() {
    let ca = Ca::new("ca");
    let a = End::new(A, &ca.pem, &ca.leaf(A_NAMES));
    let b = End::new(B, &ca.pem, &ca.leaf(B_NAMES));
    for (pair, crosses) in [((&a, &b), true), ((&b, &a), false)] {
        let crossing = Crossing::new(&pair.0.name, &pair.1.name);
        let (near, far) = tokio::io::duplex(4096);
        let (dialed, accepted) = tokio::join!(a.context.connect(&b.name, near), async {
            b.context.accept(far, false, |said| said == crossing.as_bytes()).await
        });
        let kinds = (dialed.err().map(|e| e.kind), accepted.err().map(|e| e.kind));
        let expected = crosses.then_some(FailureKind::Crossed);
        assert_eq!(kinds, (expected, expected));
    }
}

#[tokio::test]
async fn each_version_alone_and_none_in_common() {
    let ca = Ca::new("ca");
    let versions = ["", ", {versions, ['tlsv1.2']}", ", {versions, ['tlsv1.3']}"];
    let end = |name, names, extra: &str| {
        End::with(name, &ca.pem, &ca.leaf(names), true, |files| files.extra(extra))
    };
    for dialer in versions {
        for acceptor in versions {
            let (a, b) = (end(A, A_NAMES, dialer), end(B, B_NAMES, acceptor));
            let outcome = link(&a, &b.name, &b).await;
            let in_common = dialer.is_empty() || acceptor.is_empty() || dialer == acceptor;
            let expected = if in_common {
                (None, None)
            } else {
                (Some(FailureKind::PeerRefused), Some(FailureKind::Incompatible))
            };
            assert_eq!(kinds(&outcome), expected, "{dialer:?} {acceptor:?}: {outcome:?}");
        }
    }
}

/// The certificate is good and somebody else's: refused in both directions, in both versions.
#[tokio::test]
async fn nobody_speaks_under_another_name() {
    let ca = Ca::new("ca");
    for version in ["'tlsv1.2'", "'tlsv1.3'"] {
        let extra = format!(", {{versions, [{version}]}}");
        let end = |name, names: &[&str]| {
            End::with(name, &ca.pem, &ca.leaf(names), true, |files| files.extra(&extra))
        };
        let a = end(A, A_NAMES);
        let impostor = end(B, A_NAMES);
        let warnings = impostor.context.warnings();
        assert!(warnings[0].contains("127.0.0.1, not for emqx2@127.0.0.2"), "{warnings:?}");

        let outcome = link(&a, &impostor.name, &impostor).await;
        assert_eq!(
            kinds(&outcome),
            (Some(FailureKind::WrongName), Some(FailureKind::PeerRefused)),
            "{version}: {outcome:?}"
        );
        let outcome = link(&impostor, &a.name, &a).await;
        assert_eq!(kinds(&outcome).1, Some(FailureKind::WrongName), "{version}: {outcome:?}");
        assert!(outcome.0.is_err(), "{version}: {outcome:?}");
    }
}

/// Two nodes on one host share the host's name; a URI in the certificate tells them apart.
#[tokio::test]
async fn a_uri_binds_to_one_node_of_a_host() {
    let ca = Ca::new("ca");
    let names = &["dns:127.0.0.1", "uri:muster:emqx1@127.0.0.1"];
    let a = End::new(A, &ca.pem, &ca.leaf(names));
    let b = End::new(B, &ca.pem, &ca.leaf(B_NAMES));
    assert_up(&a, &b).await;
    assert_up(&b, &a).await;
    let neighbour = End::new("emqx3@127.0.0.1", &ca.pem, &ca.leaf(names));
    let outcome = link(&neighbour, &b.name, &b).await;
    assert_eq!(kinds(&outcome).1, Some(FailureKind::WrongName), "{outcome:?}");
    let outcome = link(&b, &neighbour.name, &neighbour).await;
    assert_eq!(kinds(&outcome).0, Some(FailureKind::WrongName), "{outcome:?}");
}

/// What a verifying node makes of a bad peer that dials, and of one that is dialled; the
/// bad peer itself verifies nobody, so that the good one's judgement stands alone.
#[tokio::test]
async fn bad_certificates_each_by_its_name() {
    let ca = Ca::new("ca");
    let other = Ca::new("another ca");
    let namesake = Ca::new("ca");
    let server_only = |params: &mut rcgen::CertificateParams| {
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    };
    let cases = [
        ("expired", ca.expired(B_NAMES), FailureKind::Expired, "expired at 2021-01-01T00:00:00Z"),
        (
            "not yet valid",
            ca.not_yet_valid(B_NAMES),
            FailureKind::NotYetValid,
            "not valid before 2098-01-01T00:00:00Z",
        ),
        ("wrong CA", other.leaf(B_NAMES), FailureKind::UnknownCa, "not in cacertfile"),
        ("CA of the same name", namesake.leaf(B_NAMES), FailureKind::UnknownCa, "CA in cacertfile"),
        ("nameless", ca.leaf(&[]), FailureKind::WrongName, "names no host"),
    ];
    let good = End::new(A, &ca.pem, &ca.leaf(A_NAMES));
    for (what, leaf, kind, text) in cases {
        let bad =
            End::with(B, &ca.pem, &leaf, true, |files| files.extra("").verify_none().extra(""));
        let dialled = link(&good, &bad.name, &bad).await.0.unwrap_err();
        assert_eq!(dialled.kind, kind, "{what}: {dialled}");
        assert!(dialled.text.contains(text), "{what}: {dialled}");
        let outcome = link(&bad, &good.name, &good).await;
        let accepted = outcome.1.unwrap_err();
        assert_eq!(accepted.kind, kind, "{what}: {accepted}");
        assert!(accepted.text.contains(text), "{what}: {accepted}");
        assert!(outcome.0.is_err(), "{what}");
    }
    // A key usage that fits one role only.
    let leaf = ca.leaf_with(B_NAMES, server_only);
    let bad = End::new(B, &ca.pem, &leaf);
    let warnings = bad.context.warnings();
    assert!(warnings.iter().any(|w| w.contains("where we dial")), "{warnings:?}");
    assert_up(&good, &bad).await;
    let refused = link(&bad, &good.name, &good).await.1.unwrap_err();
    assert!(refused.text.contains("extended key usage"), "{refused}");
}

/// The dialler hears why, whatever the version: with 1.3 it is the first read that says it.
#[tokio::test]
async fn the_refused_dialler_learns_it() {
    let ca = Ca::new("ca");
    let other = Ca::new("another ca");
    for version in ["'tlsv1.2'", "'tlsv1.3'"] {
        let extra = format!(", {{versions, [{version}]}}");
        let both = format!("{}{}", ca.pem, other.pem);
        let good = End::with(A, &ca.pem, &ca.leaf(A_NAMES), true, |files| files.extra(&extra));
        let bad = End::with(B, &both, &other.leaf(B_NAMES), true, |files| files.extra(&extra));
        let failure = link(&bad, &good.name, &good).await.0.unwrap_err();
        assert_eq!(failure.kind, FailureKind::PeerRefused, "{version}: {failure}");
        assert!(failure.text.contains("does not trust the CA"), "{version}: {failure}");
    }
}

#[tokio::test]
async fn verify_node_name_off_skips_the_name_only() {
    let ca = Ca::new("ca");
    let shared = ca.leaf(&[]);
    let end = |name, leaf: &Leaf| End::with(name, &ca.pem, leaf, false, |files| files);
    let (a, b) = (end(A, &shared), end(B, &shared));
    assert_up(&a, &b).await;
    let warnings = a.context.warnings();
    assert!(warnings[0].contains("verify_node_name is false"), "{warnings:?}");
    assert!(a.context.verifies());
    let stranger = end(B, &Ca::new("another ca").leaf(B_NAMES));
    let failure = link(&a, &b.name, &stranger).await.0.unwrap_err();
    assert_eq!(failure.kind, FailureKind::UnknownCa);
    let expired = end(B, &ca.expired(&[]));
    let failure = link(&expired, &a.name, &a).await.1.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Expired);
}

#[tokio::test]
async fn verify_none_takes_anybody_and_says_so() {
    let leaf = Ca::new("one").expired(&[]);
    let a = End::with(A, &Ca::new("two").pem, &leaf, true, TlsFiles::verify_none);
    let b = End::with(B, &Ca::new("three").pem, &leaf, true, TlsFiles::verify_none);
    assert_up(&a, &b).await;
    assert!(!a.context.verifies());
    let warnings = a.context.warnings();
    for part in ["server says verify_none", "client says verify_none", "expired at 2021"] {
        assert!(warnings.iter().any(|w| w.contains(part)), "{part} not in {warnings:?}");
    }
}

#[tokio::test]
async fn a_dialler_without_a_certificate() {
    let ca = Ca::new("ca");
    let good = End::new(A, &ca.pem, &ca.leaf(&["ip:127.0.0.1"]));
    let (near, far) = tokio::io::duplex(4096);
    let mut roots = rustls::RootCertStore::empty();
    let pem = rustls::pki_types::CertificateDer::from_pem_slice(ca.pem.as_bytes());
    roots.add(pem.unwrap()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let (_, accepted) =
        tokio::join!(connector.connect(name, near), good.context.accept(far, false, |_| false));
    let failure = accepted.err().unwrap();
    assert_eq!(failure.kind, FailureKind::NoCertificate, "{failure}");
}

#[tokio::test]
async fn chains_and_their_depth() {
    let root = Ca::new("root");
    let middle = root.intermediate("middle");
    let with_chain = |names| {
        let mut leaf = middle.leaf(names);
        leaf.cert.push_str(&middle.pem);
        leaf
    };
    let a = End::new(A, &root.pem, &with_chain(A_NAMES));
    let b = End::new(B, &root.pem, &with_chain(B_NAMES));
    assert_up(&a, &b).await;
    let strict =
        End::with(A, &root.pem, &root.leaf(A_NAMES), true, |files| files.extra(", {depth, 0}"));
    let failure = link(&strict, &b.name, &b).await.0.unwrap_err();
    assert_eq!(failure.kind, FailureKind::BadCertificate);
    assert!(failure.text.contains("depth option allows 0"), "{failure}");
    let unchained = End::new(B, &root.pem, &middle.leaf(B_NAMES));
    let failure = link(&a, &b.name, &unchained).await.0.unwrap_err();
    assert_eq!(failure.kind, FailureKind::UnknownCa);
}

#[tokio::test]
async fn garbage_is_no_tls() {
    let ca = Ca::new("ca");
    let a = End::new(A, &ca.pem, &ca.leaf(A_NAMES));
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0, 5, b'N', 0, 0, 0, 0, 0], &[0xff; 64]] {
        let (mut near, far) = tokio::io::duplex(4096);
        near.write_all(bytes).await.unwrap();
        let failure = a.context.accept(far, false, |_| false).await.err().unwrap();
        assert_eq!(failure.kind, FailureKind::NotTls, "{failure}");
    }
    let (near, far) = tokio::io::duplex(4096);
    drop(near);
    let failure = a.context.accept(far, false, |_| false).await.err().unwrap();
    assert_eq!(failure.kind, FailureKind::Closed, "{failure}");
}

/// Looks until the change has been taken or refused: the second look at the latest.
fn look(end: &End) -> Look {
    let first = end.context.look();
    assert!(matches!(first, Look::Same), "taken at first sight: {first:?}");
    end.context.look()
}

#[tokio::test]
async fn a_rotated_certificate_serves_new_links() {
    let ca = Ca::new("ca");
    let a = End::new(A, &ca.pem, &ca.leaf(A_NAMES));
    let soon = SystemTime::now() + Duration::from_secs(3 * 24 * 3600);
    let short = ca.leaf_with(B_NAMES, |params| params.not_after = soon.into());
    let b = End::new(B, &ca.pem, &short);
    assert!(b.context.warnings()[0].contains("in 2 days"), "{:?}", b.context.warnings());
    let (old, _) = link(&a, &b.name, &b).await;
    let old = old.unwrap();
    assert!(old.not_after() <= soon);

    let generation = b.context.generation();
    b.files.put_leaf(&ca.leaf(B_NAMES));
    assert!(matches!(look(&b), Look::Loaded));
    assert!(generation.has_changed().unwrap());
    assert_eq!(b.context.warnings(), Vec::<String>::new());
    let (new, accepted) = link(&a, &b.name, &b).await;
    assert!(new.unwrap().not_after() > soon);
    assert_eq!(accepted.unwrap().generation(), 2);
    assert!(matches!(b.context.look(), Look::Same));
}

#[tokio::test]
async fn a_rotated_ca_by_way_of_both() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let a = End::new(A, &old.pem, &old.leaf(A_NAMES));
    let b = End::new(B, &old.pem, &old.leaf(B_NAMES));
    let both = format!("{}{}", old.pem, new.pem);
    for end in [&a, &b] {
        end.files.put("ca.pem", &both);
        assert!(matches!(look(end), Look::Loaded));
        assert_up(&a, &b).await;
    }
    for (end, names) in [(&a, A_NAMES), (&b, B_NAMES)] {
        end.files.put_leaf(&new.leaf(names));
        assert!(matches!(look(end), Look::Loaded));
        assert_up(&a, &b).await;
        assert_up(&b, &a).await;
    }
    for end in [&a, &b] {
        end.files.put("ca.pem", &new.pem);
        assert!(matches!(look(end), Look::Loaded));
        assert_up(&a, &b).await;
    }
    // Revoked by removal of its CA, at once for new links.
    let left_behind = End::new(B, &both, &old.leaf(B_NAMES));
    let failure = link(&left_behind, &a.name, &a).await.1.unwrap_err();
    assert_eq!(failure.kind, FailureKind::UnknownCa);
}

#[tokio::test]
async fn half_written_files_change_nothing() {
    let ca = Ca::new("ca");
    let a = End::new(A, &ca.pem, &ca.leaf(A_NAMES));
    let b = End::new(B, &ca.pem, &ca.leaf(B_NAMES));
    let next = ca.leaf(B_NAMES);

    // The certificate without its key.
    b.files.put("cert.pem", &next.cert);
    assert!(matches!(look(&b), Look::Failed(TlsError::KeyMismatch { .. })));
    assert!(b.context.warnings()[0].contains("changed TLS files are not used"));
    assert!(matches!(b.context.look(), Look::Same));
    assert_up(&a, &b).await;
    // Half of the key.
    b.files.put("key.pem", &next.key[..next.key.len() / 2]);
    assert!(matches!(look(&b), Look::Failed(TlsError::Pem { .. })));
    assert_up(&a, &b).await;
    // None at all.
    b.files.put("ssl_dist.conf", "[{server, [");
    assert!(matches!(look(&b), Look::Failed(TlsError::Options { .. })));
    assert_up(&a, &b).await;
    // The rest.
    b.files.put_leaf(&next);
    b.files.put_conf();
    assert!(matches!(look(&b), Look::Loaded));
    assert_eq!(b.context.warnings(), Vec::<String>::new());
    assert_up(&a, &b).await;
}

/// Files in order by themselves that would cut the node off: another CA's certificate, one
/// of another node, an expired one, and a CA that did not issue the own certificate.
#[tokio::test]
async fn what_peers_would_refuse_is_not_put_into_use() {
    let (ca, other) = (Ca::new("ca"), Ca::new("another ca"));
    let a = End::new(A, &ca.pem, &ca.leaf(A_NAMES));
    let b = End::new(B, &ca.pem, &ca.leaf(B_NAMES));
    for (leaf, text) in [
        (other.leaf(B_NAMES), "a CA that is not in cacertfile"),
        (ca.leaf(A_NAMES), "not for emqx2@127.0.0.2"),
        (ca.expired(B_NAMES), "expired at 2021"),
    ] {
        b.files.put_leaf(&leaf);
        let Look::Failed(error @ TlsError::Worse(_)) = look(&b) else { panic!("{text}: taken") };
        assert!(error.to_string().contains(text), "{text}: {error}");
        assert_up(&a, &b).await;
    }
    b.files.put_leaf(&ca.leaf(B_NAMES));
    assert!(matches!(look(&b), Look::Loaded));
    b.files.put("ca.pem", &other.pem);
    assert!(matches!(look(&b), Look::Failed(TlsError::Worse(_))));
    assert_up(&a, &b).await;
    // A node that nobody would talk to has nothing to lose.
    let wrong = End::new(B, &ca.pem, &other.leaf(B_NAMES));
    wrong.files.put_leaf(&ca.leaf(A_NAMES));
    assert!(matches!(look(&wrong), Look::Loaded));
}

/// Kubernetes swaps `..data` for a link to a new folder; the paths in the options stay.
#[tokio::test]
async fn a_swapped_symlink_counts_as_new_files() {
    let ca = Ca::new("ca");
    let dir = TempDir::new().unwrap();
    let write = |version: &str, leaf: &Leaf| {
        TlsFiles::write(&dir.path().join(version), &ca.pem, leaf);
        let link = dir.path().join("data.tmp");
        std::os::unix::fs::symlink(version, &link).unwrap();
        std::fs::rename(link, dir.path().join("data")).unwrap();
    };
    write("v1", &ca.leaf(A_NAMES));
    let data = dir.path().join("data");
    let conf = std::fs::read_to_string(data.join("ssl_dist.conf")).unwrap();
    let optfile = dir.path().join("ssl_dist.conf");
    std::fs::write(&optfile, conf.replace("/v1/", "/data/")).unwrap();
    let context = TlsContext::load(&optfile, &node(A), true).unwrap();
    write("v2", &ca.leaf(A_NAMES));
    assert!(matches!(context.look(), Look::Same));
    assert!(matches!(context.look(), Look::Loaded));
    // The same contents under a new date are no news to any link.
    let cert = data.join("cert.pem");
    std::fs::write(&cert, std::fs::read(&cert).unwrap()).unwrap();
    let generation = context.generation();
    assert!(matches!(context.look(), Look::Same));
    assert!(matches!(context.look(), Look::Same));
    assert!(!generation.has_changed().unwrap());
}

/// Runs openssl, which the Debian image has; without it the case is skipped in words.
fn openssl(args: &[&str]) -> bool {
    match std::process::Command::new("openssl").args(args).output() {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            true
        }
        Err(error) => {
            println!("skipped: openssl: {error}");
            false
        }
    }
}

fn load(dir: &Path, extra: &str, key: &str) -> Result<TlsContext, TlsError> {
    let text = format!(
        "[{{server, [{{certfile, \"cert.pem\"}}, {{keyfile, \"{key}\"}}, {{verify, verify_none}}{extra}]}},
          {{client, [{{verify, verify_none}}]}}]."
    );
    let dir_text = dir.display().to_string();
    let text = text.replace("\"cert.pem\"", &format!("\"{dir_text}/cert.pem\""));
    let text = text.replace(&format!("\"{key}\""), &format!("\"{dir_text}/{key}\""));
    let optfile = dir.join("ssl_dist.conf");
    std::fs::write(&optfile, text).unwrap();
    TlsContext::load(&optfile, &node(A), true)
}

#[test]
fn encrypted_keys() {
    let ca = Ca::new("ca");
    let leaf = ca.leaf(A_NAMES);
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("cert.pem"), &leaf.cert).unwrap();
    let plain = dir.path().join("plain.pem");
    std::fs::write(&plain, &leaf.key).unwrap();
    let plain = plain.to_str().unwrap();
    let out = dir.path().join("key.pem");
    let out = out.to_str().unwrap();
    let pass = &["-passout", "pass:s3cret"];
    let pkcs8 = ["pkcs8", "-topk8", "-in", plain, "-out", out];
    let password = ", {password, \"s3cret\"}";
    for cipher in [
        &["-v2", "aes-256-cbc"][..],
        &["-v2", "aes-128-cbc", "-v2prf", "hmacWithSHA1"],
        &["-v2", "des3"],
        &["-scrypt"],
    ] {
        let args = [&pkcs8[..], pass, cipher].concat();
        if !openssl(&args) {
            return;
        }
        load(dir.path(), password, "key.pem").unwrap_or_else(|error| panic!("{cipher:?}: {error}"));
    }
    let error = load(dir.path(), ", {password, \"wrong\"}", "key.pem").unwrap_err();
    assert!(matches!(error, TlsError::PasswordWrong { .. }), "{error}");
    assert!(!error.to_string().contains("wrong\""), "{error}");
    let error = load(dir.path(), "", "key.pem").unwrap_err();
    assert!(error.to_string().contains("server needs {password, \"...\"}"), "{error}");

    assert!(openssl(&[&pkcs8[..], pass, &["-v1", "PBE-SHA1-3DES"]].concat()));
    let error = load(dir.path(), password, "key.pem").unwrap_err().to_string();
    assert!(error.contains("PBES1") && error.contains("openssl pkcs8 -in"), "{error}");
    let traditional = ["ec", "-in", plain, "-out", out, "-aes256"];
    assert!(openssl(&[&traditional[..], pass].concat()));
    let error = load(dir.path(), password, "key.pem").unwrap_err();
    assert!(error.to_string().contains("openssl pkcs8 -topk8"), "{error}");
    // What it says to do, done.
    let convert = ["pkcs8", "-topk8", "-v2", "aes-256-cbc", "-in", out, "-out", plain];
    assert!(openssl(&[&convert[..], &["-passin", "pass:s3cret"], pass].concat()));
    load(dir.path(), password, "plain.pem").unwrap();
}

#[test]
fn a_key_that_everybody_reads_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let ca = Ca::new("ca");
    let dir = TempDir::new().unwrap();
    let files = TlsFiles::write(dir.path(), &ca.pem, &ca.leaf(A_NAMES));
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(dir.path().join("key.pem"), open).unwrap();
    let context = TlsContext::load(&files.conf(), &node(A), true).unwrap();
    let warnings = context.warnings();
    assert!(warnings.iter().any(|w| w.contains("every user of this host")), "{warnings:?}");
}

#[test]
fn what_an_operator_has_to_repair() {
    let ca = Ca::new("ca");
    let leaf = ca.leaf(A_NAMES);
    let dir = TempDir::new().unwrap();
    let files = TlsFiles::write(dir.path(), &ca.pem, &leaf);
    let at = |name: &str| dir.path().join(name).display().to_string();
    let conf = |text: &str| {
        files.put("ssl_dist.conf", text);
        TlsContext::load(&files.conf(), &node(A), true).unwrap_err().to_string()
    };
    let server =
        format!("{{certfile, \"{}\"}}, {{keyfile, \"{}\"}}", at("cert.pem"), at("key.pem"));
    for (text, expected) in [
        ("[{client, []}].".to_owned(), "server has no certfile"),
        (format!("[{{server, [{server}]}}]."), "server has no cacertfile to verify peers with"),
        (
            "[{server, [{certfile, \"/nonexistent/c.pem\"}]}].".to_owned(),
            "/nonexistent/c.pem: cannot read",
        ),
        (format!("[{{server, [{{certfile, \"{}\"}}]}}].", at("cert.pem")), "holds no private key"),
        (format!("[{{server, [{{certfile, \"{}\"}}]}}].", at("key.pem")), "holds no certificate"),
        (
            "[{server, [{certfile, 7}]}].".to_owned(),
            "ssl_dist.conf:1:23: certfile must be a string",
        ),
    ] {
        let error = conf(&text);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let missing = TlsContext::load(&dir.path().join("none.conf"), &node(A), true).unwrap_err();
    assert!(missing.to_string().contains("none.conf: cannot read"), "{missing}");
    files.put("cert.pem", &"x".repeat(300 * 1024));
    let error = conf(&format!("[{{server, [{server}]}}]."));
    assert!(error.contains("longer than 262144 bytes"), "{error}");
}
