//! The board of standing troubles: what went wrong at run time, does not stop the agent,
//! and is wrong still.
//!
//! Whoever has a trouble that lasts (a file that cannot be rendered, state that cannot be
//! saved) sets it here under the name of its check, and clears it when it is over. Whoever
//! tells operators (`/readyz?verbose`, `muster doctor`, the metrics) reads it. Setting and
//! clearing also writes the log, so that nobody else has to.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tracing::{info, warn};

use crate::escape::escaped;

/// Checks on the board at most. Their names are ours or come from the configuration
/// (a hook, a rendered file), and a configuration has some dozens; a further one is
/// logged and not kept.
pub const MAX_NOTICES: usize = 256;

/// A trouble that stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The name of the check that fails: a word, or a word and what it is about.
    pub check: Cow<'static, str>,
    /// What happened, why, and what to do, for people.
    pub text: String,
    /// Since when, by the wall clock; a new text does not change it.
    pub since: SystemTime,
}

/// The board. Shared by reference; nothing here blocks for longer than a copy of it takes.
#[derive(Debug, Default)]
pub struct Notices(Mutex<BTreeMap<Cow<'static, str>, Notice>>);

impl Notices {
    /// Puts a trouble on the board, in place of the check's last one. A text that differs
    /// from that is logged, once; texts are therefore to be free of counts and times that
    /// change by themselves. What a stranger chose in it is made harmless, and where it does
    /// not say what to do, that is added behind an arrow.
    pub fn set(&self, check: impl Into<Cow<'static, str>>, text: &str) {
        let (check, mut text) = (check.into(), escaped(text));
        if let Some(remedy) = remedy(&check).filter(|_| !text.contains(" -> ")) {
            text = format!("{text} -> {remedy}");
        }
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if board.get(&check).is_some_and(|notice| notice.text == text) {
            return;
        }
        let kept = board.len();
        match board.get_mut(&check) {
            Some(notice) => notice.text.clone_from(&text),
            None if kept < MAX_NOTICES => {
                let since = SystemTime::now();
                let notice = Notice { check: check.clone(), text: text.clone(), since };
                board.insert(check.clone(), notice);
            }
            None => {}
        }
        drop(board);
        warn!(%check, "{text}");
    }

    /// Puts these texts on the board as one trouble; none of them: it is over.
    pub fn tell(&self, check: &'static str, texts: &[String]) {
        match texts {
            [] => self.clear(check),
            texts => self.set(check, &texts.join("; ")),
        }
    }

    /// Takes a trouble off the board: it is over. Says so in the log, where it stood.
    pub fn clear(&self, check: &str) {
        let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(over) = board.remove(check) else { return };
        drop(board);
        info!(%check, "over: {}", over.text);
    }

    /// Every standing trouble, sorted by check.
    #[must_use]
    pub fn all(&self) -> Vec<Notice> {
        let board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        board.values().cloned().collect()
    }
}

/// What to do about a check, where that does not depend on what happened.
fn remedy(check: &str) -> Option<&'static str> {
    Some(match check.split(' ').next().unwrap_or_default() {
        "broker" => "start the broker, or mend agent.broker.probe",
        "broker_link" => {
            "start the broker as a node of that name, with the agent's cookie and proto_dist"
        }
        "broker_view" => "see emqx ctl cluster status at each broker, and what cuts their links",
        "render" => "mend what the text names; muster render --dry-run tries it",
        "broker_drive" => "do what the text says; it is tried again by itself",
        "hook" => "mend the program or the URL; its output is in the agent's log",
        "hook_dropped" => "have the hook take less time, or tell it of fewer events",
        "dns_hosts" => "name hosts that this machine can resolve",
        "dns_udp" | "dns_tcp" => "see the limit of open files and the network interface",
        "crashed" | "dns_answer" => "report it with the agent's log",
        "nameservers" => "mend agent.discovery.dns.nameservers",
        "followers" => "raise the limit of threads (TasksMax), and restart the agent",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(notices: &Notices) -> Vec<(String, String)> {
        notices.all().into_iter().map(|notice| (notice.check.into_owned(), notice.text)).collect()
    }

    #[test]
    fn a_trouble_stands_until_it_is_cleared() {
        let notices = Notices::default();
        notices.set("state", "the disk is full");
        notices.set(format!("render {}", "/a"), "bad\ntemplate");
        // Behind the render's, by name.
        let since = notices.all()[1].since;
        notices.set("state", "the disk is gone");
        notices.set("hook /b", "it failed -> mend its file");
        let render =
            "bad\\u{a}template -> mend what the text names; muster render --dry-run tries it";
        let hook = ("hook /b", "it failed -> mend its file");
        let stand = [hook, ("render /a", render), ("state", "the disk is gone")]
            .map(|(check, text)| (check.to_owned(), text.to_owned()));
        assert_eq!(texts(&notices), stand);
        assert_eq!(notices.all()[2].since, since, "the trouble is the same, in other words");
        notices.clear("state");
        notices.clear("never set");
        assert_eq!(texts(&notices), stand[..2]);
    }

    #[test]
    fn the_board_is_bounded() {
        let notices = Notices::default();
        for check in 0..=MAX_NOTICES {
            notices.set(check.to_string(), "trouble");
        }
        assert_eq!(notices.all().len(), MAX_NOTICES);
        notices.set("0", "another");
        assert_eq!(notices.all()[0].text, "another");
    }
}
