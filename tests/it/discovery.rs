//! Discovery from end to end: real agents, configured as EMQX's manual has it, against
//! real backends.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Ground, Spec, names};
use crate::support::bind::Bind;
use crate::support::etcd::Etcd;
use crate::support::kube::fake::Fake;
use crate::support::mcast::group;
use crate::support::soak::{outage, rounds};
use crate::support::wait::{LONG, always};

/// Snippet `index` of the manual's page, with other addresses where it needs them.
fn manual(index: usize, replaced: &[(&str, &str)]) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/emqx-manual-snippets.md");
    let page = std::fs::read_to_string(path).unwrap();
    let snippet = page.split("```bash\n").nth(index + 1).unwrap().split("```").next().unwrap();
    let mut snippet = snippet.to_owned();
    for (from, to) in replaced {
        assert!(snippet.contains(from), "{from} is not in {snippet}");
        snippet = snippet.replace(from, to);
    }
    snippet
}

const STATIC: usize = 0;
const DNS_A: usize = 1;
const DNS_SRV: usize = 2;
const ETCD: usize = 3;
const K8S: usize = 4;

/// An agent on a loopback address of its own, so that names without digits do.
fn on(ground: &Arc<Ground>, k: u16, node: &str, address: Ipv4Addr) -> Spec {
    Spec::named(ground, k, node)
        .line(&format!("agent.mesh.bind = [\"{address}\"]"))
        .line("agent.discovery.interval = 300ms")
}

fn asking(spec: Spec, bind: &Bind) -> Spec {
    spec.line(&format!("agent.discovery.dns.nameservers = [\"{}\"]", bind.address()))
}

#[track_caller]
fn wait_formed(agents: &mut [Agent]) {
    let all: Vec<_> = agents.iter().map(|agent| agent.name().to_owned()).collect();
    for agent in agents.iter_mut() {
        agent.wait_api();
    }
    for agent in agents.iter() {
        agent.wait_nodes(LONG, &all, &[]);
    }
    // Members are known a moment before one of them founds the cluster.
    let ids: Vec<_> = agents
        .iter()
        .map(|agent| {
            agent.wait_for("its cluster", LONG, |view| view["id"].is_string())["id"].clone()
        })
        .collect();
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
}

fn last_error(agent: &Agent) -> Value {
    agent.get("/api/v1/cluster")["discovery"]["last_error"].clone()
}

#[test]
fn the_manuals_static_example_forms_a_cluster() {
    let ground = Ground::new(3);
    let snippet = manual(
        STATIC,
        &[
            ("emqx@s1.emqx.io\"", "emqx@127.0.1.1\""),
            ("emqx@s2.emqx.io\"", "emqx@127.0.1.2\", \"emqx@127.0.1.3\""),
        ],
    );
    let mut agents: Vec<_> = (1..=3)
        .map(|k| (k, Ipv4Addr::new(127, 0, 1, u8::try_from(k).unwrap())))
        .map(|(k, ip)| on(&ground, k, &format!("emqx@{ip}"), ip).line(&snippet).spawn())
        .collect();
    wait_formed(&mut agents);
}

/// The name `localhost` as the manual has it, asked of a server that knows three.
#[test]
fn the_manuals_dns_example_forms_a_cluster() {
    let Some(mut bind) = Bind::prepare(Ipv4Addr::LOCALHOST.into()) else { return };
    bind.localhost(&["@ A 127.0.2.1", "@ A 127.0.2.2", "@ A 127.0.2.3"]);
    bind.run();
    let ground = Ground::new(3);
    let mut agents: Vec<_> = (1..=3)
        .map(|k| (k, Ipv4Addr::new(127, 0, 2, u8::try_from(k).unwrap())))
        .map(|(k, ip)| asking(on(&ground, k, &format!("emqx@{ip}"), ip), &bind))
        .map(|spec| spec.line(&manual(DNS_A, &[])).spawn())
        .collect();
    wait_formed(&mut agents);
}

