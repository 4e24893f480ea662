//! Statements are heard, weighed and applied.

use std::time::Duration;

use rand::RngExt;

use super::door::{Admitted, Known, Unfit, admit};
use super::limits::Limit;
use super::message::{ByeCode, Intent, Message};
use super::record::{Health, Reason, Record, Standing};
use super::table::{Applied, Origin};
use super::tellers::Trust;
use super::{Effect, Membership, News, Note};
use crate::node::{LinkId, NodeName};

/// How a record was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Manner {
    /// As news: to be told on.
    Told,
    /// Where views were compared: most of the others know it, or compare theirs too.
    Compared,
    /// The same, with a peer that has told enough: it is not told on.
    Repaired,
}

/// What became of a record that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Held {
    /// It, or what it adds, is held now.
    New,
    /// It was held already.
    Known,
    /// Better is held, or there is no room.
    Dropped,
}

/// Members that are asked at once whether what others say of them is true, and how many more
/// in a second: each costs a link, which stands until neither side has needed it for a while.
pub(super) const DOUBTS: u32 = 16;
const DOUBTS_PER_SECOND: u32 = 2;

/// So often a member is told what others hold of it: no more than it hears from an honest one.
const CONFRONTED_EVERY: Duration = Duration::from_secs(5);

/// A link that brought anything within this is better evidence than hearsay.
const FRESH: Duration = Duration::from_millis(1500);

impl Membership {
    /// Hears what came over a link: each statement goes through the door first.
    pub(super) fn hear(&mut self, now: Duration, key: LinkId, claims: Vec<Record>, manner: Manner) {
        let Some(speaker) = self.links.links.get(&key).map(|link| link.peer.clone()) else {
            return;
        };
        let is_only = self.is_only_teller(now, &speaker, claims.len());
        for claim in claims {
            let linked = self.links.active(&claim.node);
            let heard = linked.filter(|(_, link)| now.saturating_sub(link.heard) < FRESH);
            let believed = linked
                .filter(|_| manner == Manner::Compared)
                .map(|(to_itself, _)| (to_itself, claim.clone()));
            let known = Known {
                speaker: &speaker,
                is_me: claim.node == self.me.node,
                held: self.table.get(&claim.node),
                linked: heard.and_then(|(_, link)| link.boot),
                burials: self.table.next_burial(),
                vouched: self.links.vouched(&claim.node),
            };
            let node = claim.node.clone();
            let unfit = match admit(claim, known) {
                Ok(admitted) => {
                    if admitted.is_capped {
                        self.reached(now, Limit::Numbers);
                    }
                    self.learn(now, (&speaker, key), admitted, manner, is_only);
                    continue;
                }
                Err(unfit) => unfit,
            };
            if unfit == Unfit::Numbers {
                self.reached(now, Limit::Numbers);
                self.ask_itself(now, &node);
            }
            if let Some((to_itself, claim)) = believed {
                self.confront(now, to_itself, claim);
            }
        }
    }

    /// Others hold of a member what it would have told this node itself, and hold it for good
    /// where they have no link to it: it is told, and answers them all. Now and then, since it
    /// may be told so by all who are linked to it, and takes it for what they tell.
    fn confront(&mut self, now: Duration, to_itself: LinkId, claim: Record) {
        let is_ahead = self.table.get(&claim.node).is_none_or(|held| claim.supersedes(held));
        let Some(link) = self.links.links.get_mut(&to_itself).filter(|_| is_ahead) else { return };
        let is_due = link.confronted.is_none_or(|at| now.saturating_sub(at) >= CONFRONTED_EVERY);
        if is_due && self.doubts.take(now, DOUBTS_PER_SECOND) {
            link.confronted = Some(now);
            self.send(to_itself, &Message::Gossip { id: self.id, news: vec![claim] });
        }
    }

    /// What others say of a node is hard to believe: it is dialled, and believed itself.
    /// So is one that was down or removed, once: it may have come back since. And one of which
    /// nothing is held: a liar may have driven the numbers of a member that all others know.
    /// Names that somebody makes up leave half of the asking to those that are held.
    fn ask_itself(&mut self, now: Duration, node: &NodeName) {
        let is_held = self.table.get(node).is_some();
        let is_known = *node == self.me.node || self.links.is_sought(node);
        if is_known
            || (!is_held && self.doubts.is_low(now, DOUBTS_PER_SECOND))
            || !self.doubts.take(now, DOUBTS_PER_SECOND)
        {
            return;
        }
        self.links.peer(node).is_followed = true;
        self.links.plan(node, now + self.settings.timing.redial_min);
    }

