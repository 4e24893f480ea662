//! Everybody's news, as they come.

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::agent::Agent;
use super::wait::{timed, try_eventually};

/// What one agent said of one member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    pub by: String,
    pub node: String,
    /// `up`, `suspect`, `down`; `gone`: no member any more.
    pub to: String,
    pub reason: String,
    /// On whose word.
    pub word_of: String,
}

/// Reads the event streams of agents, each from its oldest event, until they end.
#[derive(Debug)]
pub struct Watch {
    news: Receiver<Said>,
    seen: Vec<Said>,
}

impl Watch {
    #[track_caller]
    pub fn of(agents: &[Agent]) -> Self {
        Self::of_each(agents.iter())
    }

    /// As [`Watch::of`].
    #[track_caller]
    pub fn of_each<'a>(agents: impl Iterator<Item = &'a Agent>) -> Self {
        let (sender, news) = channel();
        for agent in agents {
            let mut events = agent.events().unwrap();
            let (by, sender) = (agent.name().to_owned(), sender.clone());
            // Ends with the stream, which ends with the agent.
            thread::spawn(move || {
                while let Ok(event) = events.next() {
                    let said = said(&by, &event.event, &event.data);
                    if sender.send(said).is_err() {
                        return;
                    }
                }
            });
        }
        Self { news, seen: Vec::new() }
    }

    /// Everything said until now.
    pub fn so_far(&mut self) -> &[Said] {
        self.seen.extend(self.news.try_iter());
        &self.seen
    }

    /// Forgets what was said until now.
    pub fn forget(&mut self) {
        self.so_far();
        self.seen.clear();
    }

    /// Everything that was said of members being no longer up, or no longer there.
    pub fn bad_news(&mut self) -> Vec<Said> {
        self.so_far().iter().filter(|said| said.to != "up").cloned().collect()
    }

    /// Waits until all of these have said that a member is down; returns how long it took.
    #[track_caller]
    pub fn wait_down(&mut self, node: &str, by: &[String], within: Duration) -> Duration {
        let mut silent: BTreeSet<&String> = by.iter().collect();
        let (all, time) = timed(|| {
            try_eventually(within, || {
                for said in self.so_far() {
                    if said.node == node && said.to == "down" {
                        silent.remove(&said.by);
                    }
                }
                silent.is_empty().then_some(())
            })
        });
        assert!(all.is_some(), "after {time:?} not said down by {silent:?}; {:?}", self.bad_news());
        time
    }
}

fn said(by: &str, event: &str, data: &str) -> Said {
    let data: Value = serde_json::from_str(data).unwrap_or_default();
    let text = |key: &str| data[key].as_str().unwrap_or_default().to_owned();
    let to = match (event, data["to"].as_str()) {
        // Its reader fell behind: nothing may be concluded.
        ("reset", _) => "reset".to_owned(),
        (_, Some(status)) => status.to_owned(),
        (_, None) => "gone".to_owned(),
    };
    let (node, reason, word_of) = (text("node"), text("reason"), text("by"));
    Said { by: by.to_owned(), node, to, reason, word_of }
}
