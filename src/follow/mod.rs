//! What reacts to the membership and is unknown to it: the broker's probe, EMQX's own
//! cluster, rendered files, hooks, DNS.
//!
//! Followers read snapshots and events and send commands, as the API does. They run on a
//! thread and with blocking threads of their own, which exist only once something is
//! configured: a program that hangs, a template without end, a file system that does not
//! answer hold up each other at worst, and never the membership.
//!
//! # Tasks
//!
//! | task | owner | ends | when dropped |
//! | --- | --- | --- | --- |
//! | manager | [`Followers`] | on the stop signal, after the followers | aborts the followers |
//! | one for each configured follower, supervised | the manager | when its part of the configuration goes | see its module |
//!
//! A follower is known by its part of the configuration: a reload ends those whose part is
//! gone or changed and starts the new ones; the others go on undisturbed. One that panics is
//! logged, put on the board of notices and started again, later each time.

mod http;
mod probe;
mod process;
mod trust;

pub mod dns;
pub mod emqx;

pub(crate) mod hooks;
pub(crate) mod render;

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tracing::{error, warn};

use self::dns::zone::Zone;
use crate::attributes::Broker;
use crate::backoff::Backoff;
use crate::broker::BrokerReport;
use crate::command::{Action, Commands};
use crate::config::{BrokerConfig, BrokerKind, Config, HookConfig, RenderConfig};
use crate::events::EventLog;
use crate::mesh::tls::TlsContext;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::resolve::Resolver;
use crate::view::Snapshot;

/// Threads that may wait for the file system, the system's name look-ups and the start of
/// programs. A file system that hangs holds one for each file on it; further ones wait.
const BLOCKING_THREADS: usize = 16;

/// What followers do, and the programs they run, yields to the membership where there is more
/// to do than processors.
const NICE: i32 = 10;

/// Followers that are told to end do so at their next wait.
const STOP_GRACE: Duration = Duration::from_secs(2);

/// A program that is being started when all ends is started and ended within this.
const START_GRACE: Duration = Duration::from_secs(1);

/// Between a follower's panic and its next start.
const RESTART: Backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));

/// A follower that has run so long is well again.
const CALM: Duration = Duration::from_secs(60);

/// Between two attempts to tell the membership what this node says of itself.
const DESCRIBE_AGAIN: Duration = Duration::from_secs(1);

/// What every follower is handed. Cheap to clone.
#[derive(Clone, Debug)]
pub struct World {
    /// The configuration in use.
    pub config: watch::Receiver<Arc<Config>>,
    /// The newest snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Membership news.
    pub events: Arc<EventLog>,
    /// To the membership driver.
    pub commands: Commands,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// The board of standing troubles.
    pub notices: Arc<Notices>,
    /// The broker next door.
    pub broker: watch::Sender<BrokerReport>,
    /// The mesh's certificates, with which brokers are linked to, too.
    pub tls: Option<TlsContext>,
    /// Where DNS is served, and its names.
    pub dns: Option<Arc<(dns::Listener, Zone)>>,
}

/// From where on a follower tells of events.
#[derive(Clone, Debug)]
struct Beginning {
    /// The newest event that it does not tell of.
    event: u64,
    /// The cluster as it was then.
    snapshot: Arc<Snapshot>,
}

impl Beginning {
    fn now(world: &World) -> Self {
        // In this order: whoever is down in the snapshot is so by an event before.
        let snapshot = Arc::clone(&world.snapshots.borrow());
        Self { event: world.events.last_id(), snapshot }
    }
}

/// A trouble that stands for as long as its owner says so; over when the owner is dropped.
#[derive(Debug)]
struct Standing {
    notices: Arc<Notices>,
    check: String,
}

impl Standing {
    fn new(notices: &Arc<Notices>, check: String) -> Self {
        Self { notices: Arc::clone(notices), check }
    }

    fn set(&self, text: &str) {
        self.notices.set(self.check.clone(), text);
    }

    fn clear(&self) {
        self.notices.clear(&self.check);
    }
}

impl Drop for Standing {
    fn drop(&mut self) {
        self.clear();
    }
}

/// A follower, by its part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Probe(BrokerConfig),
    Render(RenderConfig),
    Hook(HookConfig),
    /// Whether it drives.
    Emqx(bool),
    Dns,
}

impl Part {
    /// The followers that a configuration asks for, in the order of their start.
    fn all(config: &Config, dns: bool) -> Vec<Self> {
        let agent = &config.agent;
        let probe = (agent.broker.kind != BrokerKind::None).then(|| agent.broker.clone());
        let probe = probe.into_iter().map(Self::Probe);
        let render = agent.render.iter().cloned().map(Self::Render);
        let hooks = agent.hooks.iter().cloned().map(Self::Hook);
        let emqx = agent.broker.kind == BrokerKind::Emqx;
        let emqx = emqx.then_some(Self::Emqx(agent.broker.drive));
        let dns = dns.then_some(Self::Dns);
        probe.chain(emqx).chain(render).chain(hooks).chain(dns).collect()
    }

