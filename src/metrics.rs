//! Counters of everything that happens, in the Prometheus text format.

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

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

/// `limit`: which bound was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Reached {
    /// The bound, a fixed word.
    pub limit: Word,
}

/// `direction` and `outcome` of a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Handshake {
    /// `in` or `out`.
    pub direction: Word,
    /// `ok`, or the kind of failure.
    pub outcome: Word,
}

/// `status` of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Status {
    /// `up`, `suspect` or `down`.
    pub status: Word,
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

/// Every metric of the process. Shared by reference; counting never blocks.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Members by status.
    pub members: Family<Status, Gauge>,
    /// Links that finished their handshake and are open.
    pub links: Gauge,
    /// Handshakes ended.
    pub handshakes: Family<Handshake, Counter>,
    /// Connections closed before a handshake was tried or finished, by cause.
    pub connections_refused: Family<Cause, Counter>,
    /// Links whose peer is authenticated and may not talk to us, by cause.
    pub links_refused: Family<Cause, Counter>,
    /// Frames that were read and not used, by cause.
    pub frames_ignored: Family<Cause, Counter>,
    /// Bounds of the membership that were reached, by limit; at most once a second each.
    pub limits_reached: Family<Reached, Counter>,
    /// Things dropped because a bounded queue was full, by queue.
    pub queue_drops: Family<Cause, Counter>,
    /// Membership messages sent.
    pub messages_sent: Counter,
    /// Membership messages received.
    pub messages_received: Counter,
    /// Discovery rounds ended.
    pub discovery_rounds: Family<Outcome, Counter>,
    /// Files rendered, or not.
    pub render: Family<Render, Counter>,
    /// Runs of hooks ended.
    pub hook_runs: Family<HookRun, Counter>,
    /// Events that a hook did not get because too many waited.
    pub hook_dropped: Family<Hook, Counter>,
    /// Multicast datagrams received.
    pub datagrams: Family<Outcome, Counter>,
    /// HTTP requests answered, by status class.
    pub http_requests: Family<Outcome, Counter>,
    /// When the first of our own TLS certificates ends, seconds since 1970; 0 without TLS.
    pub tls_not_after: Gauge,
    /// 1 while TLS peers are not verified (`verify_none`).
    pub tls_unverified: Gauge,
    /// 1 while changed TLS files cannot be used and the old ones still are.
    pub tls_stale: Gauge,
    /// Changed TLS files read.
    pub tls_reloads: Family<Outcome, Counter>,
    /// 1 while changed cookie files cannot be used and the old cookies still are.
    pub cookie_stale: Gauge,
    /// Changed cookie files read.
    pub cookie_reloads: Family<Outcome, Counter>,
    /// DNS queries taken, by how they ended.
    pub dns_queries: Family<Outcome, Counter>,
    /// Whether the broker's own view of its cluster is the members': 1 or 0; -1 while
    /// nobody compares them.
    pub broker_view_agrees: Gauge,
    /// Lines of the log that could not be written.
    pub log_lines_dropped: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("muster");
        let mut metrics = Self {
            registry: Registry::default(),
            members: Family::default(),
            links: Gauge::default(),
            handshakes: Family::default(),
            connections_refused: Family::default(),
            links_refused: Family::default(),
            frames_ignored: Family::default(),
            limits_reached: Family::default(),
            queue_drops: Family::default(),
            messages_sent: Counter::default(),
            messages_received: Counter::default(),
            discovery_rounds: Family::default(),
            render: Family::default(),
            hook_runs: Family::default(),
            hook_dropped: Family::default(),
            datagrams: Family::default(),
            http_requests: Family::default(),
            tls_not_after: Gauge::default(),
            tls_unverified: Gauge::default(),
            tls_stale: Gauge::default(),
            tls_reloads: Family::default(),
            cookie_stale: Gauge::default(),
            cookie_reloads: Family::default(),
            dns_queries: Family::default(),
            broker_view_agrees: Gauge::default(),
            log_lines_dropped: Counter::default(),
        };
        registry.register("members", "Members by status", metrics.members.clone());
        registry.register("links", "Open mesh links", metrics.links.clone());
        registry.register("handshakes", "Handshakes ended", metrics.handshakes.clone());
        registry.register(
            "connections_refused",
            "Mesh connections closed before a handshake was finished",
            metrics.connections_refused.clone(),
        );
        registry.register(
            "links_refused",
            "Mesh links closed because of what the peer said of itself",
            metrics.links_refused.clone(),
        );
        registry.register(
            "frames_ignored",
            "Mesh frames read and not used",
            metrics.frames_ignored.clone(),
        );
        registry.register(
            "limit_reached",
            "Seconds in which a bound of the membership's tables was reached",
            metrics.limits_reached.clone(),
        );
        registry.register(
            "queue_drops",
            "Items dropped because a bounded queue was full",
            metrics.queue_drops.clone(),
        );
        registry.register(
            "messages_sent",
            "Membership messages sent",
            metrics.messages_sent.clone(),
        );
        registry.register(
            "messages_received",
            "Membership messages received",
            metrics.messages_received.clone(),
        );
        registry.register(
            "discovery_rounds",
            "Discovery rounds ended",
            metrics.discovery_rounds.clone(),
        );
        registry.register("render", "Files rendered, or not", metrics.render.clone());
        registry.register("hook_runs", "Runs of hooks ended", metrics.hook_runs.clone());
        registry.register(
            "hook_dropped",
            "Events that a hook did not get because too many waited",
            metrics.hook_dropped.clone(),
        );
        registry.register("datagrams", "Multicast datagrams received", metrics.datagrams.clone());
        registry.register("http_requests", "HTTP requests answered", metrics.http_requests.clone());
        registry.register(
            "tls_certificate_not_after_seconds",
            "When the first of our own TLS certificates ends, seconds since 1970",
            metrics.tls_not_after.clone(),
        );
        registry.register(
            "tls_unverified",
            "1 while TLS peers are not verified (verify_none)",
            metrics.tls_unverified.clone(),
        );
        registry.register(
            "tls_stale",
            "1 while changed TLS files cannot be used and the old ones still are",
            metrics.tls_stale.clone(),
        );
        registry.register("tls_reloads", "Changed TLS files read", metrics.tls_reloads.clone());
        registry.register(
            "cookie_stale",
            "1 while changed cookie files cannot be used and the old cookies still are",
            metrics.cookie_stale.clone(),
        );
        registry.register(
            "cookie_reloads",
            "Changed cookie files read",
            metrics.cookie_reloads.clone(),
        );
        registry.register("dns_queries", "DNS queries taken", metrics.dns_queries.clone());
        metrics.broker_view_agrees.set(-1);
        registry.register(
            "broker_view_agrees",
            "1 while the broker's own view of its cluster is the members'; -1: not known",
            metrics.broker_view_agrees.clone(),
        );
        registry.register(
            "log_lines_dropped",
            "Lines of the log that could not be written",
            metrics.log_lines_dropped.clone(),
        );
        metrics.registry = registry;
        metrics
    }
}

impl Metrics {
    /// The Prometheus text exposition of everything.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _infallible = encode(&mut text, &self.registry);
        text
    }

    /// Counts a queue's drop.
    pub fn dropped(&self, queue: &'static str) {
        self.queue_drops.get_or_create(&Cause { cause: Word(queue) }).inc();
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
