//! Takes values out of the tree: finds them, reads them, and collects what is wrong
//! instead of stopping at the first fault.

mod forms;
mod values;

use std::collections::HashMap;
use std::path::Path;

use super::dialect::FULL_WIDTH;
use super::error::{Finding, Origin, Warning};
use super::keys::{KEYS, Key, Unset};
use super::loader::Files;
use super::tree::{Node, Value};

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
        Self { root, env, files, etc_dir, item: None, secrets, errors, warnings, settings }
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
        match self.find(key) {
            Some((Node { value: Value::List(items), .. }, path)) if items.len() > item => {
                (items[item].origin.clone(), path)
            }
            _ => self.place(key),
        }
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
        let (text, origin, path) = match self.find(key) {
            Some((node, path)) => match &node.value {
                Value::Text(text) => (text.clone(), node.origin.clone(), path),
                _ => {
                    self.fault(key, &path, &node.origin, "", Fault::found(kind(&node.value)));
                    return None;
                }
            },
            None => match key.unset {
                Unset::Text(text) => (text.to_owned(), Origin::Default, key.path.to_owned()),
                _ => return Some(None),
            },
        };
        match read(&text) {
            Ok(value) => {
                self.setting(key, if key.secret { stars() } else { quote(&text) }, &origin);
                Some(Some(value))
            }
            Err(fault) => {
                self.fault(key, &path, &origin, &text, fault);
                None
            }
        }
    }

    /// A list, or a text with commas between the items; every item is read, and every
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
                let of = |text: &&str| ((*text).to_owned(), Origin::Default);
                (items.iter().map(of).collect(), Origin::Default, key.path.to_owned())
            }
        };
        let mut values = Vec::with_capacity(items.len());
        for (text, origin) in &items {
            match read(text) {
                Ok(value) => values.push(value),
                Err(fault) => self.fault(key, &path, origin, text, fault),
            }
        }
        if values.len() < items.len() {
            return None;
        }
        let shown = |(text, _): &(String, _)| if key.secret { stars() } else { quote(text) };
        let shown = items.iter().map(shown).collect::<Vec<_>>().join(", ");
        self.setting(key, format!("[{shown}]"), &origin);
        Some(values)
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
