//! What operators ask for, and what time brings: join, leave, force-leave, invite,
//! autoclean, stop.

use std::time::Duration;

use rand::seq::IteratorRandom;

use super::links::{DialFailure, Phase};
use super::message::{ByeCode, Intent};
use super::record::{Health, Reason, Record, Standing};
use super::request::{Action, RequestError};
use super::{Effect, Membership, Note, RequestId, State};
use crate::node::{LinkId, NodeName};

/// Requests that wait for another node, at once.
pub(super) const MAX_PENDING: usize = 16;

/// A member is removed as down only when it could not be dialled within this: the one
/// who cleans up may have become so just now. Above the longest time between two dials.
const TRIED: Duration = Duration::from_secs(30);

/// A cluster has formed by then, or will not be as large as discovery said.
const FORMING: Duration = Duration::from_secs(5);

/// A request that waits for another node.
#[derive(Clone, Debug)]
pub(super) struct Pending {
    node: NodeName,
    intent: Intent,
    deadline: Duration,
}

impl Membership {
    /// An operator asks for something; answered with [`Effect::Reply`].
    pub fn handle_request(&mut self, now: Duration, request: RequestId, action: Action) {
        self.notice_lag(now);
        let done = match action {
            Action::Join { node, force } => self.join(now, request, node, force),
            Action::Invite { node } => self.invite(now, request, node),
            Action::Leave => self.leave(now).map(|()| true),
            Action::ForceLeave { node, force } => {
                self.force_leave(now, &node, force).map(|()| true)
            }
            Action::ForceLeaveBroughtBy { node } => self.purge(now, request, &node).map(|()| false),
            Action::Describe { tags, broker } => self.describe(now, tags, broker).map(|()| true),
            Action::Drain { reason } => self.drain(now, reason).map(|()| true),
            Action::Undrain => {
                self.undrain(now);
                Ok(true)
            }
            Action::SetDiscovery { enabled } => {
                self.set_discovery(now, enabled);
                Ok(true)
            }
        };
        match done {
            Ok(false) => {}
            Ok(true) => self.effects.push_back(Effect::Reply(request, Ok(()))),
            Err(error) => self.effects.push_back(Effect::Reply(request, Err(error))),
        }
        self.dial_due(now);
    }

    /// `Ok(true)`: done already; `Ok(false)`: under way.
    fn join(
        &mut self,
        now: Duration,
        request: RequestId,
        node: NodeName,
        force: bool,
    ) -> Result<bool, RequestError> {
        if node == self.me.node {
            return Err(RequestError::BadRequest(format!("{node} cannot join itself")));
        }
        let member = self.table.member(&node).cloned();
        if member.as_ref().is_some_and(Record::is_running) && self.links.active(&node).is_some() {
            return Ok(true);
        }
        let others = self.table.member_count().saturating_sub(1);
        if others > 0 && member.is_none() && !force && self.state() != State::Left {
            return Err(RequestError::Conflict(format!(
                "{} is in a cluster of {} members; joining {node} would take it out of there. Run \
                 the join on the node that is to move, or force it",
                self.me.node,
                others + 1
            )));
        }
        self.seek(now, request, node, Intent::Join)
    }

    fn invite(
        &mut self,
        now: Duration,
        request: RequestId,
        node: NodeName,
    ) -> Result<bool, RequestError> {
        if node == self.me.node {
            return Err(RequestError::BadRequest(format!("{node} cannot invite itself")));
        }
        if self.state() == State::Left {
            return Err(RequestError::Conflict(format!(
                "{} has left its cluster, and can invite nobody: have it join one first",
                self.me.node
            )));
        }
        if self.table.member(&node).is_some_and(Record::is_running) {
            return Ok(true);
        }
        self.seek(now, request, node, Intent::Invite)
    }

