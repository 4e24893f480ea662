//! What an operator may ask of a member, and why it may be refused.

use crate::attributes::{Broker, Tags};
use crate::node::NodeName;

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
    /// Remove every member that only `node` has vouched for.
    ForceLeaveBroughtBy {
        /// Who brought them; it may be gone itself.
        node: NodeName,
    },
    /// Ask a node to join this cluster.
    Invite {
        /// That node.
        node: NodeName,
    },
    /// From now on this node says this of itself.
    Describe {
        /// `agent.tags`.
        tags: Tags,
        /// How its broker fares; `None` where `agent.broker.kind` is `none`.
        broker: Option<Broker>,
    },
    /// Serve nobody new, over restarts, until [`Action::Undrain`].
    Drain {
        /// Why, at most [`crate::attributes::MAX_DETAIL`] bytes.
        reason: String,
    },
    /// Serve again.
    Undrain,
    /// Switch discovery on or off; switching it on ends `left`.
    SetDiscovery {
        /// On or off.
        enabled: bool,
    },
}

/// Why a wish was not granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
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
    /// It was done, and could not be made to last: the state is not on disk. HTTP 500.
    #[error("{0}")]
    NotSaved(String),
    /// The agent is stopping. HTTP 503.
    #[error("the agent is shutting down")]
    Stopping,
}
