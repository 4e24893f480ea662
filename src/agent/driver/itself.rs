//! Names that lead back to this node: they are no other nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use crate::node::NodeName;

/// A name that led to this node is tried again after this: addresses move.
const ITSELF: Duration = Duration::from_secs(60);

/// Names that led to this node, remembered at most: it has not as many addresses.
const MAX_ITSELF: usize = 64;

/// Names under which this node has met itself.
#[derive(Debug, Default)]
pub(super) struct Itself(BTreeMap<NodeName, Instant>);

impl Itself {
    /// Whether this name is a new one.
    pub(super) fn met(&mut self, name: &NodeName) -> bool {
        let known = self.0.contains_key(name);
        if known || self.0.len() < MAX_ITSELF {
            self.0.insert(name.clone(), Instant::now());
        }
        !known
    }

    /// What is left of an answer without the names of this node, those aside that are to be
    /// tried again. A name that is no longer in the answer is forgotten.
    pub(super) fn others(&mut self, answer: &BTreeSet<NodeName>) -> BTreeSet<NodeName> {
        self.0.retain(|name, _| answer.contains(name));
        let is_itself = |name| self.0.get(name).is_some_and(|at| at.elapsed() < ITSELF);
        answer.iter().filter(|name| !is_itself(*name)).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_name_of_this_node_is_left_out_for_a_while() {
        let answer = BTreeSet::from([node("a@h.io"), node("me@127.0.0.1")]);
        let mut itself = Itself::default();
        assert_eq!(itself.others(&answer), answer);
        assert!(itself.met(&node("me@127.0.0.1")));
        assert_eq!(itself.others(&answer), BTreeSet::from([node("a@h.io")]));
        tokio::time::advance(ITSELF).await;
        assert_eq!(itself.others(&answer), answer);
        assert!(!itself.met(&node("me@127.0.0.1")), "it was told of that before");
        itself.others(&BTreeSet::new());
        assert!(itself.met(&node("me@127.0.0.1")));
    }
}