    /// Dials a node on an operator's word.
    fn seek(
        &mut self,
        now: Duration,
        request: RequestId,
        node: NodeName,
        intent: Intent,
    ) -> Result<bool, RequestError> {
        if self.pending.len() >= MAX_PENDING {
            return Err(RequestError::Conflict(
                "too many requests are under way: try again when they are done".to_owned(),
            ));
        }
        let deadline = now + self.settings.timing.request_timeout;
        self.pending.insert(request, Pending { node: node.clone(), intent, deadline });
        // A link without a hello, or one that refused us, was opened with another intent.
        let stale: Vec<LinkId> = self
            .links
            .links
            .iter()
            .filter(|(_, link)| link.peer == node && !matches!(link.phase, Phase::Closing))
            .map(|(key, _)| *key)
            .collect();
        for key in stale {
            self.bye(key, ByeCode::Duplicate, "a new link with another intent follows".to_owned());
        }
        let peer = self.links.peer(&node);
        peer.intent = intent;
        peer.failures = 0;
        self.links.plan(&node, now);
        Ok(false)
    }

    /// A node that requests wait for is linked now.
    pub(super) fn grant_requests(&mut self, _now: Duration, node: &NodeName) {
        let linked = self.links.active(node).is_some();
        let member = self.table.member(node).is_some_and(Record::is_running);
        if !(linked && member && self.state() == State::Joined) {
            return;
        }
        for request in self.requests_for(node) {
            self.pending.remove(&request);
            self.effects.push_back(Effect::Reply(request, Ok(())));
        }
    }

    /// A node that requests wait for will not be reached, or will not have us.
    pub(super) fn end_requests_for(&mut self, node: &NodeName, error: &RequestError) {
        for request in self.requests_for(node) {
            self.end_request(request, error.clone());
        }
    }

    /// A node that requests wait for could not be dialled: certain failures end them.
    pub(super) fn fail_requests(&mut self, node: &NodeName, failure: &DialFailure) {
        let error = match failure {
            DialFailure::Refused => RequestError::Unreachable(format!(
                "{node}: nothing listens on its mesh port: start its agent"
            )),
            DialFailure::Unreachable(text) => RequestError::Unreachable(format!("{node}: {text}")),
            DialFailure::Rejected(text) => RequestError::Conflict(format!("{node}: {text}")),
            DialFailure::Yield => return,
        };
        self.end_requests_for(node, &error);
    }

    fn requests_for(&self, node: &NodeName) -> Vec<RequestId> {
        self.pending.iter().filter(|(_, p)| p.node == *node).map(|(id, _)| *id).collect()
    }

    fn end_request(&mut self, request: RequestId, error: RequestError) {
        let Some(pending) = self.pending.remove(&request) else { return };
        if self.links.peer(&pending.node).intent == pending.intent {
            self.links.peer(&pending.node).intent = Intent::Meet;
        }
        if !self.wants(&pending.node) {
            self.links.forget(&pending.node);
        }
        self.effects.push_back(Effect::Reply(request, Err(error)));
    }

    fn leave(&mut self, now: Duration) -> Result<(), RequestError> {
        if self.me.standing != Standing::Left {
            self.become_left(now, Reason::Left);
        }
        Ok(())
    }

    /// Out of the cluster, until a join or until discovery is enabled.
    pub(super) fn become_left(&mut self, now: Duration, reason: Reason) {
        self.me.standing = Standing::Left;
        self.me.reason = Some(reason);
        self.me.attributes = None;
        self.me.burial = self.table.next_burial();
        let me = self.me.clone();
        self.tell_all(&me);
        self.detach(ByeCode::Left, &format!("{} left the cluster", me.node));
        self.forget_everybody();
        self.ring.clear();
        for node in self.links.peers.keys().cloned().collect::<Vec<_>>() {
            self.links.peer(&node).contact = false;
            self.links.forget(&node);
        }
        self.id = None;
        self.joined_at = None;
        self.conflict = None;
        self.set_me(now);
        self.note(Note::Left(reason));
        self.effects.push_back(Effect::Discovery(false));
    }

