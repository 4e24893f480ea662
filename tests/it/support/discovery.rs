//! Strategies run inside the test, under the runner that agents use.

use std::collections::BTreeSet;
use std::sync::Arc;

use muster::config::{self, Config, StrategyConfig};
use muster::discovery::{self, DiscoveryError, DiscoveryEvent, DiscoveryHandle};
use muster::metrics::{Metrics, Outcome, Word};
use muster::node::NodeName;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

use super::agent::COOKIE;
use super::wait::LONG;

/// Node names out of texts.
pub fn names<T: AsRef<str>>(names: &[T]) -> BTreeSet<NodeName> {
    names.iter().map(|name| NodeName::parse(name.as_ref()).unwrap()).collect()
}

/// A node's configuration: defaults, but rounds every 300 ms.
pub fn config(node: &str, strategy: StrategyConfig) -> Config {
    let proto = if node.contains("::") { "inet6_tcp" } else { "inet_tcp" };
    let text = format!(
        "node {{ name = \"{node}\", cookie = \"{COOKIE}\" }}
        cluster {{ autoclean = infinity, proto_dist = {proto} }}
        agent.discovery.interval = 300ms"
    );
    let mut config = config::from_text(&text).unwrap().config;
    config.cluster.strategy = strategy;
    config
}

/// A running discovery and what it said last.
pub struct Discovery {
    pub handle: DiscoveryHandle,
    pub metrics: Arc<Metrics>,
    events: mpsc::Receiver<DiscoveryEvent>,
    last: Option<DiscoveryEvent>,
}

impl Discovery {
    pub fn start(config: &Config) -> Self {
        let metrics = Arc::new(Metrics::default());
        let (handle, events) = discovery::spawn(
            watch::channel(Arc::new(config.clone())).1,
            Arc::clone(&metrics),
            true,
        );
        Self { handle, metrics, events, last: None }
    }

    /// The next event.
    pub async fn next(&mut self) -> DiscoveryEvent {
        let by = Instant::now() + LONG;
        let event = timeout_at(by, self.events.recv()).await;
        let event = event.expect("a round in time").expect("a running discovery");
        self.last = Some(event.clone());
        event
    }

    /// Events until one passes.
    pub async fn until(
        &mut self,
        what: &str,
        mut pass: impl FnMut(&DiscoveryEvent) -> bool,
    ) -> DiscoveryEvent {
        let by = Instant::now() + LONG;
        loop {
            match timeout_at(by, self.events.recv()).await {
                Ok(Some(event)) => {
                    self.last = Some(event.clone());
                    if pass(&event) {
                        return event;
                    }
                }
                Ok(None) => panic!("the discovery ended; waited for {what}"),
                Err(_) => panic!("waited {LONG:?} for {what}; last: {:?}", self.last),
            }
        }
    }

    /// Waits for an answer of exactly these nodes.
    pub async fn finds<T: AsRef<str>>(&mut self, nodes: &[T]) {
        let nodes = names(nodes);
        let found = |event: &DiscoveryEvent| matches!(event, DiscoveryEvent::Answer { nodes: n, .. } if *n == nodes);
        self.until(&format!("{nodes:?}"), found).await;
    }

    /// Waits for a failed round.
    pub async fn fails(&mut self) -> DiscoveryError {
        let failed = |event: &DiscoveryEvent| matches!(event, DiscoveryEvent::Failed { .. });
        match self.until("a failed round", failed).await {
            DiscoveryEvent::Failed { error, .. } => error,
            DiscoveryEvent::Answer { .. } => unreachable!("waited for a failure"),
        }
    }

    /// Lets rounds pass until something about the discovery is as it should be.
    pub async fn shows(&mut self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let by = Instant::now() + LONG;
        while !holds(self) {
            assert!(Instant::now() < by, "waited {LONG:?} for {what}");
            self.next().await;
        }
    }

    /// `muster_datagrams` of one outcome.
    pub fn datagrams(&self, outcome: &'static str) -> u64 {
        self.metrics.datagrams.get_or_create(&Outcome { outcome: Word(outcome) }).get()
    }

    /// `muster_discovery_rounds` of one outcome.
    pub fn rounds(&self, outcome: &'static str) -> u64 {
        self.metrics.discovery_rounds.get_or_create(&Outcome { outcome: Word(outcome) }).get()
    }
}
