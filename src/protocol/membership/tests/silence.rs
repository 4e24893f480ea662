//! Who cannot be heard, or cannot hear, and who finds out how soon.

use super::*;

impl Net {
    /// Nobody hears a node any more, or it hears nobody, or both.
    pub(super) fn isolate(&mut self, node: u64, is_deaf: bool, is_mute: bool) {
        let here = name(node);
        for other in self.nodes.keys().filter(|other| **other != here).cloned().collect::<Vec<_>>()
        {
            if is_deaf {
                self.cuts.insert((other.clone(), here.clone()));
            }
            if is_mute {
                self.cuts.insert((here.clone(), other.clone()));
            }
        }
    }

    fn agrees_that_only(&self, at: impl Iterator<Item = u64>, running: &[u64]) -> bool {
        let running: BTreeSet<String> = running.iter().map(|n| format!("n{n}")).collect();
        let mut at = at;
        at.all(|node| self.running(node).into_iter().collect::<BTreeSet<_>>() == running)
    }

    /// Runs until everybody but `node` says it down and it says so of all others; how long
    /// that took.
    fn until_apart(&mut self, node: u64, n: u64) -> Duration {
        let others: Vec<u64> = (1..=n).filter(|other| *other != node).collect();
        let start = self.now;
        while self.now - start < Duration::from_secs(30) {
            self.run(Duration::from_millis(20));
            if self.agrees_that_only(others.iter().copied(), &others)
                && self.agrees_that_only(std::iter::once(node), &[node])
            {
                return self.now - start;
            }
        }
        panic!("never: {:?}", (1..=n).map(|node| self.running(node)).collect::<Vec<_>>());
    }

    /// Whether nobody but a node that was away was ever anything but up, to all but it.
    fn only_doubted(&self, away: u64) -> bool {
        let others =
            self.news.iter().filter(|(at, news)| *at != name(away) && news.node != name(away));
        others.into_iter().all(|(_, news)| news.to == Standing::Member(Health::Up))
    }
}

#[test]
fn a_node_that_is_cut_off_from_everybody_knows_it_as_fast_as_the_others() {
    for n in [2, 5, 12, 50] {
        let mut net = Net::cluster(n);
        net.run(Duration::from_secs(3));
        net.isolate(2, true, true);
        let took = net.until_apart(2, n);
        assert!(took <= Duration::from_secs(3), "{n} nodes: {took:?}");
        assert!(n == 2 || !net.nodes[&name(2)].table().majority());
        // And when the cut ends it is one view again, of everybody.
        net.cuts.clear();
        net.run(Duration::from_secs(15));
        let all: Vec<u64> = (1..=n).collect();
        assert!(net.agrees_that_only(1..=n, &all), "{n}");
        // The others have not heard that it missed them.
        assert!(net.only_doubted(2), "{n}");
        for other in all.into_iter().filter(|other| *other != 2) {
            let me = net.nodes[&name(other)].me();
            assert_eq!(me.incarnation, Incarnation(1), "{other} of {n} had to object");
        }
    }
}

/// Simulator, seed 517 of what is cut off at no latency: by chance nobody's turn came to it
/// for two seconds.
#[test]
fn of_a_round_of_probes_the_longest_silent_has_its_turn_first() {
    let mut net = Net::cluster(8);
    net.run(Duration::from_secs(3));
    for _ in 0..20 {
        net.run(Duration::from_millis(370));
        let mut prober = net.nodes[&name(1)].clone();
        prober.detector.order.clear();
        prober.detector.probes.clear();
        let heard: BTreeMap<NodeName, Duration> =
            prober.links.all_active().map(|(_, link)| (link.peer.clone(), link.heard)).collect();
        for _ in 0..heard.len() {
            prober.probe_next(net.now);
        }
        let turns: Vec<&NodeName> =
            prober.detector.probes.values().map(|probe| &probe.target).collect();
        assert!(turns.is_sorted_by_key(|target| heard[*target]), "{turns:?} of {heard:?}");
        let asked: BTreeSet<&NodeName> = turns.into_iter().collect();
        assert_eq!(asked, heard.keys().collect(), "each has its turn in each round");
    }
}

/// Simulator, seed 103: those to whom it held no link stayed up in its view for ten seconds.
#[test]
fn a_node_that_is_cut_off_gives_up_those_too_that_it_held_no_link_to() {
    for n in [12, 40] {
        let mut net = Net::new();
        for index in 1..=n {
            net.start(Settings { full_mesh_limit: 4, ..settings(index, true) }, Durable::default());
        }
        net.discover_all();
        // Until the links that nobody needs are closed.
        net.run(Duration::from_secs(30));
        let machine = &net.nodes[&name(2)];
        assert!((1..=n).any(|other| other != 2 && machine.link(&name(other)).is_none()));
        net.isolate(2, true, true);
        let took = net.until_apart(2, n);
        assert!(took <= Duration::from_secs(3), "{n} nodes: {took:?}");
        net.cuts.clear();
        net.run(Duration::from_secs(15));
        let all: Vec<u64> = (1..=n).collect();
        assert!(net.agrees_that_only(1..=n, &all), "{n}");
        assert!(net.only_doubted(2), "{n}");
    }
}

