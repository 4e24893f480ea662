//! Every metric by name: what is measured when somebody asks, and the reference that
//! `docs/metrics.md` holds.

use std::fmt::Write as _;

use prometheus_client::metrics::MetricType;

use super::{COUNTED, sentence};

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It only grows; its samples end in `_total`.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Buckets, a sum and a count.
    Histogram,
}

impl Kind {
    pub(super) const fn of(kind: MetricType) -> Self {
        match kind {
            MetricType::Counter => Self::Counter,
            MetricType::Histogram => Self::Histogram,
            MetricType::Gauge | MetricType::Info | MetricType::Unknown => Self::Gauge,
        }
    }

    /// As Prometheus spells it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// Its name without a counter's `_total`.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

impl Entry {
    /// As queries name it.
    #[must_use]
    pub fn sample(&self) -> String {
        match self.kind {
            Kind::Counter => format!("{}_total", self.name),
            Kind::Gauge | Kind::Histogram => self.name.to_owned(),
        }
    }
}

/// Measured when somebody asks; absent where it would mean nothing.
pub(super) const MEASURED: &[Entry] = &[
    gauge("muster_build_info", &["version", "revision"], "1; the labels say what runs."),
    gauge("muster_members", &["status"], "Members by status."),
    gauge(
        "muster_member_up",
        &["node", "role"],
        "1 where a member is up, 0 where it is suspect or down; the first 256 by name.",
    ),
    gauge(
        "muster_views_agree",
        &[],
        "1 while every member that reported a view reported this node's; absent outside a cluster.",
    ),
    gauge(
        "muster_majority",
        &[],
        "1 while more than half of the cores that count are up; absent outside a cluster.",
    ),
    gauge(
        "muster_health",
        &[],
        "0: all is well; 1: something needs an operator; 2: not ready. muster_health_reason says why.",
    ),
    gauge("muster_health_reason", &["check"], "1 for every check that muster_health stands for."),
    gauge(
        "muster_discovery_last_success_timestamp_seconds",
        &[],
        "When discovery last answered, seconds since 1970; absent before, and where it has nobody \
         to ask.",
    ),
    gauge(
        "muster_tls_certificate_expiry_timestamp_seconds",
        &[],
        "When the first of this node's own mesh certificates ends, seconds since 1970; absent \
         without TLS.",
    ),
    gauge(
        "muster_tls_certificate_not_after_seconds",
        &[],
        "Old name of muster_tls_certificate_expiry_timestamp_seconds.",
    ),
    gauge(
        "muster_tls_unverified",
        &[],
        "1 while TLS peers are not verified (verify_none); absent without TLS.",
    ),
    gauge(
        "muster_tls_stale",
        &[],
        "1 while changed TLS files cannot be used and the old ones still are; absent without TLS.",
    ),
    gauge(
        "muster_api_certificate_expiry_timestamp_seconds",
        &[],
        "When the API's own certificate ends, seconds since 1970; absent without agent.api.tls.",
    ),
    gauge(
        "muster_api_tls_stale",
        &[],
        "1 while changed files of agent.api.tls cannot be used and the old ones still are; absent \
         without agent.api.tls.",
    ),
    gauge(
        "muster_broker_up",
        &[],
        "1 while the broker beside this agent answers its probe, 0 while it does not; absent \
         without a probe that has an answer.",
    ),
    gauge(
        "muster_broker_view_agrees",
        &[],
        "1 while the broker's own view of its cluster is the members'; absent while nobody \
         compares them.",
    ),
    Entry {
        name: "process_cpu_seconds",
        kind: Kind::Counter,
        labels: &[],
        help: "User and system CPU time spent.",
    },
    gauge("process_resident_memory_bytes", &[], "Resident memory."),
    gauge("process_virtual_memory_bytes", &[], "Virtual memory."),
    gauge("process_start_time_seconds", &[], "When the process started, seconds since 1970."),
    gauge("process_open_fds", &[], "Open file descriptors."),
    gauge("process_max_fds", &[], "Most file descriptors that may be open."),
    gauge("process_threads", &[], "Threads of the process."),
];

const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Entry {
    Entry { name, kind: Kind::Gauge, labels, help }
}

/// All of them, sorted by name.
#[must_use]
pub fn all() -> Vec<Entry> {
    let mut all: Vec<_> = COUNTED.iter().chain(MEASURED).copied().collect();
    all.sort_by_key(|entry| entry.name);
    all
}

/// The table of `docs/metrics.md`.
#[must_use]
pub fn table() -> String {
    let mut text =
        String::from("| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n");
    for entry in all() {
        let labels: Vec<_> = entry.labels.iter().map(|label| format!("`{label}`")).collect();
        // Writing to a String cannot fail.
        let _infallible = writeln!(
            text,
            "| `{}` | {} | {} | {}. |",
            entry.sample(),
            entry.kind.name(),
            labels.join(", "),
            sentence(entry.help).replace('|', "\\|")
        );
    }
    text
}
