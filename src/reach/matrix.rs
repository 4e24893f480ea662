//! The matrix of who reaches whom.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Reach, Said};
use crate::node::NodeName;
use crate::view::{LinkState, MemberStatus, Snapshot};

/// Nodes in the matrix that the API answers with, at most: what fits a page. Up to so many
/// members every pair holds a link by default.
pub const MAX_SHOWN: usize = 64;

/// What one agent has with one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
#[schema(as = ReachCell)]
pub enum Cell {
    /// It is the node.
    Itself,
    /// A link is up.
    Connected,
    /// None is up and none is wanted.
    Idle,
    /// One is wanted, and none is up.
    None,
    /// The node is down, as the agent sees it.
    Down,
    /// The agent does not know the node.
    Unknown,
    /// The agent did not say.
    Silent,
}

/// What one agent told.
pub type Told = BTreeMap<NodeName, Cell>;

/// An answer, in the matrix's words.
#[must_use]
pub fn told(rows: &[Reach]) -> Told {
    rows.iter().map(|row| (row.node.clone(), Cell::of(row))).collect()
}

impl Cell {
    /// Out of one row of an answer.
    #[must_use]
    pub fn of(row: &Reach) -> Self {
        match (row.status, row.link) {
            (_, LinkState::Connected) => Self::Connected,
            (Some(MemberStatus::Down), _) => Self::Down,
            (None, _) | (_, LinkState::None) => Self::None,
            (_, LinkState::Idle) => Self::Idle,
        }
    }
}

/// Why an agent's line is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Silence {
    /// It is down.
    Down,
    /// This node holds no link to it that it could be asked over.
    NoLink,
    /// Its version does not know the question.
    TooOld,
    /// It was asked a moment ago.
    Waiting,
    /// It was asked, and did not answer.
    NoAnswer,
}

/// That an agent's line is not known, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Silent {
    /// Why, for programs.
    pub reason: Silence,
    /// The same for people.
    pub text: String,
}

/// One agent's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReachRow)]
pub struct Row {
    /// The agent's node.
    pub node: NodeName,
    /// What it has with each node, in the order of `nodes`.
    pub reaches: Vec<Cell>,
    /// Why that is not known; absent where it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub silent: Option<Silent>,
}

/// Who reaches whom, in the order of `nodes`, across and down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = ReachMatrix)]
pub struct Matrix {
    /// Sorted by name.
    pub nodes: Vec<NodeName>,
    /// A line for each of them.
    pub rows: Vec<Row>,
    /// Members that found no place in it.
    #[serde(skip_serializing_if = "is_none_left_out", default)]
    pub left_out: usize,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none_left_out(left_out: &usize) -> bool {
    *left_out == 0
}

impl Matrix {
    /// The lines of these nodes, out of what each has told.
    #[must_use]
    pub fn new(nodes: &BTreeSet<NodeName>, told: &BTreeMap<NodeName, Told>) -> Self {
        let row = |from: &NodeName| {
            let told = told.get(from);
            let cell = |to: &NodeName| match told {
                _ if to == from => Cell::Itself,
                None => Cell::Silent,
                Some(told) => told.get(to).copied().unwrap_or(Cell::Unknown),
            };
            Row { node: from.clone(), reaches: nodes.iter().map(cell).collect(), silent: None }
        };
        Self {
            rows: nodes.iter().map(row).collect(),
            nodes: nodes.iter().cloned().collect(),
            left_out: 0,
        }
    }

    /// As the agent of this snapshot knows it: its own line, and what its members said when
    /// they were asked. No more than [`MAX_SHOWN`] nodes: this one, those at an end of a link
    /// that is missing, and of the others the first by name.
    #[must_use]
    pub fn seen(snapshot: &Snapshot, mut said: BTreeMap<NodeName, Said>) -> Self {
        let own = super::rows(snapshot);
        let mut lines: BTreeMap<NodeName, Told> = BTreeMap::new();
        for (node, said) in &mut said {
            if let Said::Told(told) = said {
                lines.insert(node.clone(), std::mem::take(told));
            }
        }
        lines.insert(snapshot.self_node.clone(), told(&own));
        let all: BTreeSet<_> =
            own.iter().map(|row| &row.node).chain([&snapshot.self_node]).cloned().collect();
        let mut matrix = Self::new(&chosen(snapshot, &all, &lines), &lines);
        matrix.left_out = all.len() - matrix.nodes.len();
        for row in &mut matrix.rows {
            if !lines.contains_key(&row.node) {
                row.silent = Some(silent(snapshot, &row.node, said.get(&row.node)));
            }
        }
        matrix
    }
}

fn chosen(
    snapshot: &Snapshot,
    all: &BTreeSet<NodeName>,
    lines: &BTreeMap<NodeName, Told>,
) -> BTreeSet<NodeName> {
    let missing = |told: &Told| -> Vec<NodeName> {
        let missing = told.iter().filter(|(_, cell)| **cell == Cell::None);
        missing.map(|(node, _)| node.clone()).collect()
    };
    let mut troubled = BTreeSet::new();
    for (node, told) in lines {
        let far = missing(told);
        if !far.is_empty() {
            troubled.insert(node.clone());
            troubled.extend(far);
        }
    }
    let mut chosen = BTreeSet::from([snapshot.self_node.clone()]);
    for node in troubled.iter().filter(|node| all.contains(*node)).chain(all) {
        if chosen.len() >= MAX_SHOWN {
            break;
        }
        chosen.insert(node.clone());
    }
    chosen
}

fn silent(snapshot: &Snapshot, node: &NodeName, said: Option<&Said>) -> Silent {
    let member = snapshot.members.iter().find(|member| member.node == *node);
    let (reason, text) = match member {
        None => (Silence::NoLink, "not asked: it is no member here, and refused".to_owned()),
        Some(member) if member.status == MemberStatus::Down => {
            (Silence::Down, "not asked: it is down".to_owned())
        }
        Some(member) if member.link != LinkState::Connected => {
            (Silence::NoLink, "not asked: this node holds no link to it".to_owned())
        }
        Some(member) => match said {
            Some(Said::TooOld) => {
                let text = format!("not asked: muster {} does not tell", member.version);
                (Silence::TooOld, text)
            }
            Some(Said::Nothing) => (Silence::NoAnswer, "asked, and it has not answered".to_owned()),
            Some(Said::Told(_)) | None => (Silence::Waiting, "being asked".to_owned()),
        },
    };
    Silent { reason, text }
}

#[cfg(test)]
mod tests;
