use std::os::unix::fs::{PermissionsExt as _, symlink};

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

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[tokio::test]
async fn what_is_saved_is_what_is_loaded() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("deep/muster");
    let state = StateDir::open(&path).unwrap();
    assert_eq!(state.load(&node(), "c").unwrap(), Durable::default());
    let saver = Saver::spawn(state, node(), "c".to_owned(), Arc::default());
    saver.want(1, durable());
    saver.saved().wait_for(|saved| saved.version == 1).await.unwrap();
    let kept = parse(&fs::read(path.join("state.json")).unwrap(), &node(), "c").unwrap();
    assert_eq!(kept, durable());
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
        good.replace("\"format\": 2", "\"format\": 99"),
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

#[test]
fn no_flipped_bit_and_no_cut_is_read() {
    let good = render(&node(), "c", &durable());
    assert_eq!(parse(&good, &node(), "c").unwrap(), durable());
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut flipped = good.clone();
            flipped[at] ^= 1 << bit;
            let read = parse(&flipped, &node(), "c");
            assert!(read.is_err(), "bit {bit} of byte {at}: {read:?}");
        }
        assert!(parse(&good[..at], &node(), "c").is_err(), "cut at byte {at}");
    }
    let longer = [&good[..], b" "].concat();
    assert!(parse(&longer, &node(), "c").is_err());
}

/// As release 0.1.0 wrote it.
#[test]
fn a_file_without_a_checksum_is_read_as_long_as_it_says_so() {
    let old = r#"{
  "format": 1,
  "node": "emqx1@127.0.0.1",
  "cluster": "c",
  "id": "0000000000000000000000000000002a",
  "epoch": 2,
  "incarnation": 5,
  "left": false,
  "discovery_off": true,
  "members": [
    {
      "node": "emqx2@127.0.0.1",
      "epoch": 3,
      "standing": "force-left",
      "incarnation": 9,
      "boot": 7,
      "role": "core"
    }
  ]
}
"#;
    // Neither a drain nor who brought whom: 0.1.0 knew of neither.
    let mut expected = Durable { draining: None, brought: BTreeMap::new(), ..durable() };
    expected.records.truncate(1);
    expected.records[0].burial = 0;
    assert_eq!(parse(old.as_bytes(), &node(), "c").unwrap(), expected);
    let torn_off = old.replace("\"format\": 1", "\"format\": 2");
    let problem = parse(torn_off.as_bytes(), &node(), "c").unwrap_err();
    assert!(problem.contains("checksum is missing"), "{problem}");
}

#[test]
fn what_is_no_file_is_refused_by_name_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for (k, name) in ["lock", "state.json.new", "state.json"].into_iter().enumerate() {
        for dangling in [false, true] {
            let path = dir.path().join(format!("{k}{dangling}"));
            fs::create_dir(&path).unwrap();
            let target = if dangling { dir.path().join("nowhere") } else { victim.clone() };
            symlink(target, path.join(name)).unwrap();
            let opened = StateDir::open(&path).and_then(|state| state.load(&node(), "c"));
            let message = opened.unwrap_err().to_string();
            assert!(message.contains("is a symbolic link"), "{message}");
            assert!(message.contains(name), "{message}");
        }
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(!dir.path().join("nowhere").exists());
}

#[test]
fn a_pipe_is_not_waited_for() {
    for name in ["lock", "state.json.new", "state.json"] {
        let dir = tempfile::tempdir().unwrap();
        let mode = rustix::fs::Mode::from_raw_mode(0o600);
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, dir.path().join(name), pipe, mode, 0).unwrap();
        let opened = StateDir::open(dir.path()).and_then(|state| state.load(&node(), "c"));
        let message = opened.unwrap_err().to_string();
        assert!(message.contains("is a named pipe"), "{message}");
    }
}

/// Somebody keeps what an interrupted attempt left behind under another name.
#[test]
fn another_name_of_the_new_file_sees_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let state = StateDir::open(dir.path()).unwrap();
    let other = dir.path().join("other");
    fs::write(&other, "theirs").unwrap();
    fs::hard_link(&other, state.new_file()).unwrap();
    state.write(b"secret").unwrap();
    assert_eq!(fs::read(state.file()).unwrap(), b"secret");
    assert_eq!(fs::read_to_string(&other).unwrap(), "theirs");
}

/// The fault was `cannot use the state directory …: File exists`, and nothing to do about it.
#[test]
fn what_stands_in_the_way_is_named_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = |path: &Path| StateDir::open(path).unwrap_err().to_string();
    let file = dir.path().join("muster");
    fs::write(&file, "").unwrap();
    for path in [&file, &file.join("muster")] {
        let said = error(path);
        assert!(said.starts_with(&format!("the state cannot be kept at {}: ", path.display())));
        assert!(
            said.contains(" -> a file stands where a directory is to be: move it away"),
            "{said}"
        );
    }
    let said = error(Path::new("/proc/muster"));
    assert!(said.contains(" -> ") && said.ends_with("another directory"), "{said}");
    for (kind, remedy) in [
        (io::ErrorKind::PermissionDenied, "let the agent's user write there"),
        (io::ErrorKind::ReadOnlyFilesystem, "a file system that is writable"),
        (io::ErrorKind::StorageFull, "free space there"),
        (io::ErrorKind::Other, "mend that"),
    ] {
        assert!(unusable(&kind.into()).contains(remedy), "{kind:?}");
    }
}

#[test]
fn a_directory_that_everybody_may_write_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (data, path) = (dir.path().join("data"), dir.path().join("data/muster"));
    fs::create_dir_all(&path).unwrap();
    for (shared, mode) in [(&data, 0o777), (&data, 0o733), (&path, 0o777), (&path, 0o1777)] {
        chmod(shared, mode);
        let message = StateDir::open(&path).map(drop).unwrap_err().to_string();
        assert!(message.contains("every user of this machine may write into"), "{message}");
        assert!(message.contains(&format!("{} (mode {mode:04o})", shared.display())), "{message}");
        chmod(shared, 0o755);
    }
    // What is ours cannot be replaced there; and a group is an operator's choice.
    for mode in [0o1777, 0o2775] {
        chmod(&data, mode);
        assert!(StateDir::open(&path).is_ok(), "{mode:o}");
    }
}

#[tokio::test]
async fn a_write_that_fails_is_told_and_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("muster");
    let state = StateDir::open(&path).unwrap();
    // A directory in the place of the new file: not even root can write that.
    fs::create_dir(path.join("state.json.new")).unwrap();
    let metrics = Arc::<Metrics>::default();
    let saver = Saver::spawn(state, node(), "c".to_owned(), Arc::clone(&metrics));
    saver.want(1, durable());
    let mut saved = saver.saved();
    saved.wait_for(|saved| saved.error.is_some()).await.unwrap();
    assert_eq!(metrics.state_unsaved.get(), 1);
    fs::remove_dir(path.join("state.json.new")).unwrap();
    saved.wait_for(|saved| saved.version == 1 && saved.error.is_none()).await.unwrap();
    assert_eq!(metrics.state_unsaved.get(), 0);
}
