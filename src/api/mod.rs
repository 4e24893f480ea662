//! The HTTP API: reads snapshots, sends commands.
//!
//! A read is answered from the newest snapshot and never waits for the cluster;
//! the bodies that are asked for most are serialised once per snapshot. A command
//! goes to the membership driver and is answered by it, or by a deadline.

mod body;
mod commands;
mod emqx;
mod error;
mod guard;
mod health;
mod listen;
mod model;
mod node;
mod openapi;
mod page;
mod places;
pub mod probes;
mod reads;
mod reload;
mod routes;
mod scrape;
mod serve;
mod sse;
mod targets;
mod timestamp;
mod tls;

use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Bytes;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};

use crate::broker::BrokerReport;
use crate::command::{Commands, Reloads};
use crate::config::Config;
use crate::events::EventLog;
use crate::metrics::Metrics;
use crate::notices::Notices;
use crate::reach::Board;
use crate::throttle::Throttle;
use crate::view::Snapshot;

pub use error::ErrorBody;
pub use listen::{BindError, Listener};
pub use model::*;
pub use openapi::document as openapi_document;
use places::Places;
pub use places::{MAX_CONNECTIONS, MAX_PER_PEER, MAX_READERS};
pub use serve::{DRAIN_GRACE, HEAD_TIMEOUT, MAX_HEAD, MAX_HEADERS, WRITE_TIMEOUT, serve};
pub use timestamp::rfc3339;
pub use tls::ApiTlsError;

/// What every route can reach. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// The configuration in use, and every change of it.
    pub config: watch::Receiver<Arc<Config>>,
    /// The newest snapshot.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// To the membership driver.
    pub commands: Commands,
    /// To whoever reloads the configuration.
    pub reloads: Reloads,
    /// Membership news.
    pub events: Arc<EventLog>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Standing troubles.
    pub notices: Arc<Notices>,
    /// What the members say they reach.
    pub reach: Arc<Board>,
    /// The broker next door.
    pub broker: watch::Receiver<BrokerReport>,
}

/// The state of one server: what the agent gave it, and what it keeps itself.
#[derive(Debug)]
struct App {
    state: ApiState,
    bodies: Mutex<Option<Bodies>>,
    places: Arc<Places>,
    /// Commands that may be under way at once, see [`commands::MAX_COMMANDS`].
    commands: Semaphore,
    /// Keeps whoever asks for much from filling the log.
    asked: Throttle,
    stopped: watch::Receiver<bool>,
}

/// The bodies of one snapshot. Holding the snapshot keeps its address from being
/// used for the next one, so that comparing addresses is enough.
#[derive(Clone, Debug)]
struct Bodies {
    snapshot: Arc<Snapshot>,
    cluster: Bytes,
    members: Bytes,
}

impl App {
    fn new(state: ApiState, stopped: watch::Receiver<bool>) -> Self {
        let places = Places::new(Arc::clone(&state.metrics));
        let commands = Semaphore::new(commands::MAX_COMMANDS);
        Self {
            state,
            bodies: Mutex::new(None),
            places,
            commands,
            asked: Throttle::default(),
            stopped,
        }
    }

    fn config(&self) -> Arc<Config> {
        Arc::clone(&self.state.config.borrow())
    }

    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.state.snapshot.borrow())
    }

    /// The newest snapshot's bodies, serialised by the first that asks for them.
    fn bodies(&self) -> Bodies {
        let snapshot = self.snapshot();
        let mut bodies = self.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        match &*bodies {
            Some(bodies) if Arc::ptr_eq(&bodies.snapshot, &snapshot) => bodies.clone(),
            _ => {
                let members =
                    Members { members: snapshot.members.iter().map(Into::into).collect() };
                let fresh = Bodies {
                    cluster: to_json(&Cluster::from(&*snapshot)),
                    members: to_json(&members),
                    snapshot,
                };
                *bodies = Some(fresh.clone());
                fresh
            }
        }
    }
}

/// Our own bodies have string keys and no failing serialisers.
fn to_json<T: Serialize>(body: &T) -> Bytes {
    serde_json::to_vec(body).unwrap_or_default().into()
}

#[cfg(test)]
pub(crate) mod tests;
