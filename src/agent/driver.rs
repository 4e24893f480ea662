//! Drives the membership machine: feeds it the mesh's events, discovery's answers,
//! commands and the time, and carries out what it wants.
//!
//! Tasks: none of its own; [`Driver::run`] is one future, owned by the agent. It never
//! awaits anything but its inputs, so that no slow disk, peer or reader holds it up.
//!
//! Whatever comes over one link, everybody else has his turn: after each input all others
//! that wait are looked at: the links' frames, and of these no more than a moment's worth,
//! what is due, a few commands. What a frame costs is told to its link, which
//! is read the more slowly ([`crate::mesh::Turn`]). Copies of all members, for readers and
//! for the disk, are made at a pace.

mod itself;
mod pace;
mod reach;
mod requests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, warn};

use self::itself::Itself;
use self::pace::{Pace, processor_time};
use self::requests::Requests;
use super::disk::Saver;
use super::present::Presenter;
use super::supervisor::Pulse;
use crate::command::Command;
use crate::config::Config;
use crate::discovery::{DiscoveryEvent, DiscoveryHandle};
use crate::escape::escaped;
use crate::mesh::{DialError, Mesh, MeshEvent, SendOutcome};
use crate::metrics::{Cause, Limit, Metrics, Word};
use crate::node::NodeName;
use crate::protocol::membership::{DialFailure, Effect, Health, Membership, News, Note, Reason};
use crate::reach::{ASK, Board};
use crate::throttle::Throttle;
use crate::view::Snapshot;

/// Round trips alone are published no more often than this.
const LAZY_PUBLISH: Duration = Duration::from_millis(1000);

/// While everything changes readers see a view that is at most so old, or so much for each
/// member: each is copied.
const LATEST_PUBLISH: Duration = Duration::from_millis(200);
const LATEST_PUBLISH_EACH: Duration = Duration::from_millis(2);

/// Events of the mesh taken in a row before others have their turn, and for how long.
const BATCH: usize = 64;
const BATCH_TIME: Duration = Duration::from_millis(2);

/// Commands taken in a row.
const COMMANDS: usize = 8;

/// On the board: what the newest answer of discovery lacks.
const DISCOVERY_ANSWER: &str = "discovery_answer";

/// Everything the driver works on.
pub(super) struct Driver {
    pub(super) machine: Membership,
    pub(super) mesh: Arc<Mesh>,
    pub(super) saver: Saver,
    pub(super) presenter: Presenter,
    pub(super) metrics: Arc<Metrics>,
    pub(super) discovery: DiscoveryHandle,
    pub(super) publish: watch::Sender<Arc<Snapshot>>,
    /// The machine's zero.
    pub(super) epoch: Instant,
    pub(super) pulse: Pulse,
    /// Where it stands whom the members reach.
    pub(super) reach: Arc<Board>,
    pub(super) book: Book,
}

/// Where the driver's inputs come from.
pub(super) struct Inputs {
    pub(super) mesh: mpsc::Receiver<MeshEvent>,
    pub(super) discovery: mpsc::Receiver<DiscoveryEvent>,
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) config: watch::Receiver<Arc<Config>>,
    pub(super) stop: oneshot::Receiver<()>,
}

/// What is under way.
#[derive(Debug)]
pub(super) struct Book {
    requests: Requests,
    /// The state changed in a way that readers wait for.
    news: bool,
    pace: Pace,
    published: Option<Instant>,
    /// When somebody was last told whom this node reaches.
    told_reach: Option<Instant>,
    /// Who belongs or was discovered changed since the mesh was told; when it was.
    crowd_changed: bool,
    expected_at: Option<Instant>,
    itself: Itself,
    /// Why a link was last refused.
    refusal: &'static str,
    throttle: Throttle,
}

impl Default for Book {
    fn default() -> Self {
        Self {
            requests: Requests::default(),
            news: true,
            pace: Pace::new(),
            published: None,
            told_reach: None,
            crowd_changed: true,
            expected_at: None,
            itself: Itself::default(),
            refusal: "refused",
            throttle: Throttle::default(),
        }
    }
}

