use super::*;

fn log_of(count: u64) -> EventLog {
    let log = EventLog::starting_after(100);
    for _ in 0..count {
        log.push(event);
    }
    log
}

fn event(id: u64) -> Event {
    let node = NodeName::parse("emqx@127.0.0.1").unwrap();
    Event {
        id,
        at: UNIX_EPOCH,
        kind: EventKind::Changed,
        node: node.clone(),
        from: Some(MemberStatus::Up),
        to: Some(MemberStatus::Down),
        reason: "silent",
        text: "closed".into(),
        by: node,
    }
}

fn ids(since: Since) -> Vec<u64> {
    match since {
        Since::Events(events) => events.into_iter().map(|event| event.id).collect(),
        Since::Reset(last) => panic!("reset to {last}"),
    }
}

#[test]
fn readers_resume_behind_the_id_they_name() {
    let log = log_of(3);
    assert_eq!(ids(log.since(0, 10)), [101, 102, 103]);
    assert_eq!(ids(log.since(100, 10)), [101, 102, 103]);
    assert_eq!(ids(log.since(102, 10)), [103]);
    assert_eq!(ids(log.since(103, 10)), [0; 0]);
    assert_eq!(ids(log.since(0, 2)), [101, 102]);
}

#[test]
fn an_id_of_another_life_or_out_of_the_ring_resets() {
    let log = log_of(3);
    assert_eq!(log.since(7, 10), Since::Reset(103));
    assert_eq!(log.since(104, 10), Since::Reset(103));
    assert_eq!(log_of(0).since(99, 10), Since::Reset(100));

    let long = log_of(EVENT_RING as u64 + 5);
    assert_eq!(long.since(104, 10), Since::Reset(long.last_id()));
    assert_eq!(ids(long.since(105, 1)), [106]);
    assert_eq!(ids(long.since(0, 1)), [106]);
}

#[test]
fn two_lives_do_not_share_ids() {
    assert!(EventLog::default().last_id() > 1_700_000_000_000);
    assert!(EventLog::default().last_id() < 1 << 53);
}
