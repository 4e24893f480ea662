//! Programs of others that a test starts.

use std::path::PathBuf;

/// True when one of them is not installed and the test is to be skipped, which is
/// said; in CI it is a failure.
#[track_caller]
pub fn skip_without(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let missing: Vec<_> = programs
        .iter()
        .filter(|name| !std::env::split_paths(&path).any(|dir| dir.join(name).is_file()))
        .collect();
    if missing.is_empty() {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "not installed: {missing:?}");
    eprintln!("skipped: not installed: {missing:?}");
    true
}

/// What `scripts/install-test-tools` installs from PyPI and npm.
fn tools() -> PathBuf {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("no HOME");
        PathBuf::from(home).join(".cache")
    });
    cache.join("muster-test-tools")
}

/// Where the npm modules are that `tests/<folder>/package.json` names; `None`, which is
/// said, when they are not installed and the test is to be skipped; in CI that is a failure.
#[track_caller]
pub fn node_modules(folder: &str) -> Option<PathBuf> {
    installed(tools().join(folder).join("node_modules"))
}

/// A program of the Python environment; [`node_modules`] says when there is none.
#[track_caller]
pub fn python_tool(name: &str) -> Option<PathBuf> {
    installed(tools().join("python/bin").join(name))
}

#[track_caller]
fn installed(path: PathBuf) -> Option<PathBuf> {
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "not installed: {}", path.display());
    eprintln!("skipped: not installed: {}", path.display());
    None
}
