//! `muster completions` and `muster man`: made from the grammar.

use std::path::Path;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::args::Args;
use super::error::CliError;
use super::out;

pub(super) fn completions(shell: Shell) -> Result<(), CliError> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "muster", &mut script);
    out::text(&String::from_utf8_lossy(&script))
}

pub(super) fn man(dir: Option<&Path>) -> Result<(), CliError> {
    match dir {
        Some(dir) => clap_mangen::generate_to(Args::command(), dir).map_err(|error| {
            CliError::Failed(format!("cannot write the pages to {}: {error}", dir.display()))
        }),
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(Args::command()).render(&mut page)?;
            out::text(&String::from_utf8_lossy(&page))
        }
    }
}
