//! Variables as EMQX's start script, container and schema read them.

use super::*;

fn seeds(loaded: Loaded) -> Vec<String> {
    let StrategyConfig::Static { seeds } = loaded.config.cluster.strategy else { panic!() };
    seeds.iter().map(ToString::to_string).collect()
}

#[test]
fn the_start_scripts_names_win_and_empty_ones_are_unset() {
    let name = |env: &[(&str, &str)]| with_env(env).config.node.name.to_string();
    assert_eq!(name(&[("EMQX_NODE_NAME", "a@h.io"), ("EMQX_NODE__NAME", "b@h.io")]), "a@h.io");
    assert_eq!(name(&[("EMQX_NODE_NAME", ""), ("EMQX_NODE__NAME", "b@h.io")]), "b@h.io");
    assert_eq!(name(&[("EMQX_NODE_NAME", " ")]), "emqx@127.0.0.1");
    let cookie =
        |env: &[(&str, &str)]| with_env(env).config.node.cookies.current()[0].expose().to_owned();
    let (long, longer) = ("a-long-cookie-for-tests", "another-long-cookie-for-tests");
    assert_eq!(cookie(&[("EMQX_NODE_COOKIE", long), ("EMQX_NODE__COOKIE", longer)]), long);
    assert_eq!(cookie(&[("EMQX_NODE_COOKIE", ""), ("EMQX_NODE__COOKIE", longer)]), longer);
}

#[test]
fn the_containers_names_make_up_the_node_name() {
    let name = |env: &[(&str, &str)]| with_env(env).config.node.name.to_string();
    let both = [("EMQX_NAME", "emqx1"), ("EMQX_HOST", "10.0.0.1")];
    assert_eq!(name(&both), "emqx1@10.0.0.1");
    assert_eq!(name(&[both[0], both[1], ("EMQX_NODE_NAME", "a@h.io")]), "a@h.io");
    assert_eq!(name(&[both[0], both[1], ("EMQX_NODE__NAME", "a@h.io")]), "a@h.io");
    assert_eq!(name(&both[..1]), "emqx1@127.0.0.1");
    assert_eq!(name(&both[1..]), "emqx@10.0.0.1");
    assert_eq!(name(&[("EMQX_NAME", ""), ("EMQX_HOST", "")]), "emqx@127.0.0.1");
}

#[test]
fn lists_item_by_item() {
    let one = ("EMQX_CLUSTER__STATIC__SEEDS__1", "a@x.io");
    let two = ("EMQX_CLUSTER__STATIC__SEEDS__2", "b@y.io");
    let strategy = ("EMQX_CLUSTER__DISCOVERY_STRATEGY", "static");
    let loaded = with_env(&[strategy, two, one]);
    assert_eq!(loaded.warnings, []);
    assert_eq!(seeds(loaded), ["a@x.io", "b@y.io"]);
    let file = "cluster.static.seeds = [c@z.io, d@z.io, e@z.io]";
    let loaded = layers(&[("base.conf", BASE), ("e", file)], &[strategy, one, two]).unwrap();
    assert_eq!(seeds(loaded), ["a@x.io", "b@y.io", "e@z.io"]);
    let loaded = with_env(&[
        ("MUSTER_HOOKS__1__ON", "ready"),
        ("MUSTER_HOOKS__1__URL", "http://h/"),
        ("MUSTER_RENDER__1__SOURCE", "s"),
        ("MUSTER_RENDER__1__TARGET", "t"),
        ("MUSTER_RENDER__1__WAIT__MIN", "2s"),
    ]);
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.agent.hooks.len(), 1);
    assert_eq!(loaded.config.agent.render[0].wait_min.as_secs(), 2);
    let warnings = with_env(&[("MUSTER_HOOKS__1__WHEN", "x")]).warnings;
    assert_eq!(warnings.len(), 1, "{warnings:?}");
}

#[test]
fn roots_and_blocks_replace_those_of_the_files() {
    let loaded = with_env(&[
        ("EMQX_CLUSTER", "{discovery_strategy=static, static.seeds=[a@x.io], name=n}"),
        ("EMQX_CLUSTER__DESCRIPTION", "above"),
        ("EMQX_NODE", "{name=\"b@h.io\", cookie=a-long-cookie-for-tests}"),
        ("EMQX_AGENT", "{ready.min_members=2}"),
    ]);
    assert_eq!(loaded.warnings, []);
    let config = &loaded.config;
    assert_eq!((config.cluster.name.as_str(), config.node.name.as_str()), ("n", "b@h.io"));
    assert_eq!((config.cluster.description.as_str(), config.agent.ready.min_members), ("above", 2));
    let file =
        "cluster { discovery_strategy = etcd, etcd { prefix = foo, server = \"http://a:1\" } }";
    let env = [
        ("EMQX_CLUSTER__ETCD", "{server=\"http://b:1\"}"),
        ("EMQX_CLUSTER__ETCD__NODE_TTL", "30s"),
    ];
    let loaded = layers(&[("base.conf", BASE), ("e", file)], &env).unwrap();
    let StrategyConfig::Etcd(etcd) = loaded.config.cluster.strategy else { panic!() };
    assert_eq!((etcd.prefix.as_str(), etcd.servers[0].as_str()), ("emqxcl", "http://b:1"));
    assert_eq!(etcd.node_ttl.as_secs(), 30);
}

