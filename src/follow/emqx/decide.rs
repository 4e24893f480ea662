//! Whether the broker beside this agent is to join another, and which: a pure function
//! of the membership and of what brokers say of themselves.
//!
//! Only a broker that is alone ever joins. Who is in a cluster of brokers already is
//! joined, and never joins; where nobody is, the first core by name is. Those who want in
//! take turns by name; every agent derives the order from the same facts. (Agents that see
//! different facts are kept apart by a lock at the seed, see [`super::driver`].)

use std::collections::{BTreeMap, BTreeSet};

use super::answers::Info;
use crate::attributes::BrokerStatus;
use crate::broker::DriveState;
use crate::node::{NodeName, Role};
use crate::view::{ClusterState, Member, MemberStatus, Snapshot};

/// What each broker that was asked said, or why it did not.
pub type Asked = BTreeMap<NodeName, Result<Info, Mute>>;

/// A broker that did not say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mute {
    /// It has no cluster application just now: it starts, or somebody has it join.
    pub restarting: bool,
    /// Why, in words.
    pub why: String,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, as things stand, and why.
    Stay(DriveState, Option<String>),
    /// Another broker's own view is needed first.
    Ask(NodeName),
    /// This broker joins that one.
    Join(NodeName),
}

fn waits(why: impl Into<String>) -> Step {
    Step::Stay(DriveState::Waiting, Some(why.into()))
}

/// Decides for the broker of this node, which says `own` of itself. `failures` is how
/// often its join has failed, `skip` how many brokers before it have let their turn pass.
#[must_use]
pub fn decide(view: &Snapshot, own: &Info, asked: &Asked, failures: usize, skip: usize) -> Step {
    let this = &view.self_node;
    if own.has_others(this) {
        return Step::Stay(DriveState::Joined, None);
    }
    if view.state != ClusterState::Joined {
        return waits("this agent is in no cluster yet");
    }
    if view.members.len() < 2 {
        return Step::Stay(DriveState::Joined, None);
    }
    let Some(me) = view.members.iter().find(|member| member.is_self) else {
        return waits("this agent is in no cluster");
    };
    if me.draining.is_some() {
        return waits("this node drains");
    }
    if !is_up(me) {
        return waits("the probe of this node's broker is not up");
    }
    if !view.majority {
        return waits("this side of the cluster has no majority of the cores");
    }
    let brokers: Vec<&Member> = view.members.iter().filter(|member| is_up(member)).collect();
    if brokers.len() < 2 {
        return waits("no other member's broker is up");
    }
    let survey = match Survey::take(&brokers, this, asked, skip) {
        Ok(survey) => survey,
        Err(step) => return step,
    };
    let seed = match survey.seed(this, asked, failures) {
        Ok(seed) => seed,
        Err(step) => return step,
    };
    if let Some(Ok(info)) = asked.get(&seed)
        && let Some(blocked) = stopped_member(view, &seed, info)
    {
        return blocked;
    }
    let mut before = survey.candidates.iter().filter(|name| **name < this && **name != &seed);
    match before.nth(skip) {
        Some(first) => waits(format!("{first} joins first")),
        None => Step::Join(seed),
    }
}

/// Up, with a broker whose probe is up.
fn is_up(member: &Member) -> bool {
    let up = member.broker.as_ref().is_some_and(|broker| broker.status == BrokerStatus::Up);
    up && member.status == MemberStatus::Up
}

/// Whether another broker may join it.
fn can_seed(member: &Member) -> bool {
    member.role == Role::Core && is_up(member) && member.serves()
}

/// Who is alone and who is not, by what was asked so far.
struct Survey<'a> {
    /// The first cluster of brokers by the name of its first serving core, if there is one.
    primary: Option<&'a NodeName>,
    /// Serving cores that are alone, by name; this node's may be among them.
    founders: Vec<&'a NodeName>,
    /// Brokers that are alone, or may be, and so want in; this node's is among them.
    candidates: BTreeSet<&'a NodeName>,
    /// Brokers that can seed.
    cores: BTreeSet<&'a NodeName>,
    /// Somebody that could not be asked, with the reason.
    unknown: Option<(&'a NodeName, &'a Mute)>,
}

