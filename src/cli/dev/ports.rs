//! Ports for several agents on one machine, without two users of this module
//! ever being handed the same ones.

use std::fs::{DirBuilder, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::PathBuf;

/// The most agents one lease has room for.
pub const MAX_AGENTS: u16 = 100;

/// Spare ports of a lease, for whatever else runs beside the agents.
pub const SPARE_PORTS: u16 = 50;

/// Leased blocks lie here: above what services are usually given, below the
/// range that Linux takes outgoing ports from (32768).
const FIRST_BLOCK: u16 = 20_000;
const BLOCK: u16 = 256;
const BLOCKS: u16 = 49;

/// Ports of a group of agents, kept from other leases of the same user until
/// dropped.
///
/// Agent `k`, from 1, is to be named with offset `k`: its mesh port is then
/// `mesh_base() + k`.
#[derive(Debug)]
pub struct PortLease {
    mesh_base: u16,
    api_base: u16,
    spare_base: u16,
    _lock: File,
}

impl PortLease {
    /// Ports for agents `1..=agents` (at most [`MAX_AGENTS`]): muster's default
    /// ones where all of them are free, any others elsewhere.
    ///
    /// # Errors
    /// `AddrInUse` when no block is free, or what /tmp said.
    pub fn default_or_any(agents: u16) -> io::Result<Self> {
        if let Some(lock) = lock_block("default")? {
            let lease = Self { mesh_base: 6370, api_base: 7370, spare_base: 8370, _lock: lock };
            if lease.is_free(agents) {
                return Ok(lease);
            }
        }
        Self::any(agents)
    }

    /// Ports for agents `1..=agents` (at most [`MAX_AGENTS`]), never the default ones.
    ///
    /// # Errors
    /// As [`PortLease::default_or_any`].
    pub fn any(agents: u16) -> io::Result<Self> {
        if agents > MAX_AGENTS {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("at most {MAX_AGENTS} agents"),
            ));
        }
        // Different processes begin their search at different blocks.
        let first = std::process::id() % u32::from(BLOCKS);
        for step in 0..u32::from(BLOCKS) {
            let index = (first + step) % u32::from(BLOCKS);
            let Some(lock) = lock_block(&index.to_string())? else { continue };
            let Ok(index) = u16::try_from(index) else { continue };
            let base = FIRST_BLOCK + index * BLOCK;
            let lease = Self {
                mesh_base: base,
                api_base: base + MAX_AGENTS,
                spare_base: base + 2 * MAX_AGENTS,
                _lock: lock,
            };
            if lease.is_free(agents) {
                return Ok(lease);
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "no free range of ports on this machine"))
    }

    /// What `agent.mesh.base_port` is to be.
    #[must_use]
    pub fn mesh_base(&self) -> u16 {
        self.mesh_base
    }

    /// The mesh port of agent `k`.
    #[must_use]
    pub fn mesh(&self, k: u16) -> u16 {
        self.mesh_base + k
    }

    /// The API port of agent `k`.
    #[must_use]
    pub fn api(&self, k: u16) -> u16 {
        self.api_base + k
    }

    /// Spare port `i`, below [`SPARE_PORTS`]; not probed.
    #[must_use]
    pub fn spare(&self, i: u16) -> u16 {
        self.spare_base + i
    }

    /// Whether nothing listens on any port that the agents need.
    fn is_free(&self, agents: u16) -> bool {
        (1..=agents).flat_map(|k| [self.mesh(k), self.api(k)]).all(|port| {
            // Agents bind their mesh port on every address.
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
        })
    }
}

/// Locks a block; `None` when another process, or another lease of this one, has it.
fn lock_block(name: &str) -> io::Result<Option<File>> {
    let directory = lock_directory()?;
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(directory.join(format!("{name}.lock")))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Ok(None),
        Err(std::fs::TryLockError::Error(error)) => Err(error),
    }
}

/// One directory a user: nobody can lock others out, or be locked out by their files.
/// Not `TMPDIR`: ports belong to the whole machine, whatever the environment says.
fn lock_directory() -> io::Result<PathBuf> {
    let user = std::fs::metadata("/proc/self")?.uid();
    let directory = PathBuf::from(format!("/tmp/muster-ports-{user}"));
    DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
    Ok(directory)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_are_disjoint() {
        let first = PortLease::any(2).unwrap();
        let second = PortLease::any(2).unwrap();
        assert_ne!(first.mesh_base(), second.mesh_base());
    }

    #[test]
    fn a_taken_port_disqualifies_its_block() {
        let first = PortLease::any(3).unwrap();
        let base = first.mesh_base();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first.api(3))).unwrap();
        drop(first);
        assert_ne!(PortLease::any(3).unwrap().mesh_base(), base);
        assert_eq!(PortLease::any(MAX_AGENTS + 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
}
