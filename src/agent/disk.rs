//! What must survive a restart: one JSON file below `node.data_dir`, replaced whole.
//!
//! Tasks: one, [`Saver::spawn`]'s, owned by the [`Saver`]; it writes the newest state
//! it was given and reports which version is on disk. It ends when the saver is
//! dropped; [`Saver::flush`] waits for the last write.

mod files;
mod seal;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use crate::attributes::MAX_DETAIL;
use crate::metrics::Metrics;
use crate::node::{BootId, ClusterId, Incarnation, NodeName, Role};
use crate::protocol::membership::{Durable, Epoch, Health, Reason, Record, Standing};

/// The format written.
const FORMAT: u32 = 2;
/// Read as well: that of release 0.1.0, which had no checksum.
const UNSEALED: u32 = 1;

/// Longest state file read, bytes: as many records as a node may hold, many times over.
const MAX_FILE: u64 = 64 << 20;

/// Pause after a failed write: a full disk is no reason to spin.
const RETRY: Duration = Duration::from_secs(1);

/// Why the state directory cannot be used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The directory or a file in it cannot be made, read or written.
    #[error("the state cannot be kept at {}: {}", path.display(), unusable(source))]
    Unusable {
        /// The directory or file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process works in it.
    #[error(
        "the state directory {} is in use by another muster process; give each node its own \
         node.data_dir",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Something else stands where a file of the agent's is to be: somebody's doing.
    #[error(
        "{} is {what} where muster keeps a file of its own, and is neither followed nor used: \
         find out who put it there, remove it, and start again",
        path.display()
    )]
    NotAFile {
        /// Where.
        path: PathBuf,
        /// What stands there.
        what: &'static str,
    },
    /// Every user of the machine may write into the directory.
    #[error(
        "every user of this machine may write into {} (mode {mode:04o}), and so could replace \
         this node's state: run chmod o-w on it, or give node.data_dir a directory of its own",
        path.display()
    )]
    Shared {
        /// The directory.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
}

/// Why a file or directory cannot be used, and what to do.
fn unusable(error: &io::Error) -> String {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => {
            "let the agent's user write there, or give node.data_dir a directory of that user's"
        }
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "a file stands where a directory is to be: move it away, or give node.data_dir \
             another directory"
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            "give node.data_dir a directory on a file system that is writable"
        }
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "free space there, or give node.data_dir another directory"
        }
        _ => "mend that, or give node.data_dir another directory",
    };
    format!("{error} -> {remedy}")
}

/// The directory, locked for this process as long as it lives.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    _lock: File,
}

#[derive(Debug, Serialize, Deserialize)]
struct Format {
    format: u32,
}

#[derive(Debug, Serialize, Deserialize)]
struct Stored {
    format: u32,
    node: NodeName,
    cluster: String,
    id: Option<ClusterId>,
    epoch: u64,
    incarnation: Incarnation,
    left: bool,
    discovery_off: bool,
    /// Since 0.2.0, which 0.1.0 skips: why this node drains.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    draining: Option<String>,
    /// Since 0.2.0: who brought which member that no link has proven.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    brought: BTreeMap<NodeName, NodeName>,
    members: Vec<StoredRecord>,
}

