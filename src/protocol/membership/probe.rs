//! Probes, suspicion and this node's own health: SWIM (Das et al. 2002) over standing
//! links, with Lifeguard's three parts (Dadgar et al. 2017, arXiv 1707.00788).
//!
//! In every period one member is asked over its link. Silence has other members ask
//! it. Silence again makes it suspect; those who hear of that ask it at once and
//! confirm or stay quiet, and tell it, so that it can object with a higher
//! incarnation. A suspicion nobody answers in time makes it down.
//!
//! A node that runs late, whose probes get no answer from anybody or that is
//! suspected itself holds its own health in doubt and gives everybody more time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::seq::{IteratorRandom, SliceRandom};

use super::detector::{Favour, MAX_ILLNESS, Outcome, Probe, Seen, Stage, Suspicion};
use super::learn::{Held, Manner};
use super::limits::Limit;
use super::message::{ByeCode, Message};
use super::record::{Health, Reason, Record, Standing};
use super::{Membership, Note};
use crate::node::{LinkId, NodeName};

/// Members asked to probe a silent one.
const HELPERS: usize = 3;

/// Confirmations that bring a suspicion to its shortest time.
pub(super) const CONFIRMATIONS: usize = 3;

/// Requests to probe somebody else, under way at once.
pub(super) const MAX_FAVOURS: usize = 128;

/// Pings remembered at most: ten seconds of probes of a full mesh and of the favours that
/// are done at once.
pub(super) const MAX_SENT: usize = 4096;

/// So many times as long as those who watch over a suspect others give it.
const HEARSAY: u32 = 3;

/// A process that ran late within this has no reason to trust its own clock.
const ON_TIME: Duration = Duration::from_secs(2);

/// Answers that come later than this still count as a round trip, not later ones.
const REMEMBERED: Duration = Duration::from_secs(10);

/// A link without a word for so long, while helpers reach the member, is broken.
const BROKEN_LINK: Duration = Duration::from_millis(3000);

impl Membership {
    /// Being called late means that this process did not run: nobody else is to blame,
    /// so everybody gets that much more time.
    pub(super) fn notice_lag(&mut self, now: Duration) {
        let Some(wake) = self.timers.wake.take() else { return };
        // Whatever piled up meanwhile comes before the timers that are late, and each of it
        // finds them late again.
        let late = now.saturating_sub(wake.max(self.timers.accounted));
        if late < self.settings.timing.lag {
            return;
        }
        self.timers.accounted = now;
        let points = (late.as_secs_f64() / self.settings.timing.lag.as_secs_f64()) as u32;
        for _ in 0..points.min(MAX_ILLNESS) {
            self.detector.ill();
        }
        let detector = &mut self.detector;
        for probe in detector.probes.values_mut() {
            probe.started = now;
            probe.deadline += late;
        }
        for suspicion in detector.suspicions.values_mut() {
            suspicion.deadline += late;
        }
        for favour in detector.favours.values_mut() {
            favour.deadline += late;
        }
        for challenge in detector.challenges.values_mut() {
            challenge.deadline += late;
        }
        if late >= Duration::from_secs(1) {
            self.note(Note::Slow(late));
        }
    }

    /// Probes the next member of a round in which each has its turn.
    pub(super) fn probe_next(&mut self, now: Duration) {
        self.detector.sent.retain(|_, (_, at)| now.saturating_sub(*at) < REMEMBERED);
        if self.me.standing == Standing::Left {
            return;
        }
        self.probe_doubtful(now);
        let mut refilled = false;
        loop {
            let Some(target) = self.most_silent() else {
                if std::mem::replace(&mut refilled, true) {
                    return;
                }
                self.detector.order = self.probe_order();
                continue;
            };
            if self.is_probed(&target) && !self.detector.is_probing(&target) {
                return self.probe(now, &target);
            }
        }
    }