#[test]
fn other_names_of_the_same() {
    let optfile = with_env(&[("EMQX_SSL_DIST_OPTFILE", "/x")]).config.node.ssl_dist_optfile;
    assert_eq!(optfile, Path::new("/x"));
    let role = |text: &str, env: &[(&str, &str)]| {
        layers(&[("base.conf", BASE), ("e", text)], env).unwrap().config.node.role
    };
    let replicant = crate::node::Role::Replicant;
    assert_eq!(role("node.db_role = replicant", &[]), replicant);
    assert_eq!(role("", &[("EMQX_NODE__DB_ROLE", "replicant")]), replicant);
    assert_eq!(role("node.role = core", &[("EMQX_NODE__DB_ROLE", "replicant")]), replicant);
}

/// In the environment the newer name of a key wins, whichever stands first.
#[test]
fn an_older_name_yields_to_the_newer_one() {
    let types = |env: &[(&str, &str)]| {
        let text = "node.name = \"a@b.io\", cluster { discovery_strategy = dns }";
        let loaded = layers(&[("base.conf", BASE), ("e", text)], env).unwrap();
        let StrategyConfig::Dns(dns) = &loaded.config.cluster.strategy else { panic!() };
        (dns.record_type, loaded.warnings.iter().map(ToString::to_string).collect::<String>())
    };
    let older = ("EMQX_CLUSTER__DNS__TYPE", "srv");
    assert_eq!(types(&[older]).0, RecordType::Srv);
    let env = [older, ("EMQX_CLUSTER__DNS__RECORD_TYPE", "srv")];
    let (_, warnings) = types(&env);
    let expected = "environment EMQX_CLUSTER__DNS__TYPE: it is not used beside \
                    EMQX_CLUSTER__DNS__RECORD_TYPE, its newer name";
    assert_eq!(warnings, expected);
    let role = |env: &[(&str, &str)]| {
        let files = [("base.conf", BASE), ("e", "node.db_role = replicant")];
        layers(&files, env).unwrap().config.node.role
    };
    for (first, second) in
        [("role = core", "db_role = replicant"), ("db_role = replicant", "role = core")]
    {
        let files = [
            ("base.conf", BASE),
            ("a", &*format!("node.{first}")),
            ("b", &*format!("node.{second}")),
        ];
        let loaded = layers(&files, &[]).unwrap();
        assert_eq!(loaded.config.node.role, crate::node::Role::Core);
        let told = loaded.warnings[0].to_string();
        assert!(
            told.contains("node.db_role: it is not used beside node.role, its newer name"),
            "{told}"
        );
    }
    let env = [("EMQX_NODE__ROLE", "core"), ("EMQX_NODE__DB_ROLE", "replicant")];
    assert_eq!(role(&env), crate::node::Role::Core);
    assert_eq!(role(&[("EMQX_NODE__ROLE", "null")]), crate::node::Role::Core);
}

/// As EMQX's schema takes the names of variables.
#[test]
fn names_in_odd_spellings() {
    for name in ["EMQX_cluster__Name", "EMQX_CLUSTER____NAME", "EMQX_CLUSTER__NAME__"] {
        let loaded = with_env(&[(name, "prod")]);
        assert_eq!((loaded.config.cluster.name.as_str(), loaded.warnings.len()), ("prod", 0));
    }
    let loaded = with_env(&[("EMQX_CLUSTER_STATIC_SEEDS", "a@x.io"), ("EMQX_CLUSTER_PORT", "x")]);
    let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["environment EMQX_CLUSTER_STATIC_SEEDS: no key has this name, so it changes nothing\n  \
          hint: write two lines between the parts: EMQX_CLUSTER__STATIC__SEEDS"]
    );
    let block = "{ discovery_strategy = k8s, K8s { namespace = prod } }";
    let StrategyConfig::K8s(k8s) = with_env(&[("EMQX_CLUSTER", block)]).config.cluster.strategy
    else {
        panic!()
    };
    assert_eq!(k8s.namespace, "prod");
}