    /// Learns a statement that was let in.
    fn learn(
        &mut self,
        now: Duration,
        (speaker, over): (&NodeName, LinkId),
        said: Admitted,
        manner: Manner,
        is_only: bool,
    ) {
        let is_new = self.table.get(&said.record().node).is_none();
        let record = said.into_record();
        let is_own = record.node == *speaker;
        let is_mine = record.node == self.me.node;
        // Whatever one member brought an operator removes in one go; there is no more of it
        // than was let in.
        let is_held = self.table.member(&record.node).is_some();
        let is_removal = !record.is_member() && is_held && self.table.is_unproven(&record.node);
        let is_free = is_own || is_removal;
        let matter = self.matter(&record, manner);
        let trust = match self.trust(now, speaker, matter, is_only) {
            _ if is_free => Trust::Whole,
            Trust::Spent | Trust::Lost if is_mine && self.must_object(now, &record) => Trust::Whole,
            trust => trust,
        };
        let manner = match (trust, manner) {
            (Trust::Whole, _) => manner,
            (Trust::Spent, Manner::Compared) if !is_mine => Manner::Repaired,
            _ if self.would_be_new(&record) => {
                if manner == Manner::Told {
                    self.told_by(now, speaker, matter);
                }
                return self.reached(now, Limit::News);
            }
            _ => manner,
        };
        if is_mine {
            if record.supersedes(&self.me) {
                self.told_by(now, speaker, matter);
            }
            self.rumours.passed(&record, over);
            return self.hear_of_self(now, &record);
        }
        if self.me.standing == Standing::Left {
            return;
        }
        let mut origin = Origin::Known;
        if is_new && !is_own && !self.is_named(&record.node) {
            if record.is_member() && !self.may_grow(now) {
                return self.reached(now, Limit::Unproven);
            }
            origin = Origin::Brought(speaker.clone());
        }
        let record = self.weigh(now, record);
        match self.hold_from(now, &record, &origin, manner) {
            Held::Known => {
                self.confirmed(now, &record);
                self.rumours.passed(&record, over);
            }
            Held::New => {
                self.rumours.passed(&record, over);
                if !is_free {
                    self.told_by(now, speaker, matter);
                }
            }
            Held::Dropped => {}
        }
    }

    /// How many members there are but for those that somebody may have made up.
    pub(super) fn proven_count(&self) -> usize {
        self.table.member_count() - self.table.unproven_count()
    }

    pub(super) fn would_be_new(&self, record: &Record) -> bool {
        let held = self.table.get(&record.node);
        held.is_none_or(|held| !held.join(record).same_as(held))
    }

    /// Whether discovery or an operator named a node.
    fn is_named(&self, node: &NodeName) -> bool {
        let asked = self.links.peers.get(node).is_some_and(|peer| peer.intent != Intent::Meet);
        asked || self.discovered.contains(node)
    }

    /// A bound is reached; noted now and then.
    pub(super) fn reached(&mut self, now: Duration, limit: Limit) {
        if self.bounds.is_news(now, limit) {
            self.note(Note::Limit(limit));
        }
    }

    /// Offers a record to the table; what is new in it has its consequences.
    pub(super) fn hold(&mut self, now: Duration, record: &Record) -> Held {
        self.hold_from(now, record, &Origin::Known, Manner::Told)
    }

    pub(super) fn hold_from(
        &mut self,
        now: Duration,
        record: &Record,
        origin: &Origin,
        manner: Manner,
    ) -> Held {
        match self.table.apply(now, record, origin) {
            Applied::New(before) => {
                if self.table.tombstone_count() >= self.settings.limits.tombstones {
                    self.reached(now, Limit::Tombstones);
                }
                // It may hold more than this record says, or have let go of it at once.
                let held = self.table.get(&record.node).unwrap_or(record).clone();
                if !self.rumours.push(&held, manner) {
                    self.reached(now, Limit::Rumours);
                }
                self.changed(now, before.as_ref(), &held);
                Held::New
            }
            Applied::Known => Held::Known,
            Applied::Stale => Held::Dropped,
            Applied::Full => {
                let limit = if record.is_member() { Limit::Members } else { Limit::Tombstones };
                self.reached(now, limit);
                Held::Dropped
            }
        }
    }

    /// Hearsay that a member is down, while our link to it works, is a suspicion for it
    /// to answer. A tombstone keeps the highest incarnation known, so that whoever comes
    /// back starts above it.
    fn weigh(&self, now: Duration, mut record: Record) -> Record {
        if !record.is_member()
            && let Some(held) = self.table.get(&record.node)
        {
            record.incarnation = record.incarnation.max(held.incarnation);
        }
        let hearsay = record.health() == Some(Health::Down) && record.by != record.node;
        let contradicted = self.links.active(&record.node).is_some_and(|(_, link)| {
            link.boot == Some(record.boot) && now.saturating_sub(link.heard) < FRESH
        });
        if hearsay && contradicted {
            Record { standing: Standing::Member(Health::Suspect), ..record }
        } else {
            record
        }
    }

