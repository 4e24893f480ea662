//! Each checker against histories that break its invariant, and one that does not.

use muster::node::{BootId, Role};
use muster::protocol::membership::{News, Record, RequestError};

use super::*;
use crate::world::name;

const UP: Standing = Standing::Member(Health::Up);
const DOWN: Standing = Standing::Member(Health::Down);

fn start(pid: Pid, node: usize) -> Fact {
    Fact::Start {
        pid,
        node: name(node),
        cluster: "emqxcl".to_owned(),
        automatic: false,
        known: Vec::new(),
        amnesia: false,
        rogue: false,
    }
}

fn record(node: usize, epoch: u64, standing: Standing) -> Record {
    Record {
        node: name(node),
        epoch: Epoch(epoch),
        standing,
        incarnation: Incarnation(1),
        boot: BootId(1),
        role: Role::Core,
        reason: None,
        by: name(node),
        version: String::new(),
        attributes: None,
        burial: 0,
    }
}

fn own(pid: Pid, id: u128, epoch: u64, standing: Standing) -> Fact {
    Fact::Own { pid, id: Some(ClusterId(id)), standing, epoch: Epoch(epoch) }
}

fn news(from: Option<Health>, to: Standing, incarnation: u64) -> News {
    News {
        node: name(2),
        from,
        to,
        epoch: Epoch(0),
        incarnation: Incarnation(incarnation),
        reason: Reason::Announced,
        by: name(2),
    }
}

fn history(facts: Vec<Fact>) -> History {
    let mut history = History { ended_at: Duration::from_secs(100), ..History::default() };
    for (step, fact) in facts.into_iter().enumerate() {
        history.note(Duration::from_millis(step as u64), step as u64, fact);
    }
    history
}

/// Processes 1 and 2 are the nodes 1 and 2, both members of cluster 7 in epoch 1.
fn pair(then: Vec<Fact>) -> History {
    let mut facts = vec![start(1, 1), start(2, 2), own(1, 7, 1, UP), own(2, 7, 1, UP)];
    facts.extend(then);
    history(facts)
}

fn view(node: usize) -> View {
    View {
        node: name(node),
        cluster: "emqxcl".to_owned(),
        id: Some(ClusterId(7)),
        state: State::Joined,
        discovers: true,
        conflict: false,
        rightful: true,
        boot: BootId(node as u64),
        hash: 1,
        content: 1,
        disagreeing: 0,
        members: vec![
            (name(1), BootId(1), Health::Up),
            (name(2), BootId(2), Health::Up),
            (name(3), BootId(3), Health::Down),
        ],
        contacts: Vec::new(),
    }
}

fn disagreement(change: impl Fn(&mut View)) -> String {
    let mut end = vec![view(1), view(2)];
    change(&mut end[1]);
    agreement(&end).expect_err("two views differ")
}

#[test]
fn agents_that_agree_pass() {
    assert_eq!(agreement(&[view(1), view(2)]), Ok(()));
    // Another cluster, that nobody here knows.
    let mut stranger = view(4);
    stranger.id = Some(ClusterId(8));
    stranger.members = vec![(name(4), BootId(4), Health::Up)];
    assert_eq!(agreement(&[view(1), view(2), stranger]), Ok(()));
}

#[test]
fn every_difference_between_views_is_found() {
    assert!(disagreement(|v| v.hash = 2).contains("different views"));
    assert!(disagreement(|v| v.content = 2).contains("different records"));
    assert!(disagreement(|v| v.id = Some(ClusterId(8))).contains("says that dead"));
    assert!(disagreement(|v| v.disagreeing = 1).contains("believes that others disagree"));
    assert!(disagreement(|v| v.state = State::Forming).contains("still forming"));
    assert!(disagreement(|v| v.state = State::Left).contains("lists it"));
    assert!(disagreement(|v| v.conflict = true).contains("name is taken"));
    assert!(disagreement(|v| v.members[0].2 = Health::Suspect).contains("says that live"));
    assert!(disagreement(|v| v.members[0].1 = BootId(9)).contains("says that live"));
    assert!(disagreement(|v| v.members[2].2 = Health::Up).contains("says that dead"));
    assert!(disagreement(|v| drop(v.members.remove(0))).contains("does not list"));
}

#[test]
fn agents_that_discovery_brings_together_must_be_one_cluster() {
    let mut apart = view(4);
    apart.id = Some(ClusterId(8));
    apart.members = vec![(name(4), BootId(4), Health::Up)];
    apart.contacts = vec![name(1)];
    assert!(agreement(&[view(1), view(2), apart]).is_err());
}

