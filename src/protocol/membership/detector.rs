//! What is under way to find out who is there: probes, suspicions, favours for others, and
//! this node's doubts about itself. It decides by what it is told; `probe` asks and tells.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::cut_off::CutOff;
use crate::node::{LinkId, NodeName};

/// Worst local health; time-outs grow by half for each point.
pub(super) const MAX_ILLNESS: u32 = 6;

#[derive(Clone, Debug)]
pub(super) struct Probe {
    pub target: NodeName,
    pub started: Duration,
    pub deadline: Duration,
    pub stage: Stage,
    /// Who was asked to help.
    pub helpers: Vec<LinkId>,
    /// Whether any helper said anything.
    pub answered: bool,
    /// Whether a helper reached the target.
    pub alive: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It was asked over its link.
    Direct,
    /// Others were asked to ask it.
    Indirect,
    /// It says something, and answers nothing: it is given more time than who is silent.
    Patient,
}

#[derive(Clone, Debug)]
pub(super) struct Suspicion {
    pub started: Duration,
    pub deadline: Duration,
    pub accusers: BTreeSet<NodeName>,
    /// Whether the suspect answered something of ours that was asked since then.
    pub is_answered: bool,
}

/// A probe made for somebody else.
#[derive(Clone, Debug)]
pub(super) struct Favour {
    pub asker: LinkId,
    pub seq: u64,
    pub target: NodeName,
    pub deadline: Duration,
}

/// The holder of a name is asked for a sign of life.
#[derive(Clone, Debug)]
pub(super) struct Challenge {
    pub newcomer: LinkId,
    pub deadline: Duration,
}

/// What is known when a probe's time is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Whether the member may still be probed: it runs, and this node watches over it.
    pub is_watched: bool,
    /// Whether it answered anything of this node's since the probe began.
    pub has_answered: bool,
    /// Whether anything came from it since then.
    pub was_heard: bool,
}

/// What becomes of a probe whose time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is no longer asked for.
    Moot,
    /// The member is there.
    Answered,
    /// The member answers others: it is there, and the link to it may be broken.
    ReachedByOthers,
    /// Others are to ask it.
    AskOthers,
    /// It says something, and answers nothing yet: once more.
    AskAgain,
    /// It is silent.
    Silent,
}

impl Probe {
    /// A probe that begins now.
    pub(super) fn new(target: NodeName, now: Duration) -> Self {
        Self {
            target,
            started: now,
            deadline: now,
            stage: Stage::Direct,
            helpers: Vec::new(),
            answered: false,
            alive: false,
        }
    }

    /// What becomes of it, its time being over.
    pub(super) fn outcome(&self, seen: Seen) -> Outcome {
        match self.stage {
            _ if seen.has_answered => Outcome::Answered,
            // A link that neither side needed may have been closed over the probe: those who
            // have links to the member watch over it, and we could only accuse it of that.
            _ if !seen.is_watched => Outcome::Moot,
            _ if self.alive => Outcome::ReachedByOthers,
            Stage::Direct => Outcome::AskOthers,
            Stage::Indirect if seen.was_heard => Outcome::AskAgain,
            Stage::Indirect | Stage::Patient => Outcome::Silent,
        }
    }
}

/// Everything under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Detector {
    pub next_seq: u64,
    /// When each ping left, for round trips; pruned by age.
    pub sent: BTreeMap<u64, (LinkId, Duration)>,
    pub probes: BTreeMap<u64, Probe>,
    pub suspicions: BTreeMap<NodeName, Suspicion>,
    pub favours: BTreeMap<u64, Favour>,
    pub challenges: BTreeMap<u64, Challenge>,
    /// Who still has a turn to be probed in this round, shuffled.
    pub order: Vec<NodeName>,
    pub illness: u32,
    /// Set once nobody at all answers.
    pub cut_off: Option<CutOff>,
}

impl Detector {
    pub(super) fn seq(&mut self) -> u64 {
        self.next_seq += 1;
        self.next_seq
    }

    pub(super) fn next_deadline(&self) -> Option<Duration> {
        let probes = self.probes.values().map(|probe| probe.deadline);
        let suspicions = self.suspicions.values().map(|suspicion| suspicion.deadline);
        let favours = self.favours.values().map(|favour| favour.deadline);
        let challenges = self.challenges.values().map(|challenge| challenge.deadline);
        probes.chain(suspicions).chain(favours).chain(challenges).min()
    }

    /// A new record of the member replaces what was thought of it.
    pub(super) fn forget(&mut self, node: &NodeName) {
        self.suspicions.remove(node);
    }

    pub(super) fn clear(&mut self) {
        self.cut_off = None;
        self.probes.clear();
        self.suspicions.clear();
        self.order.clear();
    }

    /// This node has reason to doubt itself.
    pub(super) fn ill(&mut self) {
        self.illness = (self.illness + 1).min(MAX_ILLNESS);
    }

    pub(super) fn well(&mut self) {
        self.illness = self.illness.saturating_sub(1);
    }

    pub(super) fn scaled(&self, time: Duration) -> Duration {
        time + time * self.illness / 2
    }

    pub(super) fn challenge(&mut self, newcomer: LinkId, deadline: Duration) -> u64 {
        let seq = self.seq();
        self.challenges.insert(seq, Challenge { newcomer, deadline });
        seq
    }

    pub(super) fn end_challenge(&mut self, newcomer: LinkId) {
        self.challenges.retain(|_, challenge| challenge.newcomer != newcomer);
    }

    pub(super) fn is_probing(&self, node: &NodeName) -> bool {
        self.probes.values().any(|probe| probe.target == *node)
    }
}

#[cfg(test)]
mod tests;
