//! Why a command failed, and what the shell is told.

use std::io::{self, Write as _};
use std::process::ExitCode;

use crate::config::ConfigErrors;

/// BSD's `sysexits.h`: a service is unavailable.
pub(super) const EX_UNAVAILABLE: u8 = 69;

/// BSD's `sysexits.h`: something is misconfigured.
const EX_CONFIG: u8 = 78;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Refused by the agent, or failed here.
    #[error("{0}")]
    Failed(String),
    /// The arguments make no sense together.
    #[error("{0}")]
    Usage(String),
    /// The agent could not be asked.
    #[error("{0}")]
    Unreachable(String),
    /// The configuration is unusable.
    #[error("the configuration cannot be used\n{0}")]
    Config(ConfigErrors),
    /// A file that the configuration names is unusable.
    #[error("the configuration cannot be used\n{0}")]
    ConfigFile(String),
    /// The agent failed, and its log says why.
    #[error("failed; the log says why")]
    Logged,
    /// Whoever read our output wants no more of it.
    #[error("the output was closed")]
    OutputClosed,
    /// Our output cannot be written.
    #[error("cannot write the output: {0}; where it goes may be full")]
    Output(io::Error),
}

impl CliError {
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            Self::Failed(_) | Self::Output(_) | Self::Logged => ExitCode::FAILURE,
            Self::Usage(_) => ExitCode::from(2),
            Self::Unreachable(_) => ExitCode::from(EX_UNAVAILABLE),
            Self::Config(_) | Self::ConfigFile(_) => ExitCode::from(EX_CONFIG),
            // As in `muster members | head -1`: nothing went wrong.
            Self::OutputClosed => ExitCode::SUCCESS,
        }
    }

    /// Tells the user, on stderr.
    pub(super) fn report(&self) {
        if !matches!(self, Self::OutputClosed | Self::Logged) {
            // Nobody is left to tell when stderr is gone.
            let _unheard = writeln!(io::stderr(), "muster: {self}");
        }
    }
}

impl From<io::Error> for CliError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::OutputClosed,
            _ => Self::Output(error),
        }
    }
}
