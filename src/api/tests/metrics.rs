use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::metrics::catalogue;

async fn scrape(server: &Server, accept: &str) -> Answer {
    server.ask("GET", "/metrics", &format!("Accept: {accept}\r\n"), "").await
}

fn has(text: &str, line: &str) -> bool {
    text.lines().any(|have| have == line)
}

/// Every sample's name and the names of its labels.
fn samples(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, _) = line.rsplit_once(' ').unwrap();
        let (name, labels) = name.split_once('{').unwrap_or((name, ""));
        let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
        let labels = labels.map(|label| label.split_once('=').unwrap().0.to_owned()).collect();
        samples.insert(name.to_owned(), labels);
    }
    samples
}

#[tokio::test]
async fn metrics_count_members_and_requests() {
    let server = Server::start();
    server.get("/nothing").await;
    let text = server.get("/metrics").await.body;
    for line in [
        r#"muster_members{status="up"} 1"#,
        r#"muster_members{status="suspect"} 1"#,
        r#"muster_members{status="down"} 1"#,
        r#"muster_http_requests_total{outcome="4xx"} 1"#,
        r#"muster_member_up{node="emqx@127.0.0.1",role="core"} 1"#,
        r#"muster_member_up{node="emqx2@127.0.0.1",role="core"} 0"#,
        r#"muster_member_up{node="emqx3@::1",role="core"} 0"#,
        "muster_views_agree 1",
        "muster_majority 1",
        "muster_health 0",
        "muster_state_unsaved 0",
        "muster_discovery_last_success_timestamp_seconds 1769862896.789",
    ] {
        assert!(has(&text, line), "{line} in {text}");
    }
    let mut fewer = snapshot();
    fewer.members.clear();
    fewer.disagreeing = vec![node("emqx2@127.0.0.1")];
    fewer.majority = false;
    fewer.discovery.last_error = Some("connection refused".into());
    server.snapshot.send_replace(Arc::new(fewer));
    let text = server.get("/metrics").await.body;
    for line in [
        r#"muster_members{status="up"} 0"#,
        "muster_views_agree 0",
        "muster_majority 0",
        "muster_health 2",
        r#"muster_health_reason{check="min_members"} 1"#,
        r#"muster_health_reason{check="views_agree"} 1"#,
        r#"muster_health_reason{check="discovery_backend"} 1"#,
    ] {
        assert!(has(&text, line), "{line} in {text}");
    }
}

#[tokio::test]
async fn what_means_nothing_is_absent() {
    let mut alone = snapshot();
    alone.state = ClusterState::Singleton;
    alone.discovery.last_success = None;
    let server = Server::with(config(None), alone);
    let text = server.get("/metrics").await.body;
    for absent in [
        "muster_views_agree",
        "muster_majority",
        "muster_discovery_last_success_timestamp_seconds",
        "muster_tls_certificate_expiry_timestamp_seconds",
        "muster_tls_certificate_not_after_seconds",
        "muster_tls_unverified",
        "muster_api_certificate_expiry_timestamp_seconds",
        "muster_broker_up",
        "muster_broker_view_agrees",
    ] {
        assert!(!samples(&text).contains_key(absent), "{absent}");
    }
    server.metrics.tls_not_after.set(1_900_000_000);
    server.metrics.broker_view_agrees.set(0);
    let text = server.get("/metrics").await.body;
    for line in [
        "muster_tls_certificate_expiry_timestamp_seconds 1900000000",
        "muster_tls_unverified 0",
        "muster_broker_view_agrees 0",
    ] {
        assert!(has(&text, line), "{line} in {text}");
    }
}

#[tokio::test]
async fn a_large_cluster_has_a_bounded_number_of_series() {
    let mut large = snapshot();
    large.members =
        (0..300).map(|i| member(&format!("emqx{i:03}@127.0.0.1"), MemberStatus::Up)).collect();
    let server = Server::with(config(None), large);
    let text = server.get("/metrics").await.body;
    assert_eq!(text.matches("\nmuster_member_up{").count(), 256);
    assert!(has(&text, r#"muster_members{status="up"} 300"#));
}

#[tokio::test]
async fn each_scraper_gets_the_format_that_it_asks_for() {
    let server = Server::start();
    server.get("/livez").await;
    // What Prometheus 2.42 sends.
    let prometheus = "application/openmetrics-text;version=1.0.0,\
                      application/openmetrics-text;version=0.0.1;q=0.75,\
                      text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
    let open = scrape(&server, prometheus).await;
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(open.head.contains(kind), "{open:?}");
    assert!(open.body.ends_with("# EOF\n"));
    assert!(has(&open.body, "# TYPE muster_http_requests counter"));
    for accept in ["*/*", "text/plain", "application/json", "", "application/openmetrics-text;q=0"]
    {
        let text = scrape(&server, accept).await;
        let kind = "content-type: text/plain; version=0.0.4; charset=utf-8";
        assert!(text.head.contains(kind), "{accept}: {text:?}");
        assert!(!text.body.contains("# EOF"));
        assert!(has(&text.body, "# TYPE muster_http_requests_total counter"));
        let help =
            "# HELP muster_http_requests_total HTTP requests answered, by class of the status.";
        assert!(has(&text.body, help), "{}", text.body);
    }
}

#[tokio::test]
async fn every_sample_is_in_the_catalogue() {
    let server = Server::start();
    server.metrics.dropped("link");
    server.metrics.limit("members");
    server.metrics.rtt_seconds.observe(0.01);
    let text = server.get("/metrics").await.body;
    let known = catalogue::all();
    for (name, mut labels) in samples(&text) {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        labels.remove("le");
        let entry = known.iter().find(|entry| {
            entry.sample() == name
                || entry.kind == catalogue::Kind::Histogram && Some(entry.name) == family
        });
        let entry = entry.unwrap_or_else(|| panic!("{name} is not in the catalogue"));
        let declared = entry.labels.iter().map(|&label| label.to_owned()).collect();
        assert_eq!(labels, declared, "{name}");
    }
    let process = ["cpu_seconds_total", "resident_memory_bytes", "start_time_seconds", "open_fds"];
    for name in process.map(|name| format!("process_{name}")) {
        let line =
            text.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse::<f64>().ok());
        assert!(line.is_some_and(|value| value >= 0.0), "{name}: {line:?}");
    }
}
