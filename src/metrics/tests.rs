use super::*;

#[test]
fn the_format_follows_accept() {
    for (accept, expected) in [
        ("", Format::Text),
        ("*/*", Format::Text),
        ("application/openmetrics-text", Format::OpenMetrics),
        ("Application/OpenMetrics-Text; version=1.0.0", Format::OpenMetrics),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.2", Format::OpenMetrics),
        ("application/openmetrics-text;q=0.2,text/plain;q=0.5", Format::Text),
        ("application/openmetrics-text; q=0", Format::Text),
        ("application/openmetrics-text;q=x,text/plain", Format::OpenMetrics),
        ("text/html,*/*;q=0.8", Format::Text),
    ] {
        assert_eq!(Format::accepted(accept), expected, "{accept:?}");
    }
}

/// The text format introduces a counter by the name of its samples.
#[test]
fn every_sample_of_the_text_format_is_introduced() {
    let metrics = Metrics::default();
    metrics.messages_sent.inc();
    metrics.rtt_seconds.observe(0.003);
    metrics.handshake("in", "ok");
    let mut scrape = Scrape::default();
    scrape.gauge("muster_health", 1_i64);
    scrape.labelled("muster_health_reason", vec![("check", "a\"b".to_owned())], 1);
    measure_process(&mut scrape);
    let text = metrics.expose(&scrape, Format::Text);
    let mut introduced = "";
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            introduced = rest.split(' ').next().unwrap();
        } else if !line.starts_with('#') {
            assert!(line.starts_with(introduced), "{line} under {introduced}");
        }
    }
    assert!(text.contains("muster_health_reason{check=\"a\\\"b\"} 1\n"), "{text}");
    assert!(text.contains("muster_rtt_seconds_bucket{le=\"0.005\"} 1\n"), "{text}");
}

#[test]
fn names_are_unique_and_helpful() {
    let all = catalogue::all();
    for pair in all.windows(2) {
        assert_ne!(pair[0].name, pair[1].name);
    }
    for entry in all {
        assert!(entry.help.trim().ends_with('.'), "{}: {}", entry.name, entry.help);
        assert!(!entry.name.ends_with("_total"), "{}", entry.name);
    }
}
