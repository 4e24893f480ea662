//! Whether this node is where it should be in its cluster, and what an operator should know
//! besides: one judgement for `/readyz`, `doctor` and whoever else asks.
//!
//! Pure: a snapshot and a configuration in, checks out. A reason says what was seen and,
//! behind an arrow, what to do.

use std::collections::BTreeSet;

use crate::attributes::BrokerStatus;
use crate::config::Config;
use crate::node::NodeName;
use crate::view::{ClusterState, LinkState, MemberStatus, Refusal, Rule, Snapshot};

/// Nodes named in one reason; more are counted.
const NAMED: usize = 3;

/// One thing that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Its name, a fixed word.
    pub name: &'static str,
    /// Whether it passed.
    pub ok: bool,
    /// Why, and where it failed what to do.
    pub reason: String,
}

impl Check {
    fn new(name: &'static str, ok: bool, reason: impl Into<String>) -> Self {
        Self { name, ok, reason: reason.into() }
    }
}

/// Everything that must pass before this node is ready.
#[must_use]
pub fn checks(snapshot: &Snapshot, config: &Config) -> Vec<Check> {
    let mut checks = vec![
        discovery(snapshot, config),
        state(snapshot),
        min_members(snapshot, config),
        peers(snapshot),
        own_view(snapshot),
        draining(snapshot),
    ];
    if config.agent.ready.majority {
        checks.push(majority(snapshot));
    }
    if config.agent.broker.required {
        checks.push(broker(snapshot));
    }
    if let Some(conflict) = &snapshot.conflict {
        checks.push(Check::new("name_conflict", false, conflict));
    }
    checks
}

/// Whether more than half of the cores that count are here.
#[must_use]
pub fn majority(snapshot: &Snapshot) -> Check {
    let reason = if snapshot.majority {
        "more than half of the cores that count are up"
    } else {
        "no more than half of the cores that count are up -> start the others, or remove those \
         that will not come back with muster cluster force-leave"
    };
    Check::new("majority", snapshot.majority, reason)
}

fn discovery(snapshot: &Snapshot, config: &Config) -> Check {
    let (view, strategy) = (&snapshot.discovery, snapshot.strategy);
    let reason = match (&view.last_error, view.answered) {
        (_, true) if !config.cluster.strategy.is_automatic() => "needs none".to_owned(),
        (None, true) => "answered".to_owned(),
        (Some(error), true) => format!("answered before, fails now: {error}"),
        (None, false) => format!("{strategy} has not answered yet"),
        (Some(error), false) => format!("{strategy} has never answered: {error}"),
    };
    Check::new("discovery", view.answered, reason)
}

fn state(snapshot: &Snapshot) -> Check {
    let (ok, reason) = match snapshot.state {
        ClusterState::Forming => (
            false,
            "forming: nobody that discovery named was reached yet -> wait; if it lasts, muster doctor looks at each of them",
        ),
        ClusterState::Joined => (true, "joined"),
        ClusterState::Left => (
            false,
            "left the cluster -> to return: muster cluster join, or muster cluster discovery enable",
        ),
        ClusterState::Singleton => (true, "singleton"),
    };
    Check::new("state", ok, reason)
}

/// A node that everybody else has struck off must not take traffic for its cluster.
fn own_view(snapshot: &Snapshot) -> Check {
    let missing = snapshot.state == ClusterState::Joined
        && !snapshot.members.iter().any(|m| m.is_self && m.status != MemberStatus::Down);
    let reason = if missing {
        "this node is not among the running members of its own view -> restart the agent; if that \
         does not help, muster cluster leave and then muster cluster join"
    } else {
        "this node is in its own view"
    };
    Check::new("own_view", !missing, reason)
}

/// Who serves nobody new takes no new traffic.
fn draining(snapshot: &Snapshot) -> Check {
    let own = snapshot.members.iter().find(|member| member.is_self);
    match own.and_then(|own| own.draining.as_deref()) {
        None => Check::new("draining", true, "not draining"),
        Some("") => Check::new("draining", false, "this node is draining -> muster undrain"),
        Some(why) => {
            let reason = format!("this node is draining: {why} -> muster undrain");
            Check::new("draining", false, reason)
        }
    }
}

