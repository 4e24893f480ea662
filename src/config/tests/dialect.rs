//! What EMQX's parser accepts, with the values it gives.

use super::*;

fn refused(text: &str) -> String {
    layers(&[("base.conf", BASE), ("e", text)], &[]).unwrap_err().to_string()
}

fn description(text: &str) -> String {
    self::text(text).cluster.description
}

#[test]
fn circles_are_named() {
    for (text, place, way) in [
        ("x.a=${x.b}\nx.b=${x.a}", "e:2:5", "x.a = ${x.b}, x.b = ${x.a}"),
        ("x.a=${x.a}", "e:1:5", "x.a = ${x.a}"),
        (
            "cluster.name = ${cluster.description}\ncluster.description = ${cluster.name}",
            "e:",
            "cluster.name = ${cluster.description}",
        ),
        ("a=${b}\nb=${c}\nc=${a}", "e:3:3", "a = ${b}, b = ${c}, c = ${a}"),
        ("a = [1, ${b}]\nb = [${a}]", "e:", "b = ${a}"),
        ("a { b = ${a} }", "e:1:9", "a.b = ${a}"),
        ("a = ${b} { x = 1 }\nb = ${a} { y = 1 }", "e:", "a = ${b}"),
        ("a = \"x\"${?b}\nb = ${a}", "e:2:5", "b = ${a}"),
    ] {
        let message = refused(text);
        assert!(message.contains("found substitutions that lead back to themselves"), "{message}");
        assert!(message.contains(place) && message.contains(way), "{text}: {message}");
    }
    // Over layers.
    let files = [("base.conf", BASE), ("a", "x.a = ${x.b}"), ("b", "x.b = ${x.a}")];
    let message = layers(&files, &[]).unwrap_err().to_string();
    assert!(message.contains("x.a = ${x.b}, x.b = ${x.a}"), "{message}");
}

#[test]
fn optional_circles_are_left_out() {
    assert_eq!(
        description("cluster.description = \"a\"${?x.a}\nx.a = ${?x.b}\nx.b = ${?x.a}"),
        "a"
    );
    assert_eq!(
        description("cluster.description = kept\ncluster.description = ${?x}\nx = ${?x}"),
        "kept"
    );
    assert_eq!(text("x = [${?x}, ${?y}]\ny = ${?x}").cluster.name, "emqxcl");
    text("a { b = ${?a}, c = 1 }");
}

/// Who refers to such a circle from outside gets what it comes to: nothing.
#[test]
fn what_leads_to_an_optional_circle_is_left_out_too() {
    assert_eq!(description("cluster.description = ${x}kept\nx = ${?x}"), "kept");
    assert_eq!(text("a = ${?b}\nb = ${?a}\ncluster.name = ${b}").cluster.name, "emqxcl");
    text("a = ${?a}\nb = [${a}, ${?b}]\nc { d = ${a} }");
}

#[test]
fn a_substitution_of_itself_means_what_stood_before() {
    assert_eq!(
        description("cluster.description = a\ncluster.description = ${cluster.description}b"),
        "ab"
    );
    let text = "x = [emqx@a.io]\nx = ${x} [emqx@b.io]\nx += emqx@c.io\ncluster.core_nodes = ${x}";
    assert_eq!(self::text(text).cluster.core_nodes.len(), 3);
    assert_eq!(description("a = 1\na = ${b}\nb = ${a}\ncluster.description = ${a}${b}"), "11");
}

#[test]
fn fields_follow_each_other_on_a_line() {
    let config = text("node { data_dir = \"data\" role = replicant }");
    assert_eq!(
        (config.node.data_dir.as_path(), config.node.role),
        (Path::new("data"), crate::node::Role::Replicant)
    );
    let config = text("cluster { description = \"x\" autoheal = false }");
    assert_eq!((config.cluster.description.as_str(), config.cluster.autoheal), ("x", false));
    let config = text("node { name = \"emqx@a.io\" cookie = \"TOPSECRET-TOPSECRET\" }");
    assert_eq!(config.node.name.as_str(), "emqx@a.io");
    assert_eq!(config.node.cookies.current()[0].expose(), "TOPSECRET-TOPSECRET");
    let config =
        text("cluster { name = a autoclean = 1h static { seeds = [emqx@a.io] } autoheal = off }");
    assert_eq!((config.cluster.name.as_str(), config.cluster.autoheal), ("a", false));
}

