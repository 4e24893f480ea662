use super::*;

fn name(node: &str, sni: Option<&Sni>) -> ServerName<'static> {
    server_name(&NodeName::parse(node).unwrap(), sni)
}

#[test]
fn the_name_that_is_sent() {
    let dns = |name: &str| ServerName::try_from(name.to_owned()).unwrap();
    let given = Sni::Name("mesh.example".into());
    assert_eq!(name("emqx@a.example", None), dns("a.example"));
    assert_eq!(name("emqx@a.example", Some(&given)), dns("mesh.example"));
    assert_eq!(name("emqx@10.0.0.1", Some(&given)), dns("mesh.example"));
    for literal in ["emqx@10.0.0.1", "emqx@::1"] {
        // rustls sends no name for an address.
        assert!(matches!(name(literal, None), ServerName::IpAddress(_)));
    }
}
