//! What the broker answers, read: its view of its cluster, its own discovery strategy, and
//! how a join ended. All of it is foreign and bounded.

use std::collections::{BTreeMap, BTreeSet};

use crate::node::NodeName;
use crate::protocol::dist::show::show;
use crate::protocol::dist::term::{Cursor, TermError};

/// Bytes of an answer that is shown to people.
const SHOWN: usize = 160;

/// Nodes that a broker may name; EMQX's clusters have some dozens at most.
const MAX_NODES: u32 = 1024;

/// `ekka:info/0`, as far as it is of use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    /// Nodes that run, by their canonical names, with what the broker itself calls them.
    pub running: BTreeMap<String, String>,
    /// Nodes that belong and do not run, by their canonical names.
    pub stopped: BTreeSet<String>,
}

impl Info {
    /// Whether anybody but `node` belongs to its cluster.
    #[must_use]
    pub fn has_others(&self, node: &NodeName) -> bool {
        let mut all = self.running.keys().chain(&self.stopped);
        all.any(|name| name != node.as_str())
    }

    /// Whether a node runs in it.
    #[must_use]
    pub fn runs(&self, node: &NodeName) -> bool {
        self.running.contains_key(node.as_str())
    }

    /// The names of all who run but `node`, for people.
    #[must_use]
    pub fn others(&self, node: &NodeName) -> String {
        let names: Vec<&str> = self
            .running
            .keys()
            .chain(&self.stopped)
            .map(String::as_str)
            .filter(|name| *name != node.as_str())
            .take(5)
            .collect();
        names.join(", ")
    }
}

/// Why there is no answer to use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// The broker's cluster application is not there: it starts, or restarts to join.
    #[error("the broker's cluster application is not running: it starts, or restarts to join")]
    Restarting,
    /// The function does not exist there: no EMQX, or none of today's.
    #[error("the broker has no function {0}: is it EMQX 5 or later?")]
    Undefined(&'static str),
    /// Anything else, in words.
    #[error("{0}")]
    Other(String),
}

/// Reads the answer to `ekka:info()`.
///
/// # Errors
/// [`NoAnswer`].
pub fn info(result: &[u8]) -> Result<Info, NoAnswer> {
    match read_info(result) {
        Ok(info) => Ok(info),
        Err(_) => Err(no_answer(result, "ekka", "info")),
    }
}

fn read_info(result: &[u8]) -> Result<Info, TermError> {
    let mut cursor = Cursor::new(result);
    let mut info = Info::default();
    let (mut running, mut stopped) = (false, false);
    for _ in 0..cursor.map()? {
        match cursor.atom()? {
            b"running_nodes" => {
                running = true;
                each_node(&mut cursor, |canonical, own| {
                    info.running.insert(canonical, own);
                })?;
            }
            b"stopped_nodes" => {
                stopped = true;
                each_node(&mut cursor, |canonical, _| {
                    info.stopped.insert(canonical);
                })?;
            }
            _ => {
                cursor.skip()?;
            }
        }
    }
    if running && stopped { Ok(info) } else { Err(TermError::Unexpected) }
}

/// Hands over every node of a list of atoms.
fn each_node(
    cursor: &mut Cursor<'_>,
    mut take: impl FnMut(String, String),
) -> Result<(), TermError> {
    let count = cursor.list()?;
    if count > MAX_NODES {
        return Err(TermError::TooMany);
    }
    for _ in 0..count {
        let text = std::str::from_utf8(cursor.atom()?).map_err(|_| TermError::Unexpected)?;
        let canonical = NodeName::parse(text).map_or_else(|_| text.to_owned(), |n| n.to_string());
        take(canonical, text.to_owned());
    }
    if count > 0 {
        cursor.skip()?;
    }
    Ok(())
}

/// Reads the answer to `ekka:env(cluster_discovery)`: the strategy's name, unless it is
/// the manual one.
///
/// # Errors
/// [`NoAnswer`].
pub fn strategy(result: &[u8]) -> Result<Option<String>, NoAnswer> {
    let read = || {
        let mut cursor = Cursor::new(result);
        // `undefined`: the broker was told of none, and then joins nobody by itself.
        if let Ok(atom) = cursor.atom() {
            return if atom == b"undefined" { Ok(None) } else { Err(TermError::Unexpected) };
        }
        let mut cursor = Cursor::new(result);
        cursor.tuple_of(2)?;
        if cursor.atom()? != b"ok" {
            return Err(TermError::Unexpected);
        }
        let mut inside = cursor;
        let name = if inside.tuple().is_ok() { inside.atom()? } else { cursor.atom()? };
        let name = String::from_utf8_lossy(name).into_owned();
        Ok(Some(name).filter(|name| name != "manual"))
    };
    read().map_err(|_| no_answer(result, "ekka", "env"))
}

