use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tokio::time::{Instant, timeout};

use super::*;
use crate::api::tests::{config, node};
use crate::config::HookEvent;
use crate::events::{Event, EventKind};
use crate::follow::tests::{Ends, ends};
use crate::view::{LastChange, MemberStatus};

fn push(world: &World, name: &str, kind: EventKind, to: Option<MemberStatus>) {
    let node = node(name);
    world.events.push(|id| Event {
        id,
        at: SystemTime::now(),
        kind,
        by: node.clone(),
        node,
        from: Some(MemberStatus::Up),
        to,
        reason: "updated",
        text: "a test".into(),
    });
}

#[test]
fn labels_and_urls_hold_no_secrets() {
    let url = HookAction::Url("http://h:1/path?token=x".into());
    assert_eq!(label(&url), "http://h:1/path");
    let program = HookAction::Command(vec!["/bin/x".into(), "--password".into()]);
    assert_eq!(label(&program), "/bin/x");
    assert_eq!(own_url(&config(None)), "http://127.0.0.1:0");
}

/// Ten thousand events at once, to a program that takes its time.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_burst_is_told_in_order_and_bounded() {
    const BURST: u64 = 10_000;
    let directory = tempfile::tempdir().unwrap();
    let (program, log) = (directory.path().join("hook"), directory.path().join("log"));
    fs::write(&program, format!("#!/bin/sh\ncat >> {}\n", log.display())).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let hook = HookConfig {
        on: vec![HookEvent::MemberUpdated],
        action: HookAction::Command(vec![program.display().to_string()]),
        timeout: Duration::from_secs(10),
    };
    let Ends { world, snapshots, .. } = ends(config(None));
    let running = tokio::spawn(run(hook, world.clone(), Beginning::now(&world)));
    let before = world.events.last_id();
    for _ in 0..BURST {
        push(&world, "emqx2@127.0.0.1", EventKind::Updated, Some(MemberStatus::Up));
    }
    let last = format!("\"id\":{},", before + BURST);
    let told = timeout(Duration::from_secs(60), async {
        loop {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains(&last) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let text = told.await.unwrap();
    let ids: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_u64().unwrap())
        .collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert!(ids.len() >= 256, "{}", ids.len());
    let name = program.display().to_string();
    let labels = crate::metrics::Hook { hook: name };
    let dropped = world.metrics.hook_dropped.get_or_create(&labels).get();
    assert_eq!(dropped + ids.len() as u64, BURST);
    drop(snapshots);
    running.abort();
}

#[tokio::test]
async fn what_hooks_are_told_of_members() {
    use EventKind::{Changed, Joined, Left, Removed, Updated};
    use MemberStatus::{Down, Suspect, Up};
    let Ends { world, snapshots: _snapshots, .. } = ends(config(None));
    let mut teller = Teller::new(&Beginning::now(&world));
    let mut told = |kind, to| {
        push(&world, "other@10.0.0.7", kind, to);
        let names: Vec<_> = teller
            .news(&world)
            .into_iter()
            .filter(|message| message.node == "other@10.0.0.7")
            .map(|message| message.event.name())
            .collect();
        names.join(" ")
    };
    for (kind, to, wanted) in [
        (Joined, Some(Up), "member_joined"),
        (Changed, Some(Suspect), ""),
        // Refuted.
        (Changed, Some(Up), ""),
        (Changed, Some(Suspect), ""),
        (Changed, Some(Down), "member_down"),
        (Updated, Some(Down), "member_updated"),
        (Changed, Some(Suspect), ""),
        (Changed, Some(Up), "member_up"),
        (Changed, Some(Down), "member_down"),
        (Removed, None, "member_removed"),
        (Joined, Some(Down), "member_joined"),
        (Changed, Some(Up), "member_up"),
        (Left, None, "member_left"),
    ] {
        assert_eq!(told(kind, to), wanted, "{kind:?} {to:?}");
    }
}

#[tokio::test]
async fn an_event_says_what_the_api_says() {
    let Ends { world, snapshots: _snapshots, .. } = ends(config(None));
    let mut teller = Teller::new(&Beginning::now(&world));
    let known = world.snapshots.borrow().members[0].node.to_string();
    push(&world, &known, EventKind::Updated, Some(MemberStatus::Up));
    let messages = teller.news(&world);
    let message =
        messages.iter().find(|message| message.event == HookEvent::MemberUpdated).unwrap();
    let body: Value = serde_json::from_slice(&message.body).unwrap();
    assert_eq!(body["event"], "member_updated");
    assert_eq!(body["kind"], "updated");
    assert_eq!(body["node"], known);
    assert_eq!(body["self"], world.snapshots.borrow().self_node.to_string());
    assert_eq!(body["member"]["node"], known);
    assert!(body["id"].is_u64() && body["at"].is_string());
}

/// Events are there at once, snapshots follow: a program that is told of a death must not
/// read that the member is up. A snapshot that knows more is believed.
#[tokio::test]
async fn a_member_is_told_as_the_event_has_it_where_the_snapshot_is_behind() {
    let Ends { world, snapshots, .. } = ends(config(None));
    let mut teller = Teller::new(&Beginning::now(&world));
    let known = world.snapshots.borrow().members[0].clone();
    let mut told = |world: &World, to: MemberStatus| {
        push(world, known.node.as_str(), EventKind::Changed, Some(to));
        let messages = teller.news(world);
        let body: Value = serde_json::from_slice(&messages[0].body).unwrap();
        body["member"]["status"].clone()
    };
    assert_eq!(told(&world, MemberStatus::Down), "down");
    snapshots.send_modify(|held| {
        let member = &mut Arc::make_mut(held).members[0];
        member.status = MemberStatus::Suspect;
        member.last_change = Some(LastChange {
            from: None,
            to: MemberStatus::Suspect,
            reason: "silent",
            text: "a test".into(),
            by: known.node.clone(),
            at: SystemTime::now() + Duration::from_secs(3600),
        });
    });
    assert_eq!(told(&world, MemberStatus::Up), "suspect");
}

/// What just happened is told a moment later, what had to wait anyway at once.
#[tokio::test(start_paused = true)]
async fn the_membership_has_its_moment_first() {
    let hook = HookConfig {
        on: vec![HookEvent::MemberDown],
        action: HookAction::Command(vec!["/nonexistent/hook".to_owned()]),
        timeout: Duration::from_secs(10),
    };
    let after = async |waited: Duration| {
        let begun = Instant::now();
        let (event, node, body) = (HookEvent::MemberDown, String::new(), Vec::new());
        let message = Message { event, node, body, since: begun };
        tokio::time::advance(waited).await;
        let told = tell(hook.clone(), message, Arc::new(config(None))).await;
        assert_eq!(told.word, "refused");
        begun.elapsed()
    };
    assert!(after(Duration::ZERO).await >= PAUSE);
    let late = PAUSE * 10;
    assert!(after(late).await < late + PAUSE);
}
