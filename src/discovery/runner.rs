//! The runner: asks a strategy again and again, and outlives whatever it does.
//!
//! Tasks: one, [`Runner::run`], owned by the [`DiscoveryHandle`]; it ends when the
//! handle stops it or is dropped, or when nobody receives its events any more. It
//! may be aborted at any await: a strategy's entry at its backend then expires.

mod log;

use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{Instrument, debug, debug_span, warn};

use self::log::Log;
use super::{Answer, DiscoveryError, Strategy, absent};
use crate::backoff::Backoff;
use crate::config::{Config, StrategyConfig};
use crate::metrics::{Metrics, Outcome, Word};
use crate::node::NodeName;

/// More nodes than this in one answer is a broken backend, not a cluster.
pub const MAX_NODES: usize = 10_000;

/// [`DiscoveryHandle::withdraw_and_stop`] takes no longer, so that a dead backend
/// does not hold up a shutdown.
pub const STOP_DEADLINE: Duration = Duration::from_secs(2);

/// A withdrawal takes no longer; leaves time to stop within [`STOP_DEADLINE`].
const WITHDRAW_DEADLINE: Duration = Duration::from_millis(1_500);

/// A round takes no longer; strategies bound their own steps well below.
const ROUND_DEADLINE: Duration = Duration::from_secs(10);

/// Rounds start no closer than this, however often a backend announces changes.
const MIN_GAP: Duration = Duration::from_millis(50);

/// Agents that were started together do not ask together for ever.
const JITTER: (f64, f64) = (0.8, 1.2);

/// The wait after a first failed round; doubles up to the interval.
const FIRST_BACKOFF: Duration = Duration::from_millis(200);

/// An interval below this is taken for it.
const MIN_INTERVAL: Duration = Duration::from_millis(100);

/// An answer with a doubt is asked for again after this, and the doubt then told.
const SECOND_LOOK: Duration = Duration::from_secs(2);

/// Bounds of [`Answer::valid_for`].
const VALIDITY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Events waiting for the membership driver, which takes each in microseconds. When
/// full, the runner waits and asks later: every answer is complete in itself.
const EVENT_QUEUE: usize = 8;

/// Longest text of an error or rejected entry, in characters.
const TEXT_CAP: usize = 500;

/// What became of a round.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DiscoveryEvent {
    /// The strategy answered.
    Answer {
        /// Whom it found, `cluster.core_nodes` among them; empty: nobody is there.
        nodes: BTreeSet<NodeName>,
        /// What an operator should know of it: see [`Answer::notices`].
        notices: Vec<String>,
    },
    /// The strategy could not ask. What the last answer named still stands.
    Failed {
        /// Why.
        error: DiscoveryError,
        /// `cluster.core_nodes`: to be contacted whatever the backend does.
        nodes: BTreeSet<NodeName>,
    },
}

/// What the runner is told; read whole, so that nothing queues up.
#[derive(Clone, Copy, Debug)]
struct Control {
    enabled: bool,
    /// How often [`DiscoveryHandle::ask_now`] was called.
    asked: u64,
    /// How often [`DiscoveryHandle::reconfigure`] was called.
    reconfigured: u64,
    stop: bool,
}

/// Steers a running discovery. Dropped, it ends the discovery without withdrawing.
#[derive(Debug)]
pub struct DiscoveryHandle {
    control: watch::Sender<Control>,
    task: JoinHandle<()>,
}

impl DiscoveryHandle {
    /// Switches rounds on (the next begins at once) or off (this node is withdrawn
    /// from the backend). Returns at once.
    pub fn set_enabled(&self, enabled: bool) {
        self.control.send_if_modified(|control| {
            let changed = control.enabled != enabled;
            control.enabled = enabled;
            changed
        });
    }

    /// Has the next round begin now, or right after the one under way.
    pub fn ask_now(&self) {
        self.control.send_modify(|control| control.asked = control.asked.wrapping_add(1));
    }

    /// Has the configuration read again, and a round begin.
    pub fn reconfigure(&self) {
        self.control
            .send_modify(|control| control.reconfigured = control.reconfigured.wrapping_add(1));
    }

