//! Small worlds, all of them: two or three real machines, and every order of a few inputs
//! up to a depth. What the histories draw at random this tries without exception.
//!
//! A world begins with one cluster that has formed. In each step one thing happens: a frame
//! arrives or is lost, a link breaks, a pair is cut or heals, a process crashes, stops or
//! starts, with its disk or without, an operator asks for something, or time passes to the
//! next timer. Worlds that are alike are visited once. In each of them nothing that was
//! removed is a member, and no table holds more than it may; and from each at the greatest
//! depth calm must lead to one view.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use muster::node::{BootId, LinkId, NodeName, Role};
use muster::protocol::membership::{
    Action, DialFailure, Durable, Effect, Epoch, Limits, Membership, Message, Record, RequestId,
    Settings, State, Timing,
};

use crate::calm::content;
use crate::world::name;

/// By then there is one view, when nothing more happens.
const CALM: Duration = Duration::from_secs(45);

/// What may happen next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Move {
    Deliver(LinkId),
    Lose(LinkId),
    Break(LinkId),
    Cut(usize, usize),
    Heal(usize, usize),
    Crash(usize),
    Stop(usize),
    Start(usize),
    StartEmpty(usize),
    Leave(usize),
    Join(usize, usize),
    ForceLeave(usize, usize),
    Time,
}

#[derive(Clone, Debug)]
struct Small {
    now: Duration,
    nodes: Vec<Option<Membership>>,
    disks: Vec<Durable>,
    /// Whose end it is, and the other end.
    links: BTreeMap<LinkId, (usize, LinkId)>,
    /// Frames on their way, by the end that sent them.
    flows: BTreeMap<LinkId, VecDeque<Vec<u8>>>,
    cuts: BTreeSet<(usize, usize)>,
    /// What each holds a tombstone of, and of which epoch.
    buried: Vec<BTreeMap<NodeName, Epoch>>,
    next: u64,
}

fn pair(a: usize, b: usize) -> (usize, usize) {
    (a.min(b), a.max(b))
}

impl Small {
    /// Nodes that have become one cluster.
    fn formed(count: usize) -> Self {
        let mut world = Self {
            now: Duration::ZERO,
            nodes: vec![None; count],
            disks: vec![Durable::default(); count],
            links: BTreeMap::new(),
            flows: BTreeMap::new(),
            cuts: BTreeSet::new(),
            buried: vec![BTreeMap::new(); count],
            next: 1,
        };
        (0..count).for_each(|node| world.start(node));
        world.calm(Duration::from_secs(3));
        world
    }

    fn start(&mut self, node: usize) {
        self.next += 1;
        let settings = Settings {
            node: name(node),
            boot: BootId(self.next),
            role: Role::Core,
            version: "0.0.0".to_owned(),
            cluster: "emqxcl".to_owned(),
            automatic: true,
            autoheal: true,
            autoclean: None,
            full_mesh_limit: 64,
            leave_on_stop: false,
            whole_view_limit: 2,
            limits: Limits::default(),
            timing: Timing::default(),
        };
        let disk = self.disks[node].clone();
        let discovers = !disk.left && !disk.discovery_off;
        let mut machine = Membership::new(settings, disk, self.now, self.next);
        if discovers {
            let all = (0..self.nodes.len()).map(name).collect();
            machine.handle_discovered(self.now, &all);
        }
        self.buried[node].clear();
        self.nodes[node] = Some(machine);
        self.settle();
    }

    fn moves(&self) -> Vec<Move> {
        let mut moves = vec![Move::Time];
        for (key, flow) in &self.flows {
            let Some(frame) = flow.front() else { continue };
            moves.push(Move::Deliver(*key));
            // Frames are lost where a queue is full, and a link's first is alone in it.
            if !matches!(Message::decode(frame), Ok(Message::Hello(_))) {
                moves.push(Move::Lose(*key));
            }
        }
        moves.extend(self.links.iter().filter(|(k, (_, o))| *k < o).map(|(k, _)| Move::Break(*k)));
        for a in 0..self.nodes.len() {
            match &self.nodes[a] {
                Some(_) => moves.extend([Move::Crash(a), Move::Stop(a), Move::Leave(a)]),
                None => moves.extend([Move::Start(a), Move::StartEmpty(a)]),
            }
            for b in (0..self.nodes.len()).filter(|b| *b != a) {
                if self.nodes[a].is_some() {
                    moves.extend([Move::Join(a, b), Move::ForceLeave(a, b)]);
                }
                if a < b {
                    let is_cut = self.cuts.contains(&(a, b));
                    moves.push(if is_cut { Move::Heal(a, b) } else { Move::Cut(a, b) });
                }
            }
        }
        moves
    }

