//! Machines joined back to back: links are instant and perfect, time is a number.

use super::learn::Manner;
use super::*;

/// Machines by name, open links as (owner, other, key at the other).
struct Net {
    now: Duration,
    nodes: BTreeMap<NodeName, Membership>,
    links: BTreeMap<(NodeName, LinkId), (NodeName, LinkId)>,
    next: u64,
    replies: Vec<(NodeName, RequestId, Result<(), RequestError>)>,
    news: Vec<(NodeName, News)>,
    frozen: BTreeSet<NodeName>,
    /// Who cannot be heard by whom.
    cuts: BTreeSet<(NodeName, NodeName)>,
    notes: Vec<(NodeName, Note)>,
    /// Dials, frames that came, and records in them.
    dialled: usize,
    frames: usize,
    read: usize,
}

fn name(index: u64) -> NodeName {
    NodeName::parse(&format!("n{index}@127.0.0.1")).unwrap()
}

fn settings(index: u64, automatic: bool) -> Settings {
    Settings {
        node: name(index),
        boot: BootId(1000 + index),
        role: crate::node::Role::Core,
        version: "test".to_owned(),
        cluster: "emqxcl".to_owned(),
        automatic,
        autoheal: true,
        autoclean: None,
        full_mesh_limit: 64,
        leave_on_stop: false,
        whole_view_limit: Settings::WHOLE_VIEW,
        limits: Limits::default(),
        timing: Timing::default(),
    }
}

/// How many records a frame carries.
fn records(frame: &[u8]) -> usize {
    match Message::decode(frame) {
        Ok(
            Message::Gossip { news, .. } | Message::Ping { news, .. } | Message::Ack { news, .. },
        ) => news.len(),
        Ok(Message::Sync { records, .. }) => records.len(),
        _ => 0,
    }
}

impl Net {
    fn new() -> Self {
        Self {
            now: Duration::ZERO,
            nodes: BTreeMap::new(),
            links: BTreeMap::new(),
            next: 0,
            replies: Vec::new(),
            news: Vec::new(),
            frozen: BTreeSet::new(),
            cuts: BTreeSet::new(),
            notes: Vec::new(),
            dialled: 0,
            frames: 0,
            read: 0,
        }
    }

    fn start(&mut self, settings: Settings, durable: Durable) {
        let node = settings.node.clone();
        let seed = settings.boot.0;
        let machine = Membership::new(settings, durable, self.now, seed);
        self.nodes.insert(node, machine);
    }

    fn discover_all(&mut self) {
        let all: BTreeSet<NodeName> = self.nodes.keys().cloned().collect();
        for node in all.clone() {
            self.nodes.get_mut(&node).unwrap().handle_discovered(self.now, &all);
        }
    }

    fn ask(&mut self, node: u64, action: Action) -> Result<(), RequestError> {
        self.next += 1;
        let request = RequestId(self.next);
        self.nodes.get_mut(&name(node)).unwrap().handle_request(self.now, request, action);
        let from = self.replies.len();
        for _ in 0..100 {
            self.run(Duration::from_millis(100));
            if let Some((.., result)) = self.replies[from..].iter().find(|r| r.1 == request) {
                return result.clone();
            }
        }
        panic!("no reply");
    }

    fn kill(&mut self, index: u64) {
        let node = name(index);
        self.nodes.remove(&node);
        self.cut(|a, b| *a == node || *b == node);
    }

    fn cut(&mut self, which: impl Fn(&NodeName, &NodeName) -> bool) {
        let doomed: Vec<_> = self
            .links
            .iter()
            .filter(|((a, _), (b, _))| which(a, b))
            .map(|(end, _)| end.clone())
            .collect();
        for end in doomed {
            self.cut_link(end);
        }
    }

    fn cut_link(&mut self, end: (NodeName, LinkId)) {
        let Some(other) = self.links.remove(&end) else { return };
        self.links.remove(&other);
        for (node, key) in [end, other] {
            if let Some(machine) = self.nodes.get_mut(&node) {
                machine.handle_link_down(self.now, key);
            }
        }
    }

