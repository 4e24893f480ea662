//! The agent: owns the parts, wires them, and shuts them down in order.
//!
//! Everything that can fail for an operator's reason is opened first: the TLS files, the
//! addresses ([`Listeners`]), the state directory. [`build`] wires the parts, and only
//! [`Agent::run`] lets the membership work. Nothing here needs the process: signals are
//! whoever's runs the agent.
//!
//! # Tasks
//!
//! | task | owner | ends | when dropped at an await |
//! | --- | --- | --- | --- |
//! | membership driver | [`Agent::run`] | on the stop signal, after goodbyes and the last save | peers take it for a crash; the disk has a whole state |
//! | reloader | [`Agent::run`] | with [`Agent::run`], aborted | all of a reload has happened, or nothing |
//! | reports to the service manager | [`Agent::run`], not spawned | on the stop signal | nothing is lost |
//! | API server | [`Agent::run`] | on the stop signal, after the requests under way | connections are cut |
//! | health listener's server | [`Agent::run`] | on the stop signal, after the driver | connections are cut |
//! | discovery runner | the driver | withdrawn by the driver | its entry at the backend expires |
//! | mesh tasks | the driver | with the mesh's shutdown | links are cut |
//! | followers, see [`crate::follow`] | [`Agent::run`] | on the stop signal, before the membership | programs they run are ended, files are whole |
//! | watch over the TLS files | [`build`] | with the runtime | nothing is lost: the old files are in use |
//! | watch over the cookie files | [`build`] | with the runtime | nothing is lost: the old cookies are in use |
//! | state saver | the driver | after the last save | a write that has begun is finished |
//!
//! Shutdown: the driver says goodbye to the peers, who see this node down at once; the
//! API answers until then. A driver that ends unasked ends the agent with an error: what
//! it leaves would be an API over a view that never changes again.

mod cookie_files;
mod disk;
mod driver;
pub mod look;
mod present;
mod refusals;
mod reload;
pub mod signals;
mod singleton;
mod supervisor;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

pub use disk::DiskError;
pub use reload::{Read, SetLogLevel};

use crate::api::probes::{self, ProbeListener};
use crate::api::{self, ApiState};
use crate::command::{Command, Commands, ReloadRequest, Reloads};
use crate::config::{
    AddressType, ApiListen, BrokerKind, Config, LeaveOnStop, Loaded, StrategyConfig,
};
use crate::events::EventLog;
use crate::follow::dns::zone::Zone;
use crate::follow::{Followers, World, dns};
use crate::mesh::tls::{TlsContext, TlsError};
use crate::mesh::{LinkTimes, Listening, Mesh, MeshError, MeshSettings};
use crate::metrics::Metrics;
use crate::node::BootId;
use crate::notices::Notices;
use crate::protocol::membership::{Limits, Membership, Settings, Timing};
use crate::reach::Board;
use crate::resolve::Resolver;
use crate::{discovery, view};
use disk::{Saver, StateDir};
use driver::{Book, Driver, Inputs};
use present::Presenter;
use reload::Reloader;
use singleton::Singleton;
use supervisor::{Pulse, Word};

/// This agent's version, shown to its peers.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The driver's goodbyes, its last save and the withdrawal take no longer.
const STOP_GRACE: Duration = Duration::from_secs(4);

