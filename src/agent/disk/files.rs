//! Opens the files of the state directory, and nothing else that may stand in their
//! place: no link is followed and no pipe is waited for.

use std::fs::{self, File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::DiskError;

/// What stands where a regular file is to be, in words; `None`: a regular file.
fn stranger(kind: FileType) -> Option<&'static str> {
    match kind {
        kind if kind.is_file() => None,
        kind if kind.is_symlink() => Some("a symbolic link"),
        kind if kind.is_fifo() => Some("a named pipe"),
        kind if kind.is_dir() => Some("a directory"),
        kind if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

/// Opens a file of the agent's own.
///
/// # Errors
/// [`DiskError::NotAFile`] where something else stands there.
pub(super) fn open(path: &Path, options: &mut OpenOptions) -> Result<File, DiskError> {
    let unusable = |source| DiskError::Unusable { path: path.to_owned(), source };
    let not_a_file = |what| DiskError::NotAFile { path: path.to_owned(), what };
    // Asked first for the sake of the message; the flags hold whatever happens in between.
    if let Ok(found) = fs::symlink_metadata(path)
        && let Some(what) = stranger(found.file_type())
    {
        return Err(not_a_file(what));
    }
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = options.mode(0o600).custom_flags(flags.bits().cast_signed()).open(path);
    let file = file.map_err(unusable)?;
    match stranger(file.metadata().map_err(unusable)?.file_type()) {
        None => Ok(file),
        Some(what) => Err(not_a_file(what)),
    }
}

/// Makes a file anew. What is left of an interrupted attempt is removed, so that nobody
/// who holds it open, or has another name for it, sees what is written.
///
/// # Errors
/// [`DiskError::NotAFile`] where something else than such a file stands there.
pub(super) fn create_anew(path: &Path) -> Result<File, DiskError> {
    let unusable = |source| DiskError::Unusable { path: path.to_owned(), source };
    match fs::symlink_metadata(path).map(|found| stranger(found.file_type())) {
        Ok(Some(what)) => return Err(DiskError::NotAFile { path: path.to_owned(), what }),
        Ok(None) => fs::remove_file(path).map_err(unusable)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(unusable(error)),
    }
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path).map_err(unusable)
}

/// Refuses a directory in which every user of the machine may put or replace files. In
/// one with the sticky bit, as `/tmp`, they cannot touch what is ours.
///
/// # Errors
/// [`DiskError::Shared`]
pub(super) fn is_private(path: &Path, sticky_will_do: bool) -> Result<(), DiskError> {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    let found = fs::metadata(path)
        .map_err(|source| DiskError::Unusable { path: path.to_owned(), source })?;
    let mode = found.mode() & 0o7777;
    let shared = mode & OTHERS_WRITE != 0 && !(sticky_will_do && mode & STICKY != 0);
    if shared { Err(DiskError::Shared { path: path.to_owned(), mode }) } else { Ok(()) }
}
