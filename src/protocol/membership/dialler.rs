//! Whom to dial when, and what a dial that failed tells.

use std::time::Duration;

use rand::RngExt;
use rand::seq::SliceRandom;

use super::links::{DialFailure, Dialing, Phase};
use super::message::Intent;
use super::record::{Reason, Record};
use super::{Effect, Membership, Note};
use crate::backoff::Backoff;
use crate::node::{LinkId, NodeName};

/// Dials under way at once: a full mesh's worth.
pub(super) const MAX_DIALS: usize = 64;

/// Of these, as many to members that no link has proven.
pub(super) const MAX_UNPROVEN_DIALS: usize = 8;

/// Contacts dialled together where there are more than make a full mesh: a few members
/// tell of all the others.
const CONTACTS: usize = 8;

impl Membership {
    /// Plans the dials of nodes that discovery has newly named: a few at a time where they
    /// are many, each node another few.
    pub(super) fn plan_contacts(&mut self, now: Duration, mut fresh: Vec<NodeName>) {
        let mut at_once = fresh.len().max(1);
        if fresh.len() > self.settings.full_mesh_limit {
            at_once = CONTACTS;
            fresh.shuffle(&mut self.rng);
        }
        let mut at = now;
        for wave in fresh.chunks(at_once) {
            for node in wave {
                self.links.plan(node, at);
            }
            at += self.settings.timing.contact_pause;
        }
    }

    /// Whoever has no link yet does not wait with the next contact.
    fn hurry(&mut self, now: Duration) {
        if self.links.all_active().next().is_none()
            && let Some(next) = self.links.next_untried(now)
        {
            self.links.plan(&next, now);
        }
    }

    /// A dial attempt failed.
    pub fn handle_dial_failed(&mut self, now: Duration, node: &NodeName, failure: &DialFailure) {
        self.notice_lag(now);
        self.links.end_dial(node);
        let state = self.links.peer(node);
        state.tried = true;
        if *failure != DialFailure::Yield {
            state.failed_at = Some(now);
            self.doubt_existence(node);
        }
        let is_running = self.table.member(node).is_some_and(Record::is_running);
        let state = self.links.peer(node);
        state.is_followed &= is_running;
        let evidence = *failure == DialFailure::Refused && std::mem::take(&mut state.trust_refusal);
        if evidence && self.links.active(node).is_none() {
            self.declare_down(now, node, Reason::Refused);
        }
        match failure {
            DialFailure::Refused => self.complain(node, None, None),
            DialFailure::Unreachable(text) | DialFailure::Rejected(text) => {
                let text = format!("cannot connect to {node}: {text}");
                self.complain(node, None, Some(text));
            }
            DialFailure::Yield => {}
        }
        self.fail_requests(node, failure);
        match failure {
            DialFailure::Yield => self.links.plan(node, now + self.settings.timing.redial_min * 2),
            DialFailure::Refused if self.can_wait_for(node) => {
                let rarely = self.settings.timing.redial_refused;
                self.links.plan(node, now + rarely.mul_f64(self.rng.random_range(0.5..1.0)));
            }
            _ => self.redial_later(now, node),
        }
        self.hurry(now);
        self.dial_due(now);
        self.consider_founding(now);
    }

    /// Whether a node that refused a connection dials us when it is back: no process listens
    /// there, and whoever starts dials those it knows. Of many that start one after another
    /// each would otherwise dial all that are still to come again and again.
    fn can_wait_for(&self, node: &NodeName) -> bool {
        let is_asked = self.links.peers.get(node).is_some_and(|peer| peer.intent != Intent::Meet);
        let has_company = self.links.all_active().next().is_some();
        has_company && !is_asked && self.wants(node)
    }

    /// A member that no link has proven could not be dialled: it takes no place among
    /// those who link to each other, until it is heard or tried again.
    fn doubt_existence(&mut self, node: &NodeName) {
        let running = self.table.member(node).is_some_and(Record::is_running);
        if running && self.table.is_unproven(node) && self.doubtful.insert(node.clone()) {
            self.ring.remove(node);
        }
    }

    /// Notes a refusal or failure once, until it changes or a link comes up.
    pub(super) fn complain(&mut self, node: &NodeName, key: Option<LinkId>, text: Option<String>) {
        let state = self.links.peer(node);
        if text.is_some() && state.complaint != text {
            state.complaint.clone_from(&text);
            if let Some(text) = text {
                self.note(Note::TheyRefused(node.clone(), key, text));
            }
        }
    }

    pub(super) fn redial_later(&mut self, now: Duration, node: &NodeName) {
        if !self.wants(node) {
            self.links.forget(node);
            return;
        }
        let delay = self.backoff(node);
        self.links.plan(node, now + delay);
    }

    /// Exponential backoff with full jitter in its upper half.
    fn backoff(&mut self, node: &NodeName) -> Duration {
        let timing = self.settings.timing;
        let state = self.links.peer(node);
        let before = state.failures;
        state.failures = before.saturating_add(1);
        let first = if state.is_followed { timing.redial_follow } else { timing.redial_min };
        Backoff::new(first, timing.redial_max).jittered(before, (0.5, 1.0), &mut self.rng)
    }

    /// Dials whoever is due and still wanted.
    pub(super) fn dial_due(&mut self, now: Duration) {
        while self.links.dialing < MAX_DIALS
            && let Some(node) = self.links.pop_due(now)
        {
            let is_unproven = self.table.is_unproven(&node);
            if is_unproven && self.links.dialing_unproven >= MAX_UNPROVEN_DIALS {
                let later =
                    self.settings.timing.redial_min.mul_f64(self.rng.random_range(0.5..2.0));
                self.links.plan(&node, now + later);
                continue;
            }
            let wanted = self.wants(&node) && self.links.active(&node).is_none();
            if wanted && self.greeting(now, &node) {
                self.links.plan(&node, now + self.settings.timing.redial_min * 2);
                continue;
            }
            if wanted && self.links.peer(&node).dialing == Dialing::No {
                self.links.begin_dial(&node, is_unproven);
                self.effects.push_back(Effect::Dial(node));
            } else if !wanted && self.table.member(&node).is_none() {
                self.links.forget(&node);
            }
        }
        if self.links.dialing >= MAX_DIALS
            && let Some(at) = self.links.next_due()
            && at <= now
            && let Some(node) = self.links.pop_due(now)
        {
            // Wait for a free place without spinning.
            self.links.plan(&node, now + self.settings.timing.redial_min);
        }
    }

    /// Whether a link to a node is open and its hello may still come.
    fn greeting(&self, now: Duration, node: &NodeName) -> bool {
        self.links.links.values().any(|link| {
            link.peer == *node
                && match link.phase {
                    Phase::Silent => {
                        now.saturating_sub(link.up_at) < self.settings.timing.hello_timeout
                    }
                    Phase::Contested(_) => true,
                    Phase::Active | Phase::Closing => false,
                }
        })
    }
}
