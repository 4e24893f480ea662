//! A changed configuration, taken up while the agent runs.
//!
//! Task: one, [`Reloader::run`], owned by [`super::Agent::run`]; it ends when nobody can
//! ask for a reload any more, or is dropped with the agent. Dropped in the middle of a
//! reload it has changed everything or nothing, since a change is made at one go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::{Level, info, warn};

use super::supervisor::{Word, tell};
use crate::command::{NotReloaded, ReloadRequest, Reloaded};
use crate::config::{
    AgentConfig, ApiListen, BrokerConfig, ClusterConfig, Config, ConfigErrors, EtcdConfig, Loaded,
    Setting, StrategyConfig,
};

/// Reads the configuration again, from where it was read at the start. Blocks.
pub type Read = Arc<dyn Fn() -> Result<Loaded, ConfigErrors> + Send + Sync>;

/// Sets the level of the process's log.
pub type SetLogLevel = Box<dyn Fn(Level) + Send + Sync>;

/// What takes effect at once, the keys below these included. Everything else is bound to
/// what was opened at the start (addresses, names, files, backends).
const AT_ONCE: [&str; 11] = [
    "agent.api.token",
    "agent.broker",
    "agent.hooks",
    "agent.log.level",
    "agent.ready",
    "agent.render",
    "agent.tags",
    "cluster.autoclean",
    "cluster.autoheal",
    "cluster.core_nodes",
    SEEDS,
];

/// At once only as long as the strategy is `static`.
const SEEDS: &str = "cluster.static.seeds";

/// Its default has the host of `node.name`, and stays with it.
const BROKER_ADDRESS: &str = "agent.broker.address";

/// Stands for a secret in the place of its value: the values that are shown have none.
type Values = BTreeMap<String, String>;

pub(super) struct Reloader {
    read: Read,
    set_log_level: SetLogLevel,
    in_use: watch::Sender<Arc<Config>>,
    /// Every value in use, as `muster check --print` shows it.
    values: Values,
}

impl Reloader {
    /// `in_use` and `effective` are what the agent was started with.
    pub(super) fn new(
        read: Read,
        set_log_level: SetLogLevel,
        in_use: watch::Sender<Arc<Config>>,
        effective: &[Setting],
    ) -> Self {
        Self { read, set_log_level, in_use, values: values(effective) }
    }

    /// Reloads for everybody who asks, one after the other.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<ReloadRequest>) {
        while let Some(ReloadRequest(reply)) = requests.recv().await {
            tell(Word::Reloading).await;
            let outcome = self.reload().await;
            tell(Word::Ready).await;
            say(&outcome);
            // A signal waits for no answer, and a client may have gone away.
            let _gone = reply.send(outcome);
        }
    }

    async fn reload(&mut self) -> Result<Reloaded, NotReloaded> {
        let read = Arc::clone(&self.read);
        let loaded = match tokio::task::spawn_blocking(move || read()).await {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(errors)) => return Err(NotReloaded::Invalid(errors.to_string())),
            Err(crashed) => return Err(NotReloaded::Invalid(format!("cannot read: {crashed}"))),
        };
        let in_use = Arc::clone(&self.in_use.borrow());
        if let Some(reason) = forbidden(&in_use, &loaded.config) {
            return Err(NotReloaded::Invalid(reason));
        }
        for warning in &loaded.warnings {
            warn!("configuration: {warning}");
        }
        let new = values(&loaded.effective);
        let mut different = differences(&self.values, &new);
        for path in hidden_differences(&in_use, &loaded.config) {
            // What shows is named more closely.
            if !different.iter().any(|shown| shown.starts_with(path)) {
                different.insert(path.to_owned());
            }
        }
        let kept = kept(&in_use, &loaded.config);
        let (changed, needs_restart): (BTreeSet<_>, BTreeSet<_>) =
            different.into_iter().partition(|path| is_at_once(path) && !kept.contains(&&**path));
        if !changed.is_empty() {
            for path in &changed {
                match new.get(path) {
                    Some(value) => self.values.insert(path.clone(), value.clone()),
                    None => self.values.remove(path),
                };
            }
            let taken_up = take_up(&in_use, loaded.config);
            (self.set_log_level)(taken_up.agent.log.level);
            self.in_use.send_replace(Arc::new(taken_up));
        }
        Ok(Reloaded {
            changed: changed.into_iter().collect(),
            needs_restart: needs_restart.into_iter().collect(),
        })
    }
}

fn say(outcome: &Result<Reloaded, NotReloaded>) {
    match outcome {
        Ok(Reloaded { changed, needs_restart }) => {
            match changed.as_slice() {
                [] => info!("configuration reloaded: nothing that takes effect at once differs"),
                changed => info!("configuration reloaded: in use are {}", changed.join(", ")),
            }
            if !needs_restart.is_empty() {
                warn!("changed and waiting for a restart: {}", needs_restart.join(", "));
            }
        }
        Err(error) => warn!("the configuration was not reloaded, nothing has changed: {error}"),
    }
}

