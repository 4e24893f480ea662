use super::*;
use crate::follow::fixtures::{member, node, snapshot, with};

fn info(running: &[&str], stopped: &[&str]) -> Info {
    let own = |name: &&str| ((*name).to_owned(), (*name).to_owned());
    Info {
        running: running.iter().map(own).collect(),
        stopped: stopped.iter().map(|name| (*name).to_owned()).collect(),
    }
}

const NAMES: [&str; 4] = ["a@h.io", "b@h.io", "c@h.io", "d@h.io"];

/// What `this` sees of `NAMES`, all up.
fn view(this: &str) -> Snapshot {
    let mut names = NAMES.to_vec();
    names.sort_by_key(|name| *name != this);
    snapshot(names.iter().map(|name| member(name)).collect())
}

/// Clusters of brokers; who is in none is alone.
struct Brokers<'a> {
    clusters: &'a [&'a [&'a str]],
    stopped: &'a [&'a str],
    silent: &'a [&'a str],
}

const ALONE: Brokers<'static> = Brokers { clusters: &[], stopped: &[], silent: &[] };

impl Brokers<'_> {
    fn say(&self, name: &str) -> Info {
        match self.clusters.iter().find(|cluster| cluster.contains(&name)) {
            Some(cluster) => info(cluster, self.stopped),
            None => info(&[name], &[]),
        }
    }

    /// Asks until there is a decision; whom it asked, too.
    fn decide(&self, view: &Snapshot, failures: usize, skip: usize) -> (Step, Vec<String>) {
        let own = self.say(view.self_node.as_str());
        let mut asked = Asked::new();
        loop {
            match decide(view, &own, &asked, failures, skip) {
                Step::Ask(name) => {
                    let answer = match self.silent.contains(&name.as_str()) {
                        true => Err(Mute { restarting: false, why: "no answer".to_owned() }),
                        false => Ok(self.say(name.as_str())),
                    };
                    assert!(asked.insert(name, answer).is_none(), "asked twice");
                }
                step => return (step, asked.keys().map(ToString::to_string).collect()),
            }
        }
    }

    fn step(&self, view: &Snapshot) -> Step {
        self.decide(view, 0, 0).0
    }
}

fn joins(name: &str) -> Step {
    Step::Join(node(name))
}

#[track_caller]
fn stays(step: &Step, state: DriveState, words: &str) {
    let Step::Stay(found, why) = step else { panic!("{step:?}") };
    let why = why.clone().unwrap_or_default();
    assert!(*found == state && why.contains(words), "{step:?}");
}

#[test]
fn fresh_brokers_join_the_first_one_by_one() {
    stays(&ALONE.step(&view("a@h.io")), DriveState::Waiting, "");
    assert_eq!(ALONE.step(&view("b@h.io")), joins("a@h.io"));
    let (step, asked) = ALONE.decide(&view("c@h.io"), 0, 0);
    stays(&step, DriveState::Waiting, "brokers before this one");
    assert_eq!(asked, ["a@h.io", "b@h.io"], "and no more");
    let two = Brokers { clusters: &[&["a@h.io", "b@h.io"]], ..ALONE };
    stays(&two.step(&view("a@h.io")), DriveState::Joined, "");
    stays(&two.step(&view("b@h.io")), DriveState::Joined, "");
    assert_eq!(two.step(&view("c@h.io")), joins("a@h.io"));
    stays(&two.step(&view("d@h.io")), DriveState::Waiting, "c@h.io joins first");
}

#[test]
fn whoever_is_first_by_name_joins_those_who_are_in_a_cluster() {
    let brokers = Brokers { clusters: &[&["c@h.io", "d@h.io"]], ..ALONE };
    assert_eq!(brokers.step(&view("a@h.io")), joins("c@h.io"));
    stays(&brokers.step(&view("b@h.io")), DriveState::Waiting, "a@h.io joins first");
    // A single broker whose cluster is stopped is a cluster.
    let one = Brokers { clusters: &[&["d@h.io"]], stopped: &["x@h.io"], silent: &[] };
    assert_eq!(one.step(&view("a@h.io")), joins("d@h.io"));
    stays(&one.step(&view("d@h.io")), DriveState::Joined, "");
}

