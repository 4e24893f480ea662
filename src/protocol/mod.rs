//! The pure core: no tokio, no sockets, no clock, no global randomness.
//!
//! Everything here is a state machine or a codec that is handed bytes, `now` and
//! random numbers, and answers with bytes and actions. Drivers elsewhere do the
//! rest, and the simulator does it in virtual time.

pub mod dist;
pub mod membership;
