//! What a discovery writes into the log: what changed, once.

use std::collections::BTreeSet;

use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::clean;
use crate::discovery::{Answer, DiscoveryError};
use crate::node::NodeName;

/// Entries named in one log line.
const NAMED: usize = 8;

/// Different errors logged during one outage; a text that varies every time would
/// otherwise be logged every time.
const ERRORS_LOGGED: usize = 8;

/// Says what changed, once.
pub(super) struct Log {
    strategy: &'static str,
    automatic: bool,
    nodes: Option<BTreeSet<NodeName>>,
    rejected: Vec<String>,
    /// Texts logged since the last answer, and when the first of them came.
    outage: Option<(Instant, Vec<String>)>,
}

impl Log {
    pub(super) fn new(strategy: &'static str, automatic: bool) -> Self {
        Self { strategy, automatic, nodes: None, rejected: Vec::new(), outage: None }
    }

    pub(super) fn answered(&mut self, now: Instant, answer: &Answer) {
        let strategy = self.strategy;
        if let Some((since, _)) = self.outage.take() {
            let seconds = (now - since).as_secs();
            info!(strategy, found = answer.nodes.len(), outage_s = seconds, "discovery is back");
        }
        if answer.rejected != self.rejected {
            self.rejected.clone_from(&answer.rejected);
            if !answer.rejected.is_empty() {
                let entries = answer.rejected.iter().map(|entry| clean(entry));
                let entries = listed(entries, answer.rejected.len());
                warn!(
                    strategy,
                    entries,
                    "discovery named what can be no node, and is left out: mend these entries, or \
                     remove them"
                );
            }
        }
        if !self.automatic {
            return;
        }
        match &self.nodes {
            Some(before) if *before == answer.nodes => return,
            Some(before) => {
                let (new, gone) = (&answer.nodes - before, before - &answer.nodes);
                info!(
                    strategy,
                    found = answer.nodes.len(),
                    new = listed(new.iter(), new.len()),
                    gone = listed(gone.iter(), gone.len()),
                    "discovery found other nodes"
                );
            }
            None => {
                let nodes = listed(answer.nodes.iter(), answer.nodes.len());
                info!(strategy, found = answer.nodes.len(), nodes, "discovery answered");
            }
        }
        self.nodes = Some(answer.nodes.clone());
    }

    pub(super) fn failed(&mut self, now: Instant, error: &DiscoveryError) {
        let (strategy, kind, error) = (self.strategy, error.kind(), error.to_string());
        let (_, logged) = self.outage.get_or_insert_with(|| (now, Vec::new()));
        if logged.len() < ERRORS_LOGGED && !logged.contains(&error) {
            warn!(strategy, kind, error, "discovery could not ask");
            logged.push(error);
        } else {
            debug!(strategy, kind, error, "discovery could not ask");
        }
    }
}

/// The first [`NAMED`] entries and how many there are besides.
pub(super) fn listed<T: ToString>(entries: impl Iterator<Item = T>, count: usize) -> String {
    let mut text = entries.take(NAMED).map(|e| e.to_string()).collect::<Vec<_>>().join(", ");
    if count > NAMED {
        text.push_str(&format!(" and {} more", count - NAMED));
    }
    text
}
