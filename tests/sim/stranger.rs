//! Somebody who holds the cookie and is not admitted: of another cluster or version, under
//! a name that is taken, under a false one, or without a word of greeting. Nothing of what
//! it says changes what an agent shows, at the very moment that it is said.

use std::time::Duration;

use muster::node::{BootId, ClusterId, LinkId, NodeName};
use muster::protocol::membership::{
    Ask, BUCKETS, ByeCode, Durable, Health, Hello, Intent, Membership, Message, Reason, Record,
    Settings, Standing, State,
};
use rand::RngExt;
use rand::seq::IndexedRandom;

use crate::history::{Fact, Pid};
use crate::process::Input;
use crate::world::{World, name};

/// What an agent shows: its state, its view, each member's health, a conflict.
type Shown = (State, u64, Option<ClusterId>, Vec<(NodeName, Option<Health>)>, Option<String>);

impl World {
    /// A stranger links with a process and talks; false: the process is not at rest.
    pub fn intrude(&mut self, pid: Pid) -> bool {
        let process = &self.processes[pid];
        // One that is about to found a cluster does so at any input.
        let is_forming = process.machine.state() == State::Forming;
        if process.slow.is_some() || process.frozen || !process.inbox.is_empty() || is_forming {
            return false;
        }
        let own = process.name.clone();
        let linked: Vec<NodeName> = process
            .machine
            .table()
            .members()
            .filter(|record| record.node != own && process.machine.link(&record.node).is_some())
            .map(|record| record.node.clone())
            .collect();
        let holder = linked.choose(&mut self.rng).cloned();
        let peer = match (holder, self.rng.random_bool(0.5)) {
            (Some(holder), true) => holder,
            _ => name(901),
        };
        // The last one went to the far end of a link.
        self.next_id += 2;
        let key = LinkId(self.next_id);
        self.processes[pid].strange.insert(key);
        let before = self.shown(pid);
        self.feed(pid, Input::LinkUp(key, peer.clone(), None));
        self.compare(pid, &before, "a link");
        for message in self.strange_words(pid, &peer) {
            let frame = message.encode();
            self.feed(pid, Input::Frame(key, frame));
            self.compare(pid, &before, &format!("{message:?}"));
        }
        if self.processes[pid].strange.remove(&key) {
            self.feed(pid, Input::LinkDown(key));
            self.compare(pid, &before, "a link's end");
        }
        true
    }

    fn shown(&self, pid: Pid) -> Shown {
        let machine = &self.processes[pid].machine;
        let members = machine.table().members().map(|r| (r.node.clone(), r.health())).collect();
        let conflict = machine.conflict().map(str::to_owned);
        // Whoever has left shows no view.
        let view = if machine.state() == State::Left { 0 } else { machine.view_hash() };
        (machine.state(), view, machine.id(), members, conflict)
    }

    fn compare(&mut self, pid: Pid, before: &Shown, said: &str) {
        let after = self.shown(pid);
        if after != *before {
            let text = format!("{said}: {before:?} became {after:?}");
            self.fact(Fact::Swayed { pid, text });
        }
    }

    /// What the stranger says, with a greeting that lets nobody in among it, or without.
    fn strange_words(&mut self, pid: Pid, peer: &NodeName) -> Vec<Message> {
        let machine = &self.processes[pid].machine;
        let own = machine.me().clone();
        let is_taken = *peer != name(901);
        let settings = Settings {
            node: peer.clone(),
            boot: BootId(self.rng.random()),
            ..self.settings(self.processes[pid].node, BootId(0))
        };
        let stranger = Membership::new(settings, Durable::default(), Duration::ZERO, 1);
        let removed = own.with(Standing::ForceLeft, Reason::ForceLeft, peer);
        let mut hello = Hello {
            protocol_min: 1,
            protocol: 2,
            cluster: self.plan.clusters[self.nodes[self.processes[pid].node].cluster].name.clone(),
            id: machine.id(),
            automatic: self.plan.clusters[self.nodes[self.processes[pid].node].cluster].automatic,
            intent: Intent::Meet,
            me: stranger.me().clone(),
            you: Some(Record { epoch: own.epoch.next(), ..removed.clone() }),
            view_v1: 0,
            view: Some(0),
        };
        match self.rng.random_range(0..4) {
            // Under a taken name any greeting will do: the holder is asked first.
            0 if is_taken => hello.me.epoch = hello.me.epoch.next(),
            1 if is_taken => hello.me.standing = Standing::Left,
            0 | 1 => hello.cluster = "elsewhere".to_owned(),
            2 => (hello.protocol_min, hello.protocol) = (90, 91),
            _ => hello.me.node = name(902),
        }
        let news = vec![
            Record { boot: own.boot, ..removed },
            own.with(Standing::Member(Health::Down), Reason::Silent, peer),
            stranger.me().clone(),
        ];
        let id = Some(ClusterId(0));
        let mut words = vec![
            Message::Gossip { id, news: news.clone() },
            Message::Ping { seq: 1, view: 1, wanted: true, id, news: news.clone() },
            Message::Ack { seq: 1, view: 1, wanted: true, news: news.clone() },
            Message::PingReply { seq: 1, target: own.node.clone(), alive: true },
            Message::Sync { records: news, want: vec![0, 1], ask: Some(Ask::Whole) },
            Message::Digest { buckets: vec![1; BUCKETS] },
            Message::View { view: 3, id },
            Message::Purge { id: self.rng.random(), brought_by: own.node },
        ];
        if self.rng.random_bool(0.7) {
            let at = self.rng.random_range(0..=words.len());
            words.insert(at, Message::Hello(Box::new(hello)));
        }
        let codes = [ByeCode::NameConflict, ByeCode::Left, ByeCode::Removed, ByeCode::ClusterId];
        let code = codes.choose(&mut self.rng).copied();
        let at = self.rng.random_range(0..=words.len());
        words.insert(at, Message::Bye { code, text: "so it says".to_owned() });
        words
    }
}
