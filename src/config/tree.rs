//! Layers and environment, merged into one tree that knows where everything came from.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::error::{ConfigErrors, Finding, Origin, Warning};
use super::hocon::{self, Place, Problem, Sources, Words};
use super::keys::KEYS;
use super::loader::{Files, NotUtf8, reason};
use super::reader::shorten;

/// The roots that are ours; the others belong to the broker.
pub(super) const ROOTS: [&str; 3] = ["node", "cluster", "agent"];

/// The broker's root that one key of ours stands below.
const LISTENERS: &str = "listeners";

/// A value and where it was written.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) value: Value,
    pub(super) origin: Origin,
    /// Where its key was written.
    pub(super) key_origin: Origin,
}

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// Scalars of any kind: the key decides what the text means.
    Text(Words),
    List(Vec<Node>),
    Object(BTreeMap<String, Node>),
}

impl Node {
    pub(super) fn object(origin: Origin) -> Self {
        Self { value: Value::Object(BTreeMap::new()), key_origin: origin.clone(), origin }
    }

    pub(super) fn text(words: Words, origin: Origin) -> Self {
        Self { value: Value::Text(words), key_origin: origin.clone(), origin }
    }

    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Object(fields) => fields.get(name),
            _ => None,
        }
    }

    /// Every text below.
    pub(super) fn texts<'a>(&'a self, into: &mut Vec<&'a Words>) {
        match &self.value {
            Value::Text(words) => into.push(words),
            Value::List(items) => items.iter().for_each(|item| item.texts(into)),
            Value::Object(fields) => fields.values().for_each(|item| item.texts(into)),
        }
    }

    /// Makes texts of the numbers under EMQX's own roots as EMQX does: of `007` it has `7`.
    pub(super) fn write_numbers(&mut self) {
        if let Value::Object(fields) = &mut self.value {
            let brokers = |name: &str| name == "node" || name == "cluster";
            let fields = fields.iter_mut().filter(|(name, _)| brokers(name));
            fields.for_each(|(_, node)| node.write_all_numbers());
        }
    }

    fn write_all_numbers(&mut self) {
        match &mut self.value {
            Value::Text(words) if words.whole_number => words.text = plain(&words.text),
            Value::Text(_) => {}
            Value::List(items) => items.iter_mut().for_each(Self::write_all_numbers),
            Value::Object(fields) => fields.values_mut().for_each(Self::write_all_numbers),
        }
    }

    /// The items of a list. As in EMQX, a block whose keys are the numbers of items is one.
    pub(super) fn items(&self) -> Option<Vec<&Self>> {
        match &self.value {
            Value::Text(_) => None,
            Value::List(items) => Some(items.iter().collect()),
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, node)| Some((number(name)?, node)));
                let mut items: Vec<_> = fields.collect::<Option<_>>()?;
                items.sort_by_key(|(n, _)| *n);
                (!items.is_empty()).then(|| items.into_iter().map(|(_, node)| node).collect())
            }
        }
    }

    /// The node at `a.b.c`.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, name| node.child(name))
    }

    /// The node at `a.b.c`, if there is nothing beside the way to it.
    fn only(self, path: &str) -> Option<Self> {
        path.split('.').try_fold(self, |node, name| match node.value {
            Value::Object(mut fields) if fields.len() == 1 => fields.remove(name),
            _ => None,
        })
    }

    /// Sets `a.b.c`, or unsets it; what stands in the way is replaced. A number behind a
    /// list means one of its items, counted from 1, or one more.
    pub(super) fn set(&mut self, path: &[&str], node: Option<Self>) {
        let [name, rest @ ..] = path else {
            if let Some(node) = node {
                *self = node;
            }
            return;
        };
        if let Some(n) = name.parse::<usize>().ok().and_then(|n| n.checked_sub(1)) {
            self.set_item(n, rest, node);
            return;
        }
        if !matches!(self.value, Value::Object(_)) {
            *self = Self::object(self.origin.clone());
        }
        let Value::Object(fields) = &mut self.value else { return };
        match (rest, node) {
            ([], None) => {
                fields.remove(*name);
            }
            (_, None) => {
                if let Some(child) = fields.get_mut(*name) {
                    child.set(rest, None);
                }
            }
            (_, Some(node)) => {
                let child = fields.entry((*name).to_owned());
                child.or_insert_with(|| Self::object(node.origin.clone())).set(rest, Some(node));
            }
        }
    }

    fn set_item(&mut self, n: usize, rest: &[&str], node: Option<Self>) {
        let Some(node) = node else { return };
        if !matches!(self.value, Value::List(_)) {
            let items = self.items().unwrap_or_default().into_iter().cloned().collect();
            self.value = Value::List(items);
            self.origin = node.origin.clone();
        }
        let Value::List(items) = &mut self.value else { return };
        if items.len() <= n {
            items.push(Self::object(node.origin.clone()));
        }
        let last = items.len() - 1;
        items[n.min(last)].set(rest, Some(node));
    }
}