/// Why the agent could not start, or ended. Nothing was left running or half-changed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The state directory: the operator's, or another process's.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// `node.ssl_dist_optfile`, or a file it names: part of the configuration.
    #[error("node.ssl_dist_optfile: {0}")]
    Tls(#[from] TlsError),
    /// The mesh.
    #[error("the mesh {0}")]
    Mesh(#[from] MeshError),
    /// The API's address.
    #[error(transparent)]
    Api(#[from] api::BindError),
    /// The names that are to be served, or their address.
    #[error(transparent)]
    Dns(#[from] dns::DnsError),
    /// The configured name servers.
    #[error("agent.discovery.dns.nameservers: {0}")]
    Resolver(String),
    /// Signals cannot be received (the system's limits).
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
    /// A mistake of ours, not the operator's: a part that must not end has ended.
    #[error(
        "the membership driver has ended ({0}), and the agent cannot work without it: please \
         report this with the log; a supervisor that starts the agent again heals it meanwhile"
    )]
    DriverEnded(String),
}

/// The addresses that an agent is reached at, bound and not served yet.
#[derive(Debug)]
pub struct Listeners {
    /// The mesh's; none for a singleton.
    pub mesh: Listening,
    /// The API's.
    pub api: api::Listener,
    /// The one for health checks, where it is configured.
    pub health: Option<ProbeListener>,
    /// DNS', where it is configured, with its names.
    pub dns: Option<(dns::Listener, Zone)>,
}

impl Listeners {
    /// Binds what the configuration says; needs a tokio runtime.
    ///
    /// # Errors
    /// [`AgentError`]; nothing stays bound then.
    pub fn bind(config: &Config) -> Result<Self, AgentError> {
        let mesh = Listening::bind(&mesh_addresses(config))?;
        let api = api::Listener::bind(&config.agent.api)?;
        let health = config.agent.health.listen.map(ProbeListener::bind).transpose()?;
        let dns = dns::Listener::of(config)?;
        Ok(Self { mesh, api, health, dns })
    }
}

/// An agent whose parts are wired and which takes part in nothing yet.
pub struct Agent {
    listener: api::Listener,
    health: Option<ProbeListener>,
    state: ApiState,
    world: World,
    reloader: Reloader,
    reloads: mpsc::Receiver<ReloadRequest>,
    pulse: Pulse,
    membership: BoxFuture<'static, ()>,
    stop: oneshot::Sender<()>,
}

/// What the process around an agent provides.
pub struct Surroundings {
    /// Counts what happens.
    pub metrics: Arc<Metrics>,
    /// Reads the configuration again.
    pub read: Read,
    /// Sets the level of the log.
    pub set_log_level: SetLogLevel,
}

/// What the process around an agent asks of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// To say goodbye and end.
    Stop,
    /// To read its configuration again.
    Reload,
}

/// Wires an agent from its configuration, its certificates (see [`tls`]) and its
/// listeners. Needs a tokio runtime, which runs the parts.
///
/// # Errors
/// [`AgentError`] when a part could not be opened.
pub fn build(
    loaded: Loaded,
    tls: Option<TlsContext>,
    listeners: Listeners,
    surroundings: Surroundings,
) -> Result<Agent, AgentError> {
    let Surroundings { metrics, read, set_log_level } = surroundings;
    let config = Arc::new(loaded.config);
    let (in_use, changes) = watch::channel(Arc::clone(&config));
    let reloader = Reloader::new(read, set_log_level, in_use, &loaded.effective);
    let (reload, reloads) = Reloads::channel();
    let pulse = Pulse::default();
    let events = Arc::new(EventLog::default());
    let notices = Arc::new(Notices::default());
    let reach = Arc::new(Board::default());
    let (commands, requests) = Commands::channel();
    let (stop, stopped) = oneshot::channel();
    let asked = Asked { commands: requests, config: changes.clone(), stop: stopped };
    let dir = StateDir::open(&config.node.data_dir.join("muster"))?;
    let presenter = Presenter::new(Arc::clone(&config), Arc::clone(&events), Arc::clone(&notices));
    let Listeners { mesh, api: listener, health, dns } = listeners;
    info!(
        "muster {VERSION} runs as {} in cluster {:?}: strategy {}, {}, API on {}",
        config.node.name,
        config.cluster.name,
        config.cluster.strategy.name(),
        config.cluster.proto_dist.name(),
        listener.listen()
    );
    let (snapshot, membership) = if is_singleton(&config) {
        let (singleton, snapshots) =
            Singleton::new(&config, &presenter, dir, pulse.clone(), Arc::clone(&metrics))?;
        let running: BoxFuture<'static, ()> = Box::pin(singleton.run(asked));
        (snapshots, running)
    } else {
        let told = (presenter, Arc::clone(&reach));
        member(&config, &metrics, (mesh, tls.clone()), dir, told, pulse.clone(), asked)?
    };
    let world = World {
        config: changes.clone(),
        snapshots: snapshot.clone(),
        events: Arc::clone(&events),
        commands: commands.clone(),
        metrics: Arc::clone(&metrics),
        notices: Arc::clone(&notices),
        broker: watch::Sender::default(),
        tls,
        dns: dns.map(Arc::new),
    };
    let state = ApiState {
        config: changes,
        snapshot,
        commands,
        reloads: reload,
        events,
        metrics,
        notices,
        reach,
        broker: world.broker.subscribe(),
    };
    Ok(Agent { listener, health, state, world, reloader, reloads, pulse, membership, stop })
}

