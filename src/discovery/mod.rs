//! Discovery: one trait, one file a strategy, one runner for all of them.
//!
//! A strategy says which nodes there are, or that it could not ask; the two are
//! never confused. It knows nothing of membership: the runner hands its answers
//! to the membership driver, which decides whom to contact.

mod absent;
mod dns;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "k8s")]
mod k8s;
pub mod mcast;
mod runner;
mod static_seeds;
#[cfg_attr(
    not(any(feature = "etcd", feature = "k8s")),
    expect(
        dead_code,
        reason = "what client libraries say needs other words; without them nobody says it"
    )
)]
mod text;
mod tls;

use std::collections::BTreeSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use crate::config::{Config, StrategyConfig};
use crate::metrics::Metrics;
use crate::node::NodeName;

pub use absent::meant;
pub use dns::Dns;
#[cfg(feature = "etcd")]
pub use etcd::Etcd;
#[cfg(feature = "k8s")]
pub use k8s::K8s;
pub use mcast::Mcast;
pub use runner::{DiscoveryEvent, DiscoveryHandle, MAX_NODES, STOP_DEADLINE};
pub use static_seeds::Fixed;
pub(crate) use tls::{TlsError, client_config};

/// A boxed future, so that strategies can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a strategy found. Empty means that nobody is there, for certain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The nodes, this one possibly among them.
    pub nodes: BTreeSet<NodeName>,
    /// How long the answer holds (DNS: the least TTL); `None`: no longer than the interval.
    pub valid_for: Option<Duration>,
    /// Entries that are no node names, and why; they are left out and logged.
    pub rejected: Vec<String>,
    /// What the backend keeps from us although it answers, and what follows from it.
    pub notices: Vec<String>,
    /// What is odd about the answer, and may be over in a moment: worth a word when it is
    /// the same at a second look.
    pub doubts: Vec<String>,
}

/// Why a strategy could not ask. It says nothing about who is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The backend did not answer (in time), or broke off.
    #[error("{0}")]
    Unreachable(String),
    /// The backend answered that we may not ask: credentials, rights.
    #[error("{0}")]
    Denied(String),
    /// The backend answered something that makes no sense.
    #[error("{0}")]
    BadAnswer(String),
    /// The strategy itself crashed; it is made anew.
    #[error("{0}")]
    Crashed(String),
}

impl DiscoveryError {
    /// The kind, as metrics spell it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Denied(_) => "denied",
            Self::BadAnswer(_) => "bad_answer",
            Self::Crashed(_) => "crashed",
        }
    }

    /// The same kind with another text.
    fn with_text(&self, text: String) -> Self {
        match self {
            Self::Unreachable(_) => Self::Unreachable(text),
            Self::Denied(_) => Self::Denied(text),
            Self::BadAnswer(_) => Self::BadAnswer(text),
            Self::Crashed(_) => Self::Crashed(text),
        }
    }
}

/// One way of finding nodes.
pub trait Strategy: Send {
    /// Asks once. Not cancel-safe in effect: a dropped round is asked again.
    ///
    /// # Errors
    /// [`DiscoveryError`]: could not ask.
    fn discover(&mut self) -> BoxFuture<'_, Result<Answer, DiscoveryError>>;

    /// Resolves when the backend says that its answer may have changed, and never
    /// for a strategy that cannot be told. Cancel-safe.
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// The longest wait between two rounds, where a silent backend would go unnoticed in a
    /// longer one.
    fn longest_wait(&self) -> Option<Duration> {
        None
    }

    /// Makes this node impossible to find: on leave, disable and shutdown. The next
    /// [`Strategy::discover`] makes it findable again.
    ///
    /// # Errors
    /// [`DiscoveryError`]: the backend could not be told; its entry then expires.
    fn withdraw(&mut self) -> BoxFuture<'_, Result<(), DiscoveryError>> {
        Box::pin(async { Ok(()) })
    }
}

/// Starts the configured strategy under a runner of its own; must be called within a
/// tokio runtime.
///
/// With `enabled` the first round begins at once, without it the strategy is not
/// even made before [`DiscoveryHandle::set_enabled`]: a node that left stays
/// impossible to find over a restart. Of a configuration that changes the seeds and the
/// core nodes are taken up at [`DiscoveryHandle::reconfigure`].
#[must_use]
pub fn spawn(
    config: watch::Receiver<Arc<Config>>,
    metrics: Arc<Metrics>,
    enabled: bool,
) -> (DiscoveryHandle, mpsc::Receiver<DiscoveryEvent>) {
    let for_strategy = Arc::clone(&metrics);
    let for_settings = config.clone();
    let factory = move || strategy(&config.borrow().clone(), &for_strategy);
    let settings = move || runner::Settings::new(&for_settings.borrow());
    runner::spawn(Box::new(settings), Box::new(factory), metrics, enabled)
}

