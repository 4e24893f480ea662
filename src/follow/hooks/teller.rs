//! From the event log and the snapshots to what hooks are told.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::super::{Beginning, World};
use super::conditions::{Conditions, Now};
use super::queue::Message;
use crate::api::{EventBody, Member, rfc3339};
use crate::config::HookEvent;
use crate::events::{Event, EventKind, Since};
use crate::node::NodeName;
use crate::ready;
use crate::view::{ClusterState, MemberStatus, Snapshot};

/// Events taken out of the log at a time.
const BATCH: usize = 512;

/// What was told already.
#[derive(Debug)]
pub(super) struct Teller {
    seen: u64,
    missed: u64,
    /// Members said to be down: a suspicion in between is no news to a hook.
    down: BTreeSet<NodeName>,
    conditions: Conditions,
}

impl Teller {
    pub(super) fn new(beginning: &Beginning) -> Self {
        let down = beginning.snapshot.stopped().cloned().collect();
        Self { seen: beginning.event, missed: 0, down, conditions: Conditions::default() }
    }

    /// Events that left the log before they were read, since this was last asked.
    pub(super) fn take_missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }

    /// Everything that happened since, in order.
    pub(super) fn news(&mut self, world: &World) -> Vec<Message> {
        let mut messages = Vec::new();
        loop {
            match world.events.since(self.seen, BATCH) {
                Since::Events(events) if events.is_empty() => break,
                Since::Events(events) => {
                    let snapshot = Arc::clone(&world.snapshots.borrow());
                    for event in &events {
                        self.seen = event.id;
                        if let Some(kind) = self.kind(event) {
                            messages.push(of_member(kind, event, &snapshot));
                        }
                    }
                }
                Since::Reset(last) => {
                    // The log still holds the newest events: a program has to hear of these.
                    let kept = match world.events.since(0, 1) {
                        Since::Events(events) => events.first().map(|event| event.id - 1),
                        Since::Reset(_) => None,
                    };
                    let before = kept.unwrap_or(last);
                    self.missed += before.saturating_sub(self.seen);
                    self.seen = before;
                }
            }
        }
        let snapshot = Arc::clone(&world.snapshots.borrow());
        let report = world.broker.borrow().clone();
        let now = Now {
            ready: ready::checks(&snapshot, &world.config.borrow()).iter().all(|check| check.ok),
            majority: match snapshot.state {
                ClusterState::Joined | ClusterState::Singleton => Some(snapshot.majority),
                ClusterState::Forming | ClusterState::Left => None,
            },
            broker: report.status,
        };
        let changes = self.conditions.observe(now);
        messages.extend(changes.into_iter().map(|kind| of_self(kind, &snapshot, &report.detail)));
        messages
    }

    /// What an event is called for hooks.
    fn kind(&mut self, event: &Event) -> Option<HookEvent> {
        let node = &event.node;
        match (event.kind, event.to) {
            (EventKind::Joined, to) => {
                if to == Some(MemberStatus::Down) {
                    self.down.insert(node.clone());
                }
                Some(HookEvent::MemberJoined)
            }
            (EventKind::Updated, _) => Some(HookEvent::MemberUpdated),
            (EventKind::Left, _) => {
                self.down.remove(node);
                Some(HookEvent::MemberLeft)
            }
            (EventKind::Removed, _) => {
                self.down.remove(node);
                Some(HookEvent::MemberRemoved)
            }
            (EventKind::Changed, Some(MemberStatus::Down)) => {
                self.down.insert(node.clone()).then_some(HookEvent::MemberDown)
            }
            (EventKind::Changed, Some(MemberStatus::Up)) => {
                self.down.remove(node).then_some(HookEvent::MemberUp)
            }
            (EventKind::Changed, _) => None,
        }
    }
}

/// The event as the API has it, and the member as it is now.
fn of_member(kind: HookEvent, event: &Event, snapshot: &Snapshot) -> Message {
    let body = match serde_json::to_value(EventBody::from(event)) {
        Ok(Value::Object(body)) => body,
        // Our own shape has string keys and no failing serialiser.
        _ => Map::new(),
    };
    let member = snapshot.members.iter().find(|member| member.node == event.node).map(|held| {
        let mut shown = Member::from(held);
        // Events are there at once, snapshots follow at their own pace.
        let is_behind = held.last_change.as_ref().is_none_or(|change| change.at < event.at);
        if let Some(to) = event.to.filter(|_| is_behind) {
            shown.status = to;
        }
        shown
    });
    message(kind, event.node.to_string(), snapshot, body, json!(member))
}

fn of_self(kind: HookEvent, snapshot: &Snapshot, broker: &str) -> Message {
    let text = if kind == HookEvent::BrokerDown { broker } else { "" };
    let node = snapshot.self_node.to_string();
    let mut body = Map::new();
    body.insert("at".to_owned(), json!(rfc3339(SystemTime::now())));
    body.insert("node".to_owned(), json!(node));
    body.insert("text".to_owned(), json!(text));
    let member = snapshot.members.iter().find(|member| member.is_self);
    message(kind, node, snapshot, body, json!(member.map(Member::from)))
}

fn message(
    event: HookEvent,
    node: String,
    snapshot: &Snapshot,
    mut body: Map<String, Value>,
    member: Value,
) -> Message {
    body.insert("event".to_owned(), json!(event.name()));
    body.insert("self".to_owned(), json!(snapshot.self_node.to_string()));
    body.insert("cluster".to_owned(), json!(snapshot.name));
    body.insert("member".to_owned(), member);
    let body = Value::Object(body).to_string().into_bytes();
    Message { event, node, body, since: Instant::now() }
}
