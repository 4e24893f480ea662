//! Who belongs to the cluster, and who is up.
//!
//! [`Membership`] is the whole protocol as one state machine without I/O. A driver
//! (or the simulator) calls `handle_*` with what happened and the time, then takes
//! every [`Effect`] from [`Membership::poll_effect`], then sleeps until
//! [`Membership::next_deadline`] and calls [`Membership::handle_timeout`]. The order
//! of calls and the seed decide everything.
//!
//! | file | role |
//! | --- | --- |
//! | `record` | one statement about one node; which of two wins |
//! | `table` | all records, the hash over the view |
//! | `message`, `wire` | what agents say, and its bytes |
//! | `links` | books on links, peers and dial times |
//! | `hello` | who may talk to whom, one link per pair, one process per name |
//! | `dialler` | whom to dial when; what a failed dial tells |
//! | `door` | which statements of others may be learned |
//! | `tellers` | how much one peer may tell of others |
//! | `limits`, `books` | bounds, what happens where one is reached, how much is held |
//! | `describe` | what this node says of itself: tags, broker, drain |
//! | `learn` | applying statements, reporting what changed |
//! | `own` | what this node says of itself; refuting, rivals under its name |
//! | `cluster_id` | founding, joining, moving |
//! | `spread` | gossip, settled views |
//! | `reconcile` | making two views the same, part by part |
//! | `purge` | an operator removes what one liar brought |
//! | `detector`, `probe` | probes, suspicion, local health |
//! | `cut_off` | what a node that nobody answers finds out of the others |
//! | `lifecycle` | join, leave, force-leave, invite, autoclean, stop |
//! | `timers` | when recurring work is due |
//! | `rumours`, `ring` | news to be told; neighbours beyond the full mesh |
//!
//! Time is a [`std::time::Duration`] since any fixed moment; it may jump forward (a
//! frozen process) but never back. Wall clocks are never asked.

mod books;
mod cluster_id;
mod cut_off;
mod describe;
mod detector;
mod dialler;
mod door;
mod effect;
mod hello;
mod learn;
mod lifecycle;
mod limits;
mod links;
mod message;
mod own;
mod probe;
mod purge;
mod reconcile;
mod record;
mod request;
mod ring;
mod rumours;
mod settings;
mod spread;
mod table;
mod tellers;
mod timers;
mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::SmallRng;

pub use effect::{Effect, News, Note, RequestId, State};
pub use limits::{Limit, Limits};
pub use links::DialFailure;
pub use message::{
    Ask, BUCKETS, BUCKETS_V1, BadMessage, ByeCode, Hello, Intent, MAX_RECORDS, Message, PROTOCOL,
    PROTOCOL_MIN, Version,
};
pub use record::{Epoch, Health, MAX_VERSION, Reason, Record, Standing};
pub use request::{Action, RequestError};
pub use settings::{Durable, Settings, Timing};
pub use table::{Applied, Entry, Origin, Table};

use crate::attributes::Attributes;
use crate::node::{BootId, ClusterId, Incarnation, LinkId, NodeName};
use detector::Detector;
use lifecycle::Pending;
use limits::{Allowance, Reached};
use links::{Link, Links};
use purge::Purges;
use reconcile::Reconciliation;
use ring::Ring;
use rumours::Rumours;
use tellers::Tellers;
use timers::{Timer, Timers};

/// The machine. See the module for the order of calls.
#[derive(Clone, Debug)]
pub struct Membership {
    settings: Settings,
    rng: SmallRng,
    effects: VecDeque<Effect>,
    table: Table,
    /// What this node says of itself.
    me: Record,
    /// What it says of itself beyond being there, also while it is no member.
    attributes: Attributes,
    id: Option<ClusterId>,
    links: Links,
    ring: Ring,
    /// Running members that no link has proven and that could not be dialled: they have no
    /// place in the ring.
    doubtful: BTreeSet<NodeName>,
    /// Whether every member that this node wants a link to has one; looked at every second.
    is_well_linked: bool,
    rumours: Rumours,
    reconciliation: Reconciliation,
    /// When views were last compared with a peer at the first word.
    greeted_at: Duration,
    /// Unproven members that may still be learned.
    growth: Allowance,
    /// Members that may still be asked whether what is said of them is true.
    doubts: Allowance,
    /// When this node last answered what a peer said of it that is not heard otherwise.
    objected: Option<Duration>,
    tellers: Tellers,
    /// Rounds of gossip that need not wait for each other.
    rounds: Allowance,
    bounds: Reached,
    purges: Purges,
    detector: Detector,
    pending: BTreeMap<RequestId, Pending>,
    /// Other process lives that spoke under our name, and the incarnation we answered with.
    rivals: BTreeMap<BootId, Incarnation>,
    conflict: Option<String>,
    /// When somebody last said so.
    conflict_at: Duration,
    discovery_off: bool,
    discovered: BTreeSet<NodeName>,
    /// How many members are to be expected, by what discovery first named; 0 once the
    /// cluster has had time to form.
    crowd: usize,
    /// When discovery first answered.
    answered_at: Option<Duration>,
    joined_at: Option<Duration>,
    durable_version: u64,
    timers: Timers,
    stopping: bool,
}

