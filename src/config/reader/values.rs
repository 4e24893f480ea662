//! Texts to values: what the keys' readers are made of.

use std::time::Duration;

use super::super::nearest::near;
use super::super::units;
use super::Fault;

/// One of a few words, in any letter case.
pub(in crate::config) fn word<T: Copy>(words: &[(&str, T)], text: &str) -> Result<T, Fault> {
    words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text))
        .map(|(_, value)| *value)
        .ok_or_else(|| {
            let known = || words.iter().map(|(word, _)| *word);
            let lower = text.to_ascii_lowercase();
            let meant = MEANT.iter().filter(|(said, _)| *said == lower).map(|(_, word)| *word);
            let mut meant = meant.filter(|meant| known().any(|word| word == *meant));
            match meant.next().or_else(|| near(text, known())) {
                Some(word) => Fault::hint(format!("did you mean `{word}`?")),
                None => Fault::default(),
            }
        })
}

/// What people write, and what they mean by it where that is one of the words.
const MEANT: &[(&str, &str)] = &[
    ("kubernetes", "k8s"),
    ("multicast", "mcast"),
    ("etcd3", "etcd"),
    ("none", "manual"),
    ("single", "singleton"),
    ("standalone", "singleton"),
    ("seeds", "static"),
    ("tcp", "inet_tcp"),
    ("tcp6", "inet6_tcp"),
    ("inet6", "inet6_tcp"),
    ("tls", "inet_tls"),
    ("ssl", "inet_tls"),
    ("inet_ssl", "inet_tls"),
    ("tls6", "inet6_tls"),
    ("replica", "replicant"),
    ("follower", "replicant"),
    ("leader", "core"),
    ("master", "core"),
    ("enable", "true"),
    ("enabled", "true"),
    ("1", "true"),
    ("disable", "false"),
    ("disabled", "false"),
    ("0", "false"),
    ("pod_ip", "ip"),
    ("address", "ip"),
    ("notice", "info"),
    ("critical", "error"),
    ("plain", "text"),
];

pub(in crate::config) fn boolean(text: &str) -> Result<bool, Fault> {
    let words = [("true", true), ("false", false), ("on", true), ("off", false)];
    // As in EMQX, blanks around it change nothing.
    word(&[&words[..], &[("yes", true), ("no", false)]].concat(), text.trim())
}

/// A whole number within bounds, both included.
pub(in crate::config) fn integer<T: TryFrom<u64>>(
    min: u64,
    max: u64,
) -> impl Fn(&str) -> Result<T, Fault> {
    move |text| {
        let n = text.trim().parse::<u64>().ok().filter(|n| (min..=max).contains(n));
        n.and_then(|n| T::try_from(n).ok()).ok_or_else(Fault::default)
    }
}

/// A text of any kind, at most so many bytes.
pub(in crate::config) fn any(longest: usize) -> impl Fn(&str) -> Result<String, Fault> {
    move |text| (text.len() <= longest).then(|| text.to_owned()).ok_or_else(Fault::default)
}

/// Builds a part of the configuration out of what was read of its keys: all of them are
/// read, so that every fault is found; one that was refused makes it `None`.
macro_rules! all {
    ($part:ident { $($field:ident: $read:expr),* $(,)? }) => {{
        $(let $field = $read;)*
        Some($part { $($field: $field?),* })
    }};
}
pub(in crate::config) use all;

/// A duration within bounds, both included, as milliseconds.
pub(in crate::config) fn duration(min: u64, max: u64) -> impl Fn(&str) -> Result<Duration, Fault> {
    let bounds = Duration::from_millis(min)..=Duration::from_millis(max);
    move |text| units::duration(text).filter(|d| bounds.contains(d)).ok_or_else(Fault::default)
}

/// A size within bounds, both included.
pub(in crate::config) fn size(min: u64, max: u64) -> impl Fn(&str) -> Result<usize, Fault> {
    move |text| {
        let size = units::size(text).filter(|n| (min..=max).contains(n));
        size.and_then(|n| usize::try_from(n).ok()).ok_or_else(Fault::default)
    }
}
