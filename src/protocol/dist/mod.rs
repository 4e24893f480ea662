//! The Erlang distribution protocol: handshake, frames, control messages, terms.
