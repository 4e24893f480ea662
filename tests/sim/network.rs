//! Links as the mesh makes them: dials with the Erlang handshake's answers, frames in
//! order or not at all, bounded queues, ends that one side may not hear of.
//!
//! TCP loses and repeats nothing, so loss shows as delay and as broken links, and
//! frames are lost where a queue is full and where a process or a link dies.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use muster::mesh::QUEUE_BYTES;
use muster::node::{LinkId, NodeName};
use muster::protocol::membership::DialFailure;
use rand::RngExt;

use crate::history::Pid;
use crate::process::Input;
use crate::world::{Event, INBOX, World};

/// For how long a dial makes the peer's give way, as in the mesh.
const PREFERENCE: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_secs(3);
const HANDSHAKE: Duration = Duration::from_secs(7);
/// A closing link's queue is written out for at most so long.
const FLUSH: Duration = Duration::from_millis(100);

/// Which places cannot talk.
#[derive(Debug, Default)]
pub struct Network {
    /// Blocked directions, with how many cuts block each.
    blocked: BTreeMap<(usize, usize), u32>,
    /// Cuts by number.
    cuts: BTreeMap<u64, Vec<(usize, usize)>>,
    /// When a direction was last open after a cut.
    opened: BTreeMap<(usize, usize), Duration>,
    next: u64,
    /// How probable it is that a segment is lost.
    pub loss: f64,
}

impl Network {
    pub fn is_blocked(&self, from: usize, to: usize) -> bool {
        !self.blocked.is_empty() && self.blocked.contains_key(&(from, to))
    }

    pub fn cut(&mut self, directions: Vec<(usize, usize)>) -> u64 {
        self.next += 1;
        for direction in &directions {
            *self.blocked.entry(*direction).or_default() += 1;
        }
        self.cuts.insert(self.next, directions);
        self.next
    }

    fn uncut(&mut self, number: u64, now: Duration) {
        for direction in self.cuts.remove(&number).unwrap_or_default() {
            if let Some(count) = self.blocked.get_mut(&direction) {
                *count -= 1;
                if *count == 0 {
                    self.blocked.remove(&direction);
                    self.opened.insert(direction, now);
                }
            }
        }
    }

    pub fn numbers(&self) -> Vec<u64> {
        self.cuts.keys().copied().collect()
    }

    /// When two places last could not talk.
    pub fn last_cut(&self, a: usize, b: usize, now: Duration) -> Duration {
        let last = |from, to| {
            if self.is_blocked(from, to) {
                now
            } else {
                self.opened.get(&(from, to)).copied().unwrap_or_default()
            }
        };
        last(a, b).max(last(b, a))
    }
}

/// What travels in one direction.
#[derive(Debug)]
pub enum Item {
    Frame(Vec<u8>),
    /// The handshake's last message: the dialling end is up.
    Up,
    /// The end of the stream.
    Fin,
}

/// One direction of a link.
#[derive(Debug, Default)]
pub struct Flow {
    queue: VecDeque<(Duration, Item)>,
    /// Bytes of frames in the queue.
    bytes: usize,
    last: Duration,
    /// When the link can take the next byte, where it does not take any number of them.
    free: Duration,
    /// An arrival is queued for the first item.
    moving: bool,
}

impl Flow {
    fn clear(&mut self) {
        self.queue.clear();
        self.bytes = 0;
    }

    fn pop(&mut self) -> Option<Item> {
        let (_, item) = self.queue.pop_front()?;
        self.bytes -= item.bytes();
        Some(item)
    }
}

impl Item {
    fn bytes(&self) -> usize {
        if let Self::Frame(frame) = self { frame.len() } else { 0 }
    }
}

/// One end of a link.
#[derive(Debug)]
pub struct End {
    pid: Pid,
    key: LinkId,
    /// The process was told that it is up, and not that it is down.
    open: bool,
    /// Frames are read and given to the process.
    reading: bool,
    last_received: Duration,
    /// Until then a closed end still takes what arrives, and gives it to nobody.
    lingers: Duration,
}

/// A link: the dialling end first.
#[derive(Debug)]
pub struct Conn {
    ends: [End; 2],
    /// From each end to the other.
    flows: [Flow; 2],
    dial: usize,
    dead: bool,
}

