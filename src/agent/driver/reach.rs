//! Who reaches whom: asks the members for whoever looks, and answers them.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Driver;
use crate::node::LinkId;
use crate::protocol::membership::Version;
use crate::reach;

/// Two answers to who is reached are at least so far apart.
const REACH_GAP: Duration = Duration::from_millis(20);

impl Driver {
    /// Answers whom this node reaches. An answer is as long as the view: whoever asks for
    /// more of them than a person would gets none. Whoever asks for the first time right
    /// behind another asks again.
    pub(super) fn tell_reach(&mut self, link: LinkId) {
        if self.book.told_reach.is_some_and(|at| at.elapsed() < REACH_GAP) {
            self.metrics.dropped("reach");
            return;
        }
        self.book.told_reach = Some(Instant::now());
        let snapshot = Arc::clone(&self.publish.borrow());
        // A link that is full or gone has nobody who waits.
        let _outcome = self.mesh.send(link, &reach::answer(&snapshot));
    }

    /// Asks the members whom they reach, for somebody who looks.
    pub(super) fn ask_reach(&mut self) {
        let now = Instant::now();
        let table = self.machine.table();
        self.reach.retain(|node| table.member(node).is_some());
        for record in table.members() {
            let Some((link, _)) = self.machine.link(&record.node) else { continue };
            match self.machine.version(&record.node) {
                Some(Version::V1) | None => self.reach.too_old(now, &record.node),
                Some(Version::V2) if self.reach.ask(now, &record.node) => {
                    // Where it does not go out, no answer comes, which is then shown.
                    let _outcome = self.mesh.send(link, reach::ASK);
                }
                Some(Version::V2) => {}
            }
        }
    }

    /// Whether this is the answer of a member that was asked, over the member's own link.
    pub(super) fn awaits_reach(&self, link: LinkId, payload: &[u8]) -> bool {
        reach::is_answer(payload)
            && self.presenter.peer(link).is_some_and(|peer| {
                let held = self.machine.link(peer).is_some_and(|(key, _)| key.0 == link.0);
                held && self.reach.awaits(peer)
            })
    }

    /// Keeps what a member says of nodes that are known here: others would be its invention.
    pub(super) fn hear_reach(&mut self, link: LinkId, payload: &[u8]) {
        let Some(peer) = self.presenter.peer(link) else { return };
        let Some(rows) = reach::read(payload) else { return };
        let mut told = reach::told(&rows);
        let discovered = &self.presenter.discovery.nodes;
        told.retain(|node, _| {
            self.machine.table().member(node).is_some() || discovered.contains(node)
        });
        self.reach.tell(Instant::now(), peer, told);
    }
}
