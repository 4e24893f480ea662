//! The `muster` program: arguments to configuration to agent to exit code.

fn main() {}
