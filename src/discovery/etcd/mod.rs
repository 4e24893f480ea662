//! `etcd`: every node keeps `/<prefix>/<cluster>/nodes/<node>` under a lease and
//! watches its siblings.
//!
//! | task | owner | ends |
//! | --- | --- | --- |
//! | [`worker`] | [`Etcd`], from the first round on | aborted by `withdraw` or drop |
//!
//! The worker holds the connection, the lease and the watch, since those must go
//! on whatever the runner's deadlines do to a round. A round waits for the worker
//! to be connected and registered and then lists the prefix itself: what it
//! answers was asked now. Registering comes before listing, so of two nodes that
//! start at once at least one sees the other, and the watch tells the other one:
//! no lock is needed to form one cluster.

mod connect;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use etcd_client::{Client, Compare, CompareOp, GetOptions, KeyValue, Txn, TxnOp};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use self::connect::{Connected, Failure, call, connect};
use super::{Answer, BoxFuture, DiscoveryError, Strategy};
use crate::config::EtcdConfig;
use crate::discovery::text::shown;
use crate::node::NodeName;

/// A round that waits for a connection gives up after this, and the worker goes on.
const ROUND_TIMEOUT: Duration = Duration::from_secs(8);

/// So many keys are read that the runner sees when they are too many for a cluster.
#[allow(clippy::cast_possible_wrap, reason = "a small constant")]
const MAX_KEYS: i64 = super::MAX_NODES as i64 + 1;

/// The keys of one cluster.
#[derive(Debug)]
struct Keys {
    /// `/<prefix>/<cluster>/nodes/`, the range that is read and watched. Its closing
    /// slash keeps another cluster, `<cluster>2`, out.
    all: String,
    /// This node's key.
    own: String,
    node: NodeName,
}

/// What the worker and the rounds share.
#[derive(Debug)]
struct Shared {
    config: EtcdConfig,
    keys: Keys,
    /// The lease in use, 0: none. Written before anything is put under it, so that
    /// whoever revokes it removes whatever the worker had under way.
    lease: AtomicI64,
    /// "Look now": retry, or check that the own key is there.
    poke: Notify,
}

/// Where the worker is.
#[derive(Clone)]
struct State {
    /// Counts attempts to connect, so that a round can wait for a new one's outcome.
    attempt: u64,
    phase: Phase,
}

#[derive(Clone)]
enum Phase {
    /// Connecting, logging in, registering.
    Trying,
    /// Connected and registered.
    Up { client: Box<Client>, server: String, login_unused: bool },
    /// Waiting for the next attempt.
    Down(DiscoveryError),
}

/// The running worker; dropping it stops the task.
struct Worker {
    task: tokio::task::JoinHandle<()>,
    state: watch::Receiver<State>,
    changes: watch::Receiver<u64>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The `etcd` strategy.
pub struct Etcd {
    shared: Arc<Shared>,
    worker: Option<Worker>,
}

impl Etcd {
    /// A strategy for one node of the named cluster. Nothing is connected before the
    /// first round.
    #[must_use]
    pub fn new(config: EtcdConfig, cluster: &str, node: NodeName) -> Self {
        if config.tls.as_ref().is_some_and(|tls| !tls.verify) {
            tracing::warn!(
                "cluster.etcd.ssl_options says verify_none: whoever sits between this node and \
                 etcd can read the password and invent members"
            );
        }
        let prefix = config.prefix.trim_matches('/');
        let all = format!("/{prefix}/{cluster}/nodes/");
        let keys = Keys { own: format!("{all}{node}"), all, node };
        let shared = Shared { config, keys, lease: AtomicI64::new(0), poke: Notify::new() };
        Self { shared: Arc::new(shared), worker: None }
    }

    async fn ask(&mut self) -> Result<Answer, DiscoveryError> {
        let worker = self.worker.get_or_insert_with(|| worker::start(Arc::clone(&self.shared)));
        let mut state = worker.state.clone();
        let seen = {
            let state = state.borrow_and_update();
            if matches!(state.phase, Phase::Down(_)) {
                self.shared.poke.notify_one();
                Some(state.attempt)
            } else {
                None
            }
        };
        let settled = state
            .wait_for(|state| Some(state.attempt) != seen && !matches!(state.phase, Phase::Trying));
        let phase = match timeout(ROUND_TIMEOUT, settled).await {
            Ok(Ok(state)) => state.phase.clone(),
            Ok(Err(_)) => {
                self.worker = None;
                return Err(DiscoveryError::Crashed("the etcd worker ended".into()));
            }
            Err(_) => {
                return Err(DiscoveryError::Unreachable(format!(
                    "etcd: none of {} answered within {} s",
                    self.shared.config.servers.join(", "),
                    ROUND_TIMEOUT.as_secs()
                )));
            }
        };
        match phase {
            Phase::Trying => Err(DiscoveryError::Crashed("the etcd worker has no state".into())),
            Phase::Down(error) => Err(error),
            Phase::Up { mut client, server, login_unused } => {
                self.list(&mut client, &server, login_unused).await
            }
        }
    }