    /// Of those that still have their turn in this round the one not heard of for longest:
    /// were its turn left to chance, all might come to a silent member late.
    fn most_silent(&mut self) -> Option<NodeName> {
        let heard = |node: &NodeName| self.links.active(node).map(|(_, link)| link.heard);
        let order = &mut self.detector.order;
        let (at, _) = order.iter().enumerate().min_by_key(|(_, node)| heard(node))?;
        Some(order.swap_remove(at))
    }

    /// Members that nobody could link with have a turn of their own, beside the others.
    fn probe_doubtful(&mut self, now: Duration) {
        let doubtful = self.doubtful.iter().filter(|node| !self.detector.is_probing(node));
        let running = |node: &&NodeName| self.table.member(node).is_some_and(Record::is_running);
        if let Some(node) = doubtful.filter(running).choose(&mut self.rng).cloned() {
            self.probe(now, &node);
        }
    }

    fn probe_order(&mut self) -> Vec<NodeName> {
        let mut order: Vec<NodeName> = if self.is_full_mesh() {
            self.table.members().map(|record| record.node.clone()).collect()
        } else {
            let linked = self.links.all_active().map(|(_, link)| link.peer.clone());
            linked
                .chain(self.ring.neighbours(&self.me.node))
                .collect::<BTreeSet<_>>()
                .into_iter()
                .collect()
        };
        order.retain(|node| self.is_probed(node) && !self.doubtful.contains(node));
        order.shuffle(&mut self.rng);
        order
    }

    /// Running members that we are linked to, or should be.
    pub(super) fn is_probed(&self, node: &NodeName) -> bool {
        *node != self.me.node
            && self.table.member(node).is_some_and(Record::is_running)
            && (self.links.active(node).is_some()
                || self.doubtful.contains(node)
                || self.wants(node))
    }

    fn probe(&mut self, now: Duration, target: &NodeName) {
        let seq = self.detector.seq();
        let mut probe = Probe::new(target.clone(), now);
        if let Some((key, _)) = self.links.active(target) {
            probe.deadline = now + self.ack_timeout(self.patience(key).unwrap_or_default());
            self.send_ping(now, seq, key);
        }
        self.detector.probes.insert(seq, probe);
        self.run_detector(now);
    }

    pub(super) fn send_ping(&mut self, now: Duration, seq: u64, key: LinkId) {
        self.detector.sent.insert(seq, (key, now));
        if self.detector.sent.len() > MAX_SENT {
            self.detector.sent.pop_first();
        }
        let ping = self.ping(now, seq, key);
        self.send(key, &ping);
    }

    fn ack_timeout(&self, patience: Duration) -> Duration {
        self.detector.scaled(self.settings.timing.ack_timeout.max(patience))
    }

    /// How long an answer over a link may take by what was measured.
    pub(super) fn patience(&self, key: LinkId) -> Option<Duration> {
        Some(self.links.links.get(&key)?.rtt?.patience())
    }

    /// How long the helpers' answer may take: to the farthest of them, and from there to
    /// the target, which is as far from them as from us for all we know.
    fn help_timeout(&self, helpers: &[LinkId], target: Option<LinkId>) -> Duration {
        let near = helpers.iter().filter_map(|key| self.patience(*key)).max().unwrap_or_default();
        let far = target.and_then(|key| self.patience(key)).unwrap_or(near);
        self.ack_timeout(near + far)
    }

    /// Everything whose time is over.
    pub(super) fn run_detector(&mut self, now: Duration) {
        while let Some(seq) = first_due(&self.detector.probes, now, |probe| probe.deadline) {
            self.probe_due(now, seq);
        }
        while let Some(seq) = first_due(&self.detector.favours, now, |favour| favour.deadline) {
            if let Some(favour) = self.detector.favours.remove(&seq) {
                self.reply_favour(&favour, false);
            }
        }
        while let Some(seq) = first_due(&self.detector.challenges, now, |c| c.deadline) {
            if let Some(challenge) = self.detector.challenges.remove(&seq) {
                self.admit_newcomer(now, challenge.newcomer);
            }
        }
        while let Some(node) = first_due(&self.detector.suspicions, now, |s| s.deadline) {
            self.suspicion_due(now, &node);
        }
    }

