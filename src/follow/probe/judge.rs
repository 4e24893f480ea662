//! When a row of answers becomes a verdict.

use crate::attributes::BrokerStatus;

/// Counts answers of one kind in a row. Pure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judge {
    rise: u32,
    fall: u32,
    status: BrokerStatus,
    /// Answers in a row that speak against `status`, all of the same kind.
    streak: u32,
    last: bool,
}

impl Judge {
    /// Knows nothing yet: `rise` good answers in a row make the broker up, `fall` bad ones
    /// down; 0 counts as 1.
    pub(super) fn new(rise: u32, fall: u32) -> Self {
        let (rise, fall) = (rise.max(1), fall.max(1));
        Self { rise, fall, status: BrokerStatus::Unknown, streak: 0, last: false }
    }

    /// Takes one answer; the new verdict, where it changes one.
    pub(super) fn observe(&mut self, good: bool) -> Option<BrokerStatus> {
        let (verdict, needed) =
            if good { (BrokerStatus::Up, self.rise) } else { (BrokerStatus::Down, self.fall) };
        if self.status == verdict {
            self.streak = 0;
            return None;
        }
        self.streak = if self.last == good { self.streak.saturating_add(1) } else { 1 };
        self.last = good;
        if self.streak < needed {
            return None;
        }
        self.status = verdict;
        self.streak = 0;
        Some(verdict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The verdicts of a row of answers, `.` where there is none.
    fn verdicts(rise: u32, fall: u32, answers: &str) -> String {
        let mut judge = Judge::new(rise, fall);
        let word = |verdict| match verdict {
            None => '.',
            Some(BrokerStatus::Up) => 'U',
            Some(_) => 'D',
        };
        answers.chars().map(|answer| word(judge.observe(answer == '+'))).collect()
    }

    #[test]
    fn every_transition() {
        for (rise, fall, answers, wanted) in [
            (2, 3, "++", ".U"),
            (2, 3, "---", "..D"),
            // A row that is broken counts anew.
            (2, 3, "+-+-+-", "......"),
            (2, 3, "+-++", "...U"),
            (2, 3, "--+---", ".....D"),
            (2, 3, "++--+---", ".U.....D"),
            (2, 3, "---+-++", "..D...U"),
            (1, 1, "+-+", "UDU"),
            (0, 0, "-+", "DU"),
            (3, 1, "-+++-", "D..UD"),
            (2, 2, "++++----++++", ".U...D...U.."),
        ] {
            assert_eq!(verdicts(rise, fall, answers), wanted, "{rise} {fall} {answers}");
        }
    }
}
