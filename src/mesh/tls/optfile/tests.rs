use super::*;

/// The shape EMQX ships, comments and all.
const SHIPPED: &str = r#"
%% The options in the {server, Opts} tuple are used when accepting.
[{server,
  [
    %{log_level, debug},
    {certfile, "${EMQX_ETC_DIR}/certs/cert.pem"},
    {keyfile, "${EMQX_ETC_DIR}/certs/key.pem"},
    {secure_renegotiate, true},
    {depth, 0}
   ]},
 {client,
   [
     {secure_renegotiate, true},
     {verify, verify_none}
   ]}].
"#;

#[test]
fn the_shipped_file() {
    let options = parse(SHIPPED, "/etc/emqx").unwrap();
    assert_eq!(options.server.certfile, Some("/etc/emqx/certs/cert.pem".into()));
    assert_eq!(options.server.keyfile, Some("/etc/emqx/certs/key.pem".into()));
    assert_eq!(options.server.depth, Some(0));
    assert_eq!(options.server.verify, None);
    assert_eq!(options.client, SideOptions { verify: Some(Verify::None), ..Default::default() });
    assert_eq!(
        options.warnings,
        [
            "line 8: server: secure_renegotiate is not used by muster",
            "line 13: client: secure_renegotiate is not used by muster",
        ]
    );
}

#[test]
fn every_option() {
    let text = r#"[{client, [{certfile, <<"a.pem">>}, {keyfile, "b.pem"}, {password, "s3cret"},
        {cacertfile, "ca.pem"}, {verify, verify_peer}, fail_if_no_peer_cert,
        {versions, ['tlsv1.3', 'tlsv1.2', 'tlsv1.1']}, {depth, 9},
        {server_name_indication, "mesh.example"}]}]."#;
    let options = parse(text, "").unwrap();
    assert_eq!(options.server, SideOptions::default());
    assert_eq!(
        options.client,
        SideOptions {
            certfile: Some("a.pem".into()),
            keyfile: Some("b.pem".into()),
            password: Some(Secret::new("s3cret")),
            cacertfile: Some("ca.pem".into()),
            verify: Some(Verify::Peer),
            fail_if_no_peer_cert: Some(true),
            versions: Some(Versions { tls12: true, tls13: true }),
            depth: Some(6),
            server_name_indication: Some(Sni::Name("mesh.example".into())),
        }
    );
    assert_eq!(options.warnings.len(), 2, "{:?}", options.warnings);
    assert!(!format!("{options:?}").contains("s3cret"));
}

#[test]
fn the_first_of_two_wins() {
    let text = "[{server, [{verify, verify_peer}, {verify, verify_none}]}].";
    let options = parse(text, "").unwrap();
    assert_eq!(options.server.verify, Some(Verify::Peer));
    assert_eq!(options.warnings, ["line 1: server: a second verify is ignored"]);
}

#[test]
fn all_errors_at_once_each_with_its_place() {
    let text = "[{server, [{certfile, 1},
  {verify, verify_pear},
  {versions, ['tlsv1.1']},
  {versions2, x},
  {depth, -1},
  {fail_if_no_peer_cert, yes},
  {keyfile, \"${HOME}/k\"},
  {server_name_indication, \"not a name\"},
  7]},
 {client, x}, {server, []}, {peer, []}, client].";
    let errors = parse(text, "").unwrap_err();
    let texts: Vec<_> = errors.iter().map(ToString::to_string).collect();
    let expected = [
        "line 1, column 23: certfile must be a string, found an integer",
        "line 2, column 12: verify must be verify_peer or verify_none, found verify_pear",
        "line 3, column 14: versions must be a list of 'tlsv1.2' and 'tlsv1.3', and one of them at least",
        "line 5, column 11: depth must be an integer that is not negative",
        "line 6, column 26: fail_if_no_peer_cert must be true or false, found yes",
        "line 7, column 13: keyfile: only ${EMQX_ETC_DIR} is expanded in a path",
        "line 8, column 28: server_name_indication must be disable, or a DNS name or an address as a string",
    ];
    for line in expected {
        assert!(texts.iter().any(|text| text == line), "{line}\nnot in {texts:#?}");
    }
    for part in [
        "expected {key, value}, found an integer",
        "client must be a list of {key, value}, found an atom",
        "a second server section",
        "\"peer\" is neither server nor client",
        "a second client section",
    ] {
        assert!(texts.iter().any(|text| text.contains(part)), "{part}\nnot in {texts:#?}");
    }
    assert_eq!(texts.len(), expected.len() + 5, "{texts:#?}");
}

#[test]
fn a_syntax_error_comes_alone() {
    let errors = parse("[{server, [}].", "").unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].to_string(), "line 1, column 12: expected a term, found '}'");
}

#[test]
fn unused_options_may_have_any_value() {
    let text = r#"[{server, [
        {customize_hostname_check, [{match_fun, public_key:pkix_verify_hostname_match_fun(https)}]},
        {cacerts, public_key:cacerts_get()},
        {verify_fun, {fun(_, _, S) -> {valid, S} end, []}},
        {depth, 999},
        {certfile, "a" ++ ".pem"}]},
      {client, [{server_name_indication, "127.0.0.1"}, {reuse_sessions, #{a => <<1:8>>}}]}]."#;
    let options = parse(text, "etc").unwrap();
    assert_eq!(options.server.depth, Some(MAX_CHAIN_DEPTH));
    assert_eq!(options.server.certfile, Some("a.pem".into()));
    assert_eq!(options.client.server_name_indication, Some(Sni::Name("127.0.0.1".into())));
    let unused: Vec<&str> =
        options.warnings.iter().filter_map(|line| line.split(": ").nth(2)).collect();
    assert_eq!(
        unused,
        [
            "customize_hostname_check is not used by muster",
            "cacerts is not used by muster",
            "verify_fun is not used by muster",
            "depth is at most 6 here",
            "reuse_sessions is not used by muster",
        ]
    );
    let used = parse("[{server, [{certfile, code:priv_dir(x)}]}].", "etc").unwrap_err();
    assert_eq!(used[0].message, "certfile must be a string, found Erlang code");
}
