//! The HTTP API: reads snapshots, sends commands.

use std::sync::Arc;

use tokio::sync::watch;

use crate::command::Commands;
use crate::config::Config;
use crate::events::EventLog;
use crate::metrics::Metrics;
use crate::view::Snapshot;

/// What every route can reach. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ApiState {
    /// The effective configuration.
    pub config: Arc<Config>,
    /// The newest snapshot.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// To the membership driver.
    pub commands: Commands,
    /// Membership news.
    pub events: Arc<EventLog>,
    /// Counters.
    pub metrics: Arc<Metrics>,
}
