//! A member that says whatever the wire can carry: its agent is a good one, and somebody
//! with the cookie writes into its links.
//!
//! What it says of nodes is noted, since others may believe it of who is not linked to
//! them. When the faults end it is thrown out: its process ends, and operators remove it
//! and what it brought, as `docs/security.md` has them do.

use std::time::Duration;

use muster::node::{BootId, ClusterId, Incarnation, LinkId, NodeName, Role};
use muster::protocol::membership::{
    Action, Ask, BUCKETS, ByeCode, Epoch, Health, Message, Reason, Record, Standing, State,
};
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};

use crate::history::{Fact, Pid};
use crate::plan::Fault;
use crate::world::{Event, World, name};

/// Names from this one on are made up.
const GHOSTS: usize = 2_000;

/// How many of these there are.
const MOST_GHOSTS: usize = 150;

/// Statements in one burst, at most.
const BURST: usize = 24;

fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

impl World {
    /// The liar speaks; false: there is none, or nobody hears it.
    pub fn lie(&mut self) -> bool {
        let Some(pid) = self.plan.liar.and_then(|node| self.nodes[node].pid) else { return false };
        if self.processes[pid].frozen {
            return false;
        }
        let mut links: Vec<LinkId> = self.processes[pid].links.keys().copied().collect();
        links.shuffle(&mut self.rng);
        let heard_by = self.rng.random_range(0..=links.len());
        links.truncate(heard_by);
        for key in &links {
            let times = if self.rng.random_bool(0.1) { 40 } else { 1 };
            for frame in self.lies(pid) {
                for _ in 0..times {
                    self.send(pid, *key, frame.clone());
                }
            }
        }
        !links.is_empty()
    }

    /// What it says next.
    fn lies(&mut self, pid: Pid) -> Vec<Vec<u8>> {
        let id = self.processes[pid].machine.id();
        let view = if self.rng.random_bool(0.5) {
            self.processes[pid].machine.view_hash()
        } else {
            self.rng.random()
        };
        let seq = self.rng.random_range(0..200);
        let message = match self.rng.random_range(0..16) {
            0..6 => Message::Gossip { id, news: self.false_records(pid) },
            6 => Message::Ping { seq, view, wanted: true, id, news: self.false_records(pid) },
            7 => Message::Ack { seq, view, wanted: false, news: self.false_records(pid) },
            8 => {
                let parts = self.rng.random_range(0..4);
                let want = (0..parts).map(|_| self.rng.random()).collect();
                let ask = *[None, Some(Ask::Whole), Some(Ask::Parts), Some(Ask::More)]
                    .choose(&mut self.rng)
                    .unwrap_or(&None);
                Message::Sync { records: self.false_records(pid), want, ask }
            }
            9 => {
                let count = *[BUCKETS, 64, 0, 3].choose(&mut self.rng).unwrap_or(&0);
                let value = if self.rng.random_bool(0.5) { 0 } else { self.rng.random() };
                Message::Digest { buckets: vec![value; count] }
            }
            10 => Message::PingReq { seq, target: self.some_lied_about(pid).node },
            11 => {
                let target = self.some_lied_about(pid).node;
                Message::PingReply { seq, target, alive: self.rng.random_bool(0.5) }
            }
            12 => {
                let other = ClusterId(self.rng.random());
                Message::View { view, id: if self.rng.random_bool(0.2) { Some(other) } else { id } }
            }
            13 => {
                let brought_by = self.some_lied_about(pid).node;
                Message::Purge { id: self.rng.random(), brought_by }
            }
            14 => {
                let codes = [ByeCode::NameConflict, ByeCode::Idle, ByeCode::AutohealOff];
                let code = codes.choose(&mut self.rng).copied();
                Message::Bye { code, text: "as it pleases".to_owned() }
            }
            _ => {
                // Bytes that are no message, or were one.
                let mut bytes = Message::View { view, id }.encode();
                let at = self.rng.random_range(0..bytes.len());
                bytes[at] ^= 1 << self.rng.random_range(0..8);
                let half = self.rng.random_range(0..=bytes.len());
                bytes.truncate(half);
                return vec![bytes];
            }
        };
        vec![message.encode()]
    }

    /// A record to begin a lie with: one that the liar holds, or of nobody.
    fn some_lied_about(&mut self, pid: Pid) -> Record {
        let table = self.processes[pid].machine.table();
        let known: Vec<&Record> = table.entries().map(|entry| &entry.record).collect();
        let real = known.choose(&mut self.rng).map(|record| (*record).clone());
        if let Some(record) = real.filter(|_| self.rng.random_bool(0.6)) {
            return record;
        }
        if self.rng.random_bool(0.2) {
            let node = self.rng.random_range(0..self.nodes.len());
            return invented(self.nodes[node].name.clone());
        }
        invented(name(GHOSTS + self.rng.random_range(0..MOST_GHOSTS)))
    }

