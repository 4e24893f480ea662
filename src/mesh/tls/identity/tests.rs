use super::*;

fn names(sans: &[rcgen::SanType]) -> CertNames {
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = sans.to_vec();
    params.not_after = rcgen::date_time_ymd(2031, 2, 3);
    let key = rcgen::KeyPair::generate().unwrap();
    CertNames::read(params.self_signed(&key).unwrap().der()).unwrap()
}

fn dns(name: &str) -> rcgen::SanType {
    rcgen::SanType::DnsName(name.try_into().unwrap())
}

fn uri(name: &str) -> rcgen::SanType {
    rcgen::SanType::URI(name.try_into().unwrap())
}

fn addr(ip: &str) -> rcgen::SanType {
    rcgen::SanType::IpAddress(ip.parse().unwrap())
}

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

#[test]
fn who_speaks_for_whom() {
    let table: &[(&[rcgen::SanType], &str, bool)] = &[
        (&[dns("a.example")], "emqx@a.example", true),
        (&[dns("A.Example")], "emqx@a.eXample", true),
        (&[dns("a.example")], "emqx@b.example", false),
        (&[dns("a.example"), dns("b.example")], "emqx@b.example", true),
        (&[dns("*.example")], "emqx@a.example", true),
        (&[dns("*.example")], "emqx@example", false),
        (&[dns("*.example")], "emqx@x.a.example", false),
        (&[dns("a*.example")], "emqx@ab.example", false),
        (&[dns("*")], "emqx@host", false),
        (&[dns("*.*.example")], "emqx@a.b.example", false),
        (&[addr("127.0.0.1")], "emqx@127.0.0.1", true),
        (&[addr("127.0.0.1")], "emqx@127.0.0.2", false),
        (&[dns("127.0.0.1")], "emqx@127.0.0.1", true),
        (&[dns("*.0.0.1")], "emqx@127.0.0.1", false),
        (&[addr("::1")], "emqx@::1", true),
        (&[addr("::1")], "emqx@0:0:0:0:0:0:0:1", true),
        (&[addr("::1")], "emqx@::2", false),
        (&[addr("127.0.0.1")], "emqx@localhost", false),
        (&[uri("muster:emqx@a.example")], "emqx@a.example", true),
        (&[uri("muster:emqx@a.example")], "emqx2@a.example", false),
        // A node's URI narrows what its host name would allow.
        (&[uri("muster:emqx@a.example"), dns("a.example")], "emqx2@a.example", false),
        (&[uri("https://a.example"), dns("a.example")], "emqx2@a.example", true),
        (&[], "emqx@a.example", false),
    ];
    for (sans, name, expected) in table {
        let names = names(sans);
        assert_eq!(names.check(&node(name)).is_ok(), *expected, "{names} for {name}");
    }
}

#[test]
fn errors_say_whose_certificate_it_is() {
    let wanted = node("emqx@b.example");
    let error = names(&[dns("a.example"), addr("10.0.0.1")]).check(&wanted).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the certificate is for a.example, 10.0.0.1, not for emqx@b.example"
    );
    let error = names(&[]).check(&wanted).unwrap_err();
    assert_eq!(error, IdentityError::Nameless { node: wanted });
}

#[test]
fn shown_names_are_few_and_escaped() {
    let many: Vec<_> = (0..20).map(|i| dns(&format!("h{i}.example\n"))).collect();
    let text = names(&many).to_string();
    assert!(text.ends_with(", ..."), "{text}");
    assert!(!text.contains('\n') && text.contains("\\n"), "{text}");
}

#[test]
fn the_end_of_validity() {
    let since = names(&[]).not_after().duration_since(UNIX_EPOCH).unwrap();
    assert_eq!(since.as_secs(), 1_927_843_200);
    let garbage = CertificateDer::from(vec![0x30, 0x03, 1, 2]);
    assert!(matches!(CertNames::read(&garbage), Err(IdentityError::Unreadable(_))));
}
