//! Programs of the operator: run without a shell, in a process group of their own, for a
//! bounded time, with bounded output.
//!
//! No task of its own: [`run`] is one future. Dropping it ends the process group at once.

use std::convert::Infallible;
use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::unix::pipe;
use tokio::process::{Child, Command};
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::trust;
use crate::escape::escaped;

/// What is kept of a program's output, bytes and lines: enough for the mistakes it names
/// first. The rest is read, so that the program goes on, and thrown away.
const KEPT_BYTES: usize = 4096;
const KEPT_LINES: usize = 32;

/// Between the request to end and the end.
const TERM_GRACE: Duration = Duration::from_secs(1);

/// After the program has ended and its group with it, only who left the group can still
/// hold its output open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Variables that are the agent's own: its configuration (the cookie and the token may be
/// among it), and what its service manager handed to it alone.
const PRIVATE_PREFIXES: [&str; 4] = ["EMQX_", "MUSTER_", "LISTEN_", "WATCHDOG_"];
const PRIVATE: [&str; 2] = ["NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY"];

/// Programs that may be started at one time: as many as there are threads for it.
const STARTS: u32 = 16;

/// Starts under way; of the whole process, as the programs are.
static STARTING: Semaphore = Semaphore::const_new(STARTS as usize);

/// Waits until no program is being started any more. A runtime that ends in between knows
/// nothing of a program that has just begun, and nobody would end that.
pub(super) async fn started() {
    // It is never closed.
    let _all = STARTING.acquire_many(STARTS).await;
}

/// What is to be run.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// The program and its arguments.
    pub(crate) argv: Vec<String>,
    /// What it reads.
    pub(crate) stdin: Vec<u8>,
    /// Variables besides those of the agent's environment that are not its own.
    pub(crate) environment: Vec<(&'static str, String)>,
    /// How long it may take.
    pub(crate) timeout: Duration,
}

/// How a program failed. The operator's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProgramError {
    /// It is not there, or others may write it.
    #[error("{0}")]
    Refused(String),
    /// It could not be started.
    #[error("{program} cannot be started: {reason}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        reason: String,
    },
    /// It said no.
    #[error("{program} ended with status {status}")]
    Status {
        /// The program.
        program: String,
        /// Its exit status.
        status: i32,
    },
    /// It was killed.
    #[error("{program} was ended by signal {signal}")]
    Signal {
        /// The program.
        program: String,
        /// The signal.
        signal: i32,
    },
    /// It took too long; its process group was ended.
    #[error("{program} was not done after {} and was ended", seconds(*.after))]
    Timeout {
        /// The program.
        program: String,
        /// How long it had.
        after: Duration,
    },
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

impl ProgramError {
    /// The kind, for metrics.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Start { .. } => "start",
            Self::Status { .. } => "failed",
            Self::Signal { .. } => "signal",
            Self::Timeout { .. } => "timeout",
        }
    }
}

/// The beginning of what a program wrote to its output and errors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Output {
    kept: Vec<u8>,
    /// Bytes read in all.
    total: u64,
}

impl Output {
    fn push(&mut self, bytes: &[u8]) {
        self.total += bytes.len() as u64;
        let room = KEPT_BYTES - self.kept.len();
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// Lines without what could forge or steer a log, and last how much is not shown.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = String::from_utf8_lossy(&self.kept);
        let mut shown = 0;
        let mut lines = Vec::new();
        for line in text.split_inclusive('\n').take(KEPT_LINES) {
            shown += line.len();
            let line = line.trim_end();
            if !line.is_empty() {
                lines.push(escaped(line));
            }
        }
        let hidden = self.total.saturating_sub(shown as u64);
        if hidden > 0 {
            lines.push(format!("… and {hidden} bytes more"));
        }
        lines
    }
}

/// How a run ended, and what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    /// Whether it did what it should.
    pub(crate) result: Result<(), ProgramError>,
    /// What it wrote.
    pub(crate) output: Output,
}

/// The process group, ended when this is dropped.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(pid) = self.0 {
            // A group without processes is what is wanted.
            let _none_left = kill_process_group(pid, signal);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

