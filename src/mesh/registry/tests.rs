use std::net::SocketAddr;

use tokio::time::timeout;

use super::*;

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn simultaneous_connects_go_to_the_greater_name() {
    let (a, b) = (node("a@h.io"), node("b@h.io"));
    let now = Instant::now();
    let mut registry = Registry::default();
    assert_eq!(registry.decide(&b, &a, now), Decision::Ok);
    registry.begin_dial(&a, now).unwrap();
    assert!(registry.begin_dial(&a, now).is_none());
    assert_eq!(registry.decide(&b, &a, now), Decision::Nok);
    // A dial that is stuck stands in nobody's way.
    assert_eq!(registry.decide(&b, &a, now + PREFERENCE), Decision::OkSimultaneous);
    registry.end_dial(&a);
    assert_eq!(registry.decide(&b, &a, now), Decision::Ok);
    registry.begin_dial(&b, now).unwrap();
    assert_eq!(registry.decide(&a, &b, now), Decision::OkSimultaneous);
}

#[tokio::test]
async fn a_link_from_the_peer_ends_the_dial_to_it() {
    let (own, peer) = (node("a@h.io"), node("b@h.io"));
    let mut registry = Registry::default();
    let give_up = registry.begin_dial(&peer, Instant::now()).unwrap();
    let (first, _) = registry.link_up(&own, &peer, false);
    give_up.notified().await;
    assert_eq!(registry.decide(&own, &peer, Instant::now()), Decision::Alive);
    let (second, _) = registry.link_up(&own, &peer, true);
    assert!(registry.begin_dial(&peer, Instant::now()).is_some());
    assert_ne!(first, second);
    registry.forget(first).unwrap();
    assert!(registry.forget(first).is_none());
    assert!(registry.is_up(&peer));
    registry.forget(second).unwrap();
    assert!(!registry.is_up(&peer) && registry.queue(second).is_none());
}

#[tokio::test]
async fn of_two_that_dial_each_other_one_goes_on() {
    let (a, b) = (node("a@h.io"), node("b@h.io"));
    let mut registry = Registry::default();
    let give_up = registry.begin_dial(&a, Instant::now()).unwrap();
    registry.link_up(&b, &a, false);
    let notified = timeout(Duration::from_millis(1), give_up.notified());
    assert!(notified.await.is_err());
}

#[test]
fn failures_are_news_once() {
    let (own, peer) = (node("b@h.io"), node("a@h.io"));
    let mut registry = Registry::default();
    assert!(registry.is_news(&peer, "cookie"));
    assert!(!registry.is_news(&peer, "cookie"));
    assert!(registry.is_news(&peer, "version"));
    registry.link_up(&own, &peer, true);
    assert!(registry.is_news(&peer, "version"));
    for number in 0..2 * MAX_FAILURES {
        registry.is_news(&node(&format!("n{number}@h.io")), "cookie");
    }
    assert!(registry.failures.len() <= MAX_FAILURES);
}

#[test]
fn a_dial_that_comes_out_at_this_node_is_noticed_once() {
    let at = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
    let dialed = Ends { near: at(40_000), far: at(6370) };
    let mut registry = Registry::default();
    registry.note_dialed(dialed);
    // Another's connection from the same port, to another of our addresses.
    assert!(!registry.comes_from_itself(Ends { near: at(6371), far: at(40_000) }));
    assert!(registry.is_noted(dialed));
    assert!(registry.comes_from_itself(Ends { near: at(6370), far: at(40_000) }));
    assert!(!registry.is_noted(dialed));
    registry.forget_dialed(dialed);
}

#[tokio::test(start_paused = true)]
async fn a_renewal_wants_a_second_link_and_nobody_waits_for_it() {
    let (own, peer) = (node("b@h.io"), node("a@h.io"));
    let now = Instant::now();
    let mut registry = Registry::default();
    let (old, _) = registry.link_up(&own, &peer, true);
    assert!(!registry.wants_second(&peer) && !registry.has_other(&peer, old));
    registry.begin_renewal(&peer, now).unwrap();
    assert!(registry.wants_second(&peer) && registry.begin_renewal(&peer, now).is_none());
    assert!(!registry.end_dial(&peer));
    registry.begin_renewal(&peer, now).unwrap();
    registry.link_up(&own, &peer, true);
    assert!(registry.has_other(&peer, old) && !registry.wants_second(&peer));
    // Whoever asks for a dial meanwhile is told what comes of it.
    registry.begin_renewal(&peer, now).unwrap();
    assert!(registry.begin_dial(&peer, now).is_none());
    assert!(registry.end_dial(&peer));
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_crosses_our_own_is_known_by_what_it_says_first() {
    let (own, peer) = (node("b@h.io"), node("a@h.io"));
    let now = Instant::now();
    let said = Crossing::new(&peer, &own);
    let mut registry = Registry::default();
    registry.prefer_own(&peer, said.clone());
    assert!(!registry.goes_on(said.as_bytes(), now), "nobody is dialled");
    registry.begin_dial(&peer, now).unwrap();
    assert!(!registry.goes_on(said.as_bytes(), now), "ours has not come so far");
    registry.prefer_own(&peer, said.clone());
    assert!(registry.goes_on(said.as_bytes(), now));
    assert!(!registry.goes_on(Crossing::new(&own, &peer).as_bytes(), now));
    assert!(!registry.goes_on(said.as_bytes(), now + PREFERENCE), "ours is stuck");
}
