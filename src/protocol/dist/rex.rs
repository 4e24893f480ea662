//! Calls of functions at another node, as a C node makes them: `{Pid, {call, Module,
//! Function, Arguments, user}}` to the registered name `rex`, answered by `{rex, Result}`
//! to that process. (What Erlang nodes use among themselves, `erpc`, needs processes that
//! are monitored.)

use super::control::{PASS_THROUGH, REG_SEND, SEND};
use super::term::{
    Cursor, TermError, VERSION, put_atom, put_list_end, put_list_head, put_pid, put_small,
    put_tuple,
};
use crate::node::NodeName;

/// A function and what it is called with: atoms, which is all that is needed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call<'a> {
    /// The module.
    pub module: &'a str,
    /// The function.
    pub function: &'a str,
    /// Its arguments; node names and the like, at most 255 bytes each.
    pub arguments: &'a [&'a str],
}

/// Appends a frame with a call. `number` tells answers apart: it is the number of the
/// process that is answered.
pub fn put_call(out: &mut Vec<u8>, from: &NodeName, creation: u32, number: u32, call: &Call<'_>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&[PASS_THROUGH, VERSION]);
    put_tuple(out, 4);
    put_small(out, REG_SEND);
    put_pid(out, from.as_str(), number, 0, creation);
    put_atom(out, "");
    put_atom(out, "rex");
    out.push(VERSION);
    put_tuple(out, 2);
    put_pid(out, from.as_str(), number, 0, creation);
    put_tuple(out, 5);
    put_atom(out, "call");
    put_atom(out, call.module);
    put_atom(out, call.function);
    put_list_head(out, u32::try_from(call.arguments.len()).unwrap_or(u32::MAX));
    for argument in call.arguments {
        put_atom(out, argument);
    }
    put_list_end(out);
    put_atom(out, "user");
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply<'a> {
    /// The call's number.
    pub number: u32,
    /// What the function returned, or `{badrpc, Reason}`: one whole term.
    pub result: &'a [u8],
}

/// Reads a frame, if it is an answer.
#[must_use]
pub fn parse_reply(frame: &[u8]) -> Option<Reply<'_>> {
    parse(frame).ok().flatten()
}

fn parse(frame: &[u8]) -> Result<Option<Reply<'_>>, TermError> {
    let Some((&PASS_THROUGH, rest)) = frame.split_first() else { return Ok(None) };
    let mut cursor = Cursor::new(rest);
    cursor.version()?;
    cursor.tuple_of(3)?;
    if cursor.integer()? != i32::from(SEND) {
        return Ok(None);
    }
    cursor.skip()?;
    let number = pid_number(cursor.pid()?);
    cursor.version()?;
    cursor.tuple_of(2)?;
    if cursor.atom()? != b"rex" {
        return Ok(None);
    }
    let result = cursor.skip()?;
    let whole = number.filter(|_| cursor.is_empty());
    Ok(whole.map(|number| Reply { number, result }))
}

/// The number in a process identifier of the present form, which ends in number, serial
/// and creation of four bytes each.
fn pid_number(pid: &[u8]) -> Option<u32> {
    let tail = pid.last_chunk::<12>()?;
    tail.first_chunk().map(|number| u32::from_be_bytes(*number))
}

#[cfg(test)]
mod tests;
