use super::*;
use crate::protocol::dist::sample::{atom, binary, exit, int, list, map, string, tuple};

/// A member of the list that is passed over: a tuple of nine with binaries.
fn member(name: &str) -> Vec<u8> {
    let stamp = tuple(&[int(1), int(2), int(3)]);
    tuple(&[
        atom("member"),
        atom(name),
        atom("undefined"),
        binary("000649"),
        int(7),
        atom("up"),
        atom("up"),
        stamp,
        atom("core"),
    ])
}

fn nodes(names: &[&str]) -> Vec<u8> {
    list(&names.iter().map(|name| atom(name)).collect::<Vec<_>>())
}

fn view(running: &[&str], stopped: &[&str]) -> Vec<u8> {
    map(&[
        (atom("members"), list(&[member("a@h.io"), member("b@h.io")])),
        (atom("partitions"), list(&[])),
        (atom("running_nodes"), nodes(running)),
        (atom("stopped_nodes"), nodes(stopped)),
    ])
}

#[test]
fn a_view_is_read() {
    let info = info(&view(&["a@h.io", "B@H.io"], &["c@h.io"])).unwrap();
    let running: Vec<_> = info.running.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(running[0].1, "B@H.io", "{running:?}");
    assert_eq!(running[1], ("a@h.io", "a@h.io"));
    assert_eq!(info.stopped.iter().collect::<Vec<_>>(), ["c@h.io"]);
    let node = |text: &str| NodeName::parse(text).unwrap();
    assert!(info.has_others(&node("a@h.io")) && info.runs(&node("a@h.io")));
    assert!(!info.runs(&node("c@h.io")));
    let alone = super::info(&view(&["a@h.io"], &[])).unwrap();
    assert!(!alone.has_others(&node("a@h.io")));
    let stopped = super::info(&view(&["a@h.io"], &["b@h.io"])).unwrap();
    assert!(stopped.has_others(&node("a@h.io")));
    assert_eq!(stopped.others(&node("a@h.io")), "b@h.io");
}

#[test]
fn what_is_no_view_is_told_apart() {
    let call = tuple(&[atom("gen_server"), atom("call"), list(&[])]);
    let noproc = exit(tuple(&[atom("noproc"), call]));
    assert_eq!(info(&noproc), Err(NoAnswer::Restarting));
    let undefined = |module: &str| {
        let head = tuple(&[atom(module), atom("info"), list(&[]), list(&[])]);
        let tail = tuple(&[atom("rpc"), atom("x"), list(&[]), list(&[])]);
        exit(tuple(&[atom("undef"), list(&[head, tail])]))
    };
    assert_eq!(info(&undefined("ekka")), Err(NoAnswer::Undefined("ekka:info/0")));
    // Something within it: a fault, not a missing function.
    assert!(matches!(info(&undefined("mria")), Err(NoAnswer::Other(_))));
    let no_view: &[Vec<u8>] = &[
        atom("ok"),
        map(&[(atom("running_nodes"), nodes(&["a@h.io"]))]),
        map(&[(atom("running_nodes"), int(1)), (atom("stopped_nodes"), list(&[]))]),
        tuple(&[atom("badrpc"), atom("nodedown")]),
        vec![116, 0xff, 0xff, 0xff, 0xff],
        Vec::new(),
    ];
    for answer in no_view {
        assert!(matches!(info(answer), Err(NoAnswer::Other(_))), "{answer:?}");
    }
    let whole = view(&["a@h.io"], &["b@h.io"]);
    for end in 0..whole.len() {
        assert!(info(&whole[..end]).is_err());
    }
    let many: Vec<String> = (0..2000).map(|n| format!("e{n}@h.io")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    assert!(info(&view(&many, &[])).is_err());
}

#[test]
fn the_manual_strategy_is_told_from_all_others() {
    let ok = |name: &str| tuple(&[atom("ok"), tuple(&[atom(name), list(&[])])]);
    assert_eq!(strategy(&ok("manual")), Ok(None));
    assert_eq!(strategy(&atom("undefined")), Ok(None));
    assert_eq!(strategy(&tuple(&[atom("ok"), atom("manual")])), Ok(None));
    assert_eq!(strategy(&ok("static")), Ok(Some("static".to_owned())));
    assert_eq!(
        strategy(&tuple(&[atom("ok"), atom("singleton")])),
        Ok(Some("singleton".to_owned()))
    );
    assert!(strategy(&exit(atom("noproc"))).is_err());
    assert!(strategy(&tuple(&[atom("error"), atom("manual")])).is_err());
}

fn error(reason: Vec<u8>) -> Vec<u8> {
    tuple(&[atom("error"), reason])
}

fn undef(module: &str, function: &str) -> Vec<u8> {
    let frame = |m: &str, f: &str| tuple(&[atom(m), atom(f), list(&[atom("x")]), list(&[])]);
    let below = frame("emqx_mgmt_api_cluster", "join");
    exit(tuple(&[atom("undef"), list(&[frame(module, function), below])]))
}

#[test]
fn every_end_of_a_join_is_understood() {
    const MODULE: &str = "emqx_mgmt_api_cluster";
    assert_eq!(joined(&atom("ok"), MODULE), Joined::Ok);
    assert_eq!(joined(&undef(MODULE, "join"), MODULE), Joined::Undefined);
    let node = atom("b@h.io");
    let cases: &[(Vec<u8>, bool, &str)] = &[
        (atom("ignore"), false, "for itself"),
        (error(tuple(&[atom("already_in_cluster"), node.clone()])), false, "of b@h.io already"),
        (error(tuple(&[atom("node_down"), node.clone()])), false, "b@h.io does not answer"),
        (error(atom("singleton")), true, "singleton"),
        (error(tuple(&[atom("failed_to_connect_node"), node.clone()])), false, "cannot connect"),
        (error(tuple(&[atom("cannot_join_to_replicant"), node])), false, "replicant"),
        (error(map(&[(atom("reason"), atom("mria_down"))])), false, "#{reason => mria_down}"),
        (error(binary("The node is not fully booted yet, please retry")), false, "not booted"),
        (error(string("not allowed by a single node license")), true, "licence"),
        (tuple(&[atom("badrpc"), atom("nodedown")]), false, "{badrpc,nodedown}"),
        (undef("mria", "join"), false, "undef"),
        (exit(atom("killed")), false, "killed"),
        (atom("whatever"), false, "whatever"),
        (vec![108, 0xff, 0xff, 0xff, 0xff], false, "malformed"),
    ];
    for (answer, refused, words) in cases {
        let (is_refused, why) = match joined(answer, MODULE) {
            Joined::Refused(why) => (true, why),
            Joined::Failed(why) => (false, why),
            other => panic!("{other:?} for {words}"),
        };
        assert_eq!(is_refused, *refused, "{why}");
        assert!(why.contains(words), "{why} has no {words}");
        assert!(why.len() < 400);
    }
}
