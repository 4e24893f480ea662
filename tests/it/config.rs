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

/// One case of `tests/data/broken.txt`.
struct Broken {
    title: String,
    alone: bool,
    env: Vec<(String, String)>,
    text: String,
    expected: String,
}

fn broken() -> Vec<Broken> {
    let all = std::fs::read_to_string(repository().join("tests/data/broken.txt")).unwrap();
    let mut cases = Vec::new();
    for case in all.split("\n=== ").skip(1) {
        let (title, rest) = case.split_once('\n').unwrap();
        let (input, expected) = rest.split_once("---").unwrap();
        let (settings, text): (Vec<&str>, Vec<&str>) =
            input.lines().partition(|line| line.starts_with("$ "));
        let env = settings.iter().filter_map(|line| {
            let (name, value) = line["$ ".len()..].split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        cases.push(Broken {
            title: title.to_owned(),
            alone: settings.contains(&"$ alone"),
            env: env.collect(),
            text: text.join("\n"),
            expected: expected.trim().to_owned(),
        });
    }
    cases
}

/// Files in memory, so that messages name them shortly.
struct Memory(Vec<(&'static str, String)>);

impl config::Files for Memory {
    fn read(&self, path: &Path) -> std::io::Result<String> {
        let file = self.0.iter().find(|(name, _)| Path::new(name) == path);
        file.map(|(_, text)| text.clone()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
    }
}

#[test]
fn broken_configurations_say_exactly_what_is_wrong() {
    let cases = broken();
    assert!(cases.len() >= 40, "{} cases", cases.len());
    let mut wrong = String::new();
    for case in cases {
        let base = if case.alone { "" } else { "node.cookie = \"long-enough-for-a-test\"" };
        let files = Memory(vec![("base.conf", base.to_owned()), ("emqx.conf", case.text)]);
        let layers = ["base.conf".into(), "emqx.conf".into()];
        let message = match config::load_with(&layers, case.env, &files) {
            Ok(_) => "(it loads)".to_owned(),
            Err(errors) => errors.to_string(),
        };
        if message != case.expected {
            wrong += &format!("=== {}\n{message}\n\n", case.title);
        }
    }
    assert!(wrong.is_empty(), "these messages are not as expected:\n{wrong}");
}

fn reference() -> String {
    std::fs::read_to_string(repository().join("docs/configuration.md")).unwrap()
}

#[test]
fn the_reference_lists_every_key_as_it_is() {
    use muster::config::{KEYS, Unset};
    let page = reference();
    for key in KEYS {
        let default = match key.unset {
            Unset::Text("") => "`\"\"`".to_owned(),
            Unset::Text(text) => format!("`{text}`"),
            Unset::List(items) => format!("`[{}]`", items.join(", ")),
            Unset::Nothing(words) => words.to_owned(),
            Unset::Required => "required".to_owned(),
        };
        let row = format!("| `{}` | {default} | {} | `{}` |", key.path, key.allowed, key.env());
        assert!(page.contains(&row), "docs/configuration.md lacks\n{row}");
    }
    // The tables of keys have four columns, others that name some have three.
    let rows = page
        .lines()
        .filter(|l| l.matches(" | ").count() == 3)
        .filter(|l| {
            ["node", "cluster", "agent", "listeners"]
                .iter()
                .any(|root| l.starts_with(&format!("| `{root}.")))
        })
        .count();
    assert_eq!(rows, KEYS.len(), "docs/configuration.md has rows for keys that are gone");
}

#[test]
fn snippets_of_the_reference_load() {
    let page = reference();
    let snippets = snippets(&page, "hocon");
    assert_eq!(snippets.len(), 7);
    let [least, language, ..] = snippets.as_slice() else { panic!() };
    assert_eq!(over_base(least).node.cookies.current()[0].expose(), "0f9a3c3e5b0c4c8a9d1e");
    let config = over_base(language);
    let StrategyConfig::Static { seeds } = &config.cluster.strategy else { panic!() };
    assert_eq!(seeds.len(), 3);
    assert_eq!(config.cluster.description, "Factory 1\n");
    assert_eq!(config.agent.api.listen, config::ApiListen::Tcp(([127, 0, 0, 1], 7390).into()));
    for snippet in &snippets {
        over_base(snippet);
    }
}

#[test]
fn errors_have_a_form_for_programs() {
    let files = Memory(vec![("emqx.conf", "node { cookie = \"a b\", name = x }".to_owned())]);
    let errors = config::load_with(&["emqx.conf".into()], [], &files).unwrap_err();
    let json = serde_json::to_value(&errors).unwrap();
    assert_eq!(json["errors"][0]["key"], "node.cookie");
    assert_eq!(json["errors"][0]["line"], 1);
    assert_eq!(json["errors"][1]["file"], "emqx.conf");
    assert_eq!(json["errors"][1]["column"], 31);
    assert!(!json.to_string().contains("a b"));
}

/// The loader of real files: what the operating system refuses is said plainly.
#[test]
fn files_that_cannot_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path| config::load(&[path.to_owned()], []).unwrap_err().to_string();
    let missing = dir.path().join("none.conf");
    let expected = format!("{}: cannot read this file: no such file", missing.display());
    assert_eq!(refused(&missing), expected);
    let expected = format!("{}: cannot read this file: it is a directory", dir.path().display());
    assert_eq!(refused(dir.path()), expected);
    let binary = dir.path().join("binary");
    std::fs::write(&binary, [0xff, 0xfe, 0]).unwrap();
    assert!(refused(&binary).contains("binary:1:1: found the byte 0xff, which is not UTF-8 text"));
    std::fs::write(&binary, b"cluster.name = a\n# caf\xe9 in Latin-1\n").unwrap();
    let message = refused(&binary);
    assert!(message.contains("binary:2:6: found the byte 0xe9"), "{message}");
    let long = dir.path().join("long");
    std::fs::write(&long, vec![b'#'; (4 << 20) + 1]).unwrap();
    assert!(refused(&long).ends_with("longer than 4194304 bytes"));
}
