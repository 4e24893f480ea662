//! The commands: clients of the HTTP API.