/// Asks the configured strategy once from outside the agent, registering nothing; that
/// this node is not in the answer is among its doubts. `None` with multicast, whose port
/// and answers belong to the running agent.
///
/// # Errors
/// [`DiscoveryError`]: could not ask.
pub async fn look(config: &Config) -> Option<Result<Answer, DiscoveryError>> {
    let answer = ask(config).await?;
    Some(answer.map(|mut answer| {
        answer.doubts.extend(absent::reason(config, &answer.nodes));
        answer
    }))
}

async fn ask(config: &Config) -> Option<Result<Answer, DiscoveryError>> {
    match &config.cluster.strategy {
        StrategyConfig::Mcast(_) => None,
        #[cfg(feature = "etcd")]
        StrategyConfig::Etcd(etcd) => {
            let name = &config.cluster.name;
            Some(Etcd::new(etcd.clone(), name, config.node.name.clone()).look().await)
        }
        #[cfg(feature = "k8s")]
        StrategyConfig::K8s(k8s) => Some(for_k8s(config, k8s).look().await),
        _ => Some(strategy(config, &Arc::new(Metrics::default())).discover().await),
    }
}

/// What an operator does about a strategy's error.
#[must_use]
pub fn remedy(config: &Config, error: &DiscoveryError) -> String {
    let certificate = error.to_string().contains("certificate");
    let text = match &config.cluster.strategy {
        #[cfg(feature = "k8s")]
        StrategyConfig::K8s(k8s) => return k8s::remedy(k8s, error),
        StrategyConfig::Dns(_) => "check cluster.dns.name, the record and the name servers",
        StrategyConfig::Etcd(_) if error.to_string().contains("NOSPACE") => {
            "compact and defragment etcd, then etcdctl alarm disarm"
        }
        StrategyConfig::Etcd(_) if certificate => {
            "mend cluster.etcd.ssl_options (cacertfile, certfile, keyfile) or etcd's certificate"
        }
        StrategyConfig::Etcd(_) if matches!(error, DiscoveryError::Denied(_)) => {
            "check cluster.etcd.username and password, and that the user's role may read and write \
             the prefix: etcdctl role grant-permission --prefix=true ROLE readwrite PREFIX"
        }
        StrategyConfig::Etcd(_) => "check cluster.etcd.server, and that etcd runs",
        _ => "check the cluster block",
    };
    text.to_owned()
}

/// The configured strategy, fresh.
fn strategy(config: &Config, metrics: &Arc<Metrics>) -> Box<dyn Strategy> {
    match &config.cluster.strategy {
        StrategyConfig::Manual | StrategyConfig::Singleton => Box::new(Fixed::nobody()),
        StrategyConfig::Static { seeds } => Box::new(Fixed::seeds(seeds)),
        #[cfg(feature = "etcd")]
        StrategyConfig::Etcd(etcd) => {
            let name = &config.cluster.name;
            Box::new(Etcd::new(etcd.clone(), name, config.node.name.clone()))
        }
        StrategyConfig::Mcast(mcast) => Box::new(Mcast::new(mcast, config, metrics)),
        StrategyConfig::Dns(dns) => {
            Box::new(Dns::new(dns, &config.node.name, &config.agent.discovery.nameservers))
        }
        #[cfg(feature = "k8s")]
        StrategyConfig::K8s(k8s) => Box::new(for_k8s(config, k8s)),
        #[cfg(not(feature = "etcd"))]
        StrategyConfig::Etcd(_) => Box::new(Unbuilt),
        #[cfg(not(feature = "k8s"))]
        StrategyConfig::K8s(_) => Box::new(Unbuilt),
    }
}

/// A strategy that this build is without. The configuration is refused before; nobody is
/// told that nobody is there all the same.
#[cfg(not(all(feature = "etcd", feature = "k8s")))]
struct Unbuilt;

#[cfg(not(all(feature = "etcd", feature = "k8s")))]
impl Strategy for Unbuilt {
    fn discover(&mut self) -> BoxFuture<'_, Result<Answer, DiscoveryError>> {
        let text = "this muster was built without the configured strategy";
        Box::pin(async move { Err(DiscoveryError::Denied(text.to_owned())) })
    }
}

#[cfg(feature = "k8s")]
fn for_k8s(config: &Config, k8s: &crate::config::K8sConfig) -> K8s {
    K8s::new(k8s.clone(), &config.agent.discovery, config.cluster.proto_dist.is_ipv6())
}
