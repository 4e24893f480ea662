//! EMQX's own cluster: what the broker beside this agent says of it, and, where
//! `agent.broker.drive` is on, making the brokers one.
//!
//! # Task
//!
//! | task | owner | ends | when it is dropped |
//! | --- | --- | --- | --- |
//! | [`follow`] | the followers | when nobody publishes snapshots any more | its links close; a join that was called completes at the broker |
//!
//! # What is called
//!
//! Three functions, whatever anybody asks for: `ekka:info/0`, `ekka:env(cluster_discovery)`,
//! and `join/1` of `emqx_mgmt_api_cluster` (or `ekka`) with a broker that [`decide`] chose.
//! No argument comes from an API. A leave is never called.

pub mod agreement;
pub mod answers;
pub mod decide;

mod driver;
mod link;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

pub use self::driver::Times;

use self::driver::{Driver, Tools};
use self::link::Dialer;
use crate::attributes::BrokerStatus;
use crate::broker::{BrokerCluster, BrokerReport, Drive, DriveState};
use crate::cookies::Cookies;
use crate::events::{Event, EventKind, EventLog};
use crate::mesh::tls::TlsContext;
use crate::node::NodeName;
use crate::notices::Notices;
use crate::resolve::Resolver;
use crate::view::Snapshot;

/// EMQX's distribution port of a node without digits in its name.
pub const BASE_PORT: u16 = 4370;

/// Notices: there is no link to the broker's node, its view differs, its join needs help.
const LINK: &str = "broker_link";
const VIEW: &str = "broker_view";
const DRIVE: &str = "broker_drive";

/// Names of nodes that a notice or an event lists.
const LISTED: usize = 5;

/// What the follower is made from.
pub struct Parts {
    /// This node, and so its broker's.
    pub node: NodeName,
    /// `agent.broker.drive`.
    pub drive: bool,
    /// Offered to brokers, as to agents.
    pub cookies: Cookies,
    /// Whether brokers are dialled over IPv6, otherwise IPv4.
    pub ipv6: bool,
    /// With this over TLS, as the mesh.
    pub tls: Option<TlsContext>,
    /// Finds brokers' addresses.
    pub resolver: Resolver,
    /// A link not made by then is given up.
    pub handshake_timeout: Duration,
    /// [`Times::default`] outside tests.
    pub times: Times,
    /// The cluster.
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// Where the newest state is shown.
    pub report: watch::Sender<BrokerReport>,
    /// Where it is told that the views differ.
    pub events: Arc<EventLog>,
    /// The same, for operators.
    pub notices: Arc<Notices>,
    /// `muster_broker_view_agrees`: 1, 0, or -1 where nobody knows.
    pub agrees: Gauge,
}

/// Follows the broker until nobody publishes snapshots any more, or it is dropped.
pub async fn follow(parts: Parts) {
    let Parts { node, drive, cookies, ipv6, tls, resolver, handshake_timeout, times, .. } = parts;
    let Parts { snapshot, report, events, notices, agrees, .. } = parts;
    let news = Telling { events, notices, agrees };
    let name = format!("muster-{node}");
    let Ok(own) = NodeName::parse(&name) else {
        let why = format!("{name} is too long for a node name: the broker cannot be asked");
        return news.notices.set(LINK, &why);
    };
    let dialer = Dialer {
        cookies,
        creation: rand::random_range(1..=u32::MAX),
        resolver,
        ipv6,
        base_port: BASE_PORT,
        tls,
        limit: handshake_timeout,
    };
    let tools = Tools { node, own, drive, times, dialer, snapshot, report, news };
    Driver::new(tools).run().await;
}

/// Everybody who is told.
struct Telling {
    events: Arc<EventLog>,
    notices: Arc<Notices>,
    agrees: Gauge,
}

impl Telling {
    /// The views have differed for a while; `new`: this was not told yet.
    fn differs(&self, view: &Snapshot, cluster: &BrokerCluster, new: bool) {
        let BrokerCluster { missing, extra, .. } = cluster;
        let list = |names: &[String]| {
            let mut text: Vec<&str> = names.iter().take(LISTED).map(String::as_str).collect();
            if names.len() > LISTED {
                text.push("others");
            }
            text.join(", ")
        };
        let mut parts = Vec::new();
        if !missing.is_empty() {
            parts.push(format!("it does not list {}, whose brokers are up", list(missing)));
        }
        if !extra.is_empty() {
            parts.push(format!("it lists {}, which are no members with a broker up", list(extra)));
        }
        let text = format!("the broker sees another cluster: {}", parts.join("; "));
        if new {
            self.event(view, "broker_view_differs", &text);
        }
        self.notices.set(VIEW, &text);
    }

    /// They agree again.
    fn agrees(&self, view: &Snapshot) {
        self.event(view, "broker_view_agrees", "the broker sees the cluster's members again");
        self.notices.clear(VIEW);
    }

    /// Where things stand: whether the views were not told to differ, why there is no link
    /// for a while, how the driving goes, and why the last join failed.
    fn standing(
        &self,
        view: &Snapshot,
        known: Option<bool>,
        trouble: Option<&str>,
        drive: &Drive,
        failed: Option<&str>,
    ) {
        self.agrees.set(known.map_or(-1, i64::from));
        let me = view.members.iter().find(|member| member.is_self);
        let status = me.and_then(|me| me.broker.as_ref()).map(|broker| broker.status);
        match trouble {
            // A broker that is down has no node to link to; its probe says so.
            Some(trouble) if status == Some(BrokerStatus::Up) => {
                let text = format!("the broker is up, but not as a node of EMQX's: {trouble}");
                self.notices.set(LINK, &text);
            }
            _ => self.notices.clear(LINK),
        }
        match (&drive.last_error, failed, drive.state) {
            (Some(why), _, DriveState::Blocked) => {
                self.notices.set(DRIVE, &format!("the broker does not join by itself: {why}"));
            }
            (_, Some(why), DriveState::Waiting | DriveState::Joining) => {
                let text = format!("the broker's join failed and is tried again: {why}");
                self.notices.set(DRIVE, &text);
            }
            _ => self.notices.clear(DRIVE),
        }
    }

    fn event(&self, view: &Snapshot, reason: &'static str, text: &str) {
        let status = view.members.iter().find(|member| member.is_self).map(|me| me.status);
        self.events.push(|id| Event {
            id,
            at: SystemTime::now(),
            kind: EventKind::Updated,
            node: view.self_node.clone(),
            from: status,
            to: status,
            reason,
            text: text.to_owned(),
            by: view.self_node.clone(),
        });
    }
}

impl Drop for Telling {
    fn drop(&mut self) {
        for check in [LINK, VIEW, DRIVE] {
            self.notices.clear(check);
        }
        self.agrees.set(-1);
    }
}
