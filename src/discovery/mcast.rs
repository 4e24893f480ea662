//! `mcast`: signed datagrams to a multicast group.
//!
//! Tasks: one, [`Announcer::run`], while this node is to be found. It owns the socket
//! and the table of who was heard, publishes the table's nodes through a watch
//! channel, and ends on withdrawal, on a receive error, or aborted with [`Mcast`]. It
//! holds nothing that outlives it, so it may be aborted at any await.

pub mod datagram;
mod socket;
mod table;

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use self::datagram::{Datagram, Keys, Kind, MAX_DATAGRAM};
use self::table::{Table, Verdict};
use super::{Answer, BoxFuture, DiscoveryError, Strategy};
use crate::config::{Config, McastConfig};
use crate::cookies::Cookies;
use crate::metrics::{Metrics, Outcome, Word};
use crate::node::{BootId, NodeName};
use crate::secret::Secret;

/// How long the first round listens before it says who is there: several times what
/// an answer takes on a local network.
const LISTEN: Duration = Duration::from_millis(250);

/// Announcements since the start or the last change, each by its time after the one
/// before it: a short burst, as single datagrams get lost, then ever less.
const PERIODS: [(u32, Duration); 4] = [
    (3, Duration::from_millis(80)),
    (8, Duration::from_secs(1)),
    (14, Duration::from_secs(5)),
    (u32::MAX, Duration::from_secs(30)),
];

/// A change takes the announcements back to this many, behind the burst: the change
/// itself was answered.
const AFTER_CHANGE: u32 = 3;

/// Datagrams read in a second; more is a flood, which waits in the socket's buffer and
/// is dropped there. Each costs some microseconds.
const RATE: u32 = 2_000;

/// Copies of the goodbye.
const GOODBYES: usize = 2;

/// The `mcast` strategy.
pub struct Mcast {
    config: McastConfig,
    cluster: String,
    own: NodeName,
    cookies: Cookies,
    metrics: Arc<Metrics>,
    running: Option<Running>,
}

/// The announcer's other side.
struct Running {
    heard: watch::Receiver<Heard>,
    /// Room for one: a withdrawal is the last thing asked of an announcer.
    withdraw: mpsc::Sender<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    /// Until then the first round listens.
    listen_until: Instant,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What the announcer knows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Heard {
    nodes: BTreeSet<NodeName>,
    /// Why announcements do not go out.
    error: Option<String>,
}

impl Mcast {
    /// Announces this node of `config` with the settings `mcast`. No socket is opened
    /// before the first round.
    #[must_use]
    pub fn new(mcast: &McastConfig, config: &Config, metrics: &Arc<Metrics>) -> Self {
        Self {
            config: mcast.clone(),
            cluster: config.cluster.name.clone(),
            own: config.node.name.clone(),
            cookies: config.node.cookies.clone(),
            metrics: Arc::clone(metrics),
            running: None,
        }
    }

    fn start(&self) -> Result<Running, DiscoveryError> {
        let socket = socket::open(&self.config)
            .map_err(|error| DiscoveryError::Unreachable(error.to_string()))?;
        let group = |port: &u16| SocketAddr::new(self.config.addr, *port);
        let (publish, heard) = watch::channel(Heard::default());
        // One withdrawal ends the announcer.
        let (withdraw, withdrawn) = mpsc::channel(1);
        let mut cookies = self.cookies.changes();
        let keys = Keys::new(&cookies.borrow_and_update());
        let announcer = Announcer {
            socket,
            groups: self.config.ports.iter().map(group).collect(),
            buffer: vec![0; self.config.buffer.clamp(MAX_DATAGRAM + 1, 1 << 16)],
            me: Datagram {
                kind: Kind::Announce,
                cluster: self.cluster.clone(),
                node: self.own.clone(),
                // Of the announcer, not of the process: its sequence starts anew too.
                boot: BootId(rand::random()),
                sequence: 0,
            },
            cookies,
            keys,
            metrics: Arc::clone(&self.metrics),
            table: Table::default(),
            publish,
            announced: 0,
        };
        let task = tokio::spawn(announcer.run(withdrawn));
        Ok(Running { heard, withdraw, task, listen_until: Instant::now() + LISTEN })
    }