impl<'a> Survey<'a> {
    /// Goes through the brokers by name until enough is known.
    fn take(
        brokers: &[&'a Member],
        this: &NodeName,
        asked: &'a Asked,
        skip: usize,
    ) -> Result<Self, Step> {
        let cores = brokers.iter().filter(|member| can_seed(member)).map(|m| &m.node).collect();
        let mut survey = Self {
            primary: None,
            founders: Vec::new(),
            candidates: BTreeSet::new(),
            cores,
            unknown: None,
        };
        for member in brokers {
            let node = &member.node;
            if let Some(Ok(cluster)) = survey.primary.and_then(|primary| asked.get(primary))
                && cluster.runs(node)
            {
                continue;
            }
            let alone = if node == this {
                true
            } else {
                match asked.get(node) {
                    None => return Err(Step::Ask(node.clone())),
                    Some(Ok(info)) => !info.has_others(node),
                    Some(Err(mute)) if mute.restarting && skip == 0 => {
                        // Perhaps into this cluster, by an agent that is gone since.
                        return Err(waits(format!(
                            "the broker of {node} starts or joins just now"
                        )));
                    }
                    Some(Err(mute)) => {
                        survey.unknown.get_or_insert((node, mute));
                        survey.candidates.insert(node);
                        continue;
                    }
                }
            };
            if alone {
                survey.candidates.insert(node);
                if can_seed(member) {
                    survey.founders.push(node);
                }
            } else if can_seed(member) && survey.primary.is_none() {
                survey.primary = Some(node);
            }
            // A founder and whoever joins it come before this node, whatever else there
            // is: no more has to be asked for that.
            let before = survey.candidates.iter().filter(|name| **name < this).count();
            if !survey.founders.is_empty() && before >= 2 + skip {
                return Err(waits("brokers before this one join first"));
            }
        }
        Ok(survey)
    }

    /// Whom to join.
    fn seed(&self, this: &NodeName, asked: &Asked, failures: usize) -> Result<NodeName, Step> {
        let Some(primary) = self.primary else {
            // Who cannot be asked may be in a cluster: a second one must not be founded.
            if let Some((node, mute)) = self.unknown {
                return Err(cannot_be_asked(node, mute));
            }
            return match self.founders.first() {
                Some(founder) if *founder == this => Err(Step::Stay(DriveState::Waiting, None)),
                Some(founder) => Ok((*founder).clone()),
                None => Err(waits("no core's broker serves")),
            };
        };
        let Some(Ok(info)) = asked.get(primary) else { return Ok(primary.clone()) };
        if info.runs(this) {
            return Err(waits(format!("{primary} lists this broker as running already")));
        }
        // Any core of the same cluster will do where the first one failed.
        let seeds: Vec<&NodeName> =
            self.cores.iter().filter(|core| info.runs(core)).copied().collect();
        let seed = seeds.get(failures % seeds.len().max(1)).copied().unwrap_or(primary);
        match asked.get(seed) {
            None => Err(Step::Ask(seed.clone())),
            Some(Ok(info)) if info.runs(primary) => Ok(seed.clone()),
            Some(Ok(_)) => Err(waits(format!("the brokers of {primary} and {seed} disagree"))),
            Some(Err(mute)) => Err(cannot_be_asked(seed, mute)),
        }
    }
}

fn cannot_be_asked(node: &NodeName, mute: &Mute) -> Step {
    waits(format!("the broker of {node} cannot be asked: {}", mute.why))
}

/// With some of Mnesia's storage types a join spoils the tables of whoever is stopped:
/// that broker would not start any more.
fn stopped_member(view: &Snapshot, seed: &NodeName, info: &Info) -> Option<Step> {
    let member = view.members.iter().find(|m| info.stopped.contains(m.node.as_str()))?;
    let stopped = &member.node;
    let why = if member.is_self {
        format!(
            "the brokers of {seed} still list this broker as stopped, and it knows nothing of \
             them (is its data directory new?): remove it there with \
             `emqx ctl cluster force-leave {stopped}`"
        )
    } else {
        format!(
            "{stopped} is stopped in the cluster of {seed}: start that broker, or, if it is gone \
             for good, remove it with `emqx ctl cluster force-leave {stopped}` there and \
             `muster cluster force-leave {stopped}` here"
        )
    };
    Some(Step::Stay(DriveState::Blocked, Some(why)))
}

#[cfg(test)]
mod tests;
