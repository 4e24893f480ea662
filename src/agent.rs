//! The agent: owns the parts, wires them, and shuts them down in order.
//!
//! Everything that can fail for an operator's reason is opened first: the state
//! directory, the mesh's addresses, the API's address. Only then anything runs.
//!
//! # Tasks
//!
//! | task | owner | ends |
//! | --- | --- | --- |
//! | membership driver | [`run`] | on the stop signal, after goodbyes and the last save |
//! | API server | [`run`] | on the stop signal, after the requests under way |
//! | discovery runner | the driver | withdrawn by the driver |
//! | mesh tasks | the driver | with the mesh's shutdown |
//! | watch over the TLS files | [`run`] | with the process; it holds nothing open |
//! | watch over the cookie files | [`run`] | with the process; it holds nothing open |
//! | state saver | the driver | after the last save |
//!
//! Shutdown: the driver says goodbye to the peers, who see this node down at once; the
//! API answers until then.

mod cookie_files;
mod disk;
mod driver;
mod present;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tracing::{info, warn};

pub use disk::DiskError;

use crate::api::{self, ApiState};
use crate::command::{Command, Commands, Refused};
use crate::config::{Config, StrategyConfig};
use crate::events::EventLog;
use crate::mesh::tls::{TlsContext, TlsError};
use crate::mesh::{LinkTimes, Mesh, MeshError, MeshSettings};
use crate::metrics::Metrics;
use crate::node::BootId;
use crate::protocol::membership::{Membership, Settings, Timing};
use crate::resolve::Resolver;
use crate::{discovery, view};
use disk::{Saver, StateDir};
use driver::{Book, Driver, Inputs};
use present::Presenter;

/// This agent's version, shown to its peers.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The driver's goodbyes, its last save and the withdrawal take no longer.
const STOP_GRACE: Duration = Duration::from_secs(4);

/// Why the agent could not start. Nothing was left running or half-changed.
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
    /// The configured name servers.
    #[error("agent.discovery.dns.nameservers: {0}")]
    Resolver(String),
    /// Signals cannot be received (the system's limits).
    #[error("cannot receive signals: {0}")]
    Signals(std::io::Error),
}

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// [`AgentError`] when it could not start.
pub async fn run(config: Config) -> Result<(), AgentError> {
    let config = Arc::new(config);
    let mut terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(AgentError::Signals)?;
    let metrics = Arc::new(Metrics::default());
    let events = Arc::new(EventLog::default());
    let (commands, requests) = Commands::channel();
    let tls = tls(&config)?;
    let dir = StateDir::open(&config.node.data_dir.join("muster"))?;
    let listener = api::Listener::bind(&config.agent.api)?;
    let presenter = Presenter::new(Arc::clone(&config), Arc::clone(&events));
    let (stop, stopped) = oneshot::channel();
    let (snapshot, membership) = if matches!(config.cluster.strategy, StrategyConfig::Singleton) {
        singleton(presenter, requests, stopped)
    } else {
        member(&config, &metrics, tls, dir, presenter, requests, stopped)?
    };
    let (api_stop, api_stopped) = oneshot::channel::<()>();
    let state = ApiState { config: Arc::clone(&config), snapshot, commands, events, metrics };
    info!(
        "muster {VERSION} runs as {} in cluster {:?}: strategy {}, {}, API on {}",
        config.node.name,
        config.cluster.name,
        config.cluster.strategy.name(),
        config.cluster.proto_dist.name(),
        config.agent.api.listen
    );
    let server = tokio::spawn(api::serve(listener, state, async {
        // Dropped or sent: both mean that it is time.
        let _either = api_stopped.await;
    }));
    notify(&[sd_notify::NotifyState::Ready]);
    tokio::select! {
        _ = terminate.recv() => info!("SIGTERM: this node stops"),
        _ = interrupt.recv() => info!("SIGINT: this node stops"),
    }
    notify(&[sd_notify::NotifyState::Stopping]);
    // The receivers may have ended already; there is nothing to stop then.
    let _ended = stop.send(());
    if tokio::time::timeout(STOP_GRACE, membership).await.is_err() {
        warn!("the goodbyes were not finished within {} s", STOP_GRACE.as_secs());
    }
    let _ended = api_stop.send(());
    let _crashed = server.await;
    Ok(())
}

