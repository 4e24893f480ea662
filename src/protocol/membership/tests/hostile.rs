//! A member that says whatever the wire can carry, and what it comes to.

use super::super::learn::{DOUBTS, Manner};
use super::*;

/// A name that nobody has.
pub(super) fn made_up(index: u64) -> NodeName {
    NodeName::parse(&format!("ghost{index}@10.9.{}.{}", index / 250, index % 250)).unwrap()
}

pub(super) fn claim(node: NodeName, standing: Standing) -> Record {
    Record {
        by: node.clone(),
        node,
        epoch: Epoch(0),
        standing,
        incarnation: Incarnation(1),
        boot: BootId(1),
        role: crate::node::Role::Core,
        reason: Some(Reason::Announced),
        version: String::new(),
        attributes: None,
        burial: 0,
    }
}

pub(super) const UP: Standing = Standing::Member(Health::Up);

impl Net {
    /// The liar is node 9, which the test plays: a member with a link to each other.
    pub(super) fn with_liar(n: u64) -> (Self, Vec<LinkId>) {
        let mut net = Net::cluster(n);
        net.run(Duration::from_secs(6));
        let keys = (1..=n)
            .map(|to| net.greet(to, 9, 9, |hello| Hello { automatic: true, ..hello }))
            .collect();
        net.settle();
        (net, keys)
    }

    /// The liar's link to the first node ends, and it makes another.
    pub(super) fn come_again(&mut self, key: LinkId) -> LinkId {
        self.nodes.get_mut(&name(1)).unwrap().handle_link_down(self.now, key);
        self.greet(1, 9, 9, |hello| Hello { automatic: true, ..hello })
    }

    pub(super) fn lie(&mut self, to: u64, key: LinkId, news: Vec<Record>) {
        for part in news.chunks(MAX_RECORDS) {
            let frame = Message::Gossip { id: None, news: part.to_vec() }.encode();
            self.nodes.get_mut(&name(to)).unwrap().handle_frame(self.now, key, &frame);
        }
        self.settle();
    }

    pub(super) fn noted(&self, at: u64, limit: Limit) -> bool {
        self.notes.iter().any(|(node, note)| *node == name(at) && *note == Note::Limit(limit))
    }
}

#[test]
fn numbers_near_their_end_break_no_name() {
    let (mut net, keys) = Net::with_liar(3);
    let held = net.nodes[&name(1)].table().member(&name(2)).unwrap().clone();
    let by = name(9);
    let most = u64::MAX;
    let removed = held.with(Standing::Autocleaned, Reason::Autocleaned, &by);
    let down = held.with(Standing::Member(Health::Down), Reason::Silent, &by);
    let lies = vec![
        Record { epoch: Epoch(most), ..removed.clone() },
        Record { burial: most, ..removed },
        Record { incarnation: Incarnation(most), ..down.clone() },
        Record { epoch: Epoch(most - 1), ..down },
    ];
    for (to, key) in (1..=3).zip(&keys) {
        net.lie(to, *key, lies.clone());
    }
    net.run(Duration::from_secs(3));
    for at in 1..=3 {
        assert!(net.running(at).contains(&"n2".to_owned()), "at {at}");
        assert!(net.noted(at, Limit::Numbers));
        assert_eq!(net.nodes[&name(at)].state(), State::Joined);
    }
    // And at its next start too, whatever is on whose disk.
    let disks: Vec<Durable> = (1..=3).map(|n| net.nodes[&name(n)].durable()).collect();
    for (index, mut disk) in (1..=3).zip(disks) {
        net.kill(index);
        disk.records.iter_mut().for_each(|record| record.incarnation = Incarnation(most));
        disk.incarnation = Incarnation(most);
        disk.epoch = Epoch(most);
        net.start(Settings { boot: BootId(70 + index), ..settings(index, true) }, disk);
    }
    net.discover_all();
    net.run(Duration::from_secs(3));
    net.assert_agreed(&["n1", "n2", "n3"]);
}

