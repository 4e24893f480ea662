use super::*;
use crate::follow::fixtures::{member, snapshot, with};
use std::collections::{BTreeMap, BTreeSet};

fn info(running: &[&str], stopped: &[&str]) -> Info {
    let own = |name: &&str| ((*name).to_owned(), (*name).to_owned());
    Info {
        running: running.iter().map(own).collect::<BTreeMap<_, _>>(),
        stopped: stopped.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>(),
    }
}

#[test]
fn the_brokers_that_are_up_are_compared() {
    let names = ["a@h.io", "b@h.io", "c@h.io", "d@h.io"];
    let mut view = snapshot(names.iter().map(|name| member(name)).collect());
    with(&mut view, "b@h.io", |m| m.status = MemberStatus::Suspect);
    with(&mut view, "c@h.io", |m| m.broker.as_mut().unwrap().status = BrokerStatus::Unknown);
    with(&mut view, "d@h.io", |m| m.status = MemberStatus::Down);
    // Brokers differ on who is stopped.
    let same = compare(&view, &info(&["a@h.io", "b@h.io"], &["x@h.io"]));
    assert!(same.agrees && same.missing.is_empty() && same.extra.is_empty());
    assert_eq!(same.stopped_nodes, ["x@h.io"]);
    let other = compare(&view, &info(&["a@h.io", "c@h.io", "y@h.io"], &[]));
    assert!(!other.agrees);
    assert_eq!(other.missing, ["b@h.io"]);
    assert_eq!(other.extra, ["c@h.io", "y@h.io"]);
    assert_eq!(other.running_nodes, ["a@h.io", "c@h.io", "y@h.io"]);
}

#[test]
fn it_is_told_once_and_taken_back_once() {
    let at = Duration::from_secs;
    let mut agreement = Agreement::new(at(30));
    assert_eq!(agreement.update(Some(true), at(0)), None);
    assert_eq!(agreement.update(Some(false), at(10)), None);
    assert_eq!(agreement.update(Some(false), at(39)), None);
    assert!(!agreement.differs());
    assert_eq!(agreement.update(Some(false), at(40)), Some(News::Differs));
    assert_eq!(agreement.update(Some(false), at(99)), None);
    // A broker that says nothing takes nothing back.
    assert_eq!(agreement.update(None, at(100)), None);
    assert!(agreement.differs());
    assert_eq!(agreement.update(Some(true), at(101)), Some(News::Agrees));
    assert_eq!(agreement.update(Some(true), at(102)), None);
    // What heals in time is not told.
    assert_eq!(agreement.update(Some(false), at(110)), None);
    assert_eq!(agreement.update(Some(true), at(130)), None);
    assert_eq!(agreement.update(Some(false), at(135)), None);
    assert_eq!(agreement.update(None, at(150)), None);
    assert_eq!(agreement.update(Some(false), at(164)), None);
    assert_eq!(agreement.update(Some(false), at(166)), None);
    assert_eq!(agreement.update(Some(false), at(194)), Some(News::Differs));
}