impl Driver {
    /// Runs until told to stop; then says goodbye, flushes links and state, and
    /// withdraws this node from the discovery backend.
    pub(super) async fn run(mut self, mut inputs: Inputs) {
        let mut saved = self.saver.saved();
        let board = Arc::clone(&self.reach);
        loop {
            self.pulse.beat();
            self.carry_out();
            self.save();
            self.publish();
            let wake = self.wake();
            tokio::select! {
                biased;
                _ = &mut inputs.stop => break,
                Some(event) = inputs.mesh.recv() => self.mesh_event(event),
                Some(event) = inputs.discovery.recv() => self.discovery_event(event),
                Some(command) = inputs.commands.recv() => self.command(command),
                Ok(()) = inputs.config.changed() => {
                    let config = Arc::clone(&inputs.config.borrow_and_update());
                    self.machine.reconfigure(config.cluster.autoheal, config.cluster.autoclean);
                    self.discovery.reconfigure();
                }
                Ok(()) = saved.changed() => {
                    let state = saved.borrow_and_update().clone();
                    self.saved(&state);
                }
                () = board.looked() => self.ask_reach(),
                () = sleep_until(wake) => {}
            }
            self.sweep(&mut inputs);
            if saved.has_changed().is_ok_and(|changed| changed) {
                let state = saved.borrow_and_update().clone();
                self.saved(&state);
            }
        }
        self.stop().await;
    }

    /// Gives everybody who waits a turn. Frames come before timers: an answer that is here
    /// already, while this process waited for a processor, is not late.
    fn sweep(&mut self, inputs: &mut Inputs) {
        let start = processor_time();
        for _ in 0..BATCH {
            let Ok(event) = inputs.mesh.try_recv() else { break };
            self.mesh_event(event);
            if processor_time().saturating_sub(start) > BATCH_TIME {
                break;
            }
        }
        self.timers();
        for _ in 0..COMMANDS {
            let Ok(command) = inputs.commands.try_recv() else { break };
            self.command(command);
        }
        if let Ok(event) = inputs.discovery.try_recv() {
            self.discovery_event(event);
        }
    }

    fn timers(&mut self) {
        let now = self.now();
        if self.machine.next_deadline().is_some_and(|at| at <= now) {
            self.machine.handle_timeout(now);
        }
    }

