//! Layers and environment, parsed and merged into one tree that knows where
//! everything came from.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hocon::{HoconError, HoconValue, ParseOptions, ScalarType};

use super::dialect::{self, FULL_WIDTH, Layer};
use super::error::{ConfigErrors, Finding, Origin, Warning};
use super::growth::References;
use super::loader::{Files, reason};
use super::source::{Expanded, Index};

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
    Text(String),
    List(Vec<Node>),
    Object(BTreeMap<String, Node>),
}

impl Node {
    pub(super) fn object(origin: Origin) -> Self {
        Self { value: Value::Object(BTreeMap::new()), key_origin: origin.clone(), origin }
    }

    pub(super) fn child(&self, name: &str) -> Option<&Self> {
        match &self.value {
            Value::Object(fields) => fields.get(name),
            _ => None,
        }
    }

    /// Every text below.
    pub(super) fn texts<'a>(&'a self, into: &mut Vec<&'a str>) {
        match &self.value {
            Value::Text(text) => into.push(text),
            Value::List(items) => items.iter().for_each(|item| item.texts(into)),
            Value::Object(fields) => fields.values().for_each(|item| item.texts(into)),
        }
    }

    /// The node at `a.b.c`.
    pub(super) fn at(&self, path: &str) -> Option<&Self> {
        path.split('.').try_fold(self, |node, name| node.child(name))
    }

    /// Sets `a.b.c`, replacing what stands in the way; objects are merged.
    pub(super) fn set(&mut self, path: &[&str], node: Self) {
        if !matches!(self.value, Value::Object(_)) {
            *self = Self::object(node.origin.clone());
        }
        let Value::Object(fields) = &mut self.value else { return };
        match path {
            [] => {
                if let Value::Object(new) = node.value {
                    for (name, value) in new {
                        self.set(&[&name], value);
                    }
                }
            }
            [name] => match (fields.get_mut(*name), &node.value) {
                (Some(old), Value::Object(_)) => old.set(&[], node),
                _ => {
                    fields.insert((*name).to_owned(), node);
                }
            },
            [name, rest @ ..] => fields
                .entry((*name).to_owned())
                .or_insert_with(|| Self::object(node.origin.clone()))
                .set(rest, node),
        }
    }
}

/// Reads and merges the files, later ones over earlier ones.
pub(super) fn load(
    paths: &[PathBuf],
    env: &HashMap<String, String>,
    files: &dyn Files,
) -> Result<(Node, Vec<Warning>), ConfigErrors> {
    let mut errors = Vec::new();
    let mut warnings = Vec::new();
    let mut all = Expanded::new();
    let mut index = Index::default();
    let mut references = References::default();
    for path in paths {
        let path: Arc<Path> = path.as_path().into();
        let text = match files.read(&path) {
            Ok(text) => text,
            Err(error) => {
                errors.push(Finding {
                    origin: Origin::Whole(path),
                    key: String::new(),
                    message: format!("cannot read this file: {}", reason(&error)),
                    hint: None,
                });
                continue;
            }
        };
        let layer = dialect::expand(&path, &text, files);
        warnings.extend(layer.warnings.iter().cloned());
        let syntax = syntax_error(&layer);
        if layer.errors.is_empty() && syntax.is_none() {
            all.append(&layer.expanded);
            index.extend(layer.index);
            references.extend(layer.references);
        } else if layer.errors.is_empty() {
            errors.extend(syntax);
        } else {
            errors.extend(layer.errors);
        }
    }
    if !errors.is_empty() {
        return Err(ConfigErrors { errors, warnings });
    }
    if let Some(key) = references.excess() {
        let message = "found substitutions that multiply what they refer to".to_owned();
        let errors =
            vec![Finding { origin: index.value(&key), key: key.join("."), message, hint: None }];
        return Err(ConfigErrors { errors, warnings });
    }
    // Layers are resolved together: one may refer to keys of another.
    match hocon::parse_with_env(all.text(), env) {
        Ok(config) => {
            let mut root = Node::object(Origin::Default);
            for name in ROOTS.into_iter().chain([LISTENERS]) {
                if let Some(value) = config.get(name)
                    && let Some(node) = convert(value, &mut vec![name.to_owned()], &index)
                {
                    root.set(&[name], node);
                }
            }
            Ok((root, warnings))
        }
        Err(error) => Err(ConfigErrors { errors: vec![finding(&error, &all)], warnings }),
    }
}