/// Simulator, seed 210: what one believed, since it held nothing, another did not, since it
/// held something, and their views differed for ever.
#[test]
fn what_one_believes_all_do_whatever_they_hold() {
    let (mut net, keys) = Net::with_liar(3);
    let far = |epoch| {
        let buried = claim(made_up(1), Standing::Autocleaned);
        Record { epoch: Epoch(epoch), burial: epoch << 20, ..buried }
    };
    net.lie(1, keys[0], vec![far(0)]);
    net.lie(2, keys[1], vec![far(1 << 30)]);
    // Step by step, and to one only: of a node that is no more.
    let dead = claim(made_up(2), UP);
    net.lie(1, keys[0], vec![dead.clone()]);
    net.run(Duration::from_secs(5));
    for step in 0..100 {
        let epoch = Epoch((1 << 32) + (step << 16));
        net.lie(2, keys[1], vec![Record { epoch, ..dead.clone() }]);
    }
    for (to, key) in (1..=3).zip(&keys) {
        net.nodes.get_mut(&name(to)).unwrap().handle_link_down(net.now, *key);
    }
    net.run(Duration::from_secs(5));
    let held: BTreeSet<Epoch> =
        net.nodes.values().map(|m| m.table().get(&made_up(1)).unwrap().epoch).collect();
    assert_eq!(held, BTreeSet::from([Epoch(1 << 30)]));
    // And whatever is believed of a name an operator ends.
    for node in [made_up(2), name(9)] {
        assert_eq!(net.ask(2, Action::ForceLeave { node, force: true }), Ok(()));
    }
    net.run(Duration::from_secs(5));
    net.assert_agreed(&["n1", "n2", "n3"]);
}

/// Simulator, seed 759: who had left was a member to others, by a liar's word, in an
/// incarnation that it did not believe, and so did not answer.
#[test]
fn whatever_others_believe_of_a_node_it_answers() {
    let (mut net, keys) = Net::with_liar(3);
    assert_eq!(net.ask(2, Action::Leave), Ok(()));
    let me = net.nodes[&name(2)].me().clone();
    for step in [1, 2] {
        let incarnation = Incarnation((1 << 40) + ((step - 1) << 24));
        let lie = Record { epoch: Epoch(step << 16), standing: UP, incarnation, ..me.clone() };
        net.lie(1, keys[0], vec![Record { burial: 0, ..lie }]);
    }
    assert!(net.running(1).contains(&"n2".to_owned()));
    net.run(Duration::from_secs(15));
    assert_eq!(net.nodes[&name(2)].state(), State::Left);
    for at in [1, 3] {
        assert!(net.nodes[&name(at)].table().member(&name(2)).is_none(), "at {at}");
    }
}

/// Simulator, seed 52172: a later life of a member was down, by a liar's word, to two that had no
/// link to it. Whoever had one believed none of it, nobody told the member, and views differed
/// for good.
#[test]
fn what_others_hold_of_a_member_it_is_told_by_who_does_not_believe_it() {
    for standing in [UP, Standing::Member(Health::Down)] {
        let mut net = Net::cluster(3);
        net.run(Duration::from_secs(3));
        let (now, of) = (net.now, net.nodes[&name(2)].me().clone());
        let lies = |epoch| vec![Record { epoch, standing, by: name(3), ..of.clone() }];
        let hearer = net.nodes.get_mut(&name(1)).unwrap();
        let key = |of| hearer.links.active(&name(of)).unwrap().0;
        let (to_itself, from) = (key(2), key(3));
        // Whoever says ever more of it does not have it answer, and all learn, each.
        for epoch in (5..100).map(Epoch) {
            hearer.links.links.get_mut(&to_itself).unwrap().heard = now;
            hearer.hear(now, from, lies(epoch), Manner::Compared);
        }
        net.settle();
        assert_eq!(net.nodes[&name(2)].me().epoch, Epoch(5), "it answers once");
        net.run(Duration::from_secs(1));
        net.assert_agreed(&["n1", "n2", "n3"]);
        assert!(net.news.iter().all(|(_, news)| news.to == UP), "and was never anything but up");
    }
}

#[test]
fn the_tables_hold_no_more_than_they_may() {
    let mut net = Net::new();
    let limits = Limits {
        members: 20,
        tombstones: 30,
        unproven_at_once: 1000,
        unproven_per_second: 1000,
        rumours: 25,
        news_at_once: 1000,
        news_per_second: 8,
    };
    net.start(Settings { limits, ..settings(1, true) }, Durable::default());
    net.discover_all();
    net.run(Duration::from_secs(2));
    let key = net.greet(1, 9, 9, |hello| Hello { automatic: true, ..hello });
    // Each is first a tombstone and then a member, as it must not be.
    let buried = |index| Record { burial: index, ..claim(made_up(index), Standing::ForceLeft) };
    let back = |index| Record { epoch: Epoch(1), ..claim(made_up(index), UP) };
    for from in (0..300).step_by(25) {
        net.lie(1, key, (from..from + 25).map(buried).collect());
        net.lie(1, key, (from..from + 25).map(back).collect());
    }
    net.lie(1, key, (1000..1300).map(buried).collect());
    let machine = &net.nodes[&name(1)];
    assert!(machine.table().member_count() <= 20);
    assert!(machine.table().tombstone_count() <= 30);
    assert!(machine.rumours.len() <= 25);
    assert!(machine.table().get(&made_up(1299)).is_some(), "the last buried are kept");
    for limit in [Limit::Members, Limit::Tombstones, Limit::Rumours] {
        assert!(net.noted(1, limit), "{limit:?}");
    }
    // Logged now and then, not each time.
    assert!(net.notes.len() < 20, "{}", net.notes.len());
}