    /// When there is something to do without any input.
    fn wake(&mut self) -> Instant {
        let machine = self.machine.next_deadline().map(|at| self.epoch + at);
        let publish = self.book.news.then(|| self.next_publish());
        let save = self.next_save();
        let far = Instant::now() + LAZY_PUBLISH;
        [machine, publish, save].into_iter().flatten().fold(far, Instant::min)
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    async fn stop(mut self) {
        let now = self.now();
        self.machine.stop(now);
        self.carry_out();
        let version = self.save_at_once();
        let Self { mesh, saver, discovery, .. } = self;
        tokio::join!(mesh.shutdown(), saver.flush(version), discovery.withdraw_and_stop());
    }

    fn mesh_event(&mut self, event: MeshEvent) {
        let now = self.now();
        match event {
            MeshEvent::Up { link, peer, dialed, rtt, remote, local } => {
                self.presenter.linked(link, &peer, remote.ip(), local.ip());
                self.machine.handle_link_up(now, link, &peer, dialed, rtt);
                self.book.crowd_changed = true;
            }
            MeshEvent::Frame { link, payload, .. } if payload == ASK => {
                self.tell_reach(link);
            }
            MeshEvent::Frame { link, payload, turn } if self.awaits_reach(link, &payload) => {
                let start = processor_time();
                self.hear_reach(link, &payload);
                turn.took(processor_time().saturating_sub(start));
            }
            MeshEvent::Frame { link, payload, turn } => {
                let start = processor_time();
                self.metrics.messages_received.inc();
                self.machine.handle_frame(now, link, &payload);
                self.carry_out();
                turn.took(processor_time().saturating_sub(start));
            }
            MeshEvent::Down { link, reason, .. } => {
                debug!(link = link.0, "link ended: {reason}");
                self.machine.handle_link_down(now, link);
                self.presenter.unlinked(link);
                self.book.news = true;
            }
            MeshEvent::DialFailed { peer, error, cause, after } => {
                debug!(%peer, ?after, "dial failed: {error}");
                if error == DialError::Itself {
                    return self.met_itself(&peer);
                }
                self.presenter.refusals.dial_failed(&peer, &error, cause);
                self.book.news = true;
                let failure = failure(error);
                self.machine.handle_dial_failed(now, &peer, &failure);
            }
        }
    }

    /// A name led back to this node: it is no other node, and not dialled again.
    fn met_itself(&mut self, name: &NodeName) {
        let now = self.now();
        if self.book.itself.met(name) {
            info!("{name} is this node itself, under another of its addresses");
        }
        let named = self.presenter.discovery.nodes.contains(name);
        let failure = match self.machine.table().member(name) {
            // Where it last lived there is this process now.
            Some(_) => DialFailure::Refused,
            None if named => DialFailure::Yield,
            None => DialFailure::Rejected("this node itself answers there".to_owned()),
        };
        self.machine.handle_dial_failed(now, name, &failure);
        if named {
            let answer = self.presenter.discovery.nodes.iter().cloned().collect();
            let others = self.book.itself.others(&answer);
            self.machine.handle_contacts(now, &others);
        }
    }

    fn discovery_event(&mut self, event: DiscoveryEvent) {
        let now = self.now();
        let view = &mut self.presenter.discovery;
        match event {
            DiscoveryEvent::Answer { nodes, notices } => {
                view.answered = true;
                view.last_success = Some(std::time::SystemTime::now());
                view.last_error = None;
                view.notices.clone_from(&notices);
                self.presenter.board.tell(DISCOVERY_ANSWER, &notices);
                view.nodes = nodes.iter().cloned().collect();
                self.expect();
                self.machine.handle_discovered(now, &self.book.itself.others(&nodes));
            }
            DiscoveryEvent::Failed { error, nodes } => {
                view.last_error = Some(error.to_string());
                let known = view.nodes.iter().cloned().chain(nodes).collect();
                self.machine.handle_contacts(now, &self.book.itself.others(&known));
            }
        }
        self.book.news = true;
    }

    /// Tells the mesh whose connections are no stranger's.
    fn expect(&mut self) {
        let members = self.machine.table().members().map(|record| &record.node);
        self.mesh.expect(members.chain(&self.presenter.discovery.nodes));
        for (node, address) in self.presenter.met() {
            self.mesh.know(node, address);
        }
        self.book.crowd_changed = false;
        self.book.expected_at = Some(Instant::now());
    }

    fn carry_out(&mut self) {
        for rtt in self.machine.take_round_trips() {
            self.metrics.rtt_seconds.observe(rtt.as_secs_f64());
        }
        while let Some(effect) = self.machine.poll_effect() {
            match effect {
                Effect::Dial(peer) => self.mesh.dial(peer),
                Effect::Send(link, frame) => {
                    if self.mesh.send(link, &frame) == SendOutcome::Queued {
                        self.metrics.messages_sent.inc();
                    }
                }
                Effect::Close(link, reason) => self.mesh.close(link, &reason),
                Effect::Event(news) => {
                    self.count(&news);
                    self.presenter.report(news);
                    self.book.news = true;
                    self.book.crowd_changed = true;
                }
                Effect::Note(note) => self.note(note),
                Effect::Reply(request, Ok(())) => self.granted(request),
                Effect::Reply(request, refused) => self.reply(request, refused),
                Effect::Discovery(enabled) => {
                    self.discovery.set_enabled(enabled);
                    self.presenter.discovery.enabled = enabled;
                    self.book.news = true;
                }
            }
        }
    }

    /// Counts suspicions and how many of them were wrong. A member that was started
    /// again while it was suspect had been away.
    fn count(&self, news: &News) {
        let (was, is) = (news.from, news.to.health());
        if is == Some(Health::Suspect) && was != is {
            self.metrics.suspicions.inc();
        }
        if (was, is) == (Some(Health::Suspect), Some(Health::Up))
            && news.reason != Reason::Restarted
        {
            self.metrics.suspicions_refuted.inc();
        }
    }

    fn note(&mut self, note: Note) {
        self.book.news = true;
        match note {
            Note::Joined(id) => info!("this node belongs to cluster {id}"),
            Note::Left(Reason::Left) => {
                info!("this node left the cluster and stays out until join or discovery enable");
            }
            Note::Left(_) => warn!(
                "this node was removed from the cluster by an operator and stays out until join \
                 or discovery enable"
            ),
            Note::Refusal { peer, code, ours, text } => {
                // The names of others are their own choice, and not worth remembering.
                if self.machine.table().get(&peer).is_some()
                    || self.presenter.discovery.nodes.contains(&peer)
                {
                    self.presenter.refusals.refused(&peer, code, ours, &text);
                }
                if ours {
                    self.book.refusal = code.word();
                    let cause = Cause { cause: Word(code.word()) };
                    self.metrics.links_refused.get_or_create(&cause).inc();
                }
            }
            Note::WeRefused(peer, link, text) => {
                let address = self.presenter.remote(link).map(tracing::field::display);
                let member = self.machine.table().member(&peer);
                let held = member.and_then(|member| self.presenter.address(&member.node));
                let held = held.map_or_else(String::new, |at| format!("; the member is at {at}"));
                if let Some(more) = self.book.throttle.pass(self.book.refusal) {
                    warn!(%peer, address, "refused a link: {}{held}{more}", escaped(&text));
                }
            }
            Note::TheyRefused(peer, link, text) => {
                let address =
                    link.and_then(|link| self.presenter.remote(link)).map(tracing::field::display);
                if let Some(more) = self.book.throttle.pass("refused_us") {
                    warn!(%peer, address, "{}{more}", escaped(&text));
                }
            }
            Note::Limit(limit) => {
                let reached = Limit { limit: Word(limit.word()) };
                let times = self.metrics.limit_reached.get_or_create(&reached).inc();
                if times == 0 {
                    warn!("a limit is reached ({}): {}", limit.word(), limit.text());
                }
            }
            Note::Conflict(Some(text)) => {
                if let Some(more) = self.book.throttle.pass("conflict") {
                    error!("{}{more}", escaped(&text));
                }
            }
            Note::Conflict(None) => info!("the conflict over this node's name is over"),
            Note::BadMessage(peer, text) => {
                let cause = Cause { cause: Word("unreadable_message") };
                self.metrics.frames_ignored.get_or_create(&cause).inc();
                if let Some(more) = self.book.throttle.pass("unreadable") {
                    warn!(%peer, "{}{more}", escaped(&text));
                }
            }
            Note::Slow(late) => warn!(
                "this process did not run for {:.1} s: the machine is overloaded, or the process \
                 was stopped; nobody is accused for that time",
                late.as_secs_f64()
            ),
        }
    }

    /// Publishes a snapshot after news, at once unless they come without end, and now and
    /// then for details.
    fn publish(&mut self) {
        let lazily = self.book.published.is_none_or(|at| at.elapsed() >= LAZY_PUBLISH);
        if lazily || (self.book.news && self.next_publish() <= Instant::now()) {
            self.publish_now();
        }
        let told = self.book.expected_at.is_some_and(|at| at.elapsed() < LAZY_PUBLISH);
        if self.book.crowd_changed && !told {
            self.expect();
        }
    }

    /// When readers may be shown the next view.
    fn next_publish(&self) -> Instant {
        let members = u32::try_from(self.machine.table().member_count()).unwrap_or(u32::MAX);
        let longest = LATEST_PUBLISH.max(LATEST_PUBLISH_EACH.saturating_mul(members));
        self.book.pace.next(longest)
    }

    fn publish_now(&mut self) {
        let start = processor_time();
        self.book.news = false;
        self.book.published = Some(Instant::now());
        let snapshot = self.presenter.snapshot(&self.machine);
        self.publish.send_if_modified(|held| {
            let changed = **held != snapshot;
            if changed {
                *held = Arc::new(snapshot);
            }
            changed
        });
        self.book.pace.took(processor_time().saturating_sub(start));
    }
}

fn failure(error: DialError) -> DialFailure {
    match error {
        DialError::Refused => DialFailure::Refused,
        // Of itself the driver takes care before it comes to this.
        DialError::Yield | DialError::Itself => DialFailure::Yield,
        DialError::Resolve(text) | DialError::Unreachable(text) => DialFailure::Unreachable(text),
        DialError::Timeout => {
            DialFailure::Unreachable("the handshake was not finished in time".to_owned())
        }
        DialError::Rejected(text) => DialFailure::Rejected(text),
    }
}