/// Each layer is parsed by itself first, so that every file's error is reported.
fn syntax_error(layer: &Layer) -> Option<Finding> {
    let options =
        ParseOptions::defaults().with_resolve_substitutions(false).with_env(HashMap::new());
    let error = hocon::parse_string_with_options(layer.expanded.text(), options).err()?;
    Some(finding(&error, &layer.expanded))
}

fn finding(error: &HoconError, text: &Expanded) -> Finding {
    let (place, message, hint) = match error {
        HoconError::Parse(e) => {
            let at = (e.line, e.col);
            // Behind the quotes the parser repeats the text, a secret perhaps.
            let message = e.message.split(" \"").next().unwrap_or_default();
            let message = message.trim_end_matches(" in").to_owned();
            (Some(at), message, syntax_hint(text, at))
        }
        HoconError::Resolve(e) if e.message.contains("circular") => {
            let message = format!("${{{}}} refers to itself", e.path);
            (Some((e.line, e.col)), message, None)
        }
        HoconError::Resolve(e) if !e.path.is_empty() && e.message.contains("could not resolve") => {
            let message = format!("found ${{{}}}, which nothing defines", e.path);
            let hint = "define the key, or write ${?…} to leave it out".to_owned();
            (Some((e.line, e.col)), message, Some(hint))
        }
        HoconError::Resolve(e) => (Some((e.line, e.col)), e.message.clone(), None),
        other => (None, other.to_string(), None),
    };
    let (line, column) = place.unwrap_or_default();
    Finding { origin: text.origin(line, column), key: String::new(), message, hint }
}

/// Typical slips behind a syntax error, told by the character at its place.
fn syntax_hint(text: &Expanded, (line, column): (usize, usize)) -> Option<String> {
    let c = text.line(line).chars().nth(column.checked_sub(1)?)?;
    let advice = if FULL_WIDTH.contains(c) {
        "this is a full-width character; write the ASCII one"
    } else {
        "values other than words and numbers must be quoted"
    };
    Some(advice.to_owned())
}

/// Nulls are left out: EMQX and the specification use them to unset a key.
fn convert(value: &HoconValue, path: &mut Vec<String>, index: &Index) -> Option<Node> {
    let mut below = |name: String, value: &HoconValue| {
        path.push(name);
        let node = convert(value, path, index);
        path.pop();
        node
    };
    let converted = match value {
        HoconValue::Object(fields) => Value::Object(
            fields
                .iter()
                .filter_map(|(name, value)| Some((name.clone(), below(name.clone(), value)?)))
                .collect(),
        ),
        HoconValue::Array(items) => Value::List(
            items
                .iter()
                .enumerate()
                .filter_map(|(n, value)| below(format!("[{n}]"), value))
                .collect(),
        ),
        HoconValue::Scalar(scalar) if scalar.value_type == ScalarType::Null => return None,
        HoconValue::Scalar(scalar) => Value::Text(scalar.raw.clone()),
        _ => return None,
    };
    Some(Node { value: converted, origin: index.value(path), key_origin: index.key(path) })
}

/// The value of an environment variable: HOCON where it can be nothing else, and the
/// plain text otherwise, so that `http://a:1` and `pass#word` mean themselves.
pub(super) fn from_env(
    name: &str,
    text: &str,
    env: &HashMap<String, String>,
    files: &dyn Files,
) -> Option<Node> {
    let origin = Origin::Env(name.into());
    let text = text.trim();
    if text.starts_with(['[', '{', '"']) || text.contains("${") {
        let source: Arc<Path> = Path::new(name).into();
        let layer = dialect::expand(&source, &format!("value = {text}"), files);
        if layer.errors.is_empty()
            && layer.references.excess().is_none()
            && let Ok(config) = hocon::parse_with_env(layer.expanded.text(), env)
            && config.keys().iter().all(|key| *key == "value")
        {
            let mut node = config
                .get("value")
                .and_then(|value| convert(value, &mut Vec::new(), &Index::default()))?;
            set_origin(&mut node, &origin);
            return Some(node);
        }
    }
    let key_origin = origin.clone();
    Some(Node { value: Value::Text(text.to_owned()), origin, key_origin })
}

fn set_origin(node: &mut Node, origin: &Origin) {
    node.origin = origin.clone();
    node.key_origin = origin.clone();
    match &mut node.value {
        Value::Text(_) => {}
        Value::List(items) => items.iter_mut().for_each(|item| set_origin(item, origin)),
        Value::Object(fields) => fields.values_mut().for_each(|item| set_origin(item, origin)),
    }
}