    /// Nobody objected in time. A member that answers this node is there all the same: it has
    /// not heard what it is to object to, or its objection has not come.
    fn suspicion_due(&mut self, now: Duration, node: &NodeName) {
        let Some(suspicion) = self.detector.suspicions.remove(node) else { return };
        let link = self.links.active(node).map(|(key, _)| key);
        if let Some(key) = link
            && suspicion.is_answered
        {
            let deadline = now + self.suspicion_time(node, suspicion.accusers.len());
            let again = Suspicion { started: now, deadline, is_answered: false, ..suspicion };
            self.detector.suspicions.insert(node.clone(), again);
            self.tell_doubts(key, node);
            return self.ping_again(now, key);
        }
        self.declare_down(now, node, Reason::Unrefuted);
        self.give_up_the_rest(now);
    }

    fn probe_due(&mut self, now: Duration, seq: u64) {
        let Some(mut probe) = self.detector.probes.remove(&seq) else { return };
        let (started, target) = (probe.started, probe.target.clone());
        let link = self.links.active(&target).map(|(key, l)| (key, l.heard, l.answered));
        let running = self.table.member(&target).is_some_and(Record::is_running);
        let outcome = probe.outcome(Seen {
            is_watched: running && self.is_probed(&target),
            has_answered: link.is_some_and(|(.., answered)| answered > started),
            was_heard: link.is_some_and(|(_, heard, _)| heard > started),
        });
        match outcome {
            Outcome::Moot => {}
            Outcome::Answered => self.detector.well(),
            Outcome::ReachedByOthers => {
                if let Some((key, heard, _)) = link
                    && now.saturating_sub(heard) > BROKEN_LINK
                {
                    self.bye(key, ByeCode::Duplicate, "the link is silent, its node is not".into());
                }
            }
            Outcome::AskOthers => {
                let helpers = self.helpers(&target, HELPERS);
                probe.stage = Stage::Indirect;
                probe.deadline = now + self.help_timeout(&helpers, link.map(|(key, ..)| key));
                probe.answered = helpers.is_empty();
                probe.helpers.clone_from(&helpers);
                for helper in helpers {
                    self.send(helper, &Message::PingReq { seq, target: target.clone() });
                }
                if let Some((key, ..)) = link {
                    self.troubled(key);
                    self.ping_again(now, key);
                }
                if self.nobody_answers(started) {
                    self.ask_everybody(now, &target);
                }
                self.detector.probes.insert(seq, probe);
            }
            Outcome::AskAgain => {
                probe.stage = Stage::Patient;
                probe.deadline = now + self.ack_timeout(Duration::ZERO) * 2;
                if let Some((key, ..)) = link {
                    self.ping_again(now, key);
                }
                self.detector.probes.insert(seq, probe);
            }
            Outcome::Silent => self.found_silent(now, &probe),
        }
    }

    fn ping_again(&mut self, now: Duration, key: LinkId) {
        let seq = self.detector.seq();
        self.send_ping(now, seq, key);
    }

    /// Asks over a young and long link until it is known how long it is.
    pub(super) fn survey(&mut self, now: Duration, key: LinkId) {
        let least = self.settings.timing.ack_timeout;
        if self.links.links.get(&key).is_some_and(|link| link.is_overrated(least)) {
            self.ping_again(now, key);
        }
    }

    fn troubled(&mut self, key: LinkId) {
        if let Some(link) = self.links.links.get_mut(&key) {
            link.is_in_trouble = true;
        }
    }

    /// Whether no peer has answered anything since then.
    pub(super) fn nobody_answers(&self, since: Duration) -> bool {
        self.links.all_active().all(|(_, link)| link.answered <= since)
    }

