//! Which links are up and which dials are under way: what simultaneous connects are
//! settled by.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::LinkId;
use super::queue::Queue;
use crate::node::NodeName;
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
    last_id: u64,
}

#[derive(Debug)]
struct Dial {
    since: Instant,
    give_up: Arc<Notify>,
}

impl Registry {
    /// Begins a dial; `None` when one is under way. The answer tells the dial that a
    /// link from the peer came up first.
    pub(super) fn begin_dial(&mut self, peer: &NodeName, now: Instant) -> Option<Arc<Notify>> {
        if self.dials.contains_key(peer) {
            return None;
        }
        let give_up = Arc::new(Notify::new());
        self.dials.insert(peer.clone(), Dial { since: now, give_up: Arc::clone(&give_up) });
        Some(give_up)
    }

    /// Ends a dial, whatever came of it.
    pub(super) fn end_dial(&mut self, peer: &NodeName) {
        self.dials.remove(peer);
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
