//! The agents of a throwaway cluster: child processes and their APIs.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::select_all;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout, timeout_at};

use super::error::{Context as _, DevError};
use super::say::say;

/// An agent that does not answer its API for so long is asked again.
const ASK_TIMEOUT: Duration = Duration::from_secs(20);
/// Agents that have not stopped by then are killed.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Most of an API answer that is read: the cluster route of 100 members is 10 kB.
const ANSWER_LIMIT: u64 = 1 << 20;
/// Lines shown of a dead agent's log.
const TAIL_LINES: usize = 15;

/// One agent process, killed when dropped.
#[derive(Debug)]
pub(super) struct DevAgent {
    pub(super) name: String,
    pub(super) mesh: SocketAddr,
    pub(super) api: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl DevAgent {
    /// Starts an agent in its directory, which gets its configuration and its log.
    pub(super) fn start(
        name: String,
        mesh: SocketAddr,
        api: SocketAddr,
        home: &Path,
        config_text: &str,
    ) -> Result<Self, DevError> {
        let config = home.join("emqx.conf");
        std::fs::write(&config, config_text)
            .context(|| format!("cannot write {}", config.display()))?;
        let log = home.join("agent.log");
        let open = || File::options().create(true).append(true).open(&log);
        let cannot_write = || format!("cannot write {}", log.display());
        let output = open().context(cannot_write)?;
        let errors = open().context(cannot_write)?;
        let program = std::env::current_exe().context(|| "cannot find this program".to_owned())?;
        let child = Command::new(&program)
            .arg("run")
            .arg("-c")
            .arg(&config)
            .arg("--end-with-parent")
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            // A terminal's Ctrl-C reaches `dev` alone, which then stops them in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context(|| format!("cannot start {}", program.display()))?;
        Ok(Self { name, mesh, api, log, child })
    }

    /// What is to be said of its end.
    pub(super) fn ended(&self, status: ExitStatus) -> DevError {
        DevError::Ended { name: self.name.clone(), status, tail: tail(&self.log) }
    }

    /// The JSON of a route that answered 200.
    pub(super) async fn get(&self, path: &str) -> Option<Value> {
        let (status, body) = self.ask("GET", path, "").await.ok()?;
        (status == 200).then(|| serde_json::from_str(&body).ok())?
    }

    /// Has it join the cluster of another.
    pub(super) async fn join(&self, other: &str) -> Result<(), DevError> {
        let body = serde_json::json!({ "node": other }).to_string();
        let (status, body) = self
            .ask("POST", "/api/v1/cluster/join", &body)
            .await
            .context(|| format!("cannot ask {}", self.name))?;
        if status == 200 {
            return Ok(());
        }
        let said: Value = serde_json::from_str(&body).unwrap_or_default();
        Err(DevError::JoinRefused {
            name: self.name.clone(),
            other: other.to_owned(),
            message: said["message"].as_str().unwrap_or("no reason given").to_owned(),
        })
    }

    /// One request over a connection of its own: the status and the body.
    async fn ask(&self, method: &str, path: &str, body: &str) -> io::Result<(u16, String)> {
        let exchange = async {
            let mut stream = TcpStream::connect(self.api).await?;
            let request = format!(
                "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                self.api,
                body.len()
            );
            stream.write_all(request.as_bytes()).await?;
            let mut text = String::new();
            stream.take(ANSWER_LIMIT).read_to_string(&mut text).await?;
            Ok::<_, io::Error>(text)
        };
        let text = timeout(ASK_TIMEOUT, exchange).await??;
        let malformed = || io::Error::new(io::ErrorKind::InvalidData, "not an HTTP answer");
        let (head, body) = text.split_once("\r\n\r\n").ok_or_else(malformed)?;
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        Ok((status.ok_or_else(malformed)?, body.to_owned()))
    }
}

/// An agent that ends before the cluster stands has found something wrong.
pub(super) fn fail_if_ended(agents: &mut [DevAgent]) -> Result<(), DevError> {
    for agent in agents {
        let status = agent.child.try_wait().context(|| format!("cannot watch {}", agent.name))?;
        if let Some(status) = status {
            return Err(agent.ended(status));
        }
    }
    Ok(())
}

/// The index and exit status of the agent that ends first. Cancel-safe.
pub(super) async fn first_end(agents: &mut [DevAgent]) -> Result<(usize, ExitStatus), DevError> {
    let ends = agents.iter_mut().map(|agent| Box::pin(agent.child.wait()));
    let (status, index, _) = select_all(ends).await;
    Ok((index, status.context(|| "cannot watch an agent".to_owned())?))
}

/// SIGTERM to all, so that none takes another's end for a crash; SIGKILL to who
/// ignores it.
pub(super) async fn stop_all(agents: &mut [DevAgent]) {
    for agent in agents.iter() {
        let id = agent.child.id().and_then(|id| i32::try_from(id).ok());
        if let Some(pid) = id.and_then(Pid::from_raw) {
            // It may have ended in the meantime, which is what is wanted.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
    let deadline = Instant::now() + STOP_GRACE;
    for agent in agents {
        if timeout_at(deadline, agent.child.wait()).await.is_err() {
            say(&format!("{} does not stop and is killed", agent.name));
            if let Err(error) = agent.child.kill().await {
                say(&format!("{} cannot be killed: {error}", agent.name));
            }
        }
    }
}

/// The end of a log file.
fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().map(|line| format!("  {line}")).collect();
    if lines.is_empty() {
        return "  (empty)".to_owned();
    }
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}
