use super::*;

#[test]
fn the_labelled_section_is_cut_out() {
    let text = "note\n-----BEGIN X-----\nabc\n-----END X-----\nrest";
    assert_eq!(section_of(text, "X"), Some("-----BEGIN X-----\nabc\n-----END X-----"));
    assert_eq!(section_of(text, "Y"), None);
    assert_eq!(section_of("-----BEGIN X-----\nabc", "X"), None);
}

#[test]
fn a_truncated_file_is_an_error_not_fewer_certificates() {
    let key = rcgen::KeyPair::generate().unwrap();
    let pem = rcgen::CertificateParams::default().self_signed(&key).unwrap().pem();
    let path = Path::new("ca.pem");
    let two = format!("{pem}{pem}");
    assert_eq!(certificates(path, two.as_bytes()).unwrap().len(), 2);
    let cut = &two.as_bytes()[..two.len() - 40];
    assert!(matches!(certificates(path, cut), Err(TlsError::Pem { .. })));
}

#[test]
fn old_ciphers_are_known_by_their_identifier() {
    let der = |oid: &[u8]| {
        let tagged =
            |tag: u8, body: &[u8]| [&[tag, u8::try_from(body.len()).unwrap()], body].concat();
        tagged(0x30, &tagged(0x30, &tagged(0x06, oid)))
    };
    let pkcs5 = |number: u8| der(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x05, number]);
    assert!(is_pbes1(&pkcs5(3)) && is_pbes1(&pkcs5(11)));
    assert!(!is_pbes1(&pkcs5(13)));
    assert!(is_pbes1(&der(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x0c, 0x01, 0x03])));
    assert!(!is_pbes1(&[]) && !is_pbes1(&[0x30, 0x82]) && !is_pbes1(&[0x30, 0x05, 0x30]));
}
