//! A child process and what the kernel says about it.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, ChildStdout, Command};

/// A child, killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts a command that is ready but for its input and output.
    pub(crate) fn spawn(mut command: Command) -> io::Result<Self> {
        command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        command.spawn().map(Self)
    }

    /// Its output, once.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.0.stdout.take()
    }

    fn pid(&self) -> Option<Pid> {
        self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw)
    }

    /// Sends a signal; an ended process is none to be told.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Some(pid) = self.pid() {
            let _ = kill_process(pid, signal);
        }
    }

    /// Kills it and waits for its end.
    pub(crate) async fn end(mut self) {
        let _ = self.0.kill().await;
    }

    /// Resident memory, KiB.
    pub(crate) fn resident_kib(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id()?)).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        line.split_whitespace().nth(1)?.parse().ok()
    }

    /// Time on a processor of all its living threads, to the nanosecond; the
    /// ordinary counters tick in hundredths of a second.
    pub(crate) fn processor_time(&self) -> Option<Duration> {
        let mut total = 0;
        for task in std::fs::read_dir(format!("/proc/{}/task", self.0.id()?)).ok()? {
            let statistics = std::fs::read_to_string(task.ok()?.path().join("schedstat")).ok()?;
            total += statistics.split_whitespace().next()?.parse::<u64>().ok()?;
        }
        Some(Duration::from_nanos(total))
    }
}
