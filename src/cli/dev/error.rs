//! What goes wrong around a throwaway cluster.

use std::io;
use std::process::ExitStatus;

/// Why the cluster could not be had, or ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum DevError {
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{name} ended ({status}); the end of its log:\n{tail}")]
    Ended { name: String, status: ExitStatus, tail: String },
    #[error("{name} refused to join {other}: {message}")]
    JoinRefused { name: String, other: String, message: String },
    #[error("cannot make certificates: {0}")]
    Certificates(#[from] rcgen::Error),
    #[error("every agent has ended")]
    NobodyLeft,
}

/// Names what failed.
pub(super) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, DevError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, DevError> {
        self.map_err(|source| DevError::Io { what: what(), source })
    }
}
