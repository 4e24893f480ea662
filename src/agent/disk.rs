//! What must survive a restart: one JSON file below `node.data_dir`, replaced whole.
//!
//! Tasks: one, [`Saver::spawn`]'s, owned by the [`Saver`]; it writes the newest state
//! it was given and reports which version is on disk. It ends when the saver is
//! dropped; [`Saver::flush`] waits for the last write.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::warn;

use crate::attributes::MAX_DETAIL;
use crate::node::{BootId, ClusterId, Incarnation, NodeName, Role};
use crate::protocol::membership::{Durable, Epoch, Health, Reason, Record, Standing};

/// The format written; older ones are read as long as this release knows them.
const FORMAT: u32 = 1;

/// Pause after a failed write: a full disk is no reason to spin.
const RETRY: Duration = Duration::from_secs(1);

/// Why the state directory cannot be used. Nothing was changed in it.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The directory or a file in it cannot be made, read or written.
    #[error("cannot use the state directory {}: {source}", path.display())]
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
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))
            .map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(DiskError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let dir = Self { path: path.to_owned(), _lock: lock };
        // Found out now rather than when the first state is to be saved.
        let probe = dir.path.join("state.json.new");
        OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&probe)
            .and_then(|_| fs::remove_file(&probe))
            .map_err(unusable)?;
        Ok(dir)
    }

    fn file(&self) -> PathBuf {
        self.path.join("state.json")
    }

    /// Reads the state of this node in this cluster. A file that cannot be read or is
    /// another node's is moved aside with a warning, never overwritten.
    ///
    /// # Errors
    /// [`DiskError`] when the file is there but cannot be opened, or not be moved.
    pub(super) fn load(&self, node: &NodeName, cluster: &str) -> Result<Durable, DiskError> {
        let path = self.file();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Durable::default());
            }
            Err(source) => return Err(DiskError::Unusable { path, source }),
        };
        match parse(&bytes, node, cluster) {
            Ok(durable) => Ok(durable),
            Err(problem) => {
                let aside = self.move_aside(&path)?;
                warn!(
                    "the state file {} {problem}; it was moved to {} and this node starts without it",
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
    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let new = self.path.join("state.json.new");
        let mut file =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, self.file())?;
        File::open(&self.path)?.sync_all()
    }
}

fn parse(bytes: &[u8], node: &NodeName, cluster: &str) -> Result<Durable, String> {
    let format: Format =
        serde_json::from_slice(bytes).map_err(|error| format!("is damaged ({error})"))?;
    if format.format != FORMAT {
        return Err(format!("has format {}, this release reads {FORMAT}", format.format));
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
    bytes
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
    pub(super) fn spawn(dir: StateDir, node: NodeName, cluster: String) -> Self {
        let (wanted, wishes) = watch::channel(Wanted::default());
        let (report, saved) = watch::channel(Saved::default());
        tokio::spawn(save(dir, node, cluster, wishes, report));
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
    mut wishes: watch::Receiver<Wanted>,
    report: watch::Sender<Saved>,
) {
    let dir = std::sync::Arc::new(dir);
    while wishes.changed().await.is_ok() {
        loop {
            let Wanted { version, durable } = wishes.borrow_and_update().clone();
            let bytes = render(&node, &cluster, &durable);
            let to = std::sync::Arc::clone(&dir);
            let written = tokio::task::spawn_blocking(move || to.write(&bytes)).await;
            let error = match written {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.to_string()),
                Err(crashed) => Some(crashed.to_string()),
            };
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