/// The targets' own addresses come from the same server.
#[test]
fn the_manuals_srv_example_forms_a_cluster() {
    let Some(mut bind) = Bind::prepare(Ipv4Addr::LOCALHOST.into()) else { return };
    let target = |k: u16| format!("@ SRV 0 0 4370 s{k}.muster.test.");
    let targets: Vec<_> = (1..=3).map(target).collect();
    bind.localhost(&targets.iter().map(String::as_str).collect::<Vec<_>>());
    bind.set(&["s1 A 127.0.3.1", "s2 A 127.0.3.2", "s3 A 127.0.3.3"]);
    bind.run();
    let ground = Ground::new(3);
    let mut agents: Vec<_> = (1..=3)
        .map(|k| (k, Ipv4Addr::new(127, 0, 3, u8::try_from(k).unwrap())))
        .map(|(k, ip)| asking(on(&ground, k, &format!("emqx@s{k}.muster.test"), ip), &bind))
        .map(|spec| spec.line(&manual(DNS_SRV, &[])).spawn())
        .collect();
    wait_formed(&mut agents);
}

#[test]
fn the_manuals_etcd_example_forms_a_cluster_and_shows_its_listing() {
    let Some(etcd) = Etcd::start(1) else { return };
    let snippet = manual(ETCD, &[("http://127.0.0.1:2379", &etcd.url(0))]);
    let ground = Ground::new(3);
    let mut agents: Vec<_> = (1..=3)
        .map(|k| Spec::new(&ground, k).line("cluster.name = emqxcl").line(&snippet).spawn())
        .collect();
    wait_formed(&mut agents);
    let keys = [1, 2, 3].map(|k| format!("/emqxcl/emqxcl/nodes/emqx{k}@127.0.0.1"));
    assert_eq!(etcd.keys(), keys);
    // A stopped agent takes its key along.
    agents[2].term();
    agents[2].wait_exit();
    assert_eq!(etcd.keys(), keys[..2]);
}

/// On loopback, whose addresses a real API server takes for nobody's endpoints: so the one
/// of the tests answers here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_manuals_kubernetes_example_forms_a_cluster() {
    let fake = Fake::start(None).await;
    fake.knobs().open.store(true, SeqCst);
    let address = |k: u16| Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 79, 0, 0)) + u32::from(k));
    let endpoints = [1, 2, 3].map(|k| json!({"addresses": [address(k)], "conditions": {}}));
    fake.put_slice("emqx-a", "default", "emqx", json!(endpoints));
    let snippet = manual(K8S, &[("http://10.110.111.204:8080", &fake.url())]);
    let ground = Ground::new(3);
    let mut agents: Vec<_> = (1..=3)
        .map(|k| on(&ground, k, &format!("emqx@{}", address(k)), address(k)).line(&snippet).spawn())
        .collect();
    wait_formed(&mut agents);
}

#[test]
fn agents_find_each_other_by_multicast() {
    let mcast = group(4);
    let ground = Ground::new(4);
    let block = format!(
        "cluster.discovery_strategy = mcast\n\
         cluster.mcast {{ addr = \"{}\", ports = {:?}, iface = \"127.0.0.1\", ttl = 1 }}",
        mcast.addr, mcast.ports
    );
    let mut agents: Vec<_> = (1..=3).map(|k| Spec::new(&ground, k).line(&block).spawn()).collect();
    wait_formed(&mut agents);
    agents.push(Spec::new(&ground, 4).line(&block).spawn());
    wait_formed(&mut agents);
}

#[test]
fn all_addresses_replaced_in_dns_is_still_one_cluster() {
    let Some(mut bind) = Bind::start() else { return };
    let ip = |k: u16| Ipv4Addr::new(127, 0, 4, u8::try_from(k).unwrap());
    let records = |range: std::ops::RangeInclusive<u16>| -> Vec<String> {
        range.map(|k| format!("emqx A {}", ip(k))).collect()
    };
    let ground = Ground::new(6);
    let snippet = manual(DNS_A, &[("localhost", "emqx.muster.test")]);
    let start = |bind: &Bind, k: u16| {
        asking(on(&ground, k, &format!("emqx@{}", ip(k)), ip(k)), bind).line(&snippet).spawn()
    };
    bind.set(&records(1..=3));
    let mut agents: Vec<_> = (1..=3).map(|k| start(&bind, k)).collect();
    wait_formed(&mut agents);
    bind.set(&records(4..=6));
    agents.extend((4..=6).map(|k| start(&bind, k)));
    wait_formed(&mut agents);
    // Those that DNS forgot stay members while they live, and then are down, not gone.
    let (old, new) = agents.split_at_mut(3);
    old.iter_mut().for_each(Agent::kill9);
    let of = |agents: &[Agent]| agents.iter().map(|a| a.name().to_owned()).collect::<Vec<_>>();
    let (stopped, running) = (of(old), of(new));
    for agent in new.iter() {
        agent.wait_nodes(LONG, &running, &stopped);
    }
}