#[derive(Debug, Serialize, Deserialize)]
struct StoredRecord {
    node: NodeName,
    epoch: u64,
    standing: StoredStanding,
    incarnation: Incarnation,
    boot: BootId,
    role: Role,
    /// Since 0.2.0: a member that stopped by its own word.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stopped: bool,
    /// Since 0.2.0: a tombstone's place in the order of burials.
    #[serde(default, skip_serializing_if = "is_zero")]
    burial: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StoredStanding {
    Member,
    Left,
    ForceLeft,
    Autocleaned,
}

impl StateDir {
    /// Makes the directory if need be, owner-only, and locks it.
    ///
    /// # Errors
    /// [`DiskError`]
    pub(super) fn open(path: &Path) -> Result<Self, DiskError> {
        let unusable = |source| DiskError::Unusable { path: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        if let Some(data_dir) = path.parent() {
            let here = data_dir.as_os_str().is_empty();
            files::is_private(if here { Path::new(".") } else { data_dir }, true)?;
        }
        files::is_private(path, false)?;
        let mut options = OpenOptions::new();
        let lock =
            files::open(&path.join("lock"), options.create(true).truncate(false).write(true))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DiskError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let dir = Self { path: path.to_owned(), _lock: lock };
        // Found out now rather than when the first state is to be saved.
        let new = dir.new_file();
        files::create_anew(&new)?;
        fs::remove_file(&new).map_err(unusable)?;
        Ok(dir)
    }

    fn file(&self) -> PathBuf {
        self.path.join("state.json")
    }

    fn new_file(&self) -> PathBuf {
        self.path.join("state.json.new")
    }

    /// Reads the state of this node in this cluster. A file that cannot be read or is
    /// another node's is moved aside with a warning, never overwritten.
    ///
    /// # Errors
    /// [`DiskError`] when the file is there but cannot be opened, or not be moved.
    pub(super) fn load(&self, node: &NodeName, cluster: &str) -> Result<Durable, DiskError> {
        let path = self.file();
        let Some(bytes) = read(&path)? else { return Ok(Durable::default()) };
        match parse(&bytes, node, cluster) {
            Ok(durable) => Ok(durable),
            Err(problem) => {
                let aside = self.move_aside(&path)?;
                warn!(
                    "the state file {} {problem}; it was moved to {} and this node starts without it: \
                     it learns the members from discovery and its peers. Where it belongs to \
                     another node or cluster, give each a node.data_dir of its own",
                    path.display(),
                    aside.display()
                );
                Ok(Durable::default())
            }
        }
    }

    fn move_aside(&self, path: &Path) -> Result<PathBuf, DiskError> {
        let free = (1u32..)
            .map(|n| self.path.join(format!("state.json.unusable-{n}")))
            .find(|aside| !aside.exists())
            .unwrap_or_else(|| self.path.join("state.json.unusable"));
        fs::rename(path, &free)
            .map_err(|source| DiskError::Unusable { path: path.to_owned(), source })?;
        Ok(free)
    }

    /// Replaces the state file: new file, fsync, rename, fsync of the directory.
    fn write(&self, bytes: &[u8]) -> Result<(), DiskError> {
        let new = self.new_file();
        let unusable = |source| DiskError::Unusable { path: self.path.clone(), source };
        let mut file = files::create_anew(&new)?;
        file.write_all(bytes).map_err(unusable)?;
        file.sync_all().map_err(unusable)?;
        fs::rename(&new, self.file()).map_err(unusable)?;
        File::open(&self.path).and_then(|dir| dir.sync_all()).map_err(unusable)
    }
}

/// The whole of the file, if it is there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, DiskError> {
    let unusable = |source| DiskError::Unusable { path: path.to_owned(), source };
    let file = match files::open(path, OpenOptions::new().read(true)) {
        Ok(file) => file,
        Err(DiskError::Unusable { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(MAX_FILE).read_to_end(&mut bytes).map_err(unusable)?;
    Ok(Some(bytes))
}

fn parse(bytes: &[u8], node: &NodeName, cluster: &str) -> Result<Durable, String> {
    let expected = if seal::is_sealed(bytes)? { FORMAT } else { UNSEALED };
    let format: Format =
        serde_json::from_slice(bytes).map_err(|error| format!("is damaged ({error})"))?;
    match format.format {
        found if found == expected => {}
        FORMAT => return Err("is damaged (its checksum is missing)".to_owned()),
        found => {
            return Err(format!("has format {found}, this release reads {UNSEALED} and {FORMAT}"));
        }
    }
    let stored: Stored =
        serde_json::from_slice(bytes).map_err(|error| format!("is damaged ({error})"))?;
    if stored.node != *node {
        return Err(format!("is that of node {}", stored.node));
    }
    if stored.cluster != cluster {
        return Err(format!("is that of cluster {:?}", stored.cluster));
    }
    Ok(Durable {
        id: stored.id,
        epoch: Epoch(stored.epoch),
        incarnation: stored.incarnation,
        left: stored.left,
        discovery_off: stored.discovery_off,
        brought: stored.brought,
        draining: stored.draining.filter(|reason| reason.len() <= MAX_DETAIL),
        records: stored.members.into_iter().map(|record| record.revive(node)).collect(),
    })
}

impl StoredRecord {
    fn revive(self, by: &NodeName) -> Record {
        let (standing, reason) = match self.standing {
            StoredStanding::Member if self.stopped => {
                (Standing::Member(Health::Unknown), Reason::Stopped)
            }
            StoredStanding::Member => (Standing::Member(Health::Unknown), Reason::Unseen),
            StoredStanding::Left => (Standing::Left, Reason::Left),
            StoredStanding::ForceLeft => (Standing::ForceLeft, Reason::ForceLeft),
            StoredStanding::Autocleaned => (Standing::Autocleaned, Reason::Autocleaned),
        };
        let by = if self.stopped { &self.node } else { by }.clone();
        Record {
            node: self.node,
            epoch: Epoch(self.epoch),
            standing,
            incarnation: self.incarnation,
            boot: self.boot,
            role: self.role,
            reason: Some(reason),
            by,
            version: String::new(),
            attributes: None,
            burial: self.burial,
        }
    }

    fn keep(record: &Record) -> Self {
        Self {
            node: record.node.clone(),
            epoch: record.epoch.0,
            standing: match record.standing {
                Standing::Member(_) => StoredStanding::Member,
                Standing::Left => StoredStanding::Left,
                Standing::ForceLeft => StoredStanding::ForceLeft,
                Standing::Autocleaned => StoredStanding::Autocleaned,
            },
            incarnation: record.incarnation,
            boot: record.boot,
            role: record.role,
            stopped: record.has_stopped(),
            burial: record.burial,
        }
    }
}

fn render(node: &NodeName, cluster: &str, durable: &Durable) -> Vec<u8> {
    let stored = Stored {
        format: FORMAT,
        node: node.clone(),
        cluster: cluster.to_owned(),
        id: durable.id,
        epoch: durable.epoch.0,
        incarnation: durable.incarnation,
        left: durable.left,
        discovery_off: durable.discovery_off,
        draining: durable.draining.clone(),
        brought: durable.brought.clone(),
        members: durable.records.iter().map(StoredRecord::keep).collect(),
    };
    // Plain data with text keys always serialises.
    let mut bytes = serde_json::to_vec_pretty(&stored).unwrap_or_default();
    bytes.push(b'\n');
    seal::sealed(&bytes)
}

/// A state that is to be on disk.
#[derive(Clone, Debug, Default)]
struct Wanted {
    version: u64,
    durable: Durable,
}

/// What came of the newest write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Saved {
    /// The newest version on disk.
    pub(super) version: u64,
    /// Why a newer one is not.
    pub(super) error: Option<String>,
}

/// Writes states in the background, the newest only: a slow disk delays nobody but
/// those who wait for it.
#[derive(Debug)]
pub(super) struct Saver {
    wanted: watch::Sender<Wanted>,
    saved: watch::Receiver<Saved>,
}

impl Saver {
    /// Starts the task that writes into `dir`.
    #[must_use]
    pub(super) fn spawn(
        dir: StateDir,
        node: NodeName,
        cluster: String,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (wanted, wishes) = watch::channel(Wanted::default());
        let (report, saved) = watch::channel(Saved::default());
        tokio::spawn(save(dir, node, cluster, metrics, wishes, report));
        Self { wanted, saved }
    }

    /// Has this state written, in place of any that still waits.
    pub(super) fn want(&self, version: u64, durable: Durable) {
        self.wanted.send_replace(Wanted { version, durable });
    }

    /// What came of the newest write; changes with every write.
    #[must_use]
    pub(super) fn saved(&self) -> watch::Receiver<Saved> {
        self.saved.clone()
    }

    /// Waits until `version` is on disk or could not be written.
    pub(super) async fn flush(mut self, version: u64) {
        // An error means that the task is gone, and with it any hope of saving.
        let _gone =
            self.saved.wait_for(|saved| saved.version >= version || saved.error.is_some()).await;
    }
}

async fn save(
    dir: StateDir,
    node: NodeName,
    cluster: String,
    metrics: Arc<Metrics>,
    mut wishes: watch::Receiver<Wanted>,
    report: watch::Sender<Saved>,
) {
    let dir = Arc::new(dir);
    while wishes.changed().await.is_ok() {
        loop {
            let Wanted { version, durable } = wishes.borrow_and_update().clone();
            let bytes = render(&node, &cluster, &durable);
            let to = Arc::clone(&dir);
            let written = tokio::task::spawn_blocking(move || to.write(&bytes)).await;
            let error = match written {
                Ok(Ok(())) => None,
                Ok(Err(DiskError::Unusable { source, .. })) => Some(source.to_string()),
                Ok(Err(error)) => Some(error.to_string()),
                Err(crashed) => Some(crashed.to_string()),
            };
            metrics.state_unsaved.set(i64::from(error.is_some()));
            let file = dir.file();
            let error = error.map(|why| format!("cannot write {}: {why}", file.display()));
            let failed = error.is_some();
            let version = if failed { report.borrow().version } else { version };
            report.send_replace(Saved { version, error });
            if !failed {
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
    }
}

#[cfg(test)]
mod tests;
