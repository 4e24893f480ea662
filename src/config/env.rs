//! Environment variables as the last layer.

use std::collections::HashMap;

use super::error::{Finding, Origin, Warning};
use super::keys::{KEYS, LISTENER_BIND, OPEN, UNUSED};
use super::loader::Files;
use super::nearest::nearest;
use super::tree::{self, Node};

/// Names that EMQX used before version 5 and still takes.
const OLD_NAMES: [(&str, &str); 2] =
    [("EMQX_NODE_NAME", "node.name"), ("EMQX_NODE_COOKIE", "node.cookie")];

/// The command line's own variables: no keys, and no mistakes either.
pub const COMMAND_LINE: [&str; 2] = ["MUSTER_URL", "MUSTER_TOKEN"];

/// Kubernetes gives every container variables for the services beside it, one called
/// `muster` perhaps. No key of ours begins like that.
const SERVICE_LINKS: [&str; 3] = ["MUSTER_SERVICE_", "MUSTER_PORT", "MUSTER_HEADLESS_"];

/// Lays the variables over the files. In the order of their names, so that a block
/// and a key inside it always merge alike; an old name yields to the new one.
pub(super) fn overlay(
    root: &mut Node,
    env: &HashMap<String, String>,
    files: &dyn Files,
) -> Vec<Warning> {
    let mut warnings = Vec::new();
    for (name, path) in OLD_NAMES {
        let new = format!("EMQX_{}", path.to_ascii_uppercase().replace('.', "__"));
        if !env.contains_key(&new)
            && let Some(node) =
                env.get(name).and_then(|text| tree::from_env(name, text, env, files))
        {
            root.set(&path.split('.').collect::<Vec<_>>(), node);
        }
    }
    let mut names: Vec<&String> = env.keys().collect();
    names.sort();
    for name in names {
        let Some(path) = path(name) else { continue };
        if !is_known(&path) {
            warnings.push(unknown(name));
            continue;
        }
        if let Some(node) = env.get(name).and_then(|text| tree::from_env(name, text, env, files)) {
            root.set(&path.split('.').collect::<Vec<_>>(), node);
        }
    }
    warnings
}

/// The key path a variable stands for; `None` if it is none of ours.
fn path(name: &str) -> Option<String> {
    let dots = |rest: &str| rest.replace("__", ".").to_ascii_lowercase();
    if let Some(rest) = name.strip_prefix("MUSTER_") {
        let other =
            COMMAND_LINE.contains(&name) || SERVICE_LINKS.iter().any(|p| name.starts_with(p));
        return (!other).then(|| format!("agent.{}", dots(rest)));
    }
    let path = dots(name.strip_prefix("EMQX_")?);
    let ours = ["node.", "cluster.", "agent."].iter().any(|root| path.starts_with(root));
    (ours || path == LISTENER_BIND.path).then_some(path)
}

fn is_known(path: &str) -> bool {
    let within = |outer: &str, inner: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let mut paths = KEYS.iter().flat_map(|key| [Some(key.path), key.alias]).flatten();
    // A whole block may be given as `{…}`; what is unknown inside it is an error there.
    let below = |blocks: &[&str]| blocks.iter().any(|known| within(known, path));
    paths.any(|known| within(path, known)) || below(UNUSED) || below(OPEN)
}

fn unknown(name: &str) -> Warning {
    let names: Vec<String> = KEYS.iter().map(super::keys::Key::env).collect();
    let nearest = nearest(name, names.iter().map(String::as_str)).unwrap_or_default();
    Finding {
        origin: Origin::Env(name.into()),
        key: String::new(),
        message: "no key has this name, so it changes nothing".to_owned(),
        hint: Some(format!("the nearest known name is {nearest}")),
    }
}
