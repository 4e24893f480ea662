//! What an operator may ask of a running agent, and what may be answered.

use tokio::sync::{mpsc, oneshot};

use crate::node::NodeName;

/// Commands waiting for the membership driver. It takes each in microseconds; a
/// full queue means it is stuck, and then the caller's own deadline answers.
pub const COMMAND_QUEUE: usize = 64;

/// An operator's wish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Join the cluster that `node` is in.
    Join {
        /// A member of that cluster.
        node: NodeName,
        /// Even if this node has other members already.
        force: bool,
    },
    /// Leave, and stay out over restarts.
    Leave,
    /// Remove a member for good.
    ForceLeave {
        /// The member.
        node: NodeName,
        /// Even if it is alive.
        force: bool,
    },
    /// Ask a node to join this cluster.
    Invite {
        /// That node.
        node: NodeName,
    },
    /// Switch discovery on or off; switching it on ends `left`.
    SetDiscovery {
        /// On or off.
        enabled: bool,
    },
}

/// Why a wish was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The wish makes no sense here (operator's error). HTTP 400.
    #[error("{0}")]
    BadRequest(String),
    /// No such member. HTTP 404.
    #[error("{0}")]
    NotFound(String),
    /// It would do harm, and `force` was not given, or another cluster refused. HTTP 409.
    #[error("{0}")]
    Conflict(String),
    /// The other node did not answer. HTTP 504.
    #[error("{0}")]
    Unreachable(String),
    /// The agent is stopping. HTTP 503.
    #[error("the agent is shutting down")]
    Stopping,
}

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