    async fn ask(&mut self) -> Result<Answer, DiscoveryError> {
        let gone = |running: &Running| running.task.is_finished();
        if self.running.as_ref().is_none_or(gone) {
            self.running = None;
            self.running = Some(self.start()?);
        }
        let Some(running) = self.running.as_mut() else {
            return Err(DiscoveryError::Unreachable("no socket".into()));
        };
        sleep_until(running.listen_until).await;
        let Heard { nodes, error } = running.heard.borrow_and_update().clone();
        if let Some(error) = error {
            // The interface may have gone and come back: the next round opens it anew.
            self.running = None;
            return Err(DiscoveryError::Unreachable(error));
        }
        Ok(Answer { nodes, ..Answer::default() })
    }

    async fn say_goodbye(&mut self) -> Result<(), DiscoveryError> {
        let Some(running) = self.running.take() else { return Ok(()) };
        let (done, said) = oneshot::channel();
        // A failure means that the announcer is gone already.
        if running.withdraw.send(done).await.is_err() || said.await.is_err() {
            return Err(DiscoveryError::Unreachable("the goodbye was not sent".into()));
        }
        Ok(())
    }
}

impl Strategy for Mcast {
    fn discover(&mut self) -> BoxFuture<'_, Result<Answer, DiscoveryError>> {
        Box::pin(self.ask())
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            match self.running.as_mut() {
                // An error means that the announcer ended: worth a round, which starts one.
                Some(running) => drop(running.heard.changed().await),
                None => std::future::pending().await,
            }
        })
    }

    fn withdraw(&mut self) -> BoxFuture<'_, Result<(), DiscoveryError>> {
        Box::pin(self.say_goodbye())
    }
}

struct Announcer {
    socket: UdpSocket,
    groups: Vec<SocketAddr>,
    buffer: Vec<u8>,
    /// The datagram sent last; the next has the next sequence number.
    me: Datagram,
    cookies: watch::Receiver<Arc<[Secret]>>,
    /// Out of the newest cookies.
    keys: Keys,
    metrics: Arc<Metrics>,
    table: Table,
    publish: watch::Sender<Heard>,
    /// Announcements made, as [`PERIODS`] counts them.
    announced: u32,
}

impl Announcer {
    async fn run(mut self, mut withdrawn: mpsc::Receiver<oneshot::Sender<()>>) {
        let mut announce_at = Instant::now();
        // The flood gate: what may still be read until the second is over.
        let (mut credit, mut refill_at) = (RATE, Instant::now());
        loop {
            let now = Instant::now();
            if now >= refill_at {
                (credit, refill_at) = (RATE, now + Duration::from_secs(1));
            }
            tokio::select! {
                biased;
                done = withdrawn.recv() => {
                    let Some(done) = done else { return };
                    for _ in 0..GOODBYES {
                        self.say(Kind::Goodbye).await;
                        sleep(Duration::from_millis(5)).await;
                    }
                    let _nobody_waits = done.send(());
                    return;
                }
                () = sleep_until(announce_at) => {
                    self.say(Kind::Announce).await;
                    self.table.tidy(Instant::now());
                    self.publish(Instant::now());
                    self.announced = self.announced.saturating_add(1);
                    announce_at = Instant::now() + period(self.announced);
                }
                () = sleep_until(refill_at), if credit == 0 => {}
                // An error means that nobody is left who could change them.
                Ok(()) = self.cookies.changed() => {
                    self.keys = Keys::new(&self.cookies.borrow_and_update());
                }
                received = self.socket.recv_from(&mut self.buffer), if credit > 0 => {
                    credit -= 1;
                    match received {
                        Ok((length, from)) => {
                            if self.heard(length, from).await {
                                announce_at = announce_at.min(Instant::now() + period(self.announced));
                            }
                        }
                        // An answer of ours that nobody received; the socket is fine.
                        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                        Err(error) => {
                            let text = format!("receiving: {error}");
                            self.publish.send_modify(|heard| heard.error = Some(text));
                            return;
                        }
                    }
                }
            }
        }
    }

