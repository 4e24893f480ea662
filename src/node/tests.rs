use super::*;

#[test]
fn offsets_are_the_trailing_digits_modulo_60000() {
    for (name, offset) in [
        ("emqx@h.io", 0),
        ("emqx2@h.io", 2),
        ("emqx007@h.io", 7),
        ("e3mqx@h.io", 0),
        ("emqx59999@h.io", 59_999),
        ("emqx60001@h.io", 1),
        ("n123456789012345678901234567890@h.io", 7_890),
    ] {
        assert_eq!(NodeName::parse(name).map(|n| n.offset()), Ok(offset), "{name}");
    }
}

#[test]
fn hosts_are_addresses_or_dns_names() {
    let host = |text: &str| NodeName::parse(text).map(|n| n.host().ip());
    assert_eq!(host("a@127.0.0.1"), Ok(Some(Ipv4Addr::LOCALHOST.into())));
    assert_eq!(host("a@::1"), Ok(Some(Ipv6Addr::LOCALHOST.into())));
    assert_eq!(host("a@s1.emqx.io"), Ok(None));
    assert!(NodeName::parse("a@box").is_ok_and(|n| n.is_single_label()));
    assert!(NodeName::parse("a@s1.emqx.io").is_ok_and(|n| !n.is_single_label()));
}

#[test]
fn bad_names_say_which_rule_they_break() {
    let long = format!("a@{}", "b".repeat(300));
    for (text, error) in [
        ("emqx", NodeNameError::At),
        ("a@b@c", NodeNameError::At),
        ("@host", NodeNameError::Name),
        ("a b@host", NodeNameError::Name),
        ("a@", NodeNameError::Host),
        ("a@-x.io", NodeNameError::Host),
        ("a@1.2.3", NodeNameError::Host),
        ("a@x..io", NodeNameError::Host),
        ("a@fe80::1%eth0", NodeNameError::Scope),
        (long.as_str(), NodeNameError::TooLong(302)),
    ] {
        assert_eq!(NodeName::parse(text), Err(error), "{text}");
    }
}

#[test]
fn every_node_has_one_spelling() {
    for (text, canonical) in [
        ("emqx@N1.LAN", "emqx@n1.lan"),
        ("emqx@n1.lan.", "emqx@n1.lan"),
        ("EMQX@Box", "EMQX@box"),
        ("a@FD91::2", "a@fd91::2"),
        ("a@fd91:0:0:0:0:0:0:1", "a@fd91::1"),
        ("a@0:0:0:0:0:0:0:1", "a@::1"),
        ("a@::FFFF:192.0.2.1", "a@::ffff:192.0.2.1"),
    ] {
        assert_eq!(NodeName::parse(text).unwrap().as_str(), canonical, "{text}");
    }
    assert_eq!(NodeName::parse("a@."), Err(NodeNameError::Host));
    assert_eq!(NodeName::parse("a@b.."), Err(NodeNameError::Host));
}