    /// Everything that follows from a record that is new to the table.
    pub(super) fn changed(&mut self, now: Duration, before: Option<&Record>, record: &Record) {
        let node = record.node.clone();
        self.report(before, record);
        let durable = |r: &Record| {
            let life = (r.standing.rank(), r.epoch, r.incarnation, r.boot, r.burial);
            (life, r.has_stopped())
        };
        if before.map(durable) != Some(durable(record)) {
            self.durable_changed();
        }
        self.gossip_soon(now, !record.is_running());
        self.view_changed(now);
        if before.is_some_and(|before| before.same_news(record)) {
            return;
        }
        if !record.is_running() {
            self.ring.remove(&node);
            self.doubtful.remove(&node);
        } else if !self.doubtful.contains(&node) {
            self.ring.insert(&node);
        }
        self.detector.forget(&node);
        match record.standing {
            Standing::Member(Health::Suspect) => self.suspected(now, record),
            Standing::Member(Health::Up) => self.risen(now, before, &node),
            Standing::Member(Health::Down) => self.fallen(now, record),
            Standing::Member(Health::Unknown) => self.links.plan(&node, now),
            _ => self.gone(now, record),
        }
    }

    fn report(&mut self, before: Option<&Record>, record: &Record) {
        let from = before.and_then(Record::health).map(shown);
        let to = record.health().map(shown);
        let reborn = from.is_some()
            && to == Some(Health::Up)
            && before.is_some_and(|old| old.boot != record.boot);
        let standing = to.map_or(record.standing, Standing::Member);
        let news = |from, reason| News {
            node: record.node.clone(),
            from,
            to: standing,
            epoch: record.epoch,
            incarnation: record.incarnation,
            reason,
            by: record.by.clone(),
        };
        if from != to || reborn {
            let reason = if reborn { Reason::Restarted } else { record.reason() };
            self.effects.push_back(Effect::Event(news(from, reason)));
        }
        if from.is_some()
            && to.is_some()
            && before.map(|b| &b.attributes) != Some(&record.attributes)
        {
            self.effects.push_back(Effect::Event(news(to, Reason::Updated)));
        }
    }

    fn risen(&mut self, now: Duration, before: Option<&Record>, node: &NodeName) {
        let was_running = before.is_some_and(Record::is_running);
        if !was_running && self.links.active(node).is_none() && self.wants(node) {
            self.links.peer(node).failures = 0;
            // Both learn of each other about now, and the greater name's link would be kept.
            let courtesy = match self.me.node > *node {
                true => Duration::ZERO,
                false => self.settings.timing.redial_min,
            };
            self.links.plan(node, now + courtesy);
        }
        self.grant_requests(now, node);
    }

    fn fallen(&mut self, now: Duration, record: &Record) {
        let node = &record.node;
        if record.by != *node
            && let Some((key, link)) = self.links.active(node)
            && link.boot == Some(record.boot)
        {
            // A link to a silent process is no link; a fresh one will tell more.
            self.links.peer(node).link = None;
            self.bye(key, ByeCode::Other, format!("{node} is down: {}", record.reason().text()));
        }
        if self.wants(node) && self.links.peer(node).due.is_none() {
            let delay = self.settings.timing.redial_min.mul_f64(self.rng.random_range(0.5..1.5));
            self.links.plan(node, now + delay);
        }
    }

    /// A member left or was removed: tell it if we can, and let go of it.
    fn gone(&mut self, now: Duration, record: &Record) {
        let node = &record.node;
        if let Some((key, _)) = self.links.active(node) {
            let news = vec![record.clone()];
            self.send(key, &Message::Gossip { id: self.id, news });
            self.bye(key, ByeCode::Removed, format!("{node}: {}", record.reason().text()));
        }
        if let Some(peer) = self.links.peers.get_mut(node) {
            // What became of it is known now.
            peer.is_followed = false;
        }
        if self.wants(node) {
            // Discovery still names it: look in now and then.
            self.links.plan(node, now + self.settings.timing.redial_refused);
        } else {
            self.links.forget(node);
        }
    }

    /// Marks a member down on our own evidence.
    pub(super) fn declare_down(&mut self, now: Duration, node: &NodeName, reason: Reason) {
        let Some(record) = self.table.member(node) else { return };
        if record.is_running() {
            let record = record.with(Standing::Member(Health::Down), reason, &self.me.node);
            match reason {
                Reason::Refused => self.hold(now, &record),
                _ => self.hold_found(now, &record),
            };
        }
    }

    /// Drops every record but our own.
    pub(super) fn forget_everybody(&mut self) {
        let gone: Vec<Record> =
            self.table.members().filter(|r| r.node != self.me.node).cloned().collect();
        for record in &gone {
            let left = record.with(Standing::Left, Reason::Left, &self.me.node);
            self.report(Some(record), &left);
            if !self.links.peers.get(&record.node).is_some_and(|peer| peer.contact) {
                self.links.forget(&record.node);
            }
        }
        self.table.clear();
        self.ring.clear();
        self.ring.insert(&self.me.node);
        self.rumours.clear();
        self.doubtful.clear();
        self.detector.clear();
        self.durable_changed();
    }
}

/// What operators see: a member known from disk only counts as down.
fn shown(health: Health) -> Health {
    if health == Health::Unknown { Health::Down } else { health }
}
