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
#[command(
    after_help = "Examples:\n  muster check -c /etc/emqx/emqx.conf     what is wrong with the configuration\n  muster run -c /etc/emqx/emqx.conf       run the agent\n  muster cluster status                   who is in the cluster\n  muster doctor -c /etc/emqx/emqx.conf    what is wrong with the cluster\n  muster dev -n 3                         try it all on this machine"
)]
pub(super) struct Args {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the agent until SIGTERM or SIGINT
    #[command(
        after_help = "Examples:\n  muster run -c /etc/emqx/emqx.conf\n  muster run -c /etc/emqx/emqx.conf -c /etc/muster/muster.conf    the second over the first"
    )]
    Run(RunArgs),
    /// Check a configuration without running anything
    #[command(
        after_help = "Examples:\n  muster check -c /etc/emqx/emqx.conf\n  muster check -c /etc/emqx/emqx.conf --print    every value, and where it came from"
    )]
    Check(CheckArgs),
    /// See and change the cluster
    #[command(
        after_help = "Examples:\n  muster cluster status\n  muster cluster join emqx@10.0.0.1\n  muster cluster force-leave emqx@10.0.0.9"
    )]
    Cluster {
        #[command(subcommand)]
        command: ClusterCommand,
        #[command(flatten)]
        connect: ConnectArgs,
    },
    /// List the members as the agent sees them
    #[command(
        after_help = "Examples:\n  muster members\n  muster members --watch\n  muster members --status up --tag zone=a\n  muster members --json"
    )]
    Members(MembersArgs),
    /// Follow what happens to the members
    #[command(
        after_help = "Examples:\n  muster events\n  muster events --after 0 --json    from the oldest that is kept"
    )]
    Events(EventsArgs),
    /// Say whether this node is ready: exit code 0, 1 when it isn't, 69 without an agent
    #[command(
        after_help = "Examples:\n  muster ready -c /etc/emqx/emqx.conf\n  muster ready --wait 30s && echo go"
    )]
    Ready(ReadyArgs),
    /// Take this node out of service until `undrain`, over restarts too
    #[command(
        after_help = "Examples:\n  muster drain\n  muster drain --reason 'new disks' -c /etc/emqx/emqx.conf"
    )]
    Drain(DrainArgs),
    /// Put this node back into service
    #[command(after_help = "Examples:\n  muster undrain\n  muster undrain -c /etc/emqx/emqx.conf")]
    Undrain(ConnectArgs),
    /// Have the agent read its configuration again, as SIGHUP does
    #[command(
        after_help = "Examples:\n  muster reload -c /etc/emqx/emqx.conf\n  muster reload --json"
    )]
    Reload(ConnectArgs),
    /// Write the files that the configuration makes of the members, as the agent does
    #[command(after_help = "Examples:\n  muster render --dry-run -c /etc/emqx/emqx.conf")]
    Render(RenderArgs),
    /// Look for what is wrong, and say what to do about it
    #[command(
        after_help = "Examples:\n  muster doctor -c /etc/emqx/emqx.conf\n  muster doctor -c /etc/emqx/emqx.conf --cluster"
    )]
    Doctor(DoctorArgs),
    /// Put what a bug report needs into an archive, without secrets
    #[command(
        after_help = "Examples:\n  muster debug -c /etc/emqx/emqx.conf\n  muster debug -c /etc/emqx/emqx.conf --output report.tar"
    )]
    Debug(DebugArgs),
    /// Run a throwaway cluster of real agents on this machine
    #[command(
        after_help = "Examples:\n  muster dev -n 3\n  muster dev -n 5 --proto-dist inet_tls --keep"
    )]
    Dev(DevArgs),
    /// Print a completion script for a shell
    #[command(after_help = "Examples:\n  muster completions bash > /etc/bash_completion.d/muster")]
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Print the manual page
    #[command(
        after_help = "Examples:\n  muster man | man -l -\n  muster man --dir /usr/share/man/man1"
    )]
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
    /// The agent's API: http(s)://host:port or unix:/path [default: what -c says, else MUSTER_URL,
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
    /// CA that signed the agent's certificate, PEM [default: the certificate that -c names, else the system's CAs]
    #[arg(long, value_name = "FILE", global = true)]
    pub(super) cacert: Option<PathBuf>,
    /// Certificate to show to an agent that wants one, PEM
    #[arg(long, value_name = "FILE", requires = "key", global = true)]
    pub(super) cert: Option<PathBuf>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE", requires = "cert", global = true)]
    pub(super) key: Option<PathBuf>,
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
    #[command(after_help = "Examples:\n  muster cluster status\n  muster cluster status --json")]
    Status,
    /// Join the cluster that a node is in
    #[command(after_help = "Examples:\n  muster cluster join emqx@10.0.0.1")]
    Join {
        /// That node, name@host
        node: String,
        /// Even if this node has other members already
        #[arg(long)]
        force: bool,
    },
    /// Leave the cluster, and stay out over restarts
    #[command(after_help = "Examples:\n  muster cluster leave")]
    Leave,
    /// Remove a member for good
    #[command(
        after_help = "Examples:\n  muster cluster force-leave emqx@10.0.0.9\n  muster cluster force-leave emqx@10.0.0.9 --force    even if it is alive\n  muster cluster force-leave --brought-by emqx@10.0.0.9    whatever names only it has told of"
    )]
    ForceLeave {
        /// The member, name@host
        #[arg(required_unless_present = "brought_by")]
        node: Option<String>,
        /// Even if it is alive
        #[arg(long, conflicts_with = "brought_by")]
        force: bool,
        /// Instead, every member that only this one has vouched for
        #[arg(long, value_name = "NODE", conflicts_with = "node")]
        brought_by: Option<String>,
    },
    /// Ask a node to join this cluster
    #[command(after_help = "Examples:\n  muster cluster invite emqx@10.0.0.2")]
    Invite {
        /// That node, name@host
        node: String,
    },
    /// Switch discovery on or off
    #[command(
        after_help = "Examples:\n  muster cluster discovery enable\n  muster cluster discovery disable"
    )]
    Discovery {
        #[command(subcommand)]
        command: DiscoveryCommand,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum DiscoveryCommand {
    /// Look for peers; a node that left joins again
    #[command(after_help = "Examples:\n  muster cluster discovery enable")]
    Enable,
    /// Look for peers no more
    #[command(after_help = "Examples:\n  muster cluster discovery disable")]
    Disable,
}

#[derive(Debug, clap::Args)]
pub(super) struct MembersArgs {
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    /// Only those that are this: up, suspect or down
    #[arg(long, value_name = "STATUS", value_parser = ["up", "suspect", "down"])]
    pub(super) status: Option<String>,
    /// Only those with this tag; of several, those with all of them
    #[arg(long, value_name = "NAME=VALUE", value_parser = tag)]
    pub(super) tag: Vec<String>,
    /// Go on showing them until interrupted
    #[arg(short, long)]
    pub(super) watch: bool,
}

fn tag(text: &str) -> Result<String, String> {
    match text.split_once('=') {
        Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
        _ => Err(format!("'{text}' is no name=value")),
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    /// Shown to whoever asks why
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(super) reason: String,
}

#[derive(Debug, clap::Args)]
pub(super) struct DebugArgs {
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    /// The archive's file, which must be new [default: muster-debug-TIME.tar]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
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

#[derive(Debug, clap::Args)]
pub(super) struct RenderArgs {
    #[command(flatten)]
    pub(super) connect: ConnectArgs,
    /// Show what would change, and change nothing
    #[arg(long)]
    pub(super) dry_run: bool,
}
