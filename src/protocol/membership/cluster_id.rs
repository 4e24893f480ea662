//! Which cluster this node belongs to: founded, found, joined, or moved to.

use std::time::Duration;

use rand::RngExt;

use super::message::{ByeCode, Hello, Intent, Message};
use super::record::{Epoch, Reason, Record, Standing};
use super::{Effect, Membership, Note};
use crate::node::{ClusterId, Incarnation, LinkId};

impl Membership {
    /// Settles which cluster both belong to from now on. True: the peer is still in
    /// another one and about to move; until it says so itself it is no member of ours,
    /// since it may end before it does.
    pub(super) fn agree_on_id(
        &mut self,
        now: Duration,
        key: LinkId,
        mine: Intent,
        hello: &Hello,
    ) -> bool {
        let known = hello.you.as_ref().map(|you| (you.epoch, you.incarnation));
        let (ended, incarnation) = known.unwrap_or_default();
        let we_move = match (mine, hello.intent) {
            (Intent::Join, Intent::Join) | (Intent::Invite, Intent::Invite) => {
                // Who is nowhere joins who is somewhere; else the smaller id is kept.
                let nowhere = self.me.standing == Standing::Left;
                nowhere || (hello.me.is_member() && hello.id < self.id)
            }
            (Intent::Join, _) | (_, Intent::Invite) => true,
            _ => false,
        };
        // Automatic clusters of one name are one cluster: nobody leaves anybody.
        let merge = self.settings.automatic && hello.automatic;
        if let Some(theirs) = hello.id {
            match self.id {
                None => self.adopt(now, theirs),
                Some(own) if merge => self.adopt(now, own.min(theirs)),
                Some(own) if own != theirs && we_move => {
                    self.move_to(now, key, theirs, ended, incarnation);
                }
                Some(_) => {}
            }
        }
        if we_move && self.me.standing == Standing::Left {
            self.discovery_off = false;
            self.rejoin(now, ended, incarnation);
            self.effects.push_back(Effect::Discovery(true));
        }
        let they_move = !we_move && (hello.intent == Intent::Join || mine == Intent::Invite);
        they_move && !merge && hello.id.is_some_and(|theirs| self.id != Some(theirs))
    }

    /// An id told over a link: automatic clusters that meet take the smaller one.
    pub(super) fn hear_id(&mut self, now: Duration, id: Option<ClusterId>) {
        let Some(theirs) = id else { return };
        if self.me.standing == Standing::Left {
            return;
        }
        if self.id.is_none() || (self.settings.automatic && self.id.is_some_and(|own| theirs < own))
        {
            self.adopt(now, theirs);
        }
    }

    /// Takes an id and tells the neighbours.
    pub(super) fn adopt(&mut self, now: Duration, id: ClusterId) {
        if self.id == Some(id) {
            return;
        }
        self.id = Some(id);
        self.joined_at.get_or_insert(now);
        self.durable_changed();
        self.view_changed(now);
        self.note(Note::Joined(id));
        self.tell_view();
    }

    /// Leaves the cluster this node was in for that of a peer, on an operator's word.
    fn move_to(
        &mut self,
        now: Duration,
        key: LinkId,
        id: ClusterId,
        ended: Epoch,
        known: Incarnation,
    ) {
        let left = self.tombstone(&self.me, Standing::Left, Reason::Left, &self.me.node);
        self.tell_others(key, &left);
        let others: Vec<LinkId> =
            self.links.all_active().map(|(other, _)| other).filter(|other| *other != key).collect();
        for other in others {
            self.bye(other, ByeCode::Left, format!("{} joined another cluster", self.me.node));
        }
        self.forget_everybody();
        self.id = None;
        self.adopt(now, id);
        self.rejoin(now, ended, known);
    }

    fn tell_others(&mut self, key: LinkId, record: &Record) {
        let message = Message::Gossip { id: self.id, news: vec![record.clone()] };
        let others: Vec<LinkId> =
            self.links.all_active().map(|(other, _)| other).filter(|other| *other != key).collect();
        for other in others {
            self.send(other, &message);
        }
    }

    /// A cluster is founded when everybody whom discovery named was tried, or of many is
    /// known to run, or the grace is over, and nobody linked is the one to do it.
    pub(super) fn consider_founding(&mut self, now: Duration) {
        if self.id.is_some() || self.me.standing == Standing::Left || self.conflict.is_some() {
            return;
        }
        let Some(answered) = self.answered_at else { return };
        let grace_over = now.saturating_sub(answered) >= self.settings.timing.founding_grace;
        let mut tried = true;
        let mut alone = true;
        for (node, peer) in &self.links.peers {
            if peer.link.is_some() {
                alone = false;
                if *node < self.me.node && !grace_over {
                    return;
                }
            }
            tried &= !peer.contact
                || peer.tried
                || peer.link.is_some()
                || (!self.is_full_mesh()
                    && self.table.member(node).is_some_and(Record::is_running));
        }
        let nobody_named = self.discovered.is_empty();
        if grace_over || (tried && !alone) || nobody_named {
            let id = self.fresh_id();
            self.adopt(now, id);
        }
    }

    /// A random id for a new cluster.
    pub(super) fn fresh_id(&mut self) -> ClusterId {
        ClusterId(self.rng.random())
    }
}
