//! The core's books on links and on the nodes it dials.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::message::{Hello, Intent, Version};
use super::record::Epoch;
use crate::node::{BootId, ClusterId, Incarnation, LinkId, NodeName};

/// How a dial attempt failed, as evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DialFailure {
    /// Nothing listens on the peer's port: no process lives under that name.
    Refused,
    /// No answer, no route, no address, no handshake in time: nothing is known.
    Unreachable(String),
    /// The peer's own connection to us goes ahead of ours.
    Yield,
    /// The peer, or we, found the other wanting: cookie, certificate, flags.
    Rejected(String),
}

/// Where a link stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    /// No hello has come; a plain Erlang node never sends one.
    Silent,
    /// A hello came under a name that an older link holds; the holder is being asked.
    Contested(Box<Hello>),
    /// The one link between this node and that member.
    Active,
    /// Closed by us; the driver will say when it has ended.
    Closing,
}

#[derive(Clone, Debug)]
pub(super) struct Link {
    pub peer: NodeName,
    pub dialed: bool,
    pub phase: Phase,
    pub intent: Intent,
    /// The cluster that we said we were in.
    pub said: Option<ClusterId>,
    pub up_at: Duration,
    /// When anything last came.
    pub heard: Duration,
    /// When an answer to something of ours last came.
    pub answered: Duration,
    /// Whether a probe went unanswered, and nothing was answered since.
    pub is_in_trouble: bool,
    /// Pings sent before this say nothing about the way: they waited for an outage's end.
    pub sound_since: Duration,
    /// The peer said goodbye: the end of this link is no surprise.
    pub is_parting: bool,
    /// Known once a hello came.
    pub boot: Option<BootId>,
    /// Known once a round trip was measured.
    pub rtt: Option<RoundTrip>,
    /// The peer's last word on whether it wants this link.
    pub peer_wants: bool,
    /// When the peer was last told what others hold of it.
    pub confronted: Option<Duration>,
    /// What both ends speak; known once a hello came.
    pub version: Version,
    /// The hash of the peer's view, by that version's rule.
    pub view: Option<u64>,
}

impl Link {
    pub(super) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active)
    }

    /// The peer answered something of ours that left at `sent`.
    pub(super) fn answered(&mut self, now: Duration, sent: Duration) {
        self.answered = now;
        if std::mem::take(&mut self.is_in_trouble) {
            self.sound_since = now;
        }
        if sent >= self.sound_since {
            self.sample_rtt(now.saturating_sub(sent));
        }
    }

    /// Whether an answer over this link would be waited for longer than so, only because it is
    /// young: members are probed in turn, and it is some turns until its length is known.
    pub(super) fn is_overrated(&self, time: Duration) -> bool {
        self.rtt.is_some_and(|rtt| rtt.is_rough() && rtt.patience() > time)
    }

    pub(super) fn sample_rtt(&mut self, sample: Duration) {
        self.rtt = Some(match self.rtt {
            Some(rtt) => rtt.with(sample),
            None => RoundTrip::first(sample),
        });
    }
}

/// A longer round trip is a process that did not run, not a long way: it must not teach
/// us patience with the next one that stops.
const LONGEST_TRIP: Duration = Duration::from_secs(1);

/// So many round trips tell how long the next one takes; fewer overrate how far they spread.
const SURE: u8 = 8;

/// Round trips as RFC 6298 keeps them.
#[derive(Clone, Copy, Debug)]
pub(super) struct RoundTrip {
    smooth: Duration,
    spread: Duration,
    /// How many were measured, up to [`SURE`].
    samples: u8,
}

impl RoundTrip {
    fn first(sample: Duration) -> Self {
        let sample = sample.min(LONGEST_TRIP);
        Self { smooth: sample, spread: sample / 2, samples: 1 }
    }