/// How often links and members are looked over for what has no timer of its own.
const HOUSEKEEPING: Duration = Duration::from_millis(1000);

impl Membership {
    /// A machine that starts from what was on disk. `contacts` are dialled whatever
    /// discovery says (`cluster.core_nodes` reach it through discovery).
    #[must_use]
    pub fn new(settings: Settings, durable: Durable, now: Duration, seed: u64) -> Self {
        let standing = if durable.left { Standing::Left } else { Standing::Member(Health::Up) };
        let me = Record {
            node: settings.node.clone(),
            epoch: durable.epoch,
            standing,
            incarnation: durable.incarnation.next(),
            boot: settings.boot,
            role: settings.role,
            reason: Some(Reason::Announced),
            by: settings.node.clone(),
            version: settings.version.clone(),
            attributes: None,
            burial: 0,
        };
        let attributes = Attributes { draining: durable.draining, ..Attributes::default() };
        let mut machine = Self {
            rng: SmallRng::seed_from_u64(seed),
            effects: VecDeque::new(),
            table: Table::new(settings.limits.members, settings.limits.tombstones),
            me,
            attributes,
            id: durable.id,
            links: Links::default(),
            ring: Ring::default(),
            doubtful: BTreeSet::new(),
            is_well_linked: true,
            rumours: Rumours::new(settings.limits.rumours),
            reconciliation: Reconciliation::new(
                settings.whole_view_limit,
                settings.timing.repair_interval,
            ),
            greeted_at: Duration::ZERO,
            growth: Allowance::new(settings.limits.unproven_at_once, now),
            doubts: Allowance::new(learn::DOUBTS, now),
            objected: None,
            tellers: Tellers::default(),
            rounds: Allowance::new(spread::ROUNDS, now),
            bounds: Reached::default(),
            purges: Purges::default(),
            detector: Detector::default(),
            pending: BTreeMap::new(),
            rivals: BTreeMap::new(),
            conflict: None,
            conflict_at: Duration::ZERO,
            discovery_off: durable.discovery_off,
            discovered: BTreeSet::new(),
            crowd: 0,
            answered_at: None,
            joined_at: None,
            durable_version: 1,
            timers: Timers::default(),
            stopping: false,
            settings,
        };
        machine.restore(now, &durable.records, &durable.brought);
        machine.timers.set(Timer::Housekeeping, now + HOUSEKEEPING);
        machine.timers.set(Timer::Probe, now + machine.settings.timing.probe_period);
        machine
    }

    /// Members known from disk count as down until somebody vouches for them.
    fn restore(
        &mut self,
        now: Duration,
        records: &[Record],
        brought: &BTreeMap<NodeName, NodeName>,
    ) {
        self.me.attributes = self.own_attributes();
        if !door::is_sound(&self.me) {
            // What a liar once said of this node; nobody believes it any more.
            self.me.epoch = Epoch(0);
            self.me.incarnation = Incarnation(1);
        }
        self.table.apply(now, &self.me.clone(), &Origin::Known);
        self.ring.insert(&self.me.node);
        if self.me.standing == Standing::Left {
            return;
        }
        match self.id {
            Some(id) => {
                self.joined_at = Some(now);
                self.note(Note::Joined(id));
            }
            None if !self.settings.automatic => {
                let id = self.fresh_id();
                self.adopt(now, id);
            }
            None => {}
        }
        for record in records.iter().filter(|r| r.node != self.me.node && door::is_sound(r)) {
            let record = match record.standing {
                Standing::Member(_) if record.has_stopped() => {
                    record.with(Standing::Member(Health::Unknown), Reason::Stopped, &record.node)
                }
                Standing::Member(_) => record.with(
                    Standing::Member(Health::Unknown),
                    Reason::Unseen,
                    &self.me.node.clone(),
                ),
                _ => record.clone(),
            };
            let by = brought.get(&record.node).cloned();
            self.table.apply(now, &record, &by.map_or(Origin::Known, Origin::Brought));
            if record.is_member() {
                self.links.plan(&record.node, now);
            }
        }
    }

