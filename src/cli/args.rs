//! The command line's grammar. The doc comments are its help texts.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};
use clap_complete::Shell;

use super::dev::DevArgs;
use crate::config;
use crate::secret::Secret;

/// Cluster agent: finds its peers, agrees with them on one membership, serves it on a local API
#[derive(Debug, Parser)]
#[command(name = "muster", version, max_term_width = 100)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the agent until SIGTERM or SIGINT
    Run(RunArgs),
    /// Check a configuration without running anything
    Check(CheckArgs),
    /// See and change the cluster
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// List the members as the agent sees them
    Members(MembersArgs),
    /// Follow what happens to the members
    Events(EventsArgs),
    /// Say whether this node is ready: exit code 0, 1 when it isn't, 69 without an agent
    Ready(ReadyArgs),
    /// Look for what is wrong, and say what to do about it
    Doctor(DoctorArgs),
    /// Run a throwaway cluster of real agents on this machine
    Dev(DevArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    Man {
        /// Write the pages of all commands to this directory instead
        #[arg(long)]
        dir: Option<PathBuf>,
    },
}

/// The configuration's files.
#[derive(Debug, clap::Args)]
pub(super) struct FilesArgs {
    /// Configuration file; of several, later ones win [default: etc/emqx.conf if there is one]
    #[arg(short, long = "config", value_name = "FILE")]
    pub(super) config: Vec<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) files: FilesArgs,
    /// Be killed when this process, which must be the parent, ends: for `muster dev`
    #[arg(long, value_name = "PID", hide = true)]
    pub(super) end_with_parent: Option<i32>,
}

#[derive(Debug, clap::Args)]
pub(super) struct CheckArgs {
    #[command(flatten)]
    pub(super) files: FilesArgs,
    /// Print the effective configuration with where each value came from
    #[arg(long)]
    pub(super) print: bool,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

/// How the agent is found.
#[derive(Debug, clap::Args)]
pub(super) struct ConnectArgs {
    /// The agent's API: http://host:port or unix:/path [default: what -c says, else MUSTER_URL,
    /// else http://127.0.0.1:7370]
    #[arg(long, value_name = "URL", global = true)]
    pub(super) url: Option<String>,
    /// The agent's configuration file, to find its API and token; may be given several times
    #[arg(short, long = "config", value_name = "FILE", global = true)]
    pub(super) config: Vec<PathBuf>,
    /// The agent's API token [default: what -c says, else MUSTER_TOKEN]
    #[arg(
        long,
        value_name = "TOKEN",
        value_parser = |text: &str| Ok::<_, std::convert::Infallible>(Secret::new(text)),
        global = true
    )]
    pub(super) token: Option<Secret>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct DoctorArgs {
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    /// Ask every agent whom it reaches, and print the matrix
    #[arg(long)]
    pub(super) cluster: bool,
}

#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Running and stopped members, as `emqx ctl cluster status` prints them
    Status,
    /// Join the cluster that a node is in
    Join {
        /// That node, name@host
        node: String,
        /// Even if this node has other members already
        #[arg(long)]
        force: bool,
    },
    /// Leave the cluster, and stay out over restarts
    Leave,
    /// Remove a member for good
    ForceLeave {
        /// The member, name@host
        node: String,
        /// Even if it is alive
        #[arg(long)]
        force: bool,
    },
    /// Ask a node to join this cluster
    Invite {
        /// That node, name@host
        node: String,
    },
    /// Switch discovery on or off
    Discovery {
        #[command(subcommand)]
        command: DiscoveryCommand,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum DiscoveryCommand {
    /// Look for peers; a node that left joins again
    Enable,
    /// Look for peers no more
    Disable,
}

#[derive(Debug, clap::Args)]
pub(super) struct MembersArgs {
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    /// Go on showing them until interrupted
    #[arg(short, long)]
    pub(super) watch: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct ReadyArgs {
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    /// Wait for it for so long, an agent that is still to be started included: 500ms, 30s, 2m
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(super) wait: Option<Duration>,
}

/// A bare number counts seconds here, as in other commands of a shell.
fn duration(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => config::duration(text),
    }
    .ok_or_else(|| format!("'{text}' is no duration, as 500ms, 30s or 2m are"))
}

#[derive(Debug, clap::Args)]
pub(super) struct EventsArgs {
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    /// Begin behind this event; 0: with the oldest that the agent has kept
    #[arg(long, value_name = "ID")]
    pub(super) after: Option<u64>,
}
