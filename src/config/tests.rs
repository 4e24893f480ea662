//! Configuration as a whole: files and environment in, [`Config`] out.

use std::collections::HashMap;
use std::io;

use super::*;

/// Files in memory.
pub(super) struct Memory(pub(super) HashMap<PathBuf, String>);

impl Memory {
    pub(super) fn new(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).into(), (*text).to_owned())).collect())
    }
}

impl Files for Memory {
    fn read(&self, path: &Path) -> io::Result<String> {
        self.0.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

const BASE: &str = "node { name = \"emqx@127.0.0.1\", cookie = aaaaaaaaaaaaaaaaaaaaaaaa }\n";

fn layers(files: &[(&str, &str)], env: &[(&str, &str)]) -> Result<Loaded, ConfigErrors> {
    let memory = Memory::new(files);
    let layers: Vec<PathBuf> = files
        .iter()
        .map(|(path, _)| PathBuf::from(path))
        .filter(|p| !p.starts_with("inc"))
        .collect();
    load_with(&layers, env.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())), &memory)
}

fn text(text: &str) -> Config {
    layers(&[("base.conf", BASE), ("emqx.conf", text)], &[])
        .unwrap_or_else(|e| panic!("{e}"))
        .config
}

fn with_env(env: &[(&str, &str)]) -> Loaded {
    layers(&[("base.conf", BASE)], env).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn defaults() {
    let Loaded { config, warnings, .. } = with_env(&[]);
    assert_eq!(warnings, []);
    assert_eq!(config.node.name.as_str(), "emqx@127.0.0.1");
    assert_eq!(config.node.data_dir, Path::new("data"));
    assert_eq!(config.node.ssl_dist_optfile, Path::new("etc/ssl_dist.conf"));
    assert_eq!(config.cluster.name, "emqxcl");
    assert_eq!(config.cluster.autoclean.map(|d| d.as_secs()), Some(86_400));
    assert!(config.cluster.autoheal);
    assert!(matches!(config.cluster.strategy, StrategyConfig::Manual));
    assert_eq!(config.cluster.proto_dist, ProtoDist::InetTcp);
    assert_eq!(config.agent.mesh.base_port, 6370);
    assert_eq!(config.agent.mesh.max_frame, 1 << 20);
    assert_eq!(config.agent.mesh.handshake_timeout.as_secs(), 7);
    assert_eq!(config.agent.api.listen, ApiListen::Tcp("127.0.0.1:7370".parse().unwrap()));
    assert_eq!(config.agent.discovery.interval.as_secs(), 5);
    assert_eq!(config.mesh_bind(), ["127.0.0.1".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn offsets_move_both_ports() {
    let config = text("node.name = emqx12@s1.emqx.io");
    assert_eq!(config.mesh_port(), 6382);
    assert_eq!(config.agent.api.listen, ApiListen::Tcp("127.0.0.1:7382".parse().unwrap()));
    assert_eq!(config.mesh_bind(), ["0.0.0.0".parse::<std::net::IpAddr>().unwrap()]);
}

#[test]
fn the_dialect() {
    let config = text(
        r#"
        node.name = emqx@s1.emqx.io # comment
        me { seed = emqx@s3.emqx.io }
        cluster {
            discovery_strategy = STATIC
            static { seeds = [emqx@s1.emqx.io, emqx@s2.emqx.io] }
            static.seeds += ${me.seed} // comment
            description = """~
                two
                  lines
            ~"""
            core_nodes = "emqx@c1.io, emqx@c2.io"
        }
        listeners.tcp.default { bind = "0.0.0.0:1883", pattern = "^\d+$" }
        "#,
    );
    let StrategyConfig::Static { seeds } = &config.cluster.strategy else { panic!() };
    let seeds: Vec<&str> = seeds.iter().map(|seed| seed.as_str()).collect();
    assert_eq!(seeds, ["emqx@s1.emqx.io", "emqx@s2.emqx.io", "emqx@s3.emqx.io"]);
    assert_eq!(config.cluster.description, "two\n  lines\n");
    assert_eq!(config.cluster.core_nodes.len(), 2);
}

#[test]
fn later_layers_win_and_blocks_merge() {
    let files = [
        (
            "a.conf",
            "cluster { discovery_strategy = k8s, k8s { service_name = one, namespace = first } }",
        ),
        ("b.conf", "{ cluster { K8s { service_name = two } } }"),
        (
            "c.conf",
            "node.name = \"emqx@127.0.0.1\"\nnode.cookie = ${secret}\nsecret = cccccccccccccccccc",
        ),
        ("d.conf", "secret = dddddddddddddddddd, cluster.K8S.app_name = null"),
    ];
    let loaded = layers(&files, &[]).unwrap();
    let StrategyConfig::K8s(k8s) = &loaded.config.cluster.strategy else { panic!() };
    assert_eq!((k8s.service_name.as_str(), k8s.namespace.as_str()), ("two", "first"));
    assert_eq!(k8s.app_name, "emqx");
    assert_eq!(loaded.config.node.cookies.current()[0].expose(), "dddddddddddddddddd");
    let origin = |path: &str| {
        loaded.effective.iter().find(|s| s.path == path).map(|s| s.origin.to_string()).unwrap()
    };
    assert_eq!(origin("cluster.k8s.service_name"), "b.conf:1:34");
    assert_eq!(origin("cluster.k8s.namespace"), "a.conf:1:75");
    assert_eq!(origin("node.cookie"), "c.conf:2:15");
    assert_eq!(origin("cluster.name"), "default");
}

#[test]
fn includes_stand_where_they_are_written() {
    let files = [
        (
            "emqx.conf",
            "node.cookie = aaaaaaaaaaaaaaaaaaaa\ncluster { include \"inc/static.conf\", name = here }\ninclude \"inc/none.conf\"\n",
        ),
        (
            "inc/static.conf",
            "{\n  discovery_strategy = static\n  include required(file(\"seeds.conf\"))\n}\n",
        ),
        ("inc/seeds.conf", "static.seeds = [a@x.io, b@y]"),
    ];
    let loaded = layers(&files, &[]).unwrap();
    let StrategyConfig::Static { seeds } = &loaded.config.cluster.strategy else { panic!() };
    assert_eq!(seeds.len(), 2);
    assert_eq!(loaded.config.cluster.name, "here");
    assert_eq!(
        loaded.warnings[0].to_string(),
        "emqx.conf:3:1: cannot include inc/none.conf: no such file\n  \
         hint: write include required(\"…\") to make this an error"
    );
    let bad = [files[0], files[1], ("inc/seeds.conf", "static.seeds =\n [a@x.io, b]")];
    assert!(layers(&bad, &[]).unwrap_err().to_string().starts_with("inc/seeds.conf:2:11: "));
    let circle = [("emqx.conf", "include \"inc/a\""), ("inc/a", "include \"a\"")];
    let message = layers(&circle, &[]).unwrap_err().to_string();
    assert!(message.contains("inc/a includes itself"), "{message}");
}

#[test]
fn the_environment_wins() {
    let loaded = with_env(&[
        ("EMQX_NODE__NAME", "emqx@127.0.0.2"),
        ("EMQX_NODE_COOKIE", "old-name#with-hash"),
        ("EMQX_CLUSTER__DISCOVERY_STRATEGY", "etcd"),
        ("EMQX_CLUSTER__STATIC__SEEDS", "a@x.io,b@y.io"),
        ("EMQX_CLUSTER__CORE_NODES", "[a@x.io, \"b@y.io\"]"),
        ("EMQX_CLUSTER__ETCD__SERVER", "http://a:1,http://b:2"),
        ("EMQX_CLUSTER__ETCD", "{ node_ttl = 30s }"),
        ("EMQX_CLUSTER__LINKS", "[]"),
        ("EMQX_LISTENERS__TCP__DEFAULT__BIND", "1883"),
        ("MUSTER_API__LISTEN", "127.0.0.1:9000"),
        ("MUSTER_URL", "http://127.0.0.1:9000"),
        ("MUSTER_PORT_7370_TCP", "tcp://10.0.0.1:7370"),
    ]);
    assert_eq!(loaded.warnings, []);
    let config = &loaded.config;
    assert_eq!(config.node.name.as_str(), "emqx@127.0.0.2");
    assert_eq!(config.node.cookies.current()[0].expose(), "old-name#with-hash");
    assert_eq!(config.cluster.core_nodes.len(), 2);
    let StrategyConfig::Etcd(etcd) = &config.cluster.strategy else { panic!() };
    assert_eq!(etcd.servers, ["http://a:1", "http://b:2"]);
    assert_eq!(etcd.node_ttl.as_secs(), 30);
    assert_eq!(config.agent.api.listen, ApiListen::Tcp("127.0.0.1:9000".parse().unwrap()));
}

#[test]
fn unknown_names_in_the_environment_are_warnings() {
    let loaded = with_env(&[
        ("EMQX_CLUSTER__STATIC__SEED", "a@x.io"),
        ("MUSTER_API_LISTEN", "127.0.0.1:9000"),
    ]);
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "environment EMQX_CLUSTER__STATIC__SEED: no key has this name, so it changes nothing\n  \
             hint: the nearest known name is EMQX_CLUSTER__STATIC__SEEDS",
            "environment MUSTER_API_LISTEN: no key has this name, so it changes nothing\n  \
             hint: the nearest known name is MUSTER_API__LISTEN",
        ]
    );
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let files = [
        (
            "emqx.conf",
            "node.cookie = [\"file:///inc/cookie\", another-long-cookie-here]\nagent.api.token = hush-hush-hush",
        ),
        ("/inc/cookie", "from-a-file-of-secrets\n"),
    ];
    let memory = Memory::new(&files);
    let loaded = load_with(&["emqx.conf".into()], [], &memory).unwrap();
    let cookies = loaded.config.node.cookies.current();
    let cookies: Vec<&str> = cookies.iter().map(|c| c.expose()).collect();
    assert_eq!(cookies, ["from-a-file-of-secrets", "another-long-cookie-here"]);
    let shown = explain(&loaded.effective);
    for secret in ["from-a-file", "another-long", "hush"] {
        assert!(!shown.contains(secret) && !format!("{loaded:?}").contains(secret), "{shown}");
    }
    assert!(shown.contains("node.cookie = [\"file:///inc/cookie\", \"******\"]"), "{shown}");
}

#[test]
fn a_secret_that_another_key_holds_is_not_shown_there() {
    let secret = "hush-hush-hush-hush";
    let node = format!("node.cookie = {secret}, cluster.description = ${{node.cookie}}");
    let shown = explain(&layers(&[("e", &node)], &[]).unwrap().effective);
    assert!(
        shown.contains("cluster.description = \"******\"") && !shown.contains(secret),
        "{shown}"
    );
    for broken in [
        "cluster.discovery_strategy = ${node.cookie}",
        "node.cookie \"hush-hush-hush-hush\"",
        "node { cookie hush-hush-hush-hush }",
        "node.cookie = [\n hush-hush-hush-hush+hush-hush-hush-hush+\n]",
        "node.cookie = [\n hush-hush-hush-hush*\n]",
        "node.cookie = \"hush-hush-hush-hush",
        "node.cookie = \"hush-hush-hush-hush\\u12\"",
        "node.cookie = \"hush-hush-hush-hush with a blank\"",
        "node.cookie { a = hush-hush-hush-hush }",
        "cluster.etcd.server = \"http://u:hush-hush-hush-hush@h\"",
    ] {
        let node = format!("node.cookie = {secret}\n{broken}");
        let message = layers(&[("e", &node)], &[]).unwrap_err().to_string();
        assert!(!message.contains(secret), "{broken}: {message}");
    }
}

#[test]
fn what_check_prints_loads_again() {
    for strategy in ["static", "mcast", "dns", "k8s", "singleton", "manual"] {
        let text = format!("cluster.discovery_strategy = {strategy}");
        let first = layers(&[("base.conf", BASE), ("emqx.conf", &text)], &[]).unwrap();
        let shown = explain(&first.effective);
        let again =
            layers(&[("shown.conf", &shown)], &[]).unwrap_or_else(|e| panic!("{shown}\n{e}"));
        let values = |loaded: &Loaded| {
            loaded.effective.iter().map(|s| (s.path.clone(), s.value.clone())).collect::<Vec<_>>()
        };
        assert_eq!(values(&first), values(&again), "{strategy}");
    }
}

#[test]
fn a_text_that_says_null_is_shown_in_quotes() {
    let loaded = layers(&[("base.conf", BASE), ("e", "cluster.name = \"null\"")], &[]).unwrap();
    let shown = explain(&loaded.effective);
    let again = layers(&[("base.conf", BASE), ("e", &shown)], &[]).unwrap();
    assert_eq!(again.config.cluster.name, "null");
}

#[test]
fn paths_are_expanded() {
    let text = "node.ssl_dist_optfile = \"${EMQX_ETC_DIR}/a.conf\", node.data_dir = \"${NOPE}/d\"";
    let files = [("base.conf", BASE), ("conf/emqx.conf", text)];
    let set = layers(&files, &[("EMQX_ETC_DIR", "/etc/emqx"), ("NOPE", "/yes")]).unwrap();
    assert_eq!(set.config.node.ssl_dist_optfile, Path::new("/etc/emqx/a.conf"));
    assert_eq!(set.config.node.data_dir, Path::new("/yes/d"));
    let unset = layers(&files, &[]).unwrap();
    assert_eq!(unset.config.node.ssl_dist_optfile, Path::new("conf/a.conf"));
    assert_eq!(unset.config.node.data_dir, Path::new("${NOPE}/d"));
    assert!(unset.warnings[0].to_string().contains("`${NOPE}` is not set"));
}

#[test]
fn keys_of_the_broker_pass() {
    let text = r"
        node { process_limit = 2097152, db_backend = rlog, new_in_next_release = 1 }
        cluster { links = [{ name = a, server = b }], prevent_overlapping_partitions = true }
        cluster.etcd.ssl_options { enable = false, versions = [tlsv1.3] }
        dashboard.listeners.http.bind = 18083
    ";
    let loaded = layers(&[("base.conf", BASE), ("emqx.conf", text)], &[]).unwrap();
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with("emqx.conf:2:60: node.new_in_next_release: unknown key"));
}

#[test]
fn tls_to_etcd() {
    let etcd = |text: &str| {
        let text = format!("cluster.discovery_strategy = etcd\ncluster.etcd {text}");
        let StrategyConfig::Etcd(etcd) = self::text(&text).cluster.strategy else { panic!() };
        etcd
    };
    assert!(etcd("{ server = \"http://a\" }").tls.is_none());
    assert!(etcd("{ server = \"https://a\" }").tls.is_some_and(|tls| tls.verify));
    let old = etcd(
        "{ server = \"http://a:1\", ssl { enable = true, cacertfile = \"ca.pem\", verify = verify_none } }",
    );
    assert_eq!(old.servers, ["https://a:1"]);
    assert!(old.tls.is_some_and(|tls| !tls.verify && tls.cacertfile == Some("ca.pem".into())));
    assert!(etcd("{ server = \"http://a\", ssl_options.enable = false }").tls.is_none());
    let text = "cluster.etcd { server = \"http://a\", ssl_options.cacertfile = \"ca.pem\" }";
    let text = format!("cluster.discovery_strategy = etcd\n{text}");
    let loaded = layers(&[("base.conf", BASE), ("e", &text)], &[]).unwrap();
    let StrategyConfig::Etcd(plain) = loaded.config.cluster.strategy else { panic!() };
    assert_eq!((plain.tls.is_none(), plain.servers), (true, vec!["http://a".to_owned()]));
    assert!(loaded.warnings[0].to_string().contains("ssl_options are not used"));
    let auth = etcd("{ server = [\"http://a\"], username = root, password = p }").auth.unwrap();
    assert_eq!((auth.0.as_str(), auth.1.expose()), ("root", "p"));
}

#[test]
fn a_loopback_name_binds_loopback_alone() {
    let bind = |text: &str| {
        self::text(text).mesh_bind().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(bind("node.name = \"emqx@127.0.0.9\""), ["127.0.0.9"]);
    assert_eq!(bind("node.name = \"emqx@::1\", cluster.proto_dist = inet6_tcp"), ["::1"]);
    assert_eq!(bind("node.name = \"emqx@a.io\", cluster.proto_dist = inet6_tls"), ["::"]);
    assert_eq!(bind("agent.mesh.bind = \"10.0.0.1, 10.0.0.2\""), ["10.0.0.1", "10.0.0.2"]);
}

#[test]
fn where_clients_reach_the_api() {
    let api = |text: &str| self::text(text).api_address();
    let tcp = |text: &str| ApiListen::Tcp(text.parse().unwrap());
    assert_eq!(api("agent.api { listen = \"0.0.0.0:80\", token = t }"), tcp("127.0.0.1:80"));
    assert_eq!(api("agent.api { listen = \"[::]:80\", token = t }"), tcp("[::1]:80"));
    assert_eq!(
        api("agent.api.listen = \"unix:/run/m.sock\""),
        ApiListen::Unix("/run/m.sock".into())
    );
}

#[test]
fn units_are_those_of_emqx() {
    let millis = |text: &str| units::duration(text).map(|d| d.as_millis());
    for (text, expected) in [
        ("1m", Some(60_000)),
        ("1h30m", Some(5_400_000)),
        ("500ms", Some(500)),
        ("1500", Some(1500)),
        ("1.5S", Some(1500)),
        ("10 seconds", Some(10_000)),
        ("2d 1h", Some(176_400_000)),
        ("2f", Some(2_419_200_000)),
        ("5m30", None),
        ("5m 30", None),
        ("5 5", None),
        ("", None),
        ("h", None),
        ("-1s", None),
        ("1.s", None),
        ("99999999999d", None),
    ] {
        assert_eq!(millis(text), expected, "{text}");
    }
    for (text, expected) in [
        ("16KB", Some(16 << 10)),
        ("1mb", Some(1 << 20)),
        ("512", Some(512)),
        ("1.5k", Some(1536)),
        ("1XB", None),
        ("999999999999GB", None),
    ] {
        assert_eq!(units::size(text), expected, "{text}");
    }
}

#[test]
fn nesting_is_bounded() {
    for (open, count) in [
        ("[", 100_000),
        ("{", 100_000),
        ("a{", 100_000),
        ("a.", 100_000),
        ("a=[{", 50_000),
        ("a=${", 5_000),
    ] {
        for prefix in ["", "node.cookie = "] {
            let text = format!("{prefix}{}", open.repeat(count));
            assert!(layers(&[("emqx.conf", &text)], &[]).is_err(), "{prefix}{open}");
        }
    }
    let links: String = (0..100_000).map(|n| format!("a{n} = ${{a{}}}\n", n + 1)).collect();
    let message = layers(&[("emqx.conf", &links)], &[]).unwrap_err().to_string();
    assert!(message.contains("more than 1024 substitutions"), "{message}");
}

#[test]
fn every_key_is_read() {
    let seen: Vec<String> = ["static", "mcast", "dns", "etcd", "k8s"]
        .iter()
        .flat_map(|strategy| {
            let text = format!(
                "cluster {{ discovery_strategy = {strategy}, etcd {{ server = \"https://a\", username = a, password = b, ssl_options {{ enable = true, cacertfile = a, certfile = b, keyfile = c, password = d, server_name_indication = e }} }} }}
                agent {{
                    api {{ token = t, tls {{ certfile = c, keyfile = k, cacertfile = a }} }}
                    discovery {{ dns.nameservers = \"1.1.1.1\", k8s.kubeconfig = k }}
                    mesh.accept_cookies = [bbbbbbbbbbbbbbbbbbbb]
                    health.listen = \"127.0.0.1:1\", dns.listen = \"127.0.0.1:53\", tags.a = b
                    broker {{ kind = emqx }}
                    render = [{{ source = s, target = t, check = [c, \"{{file}}\"], command = [c] }}]
                    hooks = [{{ on = ready, command = [c] }}, {{ on = ready, url = \"http://h\" }}]
                }}"
            );
            layers(&[("base.conf", BASE), ("emqx.conf", &text)], &[]).unwrap().effective
        })
        .flat_map(|setting| {
            // Those of a list of blocks stand in one line.
            let fields: Vec<String> = match setting.value.strip_prefix("[{") {
                Some(fields) => fields
                    .split(&['{', '}', ','][..])
                    .filter_map(|field| field.split_once(" = "))
                    .map(|(name, _)| format!("{}[].{}", setting.path, name.trim()))
                    .collect(),
                None => Vec::new(),
            };
            fields.into_iter().chain([setting.path])
        })
        .chain(["listeners.tcp.default.bind".to_owned()])
        .collect();
    for key in KEYS {
        assert!(
            seen.iter().any(|path| path == key.path),
            "{} is in the table and never read",
            key.path
        );
    }
}

mod dialect;
mod environment;
mod follow;
mod generated;
mod schema;

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// Texts made of what the dialect knows, so that most of them get far.
    fn tokens() -> impl Strategy<Value = String> {
        let token = prop_oneof![
            prop::sample::select(vec![
                "{",
                "}",
                "[",
                "]",
                "=",
                ":",
                "+=",
                ",",
                "\n",
                " ",
                ".",
                "\"",
                "\"\"\"",
                "\"\"\"~\n",
                "~\"\"\"",
                "${",
                "${?",
                "}",
                "@",
                "#",
                "//",
                "\\",
                "\\u",
                "include ",
                "include \"b\"",
                "node",
                "cluster",
                "agent",
                "K8s",
                "name",
                "static",
                "seeds",
                "a@b.c",
                "1m",
                "null",
                "${cluster.name}",
                "｛",
                "é",
                "\u{feff}",
                "\r\n",
                "'",
                "*",
                "a",
                "b = 1",
            ])
            .prop_map(str::to_owned),
            "[a-z0-9]{1,3}",
        ];
        prop::collection::vec(token, 0..60).prop_map(|tokens| tokens.concat())
    }

    fn never_panics(text: &str) {
        let files = Memory::new(&[("b", text)]);
        let _ = load_with(&["b".into()], [("EMQX_CLUSTER".to_owned(), text.to_owned())], &files);
        let files = Memory::new(&[("emqx.conf", text), ("b", "c = 1")]);
        match load_with(
            &["emqx.conf".into()],
            [("EMQX_CLUSTER__NAME".to_owned(), text.to_owned())],
            &files,
        ) {
            Ok(loaded) => assert!(!explain(&loaded.effective).is_empty()),
            Err(errors) => assert!(!errors.errors.is_empty() && !errors.to_string().is_empty()),
        }
    }

    proptest! {
        #[test]
        fn any_text(text in "\\PC{0,200}") {
            never_panics(&text);
        }

        #[test]
        fn near_configuration(text in tokens()) {
            never_panics(&text);
        }

        #[test]
        fn any_duration_and_size(text in "[0-9]{0,25}(\\.[0-9]{0,12})?[a-z ]{0,4}[0-9]{0,3}[a-z]{0,2}") {
            let _ = (units::duration(&text), units::size(&text));
        }

        #[test]
        fn positions_survive_the_dialect(blanks in 0usize..20, lines in 0usize..5, at in "[a-z]{1,8}@[a-z]{1,8}") {
            let text = format!(
                "x = [{at}, {at}]\n{}{}cluster {{ description = {at}, nmae = \"x\" }}",
                "\n".repeat(lines), " ".repeat(blanks)
            );
            let errors = layers(&[("base.conf", BASE), ("e", &text)], &[]).unwrap_err().errors;
            let column = text.lines().last().and_then(|l| l.find("nmae")).map(|n| n + 1);
            let expected = format!("e:{}:{}", lines + 2, column.unwrap_or_default());
            prop_assert_eq!(errors[0].origin.to_string(), expected);
        }
    }
}