/// How a join ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Joined {
    /// The broker is in the seed's cluster now, or was already.
    Ok,
    /// The very function that was called does not exist: an EMQX that has another one.
    Undefined,
    /// It was refused for a reason that trying again does not change.
    Refused(String),
    /// It failed, and may succeed later or with another seed.
    Failed(String),
}

/// Reads the answer to `Module:join(Seed)`.
#[must_use]
pub fn joined(result: &[u8], module: &str) -> Joined {
    let mut cursor = Cursor::new(result);
    match cursor.atom() {
        Ok(b"ok") => return Joined::Ok,
        Ok(b"ignore") => {
            return Joined::Failed("the broker takes the seed for itself".to_owned());
        }
        _ => {}
    }
    if is_undefined(result, module, "join") {
        return Joined::Undefined;
    }
    let text = show(result, SHOWN);
    match reason(result) {
        Some(Reason::Word(b"singleton")) => Joined::Refused(
            "one of the two brokers is a singleton: set the strategy of both to manual".to_owned(),
        ),
        Some(Reason::Named(b"already_in_cluster", node)) => {
            Joined::Failed(format!("the broker says that it is in the cluster of {node} already"))
        }
        Some(Reason::Named(b"node_down", node)) => {
            Joined::Failed(format!("the seed {node} does not answer the broker"))
        }
        Some(Reason::Named(b"failed_to_connect_node", node)) => Joined::Failed(format!(
            "the broker cannot connect to the seed {node}: cookie, TLS or network"
        )),
        Some(Reason::Named(b"cannot_join_to_replicant", node)) => {
            Joined::Failed(format!("the seed {node} is a replicant"))
        }
        _ if text.to_ascii_lowercase().contains("license") => {
            Joined::Refused(format!("the broker's licence forbids it: {text}"))
        }
        _ if text.contains("not fully booted") => {
            Joined::Failed("the broker has not booted yet".to_owned())
        }
        _ => Joined::Failed(format!("the broker answered {text}")),
    }
}

enum Reason<'a> {
    Word(&'a [u8]),
    Named(&'a [u8], String),
}

/// `{error, Word}` or `{error, {Word, Node}}`.
fn reason(result: &[u8]) -> Option<Reason<'_>> {
    let mut cursor = Cursor::new(result);
    cursor.tuple_of(2).ok()?;
    if cursor.atom().ok()? != b"error" {
        return None;
    }
    let mut inside = cursor;
    if let Ok(word) = inside.atom() {
        return Some(Reason::Word(word));
    }
    cursor.tuple_of(2).ok()?;
    let word = cursor.atom().ok()?;
    Some(Reason::Named(word, show(cursor.skip().ok()?, SHOWN)))
}

/// `{badrpc, {'EXIT', {undef, [{Module, Function, _, _} | _]}}}`: the head of the stack is
/// what was called. An undefined function further down is a failure like any other.
fn is_undefined(result: &[u8], module: &str, function: &str) -> bool {
    let read = || {
        let mut cursor = exit(result)?;
        cursor.tuple_of(2)?;
        if cursor.atom()? != b"undef" || cursor.list()? == 0 {
            return Ok(false);
        }
        cursor.tuple()?;
        let same = cursor.atom()? == module.as_bytes() && cursor.atom()? == function.as_bytes();
        Ok::<_, TermError>(same)
    };
    read().unwrap_or(false)
}

/// The term behind `{badrpc, {'EXIT', `.
fn exit(result: &[u8]) -> Result<Cursor<'_>, TermError> {
    let mut cursor = Cursor::new(result);
    for word in [&b"badrpc"[..], b"EXIT"] {
        cursor.tuple_of(2)?;
        if cursor.atom()? != word {
            return Err(TermError::Unexpected);
        }
    }
    Ok(cursor)
}

/// Why a result is not what it should be.
fn no_answer(result: &[u8], module: &'static str, function: &'static str) -> NoAnswer {
    let exits_with = |wanted: &[u8]| {
        let read = || {
            let mut cursor = exit(result)?;
            let mut inside = cursor;
            if let Ok(word) = inside.atom() {
                return Ok(word == wanted);
            }
            cursor.tuple()?;
            Ok::<_, TermError>(cursor.atom()? == wanted)
        };
        read().unwrap_or(false)
    };
    if exits_with(b"noproc") {
        return NoAnswer::Restarting;
    }
    if is_undefined(result, module, function) {
        return NoAnswer::Undefined(if function == "info" { "ekka:info/0" } else { "ekka:env/1" });
    }
    NoAnswer::Other(format!("the broker answered {}", show(result, SHOWN)))
}

#[cfg(test)]
mod tests;
