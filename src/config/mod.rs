//! Configuration: text in, typed and validated [`Config`] out.
//!
//! ```text
//! files --hocon--> tree <--env-- variables
//!                   |
//!                   +--reader--> parts --checks--> Config
//! ```
//!
//! `loader` alone touches files; everything else is a function of texts. Nothing stops
//! at the first mistake: findings are collected and reported together.

mod address;
mod checks;
mod env;
mod error;
mod explain;
mod hocon;
mod keys;
mod loader;
mod names;
mod nearest;
mod read_agent;
mod read_cluster;
mod read_follow;
mod read_node;
mod reader;
mod tree;
mod types;
mod units;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) use checks::API_BASE_PORT;
pub use checks::SHORT_COOKIE;
pub use env::COMMAND_LINE;
pub use error::{ConfigErrors, Finding, Origin, Warning};
pub use explain::explain;
pub use keys::{InEmqx, KEYS, Key, Unset};
pub use loader::{Files, SystemFiles};
pub use reader::Setting;
pub use types::*;

use read_node::Own;
use reader::Reader;

/// Read when no file is given and this one exists.
pub const DEFAULT_FILE: &str = "etc/emqx.conf";

/// A duration as the configuration spells it: `500ms`, `1h30m`. `None` where it is none.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    units::duration(text)
}

/// A configuration that holds, and where it came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The checked configuration.
    pub config: Config,
    /// What the operator may want to change.
    pub warnings: Vec<Warning>,
    /// Every key with its value and origin, in the order of the documents; of the
    /// strategies only the selected one.
    pub effective: Vec<Setting>,
}

/// Reads `files` in layers, later ones over earlier ones, and the environment over
/// them; one whose path begins with `?` need not exist. Without files, defaults and environment are all there is.
///
/// # Errors
/// Every mistake found, the operator's to mend; nothing but files was touched.
pub fn load(
    files: &[PathBuf],
    env: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigErrors> {
    load_with(files, env, &SystemFiles)
}

/// [`load`] with another way to read files.
///
/// # Errors
/// As [`load`].
pub fn load_with(
    paths: &[PathBuf],
    env: impl IntoIterator<Item = (String, String)>,
    files: &dyn Files,
) -> Result<Loaded, ConfigErrors> {
    let env: HashMap<String, String> = env.into_iter().collect();
    let mut ids = 0;
    let loaded = tree::load(paths, &env, files, &mut ids);
    let (mut root, mut warnings) = loaded.map_err(|mut refused| {
        sort(&mut refused.errors, paths);
        refused
    })?;
    warnings.extend(env::overlay(&mut root, &env, files, &mut ids));
    root.write_numbers();

    let mut reader = Reader::new(&root, &env, files, etc_dir(paths));
    names::unknown(&mut reader, &root);
    names::older(&mut reader, &root);
    let own = Own::read(&mut reader);
    let node = read_node::read(&mut reader, &own);
    let cluster = read_cluster::read(&mut reader, &own);
    let agent = read_agent::read(&mut reader, &own);
    let config = node.zip(cluster).zip(agent);
    let config = config.map(|((node, cluster), agent)| Config { node, cluster, agent });

    let Reader { mut errors, warnings: more, mut settings, .. } = reader;
    warnings.extend(more);
    let position = |setting: &Setting| KEYS.iter().position(|key| key.path == setting.path);
    settings.sort_by_key(position);
    match config {
        Some(config) if errors.is_empty() => Ok(Loaded { config, warnings, effective: settings }),
        _ => {
            sort(&mut errors, paths);
            Err(ConfigErrors { errors, warnings })
        }
    }
}

/// The configuration that one text makes, without files and environment.
///
/// # Errors
/// As [`load`].
pub fn from_text(text: &str) -> Result<Loaded, ConfigErrors> {
    struct Text<'a>(&'a str);
    impl Files for Text<'_> {
        fn read(&self, path: &Path) -> std::io::Result<String> {
            let found = path == Path::new(DEFAULT_FILE);
            found.then(|| self.0.to_owned()).ok_or_else(|| std::io::ErrorKind::NotFound.into())
        }
    }
    load_with(&[DEFAULT_FILE.into()], [], &Text(text))
}

/// Where the broker's own files are: beside its `emqx.conf`, else beside the last file.
fn etc_dir(paths: &[PathBuf]) -> &Path {
    let paths = || paths.iter().rev().map(|path| tree::optional(path).0);
    let brokers = paths().find(|path| path.file_name().is_some_and(|name| name == "emqx.conf"));
    let dir = brokers.or_else(|| paths().next()).and_then(Path::parent);
    dir.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("etc"))
}

/// By layer, then by place in it; what no file holds comes last.
fn sort(errors: &mut [Finding], paths: &[PathBuf]) {
    errors.sort_by_cached_key(|error| match &error.origin {
        Origin::File { file, line, column } => {
            let layer = paths.iter().position(|path| *tree::optional(path).0 == **file);
            (0, layer.unwrap_or(paths.len()), *line, *column)
        }
        Origin::Whole(_) => (0, 0, 0, 0),
        Origin::Env(_) => (1, 0, 0, 0),
        Origin::Default => (2, 0, 0, 0),
    });
}

#[cfg(test)]
mod tests;
