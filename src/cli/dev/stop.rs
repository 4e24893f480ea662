//! When a throwaway cluster is to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::error::{Context as _, DevError};

/// The signals that end it, asked for before anything is started.
#[derive(Debug)]
pub(super) struct Stop {
    interrupt: Signal,
    terminate: Signal,
    quit: Signal,
    /// `None` under `nohup`, which asks for a life without a terminal.
    hang_up: Option<Signal>,
}

impl Stop {
    pub(super) fn listen() -> Result<Self, DevError> {
        let listen = |kind| signal(kind).context(|| "cannot wait for signals".to_owned());
        let hang_up = !ignores_hang_up();
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            quit: listen(SignalKind::quit())?,
            hang_up: hang_up.then(|| listen(SignalKind::hangup())).transpose()?,
        })
    }

    /// Resolves at the first of them. Cancel-safe.
    pub(super) async fn asked(&mut self) {
        let hang_up = async {
            match &mut self.hang_up {
                Some(signal) => signal.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.quit.recv() => {}
            _ = hang_up => {}
        }
    }
}

/// Whether whoever started us has SIGHUP ignored, as Linux tells.
fn ignores_hang_up() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    // Signal 1 is the lowest bit.
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask & 1 == 1)
}