    /// Carries out effects until nobody has any, then lets time pass to the next deadline.
    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            self.settle();
            let frozen = self.frozen.clone();
            let next = self
                .nodes
                .iter_mut()
                .filter(|(node, _)| !frozen.contains(*node))
                .filter_map(|(_, machine)| machine.next_deadline())
                .min();
            match next {
                Some(at) if at <= end => self.now = self.now.max(at),
                _ => break,
            }
            for (node, machine) in &mut self.nodes {
                if !frozen.contains(node)
                    && machine.next_deadline().is_some_and(|at| at <= self.now)
                {
                    machine.handle_timeout(self.now);
                }
            }
        }
        self.now = end;
    }

    fn settle(&mut self) {
        loop {
            let mut work = Vec::new();
            for (node, machine) in &mut self.nodes {
                if !self.frozen.contains(node) {
                    while let Some(effect) = machine.poll_effect() {
                        work.push((node.clone(), effect));
                    }
                }
            }
            if work.is_empty() {
                return;
            }
            for (node, effect) in work {
                self.carry_out(&node, effect);
            }
        }
    }

    fn carry_out(&mut self, node: &NodeName, effect: Effect) {
        match effect {
            Effect::Dial(peer) if self.nodes.contains_key(&peer) => {
                let there = (node.clone(), peer.clone());
                let back = (peer.clone(), node.clone());
                let is_cut = self.cuts.contains(&there) || self.cuts.contains(&back);
                if is_cut || self.frozen.contains(&peer) {
                    let failure = DialFailure::Unreachable("time-out".to_owned());
                    self.nodes.get_mut(node).unwrap().handle_dial_failed(self.now, &peer, &failure);
                    return;
                }
                self.dialled += 1;
                self.next += 2;
                let (here, there) = (LinkId(self.next), LinkId(self.next + 1));
                self.links.insert((node.clone(), here), (peer.clone(), there));
                self.links.insert((peer.clone(), there), (node.clone(), here));
                self.nodes.get_mut(node).unwrap().handle_link_up(self.now, here, &peer, true, None);
                self.nodes
                    .get_mut(&peer)
                    .unwrap()
                    .handle_link_up(self.now, there, node, false, None);
            }
            Effect::Dial(peer) => {
                let machine = self.nodes.get_mut(node).unwrap();
                machine.handle_dial_failed(self.now, &peer, &DialFailure::Refused);
            }
            Effect::Send(key, frame) => {
                if let Some((peer, other)) = self.links.get(&(node.clone(), key)).cloned()
                    && !self.frozen.contains(&peer)
                    && !self.cuts.contains(&(node.clone(), peer.clone()))
                {
                    self.frames += 1;
                    self.read += records(&frame);
                    self.nodes.get_mut(&peer).unwrap().handle_frame(self.now, other, &frame);
                }
            }
            Effect::Close(key, _) => self.cut_link((node.clone(), key)),
            Effect::Event(news) => self.news.push((node.clone(), news)),
            Effect::Reply(request, result) => self.replies.push((node.clone(), request, result)),
            Effect::Note(note) => self.notes.push((node.clone(), note)),
            Effect::Discovery(_) => {}
        }
    }

    fn running(&self, index: u64) -> Vec<String> {
        let table = self.nodes[&name(index)].table();
        table.members().filter(|r| r.is_running()).map(|r| r.node.name().to_owned()).collect()
    }

    fn cluster(n: u64) -> Self {
        let mut net = Self::new();
        for index in 1..=n {
            net.start(settings(index, true), Durable::default());
        }
        net.discover_all();
        net.run(Duration::from_millis(1500));
        net
    }

    /// So many that discover each other, of which so few are a full mesh.
    fn beyond_full_mesh(n: u64, full_mesh_limit: usize) -> Self {
        let mut net = Self::new();
        for index in 1..=n {
            net.start(Settings { full_mesh_limit, ..settings(index, true) }, Durable::default());
        }
        net.discover_all();
        net
    }

    fn assert_agreed(&self, running: &[&str]) {
        for (node, machine) in &self.nodes {
            assert_eq!(self.running(node.offset().into()), running, "at {node}");
            assert_eq!(machine.disagreeing().count(), 0, "at {node}");
        }
        let hashes: BTreeSet<u64> = self.nodes.values().map(Membership::view_hash).collect();
        assert_eq!(hashes.len(), 1);
    }
}

