//! The `etcd` strategy against real etcd servers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use muster::config::{ClientTls, EtcdConfig};
use muster::discovery::{self, DiscoveryError, Strategy};
use muster::node::NodeName;
use muster::secret::Secret;
use tokio::net::TcpListener;
use tokio::time::{Instant, timeout};

use crate::support::etcd::{Etcd, Options, Tls, certificates};
use crate::support::wait::{always, eventually};

const TTL: Duration = Duration::from_secs(2);

fn config(servers: Vec<String>) -> EtcdConfig {
    EtcdConfig { servers, prefix: "emqxcl".into(), node_ttl: TTL, auth: None, tls: None }
}

fn name(index: usize) -> NodeName {
    NodeName::parse(&format!("emqx@s{index}.emqx.io")).unwrap()
}

fn key(index: usize) -> String {
    format!("/emqxcl/emqxcl/nodes/emqx@s{index}.emqx.io")
}

fn strategy(config: EtcdConfig, index: usize) -> discovery::Etcd {
    discovery::Etcd::new(config, "emqxcl", name(index))
}

async fn found(strategy: &mut discovery::Etcd) -> Vec<NodeName> {
    strategy.discover().await.unwrap().nodes.into_iter().collect()
}

#[track_caller]
fn has_key(etcd: &Etcd, index: usize, within: Duration) {
    eventually(&key(index), within, || etcd.keys().contains(&key(index)).then_some(()));
}

#[track_caller]
fn no_keys(etcd: &Etcd) {
    eventually("the dead nodes' keys to expire", TTL * 3, || etcd.keys().is_empty().then_some(()));
}

/// Waits for one change and asserts that it came in time.
async fn told(strategy: &mut discovery::Etcd) {
    timeout(Duration::from_millis(500), strategy.changed()).await.expect("told within 0.5 s");
}

