use super::*;

#[test]
fn tags_keep_their_bounds() {
    let mut tags = Tags::default();
    tags.insert("zone", "a").unwrap();
    tags.insert("id", "1").unwrap();
    assert_eq!(tags.to_string(), "id=1,zone=a");
    for name in ["", "Zone", "a-b", "ä", &"n".repeat(MAX_TAG_NAME + 1)] {
        assert_eq!(tags.insert(name, "v"), Err(BadTag::Name), "{name}");
    }
    assert_eq!(tags.insert("zone", "a\nb"), Err(BadTag::Value));
    let room = MAX_TAG_BYTES - "id1zone".len();
    assert_eq!(tags.insert("zone", &"v".repeat(room + 1)), Err(BadTag::Size));
    assert_eq!(tags.get("zone"), Some("a"), "a refused value changes nothing");
    tags.insert("zone", &"v".repeat(room)).unwrap();
}

#[test]
fn a_member_serves_unless_it_drains_or_its_broker_is_down() {
    let broker = |status| Broker { address: "h:1883".to_owned(), status, detail: String::new() };
    let mut said = Attributes::default();
    assert!(said.serves());
    for (status, serves) in
        [(BrokerStatus::Unknown, true), (BrokerStatus::Up, true), (BrokerStatus::Down, false)]
    {
        said.broker = Some(broker(status));
        assert_eq!(said.serves(), serves, "{status:?}");
    }
    said.broker = None;
    said.draining = Some(String::new());
    assert!(!said.serves());
}
