//! Counters of everything that happens, and how they are told to Prometheus.
//!
//! A metric is declared once: in the list below where it is counted, in
//! [`catalogue`] where it is measured when somebody asks ([`Scrape`]). Registration,
//! the help texts and `docs/metrics.md` follow from that.

pub mod catalogue;
mod exposition;
mod process;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::TypedMetric;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
pub use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use catalogue::{Entry, Kind};
pub use exposition::{Format, Scrape};
pub use process::measure as measure_process;

/// A label value out of a fixed set of ours; never a text that a peer chose, so
/// that no peer can grow the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Word(pub &'static str);

impl EncodeLabelValue for Word {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.0.encode(encoder)
    }
}

/// `outcome`: how an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    /// `ok`, or the kind of failure.
    pub outcome: Word,
}

/// `cause`: why something was dropped or refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Cause {
    /// The reason, a fixed word.
    pub cause: Word,
}

/// `direction` and `outcome` of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Handshake {
    /// `in` or `out`.
    pub direction: Word,
    /// `ok`, or the kind of failure.
    pub outcome: Word,
}

/// `queue`: which bounded queue was full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Queue {
    /// Its name, a fixed word.
    pub queue: Word,
}

/// `limit`: which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Limit {
    /// Its name, a fixed word.
    pub limit: Word,
}

/// `target` and `outcome` of a rendered file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Render {
    /// `target` of the configuration.
    pub target: String,
    /// `written`, or the kind of failure.
    pub outcome: Word,
}

/// `hook` and `outcome` of a hook's run.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HookRun {
    /// The configured program or URL.
    pub hook: String,
    /// `ok`, or the kind of failure.
    pub outcome: Word,
}

/// `hook`: which hook's queue was full.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Hook {
    /// The configured program or URL.
    pub hook: String,
}

/// Upper bounds of the round trips' buckets, seconds: from loopback over a site to the
/// other side of the world, and to what is no longer normal.
const RTT_BUCKETS: [f64; 12] =
    [0.0001, 0.000_25, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0];

macro_rules! make {
    () => {
        Default::default()
    };
    ($make:expr) => {
        $make
    };
}

