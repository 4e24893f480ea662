//! What holds for this node or does not, and when that becomes news.

use crate::attributes::BrokerStatus;
use crate::config::HookEvent;

/// The last value of each condition that was told of. Pure.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Conditions {
    ready: bool,
    majority: Option<bool>,
    broker: BrokerStatus,
}

/// How things are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Now {
    /// Whether `/readyz` says yes.
    pub(super) ready: bool,
    /// Whether this node is with the majority; `None` while it is in no cluster.
    pub(super) majority: Option<bool>,
    /// What the probe found.
    pub(super) broker: BrokerStatus,
}

impl Conditions {
    /// What became different. A node begins without being ready, and with the majority;
    /// what is not known is no news.
    pub(super) fn observe(&mut self, now: Now) -> Vec<HookEvent> {
        let mut news = Vec::new();
        if now.broker != self.broker {
            self.broker = now.broker;
            match now.broker {
                BrokerStatus::Up => news.push(HookEvent::BrokerUp),
                BrokerStatus::Down => news.push(HookEvent::BrokerDown),
                BrokerStatus::Unknown => {}
            }
        }
        if let Some(majority) = now.majority {
            match (self.majority, majority) {
                (Some(true), false) => news.push(HookEvent::MajorityLost),
                (Some(false), true) => news.push(HookEvent::MajorityRegained),
                _ => {}
            }
            self.majority = Some(majority);
        }
        if now.ready != self.ready {
            self.ready = now.ready;
            news.push(if now.ready { HookEvent::Ready } else { HookEvent::NotReady });
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_changes_are_news() {
        use BrokerStatus::{Down, Unknown, Up};
        let mut conditions = Conditions::default();
        let mut observe = |ready, majority, broker| {
            let news = conditions.observe(Now { ready, majority, broker });
            news.into_iter().map(HookEvent::name).collect::<Vec<_>>()
        };
        assert!(observe(false, None, Unknown).is_empty());
        assert!(observe(false, Some(false), Unknown).is_empty(), "it never had a majority");
        assert_eq!(observe(true, Some(true), Up), ["broker_up", "majority_regained", "ready"]);
        assert!(observe(true, Some(true), Up).is_empty());
        assert!(observe(true, None, Unknown).is_empty());
        assert_eq!(observe(true, Some(false), Down), ["broker_down", "majority_lost"]);
        assert_eq!(observe(false, Some(false), Down), ["not_ready"]);
    }
}
