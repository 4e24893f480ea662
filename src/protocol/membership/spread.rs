//! News travel by gossip; views that have settled are compared, and repaired where
//! they differ.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::seq::{IndexedRandom, SliceRandom};

use super::learn::Manner;
use super::message::{Message, Version};
use super::record::{Health, Record};
use super::rumours::enough;
use super::timers::Timer;
use super::{Membership, Note};
use crate::node::{LinkId, NodeName};

/// Links told in one round of gossip, and in one that waited for more to go with it.
const FANOUT: usize = 4;
const LATE_FANOUT: usize = 8;

/// News in one message: some 5 KiB.
const NEWS: usize = 64;

/// Rounds of gossip that follow each other as fast as news come, and how many more in each
/// second. Where there is something new all the time it waits for more to go with it, and more
/// links are told at once: a message costs more than what is in it.
pub(super) const ROUNDS: u32 = 25;
const ROUNDS_PER_SECOND: u32 = 3;

/// By so much longer it takes, while there is something new all the time, until views are told
/// and compared: they differ then by what is under way.
const UNREST: u32 = 4;

/// By so much rounds of gossip follow each other faster where many news wait.
const MOST_HASTE: usize = 4;

/// Links repaired in one round.
const REPAIRS: usize = 2;

impl Membership {
    /// A frame came over a link.
    pub fn handle_frame(&mut self, now: Duration, key: LinkId, frame: &[u8]) {
        self.notice_lag(now);
        let Some(link) = self.links.links.get_mut(&key) else { return };
        link.heard = now;
        let message = match Message::decode(frame) {
            Ok(message) => message,
            Err(error) => {
                let peer = link.peer.clone();
                return self.note(Note::BadMessage(peer, error.to_string()));
            }
        };
        match message {
            Message::Hello(hello) => return self.handle_hello(now, key, *hello),
            Message::Bye { code, text } => return self.handle_bye(now, key, code, &text),
            _ if !self.is_open(key) => return,
            message => self.handle_message(now, key, message),
        }
        self.dial_due(now);
    }

    fn handle_message(&mut self, now: Duration, key: LinkId, message: Message) {
        if self.conflict.take().is_some() {
            // Beyond the hello a peer talks only to the process it takes for this node.
            self.note(Note::Conflict(None));
        }
        match message {
            Message::Hello(_) | Message::Bye { .. } => {}
            Message::Ping { seq, view, wanted, id, news } => {
                self.peer_says(now, key, view, wanted);
                self.hear_id(now, id);
                self.hear(now, key, news, Manner::Told);
                if self.is_open(key) {
                    let ack = self.ack(now, seq, key);
                    self.send(key, &ack);
                }
            }
            Message::Ack { seq, view, wanted, news } => {
                self.peer_says(now, key, view, wanted);
                self.hear(now, key, news, Manner::Told);
                self.acked(now, key, seq);
            }
            Message::PingReq { seq, target } => self.help(now, key, seq, &target),
            Message::PingReply { seq, target, alive } => self.helped(now, key, seq, &target, alive),
            Message::Gossip { id, news } => {
                self.hear_id(now, id);
                self.hear(now, key, news, Manner::Told);
            }
            Message::View { view, id } => {
                self.hear_id(now, id);
                let wants = self.links.links.get(&key).is_none_or(|link| link.peer_wants);
                self.peer_says(now, key, view, wants);
            }
            Message::Digest { buckets } => {
                let version = self.version_over(key);
                let said = self.reconciliation.compare(now, key, version, &buckets, &self.table);
                said.iter().for_each(|message| self.send(key, message));
            }
            Message::Sync { records, want, ask } => {
                self.hear(now, key, records.clone(), Manner::Compared);
                if self.is_open(key) && (ask.is_some() || !want.is_empty()) {
                    let version = self.version_over(key);
                    let asked = (&records[..], &want[..], ask);
                    let said = self.reconciliation.answer(now, key, version, asked, &self.table);
                    said.iter().for_each(|message| self.send(key, message));
                }
            }
            Message::Purge { id, brought_by } => self.hear_purge(now, id, &brought_by),
        }
    }

    fn peer_says(&mut self, now: Duration, key: LinkId, view: u64, wanted: bool) {
        let own = self.view_over(key);
        let Some(link) = self.links.links.get_mut(&key) else { return };
        link.view = Some(view);
        link.peer_wants = wanted;
        if view != own {
            self.repair_soon(now);
        }
    }

    /// Views differ: unless that settles by itself, they are compared.
    pub(super) fn repair_soon(&mut self, now: Duration) {
        let wait = self.settings.timing.settle * 2 * self.unrest(now);
        self.timers.begin(Timer::Repair, now + wait);
    }

    /// Whether there is something new only now and then.
    fn is_calm(&mut self, now: Duration) -> bool {
        !self.rounds.is_low(now, ROUNDS_PER_SECOND)
    }

    /// By how much longer whatever can wait for calm does.
    fn unrest(&mut self, now: Duration) -> u32 {
        if self.is_calm(now) { 1 } else { UNREST }
    }

    /// Over how many links a piece of news is passed now.
    fn passes(&mut self, now: Duration) -> usize {
        enough(self.table.member_count(), self.is_calm(now))
    }

    pub(super) fn ping(&mut self, now: Duration, seq: u64, key: LinkId) -> Message {
        let (wanted, news) = self.piggyback(now, key);
        Message::Ping { seq, view: self.view_over(key), wanted, id: self.id, news }
    }

    fn ack(&mut self, now: Duration, seq: u64, key: LinkId) -> Message {
        let (wanted, news) = self.piggyback(now, key);
        Message::Ack { seq, view: self.view_over(key), wanted, news }
    }