#[test]
fn nodes_that_discover_each_other_become_one_cluster() {
    let net = Net::cluster(5);
    net.assert_agreed(&["n1", "n2", "n3", "n4", "n5"]);
    assert!(net.nodes.values().all(|machine| machine.state() == State::Joined));
    let ids: BTreeSet<_> = net.nodes.values().map(Membership::id).collect();
    assert_eq!(ids.len(), 1);
}

#[test]
fn each_member_is_reported_once() {
    let net = Net::cluster(4);
    for node in net.nodes.keys() {
        let mut seen: Vec<_> =
            net.news.iter().filter(|(at, _)| at == node).map(|(_, n)| n.node.clone()).collect();
        seen.sort();
        let others: Vec<_> = net.nodes.keys().filter(|other| *other != node).cloned().collect();
        assert_eq!(seen, others, "at {node}");
    }
}

#[test]
fn a_crash_is_seen_at_once_by_the_refused_reconnect() {
    let mut net = Net::cluster(5);
    net.kill(3);
    net.run(Duration::from_millis(5));
    assert_eq!(net.running(1), ["n1", "n2", "n4", "n5"]);
    net.run(Duration::from_millis(1000));
    net.assert_agreed(&["n1", "n2", "n4", "n5"]);
}

/// The end of the older of two links, with a word or without, comes before the hello on the
/// newer.
#[test]
fn a_link_in_whose_place_another_is_counts_as_handed_over() {
    for says_goodbye in [true, false] {
        let mut net = Net::cluster(2);
        let machine = net.nodes.get_mut(&name(1)).unwrap();
        let (older, _) = machine.link(&name(2)).unwrap();
        machine.handle_link_up(net.now, LinkId(900), &name(2), true, None);
        if says_goodbye {
            let bye = Message::Bye { code: Some(ByeCode::Duplicate), text: String::new() };
            machine.handle_frame(net.now, older, &bye.encode());
        }
        assert!(!machine.is_handed_over(&name(2)));
        machine.handle_link_down(net.now, older);
        assert!(machine.link(&name(2)).is_none());
        assert!(machine.is_handed_over(&name(2)), "says goodbye: {says_goodbye}");
        machine.handle_link_down(net.now, LinkId(900));
        assert!(!machine.is_handed_over(&name(2)));
    }
}

#[test]
fn a_frozen_member_is_down_within_three_seconds_and_back_after() {
    let mut net = Net::cluster(5);
    net.frozen.insert(name(2));
    net.run(Duration::from_millis(3000));
    for index in [1, 3, 4, 5] {
        assert_eq!(net.running(index), ["n1", "n3", "n4", "n5"]);
    }
    net.frozen.clear();
    net.run(Duration::from_secs(6));
    net.assert_agreed(&["n1", "n2", "n3", "n4", "n5"]);
}

#[test]
fn a_stop_is_seen_without_detection_and_a_restart_is_the_same_member() {
    let mut net = Net::cluster(3);
    let stopped = net.nodes.get_mut(&name(2)).unwrap();
    stopped.stop(net.now);
    let durable = stopped.durable();
    net.settle();
    assert_eq!(net.running(1), ["n1", "n3"]);
    net.kill(2);
    net.start(Settings { boot: BootId(77), ..settings(2, true) }, durable);
    net.run(Duration::from_millis(1000));
    net.assert_agreed(&["n1", "n2", "n3"]);
}

#[test]
fn leaving_lasts_until_discovery_is_enabled_again() {
    let mut net = Net::cluster(3);
    assert_eq!(net.ask(2, Action::Leave), Ok(()));
    assert_eq!(net.running(1), ["n1", "n3"]);
    let durable = net.nodes[&name(2)].durable();
    net.kill(2);
    net.start(Settings { boot: BootId(78), ..settings(2, true) }, durable);
    net.discover_all();
    net.run(Duration::from_secs(30));
    assert_eq!(net.running(1), ["n1", "n3"]);
    assert_eq!(net.nodes[&name(2)].state(), State::Left);
    assert_eq!(net.ask(2, Action::SetDiscovery { enabled: true }), Ok(()));
    net.discover_all();
    net.run(Duration::from_secs(15));
    net.assert_agreed(&["n1", "n2", "n3"]);
}