/// Environment files keep the quotes that a shell would take away.
#[test]
fn quotes_that_were_not_meant_are_told() {
    for (value, read) in [
        ("'prod'", "'prod'"),
        ("\"prod", "\"prod"),
        ("prod\"", "prod\""),
        ("${NOPE}", "${NOPE}"),
        ("\"prod\"", "prod"),
    ] {
        let loaded = with_env(&[("EMQX_CLUSTER__NAME", value)]);
        assert_eq!(loaded.config.cluster.name, read);
        let told = loaded.warnings.iter().any(|w| w.message.contains("read as it stands"));
        assert_eq!(told, value == read, "{value}");
        let shown = explain(&loaded.effective);
        assert!(layers(&[("e", BASE), ("f", &shown)], &[]).is_ok(), "{shown}");
    }
}

#[test]
fn names_of_emqx_4_are_answered_with_the_new_ones() {
    let hint = |name: &str| with_env(&[(name, "x")]).warnings[0].hint.clone().unwrap();
    for (name, key) in [
        ("EMQX_CLUSTER__DISCOVERY", "EMQX_CLUSTER__DISCOVERY_STRATEGY"),
        ("EMQX_CLUSTER__STATIC__NODES", "EMQX_CLUSTER__STATIC__SEEDS"),
        ("EMQX_CLUSTER__ETCD__ENDPOINTS", "EMQX_CLUSTER__ETCD__SERVER"),
        ("MUSTER_MESH__PORT", "MUSTER_MESH__BASE_PORT"),
        ("MUSTER_API__BIND", "MUSTER_API__LISTEN"),
    ] {
        assert_eq!(hint(name), format!("the nearest known name is {key}"));
    }
    let refused =
        |text: &str| layers(&[("base.conf", BASE), ("e", text)], &[]).unwrap_err().to_string();
    assert!(refused("cluster.discovery = static").contains("is cluster.discovery_strategy"));
    assert!(refused("cluster.discovery_strategy = kubernetes").contains("did you mean `k8s`?"));
    let url = "http:\\/\\/10.0.0.1:8080";
    let message = layers(&[("base.conf", BASE)], &[("EMQX_CLUSTER__K8S__APISERVER", url)]);
    assert!(message.unwrap_err().to_string().contains("\"http://10.0.0.1:8080\""));
}

#[test]
fn the_old_name_part_of_dns() {
    let text = "cluster { discovery_strategy = dns, dns { app = broker, name = \"x.io\" } }";
    let loaded = layers(&[("base.conf", BASE), ("e", text)], &[]).unwrap();
    let StrategyConfig::Dns(dns) = loaded.config.cluster.strategy else { panic!() };
    assert_eq!((dns.name.as_str(), dns.app_name.as_str()), ("x.io", "broker"));
    assert!(loaded.warnings[0].to_string().contains("discovery names the nodes broker@"));
}

#[test]
fn layers_that_need_not_exist() {
    let memory = Memory::new(&[("base.conf", BASE), ("e", "cluster.name = e")]);
    let load = |paths: &[&str]| {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        load_with(&paths, [], &memory)
    };
    let loaded = load(&["?none", "base.conf", "?e", "?other"]).unwrap();
    assert_eq!((loaded.config.cluster.name.as_str(), loaded.warnings.len()), ("e", 0));
    assert!(load(&["base.conf", "none"]).is_err());
    assert_eq!(autoclean("86400"), Some(86_400));
    assert_eq!(autoclean("1h"), Some(3_600));
    assert_eq!(autoclean("1500ms"), Some(2));
    assert_eq!(autoclean("1ms"), Some(1));
    assert_eq!(autoclean("infinity"), None);
    let warned = |value: &str| {
        let text = format!("cluster.autoclean = {value}");
        let loaded = layers(&[("b", BASE), ("e", &text)], &[]).unwrap();
        loaded.warnings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    assert!(
        warned("1500ms").contains("whole seconds, as in EMQX: 2s here"),
        "{}",
        warned("1500ms")
    );
    assert_eq!([warned("2s"), warned("2000ms"), warned("2")].concat(), "");
    for refused in ["0", "0s", "0.0001s", "1.5", "-1", "5m30"] {
        assert!(
            layers(&[("b", BASE), ("e", &format!("cluster.autoclean = {refused}"))], &[]).is_err(),
            "{refused}"
        );
    }
}

fn autoclean(text: &str) -> Option<u64> {
    self::text(&format!("cluster.autoclean = {text}")).cluster.autoclean.map(|d| d.as_secs())
}
