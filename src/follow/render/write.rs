//! A file replaced so that whoever reads it sees the old one or the new one, whole.
//!
//! Everything here blocks for as long as the file system does.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

use super::template::MAX_FILE;

/// What is about to replace a file, beside it. Removed when it is dropped unused.
#[derive(Debug)]
pub(super) struct Candidate {
    path: PathBuf,
    target: PathBuf,
    file: File,
    used: bool,
}

impl Candidate {
    /// Where it is; its name begins with a dot and ends in `.muster`, so that nobody who
    /// reads a folder of configuration takes it for a part of it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a candidate for `target`, with the owner and the mode of the file that is
    /// there, else with `perms`.
    pub(super) fn write(target: &Path, bytes: &[u8], perms: u32) -> io::Result<Self> {
        // A symbolic link stays one: what it leads to is replaced.
        let target = match fs::canonicalize(target) {
            Ok(real) => real,
            Err(error) if error.kind() == io::ErrorKind::NotFound => target.to_owned(),
            Err(error) => return Err(error),
        };
        let name = target.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
        let path = target.with_file_name(format!(".{}.muster", name.to_string_lossy()));
        // One that a crash left behind.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        let mut candidate = Self { path, target, file, used: false };
        candidate.file.write_all(bytes)?;
        let mode = match fs::metadata(&candidate.target) {
            Ok(held) => {
                let own = candidate.file.metadata()?;
                if (own.uid(), own.gid()) != (held.uid(), held.gid()) {
                    fchown(&candidate.file, Some(held.uid()), Some(held.gid())).map_err(
                        |error| {
                            io::Error::new(
                                error.kind(),
                                format!(
                                    "its owner ({}:{}) cannot be kept: {error}",
                                    held.uid(),
                                    held.gid()
                                ),
                            )
                        },
                    )?;
                }
                held.mode() & 0o7777
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => perms,
            Err(error) => return Err(error),
        };
        candidate.file.set_permissions(Permissions::from_mode(mode))?;
        Ok(candidate)
    }

    /// Puts it in the place of the target, for good.
    pub(super) fn commit(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, &self.target)?;
        self.used = true;
        if let Some(folder) = self.target.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            File::open(folder)?.sync_all()?;
        }
        Ok(())
    }
}

impl Drop for Candidate {
    fn drop(&mut self) {
        if !self.used {
            // The next one removes it otherwise.
            let _left = fs::remove_file(&self.path);
        }
    }
}

/// What the target holds; `None`: there is none. Longer than any file of ours: an error.
pub(super) fn held(target: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(target) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a file"));
    }
    let mut bytes = Vec::new();
    // One byte more than any of ours: it differs, and is replaced.
    file.take(MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}
