//! Asks the broker, compares, and has it join: the one future behind it all.
//!
//! # Who keeps joins apart
//!
//! Agents that see the same facts take turns ([`super::decide`]). Agents that don't are
//! kept apart by the seed: whoever is about to join links to the seed's broker under one
//! name that all agents use (`muster-join@<host of the seed>`). A broker has one link under
//! a name, and tells a second one that the first is up; so the link is a lock, which ends
//! with the agent that holds it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info};

use super::agreement::{Agreement, News, compare};
use super::answers::{self, Info, Joined, NoAnswer};
use super::decide::{Asked, Mute, Step, decide};
use super::link::{CallError, Dialer, Link, LinkError};
use crate::broker::{BrokerReport, Drive, DriveState};
use crate::node::NodeName;
use crate::protocol::dist::rex::Call;
use crate::view::Snapshot;

/// The waits of the follower.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// Between two questions of the broker.
    pub every: Duration,
    /// The same while this broker wants to join.
    pub often: Duration,
    /// A broker that was alone for so long is: right after its start, and after a join
    /// that somebody else began, it is not what it will be.
    pub settled: Duration,
    /// A join that takes longer never ends; only a restart of the broker helps.
    pub join: Duration,
    /// Who is first in the order and does not join for so long has its turn passed over:
    /// its agent may not drive. Longer than a join takes.
    pub turn: Duration,
    /// Between the first two attempts; doubled up to `retry_most`.
    pub retry: Duration,
    /// Between two attempts at most.
    pub retry_most: Duration,
    /// For how long views may differ before it is told: Ekka heals a cut in 10 to 20 s.
    pub patience: Duration,
    /// For an answer, which takes a millisecond if the broker is well.
    pub question: Duration,
    /// A broker that joins has no cluster application for a moment; what lasts longer is
    /// told.
    pub lasting: Duration,
}

impl Default for Times {
    /// What is right outside tests.
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            every: seconds(2),
            often: Duration::from_millis(500),
            settled: seconds(3),
            join: seconds(90),
            turn: seconds(100),
            retry: seconds(2),
            retry_most: seconds(60),
            patience: seconds(30),
            question: seconds(5),
            lasting: seconds(10),
        }
    }
}

const INFO: Call<'_> = Call { module: "ekka", function: "info", arguments: &[] };
const STRATEGY: Call<'_> =
    Call { module: "ekka", function: "env", arguments: &["cluster_discovery"] };

/// The functions that have a broker join, in the order they are tried.
const JOINS: [&str; 2] = ["emqx_mgmt_api_cluster", "ekka"];

/// What the follower works with.
pub(super) struct Tools {
    pub(super) node: NodeName,
    /// Its name at brokers: `muster-<node>`.
    pub(super) own: NodeName,
    pub(super) drive: bool,
    pub(super) times: Times,
    pub(super) dialer: Dialer,
    pub(super) snapshot: watch::Receiver<Arc<Snapshot>>,
    pub(super) report: watch::Sender<BrokerReport>,
    pub(super) news: super::Telling,
}

/// A join whose end is not known yet: the link was lost while it went on.
struct Joining {
    seed: NodeName,
    /// Held until it is known.
    lock: Option<Link>,
    since: Instant,
    /// The broker's, when it began.
    creation: u32,
}

/// How joins fared.
struct Attempts {
    failures: usize,
    /// Not before.
    next: Instant,
    /// What is shown until then.
    standing: (DriveState, Option<String>),
}

pub(super) struct Driver {
    tools: Tools,
    start: Instant,
    link: Option<Link>,
    info: Option<Info>,
    /// Why there is no `info`.
    trouble: Option<String>,
    /// Since when there is one.
    troubled: Option<Instant>,
    /// Since when this life of the broker is alone.
    alone: Option<(u32, Instant)>,
    /// The broker's own strategy, asked once a link; `Some(None)`: manual.
    strategy: Option<Option<String>>,
    agreement: Agreement,
    standing: (DriveState, Option<String>),
    attempts: Attempts,
    joining: Option<Joining>,
    /// The life of the broker that did not come back from a join.
    hung: Option<u32>,
    /// The broker's node did not run since the last join began.
    gone: bool,
    /// What this broker waits for in the order, since when, and how many turns were
    /// passed over.
    queue: Option<(String, Instant)>,
    skip: usize,
}

