//! What the measured systems have in common: where they run, and how they are heard.

use std::net::{Ipv4Addr, SocketAddr};

use muster::cli::dev::ports::{MAX_AGENTS, PortLease};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum System {
    Muster,
    MusterTls,
    /// With a probe, a rendered file, hooks and DNS.
    MusterFollow,
    Serf,
    Erlang,
}

impl System {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Muster => "muster",
            Self::MusterTls => "muster-tls",
            Self::MusterFollow => "muster-follow",
            Self::Serf => "serf",
            Self::Erlang => "erlang",
        }
    }

    /// Whether its program can be started.
    pub(crate) fn is_installed(self) -> bool {
        let program = match self {
            Self::Muster | Self::MusterTls | Self::MusterFollow => return true,
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
        let ports = u16::try_from(n).unwrap().min(MAX_AGENTS);
        let ports = PortLease::any(ports).expect("no free ports");
        let directory = tempfile::Builder::new().prefix("muster-bench-").tempdir().unwrap();
        Self { ports, directory, n }
    }

    /// Node `k`'s own address: one has ports for a hundred nodes.
    pub(crate) fn host(k: usize) -> Ipv4Addr {
        let hosts = (k - 1) / usize::from(MAX_AGENTS);
        Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(hosts).unwrap())
    }

    /// Node `k`'s number on its address, from 1.
    pub(crate) fn slot(k: usize) -> u16 {
        u16::try_from((k - 1) % usize::from(MAX_AGENTS)).unwrap() + 1
    }

    /// The node with this number on an address that ends in this.
    pub(crate) fn node(slot: usize, last: usize) -> usize {
        slot + (last - 1) * usize::from(MAX_AGENTS)
    }

    /// The address of node `k`'s interface for clients.
    pub(crate) fn api(&self, k: usize) -> SocketAddr {
        (Self::host(k), self.ports.api(Self::slot(k))).into()
    }

    /// The address where node `k` listens for the others.
    pub(crate) fn mesh(&self, k: usize) -> SocketAddr {
        (Self::host(k), self.ports.mesh(Self::slot(k))).into()
    }
}