/// Of two that a node could not hear one is gone for good: that the other answers again says
/// nothing of it.
#[test]
fn who_is_back_in_touch_with_one_shows_up_nobody_else_for_that() {
    let mut net = Net::cluster(3);
    net.run(Duration::from_secs(3));
    let started = net.nodes[&name(1)].durable();
    net.isolate(2, true, true);
    net.frozen.extend([name(1), name(3)]);
    while net.running(2) != ["n2"] {
        net.run(Duration::from_millis(20));
    }
    net.cuts.clear();
    net.news.clear();
    net.kill(1);
    net.frozen.remove(&name(1));
    net.start(Settings { boot: BootId(77), ..settings(1, true) }, started);
    net.discover_all();
    net.run(Duration::from_secs(15));
    assert_eq!(net.running(2), ["n1", "n2"]);
    let of_three = net.news.iter().filter(|(at, news)| *at == name(2) && news.node == name(3));
    assert_eq!(of_three.map(|(_, news)| news.to).collect::<Vec<_>>(), []);
}

#[test]
fn who_cannot_hear_or_cannot_speak_is_down_within_five_seconds() {
    for (is_deaf, is_mute) in [(true, false), (false, true)] {
        for n in [3, 5, 20] {
            let mut net = Net::cluster(n);
            net.run(Duration::from_secs(3));
            net.isolate(2, is_deaf, is_mute);
            let took = net.until_apart(2, n);
            assert!(took <= Duration::from_secs(5), "{n} nodes, deaf {is_deaf}: {took:?}");
        }
    }
}

/// What was waited for during an outage is no round trip.
#[test]
fn round_trips_across_an_outage_are_not_kept() {
    let mut link = Link {
        peer: name(1),
        dialed: true,
        phase: links::Phase::Active,
        intent: Intent::Meet,
        said: None,
        up_at: Duration::ZERO,
        heard: Duration::ZERO,
        answered: Duration::ZERO,
        is_in_trouble: false,
        sound_since: Duration::ZERO,
        is_parting: false,
        boot: None,
        rtt: None,
        peer_wants: true,
        confronted: None,
        version: Version::V2,
        view: None,
    };
    let ms = Duration::from_millis;
    link.answered(ms(1001), ms(1000));
    link.is_in_trouble = true;
    // Asked during the outage, answered after it.
    for sent in [2000, 2400, 2800] {
        link.answered(ms(3000), ms(sent));
    }
    assert!(link.rtt.unwrap().smooth() < ms(2));
    // The way has become longer indeed.
    link.answered(ms(5600), ms(5000));
    assert!(link.rtt.unwrap().smooth() > ms(50));
}

/// Beyond the full mesh: whoever held a link that ended unasked finds out what became of
/// its node, though the rest do nothing.
#[test]
fn a_link_that_ended_unasked_is_followed_up_by_whoever_held_it() {
    let mut net = Net::beyond_full_mesh(6, 2);
    net.run(Duration::from_secs(2));
    // Everybody but node 1 answers and watches nobody: played by machines whose time stands.
    let victim = (2..=6).find(|n| net.nodes[&name(1)].link(&name(*n)).is_some()).unwrap();
    let machine = net.nodes.get_mut(&name(1)).unwrap();
    let (key, _) = machine.link(&name(victim)).unwrap();
    machine.ring.remove(&name(victim));
    machine.ring.remove(&name(1));
    assert!(!machine.wants(&name(victim)), "it is no neighbour");
    machine.handle_link_down(net.now, key);
    assert!(machine.wants(&name(victim)));
    let dialled = std::iter::from_fn(|| machine.poll_effect())
        .any(|effect| effect == Effect::Dial(name(victim)));
    assert!(dialled);
    // The socket accepted and closed: it is tried again within milliseconds.
    let failure = DialFailure::Unreachable("closed".to_owned());
    machine.handle_dial_failed(net.now, &name(victim), &failure);
    let next = machine.links.next_due().unwrap();
    assert!(next - net.now <= Duration::from_millis(5), "{:?}", next - net.now);
    machine.handle_timeout(net.now + Duration::from_millis(5));
    machine.handle_dial_failed(net.now, &name(victim), &DialFailure::Refused);
    assert_eq!(machine.table().member(&name(victim)).unwrap().health(), Some(Health::Down));
}

