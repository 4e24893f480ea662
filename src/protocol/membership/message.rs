//! What agents say to each other over a link, as CBOR (RFC 8949).
//!
//! Fields are numbered and unknown ones skipped, so a release can add fields and
//! an older one still reads the rest. A message kind that a release adds is sent
//! only to peers whose [`Hello`] names a protocol version that has it; whoever gets one
//! all the same counts and drops it, and the link stays.
//!
//! Of the words within, [`ByeCode`] and [`super::Reason`] may be added to: an unknown one
//! is read as none. [`Intent`], [`super::Health`] and [`super::Standing`] may not without a
//! version that every member has, since a message with an unknown one is dropped whole.
//!
//! Version 2 adds a member's attributes and the order of burials to a [`Record`], and
//! compares views by another hash, over tombstones too. What is sent to a peer of version
//! 1 is what version 1 knows: fields that it skips, and views by its hash.

use minicbor::{Decode, Encode};

use super::record::Record;
use super::wire;
use crate::node::{ClusterId, NodeName};

/// The protocol version this release speaks.
pub const PROTOCOL: u16 = 2;
/// The oldest protocol version this release still understands.
pub const PROTOCOL_MIN: u16 = 1;

/// Most records in one message; more are split over several.
pub const MAX_RECORDS: usize = 512;

/// Parts of a view that are compared with a peer of version 1.
pub const BUCKETS_V1: usize = 64;

/// Parts of a view that are compared since version 2: a full table's part is some 80
/// records, and the hashes of all are 2 KiB.
pub const BUCKETS: usize = 256;

/// What the sender of a [`Hello`] wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Intent {
    /// To meet a fellow member, or whoever discovery named.
    #[n(0)]
    Meet,
    /// To join the receiver's cluster, on an operator's word.
    #[n(1)]
    Join,
    /// To have the receiver join the sender's cluster, on an operator's word.
    #[n(2)]
    Invite,
}

/// The first message on a link, in both directions.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct Hello {
    /// Oldest protocol version understood.
    #[n(0)]
    pub protocol_min: u16,
    /// Newest protocol version spoken.
    #[n(1)]
    pub protocol: u16,
    /// `cluster.name`.
    #[n(2)]
    pub cluster: String,
    /// The cluster's id; `None` while forming.
    #[cbor(n(3), with = "wire::id")]
    pub id: Option<ClusterId>,
    /// Whether the strategy joins what it discovers.
    #[n(4)]
    pub automatic: bool,
    /// What the sender wants.
    #[n(5)]
    pub intent: Intent,
    /// What the sender says of itself.
    #[n(6)]
    pub me: Record,
    /// What the sender knows of the receiver.
    #[n(7)]
    pub you: Option<Record>,
    /// Hash over the sender's view, by version 1's rule.
    #[n(8)]
    pub view_v1: u64,
    /// The same by version 2's rule; version 1 sends none.
    #[n(9)]
    pub view: Option<u64>,
}

impl Hello {
    /// The version that both ends speak: the sender of this hello, and this release.
    #[must_use]
    pub fn common(&self) -> Version {
        if self.protocol >= 2 && self.view.is_some() { Version::V2 } else { Version::V1 }
    }

    /// Hash over the sender's view, by the rule of the version that both ends speak.
    #[must_use]
    pub fn common_view(&self) -> u64 {
        self.view.filter(|_| self.common() == Version::V2).unwrap_or(self.view_v1)
    }
}

/// What two agents that are linked speak: the newest protocol version of both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// That of the 0.1 releases. Views are compared without tombstones and attributes.
    #[default]
    V1,
    /// Views are all that is held.
    V2,
}

/// Why a link is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
#[cbor(index_only)]
pub enum ByeCode {
    /// No protocol version in common.
    #[n(0)]
    Version,
    /// Different `cluster.name`.
    #[n(1)]
    ClusterName,
    /// Different cluster id, and nobody was told to join.
    #[n(2)]
    ClusterId,
    /// The sender left its cluster.
    #[n(3)]
    Left,
    /// Another live process holds the receiver's node name.
    #[n(4)]
    NameConflict,
    /// The sides of a healed partition, with `cluster.autoheal = false`.
    #[n(5)]
    AutohealOff,
    /// The sender stops.
    #[n(6)]
    Stopping,
    /// Neither side needs the link.
    #[n(7)]
    Idle,
    /// Another link between the two is kept.
    #[n(8)]
    Duplicate,
    /// Any other reason, in words.
    #[n(9)]
    Other,
    /// The receiver was removed from the cluster.
    #[n(10)]
    Removed,
}

impl ByeCode {
    /// A fixed word for metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::ClusterName => "cluster_name",
            Self::ClusterId => "cluster_id",
            Self::Left => "left",
            Self::NameConflict => "name_conflict",
            Self::AutohealOff => "autoheal_off",
            Self::Stopping => "stopping",
            Self::Idle => "idle",
            Self::Duplicate => "duplicate",
            Self::Other => "refused",
            Self::Removed => "removed",
        }
    }
}

