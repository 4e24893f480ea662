//! What reacts to the membership, against real programs: the probe, rendered files, hooks.

mod faults;
mod files;
mod hooks;
mod probe;
mod traffic;

use std::path::{Path, PathBuf};

/// A script that nobody else may write.
fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = directory.join(name);
    std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

/// A copy of one of the repository's templates, which the checkout's group may be allowed
/// to write.
fn template(directory: &Path, name: &str) -> (PathBuf, String) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/templates").join(name);
    let text = std::fs::read_to_string(source).unwrap();
    let copy = directory.join(name);
    std::fs::write(&copy, &text).unwrap();
    (copy, text)
}