fn values(effective: &[Setting]) -> Values {
    effective.iter().map(|setting| (setting.path.clone(), setting.value.clone())).collect()
}

fn differences(old: &Values, new: &Values) -> BTreeSet<String> {
    let paths = old.keys().chain(new.keys());
    paths.filter(|path| old.get(*path) != new.get(*path)).cloned().collect()
}

fn is_at_once(path: &str) -> bool {
    let below = |key: &str| {
        path.strip_prefix(key).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    AT_ONCE.into_iter().any(below)
}

/// What would take effect at once, and hangs on something that waits for a restart.
fn kept(old: &Config, new: &Config) -> Vec<&'static str> {
    let mut kept = Vec::new();
    let is_static =
        |config: &Config| matches!(config.cluster.strategy, StrategyConfig::Static { .. });
    if !is_static(old) || !is_static(new) {
        kept.push(SEEDS);
    }
    if old.node.name != new.node.name {
        kept.push(BROKER_ADDRESS);
    }
    kept
}

/// What is valid by itself and yet not in this process.
fn forbidden(in_use: &Config, new: &Config) -> Option<String> {
    let ApiListen::Tcp(address) = in_use.agent.api.listen else { return None };
    let open = !address.ip().to_canonical().is_loopback();
    (open && new.agent.api.token.is_none()).then(|| {
        format!(
            "agent.api.token is no longer set, and the API is reachable from other machines at \
             {address} until a restart: set it, or restart with another agent.api.listen"
        )
    })
}

/// What the values that are shown do not tell: secrets are stars in them.
fn hidden_differences(old: &Config, new: &Config) -> impl Iterator<Item = &'static str> {
    let (old_etcd, new_etcd) = (etcd(old), etcd(new));
    let (own, accepted) = old.node.cookies.sources_by_key();
    let (new_own, new_accepted) = new.node.cookies.sources_by_key();
    let password = |etcd: Option<&EtcdConfig>| Some(etcd?.auth.as_ref()?.1.clone());
    let key_password = |etcd: Option<&EtcdConfig>| etcd?.tls.as_ref()?.password.clone();
    [
        ("node.cookie", own != new_own),
        ("agent.mesh.accept_cookies", accepted != new_accepted),
        ("agent.api.token", old.agent.api.token != new.agent.api.token),
        ("agent.broker", old.agent.broker != broker(old, new)),
        ("agent.hooks", old.agent.hooks != new.agent.hooks),
        ("agent.render", old.agent.render != new.agent.render),
        ("cluster.etcd.password", password(old_etcd) != password(new_etcd)),
        ("cluster.etcd.ssl_options.password", key_password(old_etcd) != key_password(new_etcd)),
    ]
    .into_iter()
    .filter_map(|(path, differs)| differs.then_some(path))
}

/// The new broker as it is taken up.
fn broker(old: &Config, new: &Config) -> BrokerConfig {
    let mut broker = new.agent.broker.clone();
    if old.node.name != new.node.name {
        broker.address.clone_from(&old.agent.broker.address);
    }
    broker
}

fn etcd(config: &Config) -> Option<&EtcdConfig> {
    match &config.cluster.strategy {
        StrategyConfig::Etcd(etcd) => Some(etcd),
        _ => None,
    }
}

/// The configuration in use with whatever of the new one takes effect at once. Every part
/// is named, so that a new key cannot be forgotten here.
fn take_up(in_use: &Config, new: Config) -> Config {
    let broker = broker(in_use, &new);
    let Config { node: _, cluster, agent } = new;
    let ClusterConfig {
        name: _,
        description: _,
        strategy,
        autoclean,
        autoheal,
        proto_dist: _,
        core_nodes,
    } = cluster;
    let AgentConfig {
        mesh: _,
        api,
        health: _,
        discovery: _,
        ready,
        leave_on_stop: _,
        tags,
        broker: _,
        render,
        hooks,
        dns: _,
        log,
    } = agent;
    let mut taken_up = in_use.clone();
    let old = &mut taken_up.cluster;
    if let (StrategyConfig::Static { seeds: old }, StrategyConfig::Static { seeds }) =
        (&mut old.strategy, strategy)
    {
        *old = seeds;
    }
    old.autoclean = autoclean;
    old.autoheal = autoheal;
    old.core_nodes = core_nodes;
    let old = &mut taken_up.agent;
    old.api.token = api.token;
    old.ready = ready;
    old.tags = tags;
    old.broker = broker;
    old.render = render;
    old.hooks = hooks;
    old.log.level = log.level;
    taken_up
}

#[cfg(test)]
mod tests;