impl Driver {
    pub(super) fn new(tools: Tools) -> Self {
        let now = Instant::now();
        let agreement = Agreement::new(tools.times.patience);
        let standing = (if tools.drive { DriveState::Waiting } else { DriveState::Off }, None);
        Self {
            tools,
            start: now,
            link: None,
            info: None,
            trouble: None,
            troubled: None,
            alone: None,
            strategy: None,
            agreement,
            standing: standing.clone(),
            attempts: Attempts { failures: 0, next: now, standing },
            joining: None,
            hung: None,
            gone: false,
            queue: None,
            skip: 0,
        }
    }

    /// Runs until it is dropped, or nobody publishes snapshots any more.
    pub(super) async fn run(mut self) {
        loop {
            self.observe().await;
            if self.tools.drive {
                self.standing = self.drive().await;
            }
            self.publish();
            if !self.rest().await {
                return;
            }
        }
    }

    /// Asks the broker for its view.
    async fn observe(&mut self) {
        self.info = None;
        if self.link.is_none() {
            let Tools { dialer, own, node, .. } = &self.tools;
            match dialer.dial(own, node, true).await {
                Ok(link) => {
                    debug!("linked to the broker's node");
                    self.strategy = None;
                    self.link = Some(link);
                }
                Err(error) => {
                    // Whatever this life of it was in, the next one is not. (Its creation
                    // does not always tell: EMQX draws it out of three.)
                    if matches!(error, LinkError::Refused(_)) {
                        self.gone = true;
                        self.hung = None;
                    }
                    self.trouble = Some(format!("no link to the broker's node: {error}"));
                    return;
                }
            }
        }
        match self.question(&INFO).await.map(|result| answers::info(&result)) {
            Ok(Ok(info)) => {
                self.trouble = None;
                self.info = Some(info);
            }
            Ok(Err(why)) => self.trouble = Some(why.to_string()),
            Err(why) => self.trouble = Some(why),
        }
    }

    /// One question of the broker beside this node; a link that fails is given up.
    async fn question(&mut self, call: &Call<'_>) -> Result<Vec<u8>, String> {
        let Some(link) = &mut self.link else { return Err("no link".to_owned()) };
        link.call(call, self.tools.times.question).await.map_err(|error| {
            self.link = None;
            format!("the broker's node does not answer: {error}")
        })
    }

    async fn drive(&mut self) -> (DriveState, Option<String>) {
        let creation = self.link.as_ref().map(Link::broker_creation);
        if let Some(standing) = self.watch_join(creation) {
            return standing;
        }
        if let Some(own) = self.info.clone().filter(|own| own.has_others(&self.tools.node)) {
            self.hung = None;
            self.alone = None;
            self.reset();
            return self.apart(&own).await;
        }
        // Until another life of the broker is seen.
        self.hung = self.hung.filter(|life| creation.is_none_or(|creation| creation == *life));
        if self.hung.is_some() {
            let seconds = self.tools.times.join.as_secs();
            let why = format!("a join did not answer within {seconds} s: restart the broker");
            return (DriveState::Blocked, Some(why));
        }
        let (Some(creation), Some(own)) = (creation, self.info.clone()) else {
            self.alone = None;
            return (DriveState::Waiting, self.trouble.clone());
        };
        let since = match self.alone {
            Some((life, since)) if life == creation => since,
            _ => Instant::now(),
        };
        self.alone = Some((creation, since));
        if since.elapsed() < self.tools.times.settled {
            return (DriveState::Waiting, None);
        }
        if Instant::now() < self.attempts.next {
            return self.attempts.standing.clone();
        }
        if let Some(standing) = self.own_strategy().await {
            return standing;
        }
        let mut asked = Asked::new();
        match self.survey(&own, &mut asked).await {
            Step::Join(seed) => self.join(&seed, asked).await,
            Step::Stay(state, why) => {
                self.queue(why.as_deref());
                (state, why)
            }
            // More questions than members: the view changes all the time.
            Step::Ask(_) => (DriveState::Waiting, None),
        }
    }

