//! `ssl_dist.conf`: the TLS options of an Erlang node's distribution, typed.
//!
//! Pure: text in, options out. The options are those of OTP's `ssl` application
//! ("Using TLS for Erlang Distribution", ssl User's Guide); what muster does not use
//! is named in [`DistOptions::warnings`].

use std::path::PathBuf;

use super::terms::{self, Kind, Pos, Term, TermError};
use crate::secret::Secret;

/// Longest file read, bytes.
pub const MAX_FILE: usize = 256 * 1024;

/// Chain length the certificate verifier can follow at most, whatever `depth` says.
pub const MAX_CHAIN_DEPTH: u8 = 6;

/// Both halves of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DistOptions {
    /// For links that are accepted.
    pub server: SideOptions,
    /// For links that are dialled.
    pub client: SideOptions,
    /// What was read and is not used, one line each.
    pub warnings: Vec<String>,
}

/// The options of one direction; `None` where the file is silent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SideOptions {
    /// `certfile`: the chain, own certificate first.
    pub certfile: Option<PathBuf>,
    /// `keyfile`; without it the key stands in `certfile`.
    pub keyfile: Option<PathBuf>,
    /// `password` of the key.
    pub password: Option<Secret>,
    /// `cacertfile`: the CAs a peer's chain may end at.
    pub cacertfile: Option<PathBuf>,
    /// `verify`.
    pub verify: Option<Verify>,
    /// `fail_if_no_peer_cert`.
    pub fail_if_no_peer_cert: Option<bool>,
    /// `versions`.
    pub versions: Option<Versions>,
    /// `depth`: intermediate certificates allowed between a peer's and its CA's.
    pub depth: Option<u8>,
    /// `server_name_indication`.
    pub server_name_indication: Option<Sni>,
}

/// `verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The peer's certificate must be good.
    Peer,
    /// Anything goes.
    None,
}

/// `versions` that muster speaks; at least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Versions {
    /// `'tlsv1.2'`.
    pub tls12: bool,
    /// `'tlsv1.3'`.
    pub tls13: bool,
}

impl Default for Versions {
    fn default() -> Self {
        Self { tls12: true, tls13: true }
    }
}

/// `server_name_indication`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sni {
    /// Send none.
    Disable,
    /// Send this name instead of the peer's host.
    Name(String),
}

/// Reads the text of a `ssl_dist.conf`. `etc_dir` replaces `${EMQX_ETC_DIR}` in paths.
///
/// # Errors
/// The first syntax error, or all the options whose value is not allowed, in order.
pub fn parse(text: &str, etc_dir: &str) -> Result<DistOptions, Vec<TermError>> {
    let term = terms::parse(text).map_err(|error| vec![error])?;
    let mut reader = Reader { etc_dir, errors: Vec::new(), warnings: Vec::new() };
    let mut options = reader.file(&term);
    if reader.errors.is_empty() {
        options.warnings = reader.warnings;
        Ok(options)
    } else {
        Err(reader.errors)
    }
}

struct Reader<'a> {
    etc_dir: &'a str,
    errors: Vec<TermError>,
    warnings: Vec<String>,
}

