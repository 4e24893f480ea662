//! Search lists and aliases, without a server.

use hickory_resolver::proto::rr::rdata::CNAME;

use super::*;

fn name(text: &str) -> Name {
    Name::from_str_relaxed(text).unwrap()
}

fn tried(text: &str, search: &[&str], ndots: usize) -> Vec<String> {
    let search: Vec<_> = search.iter().map(|domain| name(domain)).collect();
    candidates(&name(text), &search, ndots).iter().map(ToString::to_string).collect()
}

#[test]
fn the_search_list_is_tried_as_resolv_conf_says() {
    let search = ["svc.cluster.local", "cluster.local"];
    assert_eq!(tried("emqx.test.", &search, 5), ["emqx.test."]);
    assert_eq!(
        tried("emqx.test", &search, 1),
        ["emqx.test.", "emqx.test.svc.cluster.local.", "emqx.test.cluster.local."]
    );
    assert_eq!(
        tried("emqx.test", &search, 5),
        ["emqx.test.svc.cluster.local.", "emqx.test.cluster.local.", "emqx.test."]
    );
    assert_eq!(tried("emqx", &[], 1), ["emqx."]);
    let long: Vec<_> = (0..20).map(|i| format!("d{i}.test")).collect();
    let long: Vec<_> = long.iter().map(String::as_str).collect();
    assert_eq!(tried("emqx", &long, 1).len(), SEARCH_CAP);
}

fn a(owner: &str, ttl: u32, last: u8) -> Record {
    let ip = std::net::Ipv4Addr::new(10, 0, 0, last);
    Record::from_rdata(name(owner), ttl, RData::A(ip.into()))
}

fn cname(owner: &str, ttl: u32, target: &str) -> Record {
    Record::from_rdata(name(owner), ttl, RData::CNAME(CNAME(name(target))))
}

fn resolved(records: &[Record]) -> Result<(String, usize, u32), LookupError> {
    let mut ttl = u32::MAX;
    let (target, data) = resolve(records, &name("x.test."), RecordType::A, &mut ttl)?;
    Ok((target.to_string(), data.len(), ttl))
}

#[test]
fn the_least_time_to_live_on_the_way_counts() {
    let records = [a("z.test.", 50, 1), a("z.test.", 40, 2), cname("y.test.", 30, "z.test.")];
    assert_eq!(resolved(&records), Ok(("x.test.".into(), 0, u32::MAX)));
    let records = [records.as_slice(), &[cname("x.test.", 90, "y.test.")]].concat();
    assert_eq!(resolved(&records), Ok(("z.test.".into(), 2, 30)));
}

#[test]
fn records_of_other_names_are_not_ours() {
    assert_eq!(resolved(&[a("other.test.", 5, 1)]), Ok(("x.test.".into(), 0, u32::MAX)));
    assert_eq!(resolved(&[a("X.TEST.", 5, 1)]), Ok(("x.test.".into(), 1, 5)));
}

#[test]
fn an_alias_without_its_target_says_where_to_ask_on() {
    assert_eq!(resolved(&[cname("x.test.", 7, "y.test.")]), Ok(("y.test.".into(), 0, 7)));
}

#[test]
fn aliases_in_a_circle_end() {
    let records = [cname("x.test.", 7, "y.test."), cname("y.test.", 7, "x.test.")];
    assert!(matches!(resolved(&records), Err(LookupError::Nonsense(_))));
}

#[test]
fn one_error_names_every_server_in_order() {
    let failed = vec![
        (1, LookupError::Refused("b answered Refused".into())),
        (0, LookupError::Silent("a did not answer in time".into())),
    ];
    let text = "a did not answer in time; b answered Refused";
    assert_eq!(combined(failed), LookupError::Silent(text.into()));
}
