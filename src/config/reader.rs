//! Takes values out of the tree: finds them, reads them, and collects what is wrong
//! instead of stopping at the first fault.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::dialect::FULL_WIDTH;
use super::error::{Finding, Origin, Warning};
use super::keys::{KEYS, Key, Unset};
use super::loader::{Files, reason};
use super::nearest::near;
use super::tree::{Node, Value};
use super::units;

/// Secrets of at least so many bytes are looked for in what other keys show; shorter
/// ones would blot out words.
const SCRUBBED: usize = 8;

/// One line of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Setting {
    /// The key.
    pub path: String,
    /// The value as HOCON; stars for a secret.
    pub value: String,
    /// Where it came from.
    pub origin: Origin,
}

/// Why a text is refused, if the table's words do not say it all.
#[derive(Debug, Default)]
pub(super) struct Fault {
    /// Replaces "found `text`".
    pub(super) found: Option<String>,
    pub(super) hint: Option<String>,
}

impl Fault {
    pub(super) fn hint(hint: impl Into<String>) -> Self {
        Self { found: None, hint: Some(hint.into()) }
    }

    pub(super) fn found(found: impl Into<String>) -> Self {
        Self { found: Some(found.into()), hint: None }
    }
}

/// A value with its place, for checks that concern several keys.
#[derive(Clone, Debug)]
pub(super) struct Read<T> {
    pub(super) value: T,
    pub(super) origin: Origin,
    /// The key as it was written.
    pub(super) key: String,
}

