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
