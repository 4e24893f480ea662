//! `docs/troubleshooting.md` is true: each of its ways to break a cluster of three is done to
//! real agents, and what it says that `/readyz`, `doctor`, the log and the metrics say is
//! compared word for word. `<…>` in it stands for what differs from run to run.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Ground, Spec};
use crate::support::bind::Bind;
use crate::support::etcd::{Etcd, Options};
use crate::support::kube::{Api, NAMESPACE, SLICES};
use crate::support::pki::{Ca, Leaf, TlsFiles};
use crate::support::wait::{LONG, eventually, try_eventually};

const NAMES: [&str; 3] = ["emqx1@127.0.0.1", "emqx2@127.0.0.1", "emqx3@127.0.0.1"];

/// What the page says of one way, by the kind of block it says it in.
type Said = BTreeMap<String, Vec<String>>;

/// The blocks of the page's section with this number.
fn section(number: u32) -> Said {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/troubleshooting.md");
    let page = std::fs::read_to_string(path).unwrap();
    let begin = format!("\n### {number}. ");
    let (_, rest) = page.split_once(&begin).unwrap_or_else(|| panic!("no section {number}"));
    let text = rest.split("\n### ").next().unwrap().split("\n## ").next().unwrap();
    let mut said = Said::new();
    let mut open: Option<&str> = None;
    for line in text.lines() {
        match (line.strip_prefix("```"), open) {
            (Some(kind), None) => open = Some(kind),
            (Some(_), Some(_)) => open = None,
            (None, Some(kind)) => said.entry(kind.to_owned()).or_default().push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(!said.is_empty(), "section {number} says nothing");
    said
}

/// Whether a line is what the page has, where `<…>` is anything.
fn fits(pattern: &str, line: &str) -> bool {
    let mut parts = Vec::new();
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('<') {
        parts.push(before);
        rest = after.split_once('>').expect("a closing >").1;
    }
    parts.push(rest);
    let Some(mut line) = line.strip_prefix(parts[0]) else { return false };
    let Some((last, middle)) = parts[1..].split_last() else { return line.is_empty() };
    for part in middle {
        let Some(at) = line.find(part) else { return false };
        line = &line[at + part.len()..];
    }
    line.ends_with(last)
}

fn missing<'a>(wanted: &'a [String], lines: &[String]) -> Vec<&'a String> {
    wanted.iter().filter(|wanted| !lines.iter().any(|line| fits(wanted, line))).collect()
}

/// Waits until everything that is wanted is among the lines.
#[track_caller]
fn compare(what: &str, wanted: &[String], mut ask: impl FnMut() -> Vec<String>) {
    let mut last = Vec::new();
    let met = try_eventually(LONG, || {
        last = ask();
        missing(wanted, &last).is_empty().then_some(())
    });
    if met.is_none() {
        let missing: Vec<_> = missing(wanted, &last).into_iter().cloned().collect();
        panic!("{what} does not say\n{}\nbut\n{}", missing.join("\n"), last.join("\n"));
    }
}

/// The status, and every check and notice that fails.
fn readyz(agent: &Agent) -> Vec<String> {
    let Ok(answer) = agent.request("GET", "/readyz?verbose", None) else { return Vec::new() };
    let health = answer.json();
    let failed = |list: &Value| -> Vec<String> {
        let list = list.as_array().map(Vec::as_slice).unwrap_or_default().iter();
        let failed = list.filter(|check| check["ok"] == false);
        failed
            .map(|check| {
                let text = |key: &str| check[key].as_str().unwrap().to_owned();
                format!("{}: {}", text("name"), text("reason"))
            })
            .collect()
    };
    let mut lines = vec![answer.status.to_string()];
    lines.extend(failed(&health["checks"]));
    lines.extend(failed(&health["notices"]));
    lines
}