    fn force_leave(
        &mut self,
        now: Duration,
        node: &NodeName,
        force: bool,
    ) -> Result<(), RequestError> {
        if *node == self.me.node {
            return Err(RequestError::BadRequest(format!("{node} is this node: use leave")));
        }
        let Some(record) = self.table.member(node) else {
            return Err(RequestError::NotFound(format!("{node} is no member of this cluster")));
        };
        if record.is_running() && !force {
            return Err(RequestError::Conflict(format!(
                "{node} is alive; let it leave by itself, or force it"
            )));
        }
        let tombstone =
            self.tombstone(record, Standing::ForceLeft, Reason::ForceLeft, &self.me.node);
        self.bury(now, &tombstone);
        Ok(())
    }

    /// The end of a membership, as the latest that this node knows of.
    pub(super) fn tombstone(
        &self,
        record: &Record,
        standing: Standing,
        reason: Reason,
        by: &NodeName,
    ) -> Record {
        Record { burial: self.table.next_burial(), ..record.with(standing, reason, by) }
    }

    fn bury(&mut self, now: Duration, tombstone: &Record) {
        self.tell_all(tombstone);
        self.hold(now, tombstone);
    }

    fn set_discovery(&mut self, now: Duration, enabled: bool) {
        if self.discovery_off == enabled {
            self.discovery_off = !enabled;
            self.durable_changed();
        }
        if enabled && self.me.standing == Standing::Left {
            self.rejoin(now, self.me.epoch, self.me.incarnation);
            self.answered_at = None;
            if !self.settings.automatic {
                let id = self.fresh_id();
                self.adopt(now, id);
            }
        }
        if enabled {
            let nodes = std::mem::take(&mut self.discovered);
            if self.answered_at.is_some() {
                self.handle_discovered(now, &nodes);
            }
        } else {
            for node in self.links.peers.keys().cloned().collect::<Vec<_>>() {
                self.links.peer(&node).contact = false;
                if !self.wants(&node) {
                    self.links.forget(&node);
                }
            }
        }
        self.effects.push_back(Effect::Discovery(enabled));
    }

    /// Once a second: what has no timer of its own.
    pub(super) fn housekeeping(&mut self, now: Duration) {
        let late: Vec<RequestId> =
            self.pending.iter().filter(|(_, p)| p.deadline <= now).map(|(id, _)| *id).collect();
        for request in late {
            let node = self.pending.get(&request).map(|p| p.node.to_string()).unwrap_or_default();
            self.end_request(
                request,
                RequestError::Unreachable(format!(
                    "{node} did not answer in time: muster doctor looks at what is between the two"
                )),
            );
        }
        self.close_idle(now);
        let share = self.share(now);
        self.tellers.prune(now, share);
        self.end_conflict(now);
        if self.answered_at.is_some_and(|at| now.saturating_sub(at) >= FORMING) {
            self.crowd = 0;
        }
        self.seek_wanted(now);
        self.autoclean(now);
        self.consider_founding(now);
    }

    /// Closes links that said no hello to us although we dialled, and links that
    /// neither side needs.
    fn close_idle(&mut self, now: Duration) {
        let timing = self.settings.timing;
        let mut closing = Vec::new();
        for (key, link) in &self.links.links {
            let age = now.saturating_sub(link.up_at);
            match link.phase {
                Phase::Silent if link.dialed && age >= timing.hello_timeout => {
                    let text = format!("{} did not say hello: it is no muster agent", link.peer);
                    closing.push((*key, ByeCode::Other, text));
                }
                Phase::Active
                    if !link.peer_wants && !self.keeps(&link.peer) && age >= timing.idle_link =>
                {
                    closing.push((*key, ByeCode::Idle, "neither side needs the link".to_owned()));
                }
                _ => {}
            }
        }
        for (key, code, text) in closing {
            self.bye(key, code, text);
        }
    }