#[test]
fn a_removed_live_member_becomes_left() {
    let mut net = Net::cluster(3);
    let force = |force| Action::ForceLeave { node: name(2), force };
    assert!(matches!(net.ask(1, force(false)), Err(RequestError::Conflict(_))));
    assert_eq!(net.ask(1, force(true)), Ok(()));
    net.run(Duration::from_secs(20));
    assert_eq!(net.nodes[&name(2)].state(), State::Left);
    assert_eq!(net.running(1), ["n1", "n3"]);
    assert_eq!(net.running(3), ["n1", "n3"]);
}

#[test]
fn a_cold_restart_of_all_needs_no_discovery() {
    let mut net = Net::cluster(3);
    let kept: Vec<_> = net.nodes.values().map(Membership::durable).collect();
    for index in 1..=3 {
        net.kill(index);
    }
    for (index, durable) in (1..=3).zip(kept) {
        net.start(Settings { boot: BootId(500 + index), ..settings(index, true) }, durable);
    }
    net.run(Duration::from_millis(500));
    net.assert_agreed(&["n1", "n2", "n3"]);
}

/// Simulator, seed 3562.
#[test]
fn who_left_admits_nobody_that_waited_for_a_name() {
    let mut net = Net::cluster(2);
    net.frozen.insert(name(2));
    let newcomer = LinkId(5000);
    let hello = {
        let rival = Settings { boot: BootId(99), ..settings(2, true) };
        let rival = Membership::new(rival, Durable::default(), net.now, 1);
        Message::Hello(Box::new(Hello {
            id: net.nodes[&name(1)].id(),
            ..rival.hello(&name(1), Intent::Meet)
        }))
    };
    let machine = net.nodes.get_mut(&name(1)).unwrap();
    machine.handle_link_up(net.now, newcomer, &name(2), false, None);
    machine.handle_frame(net.now, newcomer, &hello.encode());
    // The holder of the name is being asked when this node leaves.
    machine.handle_request(net.now, RequestId(1), Action::Leave);
    net.settle();
    let machine = &net.nodes[&name(1)];
    assert_eq!((machine.state(), machine.id()), (State::Left, None));
    assert_eq!(machine.link(&name(2)), None);
}

/// Simulator, seed 6574.
#[test]
fn who_left_and_a_member_told_to_join_each_other_are_one_cluster() {
    let mut net = Net::cluster(3);
    assert_eq!(net.ask(2, Action::Leave), Ok(()));
    let join = |node| Action::Join { node: name(node), force: true };
    // Both are asked before either has dialled.
    for (node, other) in [(2, 1), (1, 2)] {
        let request = RequestId(1000 + node);
        net.nodes.get_mut(&name(node)).unwrap().handle_request(net.now, request, join(other));
    }
    net.run(Duration::from_secs(3));
    net.assert_agreed(&["n1", "n2", "n3"]);
    assert!(net.replies.iter().filter(|reply| reply.1.0 > 1000).all(|reply| reply.2.is_ok()));
}

#[test]
fn the_members_that_stopped_are_known_by_name() {
    let mut net = Net::new();
    for index in 1..=4 {
        net.start(settings(index, true), Durable::default());
    }
    net.discover_all();
    net.run(Duration::from_secs(2));
    net.kill(3);
    net.run(Duration::from_secs(1));
    let table = net.nodes[&name(1)].table();
    assert_eq!(table.stopped().collect::<Vec<_>>(), [&name(3)]);
    assert_eq!((table.member_count(), table.running_count()), (4, 3));
}

/// In manual mode a node founds its cluster as it starts; the fault was that it said so twice.
#[test]
fn a_start_says_once_which_cluster_it_is_in() {
    let mut durable = Durable::default();
    for _start in 0..2 {
        let mut machine = Membership::new(settings(1, false), durable.clone(), Duration::ZERO, 7);
        let mut said = Vec::new();
        while let Some(effect) = machine.poll_effect() {
            if let Effect::Note(Note::Joined(id)) = effect {
                said.push(id);
            }
        }
        assert_eq!(said, [machine.id().unwrap()]);
        durable = machine.durable();
    }
}

