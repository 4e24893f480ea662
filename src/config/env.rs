//! Environment variables as the last layer, as EMQX's start script, its container and its
//! schema read them.

use std::collections::HashMap;

use super::error::{Finding, Origin, Warning};
use super::hocon::Words;
use super::keys::{KEYS, LISTENER_BIND, OPEN, UNUSED};
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
    let mut warnings = Vec::new();
    let mut names: Vec<&String> = env.keys().collect();
    // Items of a list count as numbers do.
    names.sort_by_cached_key(|name| {
        let part = |part: &str| (part.parse::<u32>().unwrap_or_default(), part.to_owned());
        name.split("__").map(part).collect::<Vec<_>>()
    });
    let mut set = |root: &mut Node, name: &str, path: &str| {
        let Some(text) = env.get(name) else { return };
        let node = tree::from_env(name, text, env, files, ids);
        root.set(&path.split('.').collect::<Vec<_>>(), node);
    };
    let is_set = |name: &str| env.get(name).is_some_and(|text| !text.trim().is_empty());
    for (name, path) in BEFORE.into_iter().filter(|(name, _)| is_set(name)) {
        set(root, name, path);
    }
    for name in names {
        let Some(path) = path(name) else { continue };
        if is_known(&path) {
            set(root, name, &path);
        } else {
            warnings.push(unknown(name, &path));
        }
    }
    for (name, path) in BEHIND.into_iter().filter(|(name, _)| is_set(name)) {
        set(root, name, path);
    }
    let named = root.at("node.name").is_some_and(|node| matches!(node.origin, Origin::Env(_)));
    if !named && (is_set("EMQX_NAME") || is_set("EMQX_HOST")) {
        made_up_name(root, env, ids);
    }
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
    let node =
        Node::text(Words { text, ids: vec![*ids], bare: Vec::new() }, Origin::Env(variable.into()));
    root.set(&["node", "name"], Some(node));
}

/// The key path a variable stands for, an old path under its new name; `None` if it is none
/// of ours.
fn path(name: &str) -> Option<String> {
    let dots = |rest: &str| rest.replace("__", ".").to_ascii_lowercase();
    if let Some(rest) = name.strip_prefix("MUSTER_") {
        let other =
            COMMAND_LINE.contains(&name) || SERVICE_LINKS.iter().any(|p| name.starts_with(p));
        return (!other).then(|| format!("agent.{}", dots(rest)));
    }
    let path = dots(name.strip_prefix("EMQX_")?);
    let within = |root: &str| {
        path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let ours = tree::ROOTS.into_iter().any(within) || path == LISTENER_BIND.path;
    let renamed = KEYS.iter().find(|key| key.alias == Some(path.as_str()));
    ours.then(|| renamed.map_or(path.clone(), |key| key.path.to_owned()))
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
    Finding {
        origin: Origin::Env(name.into()),
        key: String::new(),
        message: "no key has this name, so it changes nothing".to_owned(),
        hint: names::meant(path).map(|key| format!("the nearest known name is {}", key.env())),
    }
}