    fn play(&mut self, step: Move) {
        match step {
            Move::Deliver(key) => self.deliver(key),
            Move::Lose(key) => drop(self.flows.get_mut(&key).and_then(VecDeque::pop_front)),
            Move::Break(key) => self.end_link(key),
            Move::Cut(a, b) => drop(self.cuts.insert((a, b))),
            Move::Heal(a, b) => drop(self.cuts.remove(&(a, b))),
            Move::Crash(node) => self.end(node),
            Move::Stop(node) => {
                if let Some(machine) = &mut self.nodes[node] {
                    machine.stop(self.now);
                }
                self.settle();
                self.end(node);
            }
            Move::Start(node) => self.start(node),
            Move::StartEmpty(node) => {
                self.disks[node] = Durable::default();
                self.start(node);
            }
            Move::Leave(node) => self.ask(node, Action::Leave),
            Move::Join(a, b) => self.ask(a, Action::Join { node: name(b), force: true }),
            Move::ForceLeave(a, b) => {
                self.ask(a, Action::ForceLeave { node: name(b), force: true });
            }
            Move::Time => self.pass_time(Duration::MAX),
        }
        self.settle();
    }

    fn ask(&mut self, node: usize, action: Action) {
        self.next += 1;
        if let Some(machine) = &mut self.nodes[node] {
            machine.handle_request(self.now, RequestId(self.next), action);
        }
    }

    /// To the next timer of anybody, if it comes by then.
    fn pass_time(&mut self, until: Duration) {
        let deadlines = self.nodes.iter_mut().flatten().filter_map(Membership::next_deadline);
        let Some(at) = deadlines.min().filter(|at| *at <= until) else {
            self.now = self.now.max(until.min(self.now + CALM));
            return;
        };
        self.now = self.now.max(at);
        for machine in self.nodes.iter_mut().flatten() {
            if machine.next_deadline().is_some_and(|at| at <= self.now) {
                machine.handle_timeout(self.now);
            }
        }
        self.settle();
    }

    fn deliver(&mut self, key: LinkId) {
        let Some(frame) = self.flows.get_mut(&key).and_then(VecDeque::pop_front) else { return };
        let Some(&(from, there)) = self.links.get(&key) else { return };
        let Some(&(to, _)) = self.links.get(&there) else { return };
        if self.cuts.contains(&pair(from, to)) {
            return;
        }
        if let Some(machine) = &mut self.nodes[to] {
            machine.handle_frame(self.now, there, &frame);
        }
        self.settle();
    }

    fn end(&mut self, node: usize) {
        self.nodes[node] = None;
        let ends: Vec<LinkId> =
            self.links.iter().filter(|(_, (owner, _))| *owner == node).map(|(k, _)| *k).collect();
        ends.into_iter().for_each(|key| self.end_link(key));
    }

    fn end_link(&mut self, key: LinkId) {
        let Some((owner, other)) = self.links.remove(&key) else { return };
        let peer = self.links.remove(&other).map(|(peer, _)| peer);
        for (node, key) in [(Some(owner), key), (peer, other)] {
            self.flows.remove(&key);
            if let Some(machine) = node.and_then(|node| self.nodes[node].as_mut()) {
                machine.handle_link_down(self.now, key);
            }
        }
    }

    /// Carries out what machines want until they want nothing, and writes their disks.
    fn settle(&mut self) {
        loop {
            let mut work = Vec::new();
            for (node, machine) in self.nodes.iter_mut().enumerate() {
                while let Some(effect) = machine.as_mut().and_then(Membership::poll_effect) {
                    work.push((node, effect));
                }
            }
            if work.is_empty() {
                break;
            }
            work.into_iter().for_each(|(node, effect)| self.carry_out(node, effect));
        }
        for (disk, machine) in self.disks.iter_mut().zip(&self.nodes) {
            if let Some(machine) = machine {
                *disk = machine.durable();
            }
        }
    }

    fn carry_out(&mut self, node: usize, effect: Effect) {
        match effect {
            Effect::Dial(peer) => self.dial(node, &peer),
            Effect::Send(key, frame) => {
                if self.links.contains_key(&key) {
                    self.flows.entry(key).or_default().push_back(frame);
                }
            }
            Effect::Close(key, _) => {
                // What was said before it arrives first.
                let waiting = self.flows.get(&key).map_or(0, VecDeque::len);
                (0..waiting).for_each(|_| self.deliver(key));
                self.end_link(key);
            }
            Effect::Discovery(true) => {
                let all = (0..self.nodes.len()).map(name).collect();
                if let Some(machine) = &mut self.nodes[node] {
                    machine.handle_discovered(self.now, &all);
                }
            }
            Effect::Discovery(false) | Effect::Event(_) | Effect::Note(_) | Effect::Reply(..) => {}
        }
    }

