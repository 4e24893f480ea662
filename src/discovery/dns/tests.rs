//! From records to node names.

use hickory_resolver::proto::rr::Name;
use hickory_resolver::proto::rr::rdata::SRV;

use super::*;

fn v4(ip: &str) -> RData {
    RData::A(ip.parse::<std::net::Ipv4Addr>().unwrap().into())
}

fn v6(ip: &str) -> RData {
    RData::AAAA(ip.parse::<std::net::Ipv6Addr>().unwrap().into())
}

fn srv(target: &str) -> RData {
    RData::SRV(SRV::new(0, 0, 4370, Name::from_str_relaxed(target).unwrap()))
}

fn names(records: &[RData]) -> (Vec<String>, Vec<String>) {
    let answer = read("broker7", records, None);
    (answer.nodes.iter().map(ToString::to_string).collect(), answer.rejected)
}

#[test]
fn addresses_become_nodes_of_our_own_name_part() {
    let records = [v4("10.0.0.2"), v4("10.0.0.1"), v4("10.0.0.2"), v6("2001:DB8::1")];
    let nodes = ["broker7@10.0.0.1", "broker7@10.0.0.2", "broker7@2001:db8::1"];
    assert_eq!(names(&records), (nodes.map(String::from).to_vec(), vec![]));
}

#[test]
fn mapped_addresses_are_the_ipv4_addresses_they_stand_for() {
    assert_eq!(names(&[v6("::ffff:192.0.2.1")]).0, ["broker7@192.0.2.1"]);
}

#[test]
fn addresses_of_no_node_are_rejected_with_the_reason() {
    let records = [v4("0.0.0.0"), v4("239.1.1.1"), v4("255.255.255.255"), v6("fe80::1"), v6("::")];
    let (nodes, rejected) = names(&records);
    assert!(nodes.is_empty());
    assert_eq!(
        rejected,
        [
            "0.0.0.0 is no node's address",
            "239.1.1.1 is a multicast group",
            "255.255.255.255 is the broadcast address",
            ":: is no node's address",
            "fe80::1 means something on one link only",
        ]
    );
}

#[test]
fn targets_lose_their_last_dot_and_the_root_means_nobody() {
    assert_eq!(names(&[srv("s1.emqx.io."), srv(".")]), (vec!["broker7@s1.emqx.io".into()], vec![]));
    let odd = Name::from_labels(["bad!name".as_bytes(), b"emqx", b"io"]).unwrap();
    let (nodes, rejected) = names(&[RData::SRV(SRV::new(0, 0, 4370, odd))]);
    assert!(nodes.is_empty());
    assert_eq!(rejected.len(), 1, "{rejected:?}");
}

#[test]
fn rejected_entries_are_bounded_and_sorted() {
    let records: Vec<_> = (0..200u8).map(|i| v4(&format!("224.0.0.{i}"))).collect();
    let (_, rejected) = names(&records);
    assert_eq!(rejected.len(), REJECTED_CAP);
    assert!(rejected.is_sorted());
}

#[tokio::test]
async fn address_records_need_an_address_in_our_own_name() {
    let config =
        DnsDiscovery { name: "x.test".into(), record_type: RecordType::A, app_name: "emqx".into() };
    let own = NodeName::parse("emqx@s1.emqx.io").unwrap();
    let nowhere = [SocketAddr::from(([127, 0, 0, 1], 9))];
    let error = Dns::new(&config, &own, &nowhere).discover().await.unwrap_err();
    let DiscoveryError::Denied(text) = error else { panic!("{error:?}") };
    assert!(text.contains("emqx@s1.emqx.io"), "{text}");
}
