//! What is said of one node, and which of two statements wins.
//!
//! A [`Record`] is a state-based CRDT: [`Record::supersedes`] is a strict total
//! order on the statements about one node, so nodes that have seen the same
//! statements hold the same record, in whatever order they came.
//!
//! 1. The higher *epoch* wins. A node raises its epoch only when it joins (again)
//!    after it left or was removed: nothing said of an earlier epoch can bring it back.
//! 2. Within an epoch `Left` and `Removed` win over every membership statement,
//!    whatever its incarnation: that is the tombstone.
//! 3. Then the higher incarnation wins; only the node itself raises it.
//! 4. At one incarnation the worse news wins: `Unknown` < `Up` < `Suspect` < `Down`, and a
//!    member that is down by its own word is down more surely than one that fell silent.
//! 5. What a member says of itself beyond that, its [`Attributes`], belongs to its
//!    incarnation: it raises it with every change, and others pass it on as it is. A
//!    relay of protocol version 1 loses it; [`Record::join`] keeps it where it was heard.

use std::cmp::Ordering;
use std::sync::Arc;

use minicbor::{Decode, Encode};

use super::wire;
use crate::attributes::Attributes;
use crate::node::{BootId, Incarnation, NodeName, Role};

/// Longest agent version kept of a peer, in bytes.
pub const MAX_VERSION: usize = 64;

/// How often a node has joined; see the module.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(transparent)]
pub struct Epoch(#[n(0)] pub u64);

impl Epoch {
    /// The next higher one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

/// What is known of a member's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Health {
    /// Read from disk at start: a member, and nobody has vouched for it yet.
    #[n(0)]
    Unknown,
    /// Heard from.
    #[n(1)]
    Up,
    /// Silent; given time to object.
    #[n(2)]
    Suspect,
    /// Stopped, crashed or cut off.
    #[n(3)]
    Down,
}

impl Health {
    /// Whether operators see it as running.
    #[must_use]
    pub fn is_running(self) -> bool {
        matches!(self, Self::Up | Self::Suspect)
    }
}

/// A node's relation to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(array)]
pub enum Standing {
    /// It belongs.
    #[n(0)]
    Member(#[n(0)] Health),
    /// It left by its own will.
    #[n(1)]
    Left,
    /// An operator removed it.
    #[n(2)]
    ForceLeft,
    /// It was down for longer than `cluster.autoclean`.
    #[n(3)]
    Autocleaned,
}

impl Standing {
    /// Its health, if it is a member.
    #[must_use]
    pub fn health(self) -> Option<Health> {
        match self {
            Self::Member(health) => Some(health),
            _ => None,
        }
    }

    /// Order within an epoch: tombstones above members, an operator's word above all.
    pub(super) fn rank(self) -> u8 {
        match self {
            Self::Member(_) => 0,
            Self::Autocleaned => 1,
            Self::Left => 2,
            Self::ForceLeft => 3,
        }
    }
}

/// Why a status is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum Reason {
    /// Anything that a newer agent says and this one has no word for.
    #[n(0)]
    Other,
    /// It announced itself.
    #[n(1)]
    Announced,
    /// It objected to being suspected.
    #[n(2)]
    Refuted,
    /// Its process started anew.
    #[n(3)]
    Restarted,
    /// Its link ended and nothing listens on its port any more.
    #[n(4)]
    Refused,
    /// It answered no probe, neither ours nor our helpers'.
    #[n(5)]
    Silent,
    /// It was silent, and did not object in time.
    #[n(6)]
    Unrefuted,
    /// It said that it stops.
    #[n(7)]
    Stopped,
    /// It left.
    #[n(8)]
    Left,
    /// An operator removed it.
    #[n(9)]
    ForceLeft,
    /// It was down for longer than `cluster.autoclean`.
    #[n(10)]
    Autocleaned,
    /// Known from disk, not heard from since this agent started.
    #[n(11)]
    Unseen,
    /// Its tags, its broker or its drain changed, and its health did not. Only news are told
    /// for it: a record keeps the reason of its standing.
    #[n(12)]
    Updated,
}

impl Reason {
    /// Every reason, for whoever lists them.
    pub const ALL: [Self; 13] = [
        Self::Other,
        Self::Announced,
        Self::Refuted,
        Self::Restarted,
        Self::Refused,
        Self::Silent,
        Self::Unrefuted,
        Self::Stopped,
        Self::Left,
        Self::ForceLeft,
        Self::Autocleaned,
        Self::Unseen,
        Self::Updated,
    ];

    /// For programs: as the API spells it, the same in every version.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Other => "other",
            Self::Announced => "announced",
            Self::Refuted => "refuted",
            Self::Restarted => "restarted",
            Self::Refused => "refused",
            Self::Silent => "silent",
            Self::Unrefuted => "unrefuted",
            Self::Stopped => "stopped",
            Self::Left => "left",
            Self::ForceLeft => "force_left",
            Self::Autocleaned => "autocleaned",
            Self::Unseen => "unseen",
            Self::Updated => "updated",
        }
    }

    /// In words, for operators.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Self::Other => "said by a newer agent",
            Self::Announced => "announced itself",
            Self::Refuted => "answered a suspicion",
            Self::Restarted => "its agent was started again",
            Self::Refused => "its link ended and its port refuses connections",
            Self::Silent => "it answered no probe, direct or indirect",
            Self::Unrefuted => "it stayed silent and did not answer the suspicion in time",
            Self::Stopped => "it was stopped",
            Self::Left => "it left the cluster",
            Self::ForceLeft => "an operator removed it",
            Self::Autocleaned => "it was down for longer than cluster.autoclean",
            Self::Unseen => "known from disk, not heard from since this agent started",
            Self::Updated => "its tags, its broker or its drain changed",
        }
    }
}

