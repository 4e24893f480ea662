//! The `k8s` strategy against an API server: a real one where the environment
//! names it, the one of the tests elsewhere, and always that one for faults.

use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use muster::config::{
    AddressType, AgentConfig, Config, DiscoveryConfig, K8sConfig, StrategyConfig,
};
use muster::discovery::{DiscoveryError, K8s, Strategy};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::support::discovery::{Discovery, config as backend_config};
use crate::support::kube::fake::Fake;
use crate::support::kube::{Api, ENDPOINTS, LIMITED, NAMESPACE, SLICES};

fn config(url: &str) -> K8sConfig {
    K8sConfig {
        apiserver: url.into(),
        service_name: "emqx".into(),
        address_type: AddressType::Ip,
        namespace: NAMESPACE.into(),
        suffix: "pod.local".into(),
        app_name: "emqx".into(),
    }
}

fn discovery(kubeconfig: Option<PathBuf>) -> DiscoveryConfig {
    DiscoveryConfig {
        interval: Duration::from_secs(5),
        nameservers: Vec::new(),
        kubeconfig,
        include_not_ready: true,
    }
}

fn strategy(api: &Api) -> K8s {
    K8s::with_account(config(&api.url()), &discovery(None), false, api.account())
}

fn ready(addresses: &[&str]) -> serde_json::Value {
    addresses
        .iter()
        .map(|address| json!({"addresses": [address], "conditions": {"ready": true}}))
        .collect()
}

async fn found(strategy: &mut K8s) -> Vec<String> {
    let answer = strategy.discover().await.unwrap();
    answer.nodes.iter().map(ToString::to_string).collect()
}

async fn error(strategy: &mut K8s) -> DiscoveryError {
    strategy.discover().await.unwrap_err()
}

/// Waits until the watch is open, which takes a moment the first time.
async fn quiet(strategy: &mut K8s) {
    while timeout(Duration::from_millis(300), strategy.changed()).await.is_ok() {}
}