/// The number of a list's item, counted from 1.
fn number(name: &str) -> Option<usize> {
    let digits = name.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| name.parse().ok())?.filter(|n| *n > 0)
}

/// A whole number without what its value does not need.
fn plain(number: &str) -> String {
    let digits = number.trim_start_matches(['+', '-']).trim_start_matches('0');
    match digits {
        "" => "0".to_owned(),
        digits if number.starts_with('-') => format!("-{digits}"),
        digits => digits.to_owned(),
    }
}

/// Whether a key's value, or its alias's, is a secret.
fn is_secret(path: &str) -> bool {
    KEYS.iter()
        .filter(|key| key.secret)
        .any(|key| [Some(key.path), key.alias].into_iter().flatten().any(|known| known == path))
}

/// Reads and merges the files, later ones over earlier ones. A path that begins with `?`
/// need not exist. `ids` counts the texts that were read.
pub(super) fn load(
    paths: &[PathBuf],
    env: &HashMap<String, String>,
    files: &dyn Files,
    ids: &mut u32,
) -> Result<(Node, Vec<Warning>), ConfigErrors> {
    let read = |path: &Path| match files.read(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(reason(&error)),
    };
    let mut errors = Vec::new();
    let mut sources = Sources::new(&read, &is_secret, *ids);
    for path in paths {
        let (path, optional) = optional(path);
        let file: Arc<Path> = path.into();
        match files.read(path) {
            Ok(text) => sources.layer(&file, &text),
            Err(error) if optional && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => errors.push(unreadable(&file, &error)),
        }
    }
    // What refers to a file that cannot be read would be reported too.
    let whole = errors.is_empty() && sources.problems.is_empty();
    let root = whole.then(|| sources.resolve(&|name| env.get(name).cloned()));
    *ids = sources.ids();
    let finding = |problem: &Problem| finding(problem, &sources.files);
    let mut warnings: Vec<Warning> = sources.notes.iter().map(finding).collect();
    errors.extend(sources.problems.iter().map(finding));
    if !errors.is_empty() {
        return Err(ConfigErrors { errors, warnings });
    }
    let origin = |place: Place| origin(place, &sources.files);
    let converted = root.and_then(|root| convert(root, &origin));
    let mut converted = converted.unwrap_or_else(|| Node::object(Origin::Default));
    if let Value::Object(fields) = &mut converted.value {
        let strangers = fields.iter().filter(|(name, _)| !ROOTS.contains(&name.as_str()));
        warnings.extend(strangers.filter_map(|(name, node)| misspelt(name, node)));
        let mut ours = Vec::new();
        ROOTS.iter().filter_map(|root| fields.get(*root)).for_each(|root| root.texts(&mut ours));
        let ours: HashSet<u32> = ours.iter().flat_map(|words| &words.ids).copied().collect();
        let cut = sources.cut.iter().filter(|(id, _)| ours.contains(id));
        warnings.extend(cut.map(|(_, problem)| finding(problem)));
        fields.retain(|name, _| ROOTS.contains(&name.as_str()) || name == LISTENERS);
    }
    Ok((converted, warnings))
}

/// A root that is none of ours, and nearly is: `Cluster`, `"cluster.name"`, `nodes`.
fn misspelt(name: &str, node: &Node) -> Option<Warning> {
    let (first, dotted) = name.split_once('.').map_or((name, false), |(first, _)| (first, true));
    let root = ROOTS.into_iter().find(|root| {
        first.eq_ignore_ascii_case(root) || (!dotted && strsim::osa_distance(first, root) == 1)
    })?;
    let hint = match dotted {
        true => "write it without quotes: a quoted dot separates nothing".to_owned(),
        false => format!("if it is meant for this node, write {root}"),
    };
    Some(Finding {
        origin: node.key_origin.clone(),
        key: shorten(name),
        message: "no root has this name, so it changes nothing here".to_owned(),
        hint: Some(hint),
    })
}