    /// Withdraws this node from the backend and ends the discovery, within
    /// [`STOP_DEADLINE`] whether that worked or not.
    pub async fn withdraw_and_stop(mut self) {
        self.control.send_modify(|control| control.stop = true);
        if timeout(STOP_DEADLINE, &mut self.task).await.is_err() {
            self.task.abort();
        }
    }
}

/// Makes a strategy, and makes it anew after a crash.
pub(super) type Factory = Box<dyn FnMut() -> Box<dyn Strategy> + Send>;

/// Reads the settings anew.
pub(super) type ReadSettings = Box<dyn FnMut() -> Settings + Send>;

/// What the runner reads of the configuration.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// For the log.
    pub(super) strategy: &'static str,
    /// Time between rounds.
    pub(super) interval: Duration,
    /// Added to every answer.
    pub(super) core_nodes: BTreeSet<NodeName>,
    /// Whether answers are worth a line in the log.
    pub(super) automatic: bool,
    /// To say why this node is not in an answer; `None`: that is not looked at.
    pub(super) config: Option<Arc<Config>>,
    /// The strategy is nothing but these nodes, and is made anew when they change.
    pub(super) seeds: Option<Vec<NodeName>>,
}

impl Settings {
    pub(super) fn new(config: &Config) -> Self {
        let strategy = &config.cluster.strategy;
        let core_nodes = match strategy {
            // No peers, whatever else the file says.
            StrategyConfig::Singleton => BTreeSet::new(),
            _ => config.cluster.core_nodes.iter().cloned().collect(),
        };
        Self {
            strategy: strategy.name(),
            interval: config.agent.discovery.interval.max(MIN_INTERVAL),
            core_nodes,
            automatic: strategy.is_automatic(),
            config: Some(Arc::new(config.clone())),
            seeds: match strategy {
                StrategyConfig::Static { seeds } => Some(seeds.clone()),
                _ => None,
            },
        }
    }
}

pub(super) fn spawn(
    mut read: ReadSettings,
    factory: Factory,
    metrics: Arc<Metrics>,
    enabled: bool,
) -> (DiscoveryHandle, mpsc::Receiver<DiscoveryEvent>) {
    let (sender, control) =
        watch::channel(Control { enabled, asked: 0, reconfigured: 0, stop: false });
    let settings = read();
    let (events, receiver) = mpsc::channel(EVENT_QUEUE);
    let now = Instant::now();
    let runner = Runner {
        log: Log::new(settings.strategy, settings.automatic),
        settings,
        read,
        factory,
        strategy: None,
        findable: false,
        metrics,
        events,
        seen_asked: 0,
        seen_reconfigured: 0,
        due: now,
        floor: now,
        prompted: false,
        failures: 0,
        doubting: None,
    };
    let task = tokio::spawn(runner.run(control));
    (DiscoveryHandle { control: sender, task }, receiver)
}

struct Runner {
    settings: Settings,
    read: ReadSettings,
    factory: Factory,
    /// `None` before the first round and after a crash.
    strategy: Option<Box<dyn Strategy>>,
    /// A round was begun since the last withdrawal.
    findable: bool,
    metrics: Arc<Metrics>,
    events: mpsc::Sender<DiscoveryEvent>,
    seen_asked: u64,
    seen_reconfigured: u64,
    /// When the next round begins.
    due: Instant,
    /// No round begins before.
    floor: Instant,
    /// The strategy announced a change that no round has followed yet.
    prompted: bool,
    /// Failed rounds in a row.
    failures: u32,
    /// Since when answers have had doubts.
    doubting: Option<Instant>,
    log: Log,
}

/// Why the wait before a round ended.
enum Wake {
    Due,
    Control,
    Changed,
    Crashed(String),
    HandleGone,
}

