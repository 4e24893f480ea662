//! Who reaches whom, asked over the mesh: what `muster doctor --cluster` and the status page
//! show.
//!
//! A question and an answer of their own beside the membership's messages. Whoever has the
//! cookie may ask; nothing changes by it. Agents before protocol version 2 know neither and
//! would log what they cannot read, so they are not asked.

mod board;
mod matrix;

use serde::{Deserialize, Serialize};

pub use board::{Board, Said};
pub use matrix::{Cell, MAX_SHOWN, Matrix, Row, Silence, Silent, Told, told};

use crate::node::NodeName;
use crate::view::{LinkState, MemberStatus, Snapshot};

/// The protocol version that came with this question.
pub const SINCE: u16 = 2;

/// The question; no beginning of any message of the membership's.
pub const ASK: &[u8] = b"muster?reach";

/// In front of the answer.
const ANSWER: &[u8] = b"muster!reach";

/// Members told of at most: what a person can read, and a small frame.
pub const MAX_ROWS: usize = 512;

/// One member as the asked agent sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// The member, or a node that refuses the asked one.
    pub node: NodeName,
    /// Whether it is up; `None`: it is no member.
    pub status: Option<MemberStatus>,
    /// Whether the asked agent holds a link to it.
    pub link: LinkState,
    /// Round trip, microseconds.
    pub rtt_us: Option<u64>,
    /// The rule by which the two refuse each other, in words.
    pub refused: Option<String>,
}

/// Everybody that the agent of this snapshot reaches or wants to, itself apart.
#[must_use]
pub fn rows(snapshot: &Snapshot) -> Vec<Reach> {
    let refused = |node: &NodeName| {
        snapshot.refusals.iter().find(|one| one.node == *node).map(|one| one.text.clone())
    };
    let members = snapshot.members.iter().filter(|member| !member.is_self).map(|member| Reach {
        node: member.node.clone(),
        status: Some(member.status),
        link: member.link,
        rtt_us: member.rtt_us,
        refused: refused(&member.node),
    });
    let strangers = snapshot
        .refusals
        .iter()
        .filter(|refusal| snapshot.members.iter().all(|member| member.node != refusal.node))
        .map(|refusal| Reach {
            node: refusal.node.clone(),
            status: None,
            link: LinkState::None,
            rtt_us: None,
            refused: Some(refusal.text.clone()),
        });
    members.chain(strangers).take(MAX_ROWS).collect()
}

/// Whether this is an answer to [`ASK`], readable or not.
#[must_use]
pub fn is_answer(payload: &[u8]) -> bool {
    payload.starts_with(ANSWER)
}

/// The answer to [`ASK`].
#[must_use]
pub fn answer(snapshot: &Snapshot) -> Vec<u8> {
    let mut bytes = ANSWER.to_vec();
    // Names and numbers: writing them into memory cannot fail.
    let _infallible = serde_json::to_writer(&mut bytes, &rows(snapshot));
    bytes
}

/// Reads an answer; `None`: it is something else.
#[must_use]
pub fn read(payload: &[u8]) -> Option<Vec<Reach>> {
    let rows: Vec<Reach> = serde_json::from_slice(payload.strip_prefix(ANSWER)?).ok()?;
    (rows.len() <= MAX_ROWS).then_some(rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::membership::Message;

    #[test]
    fn an_answer_is_read_back_and_is_no_message() {
        let row = Reach {
            node: NodeName::parse("emqx@a.io").unwrap(),
            status: Some(MemberStatus::Up),
            link: LinkState::None,
            rtt_us: None,
            refused: Some("wrong cookie".into()),
        };
        let mut bytes = ANSWER.to_vec();
        serde_json::to_writer(&mut bytes, &[&row]).unwrap();
        assert_eq!(read(&bytes), Some(vec![row]));
        assert_eq!(read(ASK), None);
        assert!(Message::decode(ASK).is_err() && Message::decode(&bytes).is_err());
    }
}
