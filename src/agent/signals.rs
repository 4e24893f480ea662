//! What the process is told by signals.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use super::AgentError;

/// Listens from its making on, so that no early signal ends the process without a goodbye.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Begins to listen; needs a tokio runtime.
    ///
    /// # Errors
    /// [`AgentError::Signals`].
    pub fn listen() -> Result<Self, AgentError> {
        let listen = |kind| signal(kind).map_err(AgentError::Signals);
        Ok(Self {
            terminate: listen(SignalKind::terminate())?,
            interrupt: listen(SignalKind::interrupt())?,
        })
    }

    /// Resolves when this node is to stop.
    pub async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM: this node stops"),
            _ = self.interrupt.recv() => info!("SIGINT: this node stops"),
        }
    }
}