/// Takes what earlier events left.
async fn drain(strategy: &mut discovery::Etcd) {
    while timeout(Duration::from_millis(100), strategy.changed()).await.is_ok() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_find_each_other_and_the_listing_is_the_pages() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut one = strategy(config(etcd.urls()), 1);
    let mut two = strategy(config(etcd.urls()), 2);
    assert_eq!(found(&mut one).await, [name(1)]);
    assert_eq!(found(&mut two).await, [name(1), name(2)]);
    told(&mut one).await;
    assert_eq!(found(&mut one).await, [name(1), name(2)]);
    assert_eq!(
        etcd.ctl(&["get", "--prefix", "--keys-only", "/emqxcl/emqxcl"]),
        "/emqxcl/emqxcl/nodes/emqx@s1.emqx.io\n\n/emqxcl/emqxcl/nodes/emqx@s2.emqx.io\n\n"
    );
    assert_eq!(etcd.ctl(&["get", "--print-value-only", &key(1)]).trim(), "emqx@s1.emqx.io");
    assert_eq!(etcd.leases().len(), 2, "one lease a node");

    drain(&mut one).await;
    two.withdraw().await.unwrap();
    assert_eq!(etcd.keys(), [key(1)], "gone at once, not after a time to live");
    told(&mut one).await;
    assert_eq!(found(&mut one).await, [name(1)]);

    assert_eq!(found(&mut two).await, [name(1), name(2)], "the next round registers again");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lease_outlives_its_time_to_live_many_times() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut one =
        strategy(EtcdConfig { node_ttl: Duration::from_secs(1), ..config(etcd.urls()) }, 1);
    found(&mut one).await;
    let leases = etcd.leases();
    always("the key is there", Duration::from_secs(4), || etcd.keys() == [key(1)]);
    assert_eq!(etcd.leases(), leases, "still the same lease");
    drop(one);
    no_keys(&etcd);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_clusters_keys_are_neither_read_nor_touched() {
    let Some(etcd) = Etcd::start(1) else { return };
    let foreign = [
        "/emqxcl/emqxcl2/nodes/emqx@other.io",
        "/emqxcl/emqxcl/nodes0",
        "/emqxcl/emqxcl/nodesx/emqx@other.io",
        "/emqxcl/emqxcl/config",
        "/zzz",
    ];
    for key in foreign {
        etcd.ctl(&["put", key, "emqx@other.io"]);
    }
    let mut one = strategy(config(etcd.urls()), 1);
    assert_eq!(found(&mut one).await, [name(1)]);
    drain(&mut one).await;
    etcd.ctl(&["put", foreign[0], "emqx@another.io"]);
    assert!(
        timeout(Duration::from_millis(300), one.changed()).await.is_err(),
        "another cluster's news are none of ours"
    );
    one.withdraw().await.unwrap();
    for key in foreign {
        assert!(!etcd.ctl(&["get", key]).is_empty(), "{key} must be left alone");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_that_are_no_node_names_are_left_out_and_named() {
    let Some(etcd) = Etcd::start(1) else { return };
    etcd.ctl(&["put", "/emqxcl/emqxcl/nodes/x", "no name"]);
    etcd.ctl(&["put", "/emqxcl/emqxcl/nodes/y", &"a".repeat(5000)]);
    let mut one = strategy(config(etcd.urls()), 1);
    let answer = one.discover().await.unwrap();
    assert_eq!(answer.nodes.into_iter().collect::<Vec<_>>(), [name(1)]);
    assert_eq!(
        answer.rejected[0],
        "\"/emqxcl/emqxcl/nodes/x\": \"no name\": must be name@host with exactly one '@'"
    );
    assert!(answer.rejected[1].len() < 400, "foreign text is cut");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_nodes_come_in_one_answer() {
    let Some(etcd) = Etcd::start(1) else { return };
    let puts: Vec<String> = (1..500)
        .map(|index| {
            format!("put /emqxcl/emqxcl/nodes/emqx@s{index}.emqx.io emqx@s{index}.emqx.io")
        })
        .collect();
    // One transaction holds 128 operations.
    for chunk in puts.chunks(100) {
        use std::io::Write;
        let mut child = std::process::Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &etcd.url(0), "txn"])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let text = format!("\n{}\n\n\n", chunk.join("\n"));
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    }
    let mut last = strategy(config(etcd.urls()), 500);
    assert_eq!(found(&mut last).await.len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_lease_and_a_wiped_prefix_are_put_right_within_one_ttl() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut one = strategy(config(etcd.urls()), 1);
    let mut two = strategy(config(etcd.urls()), 2);
    found(&mut one).await;
    found(&mut two).await;

    for lease in etcd.leases() {
        etcd.ctl(&["lease", "revoke", &lease]);
    }
    has_key(&etcd, 1, TTL);
    has_key(&etcd, 2, TTL);

    etcd.ctl(&["del", "--prefix", "/emqxcl"]);
    has_key(&etcd, 1, TTL);
    has_key(&etcd, 2, TTL);

    etcd.ctl(&["put", &key(1), "nonsense"]);
    eventually("the own value to be put right", TTL, || {
        let value = etcd.ctl(&["get", "--print-value-only", &key(1)]);
        (value.trim() == "emqx@s1.emqx.io").then_some(())
    });
    // Under a lease again, that is: the key of a dead node goes.
    drop((one, two));
    no_keys(&etcd);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_with_wiped_data_is_survived() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut one = strategy(config(etcd.urls()), 1);
    let mut two = strategy(config(etcd.urls()), 2);
    // A high revision, which the new etcd will not reach for long.
    for _ in 0..20 {
        etcd.ctl(&["put", "/x", "y"]);
    }
    found(&mut one).await;
    found(&mut two).await;
    etcd.kill(0);
    etcd.wipe(0);
    let error = one.discover().await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unreachable(_)), "{error:?}");
    etcd.run(0);
    etcd.healthy();
    has_key(&etcd, 1, TTL);
    has_key(&etcd, 2, TTL);
    assert_eq!(found(&mut one).await, [name(1), name(2)]);
    drain(&mut one).await;
    etcd.ctl(&["put", &key(3), "emqx@s3.emqx.io"]);
    told(&mut one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compacted_history_is_survived() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let mut one = strategy(config(etcd.urls()), 1);
    found(&mut one).await;
    etcd.kill(0);
    assert!(one.discover().await.is_err());
    etcd.run(0);
    etcd.healthy();
    for _ in 0..5 {
        etcd.ctl(&["put", "/x", "y"]);
    }
    let json = etcd.ctl(&["get", "/x", "-w", "json"]);
    let revision = serde_json::from_str::<serde_json::Value>(&json).unwrap()["header"]["revision"]
        .as_i64()
        .unwrap();
    etcd.ctl(&["compact", "--physical", &revision.to_string()]);
    has_key(&etcd, 1, TTL * 2);
    assert_eq!(found(&mut one).await, [name(1)]);
    drain(&mut one).await;
    etcd.ctl(&["put", &key(2), "emqx@s2.emqx.io"]);
    told(&mut one).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_down_at_start_is_an_error_and_then_none() {
    let Some(mut etcd) = Etcd::prepare(1, Options::default()) else { return };
    let mut one = strategy(config(etcd.urls()), 1);
    let error = one.discover().await.unwrap_err();
    assert_eq!(
        error,
        DiscoveryError::Unreachable(format!(
            "etcd at {}: cannot connect: Connection refused (os error 111)",
            etcd.url(0)
        ))
    );
    etcd.run(0);
    etcd.healthy();
    assert_eq!(found(&mut one).await, [name(1)], "the next round asks anew");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_etcd_hangs_nothing() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut one = strategy(config(etcd.urls()), 1);
    found(&mut one).await;
    etcd.freeze(0);
    for _ in 0..3 {
        let round = timeout(Duration::from_secs(8), one.discover()).await.expect("a round ends");
        assert!(matches!(round, Err(DiscoveryError::Unreachable(_))), "{round:?}");
    }
    let withdrawn = timeout(Duration::from_secs(8), one.withdraw()).await.expect("it ends");
    assert!(withdrawn.is_err(), "not told, so not said");
    etcd.thaw(0);
    assert_eq!(found(&mut one).await, [name(1)]);
    has_key(&etcd, 1, TTL);
    one.withdraw().await.unwrap();
    assert!(etcd.keys().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_members_fail_over() {
    let Some(mut etcd) = Etcd::start(3) else { return };
    // The first endpoint is nobody.
    let mut servers = vec!["http://127.0.0.1:1".to_owned()];
    servers.extend(etcd.urls());
    let mut one = strategy(config(servers.clone()), 1);
    assert_eq!(found(&mut one).await, [name(1)]);

    // The one in use dies; two are a quorum.
    etcd.kill(0);
    etcd.healthy();
    let mut others = strategy(config(servers[2..].to_vec()), 2);
    assert_eq!(found(&mut others).await, [name(1), name(2)]);
    let deadline = Instant::now() + Duration::from_secs(10);
    while one.discover().await.is_err() {
        assert!(Instant::now() < deadline);
    }
    drain(&mut one).await;
    others.withdraw().await.unwrap();
    told(&mut one).await;

    // The next one in use freezes instead: the third alone is no quorum, so bring the first back.
    etcd.run(0);
    etcd.healthy();
    etcd.freeze(1);
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match timeout(Duration::from_secs(12), one.discover()).await.expect("a round ends") {
            Ok(answer) => {
                assert!(answer.nodes.contains(&name(1)));
                break;
            }
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
    etcd.thaw(1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_dropped_half_way_harm_nothing() {
    let Some(etcd) = Etcd::start(1) else { return };
    let mut one = strategy(config(etcd.urls()), 1);
    for micros in (0..60).map(|step| step * 500) {
        let _ = timeout(Duration::from_micros(micros), one.discover()).await;
        let _ = timeout(Duration::from_micros(micros), one.changed()).await;
    }
    assert_eq!(found(&mut one).await, [name(1)]);
    assert_eq!(etcd.leases().len(), 1, "no lease was lost on the way");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_that_breaks_off_is_not_hammered() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let accepted = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&accepted);
    let server = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            drop(stream);
        }
    });
    let mut one = strategy(config(vec![url]), 1);
    assert!(one.discover().await.is_err());
    let _ = timeout(Duration::from_secs(3), one.changed()).await;
    let connections = accepted.load(Ordering::SeqCst);
    assert!((1..=40).contains(&connections), "{connections} connections in 3 s");
    server.abort();
}

fn client_tls(files: &Tls) -> ClientTls {
    ClientTls {
        cacertfile: Some(files.ca.clone()),
        certfile: Some(files.client_cert.clone()),
        keyfile: Some(files.client_key.clone()),
        password: None,
        verify: true,
        server_name: None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_verifies_both_ways() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificates(dir.path(), &["127.0.0.1", "etcd.example"]);
    let Some(etcd) =
        Etcd::start_with(1, Options { tls: Some(files.clone()), ..Options::default() })
    else {
        return;
    };
    let with = |tls: ClientTls| EtcdConfig { tls: Some(tls), ..config(etcd.urls()) };
    let refused = async |tls: ClientTls| {
        let error = strategy(with(tls), 1).discover().await.unwrap_err();
        assert!(matches!(error, DiscoveryError::Unreachable(_)), "{error:?}");
        error.to_string()
    };

    assert_eq!(found(&mut strategy(with(client_tls(&files)), 1)).await, [name(1)]);
    let named = ClientTls { server_name: Some("etcd.example".into()), ..client_tls(&files) };
    found(&mut strategy(with(named), 1)).await;

    let wrong_name = ClientTls { server_name: Some("wrong.example".into()), ..client_tls(&files) };
    let text = refused(wrong_name.clone()).await;
    assert!(text.contains("not for wrong.example"), "{text}");
    found(&mut strategy(with(ClientTls { verify: false, ..wrong_name }), 1)).await;

    let other = tempfile::tempdir().unwrap();
    let others = certificates(other.path(), &["127.0.0.1"]);
    let text =
        refused(ClientTls { cacertfile: Some(others.ca.clone()), ..client_tls(&files) }).await;
    assert!(text.contains("issued by a CA that is not trusted here"), "{text}");
    // TLS 1.3: the server's refusal comes after the handshake, with the first request.
    let text = refused(ClientTls {
        certfile: Some(others.client_cert.clone()),
        keyfile: Some(others.client_key.clone()),
        ..client_tls(&files)
    })
    .await;
    assert!(!text.contains("docs.rs") && !text.contains("alert"), "{text}");
    let text = refused(ClientTls { certfile: None, keyfile: None, ..client_tls(&files) }).await;
    assert!(!text.contains("docs.rs") && !text.contains("alert"), "{text}");
    let text = refused(ClientTls { keyfile: None, ..client_tls(&files) }).await;
    assert!(text.contains("certfile and keyfile must be set together"), "{text}");
    let missing = dir.path().join("nothing.pem");
    let text = refused(ClientTls { cacertfile: Some(missing), ..client_tls(&files) }).await;
    assert!(text.contains("cacertfile") && text.contains("No such file"), "{text}");
}

/// What `openssl req -x509` makes: etcdctl takes it where it is itself the `--cacert`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_that_is_its_own_ca_is_taken_where_it_is_listed() {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

    let dir = tempfile::tempdir().unwrap();
    let mut files = certificates(dir.path(), &["127.0.0.1"]);
    let own_ca = |name: &str| {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let cert = dir.path().join(format!("{name}.pem"));
        std::fs::write(&cert, params.self_signed(&key).unwrap().pem()).unwrap();
        let file = dir.path().join(format!("{name}.key"));
        std::fs::write(&file, key.serialize_pem()).unwrap();
        (cert, file)
    };
    (files.cert, files.key) = own_ca("own");
    files.ca.clone_from(&files.cert);
    files.client_auth = false;
    let options = Options { tls: Some(files.clone()), ..Options::default() };
    let Some(etcd) = Etcd::start_with(1, options) else { return };
    let with = |cacertfile, server_name: Option<&str>| {
        let tls = ClientTls {
            cacertfile: Some(cacertfile),
            certfile: None,
            keyfile: None,
            server_name: server_name.map(str::to_owned),
            ..client_tls(&files)
        };
        strategy(EtcdConfig { tls: Some(tls), ..config(etcd.urls()) }, 1)
    };
    assert_eq!(found(&mut with(files.cert.clone(), None)).await, [name(1)]);
    let error = with(files.cert.clone(), Some("other.io")).discover().await.unwrap_err();
    assert!(error.to_string().contains("not for other.io"), "its name still counts: {error}");
    let (another, _) = own_ca("another");
    let error = with(another, None).discover().await.unwrap_err().to_string();
    assert!(error.contains("the server's certificate") && !error.contains("Other("), "{error}");
}

/// The NOSPACE alarm: reads are answered, so the node would found a cluster of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_refuses_the_write_has_not_been_asked() {
    let options = Options { quota: Some(4 << 20), ..Options::default() };
    let Some(etcd) = Etcd::start_with(1, options) else { return };
    let mut before = strategy(config(etcd.urls()), 1);
    assert_eq!(found(&mut before).await, [name(1)]);
    let large = "x".repeat(1 << 20);
    eventually("the alarm", Duration::from_secs(20), || {
        // The key's text goes through the command line, which holds less than a value may.
        let put = etcd.try_ctl(&etcd.url(0), &["put", "/x", &large[..100_000]]);
        put.is_err().then_some(())
    });
    let error = strategy(config(etcd.urls()), 2).discover().await.unwrap_err();
    assert!(matches!(error, DiscoveryError::BadAnswer(_)), "{error:?}");
    assert!(error.to_string().contains("NOSPACE alarm"), "{error}");
    assert_eq!(found(&mut before).await, [name(1)], "who is registered needs no write");

    let json = etcd.ctl(&["get", "/x", "-w", "json"]);
    let revision = serde_json::from_str::<serde_json::Value>(&json).unwrap()["header"]["revision"]
        .as_i64()
        .unwrap();
    etcd.ctl(&["compact", "--physical", &revision.to_string()]);
    etcd.ctl(&["del", "/x"]);
    etcd.ctl(&["defrag"]);
    etcd.ctl(&["alarm", "disarm"]);
    assert_eq!(found(&mut strategy(config(etcd.urls()), 2)).await, [name(1), name(2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authentication_switched_off_and_on_again_needs_no_restart() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    etcd.ctl(&["user", "add", "root:rootpw"]);
    etcd.ctl(&["role", "add", "root"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["auth", "enable"]);
    etcd.user = Some("root:rootpw".into());
    let login =
        EtcdConfig { auth: Some(("root".into(), Secret::new("rootpw"))), ..config(etcd.urls()) };
    let mut one = strategy(login, 1);
    let answer = one.discover().await.unwrap();
    assert_eq!(answer.notices, Vec::<String>::new());

    let recovers = async |one: &mut discovery::Etcd, noticed: bool| {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let round = one.discover().await;
            if round.as_ref().is_ok_and(|answer| answer.notices.is_empty() != noticed) {
                return round.unwrap();
            }
            assert!(Instant::now() < deadline, "{round:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    for _ in 0..2 {
        etcd.ctl(&["auth", "disable"]);
        etcd.user = None;
        let answer = recovers(&mut one, true).await;
        assert!(answer.notices[0].contains("has authentication off"), "{:?}", answer.notices);
        has_key(&etcd, 1, TTL * 2);
        etcd.ctl(&["auth", "enable"]);
        etcd.user = Some("root:rootpw".into());
        recovers(&mut one, false).await;
        has_key(&etcd, 1, TTL * 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_encrypted_key_needs_its_password() {
    use pkcs8::PrivateKeyInfoRef;

    let dir = tempfile::tempdir().unwrap();
    let files = certificates(dir.path(), &["127.0.0.1"]);
    let Some(etcd) =
        Etcd::start_with(1, Options { tls: Some(files.clone()), ..Options::default() })
    else {
        return;
    };
    let pem = std::fs::read_to_string(&files.client_key).unwrap();
    let (_, clear) = pkcs8::SecretDocument::from_pem(&pem).unwrap();
    let info = PrivateKeyInfoRef::try_from(clear.as_bytes()).unwrap();
    let params = pkcs8::pkcs5::pbes2::Parameters::generate_pbkdf2_sha256_aes256cbc(
        2048,
        b"saltsalt",
        [7; 16],
    );
    let sealed = info.encrypt_with_params(params.unwrap(), "s3cret").unwrap();
    let keyfile = dir.path().join("sealed.key");
    std::fs::write(
        &keyfile,
        sealed.to_pem("ENCRYPTED PRIVATE KEY", pkcs8::LineEnding::LF).unwrap().as_bytes(),
    )
    .unwrap();
    let with = |password: Option<&str>| {
        let tls = ClientTls {
            keyfile: Some(keyfile.clone()),
            password: password.map(Secret::new),
            ..client_tls(&files)
        };
        strategy(EtcdConfig { tls: Some(tls), ..config(etcd.urls()) }, 1)
    };
    found(&mut with(Some("s3cret"))).await;
    for (password, reason) in [
        (None, "is encrypted, and no password is set"),
        (Some("wrong"), "cannot be decrypted: is the password right?"),
    ] {
        let error = with(password).discover().await.unwrap_err().to_string();
        assert!(error.contains(reason) && !error.contains("wrong"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn credentials_and_rights_are_named() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let login = |user: &str, password: &str, etcd: &Etcd| EtcdConfig {
        auth: Some((user.to_owned(), Secret::new(password))),
        ..config(etcd.urls())
    };
    // Before authentication is on, credentials do no harm.
    found(&mut strategy(login("muster", "pw", &etcd), 1)).await;

    etcd.ctl(&["user", "add", "root:rootpw"]);
    etcd.ctl(&["role", "add", "root"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["role", "add", "muster"]);
    let range = "/emqxcl/emqxcl/nodes/";
    etcd.ctl(&["role", "grant-permission", "--prefix=true", "muster", "readwrite", range]);
    etcd.ctl(&["user", "add", "muster:pw"]);
    etcd.ctl(&["user", "grant-role", "muster", "muster"]);
    etcd.ctl(&["role", "add", "reader"]);
    etcd.ctl(&["role", "grant-permission", "--prefix=true", "reader", "read", range]);
    etcd.ctl(&["user", "add", "reader:pw"]);
    etcd.ctl(&["user", "grant-role", "reader", "reader"]);
    etcd.ctl(&["user", "add", "nobody:pw"]);
    etcd.ctl(&["auth", "enable"]);
    etcd.user = Some("root:rootpw".into());

    let url = etcd.url(0);
    let mut good = strategy(login("muster", "pw", &etcd), 1);
    assert_eq!(found(&mut good).await, [name(1)]);
    let denied = async |config: EtcdConfig| match strategy(config, 2).discover().await {
        Err(DiscoveryError::Denied(text)) => text,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        denied(login("muster", "oops", &etcd)).await,
        format!("etcd at {url}: cannot log in: wrong username or password")
    );
    assert_eq!(
        denied(login("stranger", "pw", &etcd)).await,
        format!("etcd at {url}: cannot log in: wrong username or password")
    );
    let text = denied(config(etcd.urls())).await;
    assert!(text.contains("set cluster.etcd.username and password"), "{text}");
    let text = denied(login("nobody", "pw", &etcd)).await;
    assert!(text.contains("permission denied") && text.contains(range), "{text}");
    let text = denied(login("reader", "pw", &etcd)).await;
    assert!(text.contains(&format!("cannot write {}: ", key(2))), "{text}");

    // etcd forgets its tokens when it restarts; the old one is no good then.
    etcd.kill(0);
    assert!(good.discover().await.is_err());
    etcd.run(0);
    etcd.healthy();
    assert_eq!(found(&mut good).await, [name(1)]);
}

mod agents {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::support::agent::{Agent, Ground, Spec};
    use crate::support::soak::{outage, rounds};
    use crate::support::wait::{LONG, timed};

    fn spec(ground: &Arc<Ground>, k: u16, etcd: &Etcd) -> Spec {
        let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 78, 0, 0)) + u32::from(k));
        Spec::named(ground, k, &format!("emqx@{address}"))
            .line(&format!("agent.mesh.bind = [\"{address}\"]"))
            .line("cluster { name = emqxcl, discovery_strategy = etcd }")
            .line(&format!("cluster.etcd {{ server = \"{}\", prefix = emqxcl }}", etcd.url(0)))
    }

    fn formed(agents: &[Agent]) {
        let all: Vec<_> = agents.iter().map(|agent| agent.name().to_owned()).collect();
        for agent in agents {
            agent.wait_nodes(LONG, &all, &[]);
        }
    }

    #[test]
    fn grow_and_outlive_etcd() {
        let Some(mut etcd) = Etcd::start(1) else { return };
        let ground = Ground::new(4);
        let mut agents: Vec<_> = (1..=3).map(|k| spec(&ground, k, &etcd).spawn()).collect();
        agents.iter_mut().for_each(Agent::wait_api);
        formed(&agents);

        // Running, and found by nobody until etcd names it.
        let mut late = spec(&ground, 4, &etcd)
            .line("cluster.discovery_strategy = static")
            .line("cluster.static.seeds = []")
            .spawn();
        late.wait_api();
        etcd.ctl(&["put", &format!("/emqxcl/emqxcl/nodes/{}", late.name()), late.name()]);
        agents.push(late);
        let ((), took) = timed(|| formed(&agents));
        assert!(took < Duration::from_millis(500), "{took:?} until the new member is everywhere");

        etcd.kill(0);
        let before: Vec<_> = agents.iter().map(Agent::standings).collect();
        let unchanged = || agents.iter().map(Agent::standings).eq(before.iter().cloned());
        always("no member event without etcd", outage(), unchanged);
        for agent in &agents[..3] {
            let discovery = &agent.get("/api/v1/cluster")["discovery"];
            assert!(discovery["last_error"].is_string(), "{discovery}");
        }
        etcd.run(0);
        etcd.healthy();
        always("nor at its return", Duration::from_secs(3), unchanged);
        for agent in &agents[..3] {
            let key = format!("/emqxcl/emqxcl/nodes/{}", agent.name());
            eventually("the key is back", LONG, || etcd.keys().contains(&key).then_some(()));
            agent.wait_for("an answer", LONG, |view| view["discovery"]["last_error"].is_null());
        }
    }

    #[test]
    fn five_at_once_are_one_cluster() {
        let Some(etcd) = Etcd::start(1) else { return };
        for _ in 0..rounds() {
            let ground = Ground::new(5);
            let mut agents: Vec<_> = (1..=5).map(|k| spec(&ground, k, &etcd).spawn()).collect();
            agents.iter_mut().for_each(Agent::wait_api);
            let all: Vec<_> = agents.iter().map(|agent| agent.name().to_owned()).collect();
            for agent in &agents {
                agent.wait_nodes(LONG, &all, &[]);
            }
            let id = |agent: &Agent| agent.get("/api/v1/cluster")["id"].clone();
            assert!(agents.iter().all(|agent| id(agent) == id(&agents[0])), "one cluster");
        }
    }
}