    /// Asks others until it is clear what to do.
    async fn survey(&self, own: &Info, asked: &mut Asked) -> Step {
        let members = self.tools.snapshot.borrow().members.len();
        for _ in 0..=members {
            let step = self.decide(own, asked);
            let Step::Ask(node) = step else { return step };
            let answer = self.ask(&node).await;
            asked.insert(node, answer);
        }
        self.decide(own, asked)
    }

    fn decide(&self, own: &Info, asked: &Asked) -> Step {
        let view = Arc::clone(&self.tools.snapshot.borrow());
        decide(&view, own, asked, self.attempts.failures, self.skip)
    }

    /// Asks the broker of another member for its view.
    async fn ask(&self, node: &NodeName) -> Result<Info, Mute> {
        let Tools { dialer, own, times, .. } = &self.tools;
        let link = dialer.dial(own, node, true).await;
        let mut link = link.map_err(|error| Mute { restarting: false, why: error.to_string() })?;
        view(&mut link, times.question).await
    }

    /// Counts the turns that are passed over.
    fn queue(&mut self, why: Option<&str>) {
        match (&mut self.queue, why) {
            (Some((text, since)), Some(why)) if text == why => {
                if since.elapsed() >= self.tools.times.turn {
                    self.skip += 1;
                    *since = Instant::now();
                }
            }
            (queue, why) => {
                *queue = why.map(|why| (why.to_owned(), Instant::now()));
                self.skip = 0;
            }
        }
    }

    /// The broker must not join anybody by itself.
    async fn own_strategy(&mut self) -> Option<(DriveState, Option<String>)> {
        if self.strategy.is_none() {
            match self.question(&STRATEGY).await.map(|result| answers::strategy(&result)) {
                Ok(Ok(strategy)) => self.strategy = Some(strategy),
                Ok(Err(why)) => return Some((DriveState::Waiting, Some(why.to_string()))),
                Err(why) => return Some((DriveState::Waiting, Some(why))),
            }
        }
        let other = self.strategy.as_ref()?.as_ref()?;
        let why = format!(
            "the broker's own discovery_strategy is {other}: start it with \
             EMQX_CLUSTER__DISCOVERY_STRATEGY=manual"
        );
        Some((DriveState::Blocked, Some(why)))
    }

    /// Joins, holding the lock at the seed.
    async fn join(&mut self, seed: &NodeName, mut asked: Asked) -> (DriveState, Option<String>) {
        let name = format!("muster-join@{}", seed.host_str());
        let Ok(name) = NodeName::parse(&name) else {
            return (DriveState::Blocked, Some(format!("{name} is no node name")));
        };
        let mut lock = match self.tools.dialer.dial(&name, seed, false).await {
            Ok(lock) => lock,
            Err(LinkError::Taken) => {
                return (
                    DriveState::Waiting,
                    Some(format!("another broker joins {seed} just now")),
                );
            }
            Err(error) => return self.failed(format!("cannot link to the seed {seed}: {error}")),
        };
        // With the lock held, everything once more: another broker may have joined since.
        let answer = view(&mut lock, self.tools.times.question).await;
        let known = answer.as_ref().ok().and_then(|info| info.running.get(seed.as_str()).cloned());
        asked.insert(seed.clone(), answer);
        self.observe().await;
        let Some(own) = self.info.clone() else {
            return (DriveState::Waiting, self.trouble.clone());
        };
        match self.decide(&own, &asked) {
            Step::Join(again) if again == *seed => {}
            Step::Stay(state, why) => return (state, why),
            Step::Ask(_) | Step::Join(_) => return (DriveState::Waiting, None),
        }
        let (Some(known), Some(link)) = (known, &mut self.link) else {
            return (DriveState::Waiting, Some(format!("{seed} does not run in its own view")));
        };
        let creation = link.broker_creation();
        self.gone = false;
        let since = Instant::now();
        self.standing = (DriveState::Joining, None);
        self.info = None;
        self.publish();
        info!("the broker joins the broker of {seed}");
        let Some(link) = &mut self.link else { return (DriveState::Waiting, None) };
        let call = call_join(link, &known, since + self.tools.times.join);
        let ended = tokio::select! {
            ended = call => ended,
            never = hold(&mut lock) => match never {},
        };
        self.queue = None;
        self.skip = 0;
        match ended {
            Ok(Joined::Ok) => {
                info!("the broker joined the broker of {seed}");
                self.reset();
                (DriveState::Joined, None)
            }
            Ok(Joined::Failed(why)) => self.failed(why),
            Ok(Joined::Refused(why)) => {
                self.attempts.failures += 1;
                self.wait(DriveState::Blocked, why, self.tools.times.retry_most)
            }
            Ok(Joined::Undefined) => {
                let why = "the broker has no function to join with: is it EMQX?".to_owned();
                self.wait(DriveState::Blocked, why, self.tools.times.retry_most)
            }
            Err(CallError::Timeout(_)) => {
                self.link = None;
                self.hung = Some(creation);
                (DriveState::Joining, None)
            }
            Err(CallError::Ended(why)) => {
                debug!("the link was lost while the broker joins: {why}");
                self.link = None;
                let (seed, lock) = (seed.clone(), Some(lock));
                self.joining = Some(Joining { seed, lock, since, creation });
                (DriveState::Joining, None)
            }
        }
    }