/// An attempt to link.
#[derive(Debug)]
pub struct Dial {
    from: Pid,
    peer: NodeName,
    since: Duration,
    to: Option<Pid>,
    /// The peer's system answered, and how late.
    connected: Option<Duration>,
}

impl World {
    fn latency(&mut self) -> Duration {
        let jitter = self.plan.jitter.as_micros() as u64;
        let mut time = self.plan.latency + Duration::from_micros(self.rng.random_range(0..jitter));
        if self.network.loss > 0.0 {
            let mut again = Duration::from_millis(200);
            while self.rng.random_bool(self.network.loss) && again < Duration::from_secs(6) {
                time += again;
                again *= 2;
                self.count("segment lost");
            }
        }
        time
    }

    fn paths_blocked(&self, a: Pid, b: Pid) -> bool {
        let (a, b) = (self.processes[a].place, self.processes[b].place);
        self.network.is_blocked(a, b) || self.network.is_blocked(b, a)
    }

    pub fn dial(&mut self, from: Pid, peer: NodeName) {
        if self.processes[from].dials.contains_key(&peer) {
            return;
        }
        let dial = self.dials.len();
        self.trace(|w| format!("{} dials {peer}", w.processes[from].name));
        self.dials.push(Dial {
            from,
            peer: peer.clone(),
            since: self.now,
            to: None,
            connected: None,
        });
        self.processes[from].dials.insert(peer, (dial, self.now));
        let delay = self.latency();
        self.after(delay, Event::Knock(dial));
        self.after(CONNECT, Event::DialTimeout(dial));
    }

    fn is_dialing(&self, dial: usize) -> bool {
        let Dial { from, peer, .. } = &self.dials[dial];
        let process = &self.processes[*from];
        process.alive && process.dials.get(peer).is_some_and(|(number, _)| *number == dial)
    }

    fn fail(&mut self, dial: usize, failure: DialFailure) {
        if !self.is_dialing(dial) {
            return;
        }
        let (from, peer) = (self.dials[dial].from, self.dials[dial].peer.clone());
        self.processes[from].dials.remove(&peer);
        self.tell(from, Input::DialFailed(peer, failure));
    }

    /// The dial reaches the host of the peer's name, as it resolves now.
    pub fn knock(&mut self, dial: usize) {
        if !self.is_dialing(dial) {
            return;
        }
        let from = self.dials[dial].from;
        let peer = self.dials[dial].peer.clone();
        let Some(node) = self.place(&peer) else {
            // A name of nobody: no such host.
            return self.fail(dial, DialFailure::Unreachable("no such host".to_owned()));
        };
        let here = self.processes[from].place;
        let cut = self.network.is_blocked(here, node) || self.network.is_blocked(node, here);
        let host_up = self.nodes[node].host_up;
        if cut || !host_up {
            self.count(if cut { "dial into a cut" } else { "dial to a dead host" });
            return self.after(Duration::from_secs(1), Event::Knock(dial));
        }
        let Some(to) = self.nodes[node].pid else {
            let back = self.latency();
            self.count("dial refused");
            self.dials[dial].connected = Some(self.now - self.dials[dial].since);
            let failure = DialFailure::Refused;
            if back.is_zero() {
                return self.fail(dial, failure);
            }
            return self.fail(dial, failure);
        };
        let there = self.now - self.dials[dial].since;
        self.dials[dial].connected.get_or_insert(there * 2);
        if self.processes[to].frozen {
            self.count("dial to a frozen process");
            return self.after(Duration::from_millis(200), Event::Knock(dial));
        }
        let (a, b) = (self.processes[from].node, self.processes[to].node);
        let cookie = |node: usize| self.plan.clusters[self.nodes[node].cluster].cookie;
        if cookie(a) != cookie(b) {
            self.count("dial rejected");
            return self.fail(dial, DialFailure::Rejected("wrong cookie".to_owned()));
        }
        let own = self.processes[from].name.clone();
        if own == peer {
            return self.fail(dial, DialFailure::Rejected("own name".to_owned()));
        }
        let (target, now) = (&self.processes[to], self.now);
        let is_up = target.up.get(&own).copied().unwrap_or(0) > 0;
        if is_up && self.processes[from].up.get(&peer).copied().unwrap_or(0) > 0 {
            self.count("dial gave way to a link");
            return self.fail(dial, DialFailure::Yield);
        }
        let theirs = target.dials.get(&own).map(|(_, since)| *since);
        if !is_up && theirs.is_some_and(|since| peer > own && now - since < PREFERENCE) {
            self.count("dial gave way to a dial");
            return self.fail(dial, DialFailure::Yield);
        }
        self.dials[dial].to = Some(to);
        let delay = self.latency() + self.latency();
        self.after(delay, Event::Accept(dial));
    }

