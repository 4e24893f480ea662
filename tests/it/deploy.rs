//! The manifests of `deploy/k8s` are what Kubernetes takes, and grant no more than needed.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role, RoleBinding};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::support::agent::{Ground, Spec};
use crate::support::kube::SLICES;
use crate::support::programs::skip_without;
use crate::support::wait::LONG;

/// The only object of its kind in a manifest.
fn object<T: DeserializeOwned>(file: &str, kind: &str) -> T {
    let path = format!("{}/deploy/k8s/{file}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
    let mut found = documents.into_iter().filter(|object| object["kind"] == kind);
    let object = found.next().unwrap_or_else(|| panic!("{file} has no {kind}"));
    assert!(found.next().is_none(), "{file} has two {kind}s");
    serde_json::from_value(object).unwrap()
}

#[test]
fn the_role_grants_what_the_strategy_asks_for_and_no_more() {
    let role: Role = object("rbac.yaml", "Role");
    let (verbs, resources): (Vec<_>, Vec<_>) = SLICES.iter().copied().unzip();
    assert_eq!(
        role.rules,
        Some(vec![PolicyRule {
            api_groups: Some(vec!["discovery.k8s.io".into()]),
            resources: Some(vec![resources[0].into()]),
            verbs: verbs.into_iter().map(str::to_owned).collect(),
            ..PolicyRule::default()
        }])
    );
    let binding: RoleBinding = object("rbac.yaml", "RoleBinding");
    assert_eq!(binding.role_ref.kind, "Role");
    assert_eq!(Some(binding.role_ref.name), role.metadata.name);
    let account: ServiceAccount = object("rbac.yaml", "ServiceAccount");
    let subjects = binding.subjects.unwrap();
    assert_eq!(subjects.len(), 1);
    // A service account would be one of a namespace that is not known here.
    assert_eq!((&*subjects[0].kind, &*subjects[0].name), ("Group", "system:serviceaccounts"));
    let pods: StatefulSet = object("statefulset.yaml", "StatefulSet");
    let pod = pods.spec.template.spec.unwrap();
    assert_eq!(pod.service_account_name, account.metadata.name);
}

/// `kubectl apply -n prod -f deploy/k8s` puts everything there, and nothing points elsewhere.
#[test]
fn no_manifest_is_of_one_namespace() {
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/k8s")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        for object in serde_saphyr::from_multiple::<Value>(&text).unwrap() {
            assert_eq!(object["metadata"]["namespace"], Value::Null, "{}", path.display());
        }
        let settings = text.lines().filter(|line| !line.trim_start().starts_with('#'));
        for line in settings {
            assert!(!line.contains(".default.svc."), "{}: {line}", path.display());
        }
    }
}

#[test]
fn the_pods_are_named_as_discovery_names_them() {
    let service: Service = object("service.yaml", "Service");
    let name = service.metadata.name.unwrap();
    let spec = service.spec.unwrap();
    assert_eq!(spec.cluster_ip.as_deref(), Some("None"));
    assert_eq!(spec.publish_not_ready_addresses, Some(true));
    let pods: StatefulSet = object("statefulset.yaml", "StatefulSet");
    let pods = pods.spec;
    assert_eq!(pods.service_name.as_deref(), Some(name.as_str()));
    assert_eq!(spec.selector, pods.selector.match_labels);

    let map: ConfigMap = object("config.yaml", "ConfigMap");
    let text = &map.data.unwrap()["muster.conf"];
    let dir = tempfile::tempdir().unwrap();
    let cookie = dir.path().join("cookie");
    std::fs::write(&cookie, "a-cookie-nobody-knows-3f9a").unwrap();
    let text = text.replace("/run/secrets/muster/cookie", &cookie.display().to_string());
    let file = dir.path().join("muster.conf");
    std::fs::write(&file, text).unwrap();
    let pod = pods.template.spec.unwrap();
    let containers: Vec<_> =
        pod.init_containers.unwrap_or_default().into_iter().chain(pod.containers).collect();
    assert!(containers.iter().any(|container| container.readiness_probe.is_some()));
    for container in containers {
        if let Some(probe) = &container.readiness_probe {
            // The port that the probe names is the one that the configuration opens.
            assert_eq!(probe.http_get.as_ref().unwrap().path.as_deref(), Some("/readyz"));
            let ports = container.ports.as_ref().unwrap();
            let health = ports.iter().find(|port| port.name.as_deref() == Some("health")).unwrap();
            let listen =
                muster::config::load(std::slice::from_ref(&file), []).unwrap().config.agent.health;
            let port = i32::from(listen.listen.unwrap().port());
            assert_eq!(port, health.container_port);
        }
        let env = container.env.unwrap();
        let node = env.iter().find(|env| env.name == "EMQX_NODE_NAME").unwrap();
        let filled = |text: &str| {
            text.replace("$(POD)", &format!("{name}-0")).replace("$(NAMESPACE)", "prod")
        };
        let node = filled(node.value.as_ref().unwrap());
        let namespace = env.iter().find(|env| env.name == "NAMESPACE").unwrap();
        let from = namespace.value_from.as_ref().unwrap().field_ref.as_ref().unwrap();
        assert_eq!(from.field_path, "metadata.namespace");
        let namespace = env.iter().find(|env| env.name == "EMQX_CLUSTER__K8S__NAMESPACE");
        let namespace =
            namespace.map_or("prod".to_owned(), |env| filled(env.value.as_ref().unwrap()));
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_muster"))
            .args(["check", "--print", "-c", &file.display().to_string()])
            .env("EMQX_NODE_NAME", &node)
            .env("EMQX_CLUSTER__K8S__NAMESPACE", &namespace)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = String::from_utf8_lossy(&output.stdout);
        let line = printed.lines().find(|line| line.contains("k8s.namespace"));
        assert!(line.is_some_and(|line| line.contains("prod")), "{printed}");
        // What the strategy makes of the endpoint of that pod.
        assert_eq!(node, format!("emqx@{name}-0.{name}.prod.svc.cluster.local"));
    }
}

