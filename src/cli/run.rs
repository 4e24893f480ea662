//! `muster run`.

use std::sync::Arc;

use tracing::{error, warn};

use super::args::RunArgs;
use super::error::CliError;
use super::files;
use crate::agent::signals::Signals;
use crate::agent::{self, AgentError, Listeners, Surroundings};
use crate::api::BindError;
use crate::config::Loaded;
use crate::logging;
use crate::metrics::Metrics;

/// Runs the agent in the foreground until it is told to stop.
pub(super) fn run(args: &RunArgs) -> Result<(), CliError> {
    if let Some(parent) = args.end_with_parent {
        end_with(parent)?;
    }
    let loaded = files::load(&args.files.config)?;
    let metrics = Arc::new(Metrics::default());
    // Dropped last, so that the last lines are written.
    let log = logging::init(loaded.config.agent.log, metrics.log_lines_dropped.clone())
        .map_err(|error| CliError::Failed(format!("cannot log: {error}")))?;
    for warning in &loaded.warnings {
        warn!("configuration: {warning}");
    }
    // One thread: an agent does little, and waking a second one for it costs more than
    // it gains, in time and in memory. Files are read and written on others.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(4)
        .enable_all()
        .build()
        .map_err(|error| CliError::Failed(format!("cannot start: {error}")))?;
    let files = args.files.config.clone();
    let surroundings = Surroundings {
        metrics,
        read: Arc::new(move || files::read(&files)),
        set_log_level: Box::new(log.level_setter()),
    };
    let result = runtime.block_on(agent(loaded, surroundings));
    runtime.shutdown_background();
    result.map_err(|error| match error {
        AgentError::Tls(_) | AgentError::Api(BindError::Tls(_)) => {
            CliError::ConfigFile(error.to_string())
        }
        AgentError::DriverEnded(_) => {
            // Standard error itself may have nobody who reads it.
            error!("{error}");
            CliError::Logged
        }
        error => CliError::Failed(error.to_string()),
    })
}

/// Has the system kill this process when its parent ends, even while it is stopped.
fn end_with(parent: i32) -> Result<(), CliError> {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))
        .map_err(|error| CliError::Failed(format!("cannot end with process {parent}: {error}")))?;
    // It may have ended before the system was asked.
    match rustix::process::getppid().map(rustix::process::Pid::as_raw_pid) {
        Some(pid) if pid == parent => Ok(()),
        _ => Err(CliError::Failed(format!("process {parent} is not the parent"))),
    }
}

/// Everything that can fail for an operator's reason comes before anything runs.
async fn agent(loaded: Loaded, surroundings: Surroundings) -> Result<(), AgentError> {
    let mut signals = Signals::listen()?;
    let tls = agent::tls(&loaded.config)?;
    let listeners = Listeners::bind(&loaded.config)?;
    let agent = agent::build(loaded, tls, listeners, surroundings)?;
    agent.run(async || signals.next().await).await
}
