//! What this node says of itself, and how it answers what others say of it: accusations,
//! its removal, and another process under its name.

use std::time::Duration;

use rand::RngExt;

use super::learn::Manner;
use super::limits::Limit;
use super::message::{ByeCode, Message};
use super::record::{Epoch, Health, Reason, Record, Standing};
use super::table::Origin;
use super::{Effect, Membership, Note};
use crate::node::{BootId, Incarnation, LinkId, NodeName};

/// Other process lives under this node's name that are remembered: more than one at a time
/// is an accident, more than these a lie.
pub(super) const MAX_RIVALS: usize = 16;

impl Membership {
    /// A statement about this node. What is better than what we say must be answered.
    pub(super) fn hear_of_self(&mut self, now: Duration, record: &Record) {
        if self.stopping || !record.supersedes(&self.me) {
            return;
        }
        match record.standing {
            Standing::Member(health) => {
                if self.me.standing == Standing::Left {
                    // Said before we left, in an epoch we had lost with our disk.
                    self.me.epoch = Epoch(record.epoch.0);
                    self.set_me(now);
                } else if record.boot == self.me.boot {
                    let accused = health == Health::Suspect || health == Health::Down;
                    if accused && !self.is_silent(&record.by) {
                        self.detector.ill();
                    }
                    self.answer(now, record, Reason::Refuted);
                } else {
                    self.hear_of_rival(now, record);
                }
            }
            _ if self.me.standing == Standing::Left => {
                self.me.epoch = record.epoch;
                self.me.burial = record.burial;
                self.set_me(now);
            }
            Standing::ForceLeft if record.boot == self.me.boot => {
                self.me.epoch = record.epoch;
                self.become_left(now, Reason::ForceLeft);
            }
            standing if self.settings.automatic || standing == Standing::Autocleaned => {
                self.rejoin(now, record.epoch, record.incarnation);
            }
            _ => {
                self.me.epoch = record.epoch;
                self.become_left(now, record.reason());
            }
        }
    }

    /// Whether a member does not answer us either: its word is no reason to doubt ourselves.
    fn is_silent(&self, node: &NodeName) -> bool {
        let suspect = self.table.member(node).is_some_and(|r| r.health() == Some(Health::Suspect));
        suspect || self.links.active(node).is_some_and(|(_, link)| link.is_in_trouble)
    }

    /// Says of ourselves what beats `record`.
    fn answer(&mut self, now: Duration, record: &Record, reason: Reason) {
        self.me.epoch = self.me.epoch.max(record.epoch);
        self.me.incarnation = self.me.incarnation.max(record.incarnation).next();
        self.me.reason = Some(reason);
        self.set_me(now);
        self.announce(now);
    }

    /// Another process life under our name. Its last words are answered once; if it
    /// answers back it lives, and the newcomer of the two gives way.
    fn hear_of_rival(&mut self, now: Duration, record: &Record) {
        let answered = self.rivals.get(&record.boot).copied();
        let up = record.health() == Some(Health::Up);
        let lives = up && answered.is_some_and(|ours| record.incarnation > ours);
        let established = self
            .joined_at
            .is_some_and(|at| now.saturating_sub(at) >= self.settings.timing.established);
        if lives
            && (!established
                || (record.boot > self.me.boot
                    && answered.is_some_and(|ours| record.incarnation.0 > ours.0 + 4)))
        {
            let text = format!(
                "another live process (boot {}) uses the node name {}",
                record.boot, self.me.node
            );
            // The same words again are no further sign of life: it may be gone by then.
            self.remember_rival(now, record.boot, record.incarnation);
            self.yield_name(now, &text);
            return self.step_aside(now, &text);
        }
        self.answer(now, record, Reason::Restarted);
        self.remember_rival(now, record.boot, self.me.incarnation);
    }

    fn remember_rival(&mut self, now: Duration, boot: BootId, incarnation: Incarnation) {
        self.rivals.insert(boot, incarnation);
        if self.rivals.len() > MAX_RIVALS {
            // The one that spoke longest ago: each is answered with a higher incarnation.
            let oldest = self.rivals.iter().min_by_key(|(_, answered)| **answered);
            if let Some(boot) = oldest.map(|(boot, _)| *boot) {
                self.rivals.remove(&boot);
            }
            self.reached(now, Limit::Rivals);
        }
    }

    /// Gives way to the process that holds our name.
    pub(super) fn yield_name(&mut self, now: Duration, text: &str) {
        self.conflict_at = now;
        if self.conflict.as_deref() != Some(text) {
            self.conflict = Some(text.to_owned());
            self.note(Note::Conflict(Some(text.to_owned())));
        }
    }

    /// Leaves the links to the other process, and tries again much later.
    fn step_aside(&mut self, now: Duration, text: &str) {
        let peers: Vec<NodeName> =
            self.links.all_active().map(|(_, link)| link.peer.clone()).collect();
        for peer in peers {
            let later = self.settings.timing.redial_refused;
            self.links.plan(&peer, now + later.mul_f64(self.rng.random_range(0.7..1.3)));
        }
        self.detach(ByeCode::Other, text);
    }

    /// Closes every link.
    pub(super) fn detach(&mut self, code: ByeCode, text: &str) {
        let open: Vec<LinkId> = self.links.all_active().map(|(key, _)| key).collect();
        for key in open {
            self.bye(key, code, text.to_owned());
        }
    }

    /// Puts what we say of ourselves into the table.
    pub(super) fn set_me(&mut self, now: Duration) {
        self.me.attributes = self.own_attributes();
        let me = self.me.clone();
        self.table.apply(now, &me, &Origin::Known);
        self.durable_changed();
        self.view_changed(now);
    }

    /// Tells every linked member at once, and the rest by gossip, what we say of ourselves.
    pub(super) fn announce(&mut self, now: Duration) {
        let me = self.me.clone();
        self.tell_all(&me);
        self.rumours.push(&me, Manner::Told);
        for (key, _) in self.links.all_active() {
            self.rumours.passed(&me, key);
        }
        self.gossip_soon(now, false);
    }

    /// Sends a statement over every link.
    pub(super) fn tell_all(&mut self, record: &Record) {
        let frame = Message::Gossip { id: self.id, news: vec![record.clone()] }.encode();
        let open: Vec<LinkId> = self.links.all_active().map(|(key, _)| key).collect();
        for key in open {
            self.effects.push_back(Effect::Send(key, frame.clone()));
        }
    }

    /// Joins (again) in an epoch above the one that ended, with an incarnation above any
    /// that others know.
    pub(super) fn rejoin(&mut self, now: Duration, ended: Epoch, known: Incarnation) {
        self.me.epoch = self.me.epoch.max(ended).next();
        self.me.incarnation = self.me.incarnation.max(known).next();
        self.me.standing = Standing::Member(Health::Up);
        self.me.reason = Some(Reason::Announced);
        self.me.by = self.me.node.clone();
        self.me.burial = 0;
        self.ring.insert(&self.me.node.clone());
        self.set_me(now);
        self.announce(now);
    }
}