/// Tells systemd, if it started us.
fn notify(state: &[sd_notify::NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot notify the service manager: {error}");
    }
}

/// What [`run`] keeps of a membership: its snapshots and its task.
type Running = (watch::Receiver<Arc<view::Snapshot>>, tokio::task::JoinHandle<()>);

/// Starts the mesh, discovery and the membership between them.
fn member(
    config: &Arc<Config>,
    metrics: &Arc<Metrics>,
    tls: Option<TlsContext>,
    dir: StateDir,
    presenter: Presenter,
    commands: mpsc::Receiver<Command>,
    stop: oneshot::Receiver<()>,
) -> Result<Running, AgentError> {
    let boot = BootId(rand::random());
    let settings = mesh_settings(config, boot, tls.clone())?;
    let (mesh, mesh_events) = Mesh::bind(settings, Arc::clone(metrics))?;
    if let Some(tls) = tls {
        tokio::spawn(tls.watch(Arc::clone(metrics)));
    }
    tokio::spawn(cookie_files::watch(Arc::clone(config), Arc::clone(metrics)));
    for address in mesh.listening() {
        info!("the mesh listens on {address}");
    }
    let durable = dir.load(&config.node.name, &config.cluster.name)?;
    let enabled = !durable.left && !durable.discovery_off;
    let (handle, answers) = discovery::spawn(config, Arc::clone(metrics), enabled);
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
        timing: Timing::default(),
    };
    let machine = Membership::new(settings, durable, Duration::ZERO, rand::random());
    let mut presenter = presenter;
    presenter.discovery.enabled = enabled;
    let (publish, snapshot) = watch::channel(Arc::new(presenter.snapshot(&machine)));
    let driver = Driver {
        machine,
        mesh: Arc::new(mesh),
        saver: Saver::spawn(dir, config.node.name.clone(), config.cluster.name.clone()),
        presenter,
        metrics: Arc::clone(metrics),
        discovery: handle,
        publish,
        epoch: Instant::now(),
        book: Book::default(),
    };
    let inputs = Inputs { mesh: mesh_events, discovery: answers, commands, stop };
    Ok((snapshot, tokio::spawn(driver.run(inputs))))
}

/// The mesh's certificates, with what an operator should know about them.
fn tls(config: &Config) -> Result<Option<TlsContext>, AgentError> {
    let used = config.cluster.proto_dist.is_tls();
    if !used || matches!(config.cluster.strategy, StrategyConfig::Singleton) {
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

fn mesh_settings(
    config: &Config,
    boot: BootId,
    tls: Option<TlsContext>,
) -> Result<MeshSettings, AgentError> {
    let mesh = &config.agent.mesh;
    let node = &config.node.name;
    // Checked with the configuration; a port beyond 65535 never gets here.
    let port = mesh.port_of(node).unwrap_or(mesh.base_port);
    let resolver =
        Resolver::new(&config.agent.discovery.nameservers).map_err(AgentError::Resolver)?;
    Ok(MeshSettings {
        node: node.clone(),
        creation: boot.0 as u32,
        cookies: config.node.cookies.clone(),
        bind: config.mesh_bind().into_iter().map(|ip| SocketAddr::new(ip, port)).collect(),
        peer_base_port: mesh.base_port,
        ipv6: config.cluster.proto_dist.is_ipv6(),
        handshake_timeout: mesh.handshake_timeout,
        max_frame: mesh.max_frame,
        times: LinkTimes::default(),
        resolver: Arc::new(resolver),
        tls,
    })
}

/// The `singleton` strategy: no listener, no peers, and every command refused.
fn singleton(
    presenter: Presenter,
    mut commands: mpsc::Receiver<Command>,
    stop: oneshot::Receiver<()>,
) -> Running {
    let snapshot = presenter.singleton(crate::node::Incarnation(1));
    let (publish, receiver) = watch::channel(Arc::new(snapshot));
    let task = tokio::spawn(async move {
        let _held_open = publish;
        let refuse = async {
            while let Some(command) = commands.recv().await {
                let text = "this node is a singleton (cluster.discovery_strategy): it has no peers";
                // Whoever asked may have gone away.
                let _gone = command.reply.send(Err(Refused::Conflict(text.to_owned())));
            }
        };
        tokio::select! {
            () = refuse => {}
            _ = stop => {}
        }
    });
    (receiver, task)
}