#[test]
fn other_books_hold_no_more_than_they_may() {
    let (mut net, keys) = Net::with_liar(2);
    let held = net.nodes[&name(2)].me().clone();
    // Other lives of node 1 itself.
    for boot in 0..200 {
        let me = net.nodes[&name(1)].me().clone();
        net.lie(1, keys[0], vec![Record { boot: BootId(boot), ..bump(&me) }]);
    }
    assert!(net.nodes[&name(1)].rivals.len() <= 16);
    assert!(net.noted(1, Limit::Rivals));
    // Accusations by accusers without end, in incarnations without end.
    net.nodes.get_mut(&name(1)).unwrap().links.peer(&name(2)).link = None;
    for index in 0..600 {
        let accused = held.with(Standing::Member(Health::Suspect), Reason::Silent, &made_up(index));
        let incarnation = Incarnation(held.incarnation.0 + index / 20);
        net.lie(1, keys[0], vec![Record { incarnation, ..accused }]);
    }
    assert!(net.nodes[&name(1)].rumours.len() <= 12, "{}", net.nodes[&name(1)].rumours.len());
    // Favours, and answers that nobody asked for.
    let machine = net.nodes.get_mut(&name(1)).unwrap();
    for seq in 0..10_000 {
        let favour = Message::PingReq { seq, target: name(9) };
        machine.handle_frame(net.now, keys[0], &favour.encode());
        let view = machine.view_hash();
        let ack = Message::Ack { seq, view, wanted: true, news: Vec::new() };
        machine.handle_frame(net.now, keys[0], &ack.encode());
        while machine.poll_effect().is_some() {}
    }
    for (table, held, bound) in machine.books() {
        assert!(held <= bound, "{table}: {held} of {bound}");
    }
}

fn bump(record: &Record) -> Record {
    Record { incarnation: Incarnation(record.incarnation.0 + 1), ..record.clone() }
}

/// FAULTS: 1,500 names that link once and go.
#[test]
fn who_links_once_and_goes_leaves_nothing_behind() {
    let mut net = Net::cluster(2);
    let peers = net.nodes[&name(1)].links.peers.len();
    for index in 0..1500 {
        let machine = net.nodes.get_mut(&name(1)).unwrap();
        let key = LinkId(100_000 + index);
        machine.handle_link_up(net.now, key, &made_up(index), false, None);
        if index % 2 == 0 {
            let settings =
                Settings { node: made_up(index), cluster: "other".to_owned(), ..settings(7, true) };
            let played = Membership::new(settings, Durable::default(), net.now, index);
            let hello = Message::Hello(Box::new(played.hello(&name(1), Intent::Meet)));
            machine.handle_frame(net.now, key, &hello.encode());
        }
        machine.handle_link_down(net.now, key);
        while machine.poll_effect().is_some() {}
    }
    let machine = &net.nodes[&name(1)];
    assert_eq!(machine.links.peers.len(), peers);
    assert_eq!(machine.links.links.len(), 1);
}

/// What a peer says before it is admitted, or without ever being, changes nothing shown.
#[test]
fn who_is_not_admitted_changes_nothing() {
    let mut net = Net::cluster(3);
    net.run(Duration::from_secs(6));
    let (hash, members) = {
        let machine = &net.nodes[&name(1)];
        (machine.view_hash(), machine.table().member_count())
    };
    let removed = net.nodes[&name(1)].me().with(Standing::ForceLeft, Reason::ForceLeft, &name(9));
    net.greet(1, 9, 9, |hello| Hello {
        cluster: "other".to_owned(),
        you: Some(removed.clone()),
        ..hello
    });
    // Another process under the name of a live member says that it left.
    net.greet(1, 2, 99, |hello| Hello {
        automatic: true,
        me: Record { epoch: Epoch(5), standing: Standing::Left, ..hello.me.clone() },
        ..hello
    });
    // And a stranger that this node's name were taken.
    let key = LinkId(77_000);
    let machine = net.nodes.get_mut(&name(1)).unwrap();
    machine.handle_link_up(net.now, key, &name(8), false, None);
    let bye = Message::Bye { code: Some(ByeCode::NameConflict), text: "taken".to_owned() };
    machine.handle_frame(net.now, key, &bye.encode());
    net.run(Duration::from_millis(10));
    let machine = &net.nodes[&name(1)];
    assert_eq!((machine.view_hash(), machine.table().member_count()), (hash, members));
    assert_eq!((machine.state(), machine.conflict()), (State::Joined, None));
}

