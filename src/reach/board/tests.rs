use futures_util::FutureExt as _;

use super::*;
use crate::reach::Cell;

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

fn told() -> Told {
    Told::from([(node("b@h"), Cell::Connected)])
}

#[test]
fn who_has_told_is_left_alone_for_a_while_and_who_has_not_is_asked_again() {
    let (board, a, start) = (Board::default(), node("a@h"), Instant::now());
    assert!(board.ask(start, &a));
    assert!(!board.ask(start + AGAIN / 2, &a), "asked twice at once");
    assert!(board.ask(start + AGAIN, &a), "not asked again");
    board.tell(start + AGAIN, &a, told());
    assert!(!board.awaits(&a));
    assert!(!board.ask(start + PAUSE, &a), "asked again too soon");
    assert!(board.ask(start + AGAIN + PAUSE, &a));
    assert!(board.awaits(&a));
}

#[test]
fn nothing_is_shown_that_is_not_known() {
    let (board, a, start) = (Board::default(), node("a@h"), Instant::now());
    let look = |after: Duration| board.look(start + after).remove(&a);
    assert_eq!(look(Duration::ZERO), None);
    board.ask(start, &a);
    assert_eq!(look(PATIENCE), None, "it has its time to answer");
    let late = PATIENCE + Duration::from_millis(1);
    assert_eq!(look(late), Some(Said::Nothing));
    board.tell(start + late, &a, told());
    assert_eq!(look(late), Some(Said::Told(told())));
    // What it said holds while it is asked again, and not for ever.
    board.ask(start + late + PAUSE, &a);
    assert_eq!(look(late + PAUSE), Some(Said::Told(told())));
    assert_eq!(look(late + FRESH + PATIENCE), Some(Said::Nothing));
    // After a time without anybody who looks all begins anew.
    let later = late + FRESH * 3;
    assert_eq!(look(later), None);
    assert!(board.ask(start + later, &a));
    assert_eq!(look(later + AGAIN), None);
}

#[test]
fn who_does_not_know_the_question_and_who_is_gone() {
    let (board, a, start) = (Board::default(), node("a@h"), Instant::now());
    board.too_old(start, &a);
    assert_eq!(board.look(start).get(&a), Some(&Said::TooOld));
    assert!(!board.awaits(&a), "an answer from it would be taken");
    assert!(board.ask(start + PAUSE, &a), "it was upgraded");
    board.tell(start + PAUSE, &a, told());
    assert_eq!(board.look(start + PAUSE).get(&a), Some(&Said::Told(told())));
    board.retain(|_| false);
    assert_eq!(board.look(start + PAUSE).get(&a), None);
    board.tell(start, &a, told());
    assert_eq!(board.look(start).get(&a), None, "an answer that nobody asked for");
}

/// And not of every single reader.
#[tokio::test]
async fn whoever_asks_learns_that_somebody_looks() {
    let (board, start) = (Board::default(), Instant::now());
    let mut woken = 0;
    for time in 0..100 {
        let _said = board.look(start + AGAIN / 50 * time);
        woken += u32::from(board.looked().now_or_never().is_some());
    }
    assert_eq!(woken, 2);
}
