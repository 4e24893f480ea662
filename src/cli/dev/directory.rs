//! The directory of a throwaway cluster: configurations, a cookie, state and logs.
//!
//! It is removed at the end. Where `dev` was killed and could not do that, the next one
//! does: a directory that nobody holds the lock of is a leftover. One that is to be kept
//! has no lock.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rand::RngExt as _;

use super::error::{Context as _, DevError};

const PREFIX: &str = "muster-dev-";

/// Held for as long as the directory is in use.
const LOCK: &str = "lock";

/// A new directory for this user's eyes only.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    /// `None`: it is to be kept.
    lock: Option<File>,
}

impl Directory {
    /// Makes one, and removes those that others left behind.
    pub(super) fn make(keep: bool) -> Result<Self, DevError> {
        let within = std::env::temp_dir();
        remove_leftovers(&within);
        let path = within.join(format!("{PREFIX}{}", &random_hex()[..8]));
        private(&path)?;
        if keep {
            return Ok(Self { path, lock: None });
        }
        let lock = lock_in(&path).context(|| format!("cannot lock {}", path.display()))?;
        Ok(Self { path, lock: Some(lock) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes it, unless it is to be kept; whether it was.
    pub(super) fn remove(mut self) -> Result<bool, DevError> {
        let Some(_held) = self.lock.take() else { return Ok(false) };
        let removed = fs::remove_dir_all(&self.path);
        removed.context(|| format!("cannot remove {}", self.path.display()))?;
        Ok(true)
    }
}

/// For an early end by a panic.
impl Drop for Directory {
    fn drop(&mut self) {
        if self.lock.is_some() {
            // The next `dev` tries again.
            let _left = fs::remove_dir_all(&self.path);
        }
    }
}

/// A directory that only its owner can look into.
pub(super) fn private(path: &Path) -> Result<(), DevError> {
    let made = DirBuilder::new().mode(0o700).create(path);
    made.context(|| format!("cannot create {}", path.display()))
}

/// 128 random bits.
pub(super) fn random_hex() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

/// The lock has its name only once it is held, so that nobody takes a new directory for a
/// leftover.
fn lock_in(path: &Path) -> io::Result<File> {
    let new = path.join("lock.new");
    let lock = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&new)?;
    lock.try_lock()?;
    fs::rename(new, path.join(LOCK))?;
    Ok(lock)
}

/// What cannot be removed stays: it is another user's, or in use, or none of ours.
fn remove_leftovers(within: &Path) {
    let Ok(entries) = fs::read_dir(within) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_str().is_some_and(|name| name.starts_with(PREFIX)) {
            let _in_use_or_foreign = remove_leftover(&entry.path());
        }
    }
}

fn remove_leftover(path: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(path)?;
    let own = fs::metadata("/proc/self")?.uid();
    // Somebody else may name a directory so, and put into it whatever they like.
    if !found.is_dir() || found.uid() != own || found.mode() & 0o077 != 0 {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // Ours, and nobody else writes there: no link to follow but our own.
    let lock = OpenOptions::new().write(true).open(path.join(LOCK))?;
    lock.try_lock()?;
    fs::remove_dir_all(path)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn only_leftovers_are_removed() {
        let within = tempfile::tempdir().unwrap();
        let make = |name: &str, mode: u32| {
            let path = within.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let leftover = make("muster-dev-1", 0o700);
        drop(lock_in(&leftover).unwrap());
        let in_use = make("muster-dev-2", 0o700);
        let _held = lock_in(&in_use).unwrap();
        let kept = make("muster-dev-3", 0o700);
        let writable = make("muster-dev-4", 0o777);
        drop(lock_in(&writable).unwrap());
        let other = make("other", 0o700);
        drop(lock_in(&other).unwrap());
        let link = within.path().join("muster-dev-5");
        std::os::unix::fs::symlink(&other, &link).unwrap();
        remove_leftovers(within.path());
        assert!(!leftover.exists());
        for stays in [in_use, kept, writable, other, link] {
            assert!(stays.exists(), "{}", stays.display());
        }
    }
}
