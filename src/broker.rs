//! What this node's agent knows of the broker next door.

use std::time::SystemTime;

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
}
