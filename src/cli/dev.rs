//! `muster dev`: a throwaway cluster of real agent processes on this machine.
//!
//! One task runs it all: it starts the agents, asks their APIs until every view
//! has every member, then waits for a signal or for an agent's end. The agents
//! are children that are killed when the task ends, however it ends.

pub mod ports;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus, Stdio};
use std::time::Duration;

use futures_util::future::select_all;
use rand::RngExt as _;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, timeout};

use crate::cli::dev::ports::PortLease;

/// Between two questions to agents that are starting.
const POLL: Duration = Duration::from_millis(5);
/// An agent that does not answer its API for so long is asked again.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// After so long without a cluster the user is told where to look, once.
const PATIENCE: Duration = Duration::from_secs(10);
/// Agents that have not stopped by then are killed.
const STOP_GRACE: Duration = Duration::from_secs(5);
/// Most of an API answer that is read: the cluster route of 100 members is 10 kB.
const ANSWER_LIMIT: u64 = 1 << 20;
/// Lines shown of a dead agent's log.
const TAIL_LINES: usize = 15;

/// `muster dev`'s arguments.
#[derive(Clone, Debug, clap::Args)]
pub struct DevArgs {
    /// How many agents
    #[arg(short = 'n', long, default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=i64::from(ports::MAX_AGENTS)))]
    nodes: u16,
    /// How they find each other
    #[arg(long, value_enum, default_value_t = DevStrategy::Static)]
    strategy: DevStrategy,
    /// What their links are made of
    #[arg(long, value_enum, default_value_t = DevProtoDist::InetTcp)]
    proto_dist: DevProtoDist,
    /// Leave the directory with configurations, state and logs in place
    #[arg(long)]
    keep: bool,
}

/// The strategies that need no server besides the agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum DevStrategy {
    /// Every agent lists all of them as seeds
    Static,
    /// Every agent is told to join the first
    Manual,
    /// Multicast on the loopback interface
    Mcast,
}

/// `cluster.proto_dist`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum DevProtoDist {
    /// TCP over IPv4
    InetTcp,
    /// TCP over IPv6
    Inet6Tcp,
}

/// Why the cluster could not be had, or ended.
#[derive(Debug, thiserror::Error)]
enum DevError {
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{name} ended ({status}); the end of its log:\n{tail}")]
    Ended { name: String, status: ExitStatus, tail: String },
    #[error("{name} refused to join {first}: {message}")]
    JoinRefused { name: String, first: String, message: String },
    #[error("every agent has ended")]
    NobodyLeft,
}

/// Names what failed.
trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, DevError>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T, DevError> {
        self.map_err(|source| DevError::Io { what: what(), source })
    }
}

/// One agent process.
#[derive(Debug)]
struct DevAgent {
    name: String,
    mesh: SocketAddr,
    api: SocketAddr,
    log: PathBuf,
    child: Child,
}

impl DevAgent {
    fn ended(&self, status: ExitStatus) -> DevError {
        DevError::Ended { name: self.name.clone(), status, tail: tail(&self.log) }
    }
}