/// What the sender of a [`Message::Sync`] wants in return. Since version 2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(index_only)]
pub enum Ask {
    /// The records are its whole view: what the receiver holds otherwise.
    #[n(0)]
    Whole,
    /// They are all of the buckets wanted: what the receiver holds otherwise of these.
    #[n(1)]
    Parts,
    /// The same, and more buckets differ: then the receiver's hashes again.
    #[n(2)]
    More,
}

/// Anything said over a link.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub enum Message {
    /// Opens the conversation.
    #[n(0)]
    Hello(#[n(0)] Box<Hello>),
    /// Closes it.
    #[n(1)]
    Bye {
        /// Why; `None` from a newer agent with a reason of its own.
        #[cbor(n(0), with = "wire::word")]
        code: Option<ByeCode>,
        /// In words, at most 512 bytes.
        #[n(1)]
        text: String,
    },
    /// Are you there?
    #[n(2)]
    Ping {
        /// Comes back in the [`Message::Ack`].
        #[n(0)]
        seq: u64,
        /// Hash over the sender's view.
        #[n(1)]
        view: u64,
        /// Whether the sender wants to keep this link.
        #[n(2)]
        wanted: bool,
        /// The cluster's id.
        #[cbor(n(3), with = "wire::id")]
        id: Option<ClusterId>,
        /// News.
        #[n(4)]
        news: Vec<Record>,
    },
    /// Here I am.
    #[n(3)]
    Ack {
        /// The ping's.
        #[n(0)]
        seq: u64,
        /// Hash over the sender's view.
        #[n(1)]
        view: u64,
        /// Whether the sender wants to keep this link.
        #[n(2)]
        wanted: bool,
        /// News.
        #[n(3)]
        news: Vec<Record>,
    },
    /// Ask that node for me.
    #[n(4)]
    PingReq {
        /// Comes back in the [`Message::PingReply`].
        #[n(0)]
        seq: u64,
        /// Whom to ask.
        #[cbor(n(1), with = "wire::node")]
        target: NodeName,
    },
    /// It answered, or it did not (in time).
    #[n(5)]
    PingReply {
        /// The request's.
        #[n(0)]
        seq: u64,
        /// Whom it is about.
        #[cbor(n(1), with = "wire::node")]
        target: NodeName,
        /// Whether it answered.
        #[n(2)]
        alive: bool,
    },
    /// News.
    #[n(6)]
    Gossip {
        /// The cluster's id.
        #[cbor(n(0), with = "wire::id")]
        id: Option<ClusterId>,
        /// What is new.
        #[n(1)]
        news: Vec<Record>,
    },
    /// Hashes over the parts of the sender's view, to find where two views differ.
    #[n(7)]
    Digest {
        /// One hash per bucket, [`BUCKETS`] of them, or [`BUCKETS_V1`].
        #[n(0)]
        buckets: Vec<u64>,
    },
    /// All the sender knows of some buckets.
    #[n(8)]
    Sync {
        /// The records, tombstones among them.
        #[n(0)]
        records: Vec<Record>,
        /// Buckets that the receiver is asked for in return.
        #[n(1)]
        want: Vec<u8>,
        /// How much of the sender's view this is; `None`: an answer, or version 1.
        #[n(2)]
        ask: Option<Ask>,
    },
    /// The sender's view has settled.
    #[n(9)]
    View {
        /// Hash over it.
        #[n(0)]
        view: u64,
        /// The cluster's id.
        #[cbor(n(1), with = "wire::id")]
        id: Option<ClusterId>,
    },
    /// An operator's word, passed on by everybody once: what only this member brought is to
    /// go. Since version 2.
    #[n(10)]
    Purge {
        /// Drawn at random, so that it is passed on once.
        #[n(0)]
        id: u64,
        /// Who brought it.
        #[cbor(n(1), with = "wire::node")]
        brought_by: NodeName,
    },
}

/// A message that could not be read: the peer's fault or a newer kind; the state
/// is unharmed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unreadable membership message: {0}")]
pub struct BadMessage(String);

impl Message {
    /// The bytes of a frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        // Writing to a Vec cannot fail.
        let _infallible = minicbor::encode(self, &mut bytes);
        bytes
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// [`BadMessage`] for anything that is not one message within its bounds.
    pub fn decode(bytes: &[u8]) -> Result<Self, BadMessage> {
        let message: Self = minicbor::decode(bytes).map_err(|e| BadMessage(e.to_string()))?;
        let (news, text) = match &message {
            Self::Ping { news, .. } | Self::Ack { news, .. } | Self::Gossip { news, .. } => {
                (news.len(), 0)
            }
            Self::Sync { records, .. } => (records.len(), 0),
            Self::Bye { text, .. } => (0, text.len()),
            Self::Hello(hello) => (0, hello.cluster.len()),
            _ => (0, 0),
        };
        if news > MAX_RECORDS {
            return Err(BadMessage(format!("{news} records")));
        }
        if text > 512 {
            return Err(BadMessage(format!("a text of {text} bytes")));
        }
        Ok(message)
    }
}
