//! Every table that has a bound of its own is driven to it, and holds no more.

use super::hostile::{UP, claim, made_up};
use super::*;

/// Node 1, linked with node 9, which the test plays; what it wants done is not.
struct Driven {
    net: Net,
    key: LinkId,
    /// What each table held at most.
    most: BTreeMap<&'static str, usize>,
}

impl Driven {
    fn new(limits: Limits) -> Self {
        let mut net = Net::new();
        net.start(Settings { limits, ..settings(1, true) }, Durable::default());
        net.discover_all();
        net.run(Duration::from_secs(2));
        let key = net.greet(1, 9, 9, |hello| Hello { automatic: true, ..hello });
        net.settle();
        Self { net, key, most: BTreeMap::new() }
    }

    /// Tells the machine something, drops what it answers, and looks into its books.
    fn drive(&mut self, input: impl FnOnce(&mut Membership, Duration, LinkId)) {
        let machine = self.net.nodes.get_mut(&name(1)).unwrap();
        input(machine, self.net.now, self.key);
        while machine.poll_effect().is_some() {}
        for (table, held, bound) in machine.books() {
            assert!(held <= bound, "{table}: {held} of {bound}");
            let most = self.most.entry(table).or_default();
            *most = held.max(*most);
        }
    }

    fn hear(&mut self, message: &Message) {
        self.drive(|machine, now, key| machine.handle_frame(now, key, &message.encode()));
    }

    fn hear_of(&mut self, news: Vec<Record>) {
        self.hear(&Message::Gossip { id: None, news });
    }

    fn pass(&mut self, time: Duration) {
        self.net.now += time;
        self.drive(|machine, now, _| machine.handle_timeout(now));
    }

    fn full(&self, table: &str) {
        let books = self.net.nodes[&name(1)].books();
        let (.., bound) = books.into_iter().find(|(name, ..)| *name == table).unwrap();
        assert_eq!(self.most.get(table), Some(&bound), "{table}");
    }
}

fn roomy() -> Limits {
    Limits {
        unproven_at_once: 1000,
        unproven_per_second: 1000,
        news_at_once: 1000,
        ..Limits::default()
    }
}

#[test]
fn what_is_heard_of_nodes_fills_its_tables() {
    let mut driven = Driven::new(Limits { members: 20, tombstones: 30, rumours: 25, ..roomy() });
    for index in 0..100 {
        driven.hear_of(vec![claim(made_up(index), UP)]);
        let buried = claim(made_up(1000 + index), Standing::ForceLeft);
        driven.hear_of(vec![Record { burial: index, ..buried }]);
    }
    for table in ["members", "tombstones", "rumours"] {
        driven.full(table);
    }
}

#[test]
fn other_lives_and_accusers_are_remembered_up_to_a_bound() {
    let mut driven = Driven::new(roomy());
    driven.hear_of(vec![claim(made_up(1), UP)]);
    for index in 0..100 {
        let me = driven.net.nodes[&name(1)].me().clone();
        let incarnation = Incarnation(me.incarnation.0 + 1);
        driven.hear_of(vec![Record { boot: BootId(index), incarnation, ..me }]);
        let suspect = Standing::Member(Health::Suspect);
        driven.hear_of(vec![Record { by: made_up(100 + index), ..claim(made_up(1), suspect) }]);
    }
    driven.full("rivals");
    driven.full("accusers");
}

#[test]
fn dials_and_requests_are_under_way_up_to_a_bound() {
    let mut driven = Driven::new(roomy());
    driven.hear_of((0..50).map(|index| claim(made_up(index), UP)).collect());
    driven.pass(Duration::from_secs(1));
    driven.full("unproven dials");
    let named: BTreeSet<NodeName> = (100..300).map(made_up).collect();
    driven.drive(|machine, now, _| machine.handle_discovered(now, &named));
    for _ in 0..20 {
        driven.pass(Duration::from_millis(200));
    }
    driven.full("dials");
    for index in 0..40 {
        let action = Action::Invite { node: made_up(400 + index) };
        driven.drive(|machine, now, _| machine.handle_request(now, RequestId(index), action));
    }
    driven.full("requests");
}

#[test]
fn orders_to_remove_are_under_way_up_to_a_bound() {
    let mut driven = Driven::new(roomy());
    for index in 0..12 {
        driven.hear(&Message::Purge { id: index, brought_by: made_up(index) });
        driven.pass(Duration::from_millis(210));
    }
    driven.full("purges");
}

#[test]
fn probes_and_answers_are_kept_up_to_a_bound() {
    let mut driven = Driven::new(roomy());
    for seq in 0..500 {
        driven.hear(&Message::PingReq { seq, target: name(9) });
    }
    driven.full("favours");
    // Each newcomer under a name that is taken has its holder asked.
    for index in 0..5000 {
        let key = LinkId(100_000 + index);
        let played = Settings { boot: BootId(index + 100), ..settings(9, true) };
        let played = Membership::new(played, Durable::default(), driven.net.now, index);
        let hello = Message::Hello(Box::new(played.hello(&name(1), Intent::Meet))).encode();
        driven.drive(|machine, now, _| {
            machine.handle_link_up(now, key, &name(9), false, None);
            machine.handle_frame(now, key, &hello);
        });
    }
    driven.full("pings");
    let view = driven.net.nodes[&name(1)].view_hash();
    for seq in 0..6000 {
        driven.hear(&Message::Ack { seq, view, wanted: true, news: Vec::new() });
    }
    driven.full("round trips");
}

#[test]
fn who_told_anything_is_remembered_up_to_a_bound() {
    let mut driven = Driven::new(roomy());
    for index in 0..1100 {
        let key = LinkId(100_000 + index);
        let played = Settings { node: made_up(5000 + index), ..settings(7, true) };
        let mut played = Membership::new(played, Durable::default(), driven.net.now, index);
        played.handle_link_up(driven.net.now, key, &name(1), true, None);
        let hello = Message::Hello(Box::new(played.hello(&name(1), Intent::Meet))).encode();
        let buried = claim(made_up(index), Standing::ForceLeft);
        let news = Message::Gossip { id: None, news: vec![buried] }.encode();
        driven.drive(|machine, now, _| {
            machine.handle_link_up(now, key, &made_up(5000 + index), false, None);
            machine.handle_frame(now, key, &hello);
            machine.handle_frame(now, key, &news);
        });
        driven.drive(|machine, now, _| machine.handle_link_down(now, key));
    }
    driven.full("tellers");
}

#[test]
fn strangers_are_remembered_up_to_a_bound() {
    let mut driven = Driven::new(roomy());
    for index in 0..200 {
        let key = LinkId(100_000 + index);
        let other = Settings { node: made_up(index), cluster: "other".into(), ..settings(7, true) };
        let played = Membership::new(other, Durable::default(), driven.net.now, index);
        let hello = Message::Hello(Box::new(played.hello(&name(1), Intent::Meet))).encode();
        driven.drive(|machine, now, _| {
            machine.handle_link_up(now, key, &made_up(index), false, None);
            machine.handle_frame(now, key, &hello);
        });
        driven.drive(|machine, now, _| machine.handle_link_down(now, key));
    }
    driven.full("strangers");
}
