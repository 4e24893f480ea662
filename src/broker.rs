//! What this node's agent knows of the broker next door.

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::attributes::BrokerStatus;

/// The broker, as the probe and whoever else looks at it last found it. Shared in a watch:
/// the followers write it, the API and the member's own statement are made from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BrokerReport {
    /// `agent.broker.kind`.
    pub kind: &'static str,
    /// `agent.broker.address`; `None` where the kind is `none`.
    pub address: Option<String>,
    /// What the probe found.
    pub status: BrokerStatus,
    /// Since when; `None` before the first verdict.
    pub since: Option<SystemTime>,
    /// Why, in words of at most [`crate::attributes::MAX_DETAIL`] bytes; may be empty.
    pub detail: String,
    /// EMQX's own view of its cluster; `None` while nobody asks, or it does not tell.
    pub cluster: Option<BrokerCluster>,
    /// What is done to make it a member of that.
    pub drive: Drive,
}

/// `cluster` of the broker route: the broker's own view of its cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct BrokerCluster {
    /// Brokers that it says run, sorted.
    pub running_nodes: Vec<String>,
    /// Brokers that it says are stopped, sorted.
    pub stopped_nodes: Vec<String>,
    /// Whether `running_nodes` are the members whose brokers are up.
    pub agrees: bool,
    /// Members whose brokers are up and which it does not list.
    pub missing: Vec<String>,
    /// Brokers that it lists and which are no such members.
    pub extra: Vec<String>,
}

/// `state` of `drive`: how far this agent is with making its broker a member.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DriveState {
    /// `agent.broker.drive` is off.
    #[default]
    Off,
    /// For the broker, for its turn, or for whoever is to join it.
    Waiting,
    /// The broker joins just now.
    Joining,
    /// The broker is in a cluster with others, or has nobody to join.
    Joined,
    /// Only an operator can help; `last_error` says how.
    Blocked,
}

/// `drive` of the broker route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Drive {
    /// `agent.broker.drive`.
    pub enabled: bool,
    /// How far it is.
    pub state: DriveState,
    /// Why it is no further, in words.
    pub last_error: Option<String>,
}
