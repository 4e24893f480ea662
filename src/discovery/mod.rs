//! Discovery: one trait, one file a strategy, one runner for all of them.
//!
//! A strategy says which nodes there are, or that it could not ask; the two are
//! never confused. It knows nothing of membership: the runner hands its answers
//! to the membership driver, which decides whom to contact.

use std::collections::BTreeSet;
use std::pin::Pin;
use std::time::Duration;

use crate::node::NodeName;

/// A boxed future, so that strategies can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What a strategy found. Empty means that nobody is there, for certain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The nodes, this one possibly among them.
    pub nodes: BTreeSet<NodeName>,
    /// How long the answer holds (DNS: the least TTL); `None`: no longer than the interval.
    pub valid_for: Option<Duration>,
    /// Entries that are no node names, and why; they are left out and logged.
    pub rejected: Vec<String>,
}

/// Why a strategy could not ask. It says nothing about who is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DiscoveryError {
    /// The backend did not answer (in time), or broke off.
    #[error("{0}")]
    Unreachable(String),
    /// The backend answered that we may not ask: credentials, rights.
    #[error("{0}")]
    Denied(String),
    /// The backend answered something that makes no sense.
    #[error("{0}")]
    BadAnswer(String),
    /// The strategy itself crashed; it is made anew.
    #[error("{0}")]
    Crashed(String),
}

/// One way of finding nodes.
pub trait Strategy: Send {
    /// Asks once. Not cancel-safe in effect: a dropped round is asked again.
    ///
    /// # Errors
    /// [`DiscoveryError`]: could not ask.
    fn discover(&mut self) -> BoxFuture<'_, Result<Answer, DiscoveryError>>;

    /// Resolves when the backend says that its answer may have changed, and never
    /// for a strategy that cannot be told. Cancel-safe.
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Makes this node impossible to find: on leave, disable and shutdown. The next
    /// [`Strategy::discover`] makes it findable again.
    ///
    /// # Errors
    /// [`DiscoveryError`]: the backend could not be told; its entry then expires.
    fn withdraw(&mut self) -> BoxFuture<'_, Result<(), DiscoveryError>> {
        Box::pin(async { Ok(()) })
    }
}
