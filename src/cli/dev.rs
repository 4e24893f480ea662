//! `muster dev`: a throwaway cluster of real agent processes on this machine.
//!
//! One task runs it all: it starts the agents, asks their APIs until every view
//! has every member, then waits for a signal or for an agent's end. The agents
//! are children that are killed when the task ends, and that the system kills when
//! the process does, however it ends.

mod agents;
mod certificates;
mod directory;
mod error;
pub mod ports;
mod say;
mod stop;

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use agents::{DevAgent, fail_if_ended, first_end, stop_all};
use certificates::Authority;
use directory::{Directory, random_hex};
use error::{Context as _, DevError};
use ports::PortLease;
use say::say;
use stop::Stop;

/// Between two questions to agents that are starting.
const POLL: Duration = Duration::from_millis(5);
/// After so long without a cluster the user is told where to look, once.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// TLS over IPv4, with throwaway certificates
    InetTls,
    /// TLS over IPv6, with throwaway certificates
    Inet6Tls,
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
    let directory = Directory::make(args.keep)?;
    let result = run_in(args, &lease, directory.path(), &mut stop).await;
    let path = directory.path().to_owned();
    match directory.remove() {
        Ok(true) => {}
        Ok(false) => say(&format!("kept {}", path.display())),
        Err(error) => return result.and(Err(error)),
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
    let plan = Plan {
        args,
        lease,
        directory,
        cookie: random_hex(),
        authority: args.proto_dist.is_tls().then(Authority::new).transpose()?,
    };
    for k in 1..=args.nodes {
        agents.push(plan.start(k)?);
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
        say(&format!("ask one of them: muster members --url http://{}", first.api));
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

/// What the agents have in common.
struct Plan<'a> {
    args: &'a DevArgs,
    lease: &'a PortLease,
    directory: &'a Path,
    cookie: String,
    authority: Option<Authority>,
}

impl Plan<'_> {
    fn start(&self, k: u16) -> Result<DevAgent, DevError> {
        let name = self.node_name(k);
        let home = self.directory.join(format!("emqx{k}"));
        directory::private(&home)?;
        let optfile = match &self.authority {
            Some(authority) => Some(authority.issue(&name, &home)?),
            None => None,
        };
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, self.lease.api(k)));
        let mesh = SocketAddr::new(self.args.proto_dist.loopback(), self.lease.mesh(k));
        let mut text = format!(
            "node {{\n  name = \"{name}\"\n  cookie = \"{cookie}\"\n  data_dir = {data:?}\n",
            cookie = self.cookie,
            data = home.join("data"),
        );
        if let Some(optfile) = optfile {
            // Writing to a String cannot fail, here and below.
            let _ = writeln!(text, "  ssl_dist_optfile = {optfile:?}");
        }
        let _ = write!(
            text,
            "}}\ncluster {{\n  name = dev\n  proto_dist = {proto}\n{strategy}}}\n\
             agent {{\n  mesh {{ base_port = {base}, bind = [\"{bind}\"] }}\n  \
             api.listen = \"{api}\"\n}}\n",
            proto = self.args.proto_dist.name(),
            strategy = self.strategy(),
            base = self.lease.mesh_base(),
            bind = self.args.proto_dist.loopback(),
        );
        DevAgent::start(name, mesh, api, &home, &text)
    }

    /// The lines of the `cluster` block that select and configure the strategy.
    fn strategy(&self) -> String {
        let all = 1..=self.args.nodes;
        match self.args.strategy {
            DevStrategy::Static => {
                let seeds: Vec<_> = all.map(|k| format!("\"{}\"", self.node_name(k))).collect();
                format!("  discovery_strategy = static\n  static.seeds = [{}]\n", seeds.join(", "))
            }
            DevStrategy::Manual => "  discovery_strategy = manual\n".to_owned(),
            DevStrategy::Mcast => {
                let ports: Vec<_> = all.map(|k| self.lease.mesh(k).to_string()).collect();
                format!(
                    "  discovery_strategy = mcast\n  \
                     mcast {{ iface = \"127.0.0.1\", ports = [{}] }}\n",
                    ports.join(", ")
                )
            }
        }
    }

    fn node_name(&self, k: u16) -> String {
        format!("emqx{k}@{}", self.args.proto_dist.loopback())
    }
}

impl DevProtoDist {
    fn name(self) -> &'static str {
        match self {
            Self::InetTcp => "inet_tcp",
            Self::Inet6Tcp => "inet6_tcp",
            Self::InetTls => "inet_tls",
            Self::Inet6Tls => "inet6_tls",
        }
    }

    fn is_tls(self) -> bool {
        matches!(self, Self::InetTls | Self::Inet6Tls)
    }

    fn loopback(self) -> IpAddr {
        match self {
            Self::InetTcp | Self::InetTls => Ipv4Addr::LOCALHOST.into(),
            Self::Inet6Tcp | Self::Inet6Tls => Ipv6Addr::LOCALHOST.into(),
        }
    }
}

/// Waits until every API answers.
async fn wait_listening(agents: &mut [DevAgent]) -> Result<(), DevError> {
    for index in 0..agents.len() {
        while agents[index].get("/livez").await.is_none() {
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
        agent.join(&first.name).await?;
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
            let view = agent.get("/api/v1/cluster").await.unwrap_or_default();
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

/// The members as the first agent sees them, with where each answers.
async fn table(agents: &[DevAgent]) -> String {
    let Some(first) = agents.first() else { return String::new() };
    let view = first.get("/api/v1/members").await.unwrap_or_default();
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

fn count(agents: usize) -> String {
    if agents == 1 { "1 agent".to_owned() } else { format!("{agents} agents") }
}