    /// Whom we want a link to changes with the members: another's end can make us a
    /// neighbour, or the one who watches over a third.
    fn seek_wanted(&mut self, now: Duration) {
        let mut candidates: Vec<NodeName> = Vec::new();
        if self.is_full_mesh() {
            candidates.extend(self.table.members().map(|record| record.node.clone()));
            self.is_well_linked = true;
        } else {
            // One that could not be dialled once is tried again, in the place it would have.
            if let Some(node) = self.doubtful.iter().choose(&mut self.rng).cloned() {
                self.doubtful.remove(&node);
                self.ring.insert(&node);
            }
            candidates.extend(self.table.stopped().cloned());
            let neighbours = self.ring.neighbours(&self.me.node);
            self.is_well_linked = neighbours.iter().all(|n| self.links.active(n).is_some());
            candidates.extend(neighbours);
        }
        for node in candidates {
            if !self.links.is_sought(&node) && self.wants(&node) {
                self.links.plan(&node, now);
            }
        }
    }

    /// Whether this node is the one that cleans up: the first core.
    pub(super) fn is_cleaner(&self) -> bool {
        self.settings.autoclean.is_some() && self.table.first_core_up() == Some(&self.me.node)
    }

    /// The first core of the majority removes whoever was down too long. It dials them
    /// all until then, so that whoever lives and only may not rejoin is not removed.
    fn autoclean(&mut self, now: Duration) {
        let Some(limit) = self.settings.autoclean else { return };
        if !self.is_cleaner() || !self.table.majority() {
            return;
        }
        let expired: Vec<Record> = self
            .table
            .entries()
            .filter(|entry| entry.record.is_member() && !entry.record.is_running())
            .filter(|entry| now.saturating_sub(entry.since) >= limit)
            .filter(|entry| self.was_tried(now, &entry.record.node))
            .map(|entry| entry.record.clone())
            .collect();
        for record in expired {
            let tombstone =
                self.tombstone(&record, Standing::Autocleaned, Reason::Autocleaned, &self.me.node);
            self.bury(now, &tombstone);
        }
    }

    /// Whether a member was dialled lately, and nobody answered.
    fn was_tried(&self, now: Duration, node: &NodeName) -> bool {
        let peer = self.links.peers.get(node);
        peer.and_then(|peer| peer.failed_at).is_some_and(|at| now.saturating_sub(at) < TRIED)
    }

    /// A name is taken as long as somebody says so again: whoever refuses us is dialled
    /// every ten seconds or so. Whoever refused us may be gone itself.
    fn end_conflict(&mut self, now: Duration) {
        let again = self.settings.timing.redial_refused * 3;
        if now.saturating_sub(self.conflict_at) >= again && self.conflict.take().is_some() {
            self.note(Note::Conflict(None));
        }
    }

    /// Says goodbye to everybody: peers see this node down at once. The machine is not
    /// to be used afterwards but for its effects and [`Membership::durable`].
    pub fn stop(&mut self, now: Duration) {
        if self.me.standing == Standing::Member(Health::Up) {
            let last = match self.settings.leave_on_stop {
                false => {
                    self.me.with(Standing::Member(Health::Down), Reason::Stopped, &self.me.node)
                }
                true => self.tombstone(&self.me, Standing::Left, Reason::Left, &self.me.node),
            };
            self.tell_all(&last);
            if self.settings.leave_on_stop {
                // The next life joins by itself.
                self.me.epoch = self.me.epoch.next();
                self.durable_changed();
            }
        }
        self.stopping = true;
        self.detach(ByeCode::Stopping, &format!("{} stops", self.me.node));
        for request in self.pending.keys().copied().collect::<Vec<_>>() {
            self.end_request(request, RequestError::Stopping);
        }
        for request in self.purges.requests().collect::<Vec<_>>() {
            self.effects.push_back(Effect::Reply(request, Err(RequestError::Stopping)));
        }
        self.timers.clear();
        self.timers.wake = Some(now);
    }
}
