//! The task that keeps one node registered and watches the others.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use etcd_client::{
    Client, EventType, GetOptions, PutOptions, WatchOptions, WatchResponse, WatchStream,
};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::connect::{Connected, Failure, call, connect, failure};
use super::{DiscoveryError, MAX_KEYS, Phase, Shared, State, Worker};

/// First wait after a failed attempt; doubled up to [`Link::longest_wait`].
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A session shorter than this counts as a failed attempt, so that an etcd which
/// accepts and breaks off at once is not hammered.
const STABLE_SESSION: Duration = Duration::from_secs(10);

/// The own key is not put more often: two processes under one name, or a person
/// with etcdctl, can't make a loop of it.
const PUT_INTERVAL: Duration = Duration::from_secs(1);

pub(super) fn start(shared: Arc<Shared>) -> Worker {
    let first = State { attempt: 0, phase: Phase::Trying };
    let (state_tx, state) = watch::channel(first);
    let (changes_tx, changes) = watch::channel(0);
    let link = Link {
        shared,
        state: state_tx,
        changes: changes_tx,
        next: 0,
        ttl: Duration::ZERO,
        last_put: None,
    };
    Worker { task: tokio::spawn(link.run()), state, changes }
}

struct Link {
    shared: Arc<Shared>,
    state: watch::Sender<State>,
    changes: watch::Sender<u64>,
    /// Index of the endpoint tried first: the last good one, or the one behind a bad one.
    next: usize,
    /// The lease's time to live as etcd granted it, which may be longer than asked for.
    ttl: Duration,
    last_put: Option<Instant>,
}

/// A connection over which this node is registered, and which has listed the prefix and
/// watches it from there.
struct Session {
    client: Client,
    server: String,
    watch: WatchStream,
    login_unused: bool,
}

impl Link {
    async fn run(mut self) {
        let mut wait = FIRST_WAIT;
        let mut before = false;
        loop {
            self.state.send_modify(|state| {
                state.attempt += 1;
                state.phase = Phase::Trying;
            });
            match self.open().await {
                Ok(session) => {
                    self.publish(&session);
                    if before {
                        // Whatever happened meanwhile was not watched.
                        self.tell();
                    }
                    before = true;
                    let since = Instant::now();
                    let end = self.serve(session).await;
                    tracing::debug!(error = ?end, "the etcd session ended");
                    if matches!(end, Failure::Endpoint(_)) {
                        self.next = self.next.wrapping_add(1);
                    }
                    if since.elapsed() >= STABLE_SESSION {
                        wait = FIRST_WAIT;
                        // At once: the lease runs, and other endpoints may be fine.
                        continue;
                    }
                    let error = DiscoveryError::from(end);
                    self.state.send_modify(|state| state.phase = Phase::Down(error));
                    self.tell();
                }
                Err(failure) => {
                    let error = DiscoveryError::from(failure);
                    self.state.send_modify(|state| state.phase = Phase::Down(error));
                    if before {
                        // Once per outage: the next round then reports it.
                        self.tell();
                        before = false;
                    }
                }
            }
            let jittered = wait.mul_f64(rand::random_range(0.7..1.3));
            tokio::select! {
                () = sleep(jittered) => {}
                () = self.shared.poke.notified() => {}
            }
            wait = (wait * 2).min(self.longest_wait());
        }
    }

