//! A text that must not be printed, and texts that may hold one.

use std::borrow::Cow;
use std::fmt;

/// What is shown in a secret's place.
const STARS: &str = "******";

/// A cookie, password or token. `Debug` and `Display` print stars; only
/// [`Secret::expose`] shows the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a text that must not be printed.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STARS)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(STARS)
    }
}

/// A URL as it may be shown: without a user name and password, and without what stands behind
/// its path. Tokens of web hooks are there.
///
/// Takes whatever was written as one, be it malformed, and shows too little rather than a
/// password.
#[must_use]
pub fn shown_url(url: &str) -> Cow<'_, str> {
    let (scheme, rest) = url.split_at(url.find("://").map_or(0, |at| at + "://".len()));
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map(|(_, host)| host);
    if host.is_none() && path.contains('@') && !is_host(authority) {
        // The sign that ends the authority may stand in a password.
        return Cow::Owned(format!("{scheme}{STARS}"));
    }
    let more = path.find(['?', '#']).filter(|at| at + 1 < path.len());
    if host.is_none() && more.is_none() {
        return Cow::Borrowed(url);
    }
    let user = if host.is_some() { format!("{STARS}@") } else { String::new() };
    let host = host.unwrap_or(authority);
    Cow::Owned(match more {
        Some(at) => format!("{scheme}{user}{host}{}{STARS}", &path[..=at]),
        None => format!("{scheme}{user}{host}{path}"),
    })
}

/// Whether this is a host, with or without a port.
fn is_host(authority: &str) -> bool {
    match authority.rsplit_once(':') {
        Some((host, port)) => {
            port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']'))
        }
        None => true,
    }
}

/// A text as it may be shown: every URL in it, up to a blank, as by [`shown_url`].
#[must_use]
pub fn shown_urls(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let shown = |piece: &'_ str| -> String {
        let word = piece.trim_end();
        let shown = if word.contains("://") { shown_url(word) } else { Cow::Borrowed(word) };
        format!("{shown}{}", &piece[word.len()..])
    };
    Cow::Owned(text.split_inclusive(char::is_whitespace).map(shown).collect())
}

#[cfg(test)]
mod tests;
