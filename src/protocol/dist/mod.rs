//! The Erlang distribution protocol: handshake, frames, control messages, terms.
//!
//! Two machines, each handed bytes and asked for bytes and events:
//! [`handshake::Handshake`] until both ends have proven that they know the cookie,
//! then [`link::Link`] until the connection ends. Source: "Erlang Distribution
//! Protocol" and "External Term Format" in the ERTS User's Guide (version 6 of the
//! handshake, OTP 23 and later).
//!
//! Nothing here allocates what a peer's length field asks for: buffers grow with
//! the bytes that have arrived, up to a cap checked before the first of them is kept.

pub mod control;
pub mod flags;
pub mod frame;
pub mod handshake;
pub mod link;
pub mod rex;
pub mod show;
pub mod term;

#[cfg(test)]
pub(crate) mod sample;
