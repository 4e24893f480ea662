//! Control messages: what this node sends, and what it understands of what it is sent.
//!
//! Messages to the registered name `muster` carry one binary. The one question that
//! is answered is `net_kernel`'s `is_auth`, which is what `net_adm:ping/1` asks.
//! Every other message is an Erlang node's business with some other Erlang node.

use super::term::{
    BINARY_HEAD, Cursor, TermError, VERSION, put_atom, put_binary_head, put_pid, put_small,
    put_tuple,
};
use crate::node::NodeName;

/// Frames are "pass through": a control message, then perhaps a message.
pub(super) const PASS_THROUGH: u8 = 112;

pub(super) const SEND: u8 = 2;
pub(super) const REG_SEND: u8 = 6;

/// The registered name that agents send to and listen on.
pub const REGISTERED: &str = "muster";

/// Writes frames; holds what they all begin with.
#[derive(Clone, Debug)]
pub struct Encoder {
    /// Everything of a `REG_SEND` between the frame's length and the payload's head.
    reg_send: Vec<u8>,
}

impl Encoder {
    /// Writes as this node.
    #[must_use]
    pub fn new(node: &NodeName, creation: u32) -> Self {
        let mut reg_send = vec![PASS_THROUGH, VERSION];
        put_tuple(&mut reg_send, 4);
        put_small(&mut reg_send, REG_SEND);
        // No process of ours is ever answered by it; the format wants a sender.
        put_pid(&mut reg_send, node.as_str(), 1, 0, creation);
        put_atom(&mut reg_send, "");
        put_atom(&mut reg_send, REGISTERED);
        reg_send.push(VERSION);
        Self { reg_send }
    }

    /// Bytes that a payload of this length takes on the wire, frame length included.
    #[must_use]
    pub fn framed_len(&self, payload: usize) -> usize {
        4 + self.reg_send.len() + BINARY_HEAD + payload
    }

    /// Appends a frame that carries this payload to the peer's `muster`. The answer is
    /// false, and nothing appended, when it would be longer than `max_frame`.
    #[must_use]
    pub fn message(&self, out: &mut Vec<u8>, payload: &[u8], max_frame: usize) -> bool {
        let length = self.framed_len(payload.len()) - 4;
        let lengths = u32::try_from(length).ok().zip(u32::try_from(payload.len()).ok());
        let Some((frame, binary)) = lengths.filter(|_| length <= max_frame) else {
            return false;
        };
        out.reserve(4 + length);
        out.extend_from_slice(&frame.to_be_bytes());
        out.extend_from_slice(&self.reg_send);
        put_binary_head(out, binary);
        out.extend_from_slice(payload);
        true
    }
}

/// Appends the answer to `is_auth`: `Tag` and `yes` to the process that asked, both
/// in the bytes they came in. They come from one frame, so the cap on frames holds.
pub fn put_yes(out: &mut Vec<u8>, question: &IsAuth<'_>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[PASS_THROUGH, VERSION]);
    put_tuple(out, 3);
    put_small(out, SEND);
    put_atom(out, "");
    out.extend_from_slice(question.from);
    out.push(VERSION);
    put_tuple(out, 2);
    out.extend_from_slice(question.tag);
    put_atom(out, "yes");
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// Who asks whether we accept the link, and how the answer is to be marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IsAuth<'a> {
    from: &'a [u8],
    tag: &'a [u8],
}

impl IsAuth<'_> {
    /// Bytes the answer takes at most.
    #[must_use]
    pub fn answer_len(&self) -> usize {
        32 + self.from.len() + self.tag.len()
    }
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incoming<'a> {
    /// A payload for `muster`.
    Payload(&'a [u8]),
    /// `net_kernel` is asked whether the link is accepted.
    IsAuth(IsAuth<'a>),
    /// Nothing that concerns us: why, in a fixed word.
    Ignored(&'static str),
}

/// Reads one frame.
#[must_use]
pub fn parse(frame: &[u8]) -> Incoming<'_> {
    parse_frame(frame).unwrap_or(Incoming::Ignored("malformed"))
}

fn parse_frame(frame: &[u8]) -> Result<Incoming<'_>, TermError> {
    let Some((&PASS_THROUGH, rest)) = frame.split_first() else {
        return Ok(Incoming::Ignored("malformed"));
    };
    let mut cursor = Cursor::new(rest);
    cursor.version()?;
    cursor.tuple()?;
    if cursor.integer()? != i32::from(REG_SEND) {
        return Ok(Incoming::Ignored("control"));
    }
    cursor.pid()?;
    cursor.skip()?;
    let to = cursor.atom()?;
    cursor.version()?;
    if to == REGISTERED.as_bytes() {
        let payload = cursor.binary()?;
        return Ok(if cursor.is_empty() {
            Incoming::Payload(payload)
        } else {
            Incoming::Ignored("malformed")
        });
    }
    if to == b"net_kernel" {
        // Other calls of net_kernel are as little our business as other names.
        return Ok(parse_is_auth(cursor).map_or(Incoming::Ignored("other_name"), Incoming::IsAuth));
    }
    Ok(Incoming::Ignored("other_name"))
}

/// `{'$gen_call', {From, Tag}, {is_auth, Node}}`
fn parse_is_auth(mut cursor: Cursor<'_>) -> Result<IsAuth<'_>, TermError> {
    cursor.tuple_of(3)?;
    if cursor.atom()? != b"$gen_call" {
        return Err(TermError::Unexpected);
    }
    cursor.tuple_of(2)?;
    let from = cursor.pid()?;
    let tag = cursor.skip()?;
    cursor.tuple_of(2)?;
    if cursor.atom()? != b"is_auth" {
        return Err(TermError::Unexpected);
    }
    cursor.atom()?;
    Ok(IsAuth { from, tag })
}

#[cfg(test)]
mod tests;