    fn false_records(&mut self, pid: Pid) -> Vec<Record> {
        let most = if self.rng.random_bool(0.2) { BURST } else { 3 };
        let count = self.rng.random_range(1..=most);
        (0..count).map(|_| self.false_record(pid)).collect()
    }

    fn false_record(&mut self, pid: Pid) -> Record {
        let mut record = self.some_lied_about(pid);
        let further = |number: u64, by: u32| match by {
            0..8 => number,
            8..11 => number.saturating_add(1),
            11 => number.saturating_add(5),
            12 => number.saturating_add(1 << 16),
            13 => number.saturating_add(1 << 30),
            14 => u64::MAX,
            _ => u64::MAX / 2,
        };
        record.epoch = Epoch(further(record.epoch.0, self.rng.random_range(0..16)));
        record.incarnation =
            Incarnation(further(record.incarnation.0, self.rng.random_range(0..16)));
        record.standing = *[
            Standing::Member(Health::Up),
            Standing::Member(Health::Up),
            Standing::Member(Health::Suspect),
            Standing::Member(Health::Down),
            Standing::Member(Health::Unknown),
            Standing::Left,
            Standing::ForceLeft,
            Standing::Autocleaned,
        ]
        .choose(&mut self.rng)
        .unwrap_or(&record.standing);
        if self.rng.random_bool(0.2) {
            record.boot = BootId(self.rng.random());
        }
        record.reason = Some(*Reason::ALL.choose(&mut self.rng).unwrap_or(&Reason::Other));
        record.by = match self.rng.random_range(0..3) {
            0 => record.node.clone(),
            1 => self.processes[pid].name.clone(),
            _ => self.some_lied_about(pid).node,
        };
        if record.standing.health().is_some() {
            record.burial = 0;
        } else {
            record.attributes = None;
            record.burial = further(record.burial, self.rng.random_range(0..16));
        }
        let (node, epoch) = (record.node.clone(), record.epoch);
        self.fact(Fact::Hearsay { node, epoch });
        record
    }

    /// The liar is found out: it gets in no more, and operators remove what it did.
    pub fn end_the_liar(&mut self) {
        let Some(node) = self.plan.liar else { return };
        self.plan.faults.retain(|(fault, _)| *fault != Fault::Lie);
        if let Some(pid) = self.nodes[node].pid {
            self.kill(pid);
        }
        self.nodes[node].is_retired = true;
        for after in [5_000, 17_000, 29_000] {
            self.after(ms(after), Event::Cleanup);
        }
    }

    /// Operators remove the liar, and then what it brought; what is left of the names that
    /// it made up they remove one by one.
    pub fn clean_up_after_the_liar(&mut self) {
        let Some(liar) = self.plan.liar.map(|node| self.nodes[node].name.clone()) else { return };
        let joined: Vec<Pid> = self
            .living()
            .into_iter()
            .filter(|pid| self.processes[*pid].machine.state() == State::Joined)
            .collect();
        let is_last = self.now >= self.history.calm_at + ms(29_000);
        let mut told: Vec<Option<ClusterId>> = Vec::new();
        for pid in joined {
            let machine = &self.processes[pid].machine;
            let members: Vec<NodeName> =
                machine.table().members().map(|record| record.node.clone()).collect();
            if members.contains(&liar) {
                self.ask(pid, Action::ForceLeave { node: liar.clone(), force: true });
            }
            let id = self.processes[pid].machine.id();
            if told.contains(&id) {
                continue;
            }
            told.push(id);
            self.ask(pid, Action::ForceLeaveBroughtBy { node: liar.clone() });
            let is_ghost = |node: &NodeName| self.place(node).is_none();
            let ghosts: Vec<NodeName> =
                members.into_iter().filter(|node| is_last && is_ghost(node)).collect();
            for node in ghosts {
                self.count("ghost outlived the purge");
                self.ask(pid, Action::ForceLeave { node, force: true });
            }
        }
    }
}

/// A record of a node that the liar holds none of.
fn invented(node: NodeName) -> Record {
    Record {
        by: node.clone(),
        node,
        epoch: Epoch(0),
        standing: Standing::Member(Health::Up),
        incarnation: Incarnation(1),
        boot: BootId(7),
        role: Role::Core,
        reason: Some(Reason::Announced),
        version: "0.0.0".to_owned(),
        attributes: None,
        burial: 0,
    }
}
