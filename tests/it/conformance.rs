//! One suite over every strategy: what a strategy finds must be what its backend
//! knows, an outage must never look like an empty answer, and nothing that a backend
//! says may hurt.
//!
//! A [`Backend`] is a real server (or the wire itself) under the suite's control. To
//! add a strategy: implement [`Backend`] for it and name it at the end of this file.

mod backends;

use std::collections::BTreeSet;

use muster::config::Config;
use muster::discovery::{DiscoveryError, DiscoveryEvent};
use muster::node::NodeName;

use crate::support::discovery::{Discovery, names};

/// What the suite does to a strategy's other side. Nodes go by number.
trait Backend: Sized {
    /// Whether there is a server that can be down.
    const OUTAGES: bool = true;

    /// Not yet serving; `None` where the server is not installed and that is no failure.
    fn prepare() -> Option<Self>;

    /// Starts serving, and returns when it does.
    fn start(&mut self);

    /// `kill -9`.
    fn stop(&mut self);

    /// The name of node `index`.
    fn node(&self, index: usize) -> String;

    /// The configuration of node `index`.
    fn config(&self, index: usize) -> Config;

    /// Has the backend know exactly `nodes`. Those in `running` are discoveries of the
    /// suite: where nodes register themselves, they have done so.
    fn list(&mut self, nodes: &BTreeSet<usize>, running: &BTreeSet<usize>);

    /// Besides what is listed, whatever can be put there that is no node.
    fn garbage(&mut self);
}

struct Suite<B> {
    backend: B,
    running: Vec<(usize, Discovery)>,
}

impl<B: Backend> Suite<B> {
    fn new(backend: B) -> Self {
        Self { backend, running: Vec::new() }
    }

    fn run(&mut self, index: usize) {
        let config = self.backend.config(index);
        self.running.push((index, Discovery::start(&config)));
    }

    fn list(&mut self, nodes: impl IntoIterator<Item = usize>) -> BTreeSet<usize> {
        let nodes = nodes.into_iter().collect();
        let running = self.running.iter().map(|(index, _)| *index).collect();
        self.backend.list(&nodes, &running);
        nodes
    }

    /// Waits until every running discovery names exactly these nodes (itself apart,
    /// which some strategies name and others don't).
    async fn all_find(&mut self, nodes: &BTreeSet<usize>) {
        let nodes: Vec<_> = nodes.iter().map(|index| self.backend.node(*index)).collect();
        let nodes = names(&nodes);
        for (index, discovery) in &mut self.running {
            let own = NodeName::parse(&self.backend.node(*index)).unwrap();
            let found = |event: &DiscoveryEvent| matches!(event, DiscoveryEvent::Answer { nodes: found, .. } if with(found, &own) == nodes);
            discovery.until(&format!("{index} to find {nodes:?}"), found).await;
        }
    }

    async fn all_fail(&mut self) {
        for (_, discovery) in &mut self.running {
            let error = discovery.fails().await;
            let said_so = matches!(&error, DiscoveryError::Unreachable(text) if !text.is_empty());
            assert!(said_so, "{error:?}");
        }
    }

    async fn formed() -> Option<(Self, BTreeSet<usize>)> {
        let mut suite = Self::new(B::prepare()?);
        suite.backend.start();
        (0..3).for_each(|index| suite.run(index));
        let nodes = suite.list(0..3);
        suite.all_find(&nodes).await;
        Some((suite, nodes))
    }

    async fn end(self) {
        for (_, discovery) in self.running {
            discovery.handle.withdraw_and_stop().await;
        }
    }
}

fn with(found: &BTreeSet<NodeName>, own: &NodeName) -> BTreeSet<NodeName> {
    found.iter().chain([own]).cloned().collect()
}

async fn form_grow_shrink<B: Backend>() {
    let Some((mut suite, _)) = Suite::<B>::formed().await else { return };
    suite.run(3);
    let nodes = suite.list(0..4);
    suite.all_find(&nodes).await;
    let (_, gone) = suite.running.remove(1);
    gone.handle.withdraw_and_stop().await;
    let nodes = suite.list([0, 2, 3]);
    suite.all_find(&nodes).await;
    suite.end().await;
}

async fn down_at_start<B: Backend>() {
    let Some(backend) = B::prepare() else { return };
    let mut suite = Suite::new(backend);
    (0..3).for_each(|index| suite.run(index));
    suite.all_fail().await;
    suite.backend.start();
    let nodes = suite.list(0..3);
    suite.all_find(&nodes).await;
    suite.end().await;
}

async fn down_later_and_back_with_other_answers<B: Backend>() {
    let Some((mut suite, before)) = Suite::<B>::formed().await else { return };
    suite.backend.stop();
    // From the first failure on, failures only: an outage is never an empty answer.
    suite.all_fail().await;
    for (index, discovery) in &mut suite.running {
        for _ in 0..3 {
            match discovery.next().await {
                DiscoveryEvent::Failed { .. } => {}
                DiscoveryEvent::Answer { nodes, .. } => panic!("{index} was told {nodes:?}"),
            }
        }
    }
    suite.backend.start();
    let after = suite.list([0, 1, 2, 7, 8]);
    assert_ne!(before, after);
    suite.all_find(&after).await;
    suite.end().await;
}

async fn garbage<B: Backend>() {
    let Some((mut suite, nodes)) = Suite::<B>::formed().await else { return };
    suite.backend.garbage();
    let nodes: Vec<_> = nodes.iter().map(|index| suite.backend.node(*index)).collect();
    let nodes = names(&nodes);
    for (index, discovery) in &mut suite.running {
        let own = NodeName::parse(&suite.backend.node(*index)).unwrap();
        for _ in 0..8 {
            // A backend that is watched is asked again only when it tells of a change.
            discovery.handle.ask_now();
            match discovery.next().await {
                DiscoveryEvent::Answer { nodes: found, .. } => {
                    assert_eq!(with(&found, &own), nodes)
                }
                DiscoveryEvent::Failed { error, .. } => {
                    assert!(!matches!(error, DiscoveryError::Crashed(_)), "{error:?}");
                }
            }
        }
    }
    let nodes = suite.list([0, 1, 2, 9]);
    suite.all_find(&nodes).await;
    suite.end().await;
}

async fn five_hundred_nodes<B: Backend>() {
    let Some((mut suite, _)) = Suite::<B>::formed().await else { return };
    let nodes = suite.list(0..500);
    suite.all_find(&nodes).await;
    let nodes = suite.list(0..3);
    suite.all_find(&nodes).await;
    suite.end().await;
}

/// The suite, as one test each.
macro_rules! conforms {
    ($strategy:ident, $backend:ty) => {
        mod $strategy {
            use super::*;

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn form_grow_shrink() {
                super::form_grow_shrink::<$backend>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn down_at_start() {
                if <$backend>::OUTAGES {
                    super::down_at_start::<$backend>().await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn down_later_and_back_with_other_answers() {
                if <$backend>::OUTAGES {
                    super::down_later_and_back_with_other_answers::<$backend>().await;
                }
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn garbage() {
                super::garbage::<$backend>().await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn five_hundred_nodes() {
                super::five_hundred_nodes::<$backend>().await;
            }
        }
    };
}

conforms!(dns_a, backends::DnsA);
conforms!(dns_srv, backends::DnsSrv);
conforms!(etcd, backends::EtcdServer);
conforms!(k8s, backends::Kube);
conforms!(mcast, backends::Group);
