//! From the machine's records to what operators see: snapshots, events, log lines.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::SystemTime;

use tracing::{info, warn};

use super::refusals::Refusals;
use crate::attributes::{Broker, BrokerStatus};
use crate::config::Config;
use crate::events::{Event, EventKind, EventLog};
use crate::node::{LinkId, NodeName};
use crate::notices::Notices;
use crate::protocol::membership::{Health, Membership, News, Reason, Record, Standing, State};
use crate::view::{
    BrokerView, ClusterState, DiscoveryView, LastChange, LinkState, Member, MemberStatus, Snapshot,
};

/// Keeps what the machine does not: wall-clock times and addresses.
#[derive(Debug)]
pub(super) struct Presenter {
    config: Arc<Config>,
    events: Arc<EventLog>,
    /// Where troubles stand that last.
    pub(super) board: Arc<Notices>,
    started: SystemTime,
    changes: BTreeMap<NodeName, LastChange>,
    addresses: BTreeMap<NodeName, SocketAddr>,
    /// The peer of each link, and the addresses of its ends. Whoever is at the other end
    /// need not be whom it says, until the machine admits it.
    links: BTreeMap<LinkId, (NodeName, IpAddr, IpAddr)>,
    /// The status of each member's broker, and since when.
    brokers: BTreeMap<NodeName, (BrokerStatus, SystemTime)>,
    pub(super) discovery: DiscoveryView,
    pub(super) refusals: Refusals,
}

impl Presenter {
    pub(super) fn new(config: Arc<Config>, events: Arc<EventLog>, board: Arc<Notices>) -> Self {
        let discovery = DiscoveryView {
            answered: !config.cluster.strategy.is_automatic(),
            ..DiscoveryView::default()
        };
        let refusals = Refusals::new(config.cluster.proto_dist.is_tls());
        Self {
            config,
            events,
            board,
            started: SystemTime::now(),
            changes: BTreeMap::new(),
            addresses: BTreeMap::new(),
            links: BTreeMap::new(),
            brokers: BTreeMap::new(),
            discovery,
            refusals,
        }
    }

    /// A link is up.
    pub(super) fn linked(&mut self, link: LinkId, peer: &NodeName, remote: IpAddr, local: IpAddr) {
        self.links.insert(link, (peer.clone(), remote, local));
    }

    /// A link has ended.
    pub(super) fn unlinked(&mut self, link: LinkId) {
        self.links.remove(&link);
    }

    /// Who is at the other end of a link, by its own word.
    pub(super) fn peer(&self, link: LinkId) -> Option<&NodeName> {
        self.links.get(&link).map(|(peer, ..)| peer)
    }

    /// Where the other end of a link is.
    pub(super) fn remote(&self, link: LinkId) -> Option<IpAddr> {
        self.links.get(&link).map(|(_, remote, _)| *remote)
    }

    /// The links to members tell where these live, and from where we speak to them.
    fn learn_addresses(&mut self, machine: &Membership) {
        let admitted: Vec<_> = self
            .links
            .iter()
            .filter(|(key, (peer, ..))| machine.link(peer).is_some_and(|(held, _)| held == **key))
            .map(|(_, ends)| ends.clone())
            .collect();
        for (peer, remote, local) in admitted {
            self.learn_address(&peer, remote, local);
        }
    }

    fn learn_address(&mut self, peer: &NodeName, remote: IpAddr, local: IpAddr) {
        let mesh = &self.config.agent.mesh;
        if let Some(port) = mesh.port_of(peer) {
            self.addresses.insert(peer.clone(), SocketAddr::new(remote, port));
        }
        let own = &self.config.node.name;
        if let Some(port) = mesh.port_of(own) {
            let ip = own.host().ip().unwrap_or(local);
            self.addresses.insert(own.clone(), SocketAddr::new(ip, port));
        }
    }

    /// Where admitted nodes were last met.
    pub(super) fn met(&self) -> impl Iterator<Item = (&NodeName, IpAddr)> {
        self.addresses.iter().map(|(node, address)| (node, address.ip()))
    }

    /// Where a member was last met, or lives by its name.
    pub(super) fn address(&self, node: &NodeName) -> Option<SocketAddr> {
        self.addresses.get(node).copied().or_else(|| self.literal(node))
    }

    /// Writes a piece of news into the event ring and the log.
    pub(super) fn report(&mut self, news: News) {
        let now = SystemTime::now();
        let from = news.from.map(status);
        let to = news.to.health().map(status);
        let kind = match (from, to, news.to) {
            (_, Some(_), _) if from == to && news.reason == Reason::Updated => EventKind::Updated,
            (None, Some(_), _) => EventKind::Joined,
            (_, Some(_), _) => EventKind::Changed,
            (_, None, Standing::Left) => EventKind::Left,
            (_, None, _) => EventKind::Removed,
        };
        let News { node, reason, by, incarnation, .. } = news;
        let (reason, text) = (reason.code(), reason.text().to_owned());
        let what = match (kind, to) {
            (EventKind::Joined, Some(MemberStatus::Down)) => "is a member, down",
            (EventKind::Joined, _) => "is a member, up",
            (EventKind::Updated, _) => "says something else of itself",
            (EventKind::Left, _) => "left the cluster",
            (EventKind::Removed, _) => "was removed from the cluster",
            (_, Some(MemberStatus::Up)) => "is up",
            (_, Some(MemberStatus::Suspect)) => "is suspect",
            (_, _) => "is down",
        };
        if to == Some(MemberStatus::Up) || matches!(kind, EventKind::Left | EventKind::Updated) {
            info!(%node, incarnation = incarnation.0, %by, "{node} {what}: {text}");
        } else {
            warn!(%node, incarnation = incarnation.0, %by, "{node} {what}: {text}");
        }
        match to {
            Some(_) if kind == EventKind::Updated => {}
            Some(to) => {
                let change =
                    LastChange { from, to, reason, text: text.clone(), by: by.clone(), at: now };
                self.changes.insert(node.clone(), change);
            }
            None => {
                self.changes.remove(&node);
                self.addresses.remove(&node);
            }
        }
        self.events.push(|id| Event { id, at: now, kind, node, from, to, reason, text, by });
    }

