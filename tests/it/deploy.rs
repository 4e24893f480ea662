//! The manifests of `deploy/k8s` are what Kubernetes takes, and grant no more than needed.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
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
    assert_eq!(Some(&subjects[0].name), account.metadata.name.as_ref());
    let pods: StatefulSet = object("statefulset.yaml", "StatefulSet");
    let pod = pods.spec.template.spec.unwrap();
    assert_eq!(pod.service_account_name, account.metadata.name);
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
    let text = &map.data.unwrap()["emqx.conf"];
    let dir = tempfile::tempdir().unwrap();
    let cookie = dir.path().join("cookie");
    std::fs::write(&cookie, "a-cookie-nobody-knows-3f9a").unwrap();
    let text = text.replace("/run/secrets/emqx/cookie", &cookie.display().to_string());
    let file = dir.path().join("emqx.conf");
    std::fs::write(&file, text).unwrap();
    for container in pods.template.spec.unwrap().containers {
        let env = container.env.unwrap();
        let node = env.iter().find(|env| env.name == "EMQX_NODE__NAME").unwrap();
        let node = node.value.as_ref().unwrap().replace("$(POD)", &format!("{name}-0"));
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_muster"))
            .args(["check", "-c", &file.display().to_string()])
            .env("EMQX_NODE__NAME", &node)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // What the strategy makes of the endpoint of that pod.
        assert_eq!(node, format!("emqx@{name}-0.{name}.default.svc.cluster.local"));
    }
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
