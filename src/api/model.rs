//! The JSON bodies of the API, for the server and for its clients.

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::timestamp::rfc3339;
use crate::attributes::BrokerStatus;
use crate::broker::{BrokerCluster, BrokerReport, Drive};
use crate::events::Event;
use crate::node::{NodeName, Role};
use crate::view::{self, ClusterState, LinkState, MemberStatus, Snapshot};

/// The cluster as this node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cluster {
    /// `cluster.name`.
    pub name: String,
    /// `cluster.description`.
    pub description: String,
    /// 128 bits in hexadecimal; null while forming.
    pub id: Option<String>,
    /// This node.
    #[serde(rename = "self")]
    pub self_node: String,
    /// `cluster.discovery_strategy`.
    pub strategy: String,
    /// `cluster.proto_dist`.
    pub proto_dist: String,
    /// Where this node stands.
    pub state: ClusterState,
    /// Members that are up or suspect, sorted.
    pub running_nodes: Vec<String>,
    /// Members that are down, sorted.
    pub stopped_nodes: Vec<String>,
    /// Hash over what all members should agree on, 64 bits in hexadecimal.
    pub view_hash: String,
    /// Whether every member that reported a hash reported this one.
    pub views_agree: bool,
    /// The members that reported another hash, sorted.
    pub disagreeing: Vec<String>,
    /// Whether more than half of the known cores are up.
    pub majority: bool,
    /// How discovery fares.
    pub discovery: Discovery,
    /// Set while another live process holds this node's name: who says so, and why.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub conflict: Option<String>,
}

/// How discovery fares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Discovery {
    /// Whether rounds are run.
    pub enabled: bool,
    /// The last answer, sorted.
    pub nodes: Vec<String>,
    /// When the backend last answered, RFC 3339; null: never.
    pub last_success: Option<String>,
    /// Why the newest round failed; null when it did not.
    pub last_error: Option<String>,
}

/// `members` of the members route.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Members {
    /// Sorted by name.
    pub members: Vec<Member>,
}

/// One member as this node sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Its name.
    #[schema(example = "emqx@127.0.0.1")]
    pub node: String,
    /// Whether it is up.
    pub status: MemberStatus,
    /// Its role.
    pub role: Role,
    /// Where its mesh port was last reached, or told to be.
    #[schema(example = "127.0.0.1:6370")]
    pub address: Option<String>,
    /// Grows with every restart and every refuted suspicion.
    pub incarnation: u64,
    /// When this node learned of the present status, RFC 3339.
    #[schema(example = "2026-01-31T12:34:56.789Z")]
    pub since: String,
    /// Whether this node holds a link to it.
    pub link: LinkState,
    /// Round trip of the last answered probe, milliseconds.
    pub rtt_ms: Option<f64>,
    /// The agent's version; empty when never told.
    pub version: String,
    /// Whether it is this node itself.
    #[serde(rename = "self")]
    pub is_self: bool,
    /// `agent.tags` of its configuration.
    #[serde(default)]
    pub tags: BTreeMap<String, String>,
    /// Whether it serves nobody new.
    #[serde(default)]
    pub draining: bool,
    /// The broker beside it; null where its agent was not told of one.
    #[serde(default)]
    pub broker: Option<Broker>,
}

/// The broker beside a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Broker {
    /// `host:port` that clients connect to.
    #[schema(example = "10.0.0.1:1883")]
    pub address: String,
    /// What its agent's probe found.
    pub status: BrokerStatus,
    /// When this node learned of the status, RFC 3339.
    pub since: String,
    /// Why, in words; may be empty.
    pub detail: String,
}

/// One member with the last change of its status.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MemberDetail {
    /// What the list shows.
    #[serde(flatten)]
    pub member: Member,
    /// Null when its status never changed under this process.
    pub last_change: Option<LastChange>,
}

/// The last change of a member's status, and on whose word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastChange {
    /// The status before; null when the member was new.
    pub from: Option<MemberStatus>,
    /// The status since.
    pub to: MemberStatus,
    /// What was observed, as a code: docs/api.md lists them.
    pub reason: String,
    /// The same for people; may be worded anew.
    #[serde(default)]
    pub text: String,
    /// Who observed it.
    pub by: String,
    /// When this node learned of it, RFC 3339.
    pub at: String,
}

/// `data` of a server-sent event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventBody {
    /// Grows by one.
    pub id: u64,
    /// When this node learned of it, RFC 3339.
    pub at: String,
    /// `joined`, `changed`, `updated`, `left` or `removed`.
    pub kind: String,
    /// Whom it is about.
    pub node: String,
    /// The status before, if it was a member.
    pub from: Option<MemberStatus>,
    /// The status since, if it still is one.
    pub to: Option<MemberStatus>,
    /// What was observed, as a code: docs/api.md lists them.
    pub reason: String,
    /// The same for people; may be worded anew.
    #[serde(default)]
    pub text: String,
    /// Who observed it.
    pub by: String,
}

/// Body of `join`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// A member of the cluster to join.
    #[schema(value_type = NodeName)]
    pub node: String,
    /// Even if this node has other members already.
    #[serde(default)]
    pub force: bool,
}

/// Body of `invite`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// The node that is to join this cluster.
    #[schema(value_type = NodeName)]
    pub node: String,
}

/// Body of `discovery`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DiscoveryRequest {
    /// On or off.
    pub enabled: bool,
}

