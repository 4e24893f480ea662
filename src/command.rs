//! What an operator may ask of a running agent, and what may be answered.

use tokio::sync::{mpsc, oneshot};

pub use crate::protocol::membership::{Action, Refused};

/// Commands waiting for the membership driver. It takes each in microseconds; a
/// full queue means it is stuck, and then the caller's own deadline answers.
pub const COMMAND_QUEUE: usize = 64;

/// A wish with the place for its answer.
#[derive(Debug)]
pub struct Command {
    /// What is asked.
    pub action: Action,
    /// Answered once the wish is granted (the snapshot then shows it) or refused.
    pub reply: oneshot::Sender<Result<(), Refused>>,
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
    /// [`Refused`] as the driver says, or [`Refused::Stopping`] when it is gone.
    pub async fn submit(&self, action: Action) -> Result<(), Refused> {
        let (reply, answer) = oneshot::channel();
        let command = Command { action, reply };
        self.0.send(command).await.map_err(|_| Refused::Stopping)?;
        answer.await.map_err(|_| Refused::Stopping)?
    }
}