    /// What became of a join whose link was lost.
    fn watch_join(&mut self, creation: Option<u32>) -> Option<(DriveState, Option<String>)> {
        let joining = self.joining.as_ref()?;
        let has_others = self.info.as_ref().map(|info| info.has_others(&self.tools.node));
        let restarted = self.gone || creation.is_some_and(|creation| creation != joining.creation);
        let late = joining.since.elapsed() >= self.tools.times.join;
        match has_others {
            Some(true) => {
                info!("the broker joined the broker of {}", joining.seed);
                self.joining = None;
                None
            }
            _ if restarted => {
                self.joining = None;
                Some(self.failed("the broker restarted while it joined".to_owned()))
            }
            _ if late => {
                self.hung = Some(joining.creation);
                self.joining = None;
                None
            }
            _ => Some((DriveState::Joining, None)),
        }
    }

    fn reset(&mut self) {
        let now = Instant::now();
        self.attempts = Attempts { failures: 0, next: now, standing: (DriveState::Waiting, None) };
        self.queue = None;
        self.skip = 0;
    }

    fn failed(&mut self, why: String) -> (DriveState, Option<String>) {
        debug!("the broker's join failed: {why}");
        let times = self.tools.times;
        let exponent = u32::try_from(self.attempts.failures.min(5)).unwrap_or(5);
        self.attempts.failures += 1;
        self.wait(
            DriveState::Waiting,
            why,
            (times.retry * 2u32.pow(exponent)).min(times.retry_most),
        )
    }

    fn wait(
        &mut self,
        state: DriveState,
        why: String,
        pause: Duration,
    ) -> (DriveState, Option<String>) {
        self.attempts.next = Instant::now() + pause;
        self.attempts.standing = (state, Some(why));
        self.attempts.standing.clone()
    }

    /// Two clusters of brokers that found themselves apart: shown, and left to people.
    async fn apart(&mut self, own: &Info) -> (DriveState, Option<String>) {
        if !self.agreement.differs() {
            return (DriveState::Joined, None);
        }
        let view = Arc::clone(&self.tools.snapshot.borrow());
        let missing = compare(&view, own).missing;
        for name in missing.iter().take(1) {
            let Ok(node) = NodeName::parse(name) else { continue };
            if let Ok(info) = self.ask(&node).await
                && info.has_others(&node)
                && !info.runs(&self.tools.node)
            {
                let why = format!(
                    "the brokers are two clusters: this one's with {}, and {node}'s with {}; \
                     decide which one stays, and have every broker of the other leave it with \
                     `emqx ctl cluster leave`",
                    own.others(&self.tools.node),
                    info.others(&node)
                );
                return (DriveState::Blocked, Some(why));
            }
        }
        (DriveState::Joined, None)
    }