    fn with(self, sample: Duration) -> Self {
        let sample = sample.min(LONGEST_TRIP);
        let samples = (self.samples + 1).min(SURE);
        if sample * 2 < self.smooth {
            // The way has become short again, or the peer fast. Links are probed in turn, and
            // by eighths this one would be waited for too long for another dozen turns.
            return Self { smooth: (self.smooth + sample) / 2, spread: self.spread / 2, samples };
        }
        let off = self.smooth.abs_diff(sample);
        let (smooth, spread) = ((self.smooth * 7 + sample) / 8, (self.spread * 3 + off) / 4);
        Self { smooth, spread, samples }
    }

    pub(super) fn smooth(&self) -> Duration {
        self.smooth
    }

    /// Whether too few were measured to tell how far they spread.
    fn is_rough(&self) -> bool {
        self.samples < SURE
    }

    /// An answer that is not there by then is missing.
    pub(super) fn patience(&self) -> Duration {
        self.smooth + self.spread * 4
    }
}

/// Whether a node is being dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialing {
    /// It is not.
    No,
    /// In a place of its own.
    Known,
    /// In one of the few places for nodes that no link has proven.
    Unproven,
}

/// Nodes without a link or a plan whose last refusal is remembered, so that those who come
/// again and again are logged once. Beyond, they are logged again.
pub(super) const MAX_STRANGERS: usize = 64;

/// A node that is dialled, or linked, or both.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Named by discovery or by `cluster.core_nodes`.
    pub contact: bool,
    /// An attempt to reach it has ended since it became a contact.
    pub tried: bool,
    pub link: Option<LinkId>,
    pub dialing: Dialing,
    /// Its link ended unasked, and nobody knows yet why.
    pub is_followed: bool,
    /// Its link ended while another one was up on which no hello had come.
    pub is_handed_over: bool,
    pub due: Option<Duration>,
    pub failures: u32,
    /// A refused connection proves that its process ended: true after a link to this
    /// process life, until that evidence was used once.
    pub trust_refusal: bool,
    pub intent: Intent,
    /// When a dial last failed, with no link since: nobody was there, or nobody heard.
    pub failed_at: Option<Duration>,
    /// The text of the refusal or failure last logged, so that it is logged once.
    pub complaint: Option<String>,
    /// By which numbers it goes, as it said when it was turned away: others may say so too.
    pub vouched: Option<(Epoch, Incarnation)>,
}

impl Default for Peer {
    fn default() -> Self {
        Self {
            contact: false,
            tried: false,
            link: None,
            dialing: Dialing::No,
            is_followed: false,
            is_handed_over: false,
            due: None,
            failures: 0,
            trust_refusal: false,
            intent: Intent::Meet,
            failed_at: None,
            complaint: None,
            vouched: None,
        }
    }
}

/// All links, all peers, and when to dial whom.
#[derive(Clone, Debug, Default)]
pub(super) struct Links {
    pub links: BTreeMap<LinkId, Link>,
    pub peers: BTreeMap<NodeName, Peer>,
    queue: BTreeSet<(Duration, NodeName)>,
    /// What was last logged of nodes that are in no other book.
    strangers: BTreeMap<NodeName, String>,
    /// Dials under way, and how many of them are to unproven nodes.
    pub dialing: usize,
    pub dialing_unproven: usize,
    /// Answered probes whose round trips nobody took yet.
    measured: Vec<Duration>,
}

/// Round trips kept for whoever counts them: far more than are measured between two looks
/// of a driver. Further ones are not counted, and nothing else is lost.
pub(super) const MAX_MEASURED: usize = 256;

impl Links {
    /// Keeps a round trip for [`Links::take_measured`].
    pub(super) fn measured(&mut self, rtt: Duration) {
        if self.measured.len() < MAX_MEASURED {
            self.measured.push(rtt);
        }
    }

    /// Round trips since this was last asked.
    pub(super) fn take_measured(&mut self) -> Vec<Duration> {
        std::mem::take(&mut self.measured)
    }

    /// The link to a node over which hellos were exchanged.
    pub(super) fn active(&self, node: &NodeName) -> Option<(LinkId, &Link)> {
        let key = self.peers.get(node)?.link?;
        self.links.get(&key).filter(|link| link.is_active()).map(|link| (key, link))
    }

    /// By which numbers a node said that it goes.
    pub(super) fn vouched(&self, node: &NodeName) -> Option<(Epoch, Incarnation)> {
        self.peers.get(node)?.vouched
    }

