//! What is said of the metrics is what there is, and Prometheus' own tool agrees.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use muster::metrics::catalogue::{self, Kind};
use serde_json::Value;

use crate::support::agent::{Ground, Spec};
use crate::support::http;
use crate::support::programs::skip_without;
use crate::support::wait::LONG;

/// Between these lines `docs/metrics.md` holds what is generated.
const BEGIN: &str =
    "<!-- generated from the code; `BLESS=1 cargo nextest run` writes it anew -->\n";
const END: &str = "<!-- end -->\n";

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[test]
fn the_reference_lists_every_metric() {
    let path = repository("docs/metrics.md");
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(BEGIN).expect("no begin of the table");
    let (table, after) = rest.split_once(END).expect("no end of the table");
    let wanted = format!("\n{}\n", catalogue::table());
    if table == wanted {
        return;
    }
    assert!(std::env::var_os("BLESS").is_some(), "docs/metrics.md is older than the code");
    std::fs::write(path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
}

/// Names of samples that a PromQL expression reads.
fn names(expression: &str) -> BTreeSet<String> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = expression.split(|c| !word(c)).map(str::to_owned);
    words.filter(|word| word.starts_with("muster_") || word.starts_with("process_")).collect()
}

#[track_caller]
fn assert_known(expression: &str) {
    let known: BTreeSet<String> = catalogue::all()
        .iter()
        .map(|entry| match entry.kind {
            Kind::Histogram => format!("{}_bucket", entry.name),
            Kind::Counter | Kind::Gauge => entry.sample(),
        })
        .collect();
    let names = names(expression);
    assert!(!names.is_empty(), "reads no metric of ours: {expression}");
    for name in names {
        assert!(known.contains(&name), "there is no {name}: {expression}");
    }
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let text = std::fs::read_to_string(repository("deploy/grafana/muster.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "two panels of one id");
        for target in panel["targets"].as_array().unwrap() {
            assert_known(target["expr"].as_str().unwrap());
        }
    }
    for variable in dashboard["templating"]["list"].as_array().unwrap() {
        if let Some(query) = variable["query"]["query"].as_str() {
            assert_known(query);
        }
    }
}

#[test]
fn the_alerts_watch_metrics_that_exist() {
    let text = std::fs::read_to_string(repository("deploy/prometheus/muster.rules.yml")).unwrap();
    let rules: Value = serde_saphyr::from_str(&text).unwrap();
    for rule in rules["groups"][0]["rules"].as_array().unwrap() {
        let expression = rule["expr"].as_str().unwrap();
        if expression != r#"up{job="muster"} == 0"# {
            assert_known(expression);
        }
        for text in ["summary", "description"] {
            let text = rule["annotations"][text].as_str().unwrap();
            names(text).iter().for_each(|name| assert_known(name));
        }
    }
}

fn promtool(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new("promtool")
        .args(arguments)
        .current_dir(repository("deploy/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn promtool_passes_the_rules() {
    if skip_without(&["promtool"]) {
        return;
    }
    let output = promtool(&["test", "rules", "muster.rules.test.yml"], "");
    assert!(output.status.success(), "{output:?}");
}

/// The fault was exit code 3: counters without their type.
#[test]
fn promtool_finds_nothing_wrong_with_the_metrics() {
    if skip_without(&["promtool"]) {
        return;
    }
    let ground = Ground::new(2);
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let agents = [1, 2].map(|k| Spec::new(&ground, k).seeds(&seeds).start());
    agents[0].wait_nodes(LONG, &seeds, &[]);
    let text = agents[0].request("GET", "/metrics", None).unwrap();
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let output = promtool(&["check", "metrics"], &text.body);
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");

    let accept = [("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")];
    let open = http::request(agents[0].api(), "GET", "/metrics", &accept, None).unwrap();
    assert!(open.body.ends_with("# EOF\n"));
    assert!(open.header("content-type").unwrap().starts_with("application/openmetrics-text"));
}
