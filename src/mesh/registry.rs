//! Which links are up and which dials are under way: what simultaneous connects are
//! settled by.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::gate::Ends;
use super::queue::Queue;
use super::tls::Crossing;
use crate::node::{LinkId, NodeName};
use crate::protocol::dist::handshake::Decision;

/// For how long after its start a dial of ours makes the peer's give way. A dial that
/// takes longer is stuck, and where only the peer's direction works (a firewall, a
/// NAT) it must not stand in the way for ever.
const PREFERENCE: Duration = Duration::from_secs(1);

/// Most peers whose last failure is remembered; it only keeps the log quiet.
const MAX_FAILURES: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Registry {
    links: HashMap<LinkId, (NodeName, Arc<Queue>)>,
    by_peer: HashMap<NodeName, Vec<LinkId>>,
    dials: HashMap<NodeName, Dial>,
    failures: HashMap<NodeName, &'static str>,
    /// The connections this node dialled, until their handshakes end.
    dialed: HashSet<Ends>,
    last_id: u64,
}

#[derive(Debug)]
struct Dial {
    since: Instant,
    give_up: Arc<Notify>,
    /// To put a new link in an old one's place; nobody above the mesh has asked for it.
    renewal: bool,
    /// What the peer would say at first if it dialled us as well, and should not.
    crossing: Option<Crossing>,
}

impl Registry {
    /// Begins a dial; `None` when one is under way. The answer tells the dial that a
    /// link from the peer came up first.
    pub(super) fn begin_dial(&mut self, peer: &NodeName, now: Instant) -> Option<Arc<Notify>> {
        if let Some(under_way) = self.dials.get_mut(peer) {
            under_way.renewal = false;
            return None;
        }
        Some(self.insert_dial(peer, now, false))
    }

    /// Begins a dial that is to give a second link to the peer, as [`Self::begin_dial`].
    pub(super) fn begin_renewal(&mut self, peer: &NodeName, now: Instant) -> Option<Arc<Notify>> {
        let free = !self.dials.contains_key(peer);
        free.then(|| self.insert_dial(peer, now, true))
    }

    fn insert_dial(&mut self, peer: &NodeName, since: Instant, renewal: bool) -> Arc<Notify> {
        let give_up = Arc::new(Notify::new());
        let dial = Dial { since, give_up: Arc::clone(&give_up), renewal, crossing: None };
        self.dials.insert(peer.clone(), dial);
        give_up
    }

    /// Ends a dial, whatever came of it; whether somebody above the mesh waits for that.
    pub(super) fn end_dial(&mut self, peer: &NodeName) -> bool {
        self.dials.remove(peer).is_some_and(|dial| !dial.renewal)
    }

    /// Has a dial go on where the peer's crosses it.
    pub(super) fn prefer_own(&mut self, peer: &NodeName, crossing: Crossing) {
        if let Some(dial) = self.dials.get_mut(peer) {
            dial.crossing = Some(crossing);
        }
    }

    /// Whether what a peer says at first is about a pair of which our own dial goes on.
    pub(super) fn goes_on(&self, said: &[u8], now: Instant) -> bool {
        self.dials.values().any(|dial| {
            let crossing = dial.crossing.as_ref().map(Crossing::as_bytes);
            crossing == Some(said) && now.duration_since(dial.since) < PREFERENCE
        })
    }

    /// Whether a dial wants a link beside the one that may be up.
    pub(super) fn wants_second(&self, peer: &NodeName) -> bool {
        self.dials.get(peer).is_some_and(|dial| dial.renewal)
    }

    /// Whether a link to the peer is up, other than this one.
    pub(super) fn has_other(&self, peer: &NodeName, link: LinkId) -> bool {
        self.by_peer.get(peer).is_some_and(|links| links.iter().any(|other| *other != link))
    }

    /// Notes a connection that this node dialled.
    pub(super) fn note_dialed(&mut self, ends: Ends) {
        self.dialed.insert(ends);
    }

    /// Whether a noted connection has not come out at this node itself.
    pub(super) fn is_noted(&self, ends: Ends) -> bool {
        self.dialed.contains(&ends)
    }

    /// The connection's handshake is over.
    pub(super) fn forget_dialed(&mut self, ends: Ends) {
        self.dialed.remove(&ends);
    }

    /// Whether an accepted connection is one that this node dialled; then it is not noted
    /// any more.
    pub(super) fn comes_from_itself(&mut self, accepted: Ends) -> bool {
        self.dialed.remove(&accepted.seen_from_there())
    }

    /// Whether a link to the peer is up.
    pub(super) fn is_up(&self, peer: &NodeName) -> bool {
        self.by_peer.contains_key(peer)
    }

    /// The answer to a peer that connects and claims this name. It proves nothing yet,
    /// so nothing changes: a dial of ours goes on until a link really is up.
    pub(super) fn decide(&self, own: &NodeName, peer: &NodeName, now: Instant) -> Decision {
        if self.is_up(peer) {
            return Decision::Alive;
        }
        match self.dials.get(peer) {
            Some(dial) if own > peer && now.duration_since(dial.since) < PREFERENCE => {
                Decision::Nok
            }
            Some(_) => Decision::OkSimultaneous,
            None => Decision::Ok,
        }
    }

    /// Notes a link that is up, and ends the dial it came from or makes needless. Of two
    /// nodes that dial each other only the smaller name gives way: if both did, each
    /// would end the link that the other has just come to rely on.
    pub(super) fn link_up(
        &mut self,
        own: &NodeName,
        peer: &NodeName,
        dialed: bool,
    ) -> (LinkId, Arc<Queue>) {
        self.last_id += 1;
        let link = LinkId(self.last_id);
        let queue = Arc::new(Queue::default());
        self.links.insert(link, (peer.clone(), Arc::clone(&queue)));
        self.by_peer.entry(peer.clone()).or_default().push(link);
        self.failures.remove(peer);
        if dialed {
            self.end_dial(peer);
        } else if own < peer
            && let Some(dial) = self.dials.get(peer)
        {
            dial.give_up.notify_one();
        }
        (link, queue)
    }

    pub(super) fn queue(&self, link: LinkId) -> Option<Arc<Queue>> {
        self.links.get(&link).map(|(_, queue)| Arc::clone(queue))
    }

    /// Forgets a link that ended or is about to: a new one from the peer is welcome.
    pub(super) fn forget(&mut self, link: LinkId) -> Option<Arc<Queue>> {
        let (peer, queue) = self.links.remove(&link)?;
        if let Some(links) = self.by_peer.get_mut(&peer) {
            links.retain(|&other| other != link);
            if links.is_empty() {
                self.by_peer.remove(&peer);
            }
        }
        Some(queue)
    }

    /// Whether this failure to reach the peer is another than the last one.
    pub(super) fn is_news(&mut self, peer: &NodeName, failure: &'static str) -> bool {
        if self.failures.len() >= MAX_FAILURES {
            self.failures.clear();
        }
        self.failures.insert(peer.clone(), failure) != Some(failure)
    }
}

#[cfg(test)]
mod tests;