impl Runner {
    async fn run(mut self, mut control: watch::Receiver<Control>) {
        loop {
            let told = *control.borrow_and_update();
            if told.stop {
                self.withdraw().await;
                return;
            }
            if told.reconfigured != self.seen_reconfigured {
                self.seen_reconfigured = told.reconfigured;
                self.reconfigure();
            }
            if !told.enabled {
                self.withdraw().await;
                if control.changed().await.is_err() {
                    return;
                }
                self.failures = 0;
                self.prompted = false;
                self.due = Instant::now();
                continue;
            }
            if told.asked != self.seen_asked {
                self.seen_asked = told.asked;
                self.due = Instant::now();
            }
            let result = match self.wait(&mut control).await {
                Wake::HandleGone => return,
                Wake::Control => continue,
                Wake::Changed => {
                    self.prompted = true;
                    self.due = Instant::now();
                    continue;
                }
                Wake::Crashed(text) => Err(DiscoveryError::Crashed(text)),
                Wake::Due => {
                    self.floor = Instant::now() + MIN_GAP;
                    self.prompted = false;
                    let span = debug_span!("discovery", strategy = self.settings.strategy);
                    tokio::select! {
                        biased;
                        gone = interrupted(&mut control) => {
                            if gone { return }
                            continue;
                        }
                        result = self.round().instrument(span) => result,
                    }
                }
            };
            let event = self.conclude(result);
            tokio::select! {
                biased;
                sent = self.events.send(event) => if sent.is_err() { return },
                gone = interrupted(&mut control) => if gone { return },
            }
        }
    }

    fn reconfigure(&mut self) {
        let new = (self.read)();
        let other_seeds = new.seeds != self.settings.seeds;
        if other_seeds {
            self.discard();
        }
        if other_seeds || new.core_nodes != self.settings.core_nodes {
            self.due = Instant::now();
        }
        self.settings = new;
    }

    async fn wait(&mut self, control: &mut watch::Receiver<Control>) -> Wake {
        let due = self.due.max(self.floor);
        let listening = !self.prompted;
        let strategy = &mut self.strategy;
        let changed = async {
            match strategy {
                Some(strategy) if listening => {
                    AssertUnwindSafe(async { strategy.changed().await }).catch_unwind().await
                }
                _ => std::future::pending().await,
            }
        };
        let wake = tokio::select! {
            biased;
            told = control.changed() => {
                if told.is_ok() { Wake::Control } else { Wake::HandleGone }
            }
            () = sleep_until(due) => Wake::Due,
            changed = changed => match changed {
                Ok(()) => Wake::Changed,
                Err(panic) => Wake::Crashed(panic_text(panic)),
            },
        };
        if matches!(wake, Wake::Crashed(_)) {
            self.discard();
        }
        wake
    }

    /// Asks once. A panic in the strategy ends as an error, and the strategy is gone.
    async fn round(&mut self) -> Result<Answer, DiscoveryError> {
        if self.strategy.is_none() {
            let made = catch_unwind(AssertUnwindSafe(|| (self.factory)()));
            self.strategy = Some(made.map_err(|p| DiscoveryError::Crashed(panic_text(p)))?);
        }
        let Some(strategy) = self.strategy.as_mut() else {
            return Err(DiscoveryError::Crashed("the strategy could not be made".into()));
        };
        self.findable = true;
        let asking = AssertUnwindSafe(async { strategy.discover().await }).catch_unwind();
        let answer = match timeout(ROUND_DEADLINE, asking).await {
            Ok(Ok(result)) => result?,
            Ok(Err(panic)) => {
                self.discard();
                return Err(DiscoveryError::Crashed(panic_text(panic)));
            }
            Err(_elapsed) => {
                let text = format!("no answer within {} s", ROUND_DEADLINE.as_secs());
                return Err(DiscoveryError::Unreachable(text));
            }
        };
        if answer.nodes.len() > MAX_NODES {
            let count = answer.nodes.len();
            let text = format!("{count} nodes in one answer, at most {MAX_NODES} make sense");
            return Err(DiscoveryError::BadAnswer(text));
        }
        Ok(answer)
    }