/// Runs a program to its end, or to the end of its time. Whatever it left running in its
/// process group is ended with it. Cancel-safe in that nothing goes on when it is dropped.
pub(crate) async fn run(job: Job) -> Done {
    let mut output = Output::default();
    let result = match start(&job).await {
        Ok(started) => attend(started, &job, &mut output).await,
        Err(error) => Err(error),
    };
    Done { result, output }
}

struct Started {
    program: String,
    child: Child,
    group: Group,
    output: pipe::Receiver,
}

/// Looks at the program and starts it, on a thread that may wait for the file system.
async fn start(job: &Job) -> Result<Started, ProgramError> {
    let job = job.clone();
    let name = job.argv.first().cloned().unwrap_or_default();
    let failed = |error: &dyn std::fmt::Display| ProgramError::Start {
        program: name.clone(),
        reason: error.to_string(),
    };
    let starting = STARTING.acquire().await.map_err(|error| failed(&error))?;
    let started = spawn_blocking(move || {
        let name = job.argv.first().map_or("", String::as_str);
        let started = trust::program(name).map_err(ProgramError::Refused).and_then(|program| {
            spawn(&program, &job).map_err(|error| ProgramError::Start {
                program: name.to_owned(),
                reason: error.to_string(),
            })
        });
        // In this order: where nobody waits any more, the program ends before its start counts
        // as over.
        (started, starting)
    });
    started.await.map_err(|error| failed(&error))?.0
}

fn spawn(program: &std::path::Path, job: &Job) -> io::Result<Started> {
    let (sender, output) = pipe::pipe()?;
    let sender = sender.into_blocking_fd()?;
    let mut command = Command::new(program);
    command
        .args(job.argv.iter().skip(1))
        .stdin(Stdio::piped())
        .stdout(sender.try_clone()?)
        .stderr(sender)
        .process_group(0)
        .kill_on_drop(true);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let of_ours = PRIVATE_PREFIXES.iter().any(|prefix| text.starts_with(prefix));
        if of_ours || PRIVATE.contains(&text.as_ref()) {
            command.env_remove(&name);
        }
    }
    command.envs(job.environment.iter().map(|(name, value)| (name, value)));
    let child = command.spawn()?;
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let program = program.display().to_string();
    Ok(Started { program, child, group: Group(pid), output })
}

/// Feeds and reads a program until it ends.
async fn attend(started: Started, job: &Job, output: &mut Output) -> Result<(), ProgramError> {
    let Started { program, mut child, group, output: mut pipe } = started;
    let mut stdin = child.stdin.take();
    let talk = async {
        let feed = async {
            if let Some(mut stdin) = stdin.take() {
                // Who does not read to the end has its reasons.
                let _closed = stdin.write_all(&job.stdin).await;
            }
        };
        tokio::join!(feed, read(&mut pipe, output));
        std::future::pending::<Infallible>().await
    };
    let ended = tokio::select! {
        ended = timeout(job.timeout, child.wait()) => ended,
        never = talk => match never {},
    };
    let Ok(status) = ended else {
        group.signal(Signal::TERM);
        let _graceful = timeout(TERM_GRACE, child.wait()).await;
        drop(group);
        // Killed now; it is gone as soon as the system lets it go.
        let _reaped = timeout(TERM_GRACE, child.wait()).await;
        let _last_words = timeout(LAST_WORDS, read(&mut pipe, output)).await;
        return Err(ProgramError::Timeout { program, after: job.timeout });
    };
    drop(group);
    let _last_words = timeout(LAST_WORDS, read(&mut pipe, output)).await;
    judge(program, status)
}

fn judge(program: String, status: io::Result<ExitStatus>) -> Result<(), ProgramError> {
    match status {
        Err(error) => Err(ProgramError::Start { program, reason: error.to_string() }),
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(match status.signal() {
            Some(signal) => ProgramError::Signal { program, signal },
            None => ProgramError::Status { program, status: status.code().unwrap_or(-1) },
        }),
    }
}

/// Reads to the end; an error is one.
async fn read(pipe: &mut pipe::Receiver, output: &mut Output) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        output.push(&buffer[..length]);
    }
}

#[cfg(test)]
mod tests;