/// What has to hold for the agents to make the brokers one cluster: they drive, the broker
/// joins nobody by itself, both have one name and one cookie, brokers reach each other, and a
/// broker that is started again knows its cluster.
#[test]
fn the_agents_make_the_brokers_one_cluster() {
    let map: ConfigMap = object("config.yaml", "ConfigMap");
    let text = map.data.unwrap()["muster.conf"].replace("file:///run/secrets/muster/cookie", "C");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("muster.conf");
    std::fs::write(&file, text).unwrap();
    let config = muster::config::load(&[file], []).unwrap().config;
    assert!(config.agent.broker.drive && config.agent.broker.kind.name() == "emqx");
    let pods: StatefulSet = object("statefulset.yaml", "StatefulSet");
    let pod = pods.spec.template.spec.unwrap();
    let (broker, agent) = (&pod.containers[0], &pod.init_containers.as_ref().unwrap()[0]);
    let value = |name: &str| {
        let env = broker.env.as_ref().unwrap().iter().find(|env| env.name == name).unwrap();
        env.clone()
    };
    assert_eq!(value("EMQX_CLUSTER__DISCOVERY_STRATEGY").value.as_deref(), Some("manual"));
    let name = agent.env.as_ref().unwrap().iter().find(|env| env.name == "EMQX_NODE_NAME");
    assert_eq!(value("EMQX_NODE_NAME").value, name.unwrap().value);
    let secret = value("EMQX_NODE__COOKIE").value_from.unwrap().secret_key_ref.unwrap();
    let volumes = pod.volumes.unwrap();
    let cookie = volumes.iter().find(|volume| volume.name == "cookie").unwrap();
    assert_eq!(cookie.secret.as_ref().unwrap().secret_name.as_ref(), Some(&secret.name));
    assert_eq!(secret.key, "cookie");
    let data = &broker.volume_mounts.as_ref().unwrap()[0];
    assert_eq!((&*data.name, &*data.mount_path), ("data", "/opt/emqx/data"));
    // Pods reach each other at every port, the brokers' cluster ports among them.
    let policy: NetworkPolicy = object("networkpolicy.yaml", "NetworkPolicy");
    let rules = policy.spec.unwrap().ingress.unwrap();
    assert!(rules.iter().any(|rule| rule.from.is_some() && rule.ports.is_none()));
}

#[test]
fn the_unit_is_what_systemd_takes() {
    let path = format!("{}/systemd/muster.service", env!("CARGO_MANIFEST_DIR"));
    let unit = std::fs::read_to_string(path).unwrap();
    for line in ["Type=notify", "WatchdogSec=20s", "RestartPreventExitStatus=78"] {
        assert!(unit.lines().any(|found| found == line), "no {line}");
    }
    if skip_without(&["systemd-analyze"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("muster.service");
    std::fs::write(&file, unit.replace("/usr/bin/muster", env!("CARGO_BIN_EXE_muster"))).unwrap();
    let output = std::process::Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_image_is_healthy_while_its_node_is_ready() {
    let path = format!("{}/Dockerfile", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).unwrap();
    let (_, check) = text.split_once("HEALTHCHECK").unwrap();
    let command = check.lines().find_map(|line| line.trim().strip_prefix("CMD ")).unwrap();
    let command: Vec<String> = serde_json::from_str(command).unwrap();
    assert_eq!(command[0], "muster");
    let ground = Ground::new(1);
    let agent = Spec::new(&ground, 1).seeds::<&str>(&[]).start();
    agent.wait_for("itself joined", LONG, |view| view["state"] == "joined");
    let own = agent.config_path().display().to_string();
    let arguments = command[1..].iter().map(|word| word.replace("/etc/emqx/emqx.conf", &own));
    let arguments: Vec<_> = arguments.collect();
    let code = || {
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_muster"));
        check.args(&arguments).output().unwrap().status.code()
    };
    assert_eq!(code(), Some(0));
    assert_eq!(agent.post("/api/v1/cluster/leave", &serde_json::json!({})).status, 200);
    assert_eq!(code(), Some(1), "one that left is a member of nothing");
}
