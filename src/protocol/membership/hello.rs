//! Links come and go: who may talk to whom, one link per pair, one process per name.

use std::time::Duration;

use rand::RngExt;

use super::door;
use super::learn::Manner;
use super::links::{Link, Phase};
use super::message::{ByeCode, Hello, Intent, Message, PROTOCOL, PROTOCOL_MIN, Version};
use super::record::{Health, Reason, Record, Standing};
use super::{Effect, Membership, Note, RequestError};
use crate::escape::escaped;
use crate::node::{LinkId, NodeName};

/// A joining node compares views with the peers that it meets one after another: those
/// that it meets together would tell it the same.
const GREETING_PAUSE: Duration = Duration::from_millis(30);

/// A peer that we turn away: the code it is told and the words for both logs.
struct Verdict(ByeCode, String);

impl Membership {
    /// The driver opened a link: both ends are authenticated. `rtt`: how long the peer's
    /// system took to answer a dial.
    pub fn handle_link_up(
        &mut self,
        now: Duration,
        key: LinkId,
        peer: &NodeName,
        dialed: bool,
        rtt: Option<Duration>,
    ) {
        self.notice_lag(now);
        let state = self.links.peer(peer);
        state.failed_at = None;
        let intent = state.intent;
        if dialed {
            self.links.end_dial(peer);
        }
        let mut link = Link {
            peer: peer.clone(),
            dialed,
            phase: Phase::Silent,
            intent,
            said: self.id,
            up_at: now,
            heard: now,
            answered: now,
            is_in_trouble: false,
            sound_since: Duration::ZERO,
            is_parting: false,
            boot: None,
            rtt: None,
            peer_wants: true,
            confronted: None,
            version: Version::V1,
            view: None,
        };
        if let Some(rtt) = rtt {
            link.sample_rtt(rtt);
        }
        self.links.links.insert(key, link);
        let hello = self.hello(peer, intent);
        self.send(key, &Message::Hello(Box::new(hello)));
    }

    pub(super) fn hello(&self, peer: &NodeName, intent: Intent) -> Hello {
        Hello {
            protocol_min: PROTOCOL_MIN,
            protocol: PROTOCOL,
            cluster: self.settings.cluster.clone(),
            id: self.id,
            automatic: self.settings.automatic,
            intent,
            me: self.me.clone(),
            you: self.before_cut_off(peer).or_else(|| self.table.get(peer)).cloned(),
            view_v1: self.table.view_hash(self.id, Version::V1),
            view: Some(self.view_hash()),
        }
    }

    /// The driver says that a link has ended.
    pub fn handle_link_down(&mut self, now: Duration, key: LinkId) {
        self.notice_lag(now);
        let Some(link) = self.links.links.remove(&key) else { return };
        self.reconciliation.ended(key);
        let peer = link.peer.clone();
        // With a word, or without: a reset can destroy the word on its way.
        let is_handed_over = self.links.is_awaiting_hello(&peer);
        let is_member = self.table.member(&peer).is_some();
        let state = self.links.peer(&peer);
        if state.link == Some(key) {
            state.link = None;
            state.is_handed_over = is_handed_over;
            state.failures = 0;
            // Whoever held a link to a member that ended unasked finds out why, also where
            // it wants none: nobody else may be looking.
            state.is_followed = !link.is_parting && is_member;
            if self.wants(&peer) {
                // Reconnect at once: refused proves a crash, accepted that nothing happened.
                self.links.plan(&peer, now);
            } else {
                self.links.forget(&peer);
            }
        } else if state.due.is_none() && self.links.active(&peer).is_none() {
            self.redial_later(now, &peer);
        }
        self.settle_contest(now, &peer);
        self.dial_due(now);
        self.consider_founding(now);
    }

