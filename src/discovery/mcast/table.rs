//! Who was heard: a pure table of datagrams' senders, handed `now`.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use tokio::time::Instant;

use super::datagram::{Datagram, Kind};
use crate::discovery::MAX_NODES;
use crate::node::{BootId, NodeName};

/// A node that has been silent this long is no longer named: three of the longest
/// periods between announcements, with their jitter, and then some.
pub(super) const SILENCE: Duration = Duration::from_secs(120);

/// How long a life's last sequence number is remembered after its last datagram.
const MEMORY: Duration = Duration::from_secs(3_600);

/// Lives remembered; twice as many as nodes in the largest answer, for restarts. Only
/// holders of the cookie get this far.
const LIVES: usize = 2 * MAX_NODES;

/// One life of a node.
#[derive(Debug)]
struct Life {
    node: NodeName,
    sequence: u64,
    heard: Instant,
    /// Not after its goodbye, nor after a later life of the same node was heard.
    present: bool,
}

/// What a datagram was worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// A life heard for the first time: it does not know us either.
    New,
    /// More of a known one.
    Known,
    /// Sent before, or overtaken by a later one.
    Replayed,
    /// There is no room for another life.
    Full,
}

/// The senders of datagrams.
#[derive(Debug, Default)]
pub(super) struct Table {
    lives: HashMap<BootId, Life>,
}

impl Table {
    /// Takes in a datagram of this cluster.
    pub(super) fn heard(&mut self, now: Instant, datagram: &Datagram) -> Verdict {
        let Datagram { kind, node, boot, sequence, .. } = datagram;
        let present = *kind != Kind::Goodbye;
        let known = self.lives.get_mut(boot);
        let (new, was_present) = (known.is_none(), known.as_ref().is_some_and(|life| life.present));
        if let Some(life) = known {
            if *sequence <= life.sequence {
                return Verdict::Replayed;
            }
            life.sequence = *sequence;
            life.heard = now;
            life.present = present;
        } else {
            if self.lives.len() >= LIVES {
                self.lives.retain(|_, life| now - life.heard < SILENCE && life.present);
            }
            if self.lives.len() >= LIVES {
                return Verdict::Full;
            }
            let (node, sequence) = (node.clone(), *sequence);
            self.lives.insert(*boot, Life { node, sequence, heard: now, present });
        }
        if present && !was_present {
            for (other, life) in &mut self.lives {
                if other != boot && life.node == *node {
                    life.present = false;
                }
            }
        }
        if new && present { Verdict::New } else { Verdict::Known }
    }

    /// Whom there is reason to expect.
    pub(super) fn nodes(&self, now: Instant) -> BTreeSet<NodeName> {
        let there = self.lives.values().filter(|life| life.present && now - life.heard < SILENCE);
        there.map(|life| life.node.clone()).collect()
    }

    /// Forgets what need not be remembered.
    pub(super) fn tidy(&mut self, now: Instant) {
        self.lives.retain(|_, life| now - life.heard < MEMORY);
    }
}

#[cfg(test)]
mod tests;