/// One statement about one node.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Record {
    /// The node it is about.
    #[cbor(n(0), with = "wire::node")]
    pub node: NodeName,
    /// How often the node had joined.
    #[n(1)]
    pub epoch: Epoch,
    /// Its relation to the cluster.
    #[n(2)]
    pub standing: Standing,
    /// Raised by the node itself, see [`Incarnation`].
    #[cbor(n(3), with = "wire::incarnation")]
    pub incarnation: Incarnation,
    /// The process life it is about.
    #[cbor(n(4), with = "wire::boot")]
    pub boot: BootId,
    /// Its role.
    #[cbor(n(5), with = "wire::role")]
    pub role: Role,
    /// Why; `None` from a newer agent that has another reason.
    #[cbor(n(6), with = "wire::word")]
    pub reason: Option<Reason>,
    /// On whose word.
    #[cbor(n(7), with = "wire::node")]
    pub by: NodeName,
    /// The agent's version, at most [`MAX_VERSION`] bytes.
    #[cbor(n(8), with = "wire::version")]
    pub version: String,
    /// What a member says of itself beyond being there; `None`: nothing, or not heard yet.
    /// Never of a tombstone. Since version 2.
    #[cbor(n(9), with = "wire::attributes", has_nil)]
    pub attributes: Option<Arc<Attributes>>,
    /// Of a tombstone: one more than the highest that whoever buried it had seen, so that
    /// everybody finds the same ones old when there is no room. 0 of members, and of
    /// tombstones of version 1. Since version 2.
    #[cbor(n(10), with = "wire::burial", has_nil)]
    pub burial: u64,
}

impl Record {
    /// Whether this statement replaces `other`, which is about the same node.
    ///
    /// Equal statements do not supersede each other. The reason and the accuser
    /// do not count: the first that is heard is kept.
    #[must_use]
    pub fn supersedes(&self, other: &Self) -> bool {
        self.order() > other.order()
    }

    /// Whether both say the same, the reason and the accuser aside.
    #[must_use]
    pub fn same_as(&self, other: &Self) -> bool {
        self.order() == other.order()
    }

    /// Whether both say the same of the member's life, or of the epoch's end, whatever is
    /// told beside it.
    #[must_use]
    pub fn same_news(&self, other: &Self) -> bool {
        let news = |r: &Self| match r.is_member() {
            true => (r.standing, r.has_stopped(), r.epoch, r.incarnation, r.boot),
            false => (r.standing, false, r.epoch, Incarnation(0), BootId(0)),
        };
        news(self) == news(other)
    }

    /// What both statements say together: of two about one life of a member the worse
    /// news and the attributes count, whoever of the two has them.
    #[must_use]
    pub fn join(&self, other: &Self) -> Self {
        let mut joined = if other.supersedes(self) { other.clone() } else { self.clone() };
        if self.is_member() && other.is_member() && self.life() == other.life() {
            let worse = self.severity().cmp(&other.severity());
            joined = if worse == Ordering::Less { other.clone() } else { self.clone() };
            joined.attributes = self.attributes.clone().max(other.attributes.clone());
        }
        joined
    }

    /// Which process life, and which word of it, a statement about a member is about.
    fn life(&self) -> (Epoch, Incarnation, BootId) {
        (self.epoch, self.incarnation, self.boot)
    }

    /// How bad the news are: a member's own word that it stops is beyond doubt.
    fn severity(&self) -> (Health, bool) {
        (self.health().unwrap_or(Health::Down), self.has_stopped())
    }

    fn order(&self) -> impl Ord + '_ {
        // A tombstone is about the epoch; its incarnation says nothing.
        let incarnation = if self.is_member() { self.incarnation } else { Incarnation(0) };
        // Two lives of one name at one incarnation: the boot id breaks the tie, so
        // that everybody breaks it alike.
        let life = (self.epoch, self.standing.rank(), incarnation, self.boot);
        (life, self.severity(), self.attributes.as_deref(), self.burial)
    }

    /// About how many bytes it takes on the wire.
    pub(super) fn weight(&self) -> usize {
        let said = self.attributes.as_deref().map_or(0, |said| {
            let tags: usize =
                said.tags.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
            let broker = said.broker.as_ref().map_or(0, |b| b.address.len() + b.detail.len());
            tags + broker + said.draining.as_ref().map_or(0, String::len) + 16
        });
        let texts = self.node.as_str().len() + self.by.as_str().len() + self.version.len();
        texts + said + 40
    }

    /// The health of a member; `None` for a tombstone.
    #[must_use]
    pub fn health(&self) -> Option<Health> {
        self.standing.health()
    }

    /// Whether it is a member.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.health().is_some()
    }

    /// Whether it is a member that is up or suspect.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.health().is_some_and(Health::is_running)
    }

    /// Whether it is a member that stopped by its own word.
    #[must_use]
    pub fn has_stopped(&self) -> bool {
        self.is_member()
            && !self.is_running()
            && self.reason == Some(Reason::Stopped)
            && self.by == self.node
    }

    /// Why it stands where it stands, [`Reason::Other`] where that is unknown. What a member
    /// says of itself beyond being there is no reason for it, whoever claims so.
    #[must_use]
    pub fn reason(&self) -> Reason {
        self.reason.filter(|reason| *reason != Reason::Updated).unwrap_or(Reason::Other)
    }

    /// The same node with another standing, on someone's word.
    #[must_use]
    pub fn with(&self, standing: Standing, reason: Reason, by: &NodeName) -> Self {
        let attributes = self.attributes.clone().filter(|_| standing.health().is_some());
        let by = by.clone();
        Self { standing, reason: Some(reason), by, attributes, ..self.clone() }
    }
}