    /// Perhaps it is this node that is cut off: everybody is asked at once.
    fn ask_everybody(&mut self, now: Duration, but: &NodeName) {
        let others = self.links.all_active().filter(|(_, link)| link.peer != *but);
        let others: Vec<LinkId> = others.map(|(key, _)| key).collect();
        for key in others {
            self.ping_again(now, key);
        }
    }

    /// A member answered nothing, over no way. If nobody at all did, and this process ran on
    /// time, then this node is cut off, and there is no use in doubting itself.
    fn found_silent(&mut self, now: Duration, probe: &Probe) {
        let on_time =
            now.saturating_sub(self.timers.accounted) >= ON_TIME || self.timers.accounted.is_zero();
        if !(on_time && self.nobody_answers(probe.started)) {
            if !probe.answered {
                self.detector.ill();
            }
            return self.accuse(now, &probe.target);
        }
        self.detector.illness = 0;
        let mut silent: BTreeSet<NodeName> =
            self.links.all_active().map(|(_, link)| link.peer.clone()).collect();
        silent.insert(probe.target.clone());
        for (key, _) in self.links.all_active().map(|(key, l)| (key, l.heard)).collect::<Vec<_>>() {
            self.troubled(key);
        }
        self.is_cut_off(probe.started, silent.len());
        for node in silent {
            self.accuse(now, &node);
        }
    }

    /// We found a member silent.
    fn accuse(&mut self, now: Duration, node: &NodeName) {
        let Some(record) = self.table.member(node).filter(|record| record.is_running()) else {
            return;
        };
        let accusation =
            record.with(Standing::Member(Health::Suspect), Reason::Silent, &self.me.node);
        if self.hold_found(now, &accusation) != Held::New && self.detector.cut_off.is_none() {
            self.confirmed(now, &accusation);
        }
    }

    /// A member is newly suspect, on anybody's word.
    pub(super) fn suspected(&mut self, now: Duration, record: &Record) {
        let node = record.node.clone();
        let suspicion = Suspicion {
            started: now,
            deadline: now + self.suspicion_time(&node, 1),
            accusers: BTreeSet::from([record.by.clone()]),
            is_answered: false,
        };
        self.detector.suspicions.insert(node.clone(), suspicion);
        let link = self.links.active(&node).map(|(key, _)| key);
        if let Some(key) = link {
            self.tell_doubts(key, &node);
        }
        if record.by != self.me.node && self.is_probed(&node) && !self.detector.is_probing(&node) {
            self.probe(now, &node);
        } else if let Some(key) = link {
            self.ping_again(now, key);
        }
    }

    /// The table knows this already; one more accuser shortens a suspicion. Who watches over the
    /// member passes it on, since it is linked with others who do. Everybody else waits for
    /// those, and has passed on the first accusation.
    pub(super) fn confirmed(&mut self, now: Duration, record: &Record) {
        if record.health() != Some(Health::Suspect) {
            return;
        }
        let Some(suspicion) = self.detector.suspicions.get_mut(&record.node) else { return };
        if suspicion.accusers.len() > CONFIRMATIONS || !suspicion.accusers.insert(record.by.clone())
        {
            return;
        }
        let (started, accusers) = (suspicion.started, suspicion.accusers.len());
        let deadline = started + self.suspicion_time(&record.node, accusers);
        if let Some(suspicion) = self.detector.suspicions.get_mut(&record.node) {
            suspicion.deadline = suspicion.deadline.min(deadline);
        }
        if record.by != self.me.node && !self.is_probed(&record.node) {
            return;
        }
        if !self.rumours.push(record, Manner::Told) {
            self.reached(now, Limit::Rumours);
        }
        self.gossip_soon(now, false);
    }

