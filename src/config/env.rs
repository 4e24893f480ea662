//! Environment variables as the last layer, as EMQX's start script, its container and its
//! schema read them.

use std::collections::HashMap;

use super::error::{Finding, Origin, Warning};
use super::hocon::Words;
use super::keys::{KEYS, Key, LISTENER_BIND, OPEN, UNUSED};
use super::loader::Files;
use super::names;
use super::tree::{self, Node, Value};

/// The command line's own variables: no keys, and no mistakes either.
pub const COMMAND_LINE: [&str; 2] = ["MUSTER_URL", "MUSTER_TOKEN"];

/// Kubernetes gives every container variables for the services beside it, one called
/// `muster` perhaps. No key of ours begins like that.
const SERVICE_LINKS: [&str; 3] = ["MUSTER_SERVICE_", "MUSTER_PORT", "MUSTER_HEADLESS_"];

/// What EMQX's start script reads by names of its own. The first two win over the names
/// that the schema makes of the keys, as they do there; empty, they are unset.
const BEFORE: [(&str, &str); 1] = [("EMQX_SSL_DIST_OPTFILE", "node.ssl_dist_optfile")];
const BEHIND: [(&str, &str); 2] =
    [("EMQX_NODE_NAME", "node.name"), ("EMQX_NODE_COOKIE", "node.cookie")];

/// Lays the variables over the files: in the order of their names, so that a block stands
/// before the keys inside it. A block replaces that of the files.
pub(super) fn overlay(
    root: &mut Node,
    env: &HashMap<String, String>,
    files: &dyn Files,
    ids: &mut u32,
) -> Vec<Warning> {
    let (mut warnings, mut others) = (Vec::new(), Vec::new());
    let mut names: Vec<&String> = env.keys().collect();
    // Items of a list count as numbers do.
    names.sort_by_cached_key(|name| {
        let part = |part: &str| (part.parse::<u32>().unwrap_or_default(), part.to_owned());
        name.split("__").map(part).collect::<Vec<_>>()
    });
    let mut set = |root: &mut Node, name: &str, path: &str| {
        let Some(text) = env.get(name) else { return };
        let (node, quoted) = tree::from_env(name, path, text, env, files, ids);
        if quoted {
            warnings.push(warning(
                name,
                "it is not HOCON, and read as it stands, with its quotes and brackets",
                Some("an environment file keeps the quotes around a value: remove them".to_owned()),
            ));
        }
        let alias = KEYS.iter().find(|key| key.path == path).and_then(|key| key.alias);
        if let Some(alias) = alias.filter(|_| node.is_none()) {
            root.set(&alias.split('.').collect::<Vec<_>>(), None);
        }
        root.set(&path.split('.').collect::<Vec<_>>(), node);
    };
    let is_set = |name: &str| env.get(name).is_some_and(|text| !text.trim().is_empty());
    for (name, path) in BEFORE.into_iter().filter(|(name, _)| is_set(name)) {
        set(root, name, path);
    }
    for name in names {
        let Some(path) = path(name) else {
            others.extend(single(name));
            continue;
        };
        let renamed = KEYS.iter().find(|key| key.path == path && key.alias == Some(&written(name)));
        let new = renamed.map(Key::env).filter(|new| env.contains_key(new));
        if let Some(new) = new {
            others.push(warning(
                name,
                format!("it is not used beside {new}, its newer name"),
                None,
            ));
        } else if is_known(&path) {
            set(root, name, &path);
        } else {
            others.push(unknown(name, &path));
        }
    }
    for (name, path) in BEHIND.into_iter().filter(|(name, _)| is_set(name)) {
        set(root, name, path);
    }
    let named = root.at("node.name").is_some_and(|node| matches!(node.origin, Origin::Env(_)));
    if !named && (is_set("EMQX_NAME") || is_set("EMQX_HOST")) {
        made_up_name(root, env, ids);
    }
    warnings.extend(others);
    warnings
}