    /// The next thing to do; `None`: nothing until the next input.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Round trips of probes answered since this was last asked.
    pub fn take_round_trips(&mut self) -> Vec<Duration> {
        self.links.take_measured()
    }

    /// When [`Membership::handle_timeout`] wants to be called next.
    pub fn next_deadline(&mut self) -> Option<Duration> {
        let wake = [
            self.timers.next(),
            self.links.next_due(),
            self.detector.next_deadline(),
            self.purges.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min();
        self.timers.wake = wake;
        wake
    }

    /// Time has come to [`Membership::next_deadline`], or beyond.
    pub fn handle_timeout(&mut self, now: Duration) {
        self.notice_lag(now);
        for timer in Timer::ALL {
            if self.timers.take(timer, now) {
                self.fire(now, timer);
            }
            if timer == Timer::Housekeeping {
                self.run_detector(now);
                self.run_purges(now);
            }
        }
        self.dial_due(now);
    }

    /// Does what a timer is for.
    fn fire(&mut self, now: Duration, timer: Timer) {
        match timer {
            Timer::Housekeeping => {
                self.timers.set(timer, now + HOUSEKEEPING);
                self.housekeeping(now);
            }
            Timer::Probe => {
                self.timers.set(timer, now + self.settings.timing.probe_period);
                self.probe_next(now);
            }
            Timer::Gossip => self.gossip(now),
            Timer::Settle => self.tell_view(),
            Timer::Repair => self.repair(now),
        }
    }

    /// Discovery answered: these are the nodes, this one possibly among them.
    pub fn handle_discovered(&mut self, now: Duration, nodes: &BTreeSet<NodeName>) {
        if self.answered_at.is_none() {
            self.answered_at = Some(now);
            self.crowd = nodes.len();
        }
        self.handle_contacts(now, nodes);
    }

    /// Discovery could not ask: these nodes are to be contacted all the same. It is no
    /// answer, and founds no cluster.
    pub fn handle_contacts(&mut self, now: Duration, nodes: &BTreeSet<NodeName>) {
        self.notice_lag(now);
        for gone in self.discovered.difference(nodes).cloned().collect::<Vec<_>>() {
            self.links.peer(&gone).contact = false;
            if self.table.member(&gone).is_none() {
                self.links.forget(&gone);
            }
        }
        self.discovered = nodes.clone();
        self.discovered.remove(&self.me.node);
        if self.me.standing == Standing::Left || self.discovery_off {
            return;
        }
        let mut fresh = Vec::new();
        for node in self.discovered.clone() {
            self.prove(&node);
            let peer = self.links.peer(&node);
            let known = peer.contact;
            peer.contact = true;
            if !known && self.wants(&node) {
                fresh.push(node);
            }
        }
        self.plan_contacts(now, fresh);
        self.dial_due(now);
        self.consider_founding(now);
    }

    /// Everything here that the disk must know.
    #[must_use]
    pub fn durable(&self) -> Durable {
        Durable {
            id: self.id,
            epoch: self.me.epoch,
            incarnation: self.me.incarnation,
            left: self.me.standing == Standing::Left,
            discovery_off: self.discovery_off,
            draining: self.attributes.draining.clone(),
            records: self
                .table
                .entries()
                .map(|entry| &entry.record)
                .filter(|record| record.node != self.me.node)
                .cloned()
                .collect(),
            brought: self
                .table
                .entries()
                .filter(|entry| entry.record.is_member())
                .filter_map(|entry| match &entry.origin {
                    Origin::Known => None,
                    Origin::Brought(by) => Some((entry.record.node.clone(), by.clone())),
                })
                .collect(),
        }
    }

    /// Grows whenever [`Membership::durable`] changes.
    #[must_use]
    pub fn durable_version(&self) -> u64 {
        self.durable_version
    }

    /// Where this node stands.
    #[must_use]
    pub fn state(&self) -> State {
        let is_listed = self.table.member(&self.me.node).is_some();
        match (self.me.standing, self.id) {
            (Standing::Left, _) => State::Left,
            (_, Some(_)) if self.conflict.is_none() && is_listed => State::Joined,
            _ => State::Forming,
        }
    }

    /// The cluster's id.
    #[must_use]
    pub fn id(&self) -> Option<ClusterId> {
        self.id
    }

    /// What this node says of itself.
    #[must_use]
    pub fn me(&self) -> &Record {
        &self.me
    }

    /// The records.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Hash over what all members should agree on.
    #[must_use]
    pub fn view_hash(&self) -> u64 {
        self.table.view_hash(self.id, Version::V2)
    }

    /// The same by the rule of the version that is spoken over a link.
    fn view_over(&self, key: LinkId) -> u64 {
        let version = self.links.links.get(&key).map_or(Version::V2, |link| link.version);
        self.table.view_hash(self.id, version)
    }

    /// Who refused us since another live process holds our name.
    #[must_use]
    pub fn conflict(&self) -> Option<&str> {
        self.conflict.as_deref()
    }

    /// Linked members whose last word on their view differs from ours, by name.
    pub fn disagreeing(&self) -> impl Iterator<Item = &NodeName> {
        let peers = self.links.peers.keys();
        peers.filter(|node| self.links.active(node).is_some_and(|(_, link)| self.differs(link)))
    }

    /// Whether a peer's last word on its view is another than ours.
    fn differs(&self, link: &Link) -> bool {
        link.view.is_some_and(|view| view != self.table.view_hash(self.id, link.version))
    }

    /// The open link to a member, and its smoothed round trip.
    #[must_use]
    pub fn link(&self, node: &NodeName) -> Option<(LinkId, Option<Duration>)> {
        self.links.active(node).map(|(key, link)| (key, link.rtt.map(|rtt| rtt.smooth())))
    }

    /// What both ends of a member's link speak.
    #[must_use]
    pub fn version(&self, node: &NodeName) -> Option<Version> {
        self.links.active(node).map(|(_, link)| link.version)
    }

    /// Whether a member's link ended while another one is up, which waits for the hello. The
    /// two are two connections: the end of the one may come before the hello on the other
    /// that was said first.
    #[must_use]
    pub fn is_handed_over(&self, node: &NodeName) -> bool {
        self.links.peers.get(node).is_some_and(|peer| peer.is_handed_over)
            && self.links.is_awaiting_hello(node)
    }

    /// Whether this node wants a link to that one.
    #[must_use]
    pub fn wants(&self, node: &NodeName) -> bool {
        if *node == self.me.node || self.stopping {
            return false;
        }
        let peer = self.links.peers.get(node);
        if peer.is_some_and(|peer| peer.intent != Intent::Meet) {
            return true;
        }
        if self.me.standing == Standing::Left {
            return false;
        }
        match self.table.member(node) {
            Some(record) if record.is_running() => {
                self.is_full_mesh()
                    || peer.is_some_and(|peer| peer.is_followed)
                    || self.ring.links(&self.me.node, node)
            }
            Some(_) => {
                self.has_few_stopped()
                    || self.is_cleaner()
                    || peer.is_some_and(|peer| peer.is_followed)
                    || self.ring.guards(&self.me.node, node)
            }
            None => peer.is_some_and(|peer| peer.contact || peer.is_followed),
        }
    }

    /// Whether every member is to link with every other. Those that are down, and names
    /// that nobody answers to, make no mesh any larger; those that discovery named count
    /// while the cluster forms, or all of many would first link with each other.
    fn is_full_mesh(&self) -> bool {
        let running = self.table.running_count().saturating_sub(self.doubtful.len());
        running.max(self.crowd) <= self.settings.full_mesh_limit
    }

    /// Whether everybody keeps dialling every stopped member.
    fn has_few_stopped(&self) -> bool {
        let stopped = self.table.member_count() - self.table.running_count();
        self.is_full_mesh() && stopped <= self.settings.full_mesh_limit
    }

    /// Whether a link is to stay: it is wanted, or those that are wanted are not all there
    /// yet, and until then any is better than none.
    fn keeps(&self, node: &NodeName) -> bool {
        let running = self.table.member(node).is_some_and(Record::is_running);
        self.wants(node) || (running && !self.is_well_linked && !self.stopping)
    }

    fn send(&mut self, link: LinkId, message: &Message) {
        self.effects.push_back(Effect::Send(link, message.encode()));
    }

    fn note(&mut self, note: Note) {
        self.effects.push_back(Effect::Note(note));
    }

    fn durable_changed(&mut self) {
        self.durable_version += 1;
    }
}

#[cfg(test)]
mod tests;
