use super::*;
use crate::attributes::BrokerStatus;
use crate::follow::fixtures::{member, snapshot, with};
use std::time::Duration;

fn zone() -> Zone {
    Zone::new("emqxcl", "muster", Duration::from_secs(1), [0, 0, 0, 0].into()).unwrap()
}

fn ips(set: &BTreeSet<IpAddr>) -> Vec<String> {
    set.iter().map(ToString::to_string).collect()
}

fn endpoints(table: &Table) -> Vec<String> {
    table.endpoints.iter().map(|e| format!("{}:{}", e.target, e.port)).collect()
}

#[test]
fn who_serves_and_who_is_up_are_two_things() {
    let names =
        ["emqx@10.0.0.1", "emqx@10.0.0.2", "emqx@10.0.0.3", "Emqx4@10.0.0.4", "emqx@10.0.0.5"];
    let mut view = snapshot(names.iter().map(|name| member(name)).collect());
    with(&mut view, "emqx@10.0.0.2", |m| m.draining = Some(String::new()));
    with(&mut view, "emqx@10.0.0.3", |m| m.status = MemberStatus::Down);
    with(&mut view, "Emqx4@10.0.0.4", |m| {
        m.broker.as_mut().unwrap().status = BrokerStatus::Down;
    });
    with(&mut view, "emqx@10.0.0.5", |m| m.broker = None);
    let table = Table::new(&zone(), &view, &Hosts::new(), 1);
    assert!(table.able);
    assert_eq!(ips(&table.nodes), ["10.0.0.1", "10.0.0.2", "10.0.0.4", "10.0.0.5"]);
    assert_eq!(ips(&table.by_name[&b"emqx"[..]]), ["10.0.0.1", "10.0.0.2", "10.0.0.5"]);
    assert_eq!(ips(&table.by_name[&b"emqx4"[..]]), ["10.0.0.4"]);
    assert_eq!(ips(&table.brokers), ["10.0.0.1", "10.0.0.5"]);
    let shown = ["10-0-0-1.addr.emqxcl.muster.:1883", "10-0-0-5.addr.emqxcl.muster.:1883"];
    assert_eq!(endpoints(&table), shown);
    assert_eq!(ips(&table.own), ["10.0.0.1"]);
    assert!(table.knows([10, 0, 0, 2].into()) && !table.knows([10, 0, 0, 3].into()));
}

#[test]
fn hosts_that_are_names_are_looked_up_once_and_elsewhere() {
    let names = ["emqx@a.example.org", "emqx@b.example.org", "emqx@c.example.org"];
    let mut view = snapshot(names.iter().map(|name| member(name)).collect());
    let set = |view: &mut Snapshot, name: &str, address: &str| {
        with(view, name, |m| m.broker.as_mut().unwrap().address = address.to_owned());
    };
    // Reached by a link: that is where it is.
    with(&mut view, names[1], |m| m.address = Some("10.0.0.2:6370".parse().unwrap()));
    set(&mut view, names[2], "LB.example.org:8883");
    let wanted = super::names(&view);
    let wanted: Vec<&str> = wanted.iter().map(String::as_str).collect();
    assert_eq!(wanted, ["a.example.org", "c.example.org", "lb.example.org"]);
    let hosts = Hosts::from([
        ("a.example.org".to_owned(), vec!["10.0.0.1".parse().unwrap()]),
        (
            "lb.example.org".to_owned(),
            vec!["10.9.0.1".parse().unwrap(), "2001:db8::9".parse().unwrap()],
        ),
    ]);
    let table = Table::new(&zone(), &view, &hosts, 1);
    assert_eq!(ips(&table.nodes), ["10.0.0.1", "10.0.0.2"]);
    assert_eq!(ips(&table.brokers), ["10.0.0.1", "10.0.0.2", "10.9.0.1", "2001:db8::9"]);
    let shown = ["a.example.org.:1883", "b.example.org.:1883", "lb.example.org.:8883"];
    assert_eq!(endpoints(&table), shown);
    let lb = table.endpoints.iter().find(|e| e.port == 8883).unwrap();
    assert_eq!(ips(&table.targets[&lb.target]), ["10.9.0.1", "2001:db8::9"]);
}

#[test]
fn every_spelling_of_an_address_is_read() {
    assert_eq!(split("10.0.0.1:1883"), Some(("10.0.0.1", 1883)));
    assert_eq!(split("[2001:db8::1]:1883"), Some(("2001:db8::1", 1883)));
    assert_eq!(split("mqtt.example.org:8883"), Some(("mqtt.example.org", 8883)));
    for bad in [
        "",
        ":1883",
        "10.0.0.1",
        "10.0.0.1:x",
        "10.0.0.1:99999",
        "2001:db8::1:1883",
        "[x]:1",
        "[::1]",
    ] {
        assert_eq!(split(bad), None, "{bad}");
    }
}

#[test]
fn who_is_in_no_cluster_speaks_of_none() {
    for (state, able) in [
        (ClusterState::Forming, false),
        (ClusterState::Left, false),
        (ClusterState::Joined, true),
        (ClusterState::Singleton, true),
    ] {
        let mut view = snapshot(vec![member("emqx@10.0.0.1")]);
        view.state = state;
        assert_eq!(Table::new(&zone(), &view, &Hosts::new(), 1).able, able, "{state:?}");
    }
}
