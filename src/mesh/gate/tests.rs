use futures_util::FutureExt as _;

use super::*;

fn v4(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

fn from(address: IpAddr, port: u16) -> Ends {
    Ends { near: SocketAddr::new(v4(250), 6370), far: SocketAddr::new(address, port) }
}

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

fn enter(gate: &Arc<Gate>, address: IpAddr) -> (Permit, Option<&'static str>) {
    gate.enter(from(address, 1))
}

fn fill(gate: &Arc<Gate>, address: IpAddr, count: usize) -> Vec<Permit> {
    (0..count).map(|_| enter(gate, address).0).collect()
}

/// Whether another connection has taken the place.
fn gone(permit: &Permit) -> bool {
    permit.taken().now_or_never().is_some()
}

#[test]
fn each_address_has_its_share_and_places_come_back() {
    let gate = Arc::<Gate>::default();
    let mut held = fill(&gate, v4(1), MAX_UNAUTHENTICATED_PER_ADDRESS);
    let (one_more, limit) = enter(&gate, v4(1));
    assert_eq!(limit, Some("address_limit"));
    assert!(gone(&held[0]) && !gone(&held[1]) && !gone(&one_more));
    assert_eq!(enter(&gate, v4(2)).1, None);
    held.pop();
    assert_eq!(enter(&gate, v4(1)).1, None);
    drop((held, one_more));
    let inner = gate.lock();
    assert_eq!(inner.strangers.total, 0);
    assert!(inner.strangers.places.is_empty() && inner.strangers.ranks.is_empty());
}

#[test]
fn over_all_addresses_the_one_with_most_places_gives_way() {
    let gate = Arc::<Gate>::default();
    let many = fill(&gate, v4(1), 100);
    let lone = enter(&gate, v4(2)).0;
    let rest: Vec<Permit> =
        (0..MAX_UNAUTHENTICATED - 101).map(|n| enter(&gate, v4(10 + (n % 8) as u8)).0).collect();
    let (newcomer, limit) = enter(&gate, v4(200));
    assert_eq!(limit, Some("total_limit"));
    assert!(gone(&many[0]) && !gone(&lone) && !gone(&newcomer));
    // Who holds most makes room for himself.
    let (_, limit) = enter(&gate, v4(1));
    assert_eq!(limit, Some("total_limit"));
    assert!(gone(&many[1]) && !gone(&lone));
    drop(rest);
}

#[test]
fn of_many_addresses_with_one_each_the_oldest_gives_way() {
    let gate = Arc::<Gate>::default();
    let address = |n: usize| IpAddr::from([10, 1, (n / 250) as u8, (n % 250) as u8]);
    let mut held: VecDeque<Permit> =
        (0..MAX_UNAUTHENTICATED).map(|n| enter(&gate, address(n)).0).collect();
    for n in 0..1000 {
        let (permit, limit) = enter(&gate, address(1000 + n));
        assert_eq!(limit, Some("total_limit"));
        assert!(gone(&held.pop_front().unwrap()));
        held.push_back(permit);
    }
    assert_eq!(gate.lock().strangers.total, MAX_UNAUTHENTICATED);
}

#[test]
fn the_silent_go_before_those_that_spoke() {
    let gate = Arc::<Gate>::default();
    let held = fill(&gate, v4(1), MAX_UNAUTHENTICATED_PER_ADDRESS);
    held[0].spoke();
    let more = enter(&gate, v4(1)).0;
    assert!(!gone(&held[0]) && gone(&held[1]));
    held.iter().chain([&more]).for_each(Permit::spoke);
    let _last = enter(&gate, v4(1)).0;
    assert!(gone(&held[0]), "all had spoken");
}

#[test]
fn strangers_take_no_place_of_known_nodes() {
    let gate = Arc::<Gate>::default();
    gate.know(&node("a@h.io"), [v4(7), v4(8)].into_iter());
    let known = enter(&gate, v4(8)).0;
    assert!(known.is_known());
    let _strangers: Vec<Permit> =
        (0..2000).map(|n| enter(&gate, [10, 9, 9, (n % 200) as u8].into()).0).collect();
    assert!(!gone(&known));
    let (another, limit) = enter(&gate, v4(7));
    assert!(another.is_known() && limit.is_none());
    // Somebody at a known address harms himself.
    another.spoke();
    let greedy = fill(&gate, v4(8), MAX_UNAUTHENTICATED_KNOWN);
    assert!(!gone(&another) && gone(&known) && gone(&greedy[0]));
}

#[test]
fn who_is_no_longer_expected_is_forgotten_with_its_addresses() {
    let gate = Arc::<Gate>::default();
    let (a, b, c) = (node("a@h.io"), node("b@h.io"), node("c@10.0.0.3"));
    gate.know(&a, [v4(1), v4(2)].into_iter());
    gate.know(&b, [v4(2)].into_iter());
    gate.expect([&b, &c].into_iter());
    assert!(!enter(&gate, v4(1)).0.is_known());
    assert!(enter(&gate, v4(2)).0.is_known());
    assert!(enter(&gate, v4(3)).0.is_known(), "its name says where it lives");
    gate.expect([].into_iter());
    assert_eq!(gate.known_nodes(), 0);
    assert!(gate.lock().addresses.nodes.is_empty());
}

#[test]
fn a_node_keeps_its_newest_addresses_and_nodes_have_a_bound() {
    let gate = Arc::<Gate>::default();
    let a = node("a@h.io");
    for last in 0..100 {
        gate.know(&a, [v4(last)].into_iter());
    }
    assert!(!enter(&gate, v4(91)).0.is_known() && enter(&gate, v4(92)).0.is_known());
    assert_eq!(gate.lock().addresses.nodes.len(), MAX_ADDRESSES);
    for number in 0..MAX_KNOWN + 10 {
        gate.know(&node(&format!("n{number}@h.io")), [v4(1)].into_iter());
    }
    assert_eq!(gate.known_nodes(), MAX_KNOWN);
}

#[test]
fn an_ipv6_network_is_one_source() {
    let at = |text: &str| source(text.parse::<IpAddr>().unwrap().to_canonical());
    assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:0:0:1"));
    assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
    assert_eq!(at("::ffff:10.0.0.1"), v4(1));
}

#[test]
fn a_connection_is_found_by_both_its_ends() {
    let gate = Arc::<Gate>::default();
    let ends = from(v4(1), 40_000);
    let permit = gate.enter(ends).0;
    assert!(gate.holds(ends) && !gate.holds(from(v4(1), 40_001)));
    // The same port of that host may lead elsewhere, too.
    let elsewhere = Ends { near: SocketAddr::new(v4(250), 6371), ..ends };
    assert!(!gate.holds(elsewhere));
    drop(permit);
    assert!(!gate.holds(ends));
}