    /// Shows where things stand.
    fn publish(&mut self) {
        let view = Arc::clone(&self.tools.snapshot.borrow());
        let cluster = self.info.as_ref().map(|info| compare(&view, info));
        let agrees = cluster.as_ref().map(|cluster| cluster.agrees);
        let news = self.agreement.update(agrees, self.start.elapsed());
        let told = &self.tools.news;
        match (news, &cluster) {
            (Some(News::Agrees), _) => told.agrees(&view),
            // What differs may change; the event is the first of it.
            (news, Some(cluster)) if self.agreement.differs() && !cluster.agrees => {
                told.differs(&view, cluster, news.is_some());
            }
            _ => {}
        }
        let (state, last_error) = self.standing.clone();
        let drive = Drive { enabled: self.tools.drive, state, last_error };
        match &self.trouble {
            None => self.troubled = None,
            Some(_) => {
                self.troubled.get_or_insert_with(Instant::now);
            }
        }
        let lasting =
            self.troubled.is_some_and(|since| since.elapsed() >= self.tools.times.lasting);
        let trouble = self.trouble.as_deref().filter(|_| lasting);
        let known = agrees.map(|_| !self.agreement.differs());
        let failed = (self.attempts.failures > 0).then_some(&self.attempts.standing.1);
        let failed = failed.and_then(Option::as_deref);
        told.standing(&view, known, trouble, &drive, failed);
        self.tools.report.send_if_modified(|report| {
            let differs = report.cluster != cluster || report.drive != drive;
            report.cluster = cluster;
            report.drive = drive;
            differs
        });
    }

    /// Waits for the next round, and shows what changes meanwhile; false: all ends.
    async fn rest(&mut self) -> bool {
        let eager = matches!(self.standing.0, DriveState::Waiting | DriveState::Joining);
        let times = self.tools.times;
        let until = Instant::now() + if eager { times.often } else { times.every };
        loop {
            let lock = self.joining.as_mut().and_then(|joining| joining.lock.as_mut());
            tokio::select! {
                () = sleep_until(until) => return true,
                why = idle(self.link.as_mut()) => {
                    self.link = None;
                    self.info = None;
                    self.trouble = Some(format!("the link to the broker's node ended: {why}"));
                    self.publish();
                }
                _ = idle(lock) => {
                    if let Some(joining) = &mut self.joining {
                        joining.lock = None;
                    }
                }
                changed = self.tools.snapshot.changed() => {
                    if changed.is_err() {
                        return false;
                    }
                    self.publish();
                }
            }
        }
    }
}

/// Keeps a link alive, if there is one; returns when it ends.
async fn idle(link: Option<&mut Link>) -> String {
    match link {
        Some(link) => link.idle().await,
        None => std::future::pending().await,
    }
}

/// Keeps the lock for as long as this is awaited. Where it is lost, the join goes on: the
/// seed is what it was lost with.
async fn hold(lock: &mut Link) -> std::convert::Infallible {
    let why = lock.idle().await;
    debug!("the link to the seed ended while the broker joins: {why}");
    std::future::pending().await
}

/// A broker's own view over a link to it.
async fn view(link: &mut Link, limit: Duration) -> Result<Info, Mute> {
    let result = link.call(&INFO, limit).await;
    let result = result.map_err(|error| Mute { restarting: false, why: error.to_string() })?;
    answers::info(&result).map_err(|why| {
        let restarting = why == NoAnswer::Restarting;
        Mute { restarting, why: why.to_string() }
    })
}

/// Calls the first of the join functions that exists.
async fn call_join(link: &mut Link, seed: &str, by: Instant) -> Result<Joined, CallError> {
    let mut ended = Joined::Undefined;
    for module in JOINS {
        let call = Call { module, function: "join", arguments: &[seed] };
        let left = by.saturating_duration_since(Instant::now());
        ended = answers::joined(&link.call(&call, left).await?, module);
        if ended != Joined::Undefined {
            break;
        }
    }
    Ok(ended)
}
