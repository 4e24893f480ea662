//! `muster debug`: what a report of a mistake needs, in one archive.
//!
//! It holds what an operator can see anyway, and no secret: the configuration as it is
//! printed, with stars, and what the agent answers. What cannot be had says why in its place.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::process::Command;
use tokio::time::timeout;

use super::args::DebugArgs;
use super::client::Client;
use super::error::CliError;
use super::{connect, files, out};
use crate::api::rfc3339;
use crate::config;

/// What the agent is asked for, and the file that it becomes.
const ROUTES: [(&str, &str); 5] = [
    ("/api/v1/cluster", "cluster.json"),
    ("/api/v1/members", "members.json"),
    ("/readyz?verbose", "readyz.json"),
    ("/livez", "livez.json"),
    ("/metrics", "metrics.txt"),
];

/// `doctor` gives up everything that it looks at earlier.
const DOCTOR_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn run(args: &DebugArgs) -> Result<(), CliError> {
    let client = connect::client(&args.connect)?;
    let now = SystemTime::now();
    let mut entries = vec![("about.txt", about(now))];
    entries.extend(configuration(args));
    for (route, name) in ROUTES {
        entries.push((name, fetched(&client, route).await));
    }
    entries.push(("doctor.txt", doctor(args).await));
    let path = args.output.clone().unwrap_or_else(|| file_name(now));
    write(&path, &entries, now)
        .map_err(|error| CliError::Failed(format!("cannot write {}: {error}", path.display())))?;
    out::line(&format!("{}", path.display()))
}

fn file_name(now: SystemTime) -> PathBuf {
    format!("muster-debug-{}.tar", rfc3339(now).replace(':', "")).into()
}

fn about(now: SystemTime) -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    format!(
        "muster {}\nat {}\n{}{}",
        env!("CARGO_PKG_VERSION"),
        rfc3339(now),
        read("/proc/version"),
        read("/etc/os-release"),
    )
}

/// The effective configuration and what is to be said of it, where there is any.
fn configuration(args: &DebugArgs) -> Vec<(&'static str, String)> {
    match files::load_if_any(&args.connect.config) {
        Ok(None) => Vec::new(),
        Ok(Some(loaded)) => {
            let lines = |warning: &config::Warning| format!("{warning}\n");
            vec![
                ("configuration.conf", config::explain(&loaded.effective)),
                ("warnings.txt", loaded.warnings.iter().map(lines).collect()),
            ]
        }
        Err(error) => vec![("warnings.txt", error.to_string())],
    }
}

async fn fetched(client: &Client, route: &str) -> String {
    match client.text(route).await {
        Ok(text) => text,
        Err(error) => format!("not to be had: {error}\n"),
    }
}

/// What `muster doctor` finds, asked with the same arguments.
async fn doctor(args: &DebugArgs) -> String {
    let asked = async {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("doctor").stdin(Stdio::null()).kill_on_drop(true);
        for file in &args.connect.config {
            command.arg("-c").arg(file);
        }
        if let Some(url) = &args.connect.url {
            command.arg("--url").arg(url);
        }
        if let Some(token) = &args.connect.token {
            // Not as an argument, which every user of the machine could read.
            command.env("MUSTER_TOKEN", token.expose());
        }
        let output = command.output().await?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Ok::<_, io::Error>(text(&output.stdout) + &text(&output.stderr))
    };
    match timeout(DOCTOR_TIMEOUT, asked).await {
        Ok(Ok(text)) => text,
        Ok(Err(error)) => format!("not to be had: {error}\n"),
        Err(_) => format!("not to be had within {} s\n", DOCTOR_TIMEOUT.as_secs()),
    }
}

/// A new file for its owner's eyes: it names hosts and peers.
fn write(path: &Path, entries: &[(&str, String)], now: SystemTime) -> io::Result<()> {
    let file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
    let mut archive = tar::Builder::new(file);
    for (name, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
        archive.append_data(&mut header, format!("muster-debug/{name}"), text.as_bytes())?;
    }
    archive.into_inner().and_then(|file: File| file.sync_all())
}
