//! Which nodes and this one refuse each other by a rule, as readiness and operators see it.
//!
//! Fed by what the mesh's dials ended on and by the membership's verdicts. The newest fact
//! about a node replaces the one before: a node that is gone refuses nobody.

use std::collections::BTreeMap;

use crate::mesh::DialError;
use crate::node::NodeName;
use crate::protocol::membership::ByeCode;
use crate::view::{Refusal, Rule};

/// Nodes kept at most. Only those that this node wants are ever shown; the names of others
/// are their own choice.
const MAX_KEPT: usize = 1024;

/// What is known.
#[derive(Debug)]
pub(super) struct Refusals {
    /// Whether links are TLS.
    tls: bool,
    held: BTreeMap<NodeName, (Rule, String)>,
}

impl Refusals {
    pub(super) fn new(tls: bool) -> Self {
        Self { tls, held: BTreeMap::new() }
    }

    /// A dial failed, by this word of the mesh's.
    pub(super) fn dial_failed(&mut self, node: &NodeName, error: &DialError, cause: &str) {
        match rule_of(cause, self.tls) {
            Some(rule) => self.keep(node, rule, error.to_string()),
            // Two attempts met: that says nothing about the peer.
            None if *error == DialError::Yield => {}
            None => {
                self.held.remove(node);
            }
        }
    }

    /// A link was closed with this code, by us or by the peer.
    pub(super) fn refused(&mut self, node: &NodeName, code: ByeCode, ours: bool, text: &str) {
        let rule = match code {
            ByeCode::ClusterName => Rule::ClusterName,
            ByeCode::Version => Rule::Version,
            ByeCode::NameConflict => Rule::NodeName,
            _ => {
                self.held.remove(node);
                return;
            }
        };
        // Both ends judge the same hellos, and our own words are the ones to trust.
        let judged = self.held.get(node).is_some_and(|(held, _)| *held == rule);
        if ours || !judged {
            self.keep(node, rule, text.to_owned());
        }
    }

    /// What stands against nodes that pass.
    pub(super) fn standing(&self, passes: impl Fn(&NodeName) -> bool) -> Vec<Refusal> {
        self.held
            .iter()
            .filter(|(node, _)| passes(node))
            .map(|(node, (rule, text))| Refusal {
                node: node.clone(),
                rule: *rule,
                text: text.clone(),
            })
            .collect()
    }

    fn keep(&mut self, node: &NodeName, rule: Rule, text: String) {
        if self.held.len() >= MAX_KEPT && !self.held.contains_key(node) {
            self.held.pop_first();
        }
        self.held.insert(node.clone(), (rule, text));
    }
}

/// The rule behind a failed handshake, by the mesh's word for it.
fn rule_of(cause: &str, tls: bool) -> Option<Rule> {
    Some(match cause {
        // It may be our name that is taken, or our certificate that is another's.
        "not_allowed" if tls => Rule::Certificate,
        "cookie" => Rule::Cookie,
        "version" => Rule::Version,
        "name" | "own_name" | "not_allowed" => Rule::NodeName,
        // Either end of TLS beside plain TCP: nonsense at one, an end at the other.
        "garbage" | "tls_garbage" | "tls_closed" => Rule::Carrier,
        "tls_too_much" => return None,
        tls if tls.starts_with("tls_") => Rule::Certificate,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> NodeName {
        NodeName::parse(name).unwrap()
    }

    fn rules(refusals: &Refusals) -> Vec<(String, Rule)> {
        let standing = refusals.standing(|_| true);
        standing.into_iter().map(|refusal| (refusal.node.to_string(), refusal.rule)).collect()
    }

    #[test]
    fn the_newest_fact_counts() {
        let (a, mut refusals) = (node("emqx@a.io"), Refusals::new(false));
        let rejected = DialError::Rejected("wrong cookie".into());
        refusals.dial_failed(&a, &rejected, "cookie");
        assert_eq!(rules(&refusals), [("emqx@a.io".to_owned(), Rule::Cookie)]);
        refusals.dial_failed(&a, &DialError::Yield, "simultaneous");
        assert_eq!(rules(&refusals).len(), 1, "an attempt that gave way says nothing");
        refusals.refused(&a, ByeCode::ClusterName, true, "ours");
        refusals.refused(&a, ByeCode::ClusterName, false, "theirs");
        let standing = refusals.standing(|_| true);
        assert_eq!((standing[0].rule, &*standing[0].text), (Rule::ClusterName, "ours"));
        refusals.dial_failed(&a, &DialError::Refused, "refused");
        assert!(rules(&refusals).is_empty(), "who is gone refuses nobody");
    }

    #[test]
    fn every_word_of_the_mesh_has_its_rule() {
        for (word, rule) in [
            ("cookie", Some(Rule::Cookie)),
            ("tls_unknown_ca", Some(Rule::Certificate)),
            ("tls_peer_refused", Some(Rule::Certificate)),
            ("tls_closed", Some(Rule::Carrier)),
            ("garbage", Some(Rule::Carrier)),
            ("version", Some(Rule::Version)),
            ("name", Some(Rule::NodeName)),
            ("timeout", None),
            ("refused", None),
            ("closed", None),
        ] {
            assert_eq!(rule_of(word, true), rule, "{word}");
        }
        assert_eq!(rule_of("not_allowed", true), Some(Rule::Certificate));
        assert_eq!(rule_of("not_allowed", false), Some(Rule::NodeName));
    }
}