#[test]
fn a_hundred_stopped_names_make_no_mesh_larger() {
    let mut net = Net::new();
    let stopped: Vec<Record> = (100..200)
        .map(|index| {
            let settings = settings(index, true);
            Membership::new(settings, Durable::default(), Duration::ZERO, 1).me().clone()
        })
        .collect();
    for index in 1..=4 {
        let disk = Durable { records: stopped.clone(), ..Durable::default() };
        net.start(settings(index, true), disk);
    }
    net.discover_all();
    net.run(Duration::from_secs(2));
    for at in 1..=4 {
        let machine = &net.nodes[&name(at)];
        assert_eq!(machine.table().member_count(), 104);
        assert!((1..=4).filter(|n| *n != at).all(|n| machine.link(&name(n)).is_some()));
    }
    net.frozen.insert(name(4));
    net.run(Duration::from_secs(3));
    assert!(net.agrees_that_only(1..=3, &[1, 2, 3]));
}

#[test]
fn who_stopped_by_its_own_word_is_on_no_side_also_after_a_restart() {
    let mut net = Net::cluster(4);
    for node in [3, 4] {
        net.nodes.get_mut(&name(node)).unwrap().stop(net.now);
        net.settle();
        net.kill(node);
    }
    net.run(Duration::from_secs(1));
    assert!(net.nodes[&name(1)].table().majority());
    // One of the two that are left crashes: half of those that count is no majority.
    net.kill(2);
    net.run(Duration::from_secs(1));
    assert!(!net.nodes[&name(1)].table().majority());
    let disk = net.nodes[&name(1)].durable();
    net.kill(1);
    net.start(Settings { boot: BootId(50), ..settings(1, true) }, disk);
    net.run(Duration::from_secs(2));
    assert!(!net.nodes[&name(1)].table().majority());
    net.start(Settings { boot: BootId(51), ..settings(2, true) }, Durable::default());
    net.discover_all();
    net.run(Duration::from_secs(5));
    assert!(net.nodes[&name(1)].table().majority());
    assert_eq!(net.running(1), ["n1", "n2"]);
}

/// Also under a strategy that joins nobody by itself, which takes a tombstone for an order.
#[test]
fn a_stop_that_leaves_is_undone_by_the_next_start() {
    for automatic in [true, false] {
        let mut net = Net::new();
        for index in 1..=3 {
            let leaving = Settings { leave_on_stop: true, ..settings(index, true) };
            net.start(leaving, Durable::default());
        }
        net.discover_all();
        net.run(Duration::from_secs(2));
        let stopped = net.nodes.get_mut(&name(2)).unwrap();
        stopped.stop(net.now);
        let disk = stopped.durable();
        net.settle();
        net.kill(2);
        net.run(Duration::from_secs(1));
        for at in [1, 3] {
            let machine = &net.nodes[&name(at)];
            assert!(machine.table().member(&name(2)).is_none(), "at {at}");
            assert_eq!(machine.table().get(&name(2)).unwrap().standing, Standing::Left);
        }
        let again = Settings { boot: BootId(50), leave_on_stop: true, ..settings(2, automatic) };
        net.start(again, disk);
        net.run(Duration::from_secs(2));
        net.assert_agreed(&["n1", "n2", "n3"]);
    }
}

impl Net {
    /// Has node 1 go on for a while; each of these links answers its pings, and says nothing
    /// else.
    fn answering(&mut self, links: &[LinkId], time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += Duration::from_millis(20);
            let (now, machine) = (self.now, self.nodes.get_mut(&name(1)).unwrap());
            machine.handle_timeout(now);
            while let Some(effect) = machine.poll_effect() {
                let Effect::Send(key, frame) = effect else { continue };
                if let Ok(Message::Ping { seq, .. }) = Message::decode(&frame)
                    && links.contains(&key)
                {
                    let view = machine.view_hash();
                    let ack = Message::Ack { seq, view, wanted: true, news: Vec::new() };
                    machine.handle_frame(now, key, &ack.encode());
                }
            }
        }
    }

    fn health(&self, of: u64) -> Option<Health> {
        self.nodes[&name(1)].table().member(&name(of)).unwrap().health()
    }
}

/// Among a hundred with a liar among them an objection took its time, and honest members
/// called down whoever had just answered them.
#[test]
fn who_answers_is_not_given_up_however_long_its_objection_takes() {
    let mut net = Net::new();
    net.start(settings(1, true), Durable::default());
    net.discover_all();
    net.run(Duration::from_secs(2));
    let greet = |net: &mut Net, node| net.greet(1, node, node, |h| Hello { automatic: true, ..h });
    let (accused, accuser) = (greet(&mut net, 8), greet(&mut net, 9));
    net.answering(&[accused, accuser], Duration::from_secs(1));
    let held = net.nodes[&name(1)].table().member(&name(8)).unwrap().clone();
    let suspect = held.with(Standing::Member(Health::Suspect), Reason::Silent, &name(9));
    let frame = Message::Gossip { id: None, news: vec![suspect] }.encode();
    net.nodes.get_mut(&name(1)).unwrap().handle_frame(net.now, accuser, &frame);
    net.answering(&[accused, accuser], Duration::from_secs(20));
    assert_eq!(net.health(8), Some(Health::Suspect));
    net.answering(&[accuser], Duration::from_secs(3));
    assert_eq!(net.health(8), Some(Health::Down));
    assert_eq!(net.health(9), Some(Health::Up));
}
