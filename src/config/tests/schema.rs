//! Documents of our own that EMQX's schema was asked about: the same are taken, with the
//! same values, but for the differences that are meant.
//!
//! `tests/data/emqx-schema.jsonl` holds a line for each: what stands behind `base` of its
//! first line, the environment, and what EMQX's `emqx_conf_schema` made of both (only what
//! is not in `defaults` of the first line), or that it refused them. EMQX 6.2.2 answered,
//! with its parser hocon 0.45.9, as its start script asks; where a line says so, 5.1.6, the
//! last that has `mcast` and `core_nodes`. Durations are in milliseconds, but for
//! `autoclean`.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::*;

/// What a difference comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    /// EMQX refuses what is taken here. It does not start, so that nothing is read otherwise.
    Laxer,
    /// EMQX takes what is refused here.
    Stricter,
    /// Both take it, with other values.
    Other,
}

use Which::{Laxer, Other, Stricter};

/// All differences that are meant, and why.
const MEANT: &[(&str, Which, &str)] = &[
    ("words", Laxer, "people write words in any letter case, and on and yes for true"),
    ("units", Laxer, "durations and sizes of the HOCON specification: blanks, 1.5h, 10 seconds"),
    ("infinity", Laxer, "EMQX has no way to say that nobody is removed"),
    ("texts", Laxer, "true and 1.5 are texts where a text belongs, as are é and a/b"),
    ("keys", Laxer, "keys of other versions of EMQX, of ours, or unknown ones under node"),
    ("unused", Laxer, "the broker's own keys are its own to check"),
    ("data_dir", Laxer, "the default of the file that EMQX ships"),
    ("lists", Laxer, "a list, one text and numbered items are the same, also for etcd.server"),
    ("hocon", Laxer, "the HOCON specification: +=, an address, a quoted part of a key"),
    ("nobody", Stricter, "no node, host, URL or path could have this name"),
    ("bounds", Stricter, "0, negative or beyond what works; the bounds are documented"),
    ("codes", Stricter, "a list of numbers is a text to Erlang"),
    ("family", Stricter, "the node would listen on no address of its name"),
    ("server", Stricter, "etcd without a server finds nobody"),
    ("spelling", Other, "a node or a URL has one spelling, and is named once"),
    ("blanks", Other, "blanks inside an unquoted text are kept"),
    ("lines", Other, "a line's end ends an item, as the HOCON specification has it"),
    ("separators", Other, "a tab and a line's end separate as a blank does"),
    ("nulls", Other, "null is no item of a list"),
    ("variables", Other, "a variable that does not look like HOCON is taken as it stands"),
    ("https", Other, "https:// means TLS, and ssl_options that are on make the URL https://"),
    ("cookies", Other, "a list is several cookies; EMQX joins them to one"),
    ("unicode", Other, "\\u00e9 is é, as to the parser of EMQX after 6.2"),
];

#[derive(Deserialize)]
struct Head {
    base: String,
    defaults: Map<String, Value>,
}

#[derive(Deserialize)]
struct Line {
    text: String,
    #[serde(default)]
    env: HashMap<String, String>,
    /// `None`: refused.
    ok: Option<Map<String, Value>>,
    /// The name of a difference that is meant.
    meant: Option<String>,
    /// Another version than the first line's.
    emqx: Option<String>,
}