async fn told(strategy: &mut K8s) {
    timeout(Duration::from_millis(500), strategy.changed()).await.expect("told within 0.5 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slices_are_listed_and_watched() {
    let api = Api::start().await;
    api.grant(SLICES).await;
    let mut nodes = strategy(&api);
    assert!(found(&mut nodes).await.is_empty(), "nobody is there, for certain");
    quiet(&mut nodes).await;

    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.1", "10.1.0.2"])).await;
    told(&mut nodes).await;
    assert_eq!(found(&mut nodes).await, ["emqx@10.1.0.1", "emqx@10.1.0.2"]);

    quiet(&mut nodes).await;
    api.put_slice("emqx-b", "emqx", "IPv4", ready(&["10.1.0.3"])).await;
    told(&mut nodes).await;
    assert_eq!(found(&mut nodes).await.len(), 3, "several slices make one service");

    quiet(&mut nodes).await;
    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.2"])).await;
    told(&mut nodes).await;
    assert_eq!(found(&mut nodes).await, ["emqx@10.1.0.2", "emqx@10.1.0.3"]);

    quiet(&mut nodes).await;
    api.put_slice("emqx-b", "another", "IPv4", ready(&["10.1.0.3"])).await;
    told(&mut nodes).await;
    assert_eq!(found(&mut nodes).await, ["emqx@10.1.0.2"], "its label moved it away");

    quiet(&mut nodes).await;
    api.delete_slice("emqx-a").await;
    told(&mut nodes).await;
    assert!(found(&mut nodes).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_counts_is_decided_by_conditions_and_family() {
    let api = Api::start().await;
    api.grant(SLICES).await;
    let endpoints = json!([
        {"addresses": ["10.1.0.1"], "conditions": {"ready": true}, "hostname": "emqx-0"},
        {"addresses": ["10.1.0.2"], "conditions": {"ready": false}, "hostname": "emqx-1"},
        {"addresses": ["10.1.0.3"], "hostname": "emqx-2"},
        {"addresses": ["10.1.0.4"], "conditions": {"ready": true, "terminating": true}},
    ]);
    api.put_slice("emqx-4", "emqx", "IPv4", endpoints).await;
    api.put_slice("emqx-none", "emqx", "IPv4", json!([])).await;
    let six = json!([{"addresses": ["2001:db8::1"], "conditions": {}, "hostname": "emqx-0"}]);
    api.put_slice("emqx-6", "emqx", "IPv6", six).await;

    assert_eq!(
        found(&mut strategy(&api)).await,
        ["emqx@10.1.0.1", "emqx@10.1.0.2", "emqx@10.1.0.3"]
    );
    let only_ready = DiscoveryConfig { include_not_ready: false, ..discovery(None) };
    let mut nodes = K8s::with_account(config(&api.url()), &only_ready, false, api.account());
    assert_eq!(found(&mut nodes).await, ["emqx@10.1.0.1", "emqx@10.1.0.3"]);
    let mut nodes = K8s::with_account(config(&api.url()), &discovery(None), true, api.account());
    assert_eq!(found(&mut nodes).await, ["emqx@2001:db8::1"]);
    let by_hostname = K8sConfig {
        address_type: AddressType::Hostname,
        suffix: "svc.cluster.local".into(),
        ..config(&api.url())
    };
    let mut nodes = K8s::with_account(by_hostname, &discovery(None), false, api.account());
    assert_eq!(
        found(&mut nodes).await,
        [0, 1, 2].map(|n| format!("emqx@emqx-{n}.emqx.{NAMESPACE}.svc.cluster.local"))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_cannot_be_right_says_why() {
    let api = Api::start().await;
    api.grant(SLICES).await;
    let only = async |strategy: &mut K8s| {
        let answer = strategy.discover().await.unwrap();
        assert!(answer.nodes.is_empty());
        let said: Vec<_> = answer.notices.into_iter().chain(answer.doubts).collect();
        let [said] = <[String; 1]>::try_from(said).unwrap();
        said
    };
    let six = json!([{"addresses": ["2001:db8::1"], "conditions": {}}]);
    api.put_slice("emqx-6", "emqx", "IPv6", six).await;
    assert_eq!(
        only(&mut strategy(&api)).await,
        format!(
            "all 1 endpoints of service emqx in namespace {NAMESPACE} are IPv6 and are left out, \
             since the mesh carries IPv4 -> set cluster.proto_dist to inet6_tcp or inet6_tls, or \
             give the service IPv4 among its ipFamilies"
        )
    );
    let misspelt = K8sConfig { service_name: "eqmx".into(), ..config(&api.url()) };
    let mut nodes = K8s::with_account(misspelt.clone(), &discovery(None), false, api.account());
    let said = only(&mut nodes).await;
    assert!(said.starts_with("service eqmx in namespace"), "{said}");
    assert!(said.contains("is cluster.k8s.service_name right"), "{said}");
    assert!(said.ends_with("(services with endpoints there: \"emqx\")"), "{said}");
    std::fs::write(api.account().join("namespace"), "prod").unwrap();
    let mut nodes = K8s::with_account(misspelt, &discovery(None), false, api.account());
    let said = only(&mut nodes).await;
    assert!(said.contains("this pod runs in namespace prod"), "{said}");
}

/// Its connections stay open: no watch ends, and nothing is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_hangs_is_noticed_in_ten_seconds() {
    let api = Api::fake().await;
    api.grant(SLICES).await;
    let config = Config {
        agent: AgentConfig {
            discovery: DiscoveryConfig {
                kubeconfig: Some(api.kubeconfig()),
                interval: Duration::from_secs(60),
                ..discovery(None)
            },
            ..backend_config("emqx@10.1.0.1", StrategyConfig::K8s(config(&api.url()))).agent
        },
        ..backend_config("emqx@10.1.0.1", StrategyConfig::K8s(config(&api.url())))
    };
    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.1"])).await;
    let mut running = Discovery::start(&config);
    running.finds(&["emqx@10.1.0.1"]).await;
    api.as_fake().knobs().silent.store(true, SeqCst);
    let error = timeout(Duration::from_secs(10), running.fails()).await.expect("noticed");
    assert!(error.to_string().ends_with("no answer within 3 s"), "{error}");
    // Not over its API, which answers nobody.
    let two = ready(&["10.1.0.1", "10.1.0.2"]);
    api.as_fake().put_slice("emqx-a", NAMESPACE, "emqx", two);
    api.as_fake().knobs().silent.store(false, SeqCst);
    let nodes = ["emqx@10.1.0.1", "emqx@10.1.0.2"];
    timeout(Duration::from_secs(10), running.finds(&nodes)).await.expect("caught up");
    running.handle.withdraw_and_stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_nodes_come_in_one_answer() {
    let api = Api::start().await;
    api.grant(SLICES).await;
    for slice in 0..5 {
        let addresses: Vec<_> = (0..100).map(|last| format!("10.1.{slice}.{last}")).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        api.put_slice(&format!("emqx-{slice}"), "emqx", "IPv4", ready(&addresses)).await;
    }
    assert_eq!(found(&mut strategy(&api)).await.len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_stand_in_where_the_role_grants_only_those() {
    let api = Api::start().await;
    api.grant(ENDPOINTS).await;
    let mut nodes = strategy(&api);
    assert!(found(&mut nodes).await.is_empty(), "no such service: nobody");
    quiet(&mut nodes).await;
    let subsets = json!([{
        "addresses": [{"ip": "10.1.0.1"}], "notReadyAddresses": [{"ip": "10.1.0.2"}],
        "ports": [{"port": 1883}],
    }]);
    api.put_endpoints("emqx", subsets).await;
    told(&mut nodes).await;
    assert_eq!(found(&mut nodes).await, ["emqx@10.1.0.1", "emqx@10.1.0.2"]);
    quiet(&mut nodes).await;
    api.put_endpoints("another", json!([{"addresses": [{"ip": "10.9.0.1"}]}])).await;
    assert!(timeout(Duration::from_millis(300), nodes.changed()).await.is_err());

    // A Role that comes to grant slices instead.
    api.grant(SLICES).await;
    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.3"])).await;
    let mut rounds = 0;
    while nodes.discover().await.map(|answer| answer.nodes.len()) != Ok(1) {
        rounds += 1;
        assert!(rounds < 3, "an error, and then the slices");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_right_is_named() {
    let api = Api::start().await;
    api.grant(&[]).await;
    let DiscoveryError::Denied(text) = error(&mut strategy(&api)).await else { panic!() };
    let begin = format!(
        "Kubernetes API at {}: 403 Forbidden: missing the rights to list and watch endpointslices \
         in group discovery.k8s.io, namespace {NAMESPACE}: ",
        api.url()
    );
    assert!(text.starts_with(&begin), "{text}");
    assert!(text.contains("User \"limited\" cannot list resource \"endpointslices\""), "{text}");
    assert!(!text.contains(LIMITED), "no token in a message");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_right_to_watch_rounds_go_on() {
    let api = Api::start().await;
    api.grant(&SLICES[..1]).await;
    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.1"])).await;
    let mut nodes = strategy(&api);
    assert_eq!(found(&mut nodes).await, ["emqx@10.1.0.1"]);
    let quiet = timeout(Duration::from_millis(700), nodes.changed()).await;
    assert!(quiet.is_err(), "a refused watch must not make rounds spin");
    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.2"])).await;
    let answer = nodes.discover().await.unwrap();
    assert_eq!(answer.nodes.iter().map(ToString::to_string).collect::<Vec<_>>(), ["emqx@10.1.0.2"]);
    assert_eq!(answer.valid_for, None, "asked again every interval");
    let [limits] = <[String; 1]>::try_from(answer.notices).unwrap();
    assert!(limits.starts_with("no right to watch endpointslices in group discovery.k8s.io"));
    assert!(limits.contains(NAMESPACE), "{limits}");
    // Doctor learns it at its first look.
    let look = strategy(&api).look().await.unwrap();
    assert_eq!(look.notices, [limits]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotated_token_is_read_again() {
    let api = Api::start().await;
    api.grant(SLICES).await;
    let token = api.account().join("token");
    std::fs::write(&token, "outdated").unwrap();
    let mut nodes = strategy(&api);
    let DiscoveryError::Denied(text) = error(&mut nodes).await else { panic!() };
    let begin = format!(
        "Kubernetes API at {}: 401 Unauthorized: it does not accept the token of {}: ",
        api.url(),
        token.display()
    );
    assert!(text.starts_with(&begin) && !text.contains("outdated"), "{text}");
    std::fs::write(&token, format!("{LIMITED}\n")).unwrap();
    assert!(found(&mut nodes).await.is_empty());
    std::fs::remove_file(&token).unwrap();
    let DiscoveryError::Denied(text) = error(&mut strategy(&api)).await else { panic!() };
    assert!(text.contains("401 Unauthorized: it does not accept no token"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_that_stops_is_an_error_and_then_none() {
    let mut api = Api::start().await;
    api.grant(SLICES).await;
    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.1"])).await;
    let mut nodes = strategy(&api);
    assert_eq!(found(&mut nodes).await.len(), 1);
    quiet(&mut nodes).await;
    api.kill().await;
    timeout(Duration::from_secs(1), nodes.changed())
        .await
        .expect("a broken watch asks for a round");
    let text = error(&mut nodes).await;
    assert_eq!(
        text,
        DiscoveryError::Unreachable(format!(
            "Kubernetes API at {}: cannot ask: Connection refused (os error 111)",
            api.url()
        ))
    );
    assert!(timeout(Duration::from_millis(300), nodes.changed()).await.is_err(), "no spinning");
    api.run_again().await;
    assert_eq!(found(&mut nodes).await, ["emqx@10.1.0.1"]);
    quiet(&mut nodes).await;
    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.1", "10.1.0.2"])).await;
    told(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_of_another_ca_is_not_trusted() {
    let api = Api::start().await;
    let other = tempfile::tempdir().unwrap();
    let others = crate::support::etcd::certificates(other.path(), &["127.0.0.1"]);
    std::fs::copy(&others.ca, api.account().join("ca.crt")).unwrap();
    let DiscoveryError::Unreachable(text) = error(&mut strategy(&api)).await else { panic!() };
    assert!(text.contains("issued by a CA that is not trusted here"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kubeconfig_serves_outside_a_cluster() {
    let api = Api::start().await;
    api.grant(SLICES).await;
    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.1"])).await;
    let nowhere = config("https://kubernetes.default.svc:443");
    let mut nodes = K8s::new(nowhere.clone(), &discovery(Some(api.kubeconfig())), false);
    assert_eq!(found(&mut nodes).await, ["emqx@10.1.0.1"]);

    let missing = api.dir().join("nothing");
    let mut nodes = K8s::new(nowhere, &discovery(Some(missing.clone())), false);
    let DiscoveryError::Denied(text) = error(&mut nodes).await else { panic!() };
    assert!(text.starts_with(&format!("kubeconfig {}: ", missing.display())), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_http_works_and_carries_no_token() {
    let api = Api::fake().await;
    let fake = Fake::start(None).await;
    fake.knobs().open.store(true, SeqCst);
    let mut nodes = K8s::with_account(config(&fake.url()), &discovery(None), false, api.account());
    assert!(found(&mut nodes).await.is_empty());
    assert!(!fake.knobs().saw_token.load(SeqCst));
    fake.knobs().open.store(false, SeqCst);
    let DiscoveryError::Denied(text) = error(&mut nodes).await else { panic!() };
    assert!(text.contains("no credentials, as the URL is plain http"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_api_server_is_said_so() {
    let api = Api::fake().await;
    let mut elsewhere = K8s::with_account(
        config(&format!("{}/x", api.url())),
        &discovery(None),
        false,
        api.account(),
    );
    let DiscoveryError::BadAnswer(text) = error(&mut elsewhere).await else { panic!() };
    assert!(text.contains("404 Not Found: it has neither endpointslices nor endpoints"), "{text}");

    api.grant(ENDPOINTS).await;
    api.as_fake().knobs().no_slices.store(true, SeqCst);
    api.put_endpoints("emqx", json!([{"addresses": [{"ip": "10.1.0.1"}]}])).await;
    assert_eq!(found(&mut strategy(&api)).await, ["emqx@10.1.0.1"], "an old one is fine");
    api.grant(&[]).await;
    let DiscoveryError::Denied(text) = error(&mut strategy(&api)).await else { panic!() };
    assert!(text.contains("get and watch endpoints in the core group"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn expired_versions_are_listed_anew() {
    for by_status in [false, true] {
        let api = Api::fake().await;
        api.grant(SLICES).await;
        let fake = api.as_fake();
        fake.knobs().gone_by_status.store(by_status, SeqCst);
        let mut nodes = strategy(&api);
        found(&mut nodes).await;
        fake.compact();
        timeout(Duration::from_secs(1), nodes.changed()).await.expect("410 asks for a round");
        found(&mut nodes).await;
        quiet(&mut nodes).await;
        api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.1"])).await;
        told(&mut nodes).await;
        assert_eq!(found(&mut nodes).await, ["emqx@10.1.0.1"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_resumes_from_its_latest_bookmark() {
    let api = Api::fake().await;
    api.grant(SLICES).await;
    let fake = api.as_fake();
    let mut nodes = strategy(&api);
    found(&mut nodes).await;
    quiet(&mut nodes).await;
    let lists = fake.knobs().lists.load(SeqCst);
    fake.other_news();
    fake.bookmark();
    quiet(&mut nodes).await;
    let bookmarked = fake.version();
    // Versions before the bookmark are gone; only it saves the watch from a 410.
    for _ in 0..3 {
        fake.end_watches();
        quiet(&mut nodes).await;
    }
    assert_eq!(fake.knobs().watched_from.load(SeqCst) as u64, bookmarked);
    assert!(fake.knobs().lists.load(SeqCst) <= lists, "a clean end lists nothing anew");
    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.1"])).await;
    told(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broken_watches_back_off() {
    let api = Api::fake().await;
    api.grant(SLICES).await;
    let fake = api.as_fake();
    let mut nodes = strategy(&api);
    found(&mut nodes).await;
    let until = Instant::now() + Duration::from_secs(3);
    let mut rounds = 0;
    while Instant::now() < until {
        fake.break_watches();
        if timeout(Duration::from_millis(20), nodes.changed()).await.is_ok() {
            found(&mut nodes).await;
            rounds += 1;
        }
    }
    assert!((2..=8).contains(&rounds), "{rounds} rounds in 3 s of broken watches");
    let watches = fake.knobs().watches.load(SeqCst);
    assert!(watches <= 10, "{watches} watches in 3 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_api_server_hangs_nothing() {
    let api = Api::fake().await;
    api.grant(SLICES).await;
    let mut nodes = strategy(&api);
    found(&mut nodes).await;
    api.as_fake().knobs().silent.store(true, SeqCst);
    let round = timeout(Duration::from_secs(9), nodes.discover()).await.expect("a round ends");
    let text = round.unwrap_err().to_string();
    assert!(text.ends_with("cannot ask: no answer within 3 s"), "{text}");
    api.as_fake().knobs().silent.store(false, SeqCst);
    found(&mut nodes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rounds_dropped_half_way_harm_nothing() {
    let api = Api::fake().await;
    api.grant(SLICES).await;
    let mut nodes = strategy(&api);
    for micros in (0..40).map(|step| step * 250) {
        let _ = timeout(Duration::from_micros(micros), nodes.discover()).await;
        let _ = timeout(Duration::from_micros(micros), nodes.changed()).await;
    }
    found(&mut nodes).await;
    quiet(&mut nodes).await;
    api.put_slice("emqx-a", "emqx", "IPv4", ready(&["10.1.0.1"])).await;
    told(&mut nodes).await;
}

mod agents {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use super::*;
    use crate::support::agent::{Agent, Ground, Spec};
    use crate::support::bind::Bind;
    use crate::support::soak::{outage, rounds};
    use crate::support::wait::{LONG, always, eventually, timed};

    /// Names by hostname, since no API server takes loopback addresses for endpoints:
    /// BIND tells where each agent lives.
    fn zone() -> Option<Bind> {
        let mut bind = Bind::prepare(Ipv4Addr::LOCALHOST.into())?;
        let records: Vec<_> =
            (1..=5).map(|k| format!("emqx-{k}.emqx.{NAMESPACE} A {}", address(k))).collect();
        bind.set(&records);
        bind.run();
        Some(bind)
    }

    fn spec(ground: &Arc<Ground>, k: u16, api: &Api, zone: &Bind) -> Spec {
        Spec::named(ground, k, &format!("emqx@emqx-{k}.emqx.{NAMESPACE}.muster.test"))
            .line(&format!("agent.mesh.bind = [\"{}\"]", address(k)))
            .line("cluster.discovery_strategy = K8s")
            .line(&format!(
                "cluster.K8s {{ service_name = emqx, address_type = hostname, app_name = emqx, \
                 suffix = \"muster.test\", namespace = {NAMESPACE} }}"
            ))
            .line(&format!(
                "agent.discovery {{ k8s.kubeconfig = {:?}, dns.nameservers = [\"{}\"] }}",
                api.kubeconfig().display().to_string(),
                zone.address()
            ))
    }

    fn address(k: u16) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 77, 0, 0)) + u32::from(k))
    }

    async fn publish(api: &Api, count: u16) {
        let endpoint = |k: u16| {
            json!({"addresses": [format!("10.1.0.{k}")], "hostname": format!("emqx-{k}"),
                "conditions": {"ready": true}})
        };
        let endpoints = (1..=count).map(endpoint).collect();
        api.put_slice("emqx-a", "emqx", "IPv4", endpoints).await;
    }

    fn formed(agents: &[Agent]) {
        let all: Vec<_> = agents.iter().map(|agent| agent.name().to_owned()).collect();
        for agent in agents {
            agent.wait_nodes(LONG, &all, &[]);
        }
        // Who founded before it had heard of the others takes the smaller id when it hears.
        let id = |agent: &Agent| agent.get("/api/v1/cluster")["id"].clone();
        eventually("one cluster", LONG, || {
            agents.iter().all(|agent| id(agent) == id(&agents[0])).then_some(())
        });
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn grow_and_outlive_the_api_server() {
        let Some(zone) = zone() else { return };
        let mut api = Api::start().await;
        api.grant(SLICES).await;
        let ground = Ground::new(4);
        publish(&api, 3).await;
        let mut agents: Vec<_> = (1..=3).map(|k| spec(&ground, k, &api, &zone).spawn()).collect();
        agents.iter_mut().for_each(Agent::wait_api);
        formed(&agents);

        // Running, and found by nobody until the API server names it.
        let mut late = spec(&ground, 4, &api, &zone)
            .line("agent.discovery.interval = 1h")
            .line("cluster.K8s.service_name = none")
            .spawn();
        late.wait_api();
        publish(&api, 4).await;
        agents.push(late);
        let ((), took) = timed(|| formed(&agents));
        assert!(took < Duration::from_millis(500), "{took:?} until the new member is everywhere");

        api.kill().await;
        let before: Vec<_> = agents.iter().map(Agent::standings).collect();
        let unchanged = || agents.iter().map(Agent::standings).eq(before.iter().cloned());
        always("no member event without the API server", outage(), unchanged);
        for agent in &agents[..3] {
            let discovery = &agent.get("/api/v1/cluster")["discovery"];
            assert!(discovery["last_error"].is_string(), "{discovery}");
        }
        api.run_again().await;
        always("nor at its return", Duration::from_secs(3), unchanged);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn five_at_once_are_one_cluster() {
        let Some(zone) = zone() else { return };
        let api = Api::start().await;
        api.grant(SLICES).await;
        publish(&api, 5).await;
        for _ in 0..rounds() {
            let ground = Ground::new(5);
            let mut agents: Vec<_> =
                (1..=5).map(|k| spec(&ground, k, &api, &zone).spawn()).collect();
            agents.iter_mut().for_each(Agent::wait_api);
            formed(&agents);
        }
    }
}
