//! The cookies: who knows one may speak to the cluster.
//!
//! [`Cookies`] is a handle that everybody holds who offers or checks a cookie. Those that
//! come from files may be replaced while the agent runs; every handle sees it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::secret::Secret;

/// Longest cookie, bytes; an Erlang atom holds no more.
pub const MAX_COOKIE: usize = 255;

/// Most cookies in one file. A rotation needs two, and every one of them is tried
/// against each digest that a stranger sends.
pub const MAX_COOKIES: usize = 16;

/// Why a text is no cookie. It never holds the text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CookieError {
    /// Nothing at all.
    #[error("an empty cookie")]
    Empty,
    /// Longer than [`MAX_COOKIE`].
    #[error("a cookie of {0} bytes")]
    TooLong(usize),
    /// Holds a character that EMQX refuses, since its scripts cannot pass it on.
    #[error("a cookie whose character {0} is not allowed")]
    Character(usize),
    /// More than [`MAX_COOKIES`] in one file.
    #[error("{0} cookies, one a line, where at most {MAX_COOKIES} are allowed")]
    TooMany(usize),
}

/// One cookie.
///
/// # Errors
/// [`CookieError`] says what is wrong with it.
pub fn parse(text: &str) -> Result<Secret, CookieError> {
    let refused = |c: char| c.is_control() || c.is_whitespace() || "\\'\"".contains(c);
    if text.is_empty() {
        Err(CookieError::Empty)
    } else if text.len() > MAX_COOKIE {
        Err(CookieError::TooLong(text.len()))
    } else if let Some(at) = text.chars().position(refused) {
        Err(CookieError::Character(at + 1))
    } else {
        Ok(Secret::new(text))
    }
}

/// The cookies of a file, one a line, so that a step of a rotation is one replaced file.
///
/// # Errors
/// [`CookieError`] of the first line that is none.
pub fn parse_file(text: &str) -> Result<Vec<Secret>, CookieError> {
    let text = text.trim_end_matches(['\r', '\n']);
    match text.lines().count() {
        0 => Err(CookieError::Empty),
        1..=MAX_COOKIES => text.lines().map(parse).collect(),
        more => Err(CookieError::TooMany(more)),
    }
}

/// Where a part of `node.cookie` comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The configuration itself.
    Text(Secret),
    /// A file that holds one or more.
    File(PathBuf),
}

/// The cookies in use. Cheap to clone; every clone sees a change.
#[derive(Clone)]
pub struct Cookies(Arc<Inner>);

struct Inner {
    sources: Vec<Source>,
    /// How many of them `node.cookie` names.
    own: usize,
    current: watch::Sender<Arc<[Secret]>>,
}

impl Cookies {
    /// `current` is what the sources hold: never empty in a configuration that was
    /// checked; the first is offered, any is accepted. `own`: how many of the sources
    /// `node.cookie` names; those behind them are `agent.mesh.accept_cookies`.
    #[must_use]
    pub fn new(sources: Vec<Source>, own: usize, current: Vec<Secret>) -> Self {
        Self(Arc::new(Inner { sources, own, current: watch::Sender::new(current.into()) }))
    }

    /// Those in use now.
    #[must_use]
    pub fn current(&self) -> Arc<[Secret]> {
        Arc::clone(&self.0.current.borrow())
    }

    /// Those in use, and every change of them.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Arc<[Secret]>> {
        self.0.current.subscribe()
    }

    /// Where they come from, in order.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.0.sources
    }

    /// The sources that `node.cookie` names, and those of `agent.mesh.accept_cookies`.
    #[must_use]
    pub fn sources_by_key(&self) -> (&[Source], &[Source]) {
        self.0.sources.split_at(self.0.own.min(self.0.sources.len()))
    }

    /// Puts others into use, for new links; says whether they are others.
    pub fn replace(&self, cookies: Vec<Secret>) -> bool {
        self.0.current.send_if_modified(|current| {
            let changed = **current != *cookies;
            if changed {
                *current = cookies.into();
            }
            changed
        })
    }
}

impl fmt::Debug for Cookies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cookies")
            .field("sources", &self.0.sources)
            .field("current", &self.current())
            .finish()
    }
}

/// Cookies that never change.
impl FromIterator<Secret> for Cookies {
    fn from_iter<I: IntoIterator<Item = Secret>>(cookies: I) -> Self {
        let cookies: Vec<_> = cookies.into_iter().collect();
        let sources = cookies.iter().cloned().map(Source::Text).collect();
        Self::new(sources, cookies.len(), cookies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_cookie_a_line() {
        let cookies = |texts: &[&str]| Ok(texts.iter().map(|text| Secret::new(*text)).collect());
        assert_eq!(parse_file("one"), cookies(&["one"]));
        assert_eq!(parse_file("one\n"), cookies(&["one"]));
        assert_eq!(parse_file("new\r\nold\r\n"), cookies(&["new", "old"]));
        assert_eq!(parse_file(""), Err(CookieError::Empty));
        assert_eq!(parse_file("\n"), Err(CookieError::Empty));
        assert_eq!(parse_file("new\n\nold\n"), Err(CookieError::Empty));
        assert_eq!(parse_file("new\no ld"), Err(CookieError::Character(2)));
        assert_eq!(parse_file(&"x".repeat(256)), Err(CookieError::TooLong(256)));
        assert_eq!(parse_file(&"x\n".repeat(17)), Err(CookieError::TooMany(17)));
    }

    #[test]
    fn a_change_is_seen_by_every_handle_and_never_printed() {
        let cookies: Cookies = [Secret::new("old")].into_iter().collect();
        let (other, mut changes) = (cookies.clone(), cookies.changes());
        assert!(!cookies.replace(vec![Secret::new("old")]));
        assert!(!changes.has_changed().unwrap());
        assert!(cookies.replace(vec![Secret::new("new"), Secret::new("old")]));
        assert!(changes.has_changed().unwrap());
        assert_eq!(changes.borrow_and_update().len(), 2);
        assert_eq!(other.current()[0].expose(), "new");
        assert!(!format!("{cookies:?}").contains("old"));
    }
}