/// The broker next door, where this node is of no use without it.
fn broker(snapshot: &Snapshot) -> Check {
    let own = snapshot.members.iter().find(|member| member.is_self);
    let broker = own.and_then(|own| own.broker.as_ref());
    let (ok, reason) = match broker.map(|broker| (broker.status, &broker.detail)) {
        Some((BrokerStatus::Up, _)) => (true, "the broker answers".to_owned()),
        Some((BrokerStatus::Down, detail)) => {
            (false, format!("the broker is down: {detail} -> start it"))
        }
        Some((BrokerStatus::Unknown, _)) | None => {
            (false, "the broker was not looked at yet -> wait for its first probe".to_owned())
        }
    };
    Check::new("broker", ok, reason)
}

fn min_members(snapshot: &Snapshot, config: &Config) -> Check {
    let up = snapshot.nodes(|status| status == MemberStatus::Up).count();
    let wanted = config.agent.ready.min_members;
    let mut reason = format!("{up} up, {wanted} wanted");
    if up < wanted {
        reason.push_str(" -> start the missing agents, or lower agent.ready.min_members");
    }
    Check::new("min_members", up >= wanted, reason)
}

/// Nodes that discovery or the membership names, this one apart.
fn named(snapshot: &Snapshot) -> BTreeSet<&NodeName> {
    let members = snapshot.members.iter().map(|member| &member.node);
    let mut named: BTreeSet<_> = snapshot.discovery.nodes.iter().chain(members).collect();
    named.remove(&snapshot.self_node);
    named
}

/// A node that founded a cluster of its own, since it and all the others refuse each other,
/// is no part of what discovery describes.
fn peers(snapshot: &Snapshot) -> Check {
    let named = named(snapshot);
    let linked = |m: &&crate::view::Member| !m.is_self && m.link == LinkState::Connected;
    let links = snapshot.members.iter().filter(linked).count();
    let refusing: Vec<_> =
        snapshot.refusals.iter().filter(|refusal| named.contains(&refusal.node)).collect();
    let reason = match (named.len(), links, refusing.len()) {
        (0, ..) => "no other node is named".to_owned(),
        (count, 1.., _) => format!("{links} linked of {count} named"),
        (count, 0, 0) => format!("none linked of {count} named, and none refuses"),
        (count, 0, _) => {
            let texts: Vec<_> = refusing.iter().take(NAMED).map(|one| refused(one)).collect();
            let more = refusing.len().saturating_sub(NAMED);
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            format!("none linked of {count} named: {}{more}", texts.join("; "))
        }
    };
    Check::new("peers", links > 0 || refusing.is_empty(), reason)
}

/// What stands between two nodes, and the remedy.
fn refused(refusal: &Refusal) -> String {
    let Refusal { node, rule, text } = refusal;
    // What the membership says has the name in it already.
    let named = text.contains(node.as_str());
    let text = if named { text.clone() } else { format!("{node}: {text}") };
    format!("{text} -> {}", remedy(*rule))
}

/// What an operator does about a rule that stands between two nodes.
#[must_use]
pub fn remedy(rule: Rule) -> &'static str {
    match rule {
        Rule::Cookie => "give both nodes the same node.cookie",
        Rule::Certificate => {
            "renew the certificate, or put its CA into cacertfile, at the end that the text names"
        }
        Rule::ClusterName => {
            "give both nodes the same cluster.name, or stop naming this node to discovery"
        }
        Rule::Version => "bring both agents to one release",
        Rule::NodeName => "give every node a node.name of its own, and name it so everywhere",
        Rule::Carrier => {
            "give both nodes the same cluster.proto_dist, and leave the mesh port to muster alone"
        }
    }
}

#[cfg(test)]
mod tests;