    /// Whether we want a link, and the news that go along. What others say of the very
    /// peer goes first, so that it can answer (Lifeguard's buddy system).
    fn piggyback(&mut self, now: Duration, key: LinkId) -> (bool, Vec<Record>) {
        let enough = self.passes(now);
        let Some(link) = self.links.links.get(&key) else { return (false, Vec::new()) };
        let peer = link.peer.clone();
        let mut news = self.rumours.take(NEWS, enough, key);
        if let Some(doubt) = self.doubt(&peer)
            && !news.iter().any(|record| record.node == peer)
        {
            news.insert(0, doubt);
        }
        (self.keeps(&peer), news)
    }

    /// What we hold of a linked peer, if it is bad news.
    fn doubt(&self, peer: &NodeName) -> Option<Record> {
        let doubt = self.table.get(peer).filter(|record| record.health() != Some(Health::Up));
        doubt.filter(|_| self.before_cut_off(peer).is_none()).cloned()
    }

    /// Tells a peer what it should object to.
    pub(super) fn tell_doubts(&mut self, key: LinkId, peer: &NodeName) {
        if let Some(doubt) = self.doubt(peer) {
            let id = self.id;
            self.send(key, &Message::Gossip { id, news: vec![doubt] });
        }
    }

    /// Plans a round of gossip; urgent news do not wait for one that is planned later.
    pub(super) fn gossip_soon(&mut self, now: Duration, urgent: bool) {
        let soon = now + self.settings.timing.gossip_delay;
        let at = match urgent && self.rounds.has(now, ROUNDS_PER_SECOND) {
            true => soon,
            false => soon.max(self.timers.next_round),
        };
        self.timers.hasten(Timer::Gossip, at);
    }

    /// One round of gossip to a few links.
    pub(super) fn gossip(&mut self, now: Duration) {
        let open: BTreeSet<LinkId> = self.links.all_active().map(|(key, _)| key).collect();
        if open.is_empty() {
            // Whoever links next gets everything with the first sync.
            self.rumours.clear();
            return;
        }
        let enough = self.passes(now);
        self.rumours.settle(&open, enough);
        let mut targets: Vec<LinkId> = open.into_iter().collect();
        targets.shuffle(&mut self.rng);
        let timing = &self.settings.timing;
        let (mut left, pause) = match self.rounds.take(now, ROUNDS_PER_SECOND) {
            true => (FANOUT, timing.gossip_interval),
            false => (LATE_FANOUT, timing.gossip_pause),
        };
        let mut told: Option<(Vec<Record>, Vec<u8>)> = None;
        for key in targets {
            if left == 0 {
                break;
            }
            let news = self.rumours.take(NEWS, enough, key);
            if news.is_empty() {
                continue;
            }
            left -= 1;
            let frame = match told.take() {
                Some((same, frame)) if same == news => frame,
                _ => Message::Gossip { id: self.id, news: news.clone() }.encode(),
            };
            self.effects.push_back(super::Effect::Send(key, frame.clone()));
            told = Some((news, frame));
        }
        // Where many wait, as after half of a cluster died, the rounds follow faster.
        let haste = (self.rumours.len() / NEWS).clamp(1, MOST_HASTE) as u32;
        self.timers.next_round = now + pause / haste;
        if !self.rumours.is_empty() {
            self.timers.set(Timer::Gossip, self.timers.next_round);
        }
    }

    /// The view changed: once it has settled the neighbours are told its hash.
    pub(super) fn view_changed(&mut self, now: Duration) {
        let wait = self.settings.timing.settle * self.unrest(now);
        self.timers.set(Timer::Settle, now + wait);
    }

    /// Tells every link the hash of the view.
    pub(super) fn tell_view(&mut self) {
        let frame = |version| {
            let view = self.table.view_hash(self.id, version);
            Message::View { view, id: self.id }.encode()
        };
        let (old, new) = (frame(Version::V1), frame(Version::V2));
        for (key, link) in self.links.all_active() {
            let frame = if link.version == Version::V1 { &old } else { &new };
            self.effects.push_back(super::Effect::Send(key, frame.clone()));
        }
    }

    /// Compares views with a few of those that disagree.
    pub(super) fn repair(&mut self, now: Duration) {
        let mut differing: Vec<LinkId> = self
            .links
            .all_active()
            .filter(|(_, link)| self.differs(link))
            .map(|(key, _)| key)
            .collect();
        if differing.is_empty() {
            return;
        }
        differing.shuffle(&mut self.rng);
        differing.truncate(REPAIRS);
        for key in differing {
            self.send(key, &Message::View { view: self.view_over(key), id: self.id });
            self.sync_with(now, key);
        }
        let wait = self.settings.timing.repair_interval * self.unrest(now);
        self.timers.set(Timer::Repair, now + wait);
    }

    fn version_over(&self, key: LinkId) -> Version {
        self.links.links.get(&key).map_or(Version::V1, |link| link.version)
    }

    /// Begins to make two views the same.
    pub(super) fn sync_with(&mut self, now: Duration, key: LinkId) {
        let version = self.version_over(key);
        if let Some(message) = self.reconciliation.begin(now, key, version, &self.table) {
            self.send(key, &message);
        }
    }

    /// Some active links that are not to `not`, at random.
    pub(super) fn helpers(&mut self, not: &NodeName, count: usize) -> Vec<LinkId> {
        let links: Vec<LinkId> = self
            .links
            .all_active()
            .filter(|(_, link)| link.peer != *not)
            .map(|(key, _)| key)
            .collect();
        links.sample(&mut self.rng, count).copied().collect()
    }
}