    /// Half a time to live at most, so that a key is back within one after an outage.
    fn longest_wait(&self) -> Duration {
        (self.shared.config.node_ttl / 2).clamp(Duration::from_millis(500), Duration::from_secs(5))
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn publish(&self, session: &Session) {
        let phase = Phase::Up {
            client: Box::new(session.client.clone()),
            server: session.server.clone(),
            login_unused: session.login_unused,
        };
        self.state.send_modify(|state| state.phase = phase);
    }

    /// The first endpoint that lets us list, register and watch.
    async fn open(&mut self) -> Result<Session, Failure> {
        let servers = self.shared.config.servers.clone();
        let mut reasons = Vec::new();
        let mut refused = true;
        for step in 0..servers.len() {
            let index = self.next.wrapping_add(step) % servers.len();
            match self.open_at(&servers[index]).await {
                Ok(session) => {
                    self.next = index;
                    return Ok(session);
                }
                Err(Failure::Refused(reason)) => reasons.push(reason),
                Err(Failure::Endpoint(reason)) => {
                    refused = false;
                    reasons.push(reason);
                }
                Err(other) => return Err(other),
            }
        }
        let reasons = reasons.join("; ");
        Err(if refused { Failure::Refused(reasons) } else { Failure::Endpoint(reasons) })
    }

    async fn open_at(&mut self, server: &str) -> Result<Session, Failure> {
        let Connected { mut client, login_unused } = connect(&self.shared.config, server).await?;
        // Who could not register has not succeeded: nobody would find this node.
        self.register(&mut client, server).await?;
        // The watch begins behind a listing of this very connection. Resuming from a
        // revision seen earlier would wait for ever on an etcd that lost its data and
        // counts from 1 again, and fail on one that was compacted.
        let keys = &self.shared.keys;
        let options = GetOptions::new().with_prefix().with_limit(MAX_KEYS).with_keys_only();
        let what = format!("read {}", keys.all);
        let listing = call(server, &what, client.get(keys.all.as_str(), Some(options))).await?;
        let revision = listing.header().map_or(0, |header| header.revision());
        let options = WatchOptions::new().with_prefix().with_start_revision(revision + 1);
        let what = format!("watch {}", keys.all);
        let watch = call(server, &what, client.watch(keys.all.as_str(), Some(options))).await?;
        Ok(Session { client, server: server.to_owned(), watch, login_unused })
    }

    /// Sees to it that the lease lives and the own key stands under it.
    async fn register(&mut self, client: &mut Client, server: &str) -> Result<(), Failure> {
        // Twice: a lease may end between two calls.
        for _ in 0..2 {
            match self.try_register(client, server).await {
                Err(Failure::NoLease) => self.shared.lease.store(0, Ordering::SeqCst),
                other => return other,
            }
        }
        Err(Failure::Endpoint(format!("etcd at {server}: a new lease was gone at once")))
    }

    async fn try_register(&mut self, client: &mut Client, server: &str) -> Result<(), Failure> {
        let mut lease = self.shared.lease.load(Ordering::SeqCst);
        if lease != 0 {
            call(server, "renew the lease", client.lease_keep_alive(lease)).await?;
        } else {
            let node_ttl = self.shared.config.node_ttl;
            let seconds = node_ttl.as_secs() + u64::from(node_ttl.subsec_nanos() > 0);
            let seconds = i64::try_from(seconds.max(1)).unwrap_or(i64::MAX);
            let granted = call(server, "grant a lease", client.lease_grant(seconds, None)).await?;
            lease = granted.id();
            self.ttl = Duration::from_secs(u64::try_from(granted.ttl()).unwrap_or(1).max(1));
            self.shared.lease.store(lease, Ordering::SeqCst);
        }
        let (own, node) = (self.shared.keys.own.clone(), self.shared.keys.node.clone());
        let what = format!("read {own}");
        let found = call(server, &what, client.get(own.as_str(), None)).await?;
        let there = found
            .kvs()
            .first()
            .is_some_and(|kv| kv.lease() == lease && kv.value() == node.as_str().as_bytes());
        if !there {
            let what = format!("write {own}");
            let options = PutOptions::new().with_lease(lease);
            call(server, &what, client.put(own.as_str(), node.as_str(), Some(options))).await?;
            self.last_put = Some(Instant::now());
            tracing::info!(server, key = own, ttl = ?self.ttl, "registered in etcd");
        }
        Ok(())
    }

    /// Renews and watches until something breaks, and says what.
    async fn serve(&mut self, mut session: Session) -> Failure {
        let mut renew_at = Instant::now() + self.renew_after();
        let mut put_at: Option<Instant> = None;
        loop {
            let due = put_at.map_or(renew_at, |at| at.min(renew_at));
            tokio::select! {
                message = session.watch.message() => match message {
                    Ok(Some(response)) if response.canceled() => {
                        return Failure::Refused(format!(
                            "etcd at {}: the watch was cancelled: {}",
                            session.server,
                            cancel_reason(&response),
                        ));
                    }
                    Ok(Some(response)) => {
                        if self.take(&response) {
                            let soonest = self.last_put.map(|at| at + PUT_INTERVAL);
                            put_at = Some(soonest.unwrap_or(renew_at).max(Instant::now()));
                        }
                        continue;
                    }
                    Ok(None) => {
                        return Failure::Endpoint(format!(
                            "etcd at {}: the watch ended", session.server
                        ));
                    }
                    Err(error) => return failure(&session.server, "watch", &error),
                },
                () = sleep_until(due) => {}
                () = self.shared.poke.notified() => {}
            }
            // Whatever it is, a new connection looks at it afresh: a login that etcd has
            // forgotten, or has no use for any more, is renewed only there.
            if let Err(failure) = self.register(&mut session.client, &session.server).await {
                return failure;
            }
            put_at = None;
            renew_at = Instant::now() + self.renew_after();
        }
    }

    /// A third of the time to live leaves room for two failures; the jitter keeps
    /// nodes that started together from renewing together for ever.
    fn renew_after(&self) -> Duration {
        let ttl = if self.ttl.is_zero() { self.shared.config.node_ttl } else { self.ttl };
        (ttl / 3).mul_f64(rand::random_range(0.8..1.0))
    }

    /// Tells the runner of the others' news; true: the own key needs putting again.
    fn take(&self, response: &WatchResponse) -> bool {
        let keys = &self.shared.keys;
        let mut own_lost = false;
        let mut news = false;
        for event in response.events() {
            let Some(kv) = event.kv() else { continue };
            if kv.key() == keys.own.as_bytes() {
                own_lost = event.event_type() == EventType::Delete
                    || kv.value() != keys.node.as_str().as_bytes();
            } else {
                news = true;
            }
        }
        if news {
            self.tell();
        }
        own_lost
    }
}

fn cancel_reason(response: &WatchResponse) -> String {
    if response.compact_revision() != 0 {
        format!("its revision was compacted (now {})", response.compact_revision())
    } else {
        response.cancel_reason().to_owned()
    }
}
