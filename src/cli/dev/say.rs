//! What the user is told.

use std::io::{self, Write as _};

/// One line for the user. Whoever closed our output is no reason to leave agents behind.
pub(super) fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
    let _ = io::stdout().flush();
}