/// `EMQX_NAME` and `EMQX_HOST` are the parts of the node name for EMQX's container; one of
/// them alone replaces its part.
fn made_up_name(root: &mut Node, env: &HashMap<String, String>, ids: &mut u32) {
    let old = match root.at("node.name").map(|node| &node.value) {
        Some(Value::Text(words)) => words.text.clone(),
        _ => "emqx@127.0.0.1".to_owned(),
    };
    let (old_name, old_host) = old.split_once('@').unwrap_or(("emqx", "127.0.0.1"));
    let part = |name: &str| env.get(name).map(|text| text.trim()).filter(|text| !text.is_empty());
    let text = format!(
        "{}@{}",
        part("EMQX_NAME").unwrap_or(old_name),
        part("EMQX_HOST").unwrap_or(old_host)
    );
    *ids += 1;
    let variable = if part("EMQX_HOST").is_some() { "EMQX_HOST" } else { "EMQX_NAME" };
    let node = Node::text(
        Words { text, ids: vec![*ids], ..Words::default() },
        Origin::Env(variable.into()),
    );
    root.set(&["node", "name"], Some(node));
}

/// The key path a variable stands for, an old path under its new name; `None` if it is none
/// of ours.
fn path(name: &str) -> Option<String> {
    if name.starts_with("MUSTER_") {
        let other =
            COMMAND_LINE.contains(&name) || SERVICE_LINKS.iter().any(|p| name.starts_with(p));
        return (!other).then(|| written(name));
    }
    let path = name.starts_with("EMQX_").then(|| written(name))?;
    let within = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let ours = tree::ROOTS.into_iter().any(within) || path == LISTENER_BIND.path;
    let renamed = KEYS.iter().find(|key| key.alias == Some(path.as_str()));
    ours.then(|| renamed.map_or(path.clone(), |key| key.path.to_owned()))
}

/// The path as a variable's name has it; as in EMQX, what stands between four lines is no
/// part of it.
fn written(name: &str) -> String {
    let (prefix, rest) = match name.strip_prefix("MUSTER_") {
        Some(rest) => (Some("agent".to_owned()), rest),
        None => (None, name.strip_prefix("EMQX_").unwrap_or(name)),
    };
    let parts = rest.split("__").filter(|part| !part.is_empty()).map(str::to_ascii_lowercase);
    prefix.into_iter().chain(parts).collect::<Vec<_>>().join(".")
}

/// A key's variable with one line where two belong: EMQX and we ignore it.
fn single(name: &str) -> Option<Warning> {
    let script = BEFORE.iter().chain(&BEHIND).any(|(known, _)| *known == name);
    let key = KEYS.iter().find(|key| key.env().replace("__", "_") == name && !script)?;
    let message = "no key has this name, so it changes nothing";
    Some(warning(name, message, Some(format!("write two lines between the parts: {}", key.env()))))
}

fn is_known(path: &str) -> bool {
    let within = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    // One item of a list, or a key in a block that is one.
    let number = |part: &str| part.parse::<u32>().is_ok_and(|n| n > 0);
    let mut pattern = String::new();
    let mut item = false;
    for part in path.split('.') {
        item = number(part);
        if item {
            pattern.push_str("[]");
        } else {
            pattern =
                if pattern.is_empty() { part.to_owned() } else { format!("{pattern}.{part}") };
        }
    }
    let list = pattern.strip_suffix("[]").filter(|_| item).unwrap_or(&pattern);
    let mut paths = KEYS.iter().flat_map(|key| [Some(key.path), key.alias]).flatten();
    let below = |blocks: &[&str]| blocks.iter().any(|known| within(known, path));
    // A whole block may be given as `{…}`; what is unknown inside it is an error there.
    paths.any(|known| within(list, known)) || below(UNUSED) || below(OPEN)
}

fn unknown(name: &str, path: &str) -> Warning {
    let hint = names::meant(path).map(|key| format!("the nearest known name is {}", key.env()));
    warning(name, "no key has this name, so it changes nothing", hint)
}

fn warning(name: &str, message: impl Into<String>, hint: Option<String>) -> Warning {
    let origin = Origin::Env(name.into());
    Finding { origin, key: String::new(), message: message.into(), hint }
}
