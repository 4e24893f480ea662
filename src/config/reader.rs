//! Takes values out of the tree: finds them, reads them, and collects what is wrong
//! instead of stopping at the first fault.

mod forms;
mod values;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::error::{Finding, Origin, Warning};
use super::hocon::{FULL_WIDTH, Words};
use super::keys::{CLUSTER_DESCRIPTION, KEYS, Key, Unset};
use super::loader::Files;
use super::tree::{Node, Value};
use crate::secret::{shown_url, shown_urls};

/// Secrets of at least so many bytes are looked for in what other keys show; shorter
/// ones would blot out words.
const SCRUBBED: usize = 8;

pub(super) use values::{all, any, boolean, duration, integer, size, word};

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

pub(super) struct Reader<'a> {
    root: &'a Node,
    env: &'a HashMap<String, String>,
    files: &'a dyn Files,
    /// Stands for `EMQX_ETC_DIR` where the environment has none.
    etc_dir: &'a Path,
    /// The block of a list that is being read, and how many stand before it.
    item: Option<(usize, &'a Node)>,
    /// Secrets, which another key may hold too.
    secrets: Vec<&'a str>,
    /// The written texts that secrets are put together from, wherever they are copied to.
    secret_ids: HashSet<u32>,
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
        let mut texts = Vec::new();
        for key in KEYS.iter().filter(|key| key.secret) {
            for path in [Some(key.path), key.alias].into_iter().flatten() {
                root.at(path).into_iter().for_each(|node| node.texts(&mut texts));
            }
        }
        texts.retain(|words| !words.text.starts_with("file://"));
        let secret_ids = texts.iter().flat_map(|words| &words.ids).copied().collect();
        let secrets = texts.iter().map(|words| words.text.as_str());
        let secrets = secrets.filter(|secret| secret.len() >= SCRUBBED).collect();
        Self {
            root,
            env,
            files,
            etc_dir,
            item: None,
            secrets,
            secret_ids,
            errors,
            warnings,
            settings,
        }
    }

    /// The node of a key, under its name or its old name, and the path it was found by.
    fn find(&self, key: &Key) -> Option<(&'a Node, String)> {
        let by = |path: &'static str| match path.split_once("[].") {
            Some((list, field)) => {
                let (n, item) = self.item?;
                Some((item.at(field)?, format!("{list}.{}.{field}", n + 1)))
            }
            None => Some((self.root.at(path)?, path.to_owned())),
        };
        by(key.path).or_else(|| by(key.alias?))
    }

    /// Whether a key is set at all, be it to something refused.
    pub(super) fn is_set(&self, key: &Key) -> bool {
        self.find(key).is_some()
    }

    /// Where a key was set, and its path there.
    fn place(&self, key: &Key) -> (Origin, String) {
        match self.find(key) {
            Some((node, path)) => (node.origin.clone(), path),
            None => (self.item_origin(), key.path.to_owned()),
        }
    }

    fn item_origin(&self) -> Origin {
        self.item.map_or(Origin::Default, |(_, item)| item.origin.clone())
    }

    fn finding(&self, (origin, key): (Origin, String), message: String, hint: &str) -> Finding {
        let hint = (!hint.is_empty()).then(|| self.scrub(hint.to_owned()));
        Finding { origin, key, message: self.scrub(message), hint }
    }

    /// A mistake that shows when a key is compared with others.
    pub(super) fn error(&mut self, key: &Key, message: String, hint: &str) {
        let finding = self.finding(self.place(key), message, hint);
        self.errors.push(finding);
    }

    /// As [`error`](Self::error), in the place of one item of a list.
    pub(super) fn error_at(&mut self, key: &Key, item: usize, message: String, hint: &str) {
        let finding = self.finding(self.item_place(key, item), message, hint);
        self.errors.push(finding);
    }

    /// What the operator may want to change.
    pub(super) fn warn(&mut self, key: &Key, message: String, hint: &str) {
        let finding = self.finding(self.place(key), message, hint);
        self.warnings.push(finding);
    }

    /// As [`warn`](Self::warn), in the place of one item of a list.
    pub(super) fn warn_at(&mut self, key: &Key, item: usize, message: String, hint: &str) {
        let finding = self.finding(self.item_place(key, item), message, hint);
        self.warnings.push(finding);
    }

    fn item_place(&self, key: &Key, item: usize) -> (Origin, String) {
        let item = self
            .find(key)
            .and_then(|(node, path)| Some((node.items()?.get(item)?.origin.clone(), path)));
        item.unwrap_or_else(|| self.place(key))
    }

    fn fault(&mut self, key: &Key, at: &str, origin: &Origin, words: &Words, fault: Fault) {
        // What is read of a text is repeated in hints too.
        let shown = !key.secret && !self.hides(words);
        let parts = words.ids.len();
        let found = match fault.found {
            Some(found) if shown || words.ids.is_empty() || key.secret => found,
            None if shown && words.text.trim().is_empty() => {
                // What a reader says is about a text that is there.
                let hint = match origin {
                    Origin::Env(_) => "give the variable a value, or unset it",
                    _ => "give the key a value, or remove it",
                };
                return self.errors.push(Finding {
                    origin: origin.clone(),
                    key: at.to_owned(),
                    message: format!("found an empty text, allowed: {}", key.allowed),
                    hint: Some(hint.to_owned()),
                });
            }
            None if shown => format!("`{}`", shorten(&written(key, &words.text))),
            _ if key.secret => "a secret that is not allowed".to_owned(),
            _ if parts > 1 => format!("a text put together from {parts} parts"),
            _ => "a text that is a secret elsewhere".to_owned(),
        };
        let hint = full_width(&words.text).or(fault.hint.filter(|_| shown || key.secret));
        let joined = "put it in quotes; or is a `=` or a `,` missing in it?".to_owned();
        let hint = hint.or((!shown && !key.secret && parts > 1).then_some(joined));
        self.errors.push(Finding {
            origin: origin.clone(),
            key: at.to_owned(),
            message: format!("found {}, allowed: {}", self.scrub(found), key.allowed),
            hint: hint.map(|hint| self.scrub(hint)),
        });
    }

    /// A fault of something that is no text.
    fn misfit(&mut self, key: &Key, at: &str, node: &Node) {
        let fault = Fault::found(kind(&node.value));
        self.fault(key, at, &node.origin, &Words::default(), fault);
    }

    /// Whether a text must not be repeated: it holds a part of a secret, or parts that
    /// stand side by side, of which one may be a secret that was meant for another key.
    fn hides(&self, words: &Words) -> bool {
        words.ids.len() > 1 || words.ids.iter().any(|id| self.secret_ids.contains(id))
    }

    /// A text that was taken, as HOCON shows it.
    fn shown(&self, key: &Key, words: &Words) -> String {
        let secret = words.ids.iter().any(|id| self.secret_ids.contains(id));
        if key.secret || secret { stars() } else { quote(&written(key, &words.text)) }
    }

    fn setting(&mut self, key: &Key, value: String, origin: &Origin) {
        let held = self.secrets.iter().any(|secret| value.contains(secret));
        let value = if held { stars() } else { value };
        self.settings.push(Setting { path: key.path.to_owned(), value, origin: origin.clone() });
    }

    fn scrub(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| text.replace(secret, "******"))
    }

    /// A scalar that has a default; `None` if it was refused.
    pub(super) fn get<T>(
        &mut self,
        key: &Key,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<T> {
        self.optional(key, read)?
    }

    /// A scalar that may be missing: `None` if it was refused, `Some(None)` if nobody set
    /// it and it has no default.
    pub(super) fn optional<T>(
        &mut self,
        key: &Key,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Option<T>> {
        let (words, origin, path) = match self.find(key) {
            Some((node, path)) => match &node.value {
                Value::Text(words) => (words.clone(), node.origin.clone(), path),
                _ => {
                    self.misfit(key, &path, node);
                    return None;
                }
            },
            None => match key.unset {
                Unset::Text(text) => (plain(text), Origin::Default, key.path.to_owned()),
                _ => return Some(None),
            },
        };
        if let Some(fault) = swallowed(key, &words) {
            self.fault(key, &path, &origin, &Words::default(), fault);
            return None;
        }
        match read(&words.text) {
            Ok(value) => {
                self.setting(key, self.shown(key, &words), &origin);
                Some(Some(value))
            }
            Err(fault) => {
                self.fault(key, &path, &origin, &words, fault);
                None
            }
        }
    }

    /// A list, or a text with commas or blanks between the items; every item is read, and every
    /// fault reported. `None` if refused; empty if unset and without a default.
    pub(super) fn list<T>(
        &mut self,
        key: &Key,
        read: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let (items, origin, path) = match self.find(key) {
            Some((node, path)) => (self.items(key, &path, node)?, node.origin.clone(), path),
            None => {
                let Unset::List(items) = key.unset else { return Some(Vec::new()) };
                let of = |text: &&str| (plain(text), Origin::Default);
                (items.iter().map(of).collect(), Origin::Default, key.path.to_owned())
            }
        };
        let mut values = Vec::with_capacity(items.len());
        for (words, origin) in &items {
            if let Some(fault) = swallowed(key, words) {
                self.fault(key, &path, origin, &Words::default(), fault);
                continue;
            }
            match read(&words.text) {
                Ok(value) => values.push(value),
                Err(fault) => self.fault(key, &path, origin, words, fault),
            }
        }
        if values.len() < items.len() {
            return None;
        }
        let shown = items.iter().map(|(words, _)| self.shown(key, words));
        let shown = shown.collect::<Vec<_>>().join(", ");
        self.setting(key, format!("[{shown}]"), &origin);
        Some(values)
    }

    fn items(&mut self, key: &Key, path: &str, node: &Node) -> Option<Vec<(Words, Origin)>> {
        match &node.value {
            Value::Text(words) if is_bracketed(&words.text) && !key.secret => {
                let fault = Fault {
                    found: Some("a list inside a text".to_owned()),
                    hint: Some("write the list without quotes around it".to_owned()),
                };
                self.fault(key, path, &node.origin, &Words::default(), fault);
                None
            }
            Value::Text(words) => Some(
                words
                    .text
                    .split(|c: char| c == ',' || c.is_whitespace())
                    .filter(|item| !item.is_empty())
                    .map(|item| Words { text: item.to_owned(), ..words.clone() })
                    .map(|item| (item, node.origin.clone()))
                    .collect(),
            ),
            Value::List(_) | Value::Object(_) => {
                let Some(nodes) = node.items() else {
                    self.misfit(key, path, node);
                    return None;
                };
                let mut items = Vec::with_capacity(nodes.len());
                for node in &nodes {
                    if let Value::Text(words) = &node.value {
                        items.push((words.clone(), node.origin.clone()));
                    } else {
                        let fault = Fault::found(format!("{} in the list", kind(&node.value)));
                        self.fault(key, path, &node.origin, &Words::default(), fault);
                    }
                }
                (items.len() == nodes.len()).then_some(items)
            }
        }
    }

    /// Notes what a key comes to that nobody set.
    pub(super) fn derived(&mut self, key: &Key, value: impl std::fmt::Display, list: bool) {
        if !self.is_set(key) {
            let value = quote(&value.to_string());
            let value = if list { format!("[{value}]") } else { value };
            self.setting(key, value, &Origin::Default);
        }
    }

    /// A key that must be set is not.
    pub(super) fn missing(&mut self, key: &Key, hint: &str) {
        let (origin, key_path) = match self.item {
            Some((n, item)) => {
                (item.origin.clone(), key.path.replace("[]", &format!(".{}", n + 1)))
            }
            None => (Origin::Default, key.path.to_owned()),
        };
        self.errors.push(Finding {
            origin,
            key: key_path,
            message: format!("found nothing, allowed: {}", key.allowed),
            hint: Some(hint.to_owned()),
        });
    }
}

/// A value as HOCON shows it: bare where that is unmistakable.
pub(super) fn quote(text: &str) -> String {
    let bare = !["", "null"].contains(&text)
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
        && !text.starts_with('-');
    if bare { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A text without what may be a secret in a URL. Where one is expected, it may lack anything.
fn written<'a>(key: &Key, text: &'a str) -> Cow<'a, str> {
    if key.is_url() { shown_url(text) } else { shown_urls(text) }
}

/// A text of the table.
fn plain(text: &str) -> Words {
    Words { text: text.to_owned(), ..Words::default() }
}

/// A key that stands inside a value put together from parts, since a sign is missing behind
/// it: what follows may be a secret, and was meant for that key.
fn swallowed(key: &Key, words: &Words) -> Option<Fault> {
    let secret = |word: &str| ["cookie", "password", "token"].contains(&word);
    let block = key.path.rsplit_once('.').map_or("", |(block, _)| block);
    // People's words are in a description, and the names of keys may be among them.
    let prose = key.path == CLUSTER_DESCRIPTION.path;
    let beside = |known: &Key, word: &str| {
        let rest = known.path.strip_prefix(block).and_then(|rest| rest.strip_prefix('.'));
        rest.and_then(|rest| rest.split('.').next()) == Some(word)
    };
    let known = |word: &String| {
        let behind = !prose && !words.text.starts_with(word.as_str());
        let is = |known: &Key| known.path == word || (behind && beside(known, word));
        secret(word) || KEYS.iter().any(is)
    };
    let key = words.bare.iter().find(|word| known(word))?;
    Some(Fault {
        found: Some(format!("the key `{key}` inside a value")),
        hint: Some(format!("write {key} = …, or put the whole value in quotes")),
    })
}

/// Whether a text holds a list that was meant as one; an IPv6 address has brackets too.
fn is_bracketed(text: &str) -> bool {
    let text = text.trim();
    text.starts_with('[') && text.ends_with(']') && text.contains(['@', '"', '/'])
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
