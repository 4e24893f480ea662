//! The configuration that a command is given.

use std::path::{Path, PathBuf};

use super::error::CliError;
use crate::config::{self, Loaded};

/// The configuration out of these files and the environment; without files, out of
/// the default one if it is there.
pub(super) fn load(files: &[PathBuf]) -> Result<Loaded, CliError> {
    let default = Path::new(config::DEFAULT_FILE);
    let files = match files {
        [] if default.exists() => vec![default.to_owned()],
        files => files.to_vec(),
    };
    // A variable that is no UTF-8 is none of ours.
    let text = |text: std::ffi::OsString| text.into_string().ok();
    let env = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
    config::load(&files, env).map_err(CliError::Config)
}