    /// The cluster as it is now.
    pub(super) fn snapshot(&mut self, machine: &Membership) -> Snapshot {
        self.watch_brokers(machine);
        self.learn_addresses(machine);
        let cluster = &self.config.cluster;
        let members = match machine.state() {
            State::Left => Vec::new(),
            _ => machine.table().members().map(|record| self.member(machine, record)).collect(),
        };
        Snapshot {
            name: cluster.name.clone(),
            description: cluster.description.clone(),
            id: machine.id(),
            self_node: self.config.node.name.clone(),
            strategy: cluster.strategy.name(),
            proto_dist: cluster.proto_dist.name(),
            state: match machine.state() {
                State::Forming => ClusterState::Forming,
                State::Joined => ClusterState::Joined,
                State::Left => ClusterState::Left,
            },
            members,
            view_hash: machine.view_hash(),
            disagreeing: machine.disagreeing().cloned().collect(),
            majority: machine.table().majority(),
            discovery: self.discovery.clone(),
            conflict: machine.conflict().map(str::to_owned),
            refusals: self
                .refusals
                .standing(|node| machine.link(node).is_none() && machine.wants(node)),
        }
    }

    /// Notes when a broker's status changed.
    fn watch_brokers(&mut self, machine: &Membership) {
        let now = SystemTime::now();
        let told = |node: &NodeName| machine.table().member(node)?.attributes.as_deref();
        self.brokers.retain(|node, _| told(node).is_some_and(|said| said.broker.is_some()));
        for record in machine.table().members() {
            let Some(said) = record.attributes.as_deref() else { continue };
            let Some(broker) = &said.broker else { continue };
            let held = self.brokers.get(&record.node).map(|(status, _)| *status);
            if held != Some(broker.status) {
                self.brokers.insert(record.node.clone(), (broker.status, now));
            }
        }
    }

    fn member(&self, machine: &Membership, record: &Record) -> Member {
        let node = &record.node;
        let is_self = *node == self.config.node.name;
        let link = machine.link(node);
        let change = self.changes.get(node);
        let said = record.attributes.as_deref();
        Member {
            node: node.clone(),
            status: record.health().map_or(MemberStatus::Down, status),
            role: record.role,
            address: self.address(node),
            incarnation: record.incarnation,
            since: change.map_or(self.started, |change| change.at),
            link: match link {
                Some(_) => LinkState::Connected,
                None if machine.is_handed_over(node) => LinkState::Connected,
                None if machine.wants(node) => LinkState::None,
                None => LinkState::Idle,
            },
            rtt_us: link
                .and_then(|(_, rtt)| rtt)
                .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            version: record.version.clone(),
            is_self,
            last_change: change.cloned(),
            tags: said.map(|said| said.tags.clone()).unwrap_or_default(),
            draining: said.and_then(|said| said.draining.clone()),
            broker: said.and_then(|said| self.broker(node, said.broker.as_ref()?)),
        }
    }

    fn broker(&self, node: &NodeName, broker: &Broker) -> Option<BrokerView> {
        Some(BrokerView {
            address: broker.address.clone(),
            status: broker.status,
            since: self.brokers.get(node)?.1,
            detail: broker.detail.clone(),
        })
    }

    /// The address of a node whose name holds it.
    fn literal(&self, node: &NodeName) -> Option<SocketAddr> {
        Some(SocketAddr::new(node.host().ip()?, self.config.agent.mesh.port_of(node)?))
    }

    /// What a node without peers shows for ever.
    pub(super) fn singleton(&self, incarnation: crate::node::Incarnation) -> Snapshot {
        let Config { node, cluster, .. } = &*self.config;
        let member = Member {
            role: node.role,
            incarnation,
            version: super::VERSION.to_owned(),
            is_self: true,
            ..Member::new(node.name.clone(), self.started)
        };
        Snapshot {
            name: cluster.name.clone(),
            description: cluster.description.clone(),
            strategy: cluster.strategy.name(),
            proto_dist: cluster.proto_dist.name(),
            state: ClusterState::Singleton,
            discovery: self.discovery.clone(),
            ..Snapshot::new(node.name.clone(), vec![member])
        }
    }
}

/// As operators see it: a member known from disk only counts as down.
fn status(health: Health) -> MemberStatus {
    match health {
        Health::Up => MemberStatus::Up,
        Health::Suspect => MemberStatus::Suspect,
        Health::Unknown | Health::Down => MemberStatus::Down,
    }
}