    /// A hello came.
    pub(super) fn handle_hello(&mut self, now: Duration, key: LinkId, mut hello: Hello) {
        let Some(link) = self.links.links.get(&key) else { return };
        if !matches!(link.phase, Phase::Silent) {
            return;
        }
        let waited = now.saturating_sub(link.up_at);
        if hello.intent == Intent::Invite && waited > self.settings.timing.request_timeout {
            // Whoever invited was told by now that it failed.
            hello.intent = Intent::Meet;
        }
        if hello.me.node != link.peer || hello.me.by != link.peer {
            let text = format!("{} speaks for {}", link.peer, hello.me.node);
            return self.turn_away(now, key, Verdict(ByeCode::Other, text));
        }
        if self.me.standing == Standing::Left && hello.cluster == self.settings.cluster {
            // We may have left in an epoch of which our disk has lost the number.
            hello.you.iter().for_each(|you| self.hear_you(now, key, you));
        }
        self.hear_of_departure(now, key, &hello);
        if let Err(verdict) = self.judge(key, &hello) {
            if verdict.0 == ByeCode::AutohealOff {
                self.heed_numbers(&hello.me);
            }
            return self.turn_away(now, key, verdict);
        }
        if self.has_moved(key) {
            return self.begin_anew(key);
        }
        let older = self.links.active(&hello.me.node).map(|(older, link)| (older, link.boot));
        match older {
            Some((older, boot)) if boot == Some(hello.me.boot) => {
                self.keep_one(now, older, key, hello);
            }
            Some((older, _)) => {
                // Another process under a name that is taken: ask the holder whether it
                // lives, and let the newcomer wait for the answer.
                if let Some(link) = self.links.links.get_mut(&key) {
                    link.phase = Phase::Contested(Box::new(hello));
                }
                self.challenge(now, older, key);
            }
            None => self.accept(now, key, hello),
        }
    }

    /// Whether we moved to another cluster after we said hello over a link: the peer may
    /// just be joining the one we were in.
    fn has_moved(&self, key: LinkId) -> bool {
        let said = self.links.links.get(&key).map(|link| link.said);
        !self.settings.automatic && said.is_some_and(|said| said != self.id)
    }

    /// Closes a link whose hellos no longer hold; whoever wants it dials again.
    fn begin_anew(&mut self, key: LinkId) {
        self.bye(key, ByeCode::Duplicate, format!("{} has moved meanwhile", self.me.node));
    }

    /// A peer that left our cluster while we could not hear it is no member, whether it
    /// is nowhere now or somewhere else: only a join raises the epoch.
    fn hear_of_departure(&mut self, now: Duration, key: LinkId, hello: &Hello) {
        let Some(held) = self.table.member(&hello.me.node).cloned() else { return };
        if hello.cluster != self.settings.cluster {
            return;
        }
        // Another process under the name of a member that is linked does not speak for it.
        let holder = self.links.active(&held.node).and_then(|(_, link)| link.boot);
        if holder.is_some_and(|boot| boot != hello.me.boot) {
            return;
        }
        let asked = hello.intent != Intent::Meet
            || self.links.links.get(&key).is_some_and(|link| link.intent != Intent::Meet);
        let merge = self.settings.automatic && hello.automatic;
        let elsewhere = hello.id.is_some() && self.id.is_some() && hello.id != self.id;
        if hello.me.standing == Standing::Left {
            let mut left = hello.me.clone();
            // It has forgotten when it left: a full table would let go of that at once.
            if self.table.would_be_evicted(&left) {
                left.burial = self.table.next_burial();
            }
            self.hear(now, key, vec![left], Manner::Told);
        } else if elsewhere && !merge && !asked && hello.me.epoch > held.epoch {
            let left = self.tombstone(&held, Standing::Left, Reason::Left, &held.node);
            self.hold(now, &left);
        }
    }

    /// A member that stays apart until an operator says otherwise tells all the same by which
    /// numbers it goes. Where a liar drove these up, what others say of it would be hard to
    /// believe for ever. Nothing that is shown changes by it.
    fn heed_numbers(&mut self, said: &Record) {
        if self.table.member(&said.node).is_some_and(|held| door::is_its_own(said, held)) {
            self.links.peer(&said.node).vouched = Some((said.epoch, said.incarnation));
        }
    }