#[test]
fn brokers_may_write_what_emqx_takes() {
    for text in [
        "sql = \"SELECT *\"\n  \" FROM t\"",
        "rule\n{ a = 1 }",
        "a..b = 1",
        "x = +5",
        "x\n=\n1",
        "rules = [{ id = a }\n { id = b }]",
        "x = [1 2 3]",
        "x = [{a = 1} {b = 2}]",
        "a = \"C:\\\"",
        "a { b = 1, }, c = [1,\n2,\n]",
        "x = ${?nope}\n[ ]",
        "rule_engine { ignore_sys_message = true jq_function_default_timeout = 10s }",
        "x = 50%, y = 10MB, z = 1h30m",
        "x = null",
    ] {
        self::text(text);
    }
    assert_eq!(description("cluster.description = \"SELECT *\"\n  \" FROM t\""), "SELECT * FROM t");
    assert_eq!(description("cluster.description = \"x\" \"y\""), "xy");
    assert_eq!(description("cluster.description = a b  c"), "a b  c");
    assert_eq!(text("cluster..name = x").cluster.name, "x");
}

/// The fault was that what stood before it was taken instead, silently.
#[test]
fn what_nothing_defines_is_refused_also_behind_a_value() {
    for text in [
        "cluster.description = 1\ncluster.description = ${nope}",
        "a = 1\na = ${?n}${nope}",
        "a { b = 1 }\na = ${nope}",
        "a { b = 1 }\na = ${nope} { c = 1 }",
        "a = [1]\na = ${nope}",
        "a = [1]\na += ${nope}",
    ] {
        let message = refused(text);
        assert!(message.contains("found ${nope}, which nothing defines"), "{text}: {message}");
    }
    assert_eq!(description("cluster.description = 1\ncluster.description = ${?nope}"), "1");
    assert_eq!(description("cluster.description = 1\ncluster.description = ${b}\nb = ${?c}"), "1");
}