#[test]
fn an_outage_of_dns_changes_nothing_about_the_members() {
    let Some(mut bind) = Bind::prepare(Ipv4Addr::LOCALHOST.into()) else { return };
    let ip = |k: u16| Ipv4Addr::new(127, 0, 5, u8::try_from(k).unwrap());
    let records: Vec<_> = (1..=3).map(|k| format!("emqx A {}", ip(k))).collect();
    bind.set(&records);
    let ground = Ground::new(3);
    let snippet = manual(DNS_A, &[("localhost", "emqx.muster.test")]);
    let mut agents: Vec<_> = (1..=3)
        .map(|k| asking(on(&ground, k, &format!("emqx@{}", ip(k)), ip(k)), &bind))
        .map(|spec| spec.line(&snippet).spawn())
        .collect();
    // Nobody to ask at the start: no member, no crash, and it is said why.
    for agent in &mut agents {
        agent.wait_api();
        let view = agent.wait_for("why discovery fails", LONG, |view| {
            view["discovery"]["last_error"].is_string()
        });
        assert_eq!(view["state"], "forming");
        assert_eq!(view["discovery"]["last_success"], json!(null));
    }
    bind.run();
    wait_formed(&mut agents);
    // Each by its own asking, not only through those who asked sooner.
    let found = |view: &Value| names(&view["discovery"]["nodes"]).len() == 3;
    for agent in &agents {
        agent.wait_for("an answer", LONG, |view| found(view));
    }
    let before: Vec<_> = agents.iter().map(Agent::standings).collect();
    bind.stop();
    for agent in &agents {
        agent.wait_for("the outage", LONG, |view| view["discovery"]["last_error"].is_string());
    }
    always("the members are as they were", outage(), || {
        agents.iter().map(Agent::standings).collect::<Vec<_>>() == before
    });
    for agent in &agents {
        assert!(last_error(agent).as_str().unwrap().contains("emqx.muster.test"));
        assert!(found(&agent.get("/api/v1/cluster")), "what was found last still stands");
        let lines = agent
            .logs()
            .lines()
            .filter(|l| l.contains("WARN") && l.contains("discovery could not ask"))
            .count();
        assert!((1..=4).contains(&lines), "logged once per change, not {lines} times");
    }
    bind.run();
    for agent in &agents {
        agent.wait_for("the end of the outage", LONG, |view| {
            view["discovery"]["last_error"].is_null()
        });
    }
    assert_eq!(agents.iter().map(Agent::standings).collect::<Vec<_>>(), before);
}

/// Nobody founds a cluster of its own only because it asked first.
#[test]
fn simultaneous_starts_are_one_cluster_under_dns_and_multicast() {
    let Some(mut bind) = Bind::start() else { return };
    for round in 0..rounds() {
        let third = 6 + u8::try_from(round).unwrap();
        let ip = |k: u16| Ipv4Addr::new(127, 0, third, u8::try_from(k).unwrap());
        let records: Vec<_> = (1..=5).map(|k| format!("emqx A {}", ip(k))).collect();
        bind.set(&records);
        let ground = Ground::new(5);
        let snippet = manual(DNS_A, &[("localhost", "emqx.muster.test")]);
        let mut agents: Vec<_> = (1..=5)
            .map(|k| asking(on(&ground, k, &format!("emqx@{}", ip(k)), ip(k)), &bind))
            .map(|spec| spec.line(&snippet).spawn())
            .collect();
        wait_formed(&mut agents);
        drop(agents);

        let mcast = group(5);
        let block = format!(
            "cluster.discovery_strategy = mcast\n\
             cluster.mcast {{ addr = \"{}\", ports = {:?}, iface = \"127.0.0.1\", ttl = 1 }}",
            mcast.addr, mcast.ports
        );
        let mut agents: Vec<_> =
            (1..=5).map(|k| Spec::new(&ground, k).line(&block).spawn()).collect();
        wait_formed(&mut agents);
    }
}
