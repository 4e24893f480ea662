//! What a node that nobody answers finds out of the others it keeps to itself.
//!
//! It shows them down, as fast as they show it down. But whoever hears it say so in the end
//! would hear of its own silence, not of theirs: beyond the full mesh such a word is believed
//! until it is answered. So nobody is told, and as soon as anybody answers all of it is void.
//! Who was suspect is what it was before. Who was down is known as after a restart: a member
//! that shows as down until it, or anybody, says that it is up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Membership;
use super::learn::{Held, Manner};
use super::record::{Health, Reason, Record, Standing};
use super::table::Origin;
use crate::node::NodeName;

/// This node cannot reach anybody.
#[derive(Clone, Debug)]
pub(super) struct CutOff {
    /// Since when nobody has answered.
    since: Duration,
    /// How many members it accused at once.
    accused: usize,
    /// Whether it has given up those too that it held no link to.
    gave_up: bool,
    /// What was held of those whom it found silent since, and told nobody of.
    pub(super) untold: BTreeMap<NodeName, Record>,
}

impl Membership {
    /// Nobody has answered since then, and so many are accused at once.
    pub(super) fn is_cut_off(&mut self, since: Duration, accused: usize) {
        let untold = BTreeMap::new();
        self.detector.cut_off.get_or_insert(CutOff { since, accused, gave_up: false, untold });
    }

    /// What was held of a member before, if nobody is told what is held of it.
    pub(super) fn before_cut_off(&self, node: &NodeName) -> Option<&Record> {
        self.detector.cut_off.as_ref()?.untold.get(node)
    }

    /// Most of those to whom this node holds links have been silent for as long as a
    /// suspicion takes. If nobody at all answered meanwhile, then it is cut off from the rest
    /// too: from those who once took long to answer, and those to whom it holds no link.
    pub(super) fn give_up_the_rest(&mut self, now: Duration) {
        let Some(&CutOff { since, accused, gave_up: false, .. }) = self.detector.cut_off.as_ref()
        else {
            return;
        };
        if !self.nobody_answers(since) {
            return self.back_in_touch(now);
        }
        let others = || self.table.members().filter(|r| r.is_running() && r.node != self.me.node);
        let held = others().filter(|record| self.links.active(&record.node).is_some()).count();
        if held * 2 > accused {
            return;
        }
        let rest: Vec<NodeName> = others().map(|record| record.node.clone()).collect();
        if let Some(cut_off) = &mut self.detector.cut_off {
            cut_off.gave_up = true;
        }
        for node in rest {
            self.declare_down(now, &node, Reason::Silent);
        }
    }

    /// Holds what this node found out of another by its silence. Without `cluster.autoheal` it
    /// is told also by who is cut off, and stands: it is what keeps the two apart.
    pub(super) fn hold_found(&mut self, now: Duration, record: &Record) -> Held {
        let is_new = self.would_be_new(record);
        match (&mut self.detector.cut_off, self.table.get(&record.node)) {
            (Some(cut_off), Some(held)) if self.settings.autoheal => {
                if is_new {
                    cut_off.untold.entry(record.node.clone()).or_insert_with(|| held.clone());
                }
                self.hold_from(now, record, &Origin::Known, Manner::Repaired)
            }
            _ => self.hold(now, record),
        }
    }

    /// Somebody answers again.
    pub(super) fn back_in_touch(&mut self, now: Duration) {
        let Some(cut_off) = self.detector.cut_off.take() else { return };
        for (node, before) in cut_off.untold {
            let Some(held) = self.table.member(&node).cloned() else { continue };
            let life = |r: &Record| (r.epoch, r.incarnation, r.boot);
            if life(&held) != life(&before) || held.by != self.me.node {
                continue;
            }
            let known = match held.is_running() {
                true => before,
                false => {
                    let unknown = Standing::Member(Health::Unknown);
                    before.with(unknown, Reason::Unseen, &self.me.node)
                }
            };
            self.table.put_back(now, &known);
            self.changed(now, Some(&held), &known);
        }
    }
}
