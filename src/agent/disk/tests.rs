use super::*;

fn node() -> NodeName {
    NodeName::parse("emqx1@127.0.0.1").unwrap()
}

fn durable() -> Durable {
    let tombstone = StoredRecord {
        node: NodeName::parse("emqx2@127.0.0.1").unwrap(),
        epoch: 3,
        standing: StoredStanding::ForceLeft,
        incarnation: Incarnation(9),
        boot: BootId(7),
        role: Role::Core,
        stopped: false,
        burial: 4,
    };
    let stopped = StoredRecord {
        node: NodeName::parse("emqx3@127.0.0.1").unwrap(),
        epoch: 0,
        standing: StoredStanding::Member,
        incarnation: Incarnation(1),
        boot: BootId(8),
        role: Role::Core,
        stopped: true,
        burial: 0,
    };
    Durable {
        id: Some(ClusterId(42)),
        epoch: Epoch(2),
        incarnation: Incarnation(5),
        left: false,
        discovery_off: true,
        draining: Some("maintenance".to_owned()),
        brought: [(NodeName::parse("emqx4@127.0.0.1").unwrap(), node())].into(),
        records: vec![tombstone.revive(&node()), stopped.revive(&node())],
    }
}

#[tokio::test]
async fn what_is_saved_is_what_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/muster");
    let state = StateDir::open(&path).unwrap();
    assert_eq!(state.load(&node(), "c").unwrap(), Durable::default());
    let saver = Saver::spawn(state, node(), "c".to_owned());
    saver.want(1, durable());
    saver.saved().wait_for(|saved| saved.version == 1).await.unwrap();
    let kept = parse(&fs::read(path.join("state.json")).unwrap(), &node(), "c").unwrap();
    assert_eq!(kept, durable());
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    let file = fs::metadata(path.join("state.json")).unwrap();
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_second_process_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let _first = StateDir::open(dir.path()).unwrap();
    assert!(matches!(StateDir::open(dir.path()), Err(DiskError::Locked { .. })));
}

#[test]
fn a_file_that_cannot_be_used_is_moved_aside_and_kept() {
    let good = String::from_utf8(render(&node(), "c", &durable())).unwrap();
    let cases = [
        good[..good.len() / 2].to_owned(),
        String::new(),
        good.replace("\"format\": 1", "\"format\": 99"),
        good.replace("emqx1@", "other@"),
        good.replace("\"cluster\": \"c\"", "\"cluster\": \"d\""),
    ];
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    for (index, text) in cases.iter().enumerate() {
        fs::write(state.file(), text).unwrap();
        assert_eq!(state.load(&node(), "c").unwrap(), Durable::default(), "{text}");
        let aside = dir.path().join(format!("state.json.unusable-{}", index + 1));
        assert_eq!(fs::read_to_string(aside).unwrap(), *text);
    }
}

#[tokio::test]
async fn a_write_that_fails_is_reported_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("muster");
    let state = StateDir::open(&path).unwrap();
    // A directory in the place of the new file: not even root can write that.
    fs::create_dir(path.join("state.json.new")).unwrap();
    let saver = Saver::spawn(state, node(), "c".to_owned());
    saver.want(1, durable());
    let mut saved = saver.saved();
    saved.wait_for(|saved| saved.error.is_some()).await.unwrap();
    fs::remove_dir(path.join("state.json.new")).unwrap();
    saved.wait_for(|saved| saved.version == 1 && saved.error.is_none()).await.unwrap();
}
