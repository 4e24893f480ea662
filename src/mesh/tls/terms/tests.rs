use super::*;

fn at(line: u32, column: u32) -> Pos {
    Pos { line, column }
}

fn kind(text: &str) -> Kind {
    parse(text).unwrap().kind
}

fn atom(text: &str) -> Kind {
    Kind::Atom(text.to_owned())
}

#[test]
fn every_kind_of_term() {
    for (text, expected) in [
        ("foo.", atom("foo")),
        ("foo@bar_1 .", atom("foo@bar_1")),
        ("'tlsv1.2'.", atom("tlsv1.2")),
        (r"'it\'s'.", atom("it's")),
        ("\"a\" % comment\n \"b\".", Kind::Str("ab".into())),
        (r#""\x41\x{e4}\101\n\^a\\\"\s"."#, Kind::Str("A\u{e4}A\n\u{1}\\\" ".into())),
        ("\"a\\\nb\".", Kind::Str("ab".into())),
        ("42.", Kind::Int(42)),
        ("-7 .", Kind::Int(-7)),
        ("1_000.", Kind::Int(1000)),
        ("16#ff.", Kind::Int(255)),
        ("$a.", Kind::Int(97)),
        ("1.5e3.", Kind::Float(1500.0)),
        ("<<\"x\",1>>.", Kind::Binary(b"x\x01".to_vec())),
        ("<<>>.", Kind::Binary(Vec::new())),
        ("[].", Kind::List(Vec::new())),
        ("{}.", Kind::Tuple(Vec::new())),
        ("#{}.", Kind::Map(Vec::new())),
    ] {
        assert_eq!(kind(text), expected, "{text}");
    }
    let Kind::Map(pairs) = kind("#{a => [1], \"b\" => {c}}.") else { panic!("no map") };
    assert_eq!(pairs.len(), 2);
}

/// What OTP evaluates and only Erlang could work out is read over.
#[test]
fn code_in_the_place_of_a_term() {
    for text in [
        "public_key:pkix_verify_hostname_match_fun(https).",
        "public_key : cacerts_get ( ).",
        "'my mod':'f'(\"a)\", [$), {b}], #{c => 1}).",
        "fun(X) -> X end.",
        "fun (_, {bad_cert, unknown_ca}, S) -> case S of end_ -> fun(Y) -> Y end; _ -> ok end end.",
        "fun lists:map/2.",
        "fun foo/1.",
        "begin 1 end.",
        "1 + 2 * (3 - 4).",
        "<<256>>.",
        "<<1:16/little>>.",
    ] {
        assert_eq!(kind(text), Kind::Code, "{text}");
        let Kind::List(pairs) = kind(&format!("[{{a, {}}}, b].", text.trim_end_matches('.')))
        else {
            panic!("{text}")
        };
        assert_eq!(pairs.len(), 2, "{text}");
    }
    assert_eq!(kind("\"a\" ++ \"b\"."), Kind::Str("ab".into()));
    assert_eq!(kind("<<\"é\"/utf8>>."), Kind::Binary("é".into()));
    assert_eq!(kind("(a)."), atom("a"));
}

#[test]
fn terms_know_their_place() {
    let Kind::List(list) = kind("% first\n[ {a,\n   b} ].") else { panic!("no list") };
    assert_eq!(list[0].pos, at(2, 3));
    let Kind::Tuple(pair) = &list[0].kind else { panic!("no tuple") };
    assert_eq!(pair[1].pos, at(3, 4));
}

#[test]
fn errors_name_line_and_column() {
    for (text, pos, message) in [
        ("", at(1, 1), "the file is empty"),
        ("% only a comment\n", at(2, 1), "the file is empty"),
        ("[a, b]", at(1, 7), "expected '.' after the last term, found the end of the file"),
        ("[a, b].\nc.", at(2, 1), "text after the final '.'"),
        ("[a b].", at(1, 4), "expected ',' or ']', found 'b'"),
        ("[a,\n  {b, c].", at(2, 8), "expected ',' or '}', found ']'"),
        ("[a,].", at(1, 5 - 1), "expected a term, found ']'"),
        ("[\"abc].", at(1, 2), "this string is never closed"),
        ("['abc].", at(1, 2), "this quoted atom is never closed"),
        ("[Abc].", at(1, 2), "Abc is a variable"),
        ("#{a = b}.", at(1, 6), "expected '=>'"),
        ("99999999999999999999.", at(1, 1), "no integer"),
        ("\"\\x{110000}\".", at(1, 3), "no character has this code"),
        ("public_key:x.", at(1, 13), "expected '(' behind the name of a function"),
        ("f(a.", at(1, 2), "this bracket is never closed"),
        ("fun(X) -> X.", at(1, 4), "this code is never closed by `end`"),
    ] {
        let error = parse(text).unwrap_err();
        assert!(error.message.contains(message), "{text}: {error}");
        // `#{a = b}`: the '=' is taken before the '>' is missed.
        assert_eq!(error.pos, pos, "{text}: {error}");
    }
}

#[test]
fn nesting_is_bounded() {
    let nested = |depth: usize| format!("{}{}.", "[".repeat(depth), "]".repeat(depth));
    assert!(parse(&nested(MAX_DEPTH)).is_ok());
    let error = parse(&nested(100_000)).unwrap_err();
    assert!(error.message.contains("nested deeper"), "{error}");
}
