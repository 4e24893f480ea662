use super::*;

fn v4(last: u8) -> IpAddr {
    [10, 0, 0, last].into()
}

#[test]
fn each_address_has_its_share_and_places_come_back() {
    let gate = Arc::<Gate>::default();
    let mut held: Vec<Permit> =
        (0..MAX_UNAUTHENTICATED_PER_ADDRESS).map(|_| gate.enter(v4(1)).unwrap()).collect();
    assert_eq!(gate.enter(v4(1)).unwrap_err(), "address_limit");
    assert!(gate.enter(v4(2)).is_ok());
    held.pop();
    held.push(gate.enter(v4(1)).unwrap());
    drop(held);
    assert_eq!(gate.counts.lock().unwrap().total, 0);
    assert!(gate.counts.lock().unwrap().by_source.is_empty());
}

#[test]
fn the_total_holds_over_all_addresses() {
    let gate = Arc::<Gate>::default();
    let held: Vec<Permit> = (0..MAX_UNAUTHENTICATED)
        .map(|n| {
            gate.enter(v4(u8::try_from(n / MAX_UNAUTHENTICATED_PER_ADDRESS).unwrap())).unwrap()
        })
        .collect();
    assert_eq!(gate.enter(v4(200)).unwrap_err(), "total_limit");
    drop(held);
    assert!(gate.enter(v4(200)).is_ok());
}

#[test]
fn an_ipv6_network_is_one_source() {
    let at = |text: &str| source(text.parse().unwrap());
    assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:0:0:1"));
    assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
    assert_eq!(at("::ffff:10.0.0.1"), v4(1));
}
