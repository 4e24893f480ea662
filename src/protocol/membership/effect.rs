//! What the machine asks of its driver and has to say.

use std::time::Duration;

use super::limits::Limit;
use super::message::ByeCode;
use super::record::{Epoch, Health, Reason, Standing};
use super::request::RequestError;
use crate::node::{ClusterId, Incarnation, LinkId, NodeName};

/// What the driver is to do. Taken in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Dial this node once; answered by `handle_link_up` or `handle_dial_failed`.
    Dial(NodeName),
    /// Send this frame, or drop it if the link's queue is full.
    Send(LinkId, Vec<u8>),
    /// Flush and close this link; answered by `handle_link_down`.
    Close(LinkId, String),
    /// News about a member, each reported once and in order.
    Event(News),
    /// Something operators want to read.
    Note(Note),
    /// Answer a request, once everything durable so far is on disk.
    Reply(RequestId, Result<(), RequestError>),
    /// Run or stop discovery rounds.
    Discovery(bool),
}

/// The driver's number for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// A change in the membership as operators see it: suspicion shows, while a member
/// known from disk only counts as [`Health::Down`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// The member.
    pub node: NodeName,
    /// Its health before; `None`: it was no member.
    pub from: Option<Health>,
    /// Its standing now.
    pub to: Standing,
    /// How often it has joined.
    pub epoch: Epoch,
    /// Its incarnation now.
    pub incarnation: Incarnation,
    /// Why.
    pub reason: Reason,
    /// On whose word.
    pub by: NodeName,
}

/// Something worth a line in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// This node now belongs to the cluster with this id.
    Joined(ClusterId),
    /// This node left, or was removed.
    Left(Reason),
    /// We refused a peer over this link; the text says why.
    WeRefused(NodeName, LinkId, String),
    /// A link was refused, for the same reason as before or another; to be counted and shown.
    Refusal {
        /// Whose link.
        peer: NodeName,
        /// By which rule.
        code: ByeCode,
        /// By us, or by the peer.
        ours: bool,
        /// In words: ours, or the peer's.
        text: String,
    },
    /// A peer refused us, over a link or before there was one.
    TheyRefused(NodeName, Option<LinkId>, String),
    /// Another live process holds our node name; `None`: no longer.
    Conflict(Option<String>),
    /// A message could not be read; counted.
    BadMessage(NodeName, String),
    /// This node noticed that it runs late, by so much.
    Slow(Duration),
    /// A bound of this node's tables is reached, by what others say.
    Limit(Limit),
}

/// Where this node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No cluster yet.
    Forming,
    /// In one.
    Joined,
    /// Left, until told otherwise.
    Left,
}