fn doctor(agent: &Agent, arguments: &[&str]) -> (i32, Vec<String>) {
    let output = Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(["doctor", "-c"])
        .arg(agent.home().join("emqx.conf"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (output.status.code().unwrap(), lines)
}

/// Compares what the page says of one way with what an agent and its doctor say.
#[track_caller]
fn told(number: u32, agent: &Agent) {
    let said = section(number);
    for (kind, wanted) in &said {
        let what = format!("{number}: {kind} of {}", agent.name());
        match kind.as_str() {
            "readyz" => compare(&what, wanted, || readyz(agent)),
            "doctor" => {
                let fault = wanted.iter().any(|line| line.starts_with("FAIL"));
                let wanted = [&wanted[..], &[format!("exit code {}", i32::from(fault))]].concat();
                compare(&what, &wanted, || {
                    let (code, mut lines) = doctor(agent, &[]);
                    lines.push(format!("exit code {code}"));
                    lines
                });
            }
            "log" => {
                // A time and a place stand in front of what is said, and fields behind it.
                let wanted: Vec<_> = wanted.iter().map(|line| format!("<>{line}<>")).collect();
                compare(&what, &wanted, || agent.logs().lines().map(str::to_owned).collect());
            }
            "metrics" => {
                for line in wanted {
                    let counted = try_eventually(LONG, || (agent.metric(line) > 0).then_some(()));
                    assert!(counted.is_some(), "{what}: {line}");
                }
            }
            other => panic!("{number}: a block of kind {other}"),
        }
    }
}

fn spec(ground: &Arc<Ground>, k: u16) -> Spec {
    Spec::new(ground, k).seeds(&NAMES)
}

/// Three agents, of which the third is broken.
fn three(ground: &Arc<Ground>, broken: impl FnOnce(Spec) -> Spec) -> [Agent; 3] {
    [spec(ground, 1).start(), spec(ground, 2).start(), broken(spec(ground, 3)).start()]
}

/// Waits until all know each other and nothing fails at any: members learn of each other
/// before the last of them has asked its own discovery.
fn whole(agents: &[Agent]) {
    for agent in agents {
        agent.wait_nodes(LONG, &NAMES, &[]);
        eventually("it to be ready", LONG, || {
            agent.request("GET", "/readyz", None).is_ok_and(|it| it.status == 200).then_some(())
        });
    }
}

#[test]
fn another_cookie_or_cluster_name() {
    let ground = Ground::new(3);
    let mut agents =
        three(&ground, |spec| spec.line("node.cookie = \"another-cookie-of-the-tests-Yq3\""));
    told(1, &agents[2]);
    agents[2].term();
    agents[2].wait_exit();
    let cookie = format!("node.cookie = \"{}\"", crate::support::agent::COOKIE);
    agents[2].start_again_with(&format!("{cookie}\ncluster.name = others"));
    agents[2].wait_api();
    told(2, &agents[2]);
}

fn over_tls(spec: Spec, ca: &str, leaf: &Leaf) -> Spec {
    let dir = spec.home().join("tls");
    let files = TlsFiles::write(&dir, ca, leaf);
    spec.line("cluster.proto_dist = inet_tls")
        .line(&format!("node.ssl_dist_optfile = {:?}", files.conf().display().to_string()))
}

#[test]
fn tls_that_does_not_fit() {
    let (ca, other) = (Ca::new("the cluster's"), Ca::new("another"));
    let ground = Ground::new(3);
    let host = ["ip:127.0.0.1"];
    let fine = [1, 2].map(|k| over_tls(spec(&ground, k), &ca.pem, &ca.leaf(&host)).start());
    let mut third = spec(&ground, 3).start();
    told(3, &third);
    for (number, trusted, leaf) in [
        (4, &other.pem, other.leaf(&host)),
        (5, &ca.pem, ca.expired(&host)),
        (6, &ca.pem, ca.leaf(&["ip:127.0.0.9"])),
    ] {
        third.kill9();
        third = over_tls(spec(&ground, 3), trusted, &leaf).start();
        told(number, &third);
    }
    third.kill9();
    let _third = over_tls(spec(&ground, 3), &ca.pem, &its_own_ca()).start();
    told(13, &fine[0]);
}

/// As `openssl req -x509` makes it.
fn its_own_ca() -> Leaf {
    let mut params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate().unwrap();
    Leaf { cert: params.self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

#[test]
fn names_and_ports_that_do_not_fit() {
    let ground = Ground::new(4);
    // The others must not look for the third: one link is all that it needs.
    let _others = [1, 2].map(|k| Spec::new(&ground, k).seeds(&NAMES[..2]).start());
    let mut third =
        spec(&ground, 3).seeds(&["eqmx1@127.0.0.1", "eqmx2@127.0.0.1", NAMES[2]]).start();
    told(7, &third);
    third.kill9();
    // Leased by this test, and never started.
    let seeds = format!("cluster.static.seeds = [\"emqx4@127.0.0.1\", \"{}\"]", NAMES[2]);
    third.start_again_with(&seeds);
    third.wait_api();
    told(8, &third);
    third.kill9();
    third.start_again_with(&format!(
        "cluster.static.seeds = [\"emqx1@nowhere.invalid\", \"{}\"]",
        NAMES[2]
    ));
    third.wait_api();
    told(9, &third);
}

#[test]
fn a_taken_name() {
    let ground = Ground::new(4);
    let agents = three(&ground, |spec| spec);
    whole(&agents);
    let second = Spec::named(&ground, 4, NAMES[2])
        .line("agent.mesh.bind = \"127.0.0.3\"")
        .seeds(&NAMES)
        .start();
    told(10, &second);
}

#[test]
fn one_that_left_and_too_few() {
    let ground = Ground::new(3);
    let mut agents = three(&ground, |spec| spec.line("agent.ready.min_members = 3"));
    whole(&agents);
    agents[0].term();
    agents[0].wait_exit();
    told(12, &agents[2]);
    assert_eq!(agents[2].post("/api/v1/cluster/leave", &json!({})).status, 200);
    told(11, &agents[2]);
}

#[test]
fn missing_from_the_seeds() {
    let ground = Ground::new(3);
    let agents = three(&ground, |spec| spec.seeds(&NAMES[..2]));
    whole(&agents);
    told(14, &agents[2]);
}

#[test]
fn one_that_ended_or_froze() {
    let ground = Ground::new(3);
    let mut agents = three(&ground, |spec| spec);
    whole(&agents);
    agents[0].kill9();
    told(15, &agents[2]);
    agents[0].start_again();
    whole(&agents);
    agents[0].stop();
    told(16, &agents[2]);
    agents[0].cont();
}

#[test]
fn state_that_cannot_be_saved() {
    let ground = Ground::new(3);
    let agents = three(&ground, |spec| spec);
    whole(&agents);
    // Where a file is to be made, something else stands: root may write everywhere.
    let state = agents[2].home().join("data/muster");
    eventually("no file to be under way", LONG, || {
        std::fs::create_dir_all(state.join("state.json.new/x")).ok()
    });
    assert_eq!(agents[2].put("/api/v1/cluster/discovery", &json!({"enabled": false})).status, 500);
    told(17, &agents[2]);
}

fn by_etcd(ground: &Arc<Ground>, k: u16, etcd: &Etcd) -> Spec {
    Spec::new(ground, k)
        .line("cluster.discovery_strategy = etcd")
        .line("agent.discovery.interval = 300ms")
        .line(&format!("cluster.etcd.server = \"{}\"", etcd.url(0)))
}

#[test]
fn etcd_that_is_gone_or_refuses() {
    let Some(mut etcd) = Etcd::start(1) else { return };
    let ground = Ground::new(3);
    let agents = [1, 2, 3].map(|k| by_etcd(&ground, k, &etcd).start());
    whole(&agents);
    etcd.kill(0);
    told(18, &agents[2]);
    etcd.run(0);
    etcd.healthy();
    drop(agents);
    etcd.ctl(&["user", "add", "root:rootpw"]);
    etcd.ctl(&["role", "add", "root"]);
    etcd.ctl(&["user", "grant-role", "root", "root"]);
    etcd.ctl(&["auth", "enable"]);
    let ground = Ground::new(3);
    let denied = by_etcd(&ground, 3, &etcd)
        .line("cluster.etcd.username = root")
        .line("cluster.etcd.password = \"another\"")
        .start();
    told(19, &denied);
}

#[test]
fn etcd_without_space() {
    let options = Options { quota: Some(4 << 20), ..Options::default() };
    let Some(etcd) = Etcd::start_with(1, options) else { return };
    let large = "x".repeat(100_000);
    let full = try_eventually(LONG, || {
        etcd.try_ctl(&etcd.url(0), &["put", "/x", &large]).is_err().then_some(())
    });
    assert!(full.is_some(), "the alarm");
    let ground = Ground::new(3);
    told(20, &by_etcd(&ground, 3, &etcd).start());
}

#[test]
fn dns_that_lacks_this_node() {
    let Some(mut bind) = Bind::prepare(Ipv4Addr::LOCALHOST.into()) else { return };
    bind.set(&["emqx A 127.0.60.1", "emqx A 127.0.60.2"].map(str::to_owned));
    bind.run();
    let ground = Ground::new(3);
    let agents = [1, 2, 3].map(|k| {
        let ip = format!("127.0.60.{k}");
        Spec::named(&ground, k, &format!("emqx@{ip}"))
            .line(&format!("agent.mesh.bind = [\"{ip}\"]"))
            .line("agent.discovery.interval = 300ms")
            .line("cluster { discovery_strategy = dns, dns.name = \"emqx.muster.test\" }")
            .line(&format!("agent.discovery.dns.nameservers = [\"{}\"]", bind.address()))
            .start()
    });
    told(21, &agents[2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubernetes_without_rights_or_service() {
    let api = Api::fake().await;
    api.grant(&[]).await;
    let ground = Ground::new(3);
    let mut agent = Spec::new(&ground, 3)
        .line("cluster.discovery_strategy = k8s")
        .line(&format!(
            "cluster.k8s {{ service_name = eqmx, namespace = {NAMESPACE}, address_type = ip }}"
        ))
        .line(&format!(
            "agent.discovery.k8s.kubeconfig = {:?}",
            api.kubeconfig().display().to_string()
        ))
        .spawn();
    agent.wait_api();
    told(22, &agent);
    api.grant(SLICES).await;
    let endpoint = json!([{"addresses": ["10.1.0.1"], "conditions": {"ready": true}}]);
    api.put_slice("emqx-a", "emqx", "IPv4", endpoint).await;
    told(23, &agent);
}

#[test]
fn the_matrix_shows_who_reaches_whom() {
    let ground = Ground::new(3);
    let agents = three(&ground, |spec| spec);
    whole(&agents);
    let pattern = section(24).remove("doctor").unwrap();
    compare("the matrix", &pattern, || doctor(&agents[2], &["--cluster"]).1);
    let (code, lines) = doctor(&agents[2], &["--cluster", "--json"]);
    assert_eq!(code, 0, "{lines:?}");
    let told: Value = serde_json::from_str(&lines.join("\n")).unwrap();
    assert_eq!(told["matrix"]["nodes"], json!(NAMES));
    assert_eq!(told["matrix"]["rows"][0]["reaches"], json!(["itself", "connected", "connected"]));
    assert!(told["findings"].as_array().is_some_and(|findings| !findings.is_empty()));
}