    /// Two links to one process: both ends keep the one that the greater name dialled,
    /// and of two that one end dialled the newer. One that has stood for a while did not
    /// cross the newer on its way: it is being made anew, and goes.
    fn keep_one(&mut self, now: Duration, older: LinkId, newer: LinkId, hello: Hello) {
        let by_greater = |link: &Link| link.dialed == (self.me.node > link.peer);
        let crossed =
            |link: &Link| now.saturating_sub(link.up_at) < self.settings.timing.hello_timeout;
        let keeps_older = match (self.links.links.get(&older), self.links.links.get(&newer)) {
            (Some(a), Some(b)) => crossed(a) && by_greater(a) && !by_greater(b),
            _ => false,
        };
        let text = "another link to this node is kept".to_owned();
        if keeps_older {
            self.bye(newer, ByeCode::Duplicate, text);
        } else {
            self.links.peer(&hello.me.node).link = None;
            self.bye(older, ByeCode::Duplicate, text);
            self.accept(now, newer, hello);
        }
    }

    /// Whether a peer may talk to us, by what both sides say of themselves.
    fn judge(&self, key: LinkId, hello: &Hello) -> Result<(), Verdict> {
        let peer = &hello.me.node;
        let mine = self.links.links.get(&key).map_or(Intent::Meet, |link| link.intent);
        let asked = mine != Intent::Meet || hello.intent != Intent::Meet;
        if hello.protocol < PROTOCOL_MIN || hello.protocol_min > PROTOCOL {
            let text = format!(
                "{peer} speaks protocol versions {} to {}, this node {PROTOCOL_MIN} to {PROTOCOL}",
                hello.protocol_min, hello.protocol
            );
            return Err(Verdict(ByeCode::Version, text));
        }
        if hello.cluster != self.settings.cluster {
            let text = format!(
                "{peer} has cluster.name {:?}, this node {:?}",
                hello.cluster, self.settings.cluster
            );
            return Err(Verdict(ByeCode::ClusterName, text));
        }
        if self.me.standing == Standing::Left
            && mine != Intent::Join
            && hello.intent != Intent::Invite
        {
            let text = format!("{} has left the cluster", self.me.node);
            return Err(Verdict(ByeCode::Left, text));
        }
        let both = self.me.standing == Standing::Left;
        if hello.me.standing == Standing::Left
            && (both || (hello.intent != Intent::Join && mine != Intent::Invite))
        {
            return Err(Verdict(ByeCode::Left, format!("{peer} has left the cluster")));
        }
        self.judge_id(mine, hello)?;
        let cut_off = self.table.get(peer).is_some_and(|record| {
            record.health() == Some(Health::Down)
                && record.boot == hello.me.boot
                && record.reason() != Reason::Stopped
        });
        if cut_off && !self.settings.autoheal && !asked {
            let text = format!(
                "{peer} was cut off and cluster.autoheal is false: run `muster cluster join` on \
                 the side that is to rejoin"
            );
            return Err(Verdict(ByeCode::AutohealOff, text));
        }
        Ok(())
    }

    fn judge_id(&self, mine: Intent, hello: &Hello) -> Result<(), Verdict> {
        let (Some(own), Some(theirs)) = (self.id, hello.id) else { return Ok(()) };
        let merge = self.settings.automatic && hello.automatic;
        if own == theirs || merge || mine != Intent::Meet || hello.intent == Intent::Join {
            return Ok(());
        }
        let peer = &hello.me.node;
        if hello.intent == Intent::Invite {
            if self.table.member_count() <= 1 {
                return Ok(());
            }
            let text = format!(
                "{} is in a cluster of {} members already; run `muster cluster join --force` there",
                self.me.node,
                self.table.member_count()
            );
            return Err(Verdict(ByeCode::Other, text));
        }
        let text = format!("{peer} belongs to cluster {theirs}, this node to cluster {own}");
        Err(Verdict(ByeCode::ClusterId, text))
    }

