//! Agents over TLS as real processes: who gets in, what is told, and rotation under them.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;

use muster::mesh::tls::{REMAKE_WITHIN, TlsContext};
use muster::node::NodeName;
use serde_json::Value;
use tokio::time::timeout;

use crate::cookies::{NEW, OLD, cookie_file, put};
use crate::support::adversary::{ATTACKER, Door, closed};
use crate::support::agent::{Agent, Ground, Spec};
use crate::support::cluster::Cluster;
use crate::support::flood::Flood;
use crate::support::pki::{Ca, Leaf, TlsFiles};
use crate::support::wait::{LONG, always, eventually};

/// Speaks for one node of the host, to agents and to Erlang nodes.
fn leaf(ca: &Ca, node: &str) -> Leaf {
    ca.leaf(&["dns:127.0.0.1", &format!("uri:muster:{node}")])
}

fn over_tls(spec: Spec) -> Spec {
    let optfile = spec.home().join("tls/ssl_dist.conf");
    spec.line("cluster.proto_dist = inet_tls")
        .line(&format!("node.ssl_dist_optfile = {:?}", optfile.display().to_string()))
}

/// An agent's files, with a certificate of `ca` for its own name.
fn files(spec: &Spec, ca: &Ca) -> TlsFiles {
    TlsFiles::write(&spec.home().join("tls"), &ca.pem, &leaf(ca, spec.name()))
}

const LEFT_BEHIND: &str = "left@127.0.0.66";

/// The first agent's door, for somebody with a certificate of this CA.
fn left_behind_at(cluster: &Cluster, ca: &Ca) -> Door {
    let dir = cluster.ground().directory.path().join("left");
    let files = TlsFiles::write(&dir, &ca.pem, &ca.leaf(&["ip:127.0.0.66"])).verify_none();
    let node = |name: &str| NodeName::parse(name).unwrap();
    Door {
        address: (Ipv4Addr::LOCALHOST, cluster.ground().ports.mesh(1)).into(),
        victim: node(cluster[0].name()),
        tls: Some(TlsContext::load(&files.conf(), &node(LEFT_BEHIND), true).unwrap()),
    }
}

#[test]
fn everything_rotates_without_a_suspicion() {
    let (old, new) = (Ca::new("old"), Ca::new("new"));
    let cookie = |agent: &Path, text: &str| put(&agent.join("cookie"), text);
    let cluster = Cluster::start_with(3, |spec| {
        files(&spec, &old);
        cookie(spec.home(), OLD);
        over_tls(cookie_file(spec))
    });
    let before = cluster.histories();
    let both = format!("{}{}", old.pem, new.pem);
    let everywhere = |step: u64, cookies: &str, put: &dyn Fn(&Agent, &TlsFiles)| {
        for agent in cluster.iter() {
            put(agent, &TlsFiles::open(&agent.home().join("tls")));
            cookie(agent.home(), cookies);
        }
        for agent in cluster.iter() {
            for kind in ["tls", "cookie"] {
                let metric = format!("muster_{kind}_reloads_total{{outcome=\"ok\"}}");
                eventually("the files in use", LONG, || {
                    (agent.metric(&metric) == step).then_some(())
                });
            }
        }
    };
    everywhere(1, &format!("{OLD}\n{NEW}\n"), &|_, files| files.put("ca.pem", &both));
    everywhere(2, &format!("{NEW}\n{OLD}\n"), &|agent, files| {
        files.put_leaf(&leaf(&new, agent.name()));
    });
    // Somebody who has a link by then, with a certificate of the old CA.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let door = left_behind_at(&cluster, &old);
    let enter = || runtime.block_on(door.enter(ATTACKER, LEFT_BEHIND, NEW));
    let mut link = enter().unwrap();
    everywhere(3, NEW, &|_, files| files.put("ca.pem", &new.pem));
    // By then every link has been made anew, and nobody has noticed: there was a new one
    // before the old one went, whatever strangers did meanwhile.
    let all = cluster.names();
    let targets: Vec<_> =
        (1..=3).map(|k| (Ipv4Addr::LOCALHOST, cluster.ground().ports.mesh(k)).into()).collect();
    let flood = Flood::start(targets, 250);
    let linked = |member: &Value| member["self"] == true || member["link"] == "connected";
    always("every view whole, and every link up", REMAKE_WITHIN, || {
        cluster.iter().all(|agent| {
            let members = agent.get("/api/v1/members")["members"].as_array().unwrap().clone();
            let whole = members.len() == all.len() && members.iter().all(linked);
            if !whole {
                println!("{} has {members:?}", agent.name());
            }
            whole
        })
    });
    drop(flood);
    let made: u64 = cluster.iter().map(|agent| agent.handshakes("in", "ok")).sum();
    assert!(made >= 6, "three links were made {made} times");
    assert_eq!(cluster.histories(), before);

    // Who was left behind with a certificate of the old CA is out: with the link that was
    // up, and for good.
    let cut = async { timeout(Duration::from_secs(1), closed(&mut link)).await };
    runtime.block_on(cut).expect("the link was cut");
    assert!(enter().is_err());
    let spec = Spec::new(cluster.ground(), 4).seeds(&all);
    let spec = over_tls(spec.line(&format!("node.cookie = \"{NEW}\"")));
    let left_behind = TlsFiles::write(&spec.home().join("tls"), &both, &leaf(&old, spec.name()));
    let _agent = spec.start();
    for agent in cluster.iter() {
        eventually("a refusal", LONG, || {
            (agent.handshakes("in", "tls_unknown_ca") > 0).then_some(())
        });
        agent.wait_nodes(LONG, &all, &[]);
    }
    drop(left_behind);
}