#[test]
fn nobody_joins_while_the_seed_lists_a_member_as_stopped() {
    let brokers = |stopped| Brokers { clusters: &[&["a@h.io", "b@h.io"]], stopped, silent: &[] };
    let mut view = view("c@h.io");
    with(&mut view, "d@h.io", |m| m.status = MemberStatus::Down);
    let step = brokers(&["d@h.io"]).step(&view);
    stays(&step, DriveState::Blocked, "d@h.io is stopped in the cluster of a@h.io");
    stays(&step, DriveState::Blocked, "muster cluster force-leave d@h.io");
    assert_eq!(brokers(&["x@h.io"]).step(&view), joins("a@h.io"));
    // Its own name among them: it came back without its data.
    let step = brokers(&["c@h.io"]).step(&view);
    stays(&step, DriveState::Blocked, "force-leave c@h.io");
}

#[test]
fn only_a_broker_that_is_well_joins() {
    let check = |change: &dyn Fn(&mut Snapshot), words: &str| {
        let mut view = view("b@h.io");
        change(&mut view);
        stays(&ALONE.step(&view), DriveState::Waiting, words);
    };
    check(&|v| v.state = ClusterState::Forming, "no cluster yet");
    check(&|v| v.state = ClusterState::Left, "no cluster yet");
    check(&|v| v.majority = false, "majority");
    check(&|v| with(v, "b@h.io", |m| m.draining = Some(String::new())), "drains");
    for status in [BrokerStatus::Unknown, BrokerStatus::Down] {
        check(&|v| with(v, "b@h.io", |m| m.broker.as_mut().unwrap().status = status), "probe");
    }
    check(
        &|v| NAMES.iter().filter(|n| **n != "b@h.io").for_each(|n| with(v, n, |m| m.broker = None)),
        "no other member's broker",
    );
    let alone = snapshot(vec![member("b@h.io")]);
    stays(&ALONE.step(&alone), DriveState::Joined, "");
}

#[test]
fn only_a_core_that_serves_is_a_seed() {
    let mut view = view("c@h.io");
    with(&mut view, "a@h.io", |m| m.role = Role::Replicant);
    with(&mut view, "b@h.io", |m| m.draining = Some(String::new()));
    // Its own broker is the first core then, and the others come to it.
    stays(&ALONE.step(&view), DriveState::Waiting, "");
    with(&mut view, "c@h.io", |m| m.role = Role::Replicant);
    stays(&ALONE.step(&view), DriveState::Waiting, "brokers before this one join first");
    assert_eq!(ALONE.decide(&view, 0, 2).0, joins("d@h.io"));
    with(&mut view, "d@h.io", |m| m.role = Role::Replicant);
    stays(&ALONE.step(&view), DriveState::Waiting, "no core's broker serves");
}

#[test]
fn who_cannot_be_asked_founds_no_second_cluster() {
    let silent = Brokers { silent: &["d@h.io"], ..ALONE };
    stays(&silent.step(&view("b@h.io")), DriveState::Waiting, "d@h.io cannot be asked: no answer");
    // With a cluster found, nobody else matters but who comes before.
    let brokers = Brokers { clusters: &[&["a@h.io", "b@h.io"]], silent: &["d@h.io"], ..ALONE };
    assert_eq!(brokers.step(&view("c@h.io")), joins("a@h.io"));
    let brokers = Brokers { clusters: &[&["a@h.io", "b@h.io"]], silent: &["c@h.io"], ..ALONE };
    stays(&brokers.step(&view("d@h.io")), DriveState::Waiting, "c@h.io joins first");
    assert_eq!(brokers.decide(&view("d@h.io"), 0, 1).0, joins("a@h.io"));
}

