//! What the measured systems have in common: where they run, and how they are heard.

use std::net::{Ipv4Addr, SocketAddr};

use muster::cli::dev::ports::PortLease;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    Muster,
    MusterTls,
    Serf,
    Erlang,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Muster => "muster",
            Self::MusterTls => "muster-tls",
            Self::Serf => "serf",
            Self::Erlang => "erlang",
        }
    }

    /// Whether its program can be started.
    pub(crate) fn is_installed(self) -> bool {
        let program = match self {
            Self::Muster | Self::MusterTls => return true,
            Self::Serf => "serf",
            Self::Erlang => "erl",
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
    }
}

/// One observer's news: `observer` has `subject` in its view, or no longer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sighting {
    pub(crate) observer: usize,
    pub(crate) subject: usize,
    pub(crate) up: bool,
    pub(crate) at: Instant,
}

/// Where an observer reports to.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    observer: usize,
    sightings: mpsc::UnboundedSender<Sighting>,
}

impl Reporter {
    /// For node number `observer`, from 0.
    pub(crate) fn new(observer: usize, sightings: mpsc::UnboundedSender<Sighting>) -> Self {
        Self { observer, sightings }
    }

    /// Reports node `k` (from 1, as in the nodes' names) as seen now.
    pub(crate) fn report(&self, k: usize, up: bool) {
        if let Some(subject) = k.checked_sub(1) {
            let at = Instant::now();
            // The group is gone when the benchmark has what it wanted.
            let _ = self.sightings.send(Sighting { observer: self.observer, subject, up, at });
        }
    }
}

/// The group's common ground.
#[derive(Debug)]
pub(crate) struct Ground {
    pub(crate) ports: PortLease,
    pub(crate) directory: tempfile::TempDir,
    pub(crate) n: usize,
}

impl Ground {
    pub(crate) fn new(n: usize) -> Self {
        let ports = PortLease::any(u16::try_from(n).unwrap()).expect("no free ports");
        let directory = tempfile::Builder::new().prefix("muster-bench-").tempdir().unwrap();
        Self { ports, directory, n }
    }

    /// The address of node `k`'s interface for clients.
    pub(crate) fn api(&self, k: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.api(u16::try_from(k).unwrap())).into()
    }

    /// The address where node `k` listens for the others.
    pub(crate) fn mesh(&self, k: usize) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.ports.mesh(u16::try_from(k).unwrap())).into()
    }
}