/// FAULTS: tombstones reach a newcomer, and whoever was away hears them from it.
#[test]
fn a_newcomer_holds_every_tombstone_and_passes_it_on() {
    let mut net = Net::new();
    net.start(settings(1, true), Durable { records: graves(0..8000), ..Durable::default() });
    net.start(settings(2, true), Durable::default());
    net.discover_all();
    net.run(Duration::from_secs(5));
    net.assert_agreed(&["n1", "n2"]);
    assert_eq!(net.nodes[&name(2)].table().tombstone_count(), 8000);
    net.kill(1);
    // It was away, and still knows one of the removed as a member.
    let ghost = claim(made_up(77), UP);
    net.start(settings(3, true), Durable { records: vec![ghost], ..Durable::default() });
    net.discover_all();
    net.run(Duration::from_secs(5));
    for at in [2, 3] {
        let table = net.nodes[&name(at)].table();
        assert!(table.member(&made_up(77)).is_none(), "at {at}");
        assert_eq!(table.tombstone_count(), 8000, "at {at}");
    }
    assert_eq!(net.nodes[&name(2)].view_hash(), net.nodes[&name(3)].view_hash());
}

/// So many removals of nodes that there never were.
pub(super) fn graves(range: std::ops::Range<u64>) -> Vec<Record> {
    range.map(|n| Record { burial: n, ..claim(made_up(n), Standing::ForceLeft) }).collect()
}

/// A tombstone older than all of a full table would be forgotten at once, and the member
/// with it, who would be learned again.
#[test]
fn a_tombstone_too_old_for_a_full_table_takes_no_member_along() {
    let mut table = Table::new(10, 2);
    let buried = |index, burial| Record {
        burial,
        epoch: Epoch(1),
        ..claim(made_up(index), Standing::ForceLeft)
    };
    let member = claim(made_up(3), UP);
    for record in [&buried(1, 5), &buried(2, 6), &member] {
        let applied = table.apply(Duration::ZERO, record, &Origin::Known);
        assert!(matches!(applied, Applied::New(_)), "{applied:?}");
    }
    let hash = table.view_hash(None, Version::V2);
    let applied = table.apply(Duration::ZERO, &buried(3, 4), &Origin::Known);
    assert!(matches!(applied, Applied::Full), "{applied:?}");
    assert!(table.member(&made_up(3)).is_some());
    assert_eq!((table.view_hash(None, Version::V2), table.tombstone_count()), (hash, 2));
    let applied = table.apply(Duration::ZERO, &buried(3, 7), &Origin::Known);
    assert!(matches!(applied, Applied::New(_)), "{applied:?}");
    assert_eq!((table.member(&made_up(3)), table.tombstone_count()), (None, 2));
}

/// Who was removed may have joined again, and said numbers that only its own link proves: it
/// is asked, once.
#[test]
fn who_was_removed_is_asked_about_numbers_that_are_hard_to_believe() {
    let (mut net, keys) = Net::with_liar(3);
    let gone = made_up(1);
    net.lie(1, keys[0], vec![Record { burial: 1, ..claim(gone.clone(), Standing::ForceLeft) }]);
    let is_sought = |net: &Net, node: &NodeName| net.nodes[&name(1)].links.is_sought(node);
    assert!(!is_sought(&net, &gone));
    let back =
        |node| Record { epoch: Epoch(1), incarnation: Incarnation(1 << 41), ..claim(node, UP) };
    net.lie(1, keys[0], vec![back(gone.clone()), back(made_up(2))]);
    assert!(net.noted(1, Limit::Numbers));
    assert!(is_sought(&net, &gone));
    assert!(is_sought(&net, &made_up(2)), "of whom nothing is held");
    net.run(Duration::from_secs(1));
    for node in [gone, made_up(2)] {
        assert!(!is_sought(&net, &node), "nobody answered there");
    }
    // Names that are made up leave some of the asking to others.
    let names = (10..40).map(|index| back(made_up(index)));
    net.lie(1, keys[0], names.collect());
    let sought = (10..40).filter(|index| is_sought(&net, &made_up(*index))).count();
    assert!((1..=DOUBTS as usize / 2 + 1).contains(&sought), "{sought}");
    net.run(Duration::from_secs(5));
    assert_eq!(net.nodes[&name(1)].links.peers.len(), 3);
}