    /// Lists the prefix over a connection of its own, asks whether this node may register,
    /// and registers nothing.
    pub(super) async fn look(&self) -> Result<Answer, DiscoveryError> {
        let mut error = DiscoveryError::BadAnswer("etcd: no server is configured".into());
        for server in &self.shared.config.servers {
            match connect(&self.shared.config, server).await {
                Ok(Connected { mut client, login_unused }) => {
                    self.may_write(&mut client, server).await?;
                    return self.list(&mut client, server, login_unused).await;
                }
                Err(failure) => error = failure.into(),
            }
        }
        Err(error)
    }

    /// A transaction whose condition never holds: etcd checks rights and space for it as
    /// for any other, and writes nothing.
    async fn may_write(&self, client: &mut Client, server: &str) -> Result<(), DiscoveryError> {
        let keys = &self.shared.keys;
        let never = Compare::version(keys.own.as_str(), CompareOp::Less, 0);
        let put = TxnOp::put(keys.own.as_str(), keys.node.as_str(), None);
        let what = format!("write {}", keys.own);
        call(server, &what, client.txn(Txn::new().when([never]).and_then([put]))).await?;
        Ok(())
    }

    async fn list(
        &self,
        client: &mut Client,
        server: &str,
        login_unused: bool,
    ) -> Result<Answer, DiscoveryError> {
        let options = GetOptions::new().with_prefix().with_limit(MAX_KEYS);
        let keys = &self.shared.keys;
        let what = format!("read {}", keys.all);
        match call(server, &what, client.get(keys.all.as_str(), Some(options))).await {
            Ok(response) => {
                let (mut answer, own) = read(keys, response.kvs());
                if !own {
                    self.shared.poke.notify_one();
                }
                if login_unused {
                    answer.notices.push(format!(
                        "etcd at {server} has authentication off: whoever reaches it can invent \
                         members; cluster.etcd.username and password are not used -> etcdctl auth enable, \
                         or remove the two"
                    ));
                }
                Ok(answer)
            }
            Err(failure) => {
                self.shared.poke.notify_one();
                Err(failure.into())
            }
        }
    }

    async fn revoke(&mut self) -> Result<(), DiscoveryError> {
        let current = self.worker.take().and_then(|worker| match &worker.state.borrow().phase {
            Phase::Up { client, server, .. } => Some((client.clone(), server.clone())),
            _ => None,
        });
        let lease = self.shared.lease.load(Ordering::SeqCst);
        if lease == 0 {
            return Ok(());
        }
        let mut failure = None;
        if let Some((mut client, server)) = current {
            match revoke_at(&mut client, &server, lease).await {
                Ok(()) => {
                    self.shared.lease.store(0, Ordering::SeqCst);
                    return Ok(());
                }
                Err(error) => failure = Some(error),
            }
        }
        for server in &self.shared.config.servers {
            let revoked = match connect(&self.shared.config, server).await {
                Ok(mut to) => revoke_at(&mut to.client, server, lease).await,
                Err(error) => Err(error),
            };
            match revoked {
                Ok(()) => {
                    self.shared.lease.store(0, Ordering::SeqCst);
                    return Ok(());
                }
                Err(error) => failure = Some(error),
            }
        }
        failure.map_or(Ok(()), |failure| Err(failure.into()))
    }
}

async fn revoke_at(client: &mut Client, server: &str, lease: i64) -> Result<(), Failure> {
    match call(server, "revoke the lease", client.lease_revoke(lease)).await {
        Ok(_) | Err(Failure::NoLease) => Ok(()),
        Err(failure) => Err(failure),
    }
}

/// Reads a listing; also says whether the own key is in it and says what it should.
fn read(keys: &Keys, kvs: &[KeyValue]) -> (Answer, bool) {
    let mut answer = Answer::default();
    let mut own = false;
    for kv in kvs {
        let value = String::from_utf8_lossy(kv.value());
        match NodeName::parse(&value) {
            Ok(node) => {
                own |= kv.key() == keys.own.as_bytes() && node == keys.node;
                answer.nodes.insert(node);
            }
            Err(error) => {
                let key = String::from_utf8_lossy(kv.key());
                answer.rejected.push(format!("{}: {}: {error}", shown(&key), shown(&value)));
            }
        }
    }
    (answer, own)
}

impl Strategy for Etcd {
    fn discover(&mut self) -> BoxFuture<'_, Result<Answer, DiscoveryError>> {
        Box::pin(self.ask())
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let told = match &mut self.worker {
                Some(worker) => worker.changes.changed().await,
                None => std::future::pending().await,
            };
            if told.is_err() {
                // The worker is gone; the next round notices and says so.
                self.worker = None;
            }
        })
    }

    fn withdraw(&mut self) -> BoxFuture<'_, Result<(), DiscoveryError>> {
        Box::pin(self.revoke())
    }
}
