//! The `muster` program: arguments to configuration to agent to exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    muster::cli::main()
}
