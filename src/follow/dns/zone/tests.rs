use super::*;

fn zone(cluster: &str, domain: &str) -> Result<Zone, ZoneError> {
    Zone::new(cluster, domain, Duration::from_secs(1), IpAddr::from([127, 0, 0, 1]))
}

fn name(text: &str) -> Name {
    let mut name = Name::from_ascii(text).unwrap();
    name.set_fqdn(true);
    name
}

#[test]
fn every_name_has_its_place() {
    let zone = zone("emqxcl", "muster").unwrap();
    let places = [
        ("muster", Place::Apex),
        ("MUSTER", Place::Apex),
        ("emqxcl.muster", Place::Empty),
        ("node.emqxcl.muster", Place::Empty),
        ("service.emqxcl.muster", Place::Empty),
        ("addr.emqxcl.muster", Place::Empty),
        ("_tcp.service.emqxcl.muster", Place::Empty),
        ("nodes.emqxcl.muster", Place::Nodes),
        ("Nodes.EMQXCL.muster", Place::Nodes),
        ("ns.emqxcl.muster", Place::NameServer),
        ("Emqx1.node.emqxcl.muster", Place::Node(b"emqx1".to_vec())),
        ("mqtt.service.emqxcl.muster", Place::Brokers),
        ("_mqtt._tcp.service.emqxcl.muster", Place::Endpoints),
        ("_MQTT._TCP.service.emqxcl.muster", Place::Endpoints),
        ("10-0-0-1.addr.emqxcl.muster", Place::Address([10, 0, 0, 1].into())),
        ("10.0.0.1.addr.emqxcl.muster", Place::Nowhere),
        ("10-0-0-01.addr.emqxcl.muster", Place::Nowhere),
        ("x.y.node.emqxcl.muster", Place::Nowhere),
        ("other.muster", Place::Nowhere),
        ("nodes.other.muster", Place::Nowhere),
        ("mqtts.service.emqxcl.muster", Place::Nowhere),
        (".", Place::Outside),
        ("example.org", Place::Outside),
        ("notmuster", Place::Outside),
        ("muster.org", Place::Outside),
    ];
    for (text, place) in places {
        assert_eq!(zone.place(&name(text)), place, "{text}");
    }
    // What no configuration holds, and a query may.
    for label in [&b"+0010db8000000000000000000000001"[..], b"\xff\x00.", b"10.0.0.1"] {
        let odd = name("addr.emqxcl.muster").prepend_label(label).unwrap();
        assert_eq!(zone.place(&odd), Place::Nowhere, "{odd}");
    }
}

#[test]
fn addresses_have_names_and_back() {
    let zone = zone("emqxcl", "muster").unwrap();
    for ip in ["10.1.2.3", "0.0.0.0", "2001:db8::1", "::1", "255.255.255.255"] {
        let ip: IpAddr = ip.parse().unwrap();
        let name = zone.address_name(ip);
        assert_eq!(zone.place(&name), Place::Address(ip), "{name}");
    }
    assert_eq!(zone.address_name([10, 0, 0, 1].into()), name("10-0-0-1.addr.emqxcl.muster"));
}

#[test]
fn names_with_dots_stand_below_each_other() {
    let zone = zone("west.prod", "mqtt.example.org").unwrap();
    let places = [
        ("mqtt.example.org", Place::Apex),
        ("prod.mqtt.example.org", Place::Empty),
        ("west.prod.mqtt.example.org", Place::Empty),
        ("east.prod.mqtt.example.org", Place::Nowhere),
        ("west.mqtt.example.org", Place::Nowhere),
        ("nodes.west.prod.mqtt.example.org", Place::Nodes),
        ("example.org", Place::Outside),
    ];
    for (text, place) in places {
        assert_eq!(zone.place(&name(text)), place, "{text}");
    }
}

#[test]
fn what_makes_no_domain_is_refused() {
    assert!(zone("emqxcl", "").is_err());
    assert!(zone("emqxcl", ".").is_err());
    assert!(zone(&"x".repeat(64), "muster").is_err());
    assert!(zone("emqxcl", &"x.".repeat(120)).is_err());
    let longest = ["x".repeat(63), "y".repeat(63), "z".repeat(40)].join(".");
    let zone = zone("c", &longest).unwrap();
    let target = zone.address_name("2001:db8::1".parse().unwrap());
    assert!(matches!(zone.place(&target), Place::Address(_)));
}