macro_rules! metrics {
    (
        counted { $(
            $(#[doc = $help:literal])+
            $field:ident: $kind:ty = $name:literal [$($label:literal),*] $(= $make:expr)?;
        )* }
        held { $(
            $(#[doc = $doc:literal])+
            $held:ident: $held_kind:ty $(= $held_make:expr)?;
        )* }
    ) => {
        /// Every metric of the process. Shared by reference; counting never blocks.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            $( $(#[doc = $help])+ pub $field: $kind, )*
            $( $(#[doc = $doc])+ pub $held: $held_kind, )*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let mut registry = Registry::with_prefix("muster");
                $(
                    let $field: $kind = make!($($make)?);
                    registry.register($name, sentence(concat!($($help),+)), $field.clone());
                )*
                Self {
                    registry,
                    $($field,)*
                    $($held: make!($($held_make)?),)*
                }
            }
        }

        /// What [`Metrics`] counts.
        const COUNTED: &[Entry] = &[ $( Entry {
            name: concat!("muster_", $name),
            kind: Kind::of(<$kind as TypedMetric>::TYPE),
            labels: &[$($label),*],
            help: concat!($($help),+),
        } ),* ];
    };
}

metrics! {
    counted {
        /// Open mesh links.
        links: Gauge = "links" [];
        /// Handshakes ended.
        handshakes: Family<Handshake, Counter> = "handshakes" ["direction", "outcome"];
        /// Mesh connections closed before a handshake was finished.
        connections_refused: Family<Cause, Counter> = "connections_refused" ["cause"];
        /// Mesh links closed because of what the peer said of itself.
        links_refused: Family<Cause, Counter> = "links_refused" ["cause"];
        /// Mesh frames read and not used.
        frames_ignored: Family<Cause, Counter> = "frames_ignored" ["cause"];
        /// Items dropped because a bounded queue was full.
        queue_dropped: Family<Queue, Counter> = "queue_dropped" ["queue"];
        /// Old name of `muster_queue_dropped_total`.
        queue_drops: Family<Cause, Counter> = "queue_drops" ["cause"];
        /// Times a bound on what others may make this agent hold or do was reached.
        limit_reached: Family<Limit, Counter> = "limit_reached" ["limit"];
        /// Log lines dropped because whoever reads the log did not keep up.
        log_lines_dropped: Counter = "log_lines_dropped" [];
        /// Membership messages sent.
        messages_sent: Counter = "messages_sent" [];
        /// Membership messages received.
        messages_received: Counter = "messages_received" [];
        /// Members that this node saw become suspect.
        suspicions: Counter = "suspicions" [];
        /// Suspicions that their member answered in time: it was alive.
        suspicions_refuted: Counter = "suspicions_refuted" [];
        /// Round trips of answered probes over this node's links.
        rtt_seconds: Histogram = "rtt_seconds" [] = Histogram::new(RTT_BUCKETS);
        /// Discovery rounds ended.
        discovery_rounds: Family<Outcome, Counter> = "discovery_rounds" ["outcome"];
        /// Multicast datagrams received.
        datagrams: Family<Outcome, Counter> = "datagrams" ["outcome"];
        /// HTTP requests answered, by class of the status.
        http_requests: Family<Outcome, Counter> = "http_requests" ["outcome"];
        /// Changed TLS files read.
        tls_reloads: Family<Outcome, Counter> = "tls_reloads" ["outcome"];
        /// 1 while changed cookie files cannot be used and the old cookies still are.
        cookie_stale: Gauge = "cookie_stale" [];
        /// Changed cookie files read.
        cookie_reloads: Family<Outcome, Counter> = "cookie_reloads" ["outcome"];
        /// 1 while the membership could not be written to disk: a restart now would
        /// forget its newest changes.
        state_unsaved: Gauge = "state_unsaved" [];
        /// Files rendered, or not.
        render: Family<Render, Counter> = "render" ["target", "outcome"];
        /// Runs of hooks ended.
        hook_runs: Family<HookRun, Counter> = "hook_runs" ["hook", "outcome"];
        /// Events that a hook did not get because too many waited.
        hook_dropped: Family<Hook, Counter> = "hook_dropped" ["hook"];
        /// DNS queries answered.
        dns_queries: Family<Outcome, Counter> = "dns_queries" ["outcome"];
    }
    held {
        /// When the first of our own mesh certificates ends, seconds since 1970; 0 without TLS.
        tls_not_after: Gauge;
        /// 1 while TLS peers are not verified (`verify_none`).
        tls_unverified: Gauge;
        /// 1 while changed TLS files cannot be used and the old ones still are.
        tls_stale: Gauge;
        /// When the API's own certificate ends, seconds since 1970; 0 without TLS.
        api_not_after: Gauge;
        /// 1 while the API's changed TLS files cannot be used and the old ones still are.
        api_tls_stale: Gauge;
        /// Whether the broker's own view of its cluster is the members': 1 or 0; -1 while
        /// nobody compares them.
        broker_view_agrees: Gauge = unknown();
    }
}

/// A gauge that has not been measured.
fn unknown() -> Gauge {
    let gauge = Gauge::default();
    gauge.set(-1);
    gauge
}

/// A help text as the exposition wants it, which adds the full stop itself.
fn sentence(help: &str) -> &str {
    let help = help.trim();
    help.strip_suffix('.').unwrap_or(help)
}

impl Metrics {
    /// What was counted, in the text format.
    #[must_use]
    pub fn render(&self) -> String {
        exposition::render(&[&self.registry], Format::Text)
    }

    /// Everything, what was measured for this answer included, in one of the formats.
    #[must_use]
    pub fn expose(&self, scrape: &Scrape, format: Format) -> String {
        exposition::render(&[&self.registry, scrape.registry()], format)
    }

    /// Counts a queue's drop.
    pub fn dropped(&self, queue: &'static str) {
        self.queue_dropped.get_or_create(&Queue { queue: Word(queue) }).inc();
        self.queue_drops.get_or_create(&Cause { cause: Word(queue) }).inc();
    }

    /// Counts that a bound was reached; true the first time.
    pub fn limit(&self, limit: &'static str) -> bool {
        self.limit_reached.get_or_create(&Limit { limit: Word(limit) }).inc() == 0
    }

    /// Counts changed TLS files: `ok` or `failed`.
    pub fn tls_reload(&self, outcome: &'static str) {
        self.tls_reloads.get_or_create(&Outcome { outcome: Word(outcome) }).inc();
    }

    /// Counts changed cookie files: `ok` or `failed`.
    pub fn cookie_reload(&self, outcome: &'static str) {
        self.cookie_reloads.get_or_create(&Outcome { outcome: Word(outcome) }).inc();
    }

    /// Counts a handshake's end.
    pub fn handshake(&self, direction: &'static str, outcome: &'static str) {
        let labels = Handshake { direction: Word(direction), outcome: Word(outcome) };
        self.handshakes.get_or_create(&labels).inc();
    }
}

#[cfg(test)]
mod tests;