    /// Whether a link to a node is up on which no hello has come.
    pub(super) fn is_awaiting_hello(&self, node: &NodeName) -> bool {
        self.links.values().any(|link| link.peer == *node && matches!(link.phase, Phase::Silent))
    }

    /// Every link over which hellos were exchanged.
    pub(super) fn all_active(&self) -> impl Iterator<Item = (LinkId, &Link)> {
        self.links.iter().filter(|(_, link)| link.is_active()).map(|(key, link)| (*key, link))
    }

    pub(super) fn peer(&mut self, node: &NodeName) -> &mut Peer {
        if !self.peers.contains_key(node) {
            let complaint = self.strangers.remove(node);
            self.peers.insert(node.clone(), Peer { complaint, ..Peer::default() });
        }
        self.peers.entry(node.clone()).or_default()
    }

    /// A dial begins.
    pub(super) fn begin_dial(&mut self, node: &NodeName, is_unproven: bool) {
        let dialing = if is_unproven { Dialing::Unproven } else { Dialing::Known };
        self.peer(node).dialing = dialing;
        self.dialing += 1;
        self.dialing_unproven += usize::from(is_unproven);
    }

    /// A dial has ended.
    pub(super) fn end_dial(&mut self, node: &NodeName) {
        let dialing = std::mem::replace(&mut self.peer(node).dialing, Dialing::No);
        self.dialing -= usize::from(dialing != Dialing::No);
        self.dialing_unproven -= usize::from(dialing == Dialing::Unproven);
    }

    /// Plans a dial, replacing an earlier plan.
    pub(super) fn plan(&mut self, node: &NodeName, at: Duration) {
        self.unplan(node);
        self.peer(node).due = Some(at);
        self.queue.insert((at, node.clone()));
    }

    pub(super) fn unplan(&mut self, node: &NodeName) {
        if let Some(due) = self.peers.get_mut(node).and_then(|peer| peer.due.take()) {
            self.queue.remove(&(due, node.clone()));
        }
    }

    /// Whether a dial of a node is planned or under way, or a link to it is up.
    pub(super) fn is_sought(&self, node: &NodeName) -> bool {
        self.peers.get(node).is_some_and(|peer| {
            peer.due.is_some() || peer.dialing != Dialing::No || peer.link.is_some()
        })
    }

    /// The median of what is to be waited for an answer over the links.
    pub(super) fn typical_patience(&self) -> Duration {
        let links = self.links.values().filter(|link| link.is_active());
        let mut times: Vec<Duration> =
            links.filter_map(|link| link.rtt.map(|rtt| rtt.patience())).collect();
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or_default()
    }

    /// The next planned dial.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The next node that is planned for later and was not tried before.
    pub(super) fn next_untried(&self, now: Duration) -> Option<NodeName> {
        let mut later = self.queue.iter().filter(|(at, _)| *at > now).map(|(_, node)| node);
        later.find(|node| self.peers.get(*node).is_some_and(|peer| !peer.tried)).cloned()
    }

    /// Takes the next planned dial that is due.
    pub(super) fn pop_due(&mut self, now: Duration) -> Option<NodeName> {
        let (at, node) = self.queue.first()?.clone();
        if at > now {
            return None;
        }
        self.queue.pop_first();
        if let Some(peer) = self.peers.get_mut(&node) {
            peer.due = None;
        }
        Some(node)
    }

    /// How many strangers and round trips are kept.
    pub(super) fn aside(&self) -> (usize, usize) {
        (self.strangers.len(), self.measured.len())
    }

    pub(super) fn forget(&mut self, node: &NodeName) {
        self.unplan(node);
        if let Some(peer) = self.peers.get(node)
            && peer.link.is_none()
            && peer.dialing == Dialing::No
        {
            if let Some(complaint) = self.peers.remove(node).and_then(|peer| peer.complaint) {
                self.strangers.insert(node.clone(), complaint);
            }
            if self.strangers.len() > MAX_STRANGERS {
                self.strangers.pop_first();
            }
        }
    }
}