impl Reader<'_> {
    fn error(&mut self, pos: Pos, message: impl Into<String>) {
        self.errors.push(TermError { pos, message: message.into() });
    }

    fn warn(&mut self, pos: Pos, message: &str) {
        self.warnings.push(format!("line {}: {message}", pos.line));
    }

    fn file(&mut self, term: &Term) -> DistOptions {
        let mut options = DistOptions::default();
        let (mut server, mut client) = (false, false);
        for (key, value) in self.proplist(term, "the file") {
            let (seen, side) = match key.as_str() {
                "server" => (&mut server, &mut options.server),
                "client" => (&mut client, &mut options.client),
                _ => {
                    self.error(value.pos, format!("{key:?} is neither server nor client"));
                    continue;
                }
            };
            if std::mem::replace(seen, true) {
                self.error(value.pos, format!("a second {key} section"));
            } else {
                *side = self.side(&key, value);
            }
        }
        options
    }

    /// The pairs of an Erlang property list; a bare atom stands for `{atom, true}`.
    fn proplist<'t>(&mut self, term: &'t Term, whose: &str) -> Vec<(String, Value<'t>)> {
        let Kind::List(elements) = &term.kind else {
            let message =
                format!("{whose} must be a list of {{key, value}}, found {}", term.kind.noun());
            self.error(term.pos, message);
            return Vec::new();
        };
        let mut pairs = Vec::with_capacity(elements.len());
        for element in elements {
            let pos = element.pos;
            match &element.kind {
                Kind::Atom(key) => pairs.push((key.clone(), Value { pos, kind: None })),
                Kind::Tuple(tuple) => match tuple.as_slice() {
                    [Term { kind: Kind::Atom(key), .. }, value] => {
                        let value = Value { pos: value.pos, kind: Some(value) };
                        pairs.push((key.clone(), value));
                    }
                    _ => self.error(pos, "expected {key, value} with an atom as the key"),
                },
                other => {
                    self.error(pos, format!("expected {{key, value}}, found {}", other.noun()));
                }
            }
        }
        pairs
    }

    fn side(&mut self, section: &str, value: Value<'_>) -> SideOptions {
        let mut side = SideOptions::default();
        let Some(term) = value.kind else {
            self.error(value.pos, format!("{section} needs a list of options"));
            return side;
        };
        let mut seen: Vec<String> = Vec::new();
        for (key, value) in self.proplist(term, section) {
            // OTP's proplists:get_value takes the first of several, too.
            if seen.contains(&key) {
                self.warn(value.pos, &format!("{section}: a second {key} is ignored"));
                continue;
            }
            match key.as_str() {
                "certfile" => side.certfile = self.path(&key, value),
                "keyfile" => side.keyfile = self.path(&key, value),
                "cacertfile" => side.cacertfile = self.path(&key, value),
                "password" => {
                    let text = self.text(&key, value).filter(|text| !text.is_empty());
                    side.password = text.map(Secret::new);
                }
                "verify" => {
                    side.verify = self.one_of(
                        &key,
                        value,
                        &[("verify_peer", Verify::Peer), ("verify_none", Verify::None)],
                    );
                }
                "fail_if_no_peer_cert" => {
                    side.fail_if_no_peer_cert =
                        self.one_of(&key, value, &[("true", true), ("false", false)]);
                }
                "versions" => side.versions = self.versions(value),
                "depth" => side.depth = self.depth(section, value),
                "server_name_indication" => side.server_name_indication = self.sni(value),
                _ => self.warn(value.pos, &format!("{section}: {key} is not used by muster")),
            }
            seen.push(key);
        }
        side
    }

    fn text(&mut self, key: &str, value: Value<'_>) -> Option<String> {
        match value.kind.map(|term| &term.kind) {
            Some(Kind::Str(text)) => return Some(text.clone()),
            Some(Kind::Binary(bytes)) => {
                if let Ok(text) = std::str::from_utf8(bytes) {
                    return Some(text.to_owned());
                }
            }
            _ => {}
        }
        let message = format!("{key} must be a string, found {}", value.noun());
        self.error(value.pos, message);
        None
    }

    fn path(&mut self, key: &str, value: Value<'_>) -> Option<PathBuf> {
        let text = self.text(key, value)?;
        let text = text.replace("${EMQX_ETC_DIR}", self.etc_dir);
        if text.is_empty() || text.contains('\0') {
            self.error(value.pos, format!("{key} must be the path of a file"));
            return None;
        }
        if text.contains("${") {
            let message = format!("{key}: only ${{EMQX_ETC_DIR}} is expanded in a path");
            self.error(value.pos, message);
            return None;
        }
        Some(text.into())
    }

    fn one_of<T: Copy>(&mut self, key: &str, value: Value<'_>, allowed: &[(&str, T)]) -> Option<T> {
        let atom = value.atom();
        let found = allowed.iter().find(|(name, _)| Some(*name) == atom);
        if found.is_none() {
            let names: Vec<_> = allowed.iter().map(|(name, _)| *name).collect();
            let found = atom.unwrap_or_else(|| value.noun());
            let message = format!("{key} must be {}, found {found}", names.join(" or "));
            self.error(value.pos, message);
        }
        found.map(|(_, typed)| *typed)
    }

    fn versions(&mut self, value: Value<'_>) -> Option<Versions> {
        const ALLOWED: &str = "versions must be a list of 'tlsv1.2' and 'tlsv1.3'";
        let Some(Term { kind: Kind::List(elements), .. }) = value.kind else {
            self.error(value.pos, format!("{ALLOWED}, found {}", value.noun()));
            return None;
        };
        let mut versions = Versions { tls12: false, tls13: false };
        for element in elements {
            match &element.kind {
                Kind::Atom(atom) if atom == "tlsv1.2" => versions.tls12 = true,
                Kind::Atom(atom) if atom == "tlsv1.3" => versions.tls13 = true,
                Kind::Atom(atom) if matches!(atom.as_str(), "tlsv1" | "tlsv1.1" | "sslv3") => {
                    self.warn(element.pos, &format!("{atom} is broken and not spoken by muster"));
                }
                other => {
                    let found = match other {
                        Kind::Atom(atom) => atom,
                        other => other.noun(),
                    };
                    self.error(element.pos, format!("{ALLOWED}, found {found}"));
                    return None;
                }
            }
        }
        if versions.tls12 || versions.tls13 {
            return Some(versions);
        }
        self.error(value.pos, format!("{ALLOWED}, and one of them at least"));
        None
    }

    fn depth(&mut self, section: &str, value: Value<'_>) -> Option<u8> {
        let depth = match value.kind.map(|term| &term.kind) {
            Some(Kind::Int(depth)) => u64::try_from(*depth).ok(),
            _ => None,
        };
        let Some(depth) = depth else {
            self.error(value.pos, "depth must be an integer that is not negative");
            return None;
        };
        let capped = u8::try_from(depth).unwrap_or(u8::MAX).min(MAX_CHAIN_DEPTH);
        if u64::from(capped) < depth {
            let message = format!("{section}: depth is at most {MAX_CHAIN_DEPTH} here");
            self.warn(value.pos, &message);
        }
        Some(capped)
    }

    fn sni(&mut self, value: Value<'_>) -> Option<Sni> {
        if value.atom() == Some("disable") {
            return Some(Sni::Disable);
        }
        let ok = |name: &str| rustls::pki_types::ServerName::try_from(name).is_ok();
        match value.kind.map(|term| &term.kind) {
            Some(Kind::Str(name)) if ok(name) => Some(Sni::Name(name.clone())),
            _ => {
                self.error(
                    value.pos,
                    "server_name_indication must be disable, or a DNS name or an address as a string",
                );
                None
            }
        }
    }
}

/// The value of a pair; `None` in it: the `true` of a bare atom.
#[derive(Clone, Copy)]
struct Value<'t> {
    pos: Pos,
    kind: Option<&'t Term>,
}

impl<'t> Value<'t> {
    fn atom(self) -> Option<&'t str> {
        match self.kind {
            None => Some("true"),
            Some(Term { kind: Kind::Atom(atom), .. }) => Some(atom),
            Some(_) => None,
        }
    }

    fn noun(self) -> &'static str {
        self.kind.map_or("an atom", |term| term.kind.noun())
    }
}

#[cfg(test)]
mod tests;