    fn name(&self) -> String {
        match self {
            Self::Probe(_) => "agent.broker".to_owned(),
            Self::Render(config) => format!("agent.render {}", config.target.display()),
            Self::Hook(config) => format!("agent.hooks {}", hooks::label(&config.action)),
            Self::Emqx(_) => "agent.broker (its cluster)".to_owned(),
            Self::Dns => "agent.dns".to_owned(),
        }
    }

    async fn run(self, world: World, beginning: Beginning) {
        match self {
            Self::Probe(config) => probe::run(config, world).await,
            Self::Render(config) => render::run(config, world).await,
            Self::Hook(config) => hooks::run(config, world, beginning).await,
            Self::Emqx(drive) => follow_emqx(drive, world).await,
            Self::Dns => serve_dns(world).await,
        }
    }
}

/// Asks EMQX for its own cluster, and has it join where `drive` says so.
async fn follow_emqx(drive: bool, world: World) {
    let config = Arc::clone(&world.config.borrow());
    let Some(resolver) = resolver(&config, &world) else { return };
    let broker = world.broker.clone();
    let parts = emqx::Parts {
        node: config.node.name.clone(),
        drive,
        cookies: config.node.cookies.clone(),
        ipv6: config.cluster.proto_dist.is_ipv6(),
        tls: world.tls,
        resolver,
        handshake_timeout: config.agent.mesh.handshake_timeout,
        times: emqx::Times::default(),
        snapshot: world.snapshots,
        report: world.broker,
        events: world.events,
        notices: world.notices,
        agrees: world.metrics.broker_view_agrees.clone(),
    };
    emqx::follow(parts).await;
    broker.send_modify(|report| report.cluster = None);
}

/// Serves DNS, which was bound before anything ran.
async fn serve_dns(world: World) {
    let config = Arc::clone(&world.config.borrow());
    let Some(served) = world.dns.clone() else { return };
    let Some(resolver) = resolver(&config, &world) else { return };
    let (listener, zone) = &*served;
    let parts = dns::Parts {
        zone: zone.clone(),
        snapshot: world.snapshots,
        resolver,
        metrics: world.metrics,
        notices: world.notices,
    };
    dns::serve(listener, parts).await;
}

fn resolver(config: &Config, world: &World) -> Option<Resolver> {
    match Resolver::new(&config.agent.discovery.nameservers) {
        Ok(resolver) => Some(resolver),
        // The mesh was made from the same.
        Err(error) => {
            world.notices.set("nameservers", &format!("the name servers cannot be used: {error}"));
            None
        }
    }
}

/// The running followers.
#[derive(Debug)]
pub struct Followers {
    stop: oneshot::Sender<()>,
    manager: JoinHandle<()>,
}

impl Followers {
    /// Starts what the configuration asks for, now and after every change of it. To be
    /// called before the membership runs, so that hooks miss nothing. Needs a tokio runtime.
    #[must_use]
    pub fn start(world: World) -> Self {
        let (stop, stopped) = oneshot::channel();
        let beginning = Beginning::now(&world);
        world.broker.send_replace(probe::unprobed(&world.config.borrow().agent.broker));
        Self { stop, manager: tokio::spawn(manage(world, beginning, stopped)) }
    }

    /// Ends them: programs they run are ended, files are left whole.
    pub async fn stop(self) {
        // The manager may have ended already.
        let _ended = self.stop.send(());
        if self.manager.await.is_err() {
            error!(
                "what follows the membership crashed at its end: please report this with the log"
            );
        }
    }
}

/// Where followers run, and who does.
#[derive(Default)]
struct House {
    runtime: Option<Runtime>,
    running: Vec<(Part, JoinHandle<()>)>,
}

