//! The `singleton` strategy: no listener, no peers, and every wish about them refused. What
//! the node says of itself counts all the same: its tags, its broker, whether it drains.
//!
//! Tasks: none of its own; [`Singleton::run`] is one future, owned by the agent.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::interval;

use super::Asked;
use super::disk::{DiskError, Saver, StateDir};
use super::present::Presenter;
use super::supervisor::Pulse;
use crate::attributes::Broker;
use crate::command::{Action, RequestError};
use crate::config::Config;
use crate::metrics::Metrics;
use crate::node::Incarnation;
use crate::protocol::membership::Durable;
use crate::view::{BrokerView, Snapshot};

/// Between two signs of life.
const BEAT: Duration = Duration::from_secs(1);

/// A node alone.
pub(super) struct Singleton {
    snapshot: Snapshot,
    publish: watch::Sender<Arc<Snapshot>>,
    durable: Durable,
    version: u64,
    saver: Saver,
    pulse: Pulse,
}

impl Singleton {
    /// The node as its state on disk has it, and where its snapshots are read.
    pub(super) fn new(
        config: &Config,
        presenter: &Presenter,
        dir: StateDir,
        pulse: Pulse,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, watch::Receiver<Arc<Snapshot>>), DiskError> {
        let durable = dir.load(&config.node.name, &config.cluster.name)?;
        let (node, cluster) = (config.node.name.clone(), config.cluster.name.clone());
        let saver = Saver::spawn(dir, node, cluster, metrics);
        let mut snapshot = presenter.singleton(Incarnation(1));
        for member in &mut snapshot.members {
            member.draining.clone_from(&durable.draining);
        }
        let (publish, receiver) = watch::channel(Arc::new(snapshot.clone()));
        Ok((Self { snapshot, publish, durable, version: 0, saver, pulse }, receiver))
    }

    /// Answers wishes until told to stop; then what was not saved yet is.
    pub(super) async fn run(mut self, Asked { mut commands, stop, .. }: Asked) {
        let answer = async {
            let mut beats = interval(BEAT);
            loop {
                let command = tokio::select! {
                    _ = beats.tick() => {
                        self.pulse.beat();
                        continue;
                    }
                    command = commands.recv() => command,
                };
                let Some(command) = command else { break };
                let answer = self.grant(command.action).await;
                // Whoever asked may have gone away.
                let _gone = command.reply.send(answer);
            }
        };
        tokio::select! {
            () = answer => {}
            // Dropped or sent: both mean that it is time.
            _ = stop => {}
        }
        self.saver.flush(self.version).await;
    }

    async fn grant(&mut self, action: Action) -> Result<(), RequestError> {
        match action {
            Action::Describe { tags, broker } => {
                for member in &mut self.snapshot.members {
                    member.tags = tags.clone();
                    member.broker = broker.clone().map(|broker| seen(broker, &member.broker));
                }
                self.show();
                Ok(())
            }
            Action::Drain { reason } => self.drain(Some(reason)).await,
            Action::Undrain => self.drain(None).await,
            _ => Err(RequestError::Conflict(
                "this node is a singleton and has no peers: set another cluster.discovery_strategy, \
                 and restart the agent"
                    .to_owned(),
            )),
        }
    }

    async fn drain(&mut self, draining: Option<String>) -> Result<(), RequestError> {
        for member in &mut self.snapshot.members {
            member.draining.clone_from(&draining);
        }
        self.show();
        self.durable.draining = draining;
        self.version += 1;
        self.saver.want(self.version, self.durable.clone());
        let mut saved = self.saver.saved();
        let state = saved
            .wait_for(|saved| saved.version >= self.version || saved.error.is_some())
            .await
            .map_err(|_| RequestError::Stopping)?;
        match &state.error {
            Some(error) if state.version < self.version => Err(RequestError::NotSaved(format!(
                "done, but it will not outlast a restart: {error}"
            ))),
            _ => Ok(()),
        }
    }

    fn show(&self) {
        self.publish.send_replace(Arc::new(self.snapshot.clone()));
    }
}

/// A broker as readers see it; since when is kept while its status is the same.
fn seen(broker: Broker, before: &Option<BrokerView>) -> BrokerView {
    let same = before.as_ref().filter(|before| before.status == broker.status);
    BrokerView {
        since: same.map_or_else(SystemTime::now, |before| before.since),
        address: broker.address,
        status: broker.status,
        detail: broker.detail,
    }
}