/// Body of `drain`.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DrainRequest {
    /// Why, for people; at most 200 bytes.
    #[serde(default)]
    #[schema(example = "kernel update")]
    pub reason: String,
}

/// The broker next door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BrokerState {
    /// `agent.broker.kind`.
    #[schema(example = "mqtt")]
    pub kind: String,
    /// What clients and other brokers connect to; null where the kind is `none`.
    #[schema(example = "10.0.0.1:1883")]
    pub address: Option<String>,
    /// What the probe found.
    pub status: BrokerStatus,
    /// Since when, RFC 3339; null before the first verdict.
    pub since: Option<String>,
    /// Why, in words; may be empty.
    pub detail: String,
    /// EMQX's own view of its cluster; null where nobody asks, or it does not tell.
    pub cluster: Option<BrokerCluster>,
    /// What is done to make it a member of that.
    pub drive: Drive,
}

/// Answer of `/livez` and `/readyz`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Whether every check passed.
    pub ready: bool,
    /// What was checked.
    pub checks: Vec<Check>,
    /// With `?verbose`: what an operator should know and what does not count.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub notices: Vec<Check>,
}

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Check {
    /// Its name.
    pub name: String,
    /// Whether it passed.
    pub ok: bool,
    /// Why, in words.
    pub reason: String,
}

/// One entry of the Prometheus `http_sd` list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TargetGroup {
    /// `host:port`.
    pub targets: Vec<String>,
    /// Meta labels for relabelling.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// EMQX's answer of `GET /api/v5/cluster`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EmqxCluster {
    /// `cluster.name`.
    #[schema(example = "emqxcl")]
    pub name: String,
    /// `cluster.description`.
    pub description: String,
    /// The running nodes, sorted.
    pub nodes: Vec<String>,
    /// This node.
    #[serde(rename = "self")]
    pub self_node: String,
}

/// EMQX's optional body of `invite`.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct EmqxInviteRequest {
    /// How long the caller is ready to wait, milliseconds, at least 5000.
    #[schema(value_type = Option<u64>, minimum = 5000)]
    pub timeout: Option<serde_json::Value>,
}

pub(super) fn names<'a>(nodes: impl Iterator<Item = &'a NodeName>) -> Vec<String> {
    nodes.map(ToString::to_string).collect()
}

fn time(at: Option<SystemTime>) -> Option<String> {
    at.map(rfc3339)
}

impl From<&Snapshot> for Cluster {
    fn from(snapshot: &Snapshot) -> Self {
        let discovery = &snapshot.discovery;
        Self {
            name: snapshot.name.clone(),
            description: snapshot.description.clone(),
            id: snapshot.id.map(|id| id.to_string()),
            self_node: snapshot.self_node.to_string(),
            strategy: snapshot.strategy.to_owned(),
            proto_dist: snapshot.proto_dist.to_owned(),
            state: snapshot.state,
            running_nodes: names(snapshot.running()),
            stopped_nodes: names(snapshot.stopped()),
            view_hash: format!("{:016x}", snapshot.view_hash),
            views_agree: snapshot.disagreeing.is_empty(),
            disagreeing: names(snapshot.disagreeing.iter()),
            majority: snapshot.majority,
            discovery: Discovery {
                enabled: discovery.enabled,
                nodes: names(discovery.nodes.iter()),
                last_success: time(discovery.last_success),
                last_error: discovery.last_error.clone(),
            },
            conflict: snapshot.conflict.clone(),
        }
    }
}

impl From<&view::Member> for Member {
    #[expect(clippy::cast_precision_loss, reason = "2^52 µs are more than a century")]
    fn from(member: &view::Member) -> Self {
        Self {
            node: member.node.to_string(),
            status: member.status,
            role: member.role,
            address: member.address.map(|address| address.to_string()),
            incarnation: member.incarnation.0,
            since: rfc3339(member.since),
            link: member.link,
            rtt_ms: member.rtt_us.map(|us| us as f64 / 1_000.0),
            version: member.version.clone(),
            is_self: member.is_self,
            tags: member.tags.iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
            draining: member.draining.is_some(),
            broker: member.broker.as_ref().map(|broker| Broker {
                address: broker.address.clone(),
                status: broker.status,
                since: rfc3339(broker.since),
                detail: broker.detail.clone(),
            }),
        }
    }
}

impl From<&BrokerReport> for BrokerState {
    fn from(report: &BrokerReport) -> Self {
        Self {
            kind: report.kind.to_owned(),
            address: report.address.clone(),
            status: report.status,
            since: time(report.since),
            detail: report.detail.clone(),
            cluster: report.cluster.clone(),
            drive: report.drive.clone(),
        }
    }
}

impl From<&view::Member> for MemberDetail {
    fn from(member: &view::Member) -> Self {
        let last_change = member.last_change.as_ref().map(|change| LastChange {
            from: change.from,
            to: change.to,
            reason: change.reason.to_owned(),
            text: change.text.clone(),
            by: change.by.to_string(),
            at: rfc3339(change.at),
        });
        Self { member: member.into(), last_change }
    }
}

impl From<&Event> for EventBody {
    fn from(event: &Event) -> Self {
        Self {
            id: event.id,
            at: rfc3339(event.at),
            kind: event.kind.name().to_owned(),
            node: event.node.to_string(),
            from: event.from,
            to: event.to,
            reason: event.reason.to_owned(),
            text: event.text.clone(),
            by: event.by.to_string(),
        }
    }
}
