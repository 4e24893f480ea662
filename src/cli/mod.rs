//! The commands: clients of the HTTP API.

pub mod dev;