/// The values under the names of their keys; of the strategies only the selected one.
fn values(config: &Config) -> Map<String, Value> {
    let Config { node, cluster, .. } = config;
    let millis = |duration: Duration| json!(u64::try_from(duration.as_millis()).unwrap());
    let text = |text: &dyn ToString| json!(text.to_string());
    let nodes = |nodes: &[crate::node::NodeName]| {
        json!(nodes.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let mut all = vec![
        ("node.name", text(&node.name)),
        ("node.cookie", json!(node.cookies.current()[0].expose())),
        ("node.data_dir", text(&node.data_dir.display())),
        ("node.role", text(&node.role)),
        ("cluster.name", json!(cluster.name)),
        ("cluster.description", json!(cluster.description)),
        ("cluster.discovery_strategy", json!(cluster.strategy.name())),
        ("cluster.autoclean", json!(cluster.autoclean.map(|d| d.as_secs()))),
        ("cluster.autoheal", json!(cluster.autoheal)),
        ("cluster.proto_dist", json!(cluster.proto_dist.name())),
        ("cluster.core_nodes", nodes(&cluster.core_nodes)),
    ];
    match &cluster.strategy {
        StrategyConfig::Manual | StrategyConfig::Singleton => {}
        StrategyConfig::Static { seeds } => all.push(("cluster.static.seeds", nodes(seeds))),
        StrategyConfig::Mcast(mcast) => all.extend([
            ("cluster.mcast.addr", text(&mcast.addr)),
            ("cluster.mcast.ports", json!(mcast.ports)),
            ("cluster.mcast.iface", json!(mcast.iface)),
            ("cluster.mcast.ttl", json!(mcast.ttl)),
            ("cluster.mcast.loop", json!(mcast.multicast_loop)),
            ("cluster.mcast.sndbuf", json!(mcast.sndbuf)),
            ("cluster.mcast.recbuf", json!(mcast.recbuf)),
            ("cluster.mcast.buffer", json!(mcast.buffer)),
        ]),
        StrategyConfig::Dns(dns) => all.extend([
            ("cluster.dns.name", json!(dns.name)),
            ("cluster.dns.record_type", json!(format!("{:?}", dns.record_type).to_lowercase())),
        ]),
        StrategyConfig::Etcd(etcd) => {
            all.extend([
                ("cluster.etcd.server", json!(etcd.servers)),
                ("cluster.etcd.prefix", json!(etcd.prefix)),
                ("cluster.etcd.node_ttl", millis(etcd.node_ttl)),
                ("cluster.etcd.ssl_options.enable", json!(etcd.tls.is_some())),
            ]);
            if let Some(tls) = &etcd.tls {
                let verify = if tls.verify { "verify_peer" } else { "verify_none" };
                all.push(("cluster.etcd.ssl_options.verify", json!(verify)));
            }
        }
        StrategyConfig::K8s(k8s) => all.extend([
            ("cluster.k8s.apiserver", json!(k8s.apiserver)),
            ("cluster.k8s.service_name", json!(k8s.service_name)),
            ("cluster.k8s.address_type", json!(format!("{:?}", k8s.address_type).to_lowercase())),
            ("cluster.k8s.namespace", json!(k8s.namespace)),
            ("cluster.k8s.suffix", json!(k8s.suffix)),
        ]),
    }
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

/// What is unlike EMQX's answer, in words.
fn difference(head: &Head, line: &Line) -> Option<(Which, String)> {
    let env: Vec<(&str, &str)> = line.env.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let text =
        format!("{}{}", if line.text.contains("node {") { "" } else { &head.base }, line.text);
    let found = layers(&[("emqx.conf", &text)], &env);
    match (found, &line.ok) {
        (Err(_), None) => None,
        (Err(errors), Some(_)) => Some((Stricter, errors.to_string())),
        (Ok(loaded), None) => Some((Laxer, format!("{:?}", values(&loaded.config)))),
        (Ok(loaded), Some(answer)) => {
            let expected = |key: &str| answer.get(key).or_else(|| head.defaults.get(key));
            let differs = values(&loaded.config)
                .into_iter()
                // What EMQX does not have in that version, or only by another default.
                .filter(|(key, value)| expected(key).is_some_and(|expected| expected != value))
                .map(|(key, value)| format!("{key}: {value}, EMQX: {:?}", expected(&key)));
            let differs = differs.collect::<Vec<_>>().join("; ");
            (!differs.is_empty()).then_some((Other, differs))
        }
    }
}

#[test]
fn emqxs_schema_reads_the_same() {
    let file = include_str!("../../../tests/data/emqx-schema.jsonl");
    let (first, rest) = file.split_once('\n').unwrap();
    let head: Head = serde_json::from_str(first).unwrap();
    let lines: Vec<Line> = rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut wrong = Vec::new();
    for line in &lines {
        let shown = || format!("{}{:?}", line.text, line.env);
        let meant = line.meant.as_deref().map(|name| {
            let found = MEANT.iter().find(|(known, ..)| *known == name);
            found.unwrap_or_else(|| panic!("{name} is not in the list")).1
        });
        match (difference(&head, line), meant) {
            (None, None) => {}
            (Some((found, _)), Some(meant)) if found == meant => {}
            (found, meant) => wrong.push(format!("{}: {found:?}, meant: {meant:?}", shown())),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The list has no difference that is none, and the fixture is all there.
    for (name, _, why) in MEANT {
        assert!(lines.iter().any(|line| line.meant.as_deref() == Some(*name)), "{name}: {why}");
    }
    let taken = lines.iter().filter(|line| line.ok.is_some() && line.meant.is_none()).count();
    let older = lines.iter().filter(|line| line.emqx.is_some()).count();
    assert!(lines.len() > 200 && taken > 80 && older > 10, "{} {taken} {older}", lines.len());
}