/// Simulator, seed 9217: what came first after the pause counted it once more each, and
/// the probe under way was waited for more than a minute.
#[test]
fn a_pause_is_counted_once_however_much_piled_up() {
    let mut net = Net::cluster(3);
    net.run(Duration::from_secs(2));
    let machine = net.nodes.get_mut(&name(1)).unwrap();
    let mut now = net.now + Duration::from_secs(10);
    let frame = Message::View { view: 1, id: machine.id() }.encode();
    let (key, _) = machine.link(&name(2)).unwrap();
    machine.next_deadline();
    for _ in 0..5 {
        machine.handle_frame(now, key, &frame);
        machine.next_deadline();
    }
    let mut pauses = 0;
    while let Some(effect) = machine.poll_effect() {
        pauses += usize::from(matches!(effect, Effect::Note(Note::Slow(_))));
    }
    assert_eq!(pauses, 1);
    // Nothing is waited for much longer than the pause.
    while now < net.now + Duration::from_secs(40) {
        machine.handle_timeout(now);
        now = now.max(machine.next_deadline().unwrap());
    }
    assert!(!machine.table().member(&name(2)).unwrap().is_running(), "its silence was seen");
}

impl Net {
    /// A link from a node that the test plays, with its hello; its record is of `boot`.
    fn greet(
        &mut self,
        to: u64,
        from: u64,
        boot: u64,
        hello: impl FnOnce(Hello) -> Hello,
    ) -> LinkId {
        self.next += 1;
        let key = LinkId(self.next);
        let played = Settings { boot: BootId(boot), ..settings(from, false) };
        let played = Membership::new(played, Durable::default(), self.now, boot);
        let hello = Message::Hello(Box::new(hello(played.hello(&name(to), Intent::Meet))));
        let machine = self.nodes.get_mut(&name(to)).unwrap();
        machine.handle_link_up(self.now, key, &name(from), false, None);
        machine.handle_frame(self.now, key, &hello.encode());
        key
    }
}

/// Simulator, seed 16530: the holder of the name, and all who know of it, may be gone.
#[test]
fn a_name_is_taken_only_as_long_as_somebody_says_so() {
    let mut net = Net::new();
    net.start(settings(1, true), Durable::default());
    net.discover_all();
    net.run(Duration::from_secs(2));
    let key = net.greet(1, 2, 102, |hello| Hello { automatic: true, ..hello });
    let bye = Message::Bye { code: Some(ByeCode::NameConflict), text: "taken".to_owned() };
    net.nodes.get_mut(&name(1)).unwrap().handle_frame(net.now, key, &bye.encode());
    assert_eq!(net.nodes[&name(1)].conflict(), Some("taken"));
    net.run(Duration::from_secs(20));
    assert!(net.nodes[&name(1)].conflict().is_some());
    net.run(Duration::from_secs(15));
    assert_eq!(
        (net.nodes[&name(1)].conflict(), net.nodes[&name(1)].state()),
        (None, State::Joined)
    );
}

/// Simulator, seed 93514.
#[test]
fn who_is_invited_does_not_speak_for_the_cluster_it_leaves() {
    let mut net = Net::new();
    net.start(settings(1, false), Durable::default());
    let machine = net.nodes.get_mut(&name(1)).unwrap();
    machine.handle_request(net.now, RequestId(1), Action::Invite { node: name(2) });
    // In its old cluster node 1 was removed.
    let me = machine.me().clone();
    let removed = me.with(Standing::ForceLeft, Reason::ForceLeft, &name(2));
    let link = LinkId(9000);
    machine.handle_link_up(net.now, link, &name(2), true, None);
    let guest = Membership::new(settings(2, false), Durable::default(), net.now, 2);
    let hello = Hello { you: Some(removed), ..guest.hello(&name(1), Intent::Meet) };
    machine.handle_frame(net.now, link, &Message::Hello(Box::new(hello)).encode());
    assert_eq!(machine.state(), State::Joined);
}

mod bounds;
mod describe;
mod growth;
mod hostile;
mod joins;
mod made_up;
mod news;
mod properties;
mod silence;
mod tellers;