#[test]
fn a_start_without_faults_must_end_in_one_cluster_and_without_suspicion() {
    let mut calm = pair(vec![Fact::News(1, news(Some(Health::Up), DOWN, 1))]);
    assert!(started_at_once_is_one_cluster(&calm).is_ok(), "faults excuse it");
    calm.faultless = true;
    assert!(started_at_once_is_one_cluster(&calm).is_err());
    let mut split = pair(Vec::new());
    split.faultless = true;
    split.end = vec![view(1), view(2)];
    for view in &mut split.end {
        view.contacts = vec![name(1), name(2)];
    }
    assert!(started_at_once_is_one_cluster(&split).is_ok());
    split.end[1].id = Some(ClusterId(8));
    assert!(started_at_once_is_one_cluster(&split).is_err());
}

#[test]
fn a_member_behind_its_tombstone_is_found() {
    let back = |epoch| {
        pair(vec![
            Fact::Held(1, record(2, 1, Standing::Left)),
            own(2, 7, 2, UP),
            Fact::Held(1, record(2, epoch, UP)),
        ])
    };
    assert!(who_left_stays_out(&back(1)).is_err());
    assert!(who_left_stays_out(&back(2)).is_ok());
}

#[test]
fn a_membership_that_the_member_never_claimed_is_found() {
    assert!(who_left_stays_out(&pair(vec![Fact::Held(1, record(2, 1, UP))])).is_ok());
    assert!(who_left_stays_out(&pair(vec![Fact::Held(1, record(2, 2, UP))])).is_err());
}

#[test]
fn a_leave_that_does_not_last_is_found() {
    let left = |then: Vec<Fact>| {
        let mut facts = vec![
            Fact::Asked(2, RequestId(1), Action::Leave),
            own(2, 7, 1, Standing::Left),
            Fact::Answered(2, RequestId(1), Ok(())),
            Fact::End(2),
        ];
        facts.extend(then);
        pair(facts)
    };
    assert!(who_left_stays_out(&left(vec![start(3, 2), own(3, 7, 2, UP)])).is_err());
    let invited = Fact::Asked(1, RequestId(2), Action::Invite { node: name(2) });
    assert!(who_left_stays_out(&left(vec![start(3, 2), invited, own(3, 7, 2, UP)])).is_ok());
    // Seed 490: a leave that is answered when a later join has brought the node back.
    let late = |rejoined: Option<Fact>| {
        let mut history = pair(vec![Fact::Asked(2, RequestId(1), Action::Leave)]);
        let second = Duration::from_secs(1);
        let join = rejoined.map(|fact| (second, 0, fact));
        history.facts.extend(join);
        history.facts.push((second, 0, own(2, 7, 2, UP)));
        history.facts.push((second * 50, 0, Fact::Answered(2, RequestId(1), Ok(()))));
        history.facts.push((second * 90, 0, start(3, 2)));
        history.facts.push((second * 90, 0, own(3, 7, 2, UP)));
        history
    };
    let join = Action::Join { node: name(1), force: false };
    assert!(who_left_stays_out(&late(Some(Fact::Asked(2, RequestId(2), join)))).is_ok());
    assert!(who_left_stays_out(&late(None)).is_err(), "answered, and not done");
}

#[test]
fn clusters_that_mix_are_found() {
    let stranger = |cluster: &str, id| {
        let mut other = start(3, 3);
        if let Fact::Start { cluster: name, .. } = &mut other {
            *name = cluster.to_owned();
        }
        pair(vec![other, own(3, id, 1, UP), Fact::Held(1, record(3, 1, UP))])
    };
    assert!(clusters_never_mix(&stranger("emqxcl", 7)).is_ok());
    assert!(clusters_never_mix(&stranger("emqxcl", 8)).is_err());
    assert!(clusters_never_mix(&stranger("other", 7)).is_err());
}

