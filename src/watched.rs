//! Files that may change while the agent runs.
//!
//! They are looked at by their metadata, through symbolic links, so that Kubernetes'
//! swap of a whole directory counts. A change is told once it has held still for a
//! second look, so that a file being written is left alone.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

/// Between two looks. New files are in use after two of them.
pub const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What the system says of the files; different whenever one was written or replaced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Fingerprint(Vec<Option<[i64; 6]>>);

impl Fingerprint {
    fn of(paths: &[PathBuf]) -> Self {
        let stat = |path: &PathBuf| {
            let meta = fs::metadata(path).ok()?;
            let (dev, ino) = (meta.dev().cast_signed(), meta.ino().cast_signed());
            let size = meta.size().cast_signed();
            // The change time moves with every write and rename; nobody can set it back.
            Some([dev, ino, size, meta.mtime(), meta.ctime(), meta.ctime_nsec()])
        };
        Self(paths.iter().map(stat).collect())
    }
}

/// Some files, and how they looked when they were last read.
#[derive(Debug, Default)]
pub struct Watched {
    paths: Vec<PathBuf>,
    /// As they were last read, whatever came of it.
    read: Fingerprint,
    /// Different from that, and seen once.
    pending: Option<Fingerprint>,
}

impl Watched {
    /// Files that have just been read.
    #[must_use]
    pub fn read(paths: Vec<PathBuf>) -> Self {
        Self { read: Fingerprint::of(&paths), paths, pending: None }
    }

    /// Files that were read some time ago: they count as changed once.
    #[must_use]
    pub fn unread(paths: Vec<PathBuf>) -> Self {
        Self { paths, ..Self::default() }
    }

    /// Looks once. Whether the files have changed and held still since the look before;
    /// they then count as read. Blocks for as long as the file system does.
    pub fn changed(&mut self) -> bool {
        let now = Fingerprint::of(&self.paths);
        if now == self.read {
            self.pending = None;
            return false;
        }
        if self.pending.as_ref() != Some(&now) {
            self.pending = Some(now);
            return false;
        }
        self.pending = None;
        self.read = now;
        true
    }

    /// Watches these, just read, instead of the others where they are others.
    pub fn follow(&mut self, paths: Vec<PathBuf>) {
        if paths != self.paths {
            *self = Self::read(paths);
        }
    }
}