    /// The dialling end proved itself: the accepting end is up.
    pub fn accept(&mut self, dial: usize) {
        let Some(to) = self.dials[dial].to else { return };
        if !self.is_dialing(dial) || !self.processes[to].alive {
            return self.fail(dial, DialFailure::Unreachable("closed".to_owned()));
        }
        let from = self.dials[dial].from;
        if self.paths_blocked(from, to) || self.processes[to].frozen {
            return self.after(Duration::from_millis(300), Event::Accept(dial));
        }
        let conn = self.conns.len();
        self.next_id += 2;
        let keys = [LinkId(self.next_id), LinkId(self.next_id + 1)];
        let (now, lingers) = (self.now, Duration::ZERO);
        let end =
            |pid, key| End { pid, key, open: false, reading: false, last_received: now, lingers };
        let ends = [end(from, keys[0]), end(to, keys[1])];
        self.conns.push(Conn {
            ends,
            flows: [Flow::default(), Flow::default()],
            dial,
            dead: false,
        });
        self.push(conn, 1, Item::Up);
        self.link_up(conn, 1);
    }

    fn link_up(&mut self, conn: usize, end: usize) {
        let End { pid, key, .. } = self.conns[conn].ends[end];
        let peer = self.processes[self.conns[conn].ends[1 - end].pid].name.clone();
        let now = self.now;
        let this = &mut self.conns[conn].ends[end];
        (this.open, this.reading, this.last_received) = (true, true, now);
        let process = &mut self.processes[pid];
        process.links.insert(key, (conn, end));
        let up = process.up.entry(peer.clone()).or_default();
        *up += 1;
        if *up > 1 {
            self.count("two links to one peer");
        }
        if end == 0 {
            self.processes[pid].dials.remove(&peer);
        }
        let rtt = self.dials[self.conns[conn].dial].connected.filter(|_| end == 0);
        self.tell(pid, Input::LinkUp(key, peer.clone(), rtt));
        if end == 1
            && self.processes[pid].name < peer
            && let Some((dial, _)) = self.processes[pid].dials.get(&peer).copied()
        {
            self.count("dial gave way to a link");
            self.fail(dial, DialFailure::Yield);
        }
    }

    /// Whether somebody still holds a link to a process of this node that has ended.
    pub fn has_old_links(&self, node: usize) -> bool {
        let ended = |end: &End| {
            let process = &self.processes[end.pid];
            process.node == node && !process.alive
        };
        self.conns
            .iter()
            .filter(|conn| !conn.dead)
            .any(|conn| (0..2).any(|end| ended(&conn.ends[end]) && conn.ends[1 - end].open))
    }

    pub fn dial_timeout(&mut self, dial: usize) {
        if !self.is_dialing(dial) {
            return;
        }
        let Dial { since, connected, .. } = self.dials[dial];
        let left = (since + HANDSHAKE).saturating_sub(self.now);
        if connected.is_some() && !left.is_zero() {
            return self.after(left, Event::DialTimeout(dial));
        }
        self.fail(dial, DialFailure::Unreachable("no answer in time".to_owned()));
    }

    pub fn send(&mut self, pid: Pid, key: LinkId, frame: Vec<u8>) {
        let Some(&(conn, end)) = self.processes[pid].links.get(&key) else { return };
        if !self.conns[conn].ends[end].reading {
            return;
        }
        let flow = &self.conns[conn].flows[end];
        if flow.queue.len() >= self.plan.queue || flow.bytes + frame.len() > QUEUE_BYTES {
            return self.count("frame dropped: queue full");
        }
        self.sent.0 += 1;
        self.sent.1 += frame.len() as u64;
        self.push(conn, end, Item::Frame(frame));
    }

