//! What an operator may ask of a running agent, and what may be answered.

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};

pub use crate::protocol::membership::{Action, RequestError};

/// Commands waiting for the membership driver. It takes each in microseconds; a
/// full queue means it is stuck, and then the caller's own deadline answers.
pub const COMMAND_QUEUE: usize = 64;

/// A wish with the place for its answer.
#[derive(Debug)]
pub struct Command {
    /// What is asked.
    pub action: Action,
    /// Answered once the wish is granted (the snapshot then shows it) or refused.
    pub reply: oneshot::Sender<Result<(), RequestError>>,
}

/// The sending side of the command queue.
#[derive(Clone, Debug)]
pub struct Commands(mpsc::Sender<Command>);

impl Commands {
    /// A queue of [`COMMAND_QUEUE`] commands and its receiving side.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(COMMAND_QUEUE);
        (Self(sender), receiver)
    }

    /// Has a wish granted or refused.
    ///
    /// # Errors
    /// [`RequestError`] as the driver says, or [`RequestError::Stopping`] when it is gone.
    pub async fn submit(&self, action: Action) -> Result<(), RequestError> {
        let (reply, answer) = oneshot::channel();
        let command = Command { action, reply };
        self.0.send(command).await.map_err(|_| RequestError::Stopping)?;
        answer.await.map_err(|_| RequestError::Stopping)?
    }
}

/// Reloads that wait for the one under way. More callers than that at once are answered
/// one by one as places come free.
pub const RELOAD_QUEUE: usize = 4;

/// What a reload came to, as paths of keys, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Reloaded {
    /// Changed, and in use since now.
    #[schema(example = json!(["agent.log.level"]))]
    pub changed: Vec<String>,
    /// Changed in the files since the start, and not in use before a restart.
    #[schema(example = json!(["node.name"]))]
    pub needs_restart: Vec<String>,
}

/// Why the configuration in use is still the old one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReloaded {
    /// It cannot be used; every mistake, one after the other. The operator's to mend.
    #[error("{0}")]
    Invalid(String),
    /// The agent is stopping.
    #[error("the agent is stopping")]
    Stopping,
}

/// Somebody wants the configuration reloaded.
#[derive(Debug)]
pub struct ReloadRequest(pub oneshot::Sender<Result<Reloaded, NotReloaded>>);

/// The asking side of the reloads.
#[derive(Clone, Debug)]
pub struct Reloads(mpsc::Sender<ReloadRequest>);

impl Reloads {
    /// A queue of [`RELOAD_QUEUE`] reloads and its receiving side.
    #[must_use]
    pub fn channel() -> (Self, mpsc::Receiver<ReloadRequest>) {
        let (sender, receiver) = mpsc::channel(RELOAD_QUEUE);
        (Self(sender), receiver)
    }

    /// Has the configuration reloaded.
    ///
    /// # Errors
    /// [`NotReloaded`]; nothing has changed then.
    pub async fn reload(&self) -> Result<Reloaded, NotReloaded> {
        let (reply, answer) = oneshot::channel();
        self.0.send(ReloadRequest(reply)).await.map_err(|_| NotReloaded::Stopping)?;
        answer.await.map_err(|_| NotReloaded::Stopping)?
    }

    /// Has it reloaded and waits for no answer. Where the queue is full, a reload that has
    /// not begun yet does as well.
    pub fn ask(&self) {
        let (reply, _unheard) = oneshot::channel();
        let _one_is_waiting = self.0.try_send(ReloadRequest(reply));
    }
}
