//! The only place of the configuration that touches files.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Longest file read, bytes. Configuration that people write stays far below it;
/// a device or a log given by mistake does not fill memory.
const MAX_FILE: u64 = 4 << 20;

/// Reads the files that configuration names, so that parsing itself does no I/O.
pub trait Files {
    /// The whole text of a file.
    ///
    /// # Errors
    /// What the operating system says, or that the file is too long or no UTF-8.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemFiles;

impl Files for SystemFiles {
    fn read(&self, path: &Path) -> io::Result<String> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("longer than {MAX_FILE} bytes"),
            ));
        }
        String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            let bytes = error.into_bytes();
            let (before, rest) = bytes.split_at(valid);
            let before = String::from_utf8_lossy(before);
            let bad = NotUtf8 {
                line: before.matches('\n').count() + 1,
                column: before.rsplit('\n').next().unwrap_or_default().chars().count() + 1,
                byte: rest.first().copied().unwrap_or_default(),
            };
            io::Error::new(io::ErrorKind::InvalidData, bad)
        })
    }
}

/// A file that is no text, or in another encoding.
#[derive(Debug, thiserror::Error)]
#[error("found the byte 0x{byte:02x}, which is not UTF-8 text")]
pub(super) struct NotUtf8 {
    /// Counted from 1.
    pub(super) line: usize,
    /// Counted from 1, in characters.
    pub(super) column: usize,
    byte: u8,
}

/// What went wrong, without the operating system's number behind it.
pub(super) fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}
