//! What a scraper reads: OpenMetrics 1.0, or the older text format 0.0.4.
//!
//! The library writes OpenMetrics. The two differ in how a counter is introduced (the
//! text format names its samples, OpenMetrics the family), in units and in the end mark;
//! see "Exposition formats" in Prometheus' documentation.

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Metric, Registry};

use super::catalogue::MEASURED;
use super::sentence;

/// How the metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Prometheus' text format, version 0.0.4: what everything reads.
    Text,
    /// OpenMetrics, version 1.0.0.
    OpenMetrics,
}

impl Format {
    /// What an `Accept` header asks for: OpenMetrics where it is named and nothing that
    /// the text format satisfies is liked better, and text in every other case.
    #[must_use]
    pub fn accepted(accept: &str) -> Self {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
            let weight = parts
                .find_map(|part| part.strip_prefix("q=")?.trim().parse::<f32>().ok())
                .unwrap_or(1.0);
            match kind.as_str() {
                "application/openmetrics-text" => open = open.max(weight),
                "text/plain" | "text/*" | "*/*" => text = text.max(weight),
                _ => {}
            }
        }
        if open > 0.0 && open >= text { Self::OpenMetrics } else { Self::Text }
    }

    /// `Content-Type` of the answer.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// What is measured for one answer. Every name is one of the catalogue.
#[derive(Debug, Default)]
pub struct Scrape {
    registry: Registry,
    started: Vec<(&'static str, Family<Labels, Gauge>)>,
}

/// Names and values.
type Labels = Vec<(&'static str, String)>;

impl Scrape {
    /// Adds a gauge without labels.
    pub fn gauge<N>(&mut self, name: &'static str, value: N)
    where
        ConstGauge<N>: Metric,
    {
        self.registry.register(name, help(name), ConstGauge::new(value));
    }

    /// Adds one sample of a gauge with labels.
    pub fn labelled(&mut self, name: &'static str, labels: Labels, value: i64) {
        let family = match self.started.iter().find(|(started, _)| *started == name) {
            Some((_, family)) => family.clone(),
            None => {
                let family = Family::default();
                self.registry.register(name, help(name), family.clone());
                self.started.push((name, family.clone()));
                family
            }
        };
        family.get_or_create(&labels).set(value);
    }

    /// Adds a counter; its name is without `_total`.
    pub fn counter(&mut self, name: &'static str, value: f64) {
        self.registry.register(name, help(name), ConstCounter::new(value));
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }
}

fn help(name: &str) -> &'static str {
    let entry = MEASURED.iter().find(|entry| entry.name == name);
    debug_assert!(entry.is_some(), "{name} is not in the catalogue");
    entry.map_or("", |entry| sentence(entry.help))
}

pub(super) fn render(registries: &[&Registry], format: Format) -> String {
    let mut text = String::new();
    for registry in registries {
        // Writing to a String cannot fail.
        let _infallible = encode_registry(&mut text, registry);
    }
    match format {
        Format::Text => as_text(&text),
        Format::OpenMetrics => {
            let _infallible = encode_eof(&mut text);
            text
        }
    }
}

/// OpenMetrics as the text format. A family's help stands before its type there.
fn as_text(open: &str) -> String {
    let mut text = String::with_capacity(open.len());
    let mut push = |parts: &[&str]| {
        parts.iter().for_each(|part| text.push_str(part));
        text.push('\n');
    };
    let mut help = None;
    for line in open.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some((name, kind)) =
            line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' '))
        {
            let suffix = if kind == "counter" { "_total" } else { "" };
            if let Some((_, help)) = help.take() {
                push(&["# HELP ", name, suffix, " ", help]);
            }
            push(&["# TYPE ", name, suffix, " ", kind]);
        } else if !line.starts_with("# UNIT ") {
            push(&[line]);
        }
    }
    text
}
