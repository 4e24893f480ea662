//! An operator removes what one liar brought.
//!
//! Every name that nobody has linked with was first told to some honest member by the liar
//! itself, and that member remembers it. So the order goes to all, once; real members say
//! themselves anew when it reaches them, and after [`WAIT`] each member buries whatever the
//! liar told it first, no link has proven, and nothing was heard of meanwhile but that it is
//! not up. News of it may still be under way then: what nobody finds up after [`LATE`] is
//! buried too. It is buried as by autoclean: should a real member be among them after all, it
//! comes back by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::RngExt;

use super::limits::Limit;
use super::message::{Message, Version};
use super::record::{Reason, Record, Standing};
use super::table::Origin;
use super::{Effect, Membership, RequestError, RequestId};
use crate::node::{Incarnation, LinkId, NodeName};

/// For real members to be heard: news reach everybody well within a second.
const WAIT: Duration = Duration::from_secs(3);

/// For views to be the same, and for whatever is not there to be found silent.
const LATE: Duration = Duration::from_secs(20);

/// Purges under way at once.
pub(super) const MOST: usize = 8;

/// Between two that are passed on.
const PAUSE: Duration = Duration::from_millis(200);

/// One order.
#[derive(Clone, Debug)]
struct Purge {
    due: Duration,
    brought_by: NodeName,
    /// At the first look: whom it would bury, with the incarnation that was held when it came.
    suspects: Option<BTreeMap<NodeName, Incarnation>>,
    request: Option<RequestId>,
}

/// Orders under way.
#[derive(Clone, Debug, Default)]
pub(super) struct Purges {
    under_way: BTreeMap<u64, Purge>,
    /// When the last one was taken.
    last: Option<Duration>,
}

impl Purges {
    pub(super) fn next_deadline(&self) -> Option<Duration> {
        self.under_way.values().map(|purge| purge.due).min()
    }

    /// Takes whatever is due.
    fn due(&mut self, now: Duration) -> Vec<(u64, Purge)> {
        let due: Vec<u64> =
            self.under_way.iter().filter(|(_, p)| p.due <= now).map(|(id, _)| *id).collect();
        due.into_iter().filter_map(|id| Some((id, self.under_way.remove(&id)?))).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.under_way.len()
    }

    /// Makes room for one more: of those that are looked after once more the oldest gives way.
    fn make_room(&mut self) -> bool {
        if self.under_way.len() >= MOST {
            let later = self.under_way.iter().filter(|(_, p)| p.suspects.is_none());
            let oldest = later.min_by_key(|(_, p)| p.due).map(|(id, _)| *id);
            oldest.map(|id| self.under_way.remove(&id));
        }
        self.under_way.len() < MOST
    }

    /// Requests that wait for an order's end.
    pub(super) fn requests(&self) -> impl Iterator<Item = RequestId> {
        self.under_way.values().filter_map(|purge| purge.request)
    }
}

impl Membership {
    /// An operator's order.
    pub(super) fn purge(
        &mut self,
        now: Duration,
        request: RequestId,
        node: &NodeName,
    ) -> Result<(), RequestError> {
        if !self.purges.make_room() {
            return Err(RequestError::Conflict(
                "as many removals as can be are under way; each takes three seconds: try again \
                 then"
                    .to_owned(),
            ));
        }
        let id = self.rng.random();
        self.begin_purge(now, id, node, Some(request));
        Ok(())
    }

    /// A peer passes an order on.
    pub(super) fn hear_purge(&mut self, now: Duration, id: u64, node: &NodeName) {
        if self.purges.under_way.contains_key(&id) {
            return;
        }
        let soon = self.purges.last.is_some_and(|last| now.saturating_sub(last) < PAUSE);
        if soon || !self.purges.make_room() {
            return self.reached(now, Limit::Purges);
        }
        self.begin_purge(now, id, node, None);
    }

    fn begin_purge(
        &mut self,
        now: Duration,
        id: u64,
        brought_by: &NodeName,
        request: Option<RequestId>,
    ) {
        let held = self.brought_by(brought_by);
        let suspects = held.map(|record| (record.node.clone(), record.incarnation)).collect();
        self.purges.last = Some(now);
        let purge = Purge {
            due: now + WAIT,
            brought_by: brought_by.clone(),
            suspects: Some(suspects),
            request,
        };
        self.purges.under_way.insert(id, purge);
        let message = Message::Purge { id, brought_by: brought_by.clone() };
        let able = self.links.all_active().filter(|(_, link)| link.version == Version::V2);
        let able: Vec<LinkId> = able.map(|(key, _)| key).collect();
        for key in able {
            self.send(key, &message);
        }
        self.say_anew(now);
    }

    /// The members that one told this node of first, and that no link has proven.
    fn brought_by(&self, node: &NodeName) -> impl Iterator<Item = &Record> {
        let brought = Origin::Brought(node.clone());
        let entries = self.table.entries();
        entries.filter(move |e| e.record.is_member() && e.origin == brought).map(|e| &e.record)
    }

    /// Buries what is due.
    pub(super) fn run_purges(&mut self, now: Duration) {
        for (id, purge) in self.purges.due(now) {
            let is_unheard = |record: &&Record| {
                let suspects = purge.suspects.as_ref();
                let held = suspects.and_then(|suspects| suspects.get(&record.node));
                !record.is_running() || held == Some(&record.incarnation)
            };
            let unheard: Vec<Record> =
                self.brought_by(&purge.brought_by).filter(is_unheard).cloned().collect();
            for record in unheard {
                let me = self.me.node.clone();
                let buried = self.tombstone(&record, Standing::Autocleaned, Reason::ForceLeft, &me);
                self.hold(now, &buried);
            }
            if purge.suspects.is_some() {
                let again = Purge { due: now + LATE, suspects: None, request: None, ..purge };
                self.purges.under_way.insert(id, again);
            }
            if let Some(request) = purge.request {
                self.effects.push_back(Effect::Reply(request, Ok(())));
            }
        }
    }
}
