//! `muster run`.

use std::path::PathBuf;

use tracing::warn;

use super::error::CliError;
use super::files;
use crate::agent::{self, AgentError};
use crate::logging;

/// Runs the agent in the foreground until it is told to stop.
pub(super) fn run(config: &[PathBuf]) -> Result<(), CliError> {
    let loaded = files::load(config)?;
    logging::init(loaded.config.agent.log)
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
    let result = runtime.block_on(agent::run(loaded.config));
    runtime.shutdown_background();
    result.map_err(|error| match error {
        AgentError::Tls(_) => CliError::ConfigFile(error.to_string()),
        error => CliError::Failed(error.to_string()),
    })
}