/// A layer's path without the `?` before it, and whether it had one.
pub(super) fn optional(path: &Path) -> (&Path, bool) {
    match path.to_str().and_then(|text| text.strip_prefix('?')) {
        Some(rest) => (Path::new(rest), true),
        None => (path, false),
    }
}

fn unreadable(file: &Arc<Path>, error: &io::Error) -> Finding {
    let of_text = error.get_ref().and_then(|inner| inner.downcast_ref::<NotUtf8>());
    let (origin, message) = match of_text {
        Some(bad) => {
            let (line, column) = (bad.line, bad.column);
            (Origin::File { file: Arc::clone(file), line, column }, bad.to_string())
        }
        None => {
            let message = format!("cannot read this file: {}", reason(error));
            (Origin::Whole(Arc::clone(file)), message)
        }
    };
    let hint = of_text.map(|_| "save the file as UTF-8; Latin-1 is not read".to_owned());
    Finding { origin, key: String::new(), message, hint }
}

fn origin(place: Place, files: &[Arc<Path>]) -> Origin {
    let file = usize::try_from(place.file).ok().and_then(|n| files.get(n));
    let number = |n: u32| usize::try_from(n).unwrap_or(usize::MAX);
    file.map_or(Origin::Default, |file| Origin::File {
        file: Arc::clone(file),
        line: number(place.line),
        column: number(place.column),
    })
}

fn finding(problem: &Problem, files: &[Arc<Path>]) -> Finding {
    Finding {
        origin: origin(problem.place, files),
        key: problem.key.clone(),
        message: problem.message.clone(),
        hint: (!problem.hint.is_empty()).then(|| problem.hint.clone()),
    }
}

/// Nulls are left out: EMQX and the specification use them to unset a key.
fn convert(node: hocon::Node, origin: &dyn Fn(Place) -> Origin) -> Option<Node> {
    let value = match node.value {
        hocon::Value::Null => return None,
        hocon::Value::Text(words) => Value::Text(words),
        hocon::Value::List(items) => {
            Value::List(items.into_iter().filter_map(|item| convert(item, origin)).collect())
        }
        hocon::Value::Object(fields) => {
            let fields = fields.into_iter();
            Value::Object(fields.filter_map(|(k, v)| Some((k, convert(v, origin)?))).collect())
        }
    };
    Some(Node { value, origin: origin(node.place), key_origin: origin(node.key) })
}

/// The value of an environment variable for a key: HOCON where it can be nothing else, and
/// the plain text otherwise, so that `http://a:1` and `pass#word` mean themselves. No node:
/// `null`, which unsets the key. Whether quotes or brackets are in it that it was to be
/// read without.
pub(super) fn from_env(
    name: &str,
    path: &str,
    text: &str,
    env: &HashMap<String, String>,
    files: &dyn Files,
    ids: &mut u32,
) -> (Option<Node>, bool) {
    let at = Origin::Env(name.into());
    let text = text.trim();
    if text == "null" {
        return (None, false);
    }
    let hocon = text.starts_with(['[', '{', '"']) || text.contains("${");
    if hocon {
        let read = |path: &Path| files.read(path).map(Some).map_err(|error| reason(&error));
        let mut sources = Sources::new(&read, &is_secret, *ids);
        // Under its own key, so that it is known which values in it are secrets.
        let plain = |c: char| c.is_ascii_alphanumeric() || "._".contains(c);
        let path = if path.chars().all(plain) { path } else { "value" };
        sources.layer(&Path::new(name).into(), &format!("{path} = {text}"));
        let root = sources.resolve(&|name| env.get(name).cloned());
        *ids = sources.ids();
        let root = sources.problems.is_empty().then(|| convert(root, &|_| at.clone())).flatten();
        if let Some(value) = root.and_then(|root| root.only(path)) {
            return (Some(value), false);
        }
    }
    *ids += 1;
    let words = Words { text: text.to_owned(), ids: vec![*ids], ..Words::default() };
    (Some(Node::text(words, at)), hocon || text.starts_with('\'') || text.ends_with(['\'', '"']))
}