impl Agent {
    /// Where the API listens.
    #[must_use]
    pub fn api(&self) -> &ApiListen {
        self.listener.listen()
    }

    /// Takes part in the cluster and serves the API until `next` says that it is to stop.
    /// `next` is to be cancel-safe.
    ///
    /// # Errors
    /// [`AgentError::DriverEnded`].
    pub async fn run(self, mut next: impl AsyncFnMut() -> Wish) -> Result<(), AgentError> {
        let followers = Followers::start(self.world);
        let mut membership = tokio::spawn(self.membership);
        let mut servers = JoinSet::new();
        let end = CancellationToken::new();
        if let Some(listener) = self.health {
            let end = end.clone().cancelled_owned();
            servers.spawn(probes::serve(listener, self.state.clone(), end));
        }
        let (asked, state) = (self.state.reloads.clone(), self.state.clone());
        servers.spawn(api::serve(self.listener, self.state, end.clone().cancelled_owned()));
        let reloads = tokio::spawn(self.reloader.run(self.reloads));
        supervisor::tell(Word::Ready).await;
        let told = async {
            while next().await == Wish::Reload {
                asked.ask();
            }
        };
        let result = tokio::select! {
            () = told => Ok(()),
            never = supervisor::report(state, self.pulse) => never,
            ended = &mut membership => Err(AgentError::DriverEnded(match ended {
                Ok(()) => "without a word".to_owned(),
                Err(crashed) => crashed.to_string(),
            })),
        };
        supervisor::tell(Word::Stopping).await;
        reloads.abort();
        // First, so that nobody follows a membership that ends.
        followers.stop().await;
        if result.is_ok() {
            // The receiver may have ended already; there is nothing to stop then.
            let _ended = self.stop.send(());
            if tokio::time::timeout(STOP_GRACE, membership).await.is_err() {
                warn!(
                    "the goodbyes were not finished within {} s: peers that heard none find this \
                     node down by themselves",
                    STOP_GRACE.as_secs()
                );
            }
        }
        end.cancel();
        while servers.join_next().await.is_some() {}
        result
    }
}