/// As in EMQX, a number behind a list means one of its items.
#[test]
fn items_of_lists_by_their_numbers() {
    let nodes = |text: &str| {
        let nodes = self::text(text).cluster.core_nodes;
        nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    for (text, expected) in [
        ("cluster.core_nodes = [a@x.io]\ncluster.core_nodes.2 = b@x.io", "a@x.io b@x.io"),
        ("cluster.core_nodes = [a@x.io]\ncluster.core_nodes.1 = b@x.io", "b@x.io"),
        ("cluster.core_nodes.10 = b@x.io\ncluster.core_nodes.9 = a@x.io", "a@x.io b@x.io"),
        ("cluster.core_nodes { \"1\" = a@x.io, \"2\" = b@x.io }", "a@x.io b@x.io"),
        ("cluster.core_nodes = [a@x.io]\ncluster.core_nodes { \"2\" = b@x.io }", "a@x.io b@x.io"),
        ("cluster.core_nodes = [a@x.io]\ncluster.core_nodes {}", "a@x.io"),
        ("x = [a@x.io]\ncluster.core_nodes = ${x}\ncluster.core_nodes.2 = b@x.io", "a@x.io b@x.io"),
        (
            "cluster.core_nodes = [a@x.io]\ncluster.core_nodes.2 = b@x.io\ncluster.core_nodes += c@x.io",
            "a@x.io b@x.io c@x.io",
        ),
        ("cluster.core_nodes.1 = a@x.io\ncluster.core_nodes = [b@x.io]", "b@x.io"),
    ] {
        assert_eq!(nodes(text), expected, "{text}");
    }
    let hooks = "agent.hooks = [{ on = ready }]\nagent.hooks.1.url = \"http://h/\"";
    assert_eq!(text(hooks).agent.hooks.len(), 1);
    for text in ["cluster.core_nodes = [a@x.io]\ncluster.core_nodes.3 = b@x.io", "x = [1]\nx.0 = 2"]
    {
        let message = refused(text);
        assert!(message.contains("of a list of 1\n  hint: items are counted"), "{message}");
    }
    let message = refused("cluster.core_nodes { a = b@x.io }");
    assert!(message.contains("cluster.core_nodes: found a block"), "{message}");
    let message = refused("cluster.core_nodes = \"[a@x.io, b@x.io]\"");
    assert!(message.contains("hint: write the list without quotes around it"), "{message}");
}

/// What changes nothing although it seems to is told.
#[test]
fn what_is_read_otherwise_than_it_seems_is_a_warning() {
    let warning = |text: &str| {
        let loaded = layers(&[("base.conf", BASE), ("e", text)], &[]).unwrap();
        let warnings: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
        assert!(!format!("{warnings:?}").contains("Hush"), "{warnings:?}");
        warnings.join("\n")
    };
    for (text, expected) in [
        (
            "cluster.description = pass#word",
            "e:1:23: cluster.description: the text ends before `#`",
        ),
        ("cluster.description = a//b", "e:1:23: cluster.description: the text ends before `//`"),
        ("node.cookie = Hush-Hush-Hush-Hush#Hush", "e:1:15: node.cookie: the text ends before `#`"),
        ("x = a#b, \n cluster.description = ${x}", "e:1:5: x: the text ends before `#`"),
        ("Cluster.name = x", "e:1:1: Cluster: no root has this name"),
        ("NODE { cookie = Hush-Hush-Hush-Hush }", "e:1:1: NODE: no root has this name"),
        ("clusters { name = x }", "e:1:1: clusters: no root has this name"),
        ("\"cluster.name\" = x", "hint: write it without quotes: a quoted dot separates nothing"),
    ] {
        let found = warning(text);
        assert!(found.contains(expected), "{text}: {found}");
    }
    for text in [
        "cluster.description = a # b",
        "cluster.description = a#",
        "cluster.description = a## b",
        "cluster { description = \"a\"#b\n}#c",
        "mqtt.x = a#b",
        "listeners.tcp.default.x = a#b",
        "\"a.b\" = 1",
        "log.level = debug",
    ] {
        assert_eq!(warning(text), "", "{text}");
    }
}

/// A value that took the next key in is no value.
#[test]
fn a_key_inside_a_value_is_refused() {
    for (text, key) in [
        ("node { data_dir = data role replicant }", "role"),
        ("node { data_dir = \"data\" role replicant }", "role"),
        ("cluster { name = a\n autoheal\n}", "autoheal"),
        ("agent.log { level = info format json }", "format"),
    ] {
        let message = refused(text);
        assert!(message.contains(&format!("found the key `{key}` inside a value")), "{message}");
    }
    assert_eq!(description("cluster.description = our cluster name"), "our cluster name");
    assert_eq!(text("node.data_dir = role").node.data_dir, Path::new("role"));
}

#[test]
fn what_is_not_understood_is_refused_with_its_place() {
    for (text, expected) in [
        ("cluster.name = prod;", "e:1:20: cluster.name: found `;` outside of quotes"),
        ("cluster.name = 'prod'", "e:1:16: cluster.name: found a single quote"),
        ("cluster.description = a=b", "e:1:24: cluster.description: found `=` inside a value"),
        ("cluster . name = x", "e:1:1: found a blank inside a key"),
        ("cluster name = x", "e:1:1: found a blank inside a key"),
        ("cluster.etcd.server = http://a:1", "e:1:27: cluster.etcd.server: found `:` inside"),
        ("cluster { name = a,, autoheal = on }", "e:1:20: cluster: found a comma without"),
        ("cluster.static.seeds = [a@b,,c@d]", "e:1:29: cluster.static.seeds: found a comma"),
        ("a = \"1\"{ b = 2 }", "e:1:8: a: found `{` inside a value"),
        ("a = x { b = 2 }", "e:1:7: a: found `{` inside a value"),
        ("a = 1\nb\nc = 2", "e:2:1: found a key without a value"),
        ("a = [b { c = 1 }]", "e:1:8: a: found a block behind a text"),
        ("a = \"\\u12\"", "e:1:6: a: found a \\u that names no character"),
        ("a = ${b", "e:1:5: a: this substitution is never closed"),
        ("a = $b", "e:1:5: a: found `$` outside of quotes"),
        ("a = [1] x", "found texts, lists and blocks side by side"),
        ("{ a = 1 } b = 2", "e:1:11: found text behind the closing brace"),
        ("include file(\"a\"", "e:1:1: this form of include is not known"),
    ] {
        let message = refused(text);
        assert!(message.contains(expected), "{text}: {message}");
    }
}

#[test]
fn includes_need_no_quotes() {
    let files = [
        (
            "emqx.conf",
            "node.cookie = aaaaaaaaaaaaaaaaaaaa\ninclude inc/a.conf\ncluster { include inc/b.conf }",
        ),
        ("inc/a.conf", "cluster.name = a, include \"x.conf\""),
        ("inc/b.conf", "description = ${name}"),
        ("inc/x.conf", "cluster.autoheal = false"),
    ];
    let config = layers(&files, &[]).unwrap().config;
    assert_eq!((config.cluster.name.as_str(), config.cluster.autoheal), ("a", false));
    // As in EMQX, what an included file refers to stands where it is included.
    assert_eq!(config.cluster.description, "a");
}

#[test]
fn texts_that_hold_lists() {
    let seeds = |text: &str| {
        let text = format!("cluster {{ discovery_strategy = static, static.seeds = {text} }}");
        let StrategyConfig::Static { seeds } = self::text(&text).cluster.strategy else { panic!() };
        seeds.len()
    };
    assert_eq!(seeds("\"a@x.io b@y.io\""), 2);
    assert_eq!(seeds("\"a@x.io,b@y.io\""), 2);
    assert_eq!(seeds("[a@x.io\n b@y.io\n]"), 2);
    assert_eq!(seeds("[a@x.io,\n b@y.io]"), 2);
    let text = "cluster { discovery_strategy = etcd, etcd.server = \"http://a:1 http://b:1\" }";
    let StrategyConfig::Etcd(etcd) = self::text(text).cluster.strategy else { panic!() };
    assert_eq!(etcd.servers, ["http://a:1", "http://b:1"]);
    let text = "cluster { discovery_strategy = mcast, mcast.ports = [4369 4370] }";
    let StrategyConfig::Mcast(mcast) = self::text(text).cluster.strategy else { panic!() };
    assert_eq!(mcast.ports, [4369, 4370]);
}

#[test]
fn blocks_merge_with_what_substitutions_bring() {
    for text in [
        "x.o { name = z }\ncluster = ${?x.o}\ncluster { autoheal = false }",
        "x.o { name = z }\ncluster { autoheal = false }\ncluster ${?x.o}",
        "cluster = ${?x.none}\ncluster { autoheal = false, name = z }",
        "cluster = ${x.o} { autoheal = false }\nx.o { name = z }",
    ] {
        let cluster = self::text(text).cluster;
        assert_eq!((cluster.name.as_str(), cluster.autoheal), ("z", false), "{text}");
    }
}

#[test]
fn line_ends_of_other_systems() {
    let text = "node {\r\n  data_dir = \"d\"\r\n}\r\ncluster.description = \"\"\"one\r\ntwo\"\"\"\r\ncluster { # x\r\n name = c }\r\n";
    let config = self::text(text);
    assert_eq!(
        (config.cluster.description.as_str(), config.cluster.name.as_str()),
        ("one\ntwo", "c")
    );
    assert_eq!(config.node.data_dir, Path::new("d"));
    assert_eq!(
        description("cluster.description = \"\"\"~\r\n    a\r\n      b\r\n    ~\"\"\"\r\n"),
        "a\n  b\n"
    );
}

#[test]
fn null_unsets() {
    assert_eq!(text("cluster.name = x\ncluster.name = null").cluster.name, "emqxcl");
    assert_eq!(with_env(&[("EMQX_CLUSTER__NAME", "null")]).config.cluster.name, "emqxcl");
    let files = [("base.conf", BASE), ("a", "cluster.name = x")];
    assert_eq!(
        layers(&files, &[("EMQX_CLUSTER__NAME", "null")]).unwrap().config.cluster.name,
        "emqxcl"
    );
}

/// Whatever a secret was glued to, copied into or swallowed by, nobody reads it.
#[test]
fn secrets_leave_by_no_message() {
    let secret = "Hush-Hush-Hush-Hush";
    for text in [
        "node { name = \"emqx@a.io\" cookie \"Hush-Hush-Hush-Hush\" }",
        "node { name = emqx@a.io cookie Hush-Hush-Hush-Hush }",
        "node { role = core cookie Hush-Hush-Hush-Hush }",
        "node.name = \"emqx@a.io\"\n  cookie \"Hush-Hush-Hush-Hush\"",
        "cluster { name = \"x\" token \"Hush-Hush-Hush-Hush\" }",
        "cluster { description = x token \"Hush-Hush-Hush-Hush\" }",
        "cluster.static.seeds = [\"emqx@a.io\" cookie \"Hush-Hush-Hush-Hush\"]",
        "x = \"Hush-Hush-Hush-Hush\", node.cookie = ${x}, cluster.discovery_strategy = ${x}",
        "x = \"Hush-Hush-Hush-Hush\", node.cookie = ${x}, node.role = \"is \"${x}",
        "x = \"Hush\", node.cookie = ${x}\"-\"${x}, cluster.proto_dist = ${x}",
        "node.cookie = \"a b\"${Hush-Hush-Hush-Hush}",
        "node.cookie = Hush-Hush-Hush-Hush'",
        "node.cookie = Hush-Hush-Hush-Hush = 1",
        "node.cookie Hush-Hush-Hush-Hush { a = 1 }",
        "node { cookie : Hush-Hush-Hush-Hush : x }",
        "cluster.k8s.apiserver = \"Hush-Hush-Hush-Hush\"cookie",
        "cluster.k8s.apiserver = \"u:Hush-Hush-Hush-Hush@h\"",
        "cluster.etcd.server = \"http:\\/\\/u:Hush-Hush-Hush-Hush@h\"",
        "agent.hooks = [{ on = ready, url = \"u:Hush-Hush-Hush-Hush@h\" }]",
        "node.cookie = Hush-Hush-Hush-Hush\nnode.cookie \"Hush-Hush-Hush-Hush\"",
        "cluster.description = x\nnode.cookie \"Hush-Hush-Hush-Hush\"",
        "agent.api.token = [Hush-Hush-Hush-Hush { }]",
    ] {
        let error = refused(text);
        let shown = format!(
            "{error} {}",
            serde_json::to_string(&layers(&[("base.conf", BASE), ("e", text)], &[]).unwrap_err())
                .unwrap()
        );
        assert!(!shown.contains("Hush"), "{text}: {shown}");
        assert!(!shown.contains(&secret.to_lowercase()), "{text}: {shown}");
    }
    let text = "x = \"Hus\", node.cookie = \"Hus-Hus-Hus-Hus-Hus\", cluster.description = ${node.cookie}, agent.tags { a = ${node.cookie} }";
    let shown = explain(&layers(&[("e", text)], &[]).unwrap().effective);
    assert!(!shown.contains("Hus"), "{shown}");
}

#[test]
fn names_of_one_node_are_one_name() {
    let seeds = |name: &str, proto: &str, seeds: &str| {
        let text = format!(
            "node.name = \"{name}\"\ncluster {{ proto_dist = {proto}, discovery_strategy = static, static.seeds = {seeds} }}"
        );
        let config = self::text(&text);
        let StrategyConfig::Static { seeds } = config.cluster.strategy else { panic!() };
        (config.node.name, seeds)
    };
    let (own, found) = seeds("emqx@n1.lan", "inet_tcp", "[\"emqx@N1.LAN\", \"emqx@n1.lan.\"]");
    assert_eq!(found, [own]);
    let (own, found) =
        seeds("emqx@FD91::2", "inet6_tcp", "[\"emqx@fd91::2\", \"emqx@fd91:0:0:0:0:0:0:2\"]");
    assert_eq!((own.as_str(), found), ("emqx@fd91::2", vec![own.clone()]));
}

/// What cannot be resolved within bounds is refused.
#[test]
fn work_and_depth_are_bounded() {
    let lines = |line: &dyn Fn(usize) -> String, n: usize| (1..n).map(line).collect::<String>();
    for text in [
        lines(&|n| format!("a{n} = ${{a{}}}\n", n + 1), 900) + "a900 = x",
        "a0 = xxxxxxxxxx\n".to_owned()
            + &lines(&|n| format!("a{n} = ${{a{0}}}${{a{0}}}\n", n - 1), 60),
        "a0 { x = 1 }\n".to_owned()
            + &lines(&|n| format!("a{n} {{ l = ${{a{0}}}, r = ${{a{0}}} }}\n", n - 1), 60),
        "l = [1]\n".to_owned() + &lines(&|_| "l += ${l}\n".to_owned(), 900),
        lines(
            &|n| {
                format!(
                    "a{n} = ${{?a{}}} ${{?a{}}} ${{?a{}}} z\n",
                    (n * 7 + 1) % 97,
                    (n * 5 + 3) % 97,
                    (n * 3 + 2) % 97
                )
            },
            97,
        ),
        lines(&|n| format!("a{n} = 1${{?b}}\n"), 1100),
    ] {
        let message = refused(&text);
        let found = ["multiply", "too deep", "more than 1024 substitutions"];
        assert!(found.iter().any(|found| message.contains(found)), "{message}");
    }
}

/// A number without quotes is no text to EMQX, which writes it in its own way.
#[test]
fn numbers_of_the_brokers_keys_are_written_as_emqx_writes_them() {
    let name = |value: &str| text(&format!("n = 0042, cluster.name = {value}")).cluster.name;
    for (value, expected) in [
        ("007", "7"),
        ("+7", "7"),
        ("-07", "-7"),
        ("00", "0"),
        ("\"007\"", "007"),
        ("00x", "00x"),
        ("${n}", "42"),
        ("${n}${n}", "00420042"),
    ] {
        assert_eq!(name(value), expected, "{value}");
    }
    assert_eq!(text("agent.tags.id = 007").agent.tags.get("id"), Some("007"));
}