    /// The peer is a fellow: the link is the link, and what it says of itself counts.
    fn accept(&mut self, now: Duration, key: LinkId, hello: Hello) {
        let peer = hello.me.node.clone();
        let Some(link) = self.links.links.get_mut(&key) else { return };
        link.phase = Phase::Active;
        link.boot = Some(hello.me.boot);
        link.version = hello.common();
        let (view, version) = (hello.common_view(), link.version);
        link.view = Some(view);
        if !link.dialed {
            // A hello follows our last word of the handshake; to the end that dialled
            // it comes together with that word.
            link.sample_rtt(now.saturating_sub(link.up_at));
        }
        let (mine, theirs) = (link.intent, hello.intent);
        self.back_in_touch(now);
        let state = self.links.peer(&peer);
        state.link = Some(key);
        state.tried = true;
        state.failures = 0;
        state.trust_refusal = true;
        state.is_followed = false;
        state.is_handed_over = false;
        state.complaint = None;
        state.intent = Intent::Meet;
        self.links.unplan(&peer);
        let will_move = self.agree_on_id(now, key, mine, &hello);
        // Who is about to move here speaks for the cluster that it leaves.
        if let Some(said) = hello.you.filter(|_| !will_move) {
            self.hear_you(now, key, &said);
        }
        if self.me.standing == Standing::Left || !self.is_open(key) {
            return;
        }
        if hello.me.is_member() && !will_move {
            self.hear(now, key, vec![hello.me], Manner::Told);
            self.prove(&peer);
        }
        if theirs == Intent::Meet {
            self.tell_doubts(key, &peer);
        }
        self.survey(now, key);
        self.grant_requests(now, &peer);
        if view != self.table.view_hash(self.id, version) {
            self.compare_at_greeting(now, key);
        }
        self.consider_founding(now);
    }

    /// Views differ at the first word. Of two that speak version 2 the one that dialled
    /// begins, so that one exchange is had and not two.
    fn compare_at_greeting(&mut self, now: Duration, key: LinkId) {
        let link = self.links.links.get(&key);
        let begins = link.is_some_and(|link| link.dialed || link.version == Version::V1);
        let paused = now.saturating_sub(self.greeted_at) >= GREETING_PAUSE;
        if begins && paused {
            self.greeted_at = now;
            self.sync_with(now, key);
        } else {
            self.repair_soon(now);
        }
    }

    /// A link is up with a member, or an operator or discovery names it: it is real.
    pub(super) fn prove(&mut self, node: &NodeName) {
        if self.table.prove(node) {
            self.durable_changed();
        }
        if self.doubtful.remove(node) && self.table.member(node).is_some_and(Record::is_running) {
            self.ring.insert(node);
        }
    }

    /// What a peer holds of this very node.
    fn hear_you(&mut self, now: Duration, key: LinkId, you: &Record) {
        if you.node == self.me.node {
            self.hear(now, key, vec![you.clone()], Manner::Told);
        }
    }

    pub(super) fn is_open(&self, key: LinkId) -> bool {
        self.links.links.get(&key).is_some_and(Link::is_active)
    }

    /// Asks the holder of a contested name for a sign of life.
    fn challenge(&mut self, now: Duration, holder: LinkId, newcomer: LinkId) {
        let patience = self.patience(holder).unwrap_or_default();
        let deadline = now + self.settings.timing.challenge_timeout.max(patience);
        let seq = self.detector.challenge(newcomer, deadline);
        self.send_ping(now, seq, holder);
    }

    /// The holder of a contested name answered: the newcomer is refused.
    pub(super) fn refuse_newcomer(&mut self, now: Duration, newcomer: LinkId) {
        let Some(link) = self.links.links.get(&newcomer) else { return };
        let peer = link.peer.clone();
        let holder = self.table.get(&peer).map_or(String::new(), |r| r.boot.to_string());
        let text = format!(
            "the node name {peer} is held by another live process (boot {holder}); give this node \
             another node.name or stop the other process"
        );
        self.turn_away(now, newcomer, Verdict(ByeCode::NameConflict, text));
    }

    /// The holder of a contested name is gone: the newcomer is the node now, if what it
    /// said still holds against what became of us while it waited.
    pub(super) fn admit_newcomer(&mut self, now: Duration, newcomer: LinkId) {
        let Some(link) = self.links.links.get_mut(&newcomer) else { return };
        let Phase::Contested(hello) = std::mem::replace(&mut link.phase, Phase::Silent) else {
            return;
        };
        let peer = link.peer.clone();
        if let Err(verdict) = self.judge(newcomer, &hello) {
            return self.turn_away(now, newcomer, verdict);
        }
        if self.has_moved(newcomer) {
            return self.begin_anew(newcomer);
        }
        if let Some((older, _)) = self.links.active(&peer) {
            self.links.peer(&peer).link = None;
            self.bye(older, ByeCode::Duplicate, "replaced by a new process".to_owned());
        }
        self.accept(now, newcomer, *hello);
    }

