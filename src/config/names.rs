//! The names that nobody knows.

use super::error::Finding;
use super::keys::{KEYS, UNUSED};
use super::nearest::{near, nearest};
use super::reader::Reader;
use super::tree::{Node, ROOTS, Value};

/// Keys in the files that no table knows: errors under `cluster` and `agent`, warnings
/// under `node`, where EMQX adds more than it documents.
pub(super) fn unknown(r: &mut Reader<'_>, root: &Node) {
    for name in ROOTS {
        if let Some(node) = root.child(name) {
            unknown_below(r, name, name, node);
        }
    }
}

/// As [`unknown`], below one block, whose keys the table lists under `path`.
pub(super) fn unknown_below(r: &mut Reader<'_>, path: &str, shown: &str, node: &Node) {
    let Value::Object(fields) = &node.value else {
        let known = ROOTS.contains(&path) || is_block(path);
        if known && !is_key(path) {
            r.errors.push(Finding {
                origin: node.origin.clone(),
                key: shown.to_owned(),
                message: "found a value, allowed: a block { … }".to_owned(),
                hint: None,
            });
        }
        return;
    };
    for (name, child) in fields {
        let (path, shown) = (format!("{path}.{name}"), format!("{shown}.{name}"));
        if is_key(&path) || UNUSED.contains(&path.as_str()) {
            continue;
        }
        if is_block(&path) {
            unknown_below(r, &path, &shown, child);
            continue;
        }
        let finding = Finding {
            origin: child.key_origin.clone(),
            message: "unknown key".to_owned(),
            hint: Some(suggestion(&path)),
            key: shown,
        };
        if finding.key.starts_with("node.") {
            r.warnings.push(finding);
        } else {
            r.errors.push(finding);
        }
    }
}

fn paths() -> impl Iterator<Item = &'static str> {
    KEYS.iter().flat_map(|key| [Some(key.path), key.alias]).flatten()
}

fn is_key(path: &str) -> bool {
    paths().any(|known| known == path)
}

fn is_block(path: &str) -> bool {
    let below = |known: &str| known.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    paths().any(below) || UNUSED.iter().any(|known| below(known))
}

/// The key of the same last word elsewhere; else the nearest in the same block; else
/// the nearest of all.
fn suggestion(path: &str) -> String {
    let (block, last) = path.rsplit_once('.').unwrap_or(("", path));
    let root = path.split('.').next().unwrap_or_default();
    let known = || KEYS.iter().map(|key| key.path).filter(|known| known.starts_with(root));
    let moved = known().filter(|known| known.rsplit('.').next() == Some(last));
    let moved = nearest(path, moved);
    let depth = block.split('.').count();
    let siblings =
        known().filter(|known| known.starts_with(&format!("{block}."))).filter_map(|known| {
            known.match_indices('.').nth(depth).map_or(Some(known), |(at, _)| known.get(..at))
        });
    let found = moved.or_else(|| near(path, siblings)).or_else(|| nearest(path, known()));
    match found {
        Some(found) => format!("the nearest known key is {found}"),
        None => "see the list of keys in the documentation".to_owned(),
    }
}