    /// Counts and logs a round, plans the next, and makes the event of it.
    fn conclude(&mut self, result: Result<Answer, DiscoveryError>) -> DiscoveryEvent {
        let now = Instant::now();
        let outcome = result.as_ref().map_or_else(DiscoveryError::kind, |_| "ok");
        self.metrics.discovery_rounds.get_or_create(&Outcome { outcome: Word(outcome) }).inc();
        match result {
            Ok(answer) => {
                self.failures = 0;
                self.log.answered(now, &answer);
                let valid = answer.valid_for.unwrap_or_default();
                let valid =
                    if valid.is_zero() { valid } else { valid.clamp(VALIDITY.0, VALIDITY.1) };
                let most = self.strategy.as_ref().and_then(|strategy| strategy.longest_wait());
                let interval = self.settings.interval.min(most.unwrap_or(Duration::MAX));
                self.due = now + jittered(interval).max(valid);
                let (doubts, again) = self.doubts(now, &answer);
                let unusable = match (answer.nodes.is_empty(), answer.rejected.as_slice()) {
                    (true, [first, ..]) => {
                        let count = answer.rejected.len();
                        Some(format!("none of {count} entries can be a node; the first: {first}"))
                    }
                    _ => None,
                };
                if again {
                    self.due = self.due.min(now + SECOND_LOOK.max(valid));
                }
                let notices = answer.notices.iter().chain(&doubts).chain(&unusable);
                let notices = notices.map(|text| clean(text));
                let notices = notices.collect();
                let mut nodes = answer.nodes;
                nodes.extend(self.settings.core_nodes.iter().cloned());
                DiscoveryEvent::Answer { nodes, notices }
            }
            Err(error) => {
                let error = error.with_text(clean(&error.to_string()));
                self.log.failed(now, &error);
                let backoff = Backoff::new(FIRST_BACKOFF, self.settings.interval);
                self.due = now + backoff.jittered(self.failures, JITTER, &mut rand::rng());
                self.failures = self.failures.saturating_add(1);
                // A backend that fails and announces changes at once is not hammered.
                self.floor = now + FIRST_BACKOFF;
                DiscoveryEvent::Failed { error, nodes: self.settings.core_nodes.clone() }
            }
        }
    }

    /// The doubts that are told now, and whether a second look is due. A node that starts
    /// may be a moment ahead of the backend that is to name it; seeds never change.
    fn doubts(&mut self, now: Instant, answer: &Answer) -> (Vec<String>, bool) {
        let config = self.settings.config.as_deref();
        let absent = config.and_then(|config| absent::reason(config, &answer.nodes));
        let doubts: Vec<_> = answer.doubts.iter().cloned().chain(absent).collect();
        if doubts.is_empty() {
            self.doubting = None;
            return (doubts, false);
        }
        let since = *self.doubting.get_or_insert(now);
        let fixed = config
            .is_some_and(|config| matches!(config.cluster.strategy, StrategyConfig::Static { .. }));
        if fixed || now - since >= SECOND_LOOK { (doubts, false) } else { (Vec::new(), true) }
    }

    /// Once for every time that this node may have become findable.
    async fn withdraw(&mut self) {
        if !std::mem::take(&mut self.findable) {
            return;
        }
        let Some(strategy) = self.strategy.as_mut() else { return };
        let withdrawing = AssertUnwindSafe(async { strategy.withdraw().await }).catch_unwind();
        let error = match timeout(WITHDRAW_DEADLINE, withdrawing).await {
            Ok(Ok(Ok(()))) => return,
            Ok(Ok(Err(error))) => error.to_string(),
            Ok(Err(panic)) => {
                self.discard();
                panic_text(panic)
            }
            Err(_elapsed) => "no answer in time".to_owned(),
        };
        let strategy = self.settings.strategy;
        warn!(strategy, error = clean(&error), "this node stays listed until its entry expires");
    }

    /// Drops a strategy that panicked, which may panic again.
    fn discard(&mut self) {
        let strategy = self.strategy.take();
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| drop(strategy))) {
            debug!(error = panic_text(panic), "the crashed strategy crashed again");
        }
    }
}

/// Resolves when rounds are to end: whether because the handle is gone.
async fn interrupted(control: &mut watch::Receiver<Control>) -> bool {
    control.wait_for(|told| told.stop || !told.enabled).await.is_err()
}

fn jittered(time: Duration) -> Duration {
    time.mul_f64(rand::random_range(JITTER.0..JITTER.1))
}

fn panic_text(panic: Box<dyn Any + Send>) -> String {
    let text = match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("no message").to_owned(),
    };
    format!("the strategy crashed: {text}")
}

/// A backend's words for the log and the API: bounded, without control characters.
fn clean(text: &str) -> String {
    let mut clean: String =
        text.chars().take(TEXT_CAP).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(TEXT_CAP).is_some() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests;