#[test]
fn the_removal_of_a_reachable_member_is_found() {
    let removed_by = |majority, standing, reachable: Option<u64>| {
        pair(vec![Fact::Removed {
            pid: 1,
            victim: name(2),
            standing,
            reachable: reachable.map(Duration::from_secs),
            majority,
        }])
    };
    let removed = |standing, reachable| removed_by(true, standing, reachable);
    let verdict = |standing, reachable| nobody_reachable_is_removed(&removed(standing, reachable));
    assert!(verdict(Standing::Autocleaned, None).is_ok());
    assert!(verdict(Standing::Autocleaned, Some(1)).is_ok());
    assert!(verdict(Standing::Autocleaned, Some(60)).is_err());
    let minority = removed_by(false, Standing::Autocleaned, None);
    assert!(nobody_reachable_is_removed(&minority).is_err(), "no majority");
    assert!(verdict(Standing::Left, None).is_err(), "only it itself can leave");
    assert!(verdict(Standing::ForceLeft, None).is_err(), "no operator asked");
    let mut ordered = removed(Standing::ForceLeft, Some(60));
    let order = Action::ForceLeave { node: name(2), force: true };
    ordered.facts.insert(2, (Duration::ZERO, 0, Fact::Asked(1, RequestId(1), order)));
    assert!(nobody_reachable_is_removed(&ordered).is_ok());
}

#[test]
fn reports_twice_or_out_of_order_are_found() {
    let verdict = |all: Vec<News>| {
        reports_are_in_order(&pair(all.into_iter().map(|n| Fact::News(1, n)).collect()))
    };
    let up = || news(None, UP, 3);
    let down = |incarnation| news(Some(Health::Up), DOWN, incarnation);
    assert!(verdict(vec![up(), down(3)]).is_ok());
    assert!(verdict(vec![up(), up()]).is_err(), "twice");
    assert!(verdict(vec![up(), down(3), down(3)]).is_err(), "twice");
    assert!(verdict(vec![up(), down(2)]).is_err(), "an earlier incarnation");
    let later = |epoch| News { epoch: Epoch(epoch), ..down(2) };
    assert!(verdict(vec![up(), later(1)]).is_ok(), "of a later membership");
    let again = || news(Some(Health::Down), UP, 4);
    assert!(verdict(vec![up(), later(1), again()]).is_err(), "an earlier membership");
    assert!(verdict(vec![down(3)]).is_err(), "never up before");
    assert!(verdict(vec![up(), news(Some(Health::Up), UP, 4)]).is_err(), "nothing new");
    let updated = |news| News { reason: Reason::Updated, ..news };
    assert!(verdict(vec![up(), updated(news(Some(Health::Up), UP, 4))]).is_ok());
    assert!(verdict(vec![updated(up())]).is_err(), "it joined");
    assert!(verdict(vec![up(), down(3), updated(again())]).is_err(), "it is up again");
}

#[test]
fn requests_without_an_answer_or_with_two_are_found() {
    let asked = || Fact::Asked(1, RequestId(1), Action::Leave);
    let answered = || Fact::Answered(1, RequestId(1), Err(RequestError::Stopping));
    assert!(requests_are_answered(&pair(vec![asked(), answered()])).is_ok());
    assert!(requests_are_answered(&pair(vec![asked(), Fact::End(1)])).is_ok());
    assert!(requests_are_answered(&pair(vec![asked()])).is_err());
    assert!(requests_are_answered(&pair(vec![asked(), answered(), answered()])).is_err());
}

#[test]
fn what_is_wrong_in_itself_is_found() {
    let second = Duration::from_secs(1);
    let scene = |took| pair(vec![Fact::Scene { text: String::new(), took, bound: second * 3 }]);
    assert!(troubles_are_known_in_time(&scene(Some(second * 3))).is_ok());
    assert!(troubles_are_known_in_time(&scene(Some(second * 4))).is_err());
    assert!(troubles_are_known_in_time(&scene(None)).is_err());
    let overfull = pair(vec![Fact::Overfull { pid: 1, text: String::new() }]);
    assert!(tables_keep_their_bounds(&overfull).is_err());
    assert!(tables_keep_their_bounds(&pair(Vec::new())).is_ok());
    let swayed = pair(vec![Fact::Swayed { pid: 1, text: String::new() }]);
    assert!(who_is_not_admitted_changes_nothing(&swayed).is_err());
    assert!(who_is_not_admitted_changes_nothing(&pair(Vec::new())).is_ok());
}

#[test]
fn what_a_liar_brings_up_may_be_believed_and_never_behind_a_tombstone() {
    let lie = |epoch| Fact::Hearsay { node: name(2), epoch: Epoch(epoch) };
    let held = |epoch| Fact::Held(1, record(2, epoch, UP));
    assert!(who_left_stays_out(&pair(vec![lie(5), held(5)])).is_ok());
    assert!(who_left_stays_out(&pair(vec![lie(5), held(6)])).is_err());
    let buried = Fact::Held(1, record(2, 5, Standing::ForceLeft));
    assert!(who_left_stays_out(&pair(vec![lie(5), buried, held(5)])).is_err());
}
