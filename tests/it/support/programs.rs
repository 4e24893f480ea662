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

/// The modules that `tests/page` needs.
pub fn node_modules() -> PathBuf {
    tools().join("page/node_modules")
}

/// A program of the Python environment; `None`, which is said, when it is not installed
/// and the test is to be skipped; in CI that is a failure.
#[track_caller]
pub fn python_tool(name: &str) -> Option<PathBuf> {
    let path = tools().join("python/bin").join(name);
    if path.is_file() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "not installed: {name}");
    eprintln!("skipped: not installed: {name}");
    None
}