    /// Puts an item on its way, behind what went before it.
    fn push(&mut self, conn: usize, flow: usize, item: Item) {
        let sender = &self.processes[self.conns[conn].ends[flow].pid];
        let begins = self.now.max(sender.blocked_until);
        let latency = self.latency();
        let takes = self.plan.bandwidth.map_or(Duration::ZERO, |rate| {
            Duration::from_micros(item.bytes() as u64 * 1_000_000 / rate)
        });
        let stream = &mut self.conns[conn].flows[flow];
        stream.free = begins.max(stream.free) + takes;
        let at = (stream.free + latency).max(stream.last);
        stream.last = at;
        stream.bytes += item.bytes();
        stream.queue.push_back((at, item));
        if !stream.moving {
            stream.moving = true;
            self.at(at, Event::Arrive(conn, flow));
        }
    }

    pub fn arrive(&mut self, conn: usize, flow: usize) {
        self.conns[conn].flows[flow].moving = false;
        if self.conns[conn].flows[flow].queue.is_empty() {
            return;
        }
        let [from, to] = [flow, 1 - flow].map(|end| self.conns[conn].ends[end].pid);
        let (a, b) = (self.processes[from].place, self.processes[to].place);
        if self.network.is_blocked(a, b) {
            self.count("segment held by a cut");
            return; // Until the cut ends, or the link is given up.
        }
        let receiver = &self.processes[to];
        if receiver.alive && receiver.frozen {
            self.count("segment held by a frozen process");
            return; // Until it runs again.
        }
        if receiver.alive && receiver.inbox.len() >= INBOX {
            self.conns[conn].flows[flow].moving = true;
            return self.after(Duration::from_millis(50), Event::Arrive(conn, flow));
        }
        let Some(item) = self.conns[conn].flows[flow].pop() else { return };
        self.deliver(conn, flow, item);
        let stream = &mut self.conns[conn].flows[flow];
        if let Some((at, _)) = stream.queue.front()
            && !stream.moving
        {
            stream.moving = true;
            let at = *at;
            self.at(at, Event::Arrive(conn, flow));
        }
    }

    fn deliver(&mut self, conn: usize, flow: usize, item: Item) {
        let end = 1 - flow;
        let now = self.now;
        let End { pid, key, open, reading, lingers, .. } = self.conns[conn].ends[end];
        self.conns[conn].ends[end].last_received = now;
        match item {
            Item::Up => {
                if self.is_dialing(self.conns[conn].dial) {
                    self.link_up(conn, 0);
                } else {
                    // Given up in the meantime.
                    self.push(conn, end, Item::Fin);
                }
            }
            Item::Frame(frame) => {
                if reading {
                    self.tell(pid, Input::Frame(key, frame));
                } else if !open && now >= lingers {
                    // Nobody holds this end: the system says so, unless the machine is gone.
                    let node = self.processes[pid].node;
                    let back = self.network.is_blocked(
                        self.processes[pid].place,
                        self.processes[self.conns[conn].ends[flow].pid].place,
                    );
                    if self.nodes[node].host_up && !back {
                        let delay = self.latency();
                        self.after(delay, Event::Reset(conn, flow));
                    }
                }
            }
            Item::Fin => self.shut(conn, end),
        }
    }

    /// One end learns that its link is no more.
    fn shut(&mut self, conn: usize, end: usize) {
        let End { pid, key, open, reading, .. } = self.conns[conn].ends[end];
        if !open {
            return;
        }
        self.conns[conn].ends[end].open = false;
        if reading {
            self.forget(conn, end);
            self.push(conn, end, Item::Fin);
        }
        self.tell(pid, Input::LinkDown(key));
    }

    pub fn reset(&mut self, conn: usize, end: usize) {
        self.conns[conn].flows[end].clear();
        self.shut(conn, end);
    }

