//! Who links to whom beyond the full mesh: fingers on a ring of hashed names, as in
//! Chord (Stoica et al. 2001).
//!
//! A node keeps links to its two successors and to the successor of each point half,
//! a quarter, an eighth … of the ring ahead: about log2(n) links of its own, as many
//! again from others, and any member within log2(n) hops. A joining or leaving
//! member changes the links of about log2(n) others and of nobody else.

use std::collections::{BTreeMap, BTreeSet};

use super::table::Fnv;
use crate::node::NodeName;

/// Successors linked whatever the fingers say: they close the ring over a crash.
const SUCCESSORS: usize = 2;

/// How many members watch over a stopped one, dialling it for ever.
const GUARDIANS: usize = 3;

/// The members' places.
#[derive(Clone, Debug, Default)]
pub(super) struct Ring {
    places: BTreeMap<u64, NodeName>,
}

fn place(node: &NodeName) -> u64 {
    let mut hash = Fnv::default();
    hash.write(b"ring");
    hash.write(node.as_str().as_bytes());
    hash.finish()
}

impl Ring {
    pub(super) fn insert(&mut self, node: &NodeName) {
        self.places.insert(place(node), node.clone());
    }

    pub(super) fn remove(&mut self, node: &NodeName) {
        self.places.remove(&place(node));
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn clear(&mut self) {
        self.places.clear();
    }

    /// Members from `point` on, once around.
    fn from(&self, point: u64) -> impl Iterator<Item = &NodeName> {
        self.places.range(point..).chain(self.places.range(..point)).map(|(_, node)| node)
    }

    /// The members that `node` keeps links to.
    pub(super) fn neighbours(&self, node: &NodeName) -> BTreeSet<NodeName> {
        let own = place(node);
        let mut found: BTreeSet<NodeName> = self
            .from(own.wrapping_add(1))
            .filter(|other| *other != node)
            .take(SUCCESSORS)
            .cloned()
            .collect();
        for bit in 0..64 {
            let point = own.wrapping_add(1 << bit);
            found.extend(self.from(point).find(|other| *other != node).cloned());
        }
        found
    }

    /// Whether `other` is one of `node`'s [`Ring::neighbours`], without listing them: some
    /// power of two must lie behind the member before it and not beyond itself.
    pub(super) fn links(&self, node: &NodeName, other: &NodeName) -> bool {
        let (own, there) = (place(node), place(other));
        let distance = there.wrapping_sub(own);
        if distance == 0 || !self.places.contains_key(&there) {
            return false;
        }
        let before = self
            .places
            .range(..there)
            .rev()
            .chain(self.places.range(there..).rev())
            .find(|(_, member)| *member != node)
            .map_or(0, |(place, _)| place.wrapping_sub(own));
        let before = if before < distance { before } else { 0 };
        let finger = 1 << distance.ilog2();
        let successor = || {
            let next = self.from(own.wrapping_add(1)).filter(|member| *member != node);
            next.take(SUCCESSORS).any(|member| member == other)
        };
        finger > before || successor()
    }

    /// Whether `node` is one of those that keep dialling the stopped member `down`.
    pub(super) fn guards(&self, node: &NodeName, down: &NodeName) -> bool {
        self.from(place(down)).filter(|other| *other != down).take(GUARDIANS).any(|n| n == node)
    }
}
