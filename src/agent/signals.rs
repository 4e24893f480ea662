//! What the process is told by signals.

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::info;

use super::{AgentError, Wish};

/// Listens from its making on, so that no early signal ends the process without a goodbye.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
    /// Reserved: they do nothing, where the system's default would end the process.
    _users: [Signal; 2],
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
            hang_up: listen(SignalKind::hangup())?,
            _users: [listen(SignalKind::user_defined1())?, listen(SignalKind::user_defined2())?],
        })
    }

    /// What the next signal asks for. Cancel-safe.
    pub async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => info!("SIGTERM: this node stops"),
            _ = self.interrupt.recv() => info!("SIGINT: this node stops"),
            _ = self.hang_up.recv() => {
                info!("SIGHUP: the configuration is read again");
                return Wish::Reload;
            }
        }
        Wish::Stop
    }
}
