//! How much each of the machine's tables holds, beside what it may hold at most: for tests,
//! and for whoever wonders where memory goes. `docs/membership.md` has the same rows.

use super::Membership;
use super::dialler::{MAX_DIALS, MAX_UNPROVEN_DIALS};
use super::learn::DOUBTS;
use super::lifecycle::MAX_PENDING;
use super::links::{MAX_MEASURED, MAX_STRANGERS};
use super::own::MAX_RIVALS;
use super::probe::{CONFIRMATIONS, MAX_FAVOURS, MAX_SENT};
use super::purge::MOST;
use super::tellers::MAX_TELLERS;

impl Membership {
    /// Every table whose size others can influence: its name, what it holds, and its bound.
    #[must_use]
    pub fn books(&self) -> [(&'static str, usize, usize); 22] {
        let limits = &self.settings.limits;
        let members = self.table.member_count();
        let links = self.links.links.len();
        let detector = &self.detector;
        let (strangers, measured) = self.links.aside();
        let accusers = detector.suspicions.values().map(|s| s.accusers.len()).max();
        let asked = self.pending.len() + DOUBTS as usize;
        let contacts = self.discovered.len() + self.links.dialing + asked;
        [
            ("members", members, limits.members),
            ("tombstones", self.table.tombstone_count(), limits.tombstones),
            ("rumours", self.rumours.len(), limits.rumours),
            ("unproven", self.table.unproven_count(), members),
            ("doubtful", self.doubtful.len(), self.table.running_count()),
            ("ring", self.ring.len(), self.table.running_count() + 1),
            ("rivals", self.rivals.len(), MAX_RIVALS),
            ("accusers", accusers.unwrap_or_default(), CONFIRMATIONS + 1),
            ("favours", detector.favours.len(), MAX_FAVOURS),
            ("pings", detector.sent.len(), MAX_SENT),
            ("probes", detector.probes.len(), limits.members),
            ("suspicions", detector.suspicions.len(), members),
            ("untold", detector.cut_off.as_ref().map_or(0, |cut| cut.untold.len()), limits.members),
            ("exchanges", self.reconciliation.len(), links),
            ("purges", self.purges.len(), MOST),
            ("requests", self.pending.len(), MAX_PENDING),
            ("dials", self.links.dialing, MAX_DIALS),
            ("unproven dials", self.links.dialing_unproven, MAX_UNPROVEN_DIALS),
            ("peers", self.links.peers.len(), members + contacts + links),
            ("tellers", self.tellers.len(), MAX_TELLERS),
            ("strangers", strangers, MAX_STRANGERS),
            ("round trips", measured, MAX_MEASURED),
        ]
    }
}