impl Drop for House {
    fn drop(&mut self) {
        // Whatever hangs in a file system is not waited for.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

async fn manage(world: World, beginning: Beginning, stop: oneshot::Receiver<()>) {
    let mut house = House::default();
    tokio::select! {
        // Dropped or sent: both mean that it is time.
        _ = stop => {}
        () = house.keep(&world, beginning) => {}
        () = describe(&world) => {}
    }
    house.end(|_| true).await;
    if timeout(START_GRACE, process::started()).await.is_err() {
        warn!(
            "a program's start does not end, and is left: it waits for the system, as for a disk or \
             a network file system that hangs"
        );
    }
}

impl House {
    /// Has the followers run that the newest configuration asks for.
    async fn keep(&mut self, world: &World, mut beginning: Beginning) {
        let mut config = world.config.clone();
        loop {
            let wanted = Part::all(&config.borrow_and_update(), world.dns.is_some());
            let mut open = wanted.clone();
            self.end(|part| match open.iter().position(|other| other == part) {
                Some(at) => {
                    open.swap_remove(at);
                    false
                }
                None => true,
            })
            .await;
            let mut held: Vec<&Part> = self.running.iter().map(|(part, _)| part).collect();
            let new: Vec<Part> = wanted
                .into_iter()
                .filter(|part| match held.iter().position(|other| *other == part) {
                    Some(at) => {
                        held.swap_remove(at);
                        false
                    }
                    None => true,
                })
                .collect();
            for part in new {
                self.begin(part, world, &beginning);
            }
            if config.changed().await.is_err() {
                // Nobody changes it any more.
                std::future::pending::<()>().await;
            }
            beginning = Beginning::now(world);
        }
    }

    fn begin(&mut self, part: Part, world: &World, beginning: &Beginning) {
        if self.runtime.is_none() {
            let built = Builder::new_multi_thread()
                .worker_threads(1)
                .max_blocking_threads(BLOCKING_THREADS)
                .thread_name("follow")
                .on_thread_start(yield_to_membership)
                .enable_all()
                .build();
            match built {
                Ok(runtime) => self.runtime = Some(runtime),
                Err(error) => {
                    let text = format!("no thread for {}: {error}", part.name());
                    world.notices.set("followers", &text);
                    return;
                }
            }
        }
        let Some(runtime) = &self.runtime else { return };
        if let Part::Probe(config) = &part {
            world.broker.send_replace(probe::unprobed(config));
        }
        let (run, world, beginning) = (part.clone(), world.clone(), beginning.clone());
        let name = part.name();
        let task = runtime.spawn(async move {
            let notices = Arc::clone(&world.notices);
            let mut first = Some(beginning);
            supervise(&name, &notices, || {
                // Who starts again goes on from now.
                let beginning = first.take().unwrap_or_else(|| Beginning::now(&world));
                run.clone().run(world.clone(), beginning)
            })
            .await;
        });
        self.running.push((part, task));
    }

    /// Ends those that are to go, the last started first.
    async fn end(&mut self, mut goes: impl FnMut(&Part) -> bool) {
        let mut at = self.running.len();
        let mut ended = Vec::new();
        while at > 0 {
            at -= 1;
            if goes(&self.running[at].0) {
                ended.push(self.running.remove(at));
            }
        }
        for (_, task) in &ended {
            task.abort();
        }
        let last = Instant::now() + STOP_GRACE;
        for (part, task) in ended {
            if timeout_at(last, task).await.is_err() {
                warn!(
                    "{} does not end, and is left: it waits for the system, as for a disk or a \
                     network file system that hangs",
                    part.name()
                );
            }
        }
    }
}

/// Lowers the priority of the calling thread, and of what it starts.
fn yield_to_membership() {
    if let Err(error) = rustix::process::setpriority_process(None, NICE) {
        // Filtered system calls, or lower already.
        tracing::debug!("what follows the membership runs as it comes: {error}");
    }
}

/// Runs a follower; again, later each time, when it panics.
async fn supervise<F: Future<Output = ()>>(
    name: &str,
    notices: &Arc<Notices>,
    mut start: impl FnMut() -> F,
) {
    let standing = Standing::new(notices, format!("crashed {name}"));
    let mut panics = 0;
    loop {
        let begun = Instant::now();
        let mut run = std::pin::pin!(AssertUnwindSafe(start()).catch_unwind());
        let ended = tokio::select! {
            ended = &mut run => ended,
            () = sleep(CALM) => {
                standing.clear();
                run.await
            }
        };
        let Err(panic) = ended else { return };
        standing.set(&format!(
            "{name} crashed and is started again: {}; please report this with the log",
            message(&*panic)
        ));
        if begun.elapsed() >= CALM {
            panics = 0;
        }
        sleep(RESTART.after(panics)).await;
        panics = panics.saturating_add(1);
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message")
}

/// Tells the membership what this node says of itself, whenever that changes: its tags and
/// how its broker fares.
async fn describe(world: &World) {
    let mut config = world.config.clone();
    let mut broker = world.broker.subscribe();
    // What the membership begins with.
    let mut told = Action::Describe { tags: crate::attributes::Tags::default(), broker: None };
    loop {
        let wanted = {
            let report = broker.borrow_and_update();
            let config = config.borrow_and_update();
            Action::Describe { tags: config.agent.tags.clone(), broker: statement(&report) }
        };
        if wanted != told {
            match world.commands.submit(wanted.clone()).await {
                Ok(()) => told = wanted,
                Err(refused) => {
                    tracing::debug!("what this node says of itself was not taken: {refused}");
                    sleep(DESCRIBE_AGAIN).await;
                    continue;
                }
            }
        }
        tokio::select! {
            Ok(()) = broker.changed() => {}
            Ok(()) = config.changed() => {}
            else => std::future::pending().await,
        }
    }
}

fn statement(report: &BrokerReport) -> Option<Broker> {
    let address = report.address.clone()?;
    Some(Broker { address, status: report.status, detail: report.detail.clone() })
}

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
