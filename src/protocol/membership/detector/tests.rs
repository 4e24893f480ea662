//! Every transition of a probe.

use super::*;

#[test]
fn what_becomes_of_a_probe() {
    use Outcome::{Answered, AskAgain, AskOthers, Moot, ReachedByOthers, Silent};
    use Stage::{Direct, Indirect, Patient};
    let stages = [Direct, Indirect, Patient];
    // Whether it is watched, has answered, was heard, was reached by others; what that
    // comes to in each stage.
    let table = [
        ((true, false, false, false), [AskOthers, Silent, Silent]),
        ((true, false, true, false), [AskOthers, AskAgain, Silent]),
        ((true, false, false, true), [ReachedByOthers; 3]),
        ((true, false, true, true), [ReachedByOthers; 3]),
        ((true, true, false, false), [Answered; 3]),
        ((true, true, true, false), [Answered; 3]),
        ((true, true, false, true), [Answered; 3]),
        ((true, true, true, true), [Answered; 3]),
        ((false, false, false, false), [Moot; 3]),
        ((false, false, true, false), [Moot; 3]),
        ((false, false, false, true), [Moot; 3]),
        ((false, false, true, true), [Moot; 3]),
        ((false, true, false, false), [Answered; 3]),
        ((false, true, true, false), [Answered; 3]),
        ((false, true, false, true), [Answered; 3]),
        ((false, true, true, true), [Answered; 3]),
    ];
    for ((is_watched, has_answered, was_heard, alive), expected) in table {
        for (stage, expected) in stages.into_iter().zip(expected) {
            let target = NodeName::parse("n1@127.0.0.1").unwrap();
            let probe = Probe { stage, alive, ..Probe::new(target, Duration::ZERO) };
            let seen = Seen { is_watched, has_answered, was_heard };
            assert_eq!(probe.outcome(seen), expected, "{stage:?}, {seen:?}, {alive}");
        }
    }
}

#[test]
fn doubts_are_bounded_and_pass() {
    let mut detector = Detector::default();
    let second = Duration::from_secs(1);
    assert_eq!(detector.scaled(second), second);
    (0..100).for_each(|_| detector.ill());
    assert_eq!(detector.scaled(second), second * 4);
    (0..100).for_each(|_| detector.well());
    assert_eq!(detector.scaled(second), second);
}