#[test]
fn a_certificate_of_another_node_stays_out() {
    let ca = Ca::new("ca");
    let cluster = Cluster::spawn_with(3, |spec| {
        let named = if spec.name().starts_with("emqx3") { "emqx1@127.0.0.1" } else { spec.name() };
        TlsFiles::write(&spec.home().join("tls"), &ca.pem, &leaf(&ca, named));
        over_tls(spec)
    });
    let (good, bad) = (&cluster.names()[..2], &cluster[2]);
    for agent in &cluster[..2] {
        agent.wait_nodes(LONG, good, &[]);
        eventually("the refusal counted", LONG, || {
            (agent.handshakes("in", "tls_wrong_name") > 0).then_some(())
        });
        agent.wait_log("is for muster:emqx1@127.0.0.1, 127.0.0.1, not for emqx3@127.0.0.1");
        agent.wait_nodes(LONG, good, &[]);
    }
    // It was told so by its own files already.
    let line = bad.wait_log("peers that verify refuse us");
    assert!(line.contains("WARN"), "{line}");
    bad.wait_nodes(LONG, &[bad.name()], &[]);
}

#[test]
fn verify_none_works_and_is_told_everywhere() {
    let ca = Ca::new("ca");
    let cluster = Cluster::start_with(2, |spec| {
        files(&spec, &ca).verify_none();
        over_tls(spec)
    });
    for agent in cluster.iter() {
        agent.wait_log("says verify_none: whoever has the cookie can speak as any node");
        assert_eq!(agent.metric("muster_tls_unverified"), 1);
        let notices = agent.get("/readyz?verbose")["notices"].to_string();
        assert!(notices.contains("verify_none"), "{notices}");
    }
}

#[test]
fn files_that_cannot_be_used_are_told_until_they_can() {
    let ca = Ca::new("ca");
    let cluster = Cluster::start_with(2, |spec| {
        files(&spec, &ca);
        over_tls(spec)
    });
    let agent = &cluster[0];
    let certificate = || {
        let health = agent.get("/readyz?verbose");
        let notices = health["notices"].as_array().unwrap().clone();
        notices.into_iter().find(|notice| notice["name"] == "certificate").unwrap()
    };
    assert_eq!(certificate()["ok"], true);
    let files = TlsFiles::open(&agent.home().join("tls"));
    let good = std::fs::read_to_string(agent.home().join("tls/key.pem")).unwrap();
    files.put("key.pem", &good[..40]);
    let line = agent.wait_log("changed TLS files cannot be used");
    assert!(line.contains("key.pem: not a whole PEM file"), "{line}");
    eventually("the notice", LONG, || (certificate()["ok"] == false).then_some(()));
    assert_eq!(agent.metric("muster_tls_reloads_total{outcome=\"failed\"}"), 1);
    agent.wait_nodes(LONG, &cluster.names(), &[]);
    files.put("key.pem", &good);
    eventually("the end of the notice", LONG, || (certificate()["ok"] == true).then_some(()));
}

#[test]
fn files_that_do_not_hold_end_with_78_before_anything_is_bound() {
    let ground = Ground::new(2);
    let ca = Ca::new("ca");
    let spec = over_tls(Spec::new(&ground, 1).seeds(&["emqx2@127.0.0.1"]));
    let files = files(&spec, &ca);
    files.put("key.pem", &leaf(&ca, "emqx2@127.0.0.1").key);
    let mut agent = spec.spawn();
    assert_eq!(agent.wait_exit().code(), Some(78));
    assert!(
        agent.logs().contains("key.pem: not the key of the certificate in"),
        "{}",
        agent.logs()
    );
    assert!(!agent.home().join("data").exists());
}