    /// Lifeguard's logarithmic decay from the longest to the shortest time as accusers
    /// agree; in large clusters both are longer, since objections travel farther, and
    /// never are they too short for the accusation's way there and the objection's back,
    /// straight or by way of others. Whoever does not watch over the member waits for those
    /// who do, and longer than they.
    fn suspicion_time(&self, node: &NodeName, accusers: usize) -> Duration {
        let timing = &self.settings.timing;
        let members = self.table.running_count();
        let reach = 1.0 + (members as f64 / 64.0).max(1.0).log2() / 4.0;
        let needed = CONFIRMATIONS.min(members.saturating_sub(2));
        let (min, max) = (timing.suspicion_min, timing.suspicion_max);
        let share = if needed == 0 {
            1.0
        } else {
            (((accusers - 1) as f64 + 1.0).ln() / (needed as f64 + 1.0).ln()).min(1.0)
        };
        let time = max.saturating_sub((max - min).mul_f64(share)).max(min);
        let link = self.links.active(node).and_then(|(key, _)| self.patience(key));
        let patience = self.links.typical_patience().max(link.unwrap_or_default());
        let time = self.detector.scaled(time.mul_f64(reach)).max(patience * 2);
        if self.is_probed(node) { time } else { time * HEARSAY }
    }

    /// An answer to a ping of ours, if it comes from whom we asked.
    pub(super) fn acked(&mut self, now: Duration, key: LinkId, seq: u64) {
        let Some(&(sent_over, at)) = self.detector.sent.get(&seq) else { return };
        if sent_over != key {
            return;
        }
        self.detector.sent.remove(&seq);
        self.back_in_touch(now);
        if let Some(link) = self.links.links.get_mut(&key) {
            link.answered(now, at);
            if let Some(suspicion) = self.detector.suspicions.get_mut(&link.peer) {
                suspicion.is_answered |= at >= suspicion.started;
            }
            self.links.measured(now.saturating_sub(at));
        }
        if self.detector.probes.remove(&seq).is_some() {
            self.detector.well();
        }
        self.survey(now, key);
        if let Some(favour) = self.detector.favours.remove(&seq) {
            self.reply_favour(&favour, true);
        }
        if let Some(challenge) = self.detector.challenges.remove(&seq) {
            self.refuse_newcomer(now, challenge.newcomer);
        }
    }

    /// Somebody asks us to probe a member for it.
    pub(super) fn help(&mut self, now: Duration, asker: LinkId, seq: u64, target: &NodeName) {
        let link = self.links.active(target).map(|(key, _)| key);
        let patience = link.and_then(|key| self.patience(key)).unwrap_or_default();
        let deadline = now + self.settings.timing.helper_timeout.max(patience);
        let favour = Favour { asker, seq, target: target.clone(), deadline };
        match link {
            Some(key) if self.detector.favours.len() < MAX_FAVOURS => {
                let own = self.detector.seq();
                self.detector.favours.insert(own, favour);
                self.send_ping(now, own, key);
            }
            Some(_) => {
                self.reached(now, Limit::Favours);
                self.reply_favour(&favour, false);
            }
            None => self.reply_favour(&favour, false),
        }
    }

    fn reply_favour(&mut self, favour: &Favour, alive: bool) {
        if self.is_open(favour.asker) {
            let Favour { seq, target, .. } = favour.clone();
            self.send(favour.asker, &Message::PingReply { seq, target, alive });
        }
    }

    /// A helper answers.
    pub(super) fn helped(
        &mut self,
        now: Duration,
        helper: LinkId,
        seq: u64,
        target: &NodeName,
        alive: bool,
    ) {
        let Some(probe) = self.detector.probes.get_mut(&seq) else { return };
        if probe.target != *target || !probe.helpers.contains(&helper) {
            return;
        }
        probe.answered = true;
        if alive {
            probe.alive = true;
            probe.deadline = now;
            self.run_detector(now);
        }
    }
}

/// The first entry whose deadline has passed.
fn first_due<K: Ord + Clone, V>(
    entries: &BTreeMap<K, V>,
    now: Duration,
    deadline: impl Fn(&V) -> Duration,
) -> Option<K> {
    entries.iter().find(|(_, value)| deadline(value) <= now).map(|(key, _)| key.clone())
}