#[test]
fn another_core_of_the_same_cluster_is_the_next_seed() {
    let brokers = Brokers { clusters: &[&["a@h.io", "b@h.io"]], ..ALONE };
    let seed = |failures| brokers.decide(&view("d@h.io"), failures, 1).0;
    assert_eq!([seed(0), seed(1), seed(2)], [joins("a@h.io"), joins("b@h.io"), joins("a@h.io")]);
    // Of lone brokers there is one founder, however often it fails.
    assert_eq!(ALONE.decide(&view("b@h.io"), 3, 0).0, joins("a@h.io"));
}

#[test]
fn two_clusters_are_never_made_one() {
    let brokers = Brokers { clusters: &[&["a@h.io", "b@h.io"], &["c@h.io", "d@h.io"]], ..ALONE };
    for name in NAMES {
        stays(&brokers.step(&view(name)), DriveState::Joined, "");
    }
    // Who is alone beside them joins the first.
    let brokers = Brokers { clusters: &[&["b@h.io"], &["c@h.io", "x@h.io"]], ..ALONE };
    let step = brokers.step(&view("a@h.io"));
    assert_eq!(step, joins("c@h.io"));
}

#[test]
fn a_seed_that_lists_this_broker_already_is_left_alone() {
    let brokers = Brokers { clusters: &[&["a@h.io", "c@h.io"]], ..ALONE };
    let own = info(&["c@h.io"], &[]);
    let mut asked = Asked::new();
    asked.insert(node("a@h.io"), Ok(brokers.say("a@h.io")));
    asked.insert(node("b@h.io"), Ok(brokers.say("b@h.io")));
    asked.insert(node("d@h.io"), Ok(brokers.say("d@h.io")));
    let step = decide(&view("c@h.io"), &own, &asked, 0, 1);
    stays(&step, DriveState::Waiting, "lists this broker as running already");
}

#[test]
fn nobody_joins_while_a_broker_restarts() {
    let mut asked = Asked::new();
    asked.insert(node("a@h.io"), Ok(info(&["a@h.io", "b@h.io"], &[])));
    asked.insert(node("b@h.io"), Ok(info(&["a@h.io", "b@h.io"], &[])));
    asked.insert(node("d@h.io"), Err(Mute { restarting: true, why: String::new() }));
    let own = info(&["c@h.io"], &[]);
    let step = decide(&view("c@h.io"), &own, &asked, 0, 0);
    stays(&step, DriveState::Waiting, "d@h.io starts or joins just now");
    // For how long it may is limited.
    assert_eq!(decide(&view("c@h.io"), &own, &asked, 0, 1), joins("a@h.io"));
}

/// Whatever the order in which agents look, at most one join is decided on at a time, and
/// in the end there is one cluster.
#[test]
fn agents_that_see_the_same_take_turns() {
    for members in 2..=NAMES.len() {
        let names = &NAMES[..members];
        let mut cluster: Vec<&str> = Vec::new();
        for _ in 0..members {
            let clusters: &[&[&str]] = if cluster.is_empty() { &[] } else { &[&cluster] };
            let brokers = Brokers { clusters, ..ALONE };
            let mut joining = Vec::new();
            for name in names {
                let mut order = names.to_vec();
                order.sort_by_key(|other| other != name);
                let view = snapshot(order.iter().map(|name| member(name)).collect());
                if let Step::Join(seed) = brokers.step(&view) {
                    joining.push((*name, seed));
                }
            }
            assert!(joining.len() <= 1, "{joining:?}");
            let Some((name, seed)) = joining.pop() else { break };
            let seed = *names.iter().find(|name| **name == seed.as_str()).unwrap();
            cluster = match cluster.is_empty() {
                true => vec![seed, name],
                false => [&cluster[..], &[name]].concat(),
            };
            cluster.sort_unstable();
        }
        assert_eq!(cluster, names);
    }
}
