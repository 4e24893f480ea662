//! Whether the broker sees the cluster that the agents see.

use std::time::Duration;

use super::answers::Info;
use crate::attributes::BrokerStatus;
use crate::broker::BrokerCluster;
use crate::view::{MemberStatus, Snapshot};

/// Lays the broker's view beside the members whose brokers are up. (Brokers differ on
/// who is stopped, and are not compared in it.)
#[must_use]
pub fn compare(view: &Snapshot, info: &Info) -> BrokerCluster {
    let up = view.members.iter().filter(|member| {
        let broker = member.broker.as_ref();
        member.status != MemberStatus::Down && broker.is_some_and(|b| b.status == BrokerStatus::Up)
    });
    let up: Vec<&str> = up.map(|member| member.node.as_str()).collect();
    let runs = |name: &str| info.running.contains_key(name);
    let missing: Vec<String> =
        up.iter().filter(|name| !runs(name)).map(|name| (*name).to_owned()).collect();
    let extra: Vec<String> =
        info.running.keys().filter(|name| !up.contains(&name.as_str())).cloned().collect();
    BrokerCluster {
        running_nodes: info.running.keys().cloned().collect(),
        stopped_nodes: info.stopped.iter().cloned().collect(),
        agrees: missing.is_empty() && extra.is_empty(),
        missing,
        extra,
    }
}

/// What changed for those who are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The views have differed for the patience.
    Differs,
    /// They agree again.
    Agrees,
}

/// Remembers for how long views have differed.
#[derive(Clone, Copy, Debug)]
pub struct Agreement {
    patience: Duration,
    since: Option<Duration>,
    told: bool,
}

impl Agreement {
    /// Tells after so long.
    #[must_use]
    pub fn new(patience: Duration) -> Self {
        Self { patience, since: None, told: false }
    }

    /// Takes the newest comparison, `None` where the broker does not say; `now` is since
    /// any fixed start.
    pub fn update(&mut self, agrees: Option<bool>, now: Duration) -> Option<News> {
        match agrees {
            Some(false) => {
                let since = *self.since.get_or_insert(now);
                let due = !self.told && now.saturating_sub(since) >= self.patience;
                self.told |= due;
                due.then_some(News::Differs)
            }
            Some(true) => {
                self.since = None;
                std::mem::take(&mut self.told).then_some(News::Agrees)
            }
            // A broker that restarts says nothing, and what it will say is not known.
            None => {
                self.since = None;
                None
            }
        }
    }

    /// Whether it was told that they differ, and not yet that they agree.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.told
    }
}

#[cfg(test)]
mod tests;