pub(super) struct Reader<'a> {
    root: &'a Node,
    env: &'a HashMap<String, String>,
    files: &'a dyn Files,
    /// Stands for `EMQX_ETC_DIR` where the environment has none.
    etc_dir: &'a Path,
    /// Texts that another key may hold too, through a substitution.
    secrets: Vec<&'a str>,
    pub(super) errors: Vec<Finding>,
    pub(super) warnings: Vec<Warning>,
    pub(super) settings: Vec<Setting>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        root: &'a Node,
        env: &'a HashMap<String, String>,
        files: &'a dyn Files,
        etc_dir: &'a Path,
    ) -> Self {
        let (errors, warnings, settings) = Default::default();
        let mut secrets = Vec::new();
        for key in KEYS.iter().filter(|key| key.secret) {
            for path in [Some(key.path), key.alias].into_iter().flatten() {
                root.at(path).into_iter().for_each(|node| node.texts(&mut secrets));
            }
        }
        secrets.retain(|secret| secret.len() >= SCRUBBED && !secret.starts_with("file://"));
        Self { root, env, files, etc_dir, secrets, errors, warnings, settings }
    }

    /// The node of a key, under its name or its old name.
    pub(super) fn find(&self, key: &Key) -> Option<(&'a Node, &'static str)> {
        let by = |path: &'static str| Some((self.root.at(path)?, path));
        by(key.path).or_else(|| by(key.alias?))
    }

    pub(super) fn has(&self, path: &str) -> bool {
        self.root.at(path).is_some()
    }

    pub(super) fn error(&mut self, at: &Read<impl Sized>, message: String, hint: &str) {
        self.errors.push(Finding {
            origin: at.origin.clone(),
            key: at.key.clone(),
            message: self.scrub(message),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        });
    }

    pub(super) fn warn(&mut self, at: &Read<impl Sized>, message: String, hint: &str) {
        self.warnings.push(Finding {
            origin: at.origin.clone(),
            key: at.key.clone(),
            message: self.scrub(message),
            hint: (!hint.is_empty()).then(|| hint.to_owned()),
        });
    }

    fn fault(&mut self, key: &Key, at: &str, origin: &Origin, text: &str, fault: Fault) {
        let found = match fault.found {
            Some(found) => found,
            None if key.secret => "a secret that is not allowed".to_owned(),
            None => format!("`{}`", shorten(text)),
        };
        self.errors.push(Finding {
            origin: origin.clone(),
            key: at.to_owned(),
            message: format!("found {}, allowed: {}", self.scrub(found), key.allowed),
            hint: full_width(text).or(fault.hint).map(|hint| self.scrub(hint)),
        });
    }

    fn setting(&mut self, key: &Key, value: String, origin: &Origin) {
        let held = self.secrets.iter().any(|secret| value.contains(secret));
        let value = if held { stars() } else { value };
        self.settings.push(Setting { path: key.path.to_owned(), value, origin: origin.clone() });
    }

    fn scrub(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| text.replace(secret, "******"))
    }

    /// A scalar; `None` if unset or refused.
    pub(super) fn scalar<T>(
        &mut self,
        key: &Key,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Read<T>> {
        let (text, origin, path) = match self.find(key) {
            Some((node, path)) => match &node.value {
                Value::Text(text) => (text.clone(), node.origin.clone(), path),
                _ => {
                    self.fault(key, path, &node.origin, "", Fault::found(kind(&node.value)));
                    return None;
                }
            },
            None => match key.unset {
                Unset::Text(text) => (text.to_owned(), Origin::Default, key.path),
                _ => return None,
            },
        };
        match read(&text) {
            Ok(value) => {
                self.setting(key, if key.secret { stars() } else { quote(&text) }, &origin);
                Some(Read { value, origin, key: path.to_owned() })
            }
            Err(fault) => {
                self.fault(key, path, &origin, &text, fault);
                None
            }
        }
    }

    /// A list, or a text with commas between the items; every item is read, and every
    /// fault reported. `None` if unset or refused.
    pub(super) fn list<T>(
        &mut self,
        key: &Key,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Read<Vec<Read<T>>>> {
        let (items, origin, path) = match self.find(key) {
            Some((node, path)) => (self.items(key, path, node)?, node.origin.clone(), path),
            None => {
                let Unset::List(items) = key.unset else { return None };
                let of = |text: &&str| ((*text).to_owned(), Origin::Default);
                (items.iter().map(of).collect(), Origin::Default, key.path)
            }
        };
        let mut values = Vec::with_capacity(items.len());
        let mut refused = false;
        for (text, origin) in &items {
            match read(text) {
                Ok(value) => {
                    values.push(Read { value, origin: origin.clone(), key: path.to_owned() })
                }
                Err(fault) => {
                    self.fault(key, path, origin, text, fault);
                    refused = true;
                }
            }
        }
        if refused {
            return None;
        }
        let shown = |(text, _): &(String, _)| if key.secret { stars() } else { quote(text) };
        let shown = items.iter().map(shown).collect::<Vec<_>>().join(", ");
        self.setting(key, format!("[{shown}]"), &origin);
        Some(Read { value: values, origin, key: path.to_owned() })
    }

    fn items(&mut self, key: &Key, path: &str, node: &Node) -> Option<Vec<(String, Origin)>> {
        match &node.value {
            Value::Text(text) => Some(
                text.split(',')
                    .map(str::trim)
                    .filter(|item| !item.is_empty())
                    .map(|item| (item.to_owned(), node.origin.clone()))
                    .collect(),
            ),
            Value::List(nodes) => {
                let mut items = Vec::with_capacity(nodes.len());
                for node in nodes {
                    if let Value::Text(text) = &node.value {
                        items.push((text.clone(), node.origin.clone()));
                    } else {
                        let fault = Fault::found(format!("{} in the list", kind(&node.value)));
                        self.fault(key, path, &node.origin, "", fault);
                    }
                }
                (items.len() == nodes.len()).then_some(items)
            }
            Value::Object(_) => {
                self.fault(key, path, &node.origin, "", Fault::found(kind(&node.value)));
                None
            }
        }
    }

    /// A secret, or several: `file:///path` is replaced by what the file holds. `read`
    /// gets that, and the file it was in.
    pub(super) fn secrets<T>(
        &mut self,
        key: &Key,
        read: impl Fn(&str, Option<PathBuf>) -> Result<T, Fault>,
    ) -> Option<Read<Vec<T>>> {
        let (node, path) = self.find(key)?;
        let items = match &node.value {
            // A comma may be part of a secret: only a list holds several.
            Value::Text(text) => vec![(text.clone(), node.origin.clone())],
            _ => self.items(key, path, node)?,
        };
        let mut secrets = Vec::new();
        let mut shown = Vec::new();
        for (text, origin) in &items {
            match self.secret(text).and_then(|(text, file)| read(&text, file)) {
                Ok(secret) => {
                    shown.push(if text.starts_with("file://") { quote(text) } else { stars() });
                    secrets.push(secret);
                }
                Err(fault) => self.fault(key, path, origin, "", fault),
            }
        }
        if secrets.len() < items.len() {
            return None;
        }
        let shown = match &node.value {
            Value::Text(_) => shown.concat(),
            _ => format!("[{}]", shown.join(", ")),
        };
        self.setting(key, shown, &node.origin);
        Some(Read { value: secrets, origin: node.origin.clone(), key: path.to_owned() })
    }

    fn secret(&self, text: &str) -> Result<(String, Option<PathBuf>), Fault> {
        let Some(path) = text.strip_prefix("file://") else { return Ok((text.to_owned(), None)) };
        let path = PathBuf::from(self.expand(path).0);
        let content = self.files.read(&path).map_err(|error| Fault {
            found: Some(format!("`{text}`, which cannot be read: {}", reason(&error))),
            hint: Some("the file must exist and be readable by this process".to_owned()),
        })?;
        let content = content.strip_suffix('\n').unwrap_or(&content);
        Ok((content.strip_suffix('\r').unwrap_or(content).to_owned(), Some(path)))
    }

    /// A path with `${NAME}` expanded from the environment.
    pub(super) fn path(&mut self, key: &Key) -> Option<Read<PathBuf>> {
        let read = self.scalar(key, |text| match text {
            "" => Err(Fault::found("nothing")),
            text if text.contains('\0') => Err(Fault::found("a NUL character")),
            text => Ok(text.to_owned()),
        })?;
        let (text, unknown) = self.expand(&read.value);
        if let Some(name) = unknown {
            let name = shorten(&name);
            let message = format!("`${{{name}}}` is not set in the environment and stays as it is");
            self.warn(&read, message, "set it, or write the path out");
        }
        Some(Read { value: text.into(), origin: read.origin, key: read.key })
    }

    /// Expands `${NAME}`; the first name that is not set, too.
    pub(super) fn expand(&self, text: &str) -> (String, Option<String>) {
        let mut out = String::new();
        let mut unknown = None;
        let mut rest = text;
        while let Some((before, behind)) = rest.split_once("${") {
            let Some((name, after)) = behind.split_once('}') else { break };
            out.push_str(before);
            match self.env.get(name) {
                Some(value) => out.push_str(value),
                None if name == "EMQX_ETC_DIR" => out.push_str(&self.etc_dir.to_string_lossy()),
                None => {
                    out.push_str(&format!("${{{name}}}"));
                    unknown.get_or_insert_with(|| name.to_owned());
                }
            }
            rest = after;
        }
        out.push_str(rest);
        (out, unknown)
    }

    /// Notes what a key comes to that nobody set.
    pub(super) fn derived(&mut self, key: &Key, value: impl std::fmt::Display, list: bool) {
        if self.find(key).is_none() {
            let value = quote(&value.to_string());
            let value = if list { format!("[{value}]") } else { value };
            self.setting(key, value, &Origin::Default);
        }
    }

    /// A key that must be set is not.
    pub(super) fn missing(&mut self, key: &Key, hint: &str) {
        self.errors.push(Finding {
            origin: Origin::Default,
            key: key.path.to_owned(),
            message: format!("found nothing, allowed: {}", key.allowed),
            hint: Some(hint.to_owned()),
        });
    }
}

/// One of a few words, in any letter case.
pub(super) fn word<T: Copy>(words: &[(&str, T)], text: &str) -> Result<T, Fault> {
    words
        .iter()
        .find(|(word, _)| word.eq_ignore_ascii_case(text))
        .map(|(_, value)| *value)
        .ok_or_else(|| match near(text, words.iter().map(|(word, _)| *word)) {
            Some(word) => Fault::hint(format!("did you mean `{word}`?")),
            None => Fault::default(),
        })
}

pub(super) fn boolean(text: &str) -> Result<bool, Fault> {
    let words = [("true", true), ("false", false), ("on", true), ("off", false)];
    word(&[&words[..], &[("yes", true), ("no", false)]].concat(), text)
}

/// A whole number within bounds, both included.
pub(super) fn integer(min: u64, max: u64) -> impl Fn(&str) -> Result<u64, Fault> {
    move |text| match text.trim().parse::<u64>() {
        Ok(n) if (min..=max).contains(&n) => Ok(n),
        _ => Err(Fault::default()),
    }
}

/// A duration within bounds, both included.
pub(super) fn duration_within(text: &str, min: Duration, max: Duration) -> Result<Duration, Fault> {
    units::duration(text).filter(|d| (min..=max).contains(d)).ok_or_else(Fault::default)
}

/// A size within bounds, both included.
pub(super) fn size_within(text: &str, min: u64, max: u64) -> Result<usize, Fault> {
    units::size(text)
        .filter(|n| (min..=max).contains(n))
        .and_then(|n| usize::try_from(n).ok())
        .ok_or_else(Fault::default)
}

/// A value as HOCON shows it: bare where that is unmistakable.
pub(super) fn quote(text: &str) -> String {
    let bare = !text.is_empty()
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        && !text.starts_with('-');
    if bare { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

fn full_width(text: &str) -> Option<String> {
    let c = text.chars().find(|c| FULL_WIDTH.contains(*c))?;
    Some(format!("`{c}` is a full-width character; write the ASCII one"))
}

fn stars() -> String {
    "\"******\"".to_owned()
}

/// What is repeated in a message is one line of bounded length.
pub(super) fn shorten(text: &str) -> String {
    const LONGEST: usize = 120;
    let escaped: String = text.chars().take(LONGEST).flat_map(char::escape_debug).collect();
    let escaped = escaped.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().count() > LONGEST { format!("{escaped}…") } else { escaped }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Text(_) => "a text",
        Value::List(_) => "a list",
        Value::Object(_) => "a block { … }",
    }
}