/// How far a liar drove the numbers of who is dead, only those know that had a link with it:
/// whoever comes later has the same view all the same, and the name is free when it is removed.
#[test]
fn who_died_with_driven_numbers_is_the_same_to_all() {
    for driven in [1 << 40, 1 << 50] {
        let (mut net, keys) = Net::with_liar(3);
        let held = net.nodes[&name(1)].table().member(&name(2)).unwrap().clone();
        let down = held.with(Standing::Member(Health::Down), Reason::Silent, &name(9));
        let lie = Record { incarnation: Incarnation(driven), ..down };
        net.lie(2, keys[1], vec![lie]);
        let answer = net.nodes[&name(1)].table().member(&name(2)).unwrap().clone();
        assert_eq!(answer.incarnation, Incarnation(driven + 1));
        assert!(answer.is_running());
        for (to, key) in [1, 3].into_iter().zip([keys[0], keys[2]]) {
            net.nodes.get_mut(&name(to)).unwrap().handle_link_down(net.now, key);
        }
        let durable = net.nodes[&name(2)].durable();
        net.kill(2);
        net.run(Duration::from_secs(3));
        net.start(settings(4, true), Durable::default());
        net.discover_all();
        net.run(Duration::from_secs(15));
        assert_eq!(net.ask(1, Action::ForceLeave { node: name(9), force: true }), Ok(()));
        net.run(Duration::from_secs(2));
        net.assert_agreed(&["n1", "n3", "n4"]);
        assert!(net.nodes[&name(4)].table().member(&name(2)).is_some(), "it stays listed");
        // It is believed when it is back.
        net.start(Settings { boot: BootId(77), ..settings(2, true) }, durable);
        net.discover_all();
        net.run(Duration::from_secs(5));
        net.assert_agreed(&["n1", "n2", "n3", "n4"]);
    }
}

/// Simulator, seed 1167: who has left starts again and has forgotten when it left, which to a
/// full table is before everything it holds.
#[test]
fn a_full_table_lets_go_of_who_says_itself_that_it_left() {
    let mut net = Net::cluster(3);
    let old = |index| Record { burial: 100 + index, ..claim(made_up(index), Standing::Left) };
    let mut limits = settings(1, true).limits;
    limits.tombstones = 4;
    let durable = |net: &Net, at| {
        let mut durable = net.nodes[&name(at)].durable();
        durable.records.extend((0..4).map(old));
        durable
    };
    let disks = [1, 3].map(|at| (at, durable(&net, at)));
    let mut gone = net.nodes[&name(2)].durable();
    for (at, disk) in disks {
        net.kill(at);
        let settings = Settings { limits, boot: BootId(70 + at), ..settings(at, true) };
        net.start(settings, disk);
    }
    net.kill(2);
    gone.left = true;
    gone.records.clear();
    net.start(Settings { boot: BootId(72), ..settings(2, true) }, gone);
    net.discover_all();
    net.run(Duration::from_secs(15));
    for at in [1, 3] {
        assert!(net.nodes[&name(at)].table().member(&name(2)).is_none(), "at {at}");
    }
    let hashes = [1, 3].map(|at| net.nodes[&name(at)].view_hash());
    assert_eq!(hashes[0], hashes[1]);
}

/// Simulator, seed 4144: who is kept apart until an operator says otherwise was believed by
/// one side after that, and never by those who had only heard of it: its numbers were driven.
#[test]
fn numbers_that_were_driven_up_keep_nobody_apart() {
    let mut net = Net::new();
    for index in 1..=3 {
        net.start(Settings { autoheal: false, ..settings(index, true) }, Durable::default());
    }
    net.discover_all();
    net.run(Duration::from_secs(6));
    net.isolate(3, true, true);
    net.run(Duration::from_secs(6));
    net.cuts.clear();
    let three = net.nodes.get_mut(&name(3)).unwrap();
    three.me.incarnation = Incarnation((1 << 40) + 5);
    three.set_me(net.now);
    net.run(Duration::from_secs(3));
    assert_eq!(net.running(1), ["n1", "n2"], "they stay apart");
    assert_eq!(net.ask(3, Action::Join { node: name(2), force: true }), Ok(()));
    net.run(Duration::from_secs(25));
    net.assert_agreed(&["n1", "n2", "n3"]);
}