    fn dial(&mut self, node: usize, peer: &NodeName) {
        let Some(there) = (0..self.nodes.len()).find(|other| name(*other) == *peer) else { return };
        let is_cut = self.cuts.contains(&pair(node, there));
        let failure = match &self.nodes[there] {
            _ if is_cut => Some(DialFailure::Unreachable("no answer".to_owned())),
            None => Some(DialFailure::Refused),
            Some(_) => None,
        };
        if let Some(failure) = failure {
            if let Some(machine) = &mut self.nodes[node] {
                machine.handle_dial_failed(self.now, peer, &failure);
            }
            return;
        }
        self.next += 2;
        let ends = [LinkId(self.next), LinkId(self.next + 1)];
        self.links.insert(ends[0], (node, ends[1]));
        self.links.insert(ends[1], (there, ends[0]));
        let peers = [(node, peer.clone(), true), (there, name(node), false)];
        for ((owner, peer, dialed), key) in peers.into_iter().zip(ends) {
            if let Some(machine) = &mut self.nodes[owner] {
                machine.handle_link_up(self.now, key, &peer, dialed, None);
            }
        }
    }

    /// Everything arrives, and time passes.
    fn calm(&mut self, time: Duration) {
        self.cuts.clear();
        let end = self.now + time;
        while self.now < end {
            while let Some(key) =
                self.flows.iter().find(|(_, flow)| !flow.is_empty()).map(|(key, _)| *key)
            {
                self.deliver(key);
            }
            self.pass_time(end);
        }
    }

    /// What must be so at any time.
    fn check(&mut self) -> Result<(), String> {
        for (node, machine) in self.nodes.iter().enumerate() {
            let Some(machine) = machine else { continue };
            if machine.state() == State::Left {
                self.buried[node].clear();
            }
            for record in machine.table().entries().map(|entry| &entry.record) {
                let known = self.buried[node].get(&record.node).copied();
                if record.is_member() && known.is_some_and(|epoch| record.epoch <= epoch) {
                    return Err(format!("{} holds {record:?} after a tombstone", name(node)));
                }
                if !record.is_member() {
                    self.buried[node].insert(record.node.clone(), record.epoch);
                }
            }
            if let Some((table, held, bound)) =
                machine.books().into_iter().find(|(_, held, bound)| held > bound)
            {
                return Err(format!("{}: {table}, {held} of {bound}", name(node)));
            }
        }
        Ok(())
    }

    /// What must be so in the end: who has joined sees all who have, and nobody else up.
    fn agrees(&self) -> Result<(), String> {
        let joined: Vec<&Membership> =
            self.nodes.iter().flatten().filter(|m| m.state() == State::Joined).collect();
        let names: BTreeSet<&NodeName> = joined.iter().map(|m| &m.me().node).collect();
        for machine in &joined {
            let up: BTreeSet<&NodeName> = machine
                .table()
                .members()
                .filter(|record| record.is_running())
                .map(|record: &Record| &record.node)
                .collect();
            let same = content(machine.table()) == content(joined[0].table());
            if up != names || !same || machine.disagreeing().count() > 0 {
                return Err(format!(
                    "{} sees {up:?} of {names:?}, the same records {same}",
                    machine.me().node
                ));
            }
        }
        match self.nodes.iter().flatten().find(|m| m.state() == State::Forming) {
            Some(machine) => Err(format!("{} is forming", machine.me().node)),
            None => Ok(()),
        }
    }

    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        format!("{self:?}").hash(&mut hasher);
        hasher.finish()
    }
}

/// What an exploration came to.
#[derive(Debug, Default)]
struct Explored {
    worlds: BTreeSet<u64>,
    alike: u64,
    ends: u64,
}

fn explore(
    world: &Small,
    depth: usize,
    path: &mut Vec<Move>,
    explored: &mut Explored,
) -> Result<(), String> {
    if depth == 0 {
        let mut world = world.clone();
        explored.ends += 1;
        // A name that two lives contend for is settled after half a minute.
        world.calm(CALM);
        let verdict = world.check().and_then(|()| world.agrees());
        return verdict.map_err(|text| format!("{path:?}, then calm: {text}"));
    }
    for step in world.moves() {
        let mut next = world.clone();
        next.play(step);
        path.push(step);
        next.check().map_err(|text| format!("{path:?}: {text}"))?;
        if explored.worlds.insert(next.fingerprint()) {
            explore(&next, depth - 1, path, explored)?;
        } else {
            explored.alike += 1;
        }
        path.pop();
    }
    Ok(())
}

fn explored(nodes: usize, depth: usize) {
    let mut explored = Explored::default();
    let verdict = explore(&Small::formed(nodes), depth, &mut Vec::new(), &mut explored);
    println!(
        "{nodes} nodes, {depth} deep: {} worlds, {} seen again, calm after {}",
        explored.worlds.len(),
        explored.alike,
        explored.ends
    );
    if let Err(text) = verdict {
        panic!("{text}");
    }
}

#[test]
fn small_worlds() {
    match crate::number("EXPLORE_DEPTH") {
        Some(depth) => {
            explored(crate::number("EXPLORE_NODES").unwrap_or(2) as usize, depth as usize);
        }
        None => {
            explored(2, 3);
            explored(3, 2);
        }
    }
}