/// A membership's snapshots and what works on them, not started yet.
type Prepared = (watch::Receiver<Arc<view::Snapshot>>, BoxFuture<'static, ()>);

/// What operators and the process ask of the membership.
struct Asked {
    commands: mpsc::Receiver<Command>,
    config: watch::Receiver<Arc<Config>>,
    stop: oneshot::Receiver<()>,
}

/// Prepares the mesh, discovery and the membership between them.
fn member(
    config: &Arc<Config>,
    metrics: &Arc<Metrics>,
    (listening, tls): (Listening, Option<TlsContext>),
    dir: StateDir,
    (mut presenter, reach): (Presenter, Arc<Board>),
    pulse: Pulse,
    Asked { commands, config: changes, stop }: Asked,
) -> Result<Prepared, AgentError> {
    let boot = BootId(rand::random());
    let settings = mesh_settings(config, boot, tls.clone())?;
    let durable = dir.load(&config.node.name, &config.cluster.name)?;
    let (mesh, mesh_events) = Mesh::start(settings, listening, Arc::clone(metrics))?;
    if let Some(tls) = tls {
        tokio::spawn(tls.watch(Arc::clone(metrics)));
    }
    tokio::spawn(cookie_files::watch(Arc::clone(config), Arc::clone(metrics)));
    for address in mesh.listening() {
        info!("the mesh listens on {address}");
    }
    let enabled = !durable.left && !durable.discovery_off;
    let (handle, answers) = discovery::spawn(changes.clone(), Arc::clone(metrics), enabled);
    let settings = Settings {
        node: config.node.name.clone(),
        boot,
        role: config.node.role,
        version: VERSION.to_owned(),
        cluster: config.cluster.name.clone(),
        automatic: config.cluster.strategy.is_automatic(),
        autoheal: config.cluster.autoheal,
        autoclean: config.cluster.autoclean,
        full_mesh_limit: config.agent.mesh.full_mesh_limit,
        leave_on_stop: leaves_on_stop(config),
        whole_view_limit: Settings::WHOLE_VIEW,
        limits: Limits::default(),
        timing: Timing::default(),
    };
    let machine = Membership::new(settings, durable, Duration::ZERO, rand::random());
    presenter.discovery.enabled = enabled;
    let (publish, snapshot) = watch::channel(Arc::new(presenter.snapshot(&machine)));
    let driver = Driver {
        machine,
        mesh: Arc::new(mesh),
        saver: Saver::spawn(
            dir,
            config.node.name.clone(),
            config.cluster.name.clone(),
            Arc::clone(metrics),
        ),
        presenter,
        metrics: Arc::clone(metrics),
        discovery: handle,
        publish,
        epoch: Instant::now(),
        pulse,
        reach,
        book: Book::default(),
    };
    let inputs = Inputs { mesh: mesh_events, discovery: answers, commands, config: changes, stop };
    Ok((snapshot, Box::pin(driver.run(inputs))))
}

/// What `agent.leave_on_stop` comes to: by itself a node leaves where its name is an
/// address that the next pod does not have.
fn leaves_on_stop(config: &Config) -> bool {
    match config.agent.leave_on_stop {
        LeaveOnStop::Always => true,
        LeaveOnStop::Never => false,
        LeaveOnStop::Auto => match &config.cluster.strategy {
            StrategyConfig::K8s(k8s) => {
                matches!(k8s.address_type, AddressType::Ip | AddressType::Dns)
            }
            _ => false,
        },
    }
}

fn is_singleton(config: &Config) -> bool {
    matches!(config.cluster.strategy, StrategyConfig::Singleton)
}

/// The mesh's certificates, where it uses any; logs what an operator should know about
/// them.
///
/// # Errors
/// [`AgentError::Tls`]: part of the configuration is unusable.
pub fn tls(config: &Config) -> Result<Option<TlsContext>, AgentError> {
    // A singleton has no mesh, and its broker may be asked all the same.
    let asked = config.agent.broker.kind == BrokerKind::Emqx;
    if !config.cluster.proto_dist.is_tls() || (is_singleton(config) && !asked) {
        return Ok(None);
    }
    let node = &config.node;
    let verify_node_name = config.agent.mesh.verify_node_name;
    let tls = TlsContext::load(&node.ssl_dist_optfile, &node.name, verify_node_name)?;
    for warning in tls.warnings() {
        warn!("{warning}");
    }
    Ok(Some(tls))
}

/// Where the mesh listens.
fn mesh_addresses(config: &Config) -> Vec<SocketAddr> {
    if is_singleton(config) {
        return Vec::new();
    }
    let mesh = &config.agent.mesh;
    // Checked with the configuration; a port beyond 65535 never gets here.
    let port = mesh.port_of(&config.node.name).unwrap_or(mesh.base_port);
    config.mesh_bind().into_iter().map(|ip| SocketAddr::new(ip, port)).collect()
}

fn mesh_settings(
    config: &Config,
    boot: BootId,
    tls: Option<TlsContext>,
) -> Result<MeshSettings, AgentError> {
    let mesh = &config.agent.mesh;
    let resolver =
        Resolver::new(&config.agent.discovery.nameservers).map_err(AgentError::Resolver)?;
    Ok(MeshSettings {
        node: config.node.name.clone(),
        creation: boot.0 as u32,
        cookies: config.node.cookies.clone(),
        bind: mesh_addresses(config),
        peer_base_port: mesh.base_port,
        ipv6: config.cluster.proto_dist.is_ipv6(),
        handshake_timeout: mesh.handshake_timeout,
        max_frame: mesh.max_frame,
        times: LinkTimes::default(),
        resolver: Arc::new(resolver),
        tls,
    })
}