    /// The process is done with this end: no frame goes in or out.
    fn forget(&mut self, conn: usize, end: usize) {
        let End { pid, key, .. } = self.conns[conn].ends[end];
        self.conns[conn].ends[end].reading = false;
        let peer = self.processes[self.conns[conn].ends[1 - end].pid].name.clone();
        let process = &mut self.processes[pid];
        process.links.remove(&key);
        if let Some(up) = process.up.get_mut(&peer) {
            *up -= 1;
        }
        self.conns[conn].dead = !self.conns[conn].ends[1 - end].reading;
    }

    /// A process closes its end: what is queued goes out, if it can.
    pub fn close(&mut self, pid: Pid, key: LinkId) {
        let Some(&(conn, end)) = self.processes[pid].links.get(&key) else { return };
        self.forget(conn, end);
        self.push(conn, end, Item::Fin);
        let delay = (self.latency() * 2).min(FLUSH);
        // As the mesh does it: what comes meanwhile is read, and resets nothing.
        self.conns[conn].ends[end].lingers = self.now + FLUSH;
        self.conns[conn].ends[end].open = false;
        self.after(delay, Event::Closed(pid, key));
    }

    /// A process is gone; `orderly`: its system ends the stream.
    pub fn abandon(&mut self, conn: usize, end: usize, orderly: bool) {
        self.forget(conn, end);
        self.conns[conn].ends[end].open = false;
        if orderly {
            // A reset overtakes what was written, or does not.
            if self.rng.random_bool(0.3) {
                self.conns[conn].flows[end].clear();
            }
            self.push(conn, end, Item::Fin);
        } else {
            self.conns[conn].flows[end].clear();
        }
    }

    /// A link of which no more is heard is given up, as by the mesh's ticks.
    pub fn sweep(&mut self) {
        self.after(Duration::from_secs(1), Event::Sweep);
        for conn in 0..self.conns.len() {
            if self.conns[conn].dead {
                continue;
            }
            for end in 0..2 {
                let End { pid, reading, last_received, .. } = self.conns[conn].ends[end];
                let far = &self.conns[conn].ends[1 - end];
                let (place, far_place) = (self.processes[pid].place, self.processes[far.pid].place);
                let dead = !far.reading
                    || self.processes[far.pid].frozen
                    || self.network.is_blocked(far_place, place);
                let silent = self.now - last_received > self.plan.silence;
                if reading && dead && silent && !self.processes[pid].frozen {
                    self.count("link given up for silence");
                    self.shut(conn, end);
                }
            }
        }
    }

    /// One link between two processes breaks under them.
    pub fn break_link(&mut self, conn: usize) {
        for end in 0..2 {
            self.conns[conn].flows[end].clear();
        }
        for end in 0..2 {
            self.shut(conn, end);
        }
    }

    /// Links that carry frames.
    pub fn open_conns(&self) -> Vec<usize> {
        (0..self.conns.len())
            .filter(|conn| self.conns[*conn].ends.iter().all(|end| end.reading))
            .collect()
    }

    pub fn uncut(&mut self, number: u64) {
        self.network.uncut(number, self.now);
        self.trace(|_| format!("cut {number} ends"));
        self.release_flows();
    }

    /// What was held back goes on, when the senders' timers say so.
    pub fn release_flows(&mut self) {
        for conn in 0..self.conns.len() {
            for flow in 0..2 {
                let stream = &self.conns[conn].flows[flow];
                if !stream.moving && !stream.queue.is_empty() {
                    self.conns[conn].flows[flow].moving = true;
                    let delay = Duration::from_millis(self.rng.random_range(0..1500));
                    self.after(delay, Event::Arrive(conn, flow));
                }
            }
        }
    }

    pub fn trace_input(&mut self, pid: Pid, input: &Input) {
        use muster::protocol::membership::Message;
        if matches!(input, Input::Timeout) {
            return;
        }
        let probes = std::env::var_os("SIM_TRACE").is_some_and(|what| what == "all");
        let text = match input {
            Input::Frame(key, frame) => {
                let message = Message::decode(frame);
                match message {
                    Ok(Message::Ping { .. } | Message::Ack { .. }) if !probes => return,
                    Ok(message) => format!("frame {key:?} {message:?}"),
                    Err(error) => format!("frame {key:?} {error}"),
                }
            }
            other => format!("{other:?}"),
        };
        self.trace(|w| format!("{} <- {text}", w.processes[pid].name));
    }
}
