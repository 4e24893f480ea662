//! The configuration that a command is given.

use std::path::{Path, PathBuf};

use super::error::CliError;
use crate::config::{self, Config, ConfigErrors, Loaded};

/// The configuration out of these files and the environment; without files, out of
/// the default one if it is there.
pub(super) fn load(files: &[PathBuf]) -> Result<Loaded, CliError> {
    read(files).map_err(CliError::Config)
}

/// [`load`], for those who can go on without it.
pub(super) fn read(files: &[PathBuf]) -> Result<Loaded, ConfigErrors> {
    config::load(&or_default(files), environment())
}

/// [`load`], for clients of the API. They need no cookie, and often may not read it: a
/// systemd credential is the running agent's alone, and not even its reload command's.
pub(super) fn load_for_client(files: &[PathBuf]) -> Result<Config, CliError> {
    let unread = [
        ("EMQX_NODE_COOKIE", "clients-of-the-api-need-no-cookie"),
        ("MUSTER_MESH__ACCEPT_COOKIES", "[]"),
    ];
    let env = environment().chain(unread.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let loaded = config::load(&or_default(files), env).map_err(CliError::Config)?;
    Ok(loaded.config)
}

/// A variable that is no UTF-8 is none of ours.
fn environment() -> impl Iterator<Item = (String, String)> {
    let text = |text: std::ffi::OsString| text.into_string().ok();
    std::env::vars_os().filter_map(move |(name, value)| Some((text(name)?, text(value)?)))
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
