//! The configuration that a command is given.

use std::path::{Path, PathBuf};

use super::error::CliError;
use crate::config::{self, ConfigErrors, Loaded};

/// The configuration out of these files and the environment; without files, out of
/// the default one if it is there.
pub(super) fn load(files: &[PathBuf]) -> Result<Loaded, CliError> {
    read(files).map_err(CliError::Config)
}

/// [`load`], for those who can go on without it.
pub(super) fn read(files: &[PathBuf]) -> Result<Loaded, ConfigErrors> {
    let files = or_default(files);
    // A variable that is no UTF-8 is none of ours.
    let text = |text: std::ffi::OsString| text.into_string().ok();
    let env = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
    config::load(&files, env)
}

/// As [`load`], where there is a file at all.
pub(super) fn load_if_any(files: &[PathBuf]) -> Result<Option<Loaded>, CliError> {
    match or_default(files).as_slice() {
        [] => Ok(None),
        files => load(files).map(Some),
    }
}

fn or_default(files: &[PathBuf]) -> Vec<PathBuf> {
    let default = Path::new(config::DEFAULT_FILE);
    match files {
        [] if default.exists() => vec![default.to_owned()],
        files => files.to_vec(),
    }
}