/// Runs `muster dev` until a signal, and cleans up.
pub async fn run(args: DevArgs) -> ExitCode {
    match cluster(&args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is gone.
            let _ = writeln!(io::stderr(), "muster dev: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn cluster(args: &DevArgs) -> Result<(), DevError> {
    let mut stop = Stop::listen()?;
    let lease =
        PortLease::default_or_any(args.nodes).context(|| "cannot find free ports".to_owned())?;
    let directory = make_directory()?;
    let result = run_in(args, &lease, &directory, &mut stop).await;
    if args.keep {
        say(&format!("kept {}", directory.display()));
    } else if let Err(source) = std::fs::remove_dir_all(&directory) {
        let what = format!("cannot remove {}", directory.display());
        return result.and(Err(DevError::Io { what, source }));
    }
    result
}

async fn run_in(
    args: &DevArgs,
    lease: &PortLease,
    directory: &Path,
    stop: &mut Stop,
) -> Result<(), DevError> {
    let started = Instant::now();
    say(&format!("starting {} in {}", count(usize::from(args.nodes)), directory.display()));
    let mut agents = Vec::new();
    let cookie = random_hex();
    for k in 1..=args.nodes {
        agents.push(start(args, lease, directory, &cookie, k)?);
    }
    let outcome = tokio::select! {
        // A signal wins over an agent's end, which it may have caused.
        biased;
        () = stop.asked() => Ok(()),
        outcome = live(args, &mut agents, directory, started) => outcome,
    };
    say(&format!("stopping {}", count(agents.len())));
    stop_all(&mut agents).await;
    outcome
}

/// Brings the cluster up, shows it, and stays for as long as any agent does.
async fn live(
    args: &DevArgs,
    agents: &mut Vec<DevAgent>,
    directory: &Path,
    started: Instant,
) -> Result<(), DevError> {
    wait_listening(agents).await?;
    say(&format!("listening: {}", count(usize::from(args.nodes))));
    if args.strategy == DevStrategy::Manual {
        join_first(agents).await?;
    }
    wait_formed(agents, directory).await?;
    say(&format!("formed in {} ms", started.elapsed().as_millis()));
    say(&table(agents).await);
    if let Some(first) = agents.first() {
        say(&format!("ask one of them: muster --url http://{} members", first.api));
    }
    say(&format!("logs: {}/*/agent.log", directory.display()));
    say(if args.keep {
        "Ctrl-C stops the agents"
    } else {
        "Ctrl-C stops the agents and removes the directory"
    });
    while !agents.is_empty() {
        let (index, status) = first_end(agents).await?;
        let gone = agents.remove(index);
        say(&gone.ended(status).to_string());
    }
    Err(DevError::NobodyLeft)
}

fn start(
    args: &DevArgs,
    lease: &PortLease,
    directory: &Path,
    cookie: &str,
    k: u16,
) -> Result<DevAgent, DevError> {
    let name = node_name(args.proto_dist, k);
    let home = directory.join(format!("emqx{k}"));
    private_directory(&home)?;
    let config = home.join("emqx.conf");
    let text = config_text(args, lease, &home, cookie, k);
    std::fs::write(&config, text).context(|| format!("cannot write {}", config.display()))?;
    let log = home.join("agent.log");
    let output =
        std::fs::File::create(&log).context(|| format!("cannot write {}", log.display()))?;
    let errors = output.try_clone().context(|| format!("cannot write {}", log.display()))?;
    let program = std::env::current_exe().context(|| "cannot find this program".to_owned())?;
    let child = Command::new(&program)
        .arg("run")
        .arg("-c")
        .arg(&config)
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        // A terminal's Ctrl-C reaches this process alone, which then stops them in order.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .context(|| format!("cannot start {}", program.display()))?;
    let api = SocketAddr::from((Ipv4Addr::LOCALHOST, lease.api(k)));
    let mesh = SocketAddr::new(args.proto_dist.loopback(), lease.mesh(k));
    Ok(DevAgent { name, mesh, api, log, child })
}

fn config_text(args: &DevArgs, lease: &PortLease, home: &Path, cookie: &str, k: u16) -> String {
    let strategy = match args.strategy {
        DevStrategy::Static => {
            let seeds: Vec<_> = (1..=args.nodes)
                .map(|k| format!("\"{}\"", node_name(args.proto_dist, k)))
                .collect();
            format!("  discovery_strategy = static\n  static.seeds = [{}]\n", seeds.join(", "))
        }
        DevStrategy::Manual => "  discovery_strategy = manual\n".to_owned(),
        DevStrategy::Mcast => {
            let ports: Vec<_> = (1..=args.nodes).map(|k| lease.mesh(k).to_string()).collect();
            format!(
                "  discovery_strategy = mcast\n  mcast {{ iface = \"127.0.0.1\", ports = [{}] }}\n",
                ports.join(", ")
            )
        }
    };
    format!(
        "node {{\n  name = \"{name}\"\n  cookie = \"{cookie}\"\n  data_dir = {data:?}\n}}\n\
         cluster {{\n  name = dev\n  proto_dist = {proto}\n{strategy}}}\n\
         agent {{\n  mesh {{ base_port = {base}, bind = \"{bind}\" }}\n  \
         api.listen = \"127.0.0.1:{api}\"\n}}\n",
        name = node_name(args.proto_dist, k),
        data = home.join("data").display().to_string(),
        proto = args.proto_dist.name(),
        base = lease.mesh_base(),
        bind = args.proto_dist.loopback(),
        api = lease.api(k),
    )
}

impl DevProtoDist {
    fn name(self) -> &'static str {
        match self {
            Self::InetTcp => "inet_tcp",
            Self::Inet6Tcp => "inet6_tcp",
        }
    }

    fn loopback(self) -> std::net::IpAddr {
        match self {
            Self::InetTcp => Ipv4Addr::LOCALHOST.into(),
            Self::Inet6Tcp => std::net::Ipv6Addr::LOCALHOST.into(),
        }
    }
}

fn node_name(proto: DevProtoDist, k: u16) -> String {
    format!("emqx{k}@{}", proto.loopback())
}

/// Waits until every API answers.
async fn wait_listening(agents: &mut [DevAgent]) -> Result<(), DevError> {
    for index in 0..agents.len() {
        while get(agents[index].api, "/livez").await.is_none() {
            fail_if_ended(agents)?;
            sleep(POLL).await;
        }
    }
    Ok(())
}

/// Has every agent but the first join it; the manual strategy's way in.
async fn join_first(agents: &[DevAgent]) -> Result<(), DevError> {
    let Some((first, others)) = agents.split_first() else { return Ok(()) };
    for agent in others {
        let body = serde_json::json!({ "node": first.name }).to_string();
        let answer = ask(agent.api, "POST", "/api/v1/cluster/join", &body)
            .await
            .context(|| format!("cannot ask {}", agent.name))?;
        if answer.status != 200 {
            let said = serde_json::from_str::<Value>(&answer.body).unwrap_or_default();
            return Err(DevError::JoinRefused {
                name: agent.name.clone(),
                first: first.name.clone(),
                message: said["message"].as_str().unwrap_or("no reason given").to_owned(),
            });
        }
    }
    Ok(())
}

/// Waits until every agent has every other in its view.
async fn wait_formed(agents: &mut [DevAgent], directory: &Path) -> Result<(), DevError> {
    let total = agents.len();
    let begun = Instant::now();
    let mut warned = false;
    let mut shown = 0;
    loop {
        let mut smallest = total;
        for agent in agents.iter() {
            let view = get(agent.api, "/api/v1/cluster").await.unwrap_or_default();
            let running = view["running_nodes"].as_array().map_or(0, Vec::len);
            smallest = smallest.min(running);
        }
        if smallest != shown {
            say(&format!("forming: {smallest} of {total} in every view"));
            shown = smallest;
        }
        if smallest == total {
            return Ok(());
        }
        fail_if_ended(agents)?;
        if !warned && begun.elapsed() > PATIENCE {
            warned = true;
            say(&format!("still forming; the logs are {}/*/agent.log", directory.display()));
        }
        sleep(POLL).await;
    }
}

/// An agent that ends before the cluster stands has found something wrong.
fn fail_if_ended(agents: &mut [DevAgent]) -> Result<(), DevError> {
    for agent in agents {
        let status = agent.child.try_wait().context(|| format!("cannot watch {}", agent.name))?;
        if let Some(status) = status {
            return Err(agent.ended(status));
        }
    }
    Ok(())
}

/// The index and exit status of the agent that ends first. Cancel-safe.
async fn first_end(agents: &mut [DevAgent]) -> Result<(usize, ExitStatus), DevError> {
    let ends = agents.iter_mut().map(|agent| Box::pin(agent.child.wait()));
    let (status, index, _) = select_all(ends).await;
    Ok((index, status.context(|| "cannot watch an agent".to_owned())?))
}

/// SIGTERM to all, so that none sees another crash; SIGKILL to who ignores it.
async fn stop_all(agents: &mut [DevAgent]) {
    for agent in agents.iter() {
        let pid = agent
            .child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(rustix::process::Pid::from_raw);
        if let Some(pid) = pid {
            // It may have ended in the meantime, which is what is wanted.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
    }
    let deadline = Instant::now() + STOP_GRACE;
    for agent in agents {
        if tokio::time::timeout_at(deadline, agent.child.wait()).await.is_err() {
            say(&format!("{} does not stop and is killed", agent.name));
            if let Err(error) = agent.child.kill().await {
                say(&format!("{} cannot be killed: {error}", agent.name));
            }
        }
    }
}

/// The members as the first agent sees them, with where each answers.
async fn table(agents: &[DevAgent]) -> String {
    let Some(first) = agents.first() else { return String::new() };
    let view = get(first.api, "/api/v1/members").await.unwrap_or_default();
    let status_of = |name: &str| {
        view["members"]
            .as_array()
            .and_then(|members| members.iter().find(|member| member["node"] == name))
            .and_then(|member| member["status"].as_str())
            .unwrap_or("unknown")
            .to_owned()
    };
    let width = agents.iter().map(|agent| agent.name.len()).max().unwrap_or(0);
    let mut text = format!("\n{:width$}  {:7}  {:16}  API\n", "NODE", "STATUS", "MESH");
    for agent in agents {
        let status = status_of(&agent.name);
        let mesh = agent.mesh.to_string();
        // Writing to a String cannot fail.
        let _ =
            writeln!(text, "{:width$}  {status:7}  {mesh:16}  http://{}", agent.name, agent.api);
    }
    text
}

/// An API's answer.
struct Answer {
    status: u16,
    body: String,
}

/// The JSON of a route that answered 200.
async fn get(api: SocketAddr, path: &str) -> Option<Value> {
    let answer = ask(api, "GET", path, "").await.ok()?;
    (answer.status == 200).then(|| serde_json::from_str(&answer.body).ok())?
}

/// One request to an agent of ours on loopback, over a connection of its own.
async fn ask(api: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let exchange = async {
        let mut stream = TcpStream::connect(api).await?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
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
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(malformed)?;
    Ok(Answer { status, body: body.to_owned() })
}

/// SIGINT and SIGTERM, asked for before anything is started.
struct Stop {
    interrupt: Signal,
    terminate: Signal,
}

impl Stop {
    fn listen() -> Result<Self, DevError> {
        let wait = || "cannot wait for signals".to_owned();
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context(wait)?,
            terminate: signal(SignalKind::terminate()).context(wait)?,
        })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A new directory for this user's eyes only: it will hold a cookie.
fn make_directory() -> Result<PathBuf, DevError> {
    let directory = std::env::temp_dir().join(format!("muster-dev-{}", &random_hex()[..8]));
    private_directory(&directory)?;
    Ok(directory)
}

fn private_directory(path: &Path) -> Result<(), DevError> {
    std::fs::DirBuilder::new()
        .mode(0o700)
        .create(path)
        .context(|| format!("cannot create {}", path.display()))
}

fn random_hex() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
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

fn count(agents: usize) -> String {
    if agents == 1 { "1 agent".to_owned() } else { format!("{agents} agents") }
}

/// One line for the user. Whoever closed our output is no reason to leave agents behind.
fn say(line: &str) {
    let _ = writeln!(io::stdout(), "{line}");
    let _ = io::stdout().flush();
}
