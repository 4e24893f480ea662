//! Configuration files as people have them: the shipped examples and the documents.

use std::path::{Path, PathBuf};

use muster::config::{self, AddressType, Config, Loaded, RecordType, StrategyConfig};

/// A node with an address and a cookie, for files that hold a `cluster` block alone.
const BASE: &str = "node { name = \"emqx@127.0.0.1\", cookie = \"a-cookie-for-tests-only\" }";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn load(files: &[PathBuf]) -> Loaded {
    config::load(files, []).unwrap_or_else(|errors| panic!("{files:?}:\n{errors}"))
}

/// Loads `text` over [`BASE`].
fn over_base(text: &str) -> Config {
    let dir = tempfile::tempdir().unwrap();
    let (base, over) = (dir.path().join("base.conf"), dir.path().join("over.conf"));
    std::fs::write(&base, BASE).unwrap();
    std::fs::write(&over, text).unwrap();
    load(&[base, over]).config
}

fn example(name: &str) -> Config {
    let etc = repository().join("etc");
    load(&[etc.join("emqx.conf"), etc.join("examples").join(name)]).config
}

#[test]
fn the_shipped_file_loads_without_warnings() {
    let Loaded { config, warnings, .. } = load(&[repository().join("etc/emqx.conf")]);
    assert_eq!(warnings, []);
    assert_eq!(config.cluster.strategy.name(), "manual");
}

#[test]
fn every_example_loads() {
    let expected = [
        ("manual.conf", "manual"),
        ("static.conf", "static"),
        ("mcast.conf", "mcast"),
        ("dns-a.conf", "dns"),
        ("dns-srv.conf", "dns"),
        ("etcd.conf", "etcd"),
        ("k8s.conf", "k8s"),
        ("singleton.conf", "singleton"),
    ];
    for (file, strategy) in expected {
        assert_eq!(example(file).cluster.strategy.name(), strategy, "{file}");
    }
    let files = std::fs::read_dir(repository().join("etc/examples")).unwrap().count();
    assert_eq!(files, expected.len(), "an example that no test loads");
}

#[test]
fn examples_mean_what_they_say() {
    let StrategyConfig::Static { seeds } = example("static.conf").cluster.strategy else {
        panic!()
    };
    assert_eq!(
        seeds.iter().map(|s| s.as_str()).collect::<Vec<_>>(),
        ["emqx@s1.emqx.io", "emqx@s2.emqx.io"]
    );
    let StrategyConfig::Dns(dns) = example("dns-srv.conf").cluster.strategy else { panic!() };
    assert_eq!((dns.name.as_str(), dns.record_type), ("localhost", RecordType::Srv));
    let StrategyConfig::Etcd(etcd) = example("etcd.conf").cluster.strategy else { panic!() };
    assert_eq!(etcd.servers, ["http://127.0.0.1:2379"]);
    assert_eq!((etcd.prefix.as_str(), etcd.node_ttl.as_secs()), ("emqxcl", 60));
    assert!(etcd.auth.is_none() && etcd.tls.is_none());
    let StrategyConfig::K8s(k8s) = example("k8s.conf").cluster.strategy else { panic!() };
    assert_eq!(k8s.apiserver, "http://10.110.111.204:8080");
    assert_eq!((k8s.service_name.as_str(), k8s.address_type), ("emqx", AddressType::Ip));
    assert_eq!((k8s.app_name.as_str(), k8s.suffix.as_str()), ("emqx", "pod.local"));
    assert_eq!(k8s.namespace, "default");
}

/// The page the product grew from; its five snippets, letter for letter.
#[test]
fn snippets_of_the_emqx_manual_load() {
    let page = std::fs::read_to_string(repository().join("tests/data/emqx-manual-snippets.md"));
    let page = page.unwrap();
    let strategies: Vec<&str> = snippets(&page, "bash")
        .iter()
        .map(|snippet| over_base(snippet).cluster.strategy.name())
        .collect();
    assert_eq!(strategies, ["static", "dns", "dns", "etcd", "k8s"]);
}

/// The fenced blocks of one language in a Markdown text.
fn snippets(page: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        if line.strip_prefix("```").is_some_and(|info| info == language) {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            found.push(block.join("\n") + "\n");
        }
    }
    found
}