    /// Takes in a datagram; whether it changed who is there.
    async fn heard(&mut self, length: usize, from: SocketAddr) -> bool {
        let bytes = self.buffer.get(..length).unwrap_or_default();
        let outcome = match Datagram::decode(bytes, &self.keys) {
            Err(reject) => reject.name(),
            Ok(datagram) if datagram.cluster != self.me.cluster => "foreign",
            Ok(datagram) if datagram.boot == self.me.boot => "own",
            Ok(datagram) => match self.table.heard(Instant::now(), &datagram) {
                Verdict::Replayed => "replayed",
                Verdict::Full => "full",
                Verdict::Known => "ok",
                Verdict::New => {
                    debug!(node = %datagram.node, boot = %datagram.boot, %from, "heard a new node");
                    // Not to an answer: it was caused by an announcement of ours.
                    if datagram.kind == Kind::Announce {
                        self.send(Kind::Answer, &[from]).await;
                    }
                    "ok"
                }
            },
        };
        self.metrics.datagrams.get_or_create(&Outcome { outcome: Word(outcome) }).inc();
        let changed = outcome == "ok" && self.publish(Instant::now());
        if changed {
            self.announced = self.announced.min(AFTER_CHANGE);
        }
        changed
    }

    /// To the group; remembers whether that works.
    async fn say(&mut self, kind: Kind) {
        let groups = std::mem::take(&mut self.groups);
        let error = self.send(kind, &groups).await;
        self.groups = groups;
        self.publish.send_if_modified(|heard| {
            let changed = heard.error != error;
            heard.error = error;
            changed
        });
    }

    /// The reason when it could be sent to none of the addresses.
    async fn send(&mut self, kind: Kind, to: &[SocketAddr]) -> Option<String> {
        self.me.kind = kind;
        self.me.sequence += 1;
        let Some(bytes) = self.me.encode(&self.keys) else {
            return Some("cluster.name is longer than the 255 bytes that mcast carries".into());
        };
        let mut failed = None;
        let mut sent = false;
        for address in to {
            match self.socket.send_to(&bytes, address).await {
                Ok(_) => sent = true,
                // The report of an earlier answer's fate, not of this datagram's.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => sent = true,
                Err(error) => failed = Some(format!("sending to {}: {error}", address.ip())),
            }
        }
        failed.filter(|_| !sent)
    }

    /// Tells the strategy who is there, if that changed.
    fn publish(&self, now: Instant) -> bool {
        let nodes = self.table.nodes(now);
        self.publish.send_if_modified(|heard| {
            let changed = heard.nodes != nodes;
            heard.nodes = nodes;
            changed
        })
    }
}

/// From one announcement to the next, ±20 %.
fn period(announced: u32) -> Duration {
    let (_, period) = PERIODS[PERIODS.partition_point(|(until, _)| announced >= *until).min(3)];
    period.mul_f64(rand::random_range(0.8..1.2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn announcements_come_in_a_burst_and_then_ever_less() {
        let seconds = |announced| (period(announced).as_secs_f64() / 1.2).ceil();
        assert!(period(0) < Duration::from_millis(100) && period(2) < Duration::from_millis(100));
        assert!((1.0..=2.0).contains(&seconds(3)) && seconds(7) <= 2.0);
        assert!((4.0..=6.0).contains(&seconds(8)) && seconds(13) <= 6.0);
        assert!(seconds(14) >= 20.0 && seconds(u32::MAX) >= 20.0);
    }

    #[test]
    fn a_node_is_not_given_up_between_two_announcements() {
        let (_, longest) = PERIODS[PERIODS.len() - 1];
        assert!(table::SILENCE >= longest.mul_f64(1.2) * 3);
    }
}