    /// The link of a contested name's holder may just have ended.
    fn settle_contest(&mut self, now: Duration, peer: &NodeName) {
        if self.links.active(peer).is_some() {
            return;
        }
        let waiting = self
            .links
            .links
            .iter()
            .find(|(_, link)| link.peer == *peer && matches!(link.phase, Phase::Contested(_)))
            .map(|(key, _)| *key);
        if let Some(newcomer) = waiting {
            self.detector.end_challenge(newcomer);
            self.admit_newcomer(now, newcomer);
        }
    }

    fn turn_away(&mut self, now: Duration, key: LinkId, verdict: Verdict) {
        let Verdict(code, text) = verdict;
        let Some(link) = self.links.links.get(&key) else { return };
        let peer = link.peer.clone();
        if code == ByeCode::AutohealOff {
            self.table.seen(now, &peer);
        }
        self.reject(now, &peer, &text);
        self.note(Note::Refusal { peer: peer.clone(), code, ours: true, text: text.clone() });
        if self.links.peer(&peer).complaint.as_ref() != Some(&text) {
            self.links.peer(&peer).complaint = Some(text.clone());
            self.note(Note::WeRefused(peer, key, text.clone()));
        }
        self.bye(key, code, text);
    }

    /// A peer closes the link with a reason.
    pub(super) fn handle_bye(
        &mut self,
        now: Duration,
        key: LinkId,
        code: Option<ByeCode>,
        text: &str,
    ) {
        let Some(link) = self.links.links.get_mut(&key) else { return };
        let peer = link.peer.clone();
        // It goes to operators, by way of the log, the API and their terminals.
        let text = &escaped(text);
        link.is_parting = true;
        // Whoever was not admitted cannot tell what this node's name is worth.
        let is_admitted = link.is_active();
        match code {
            Some(ByeCode::Stopping | ByeCode::Idle | ByeCode::Duplicate) => return,
            _ => link.phase = Phase::Closing,
        }
        // Not the peer's link any more: its end is no reason to dial again at once.
        let state = self.links.peer(&peer);
        if state.link == Some(key) {
            state.link = None;
        }
        match code {
            Some(ByeCode::NameConflict) if is_admitted => self.yield_name(now, text),
            Some(ByeCode::AutohealOff) => self.table.seen(now, &peer),
            _ => {}
        }
        self.reject(now, &peer, text);
        if let Some(code) = code {
            let (peer, text) = (peer.clone(), text.clone());
            self.note(Note::Refusal { peer, code, ours: false, text });
        }
        self.complain(&peer, Some(key), Some(text.to_owned()));
    }

    /// A peer will not talk to us, or we not to it: requests fail, and we wait long.
    fn reject(&mut self, now: Duration, peer: &NodeName, text: &str) {
        self.links.peer(peer).tried = true;
        self.end_requests_for(peer, &RequestError::Conflict(text.to_owned()));
        let long = self.settings.timing.redial_refused.mul_f64(self.rng.random_range(0.7..1.3));
        if self.wants(peer) {
            self.links.plan(peer, now + long);
        } else {
            self.links.unplan(peer);
        }
    }

    /// Says why and closes. The link is no longer the peer's link.
    pub(super) fn bye(&mut self, key: LinkId, code: ByeCode, text: String) {
        let Some(link) = self.links.links.get_mut(&key) else { return };
        link.phase = Phase::Closing;
        self.reconciliation.ended(key);
        let peer = link.peer.clone();
        if self.links.peer(&peer).link == Some(key) {
            self.links.peer(&peer).link = None;
        }
        let mut cut = text.clone();
        cut.truncate(cut.floor_char_boundary(500));
        self.send(key, &Message::Bye { code: Some(code), text: cut });
        self.effects.push_back(Effect::Close(key, text));
    }
}
