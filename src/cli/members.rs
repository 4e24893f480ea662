//! `muster members`.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use super::args::MembersArgs;
use super::error::CliError;
use super::{out, target};
use crate::api::{Member, Members};

/// Between two looks with `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Clears a terminal and puts the cursor at its top.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

pub(super) async fn run(args: &MembersArgs) -> Result<(), CliError> {
    let client = target::client(&args.connect)?;
    let mut members: Members = client.get("/api/v1/members").await?;
    if !args.watch {
        return match args.connect.json {
            true => out::json(&members),
            false => out::text(&table(&members.members)),
        };
    }
    let terminal = io::stdout().is_terminal();
    let mut shown: Option<Vec<Member>> = None;
    loop {
        let state = comparable(&members.members);
        let changed = shown.as_ref() != Some(&state);
        if args.connect.json {
            if changed {
                out::json_line(&members)?;
            }
        } else if terminal {
            out::text(&format!("{CLEAR}{}", table(&members.members)))?;
        } else if changed {
            let gap = if shown.is_some() { "\n" } else { "" };
            out::text(&format!("{gap}{}", table(&members.members)))?;
        }
        shown = Some(state);
        tokio::select! {
            interrupted = tokio::signal::ctrl_c() => return interrupted.map_err(CliError::Output),
            () = tokio::time::sleep(WATCH_INTERVAL) => {}
        }
        members = client.get("/api/v1/members").await?;
    }
}

/// Round trips differ at every look and are no news.
fn comparable(members: &[Member]) -> Vec<Member> {
    members.iter().cloned().map(|member| Member { rtt_ms: None, ..member }).collect()
}

fn table(members: &[Member]) -> String {
    let head = ["NODE", "STATUS", "ROLE", "ADDRESS", "LINK", "RTT", "SINCE", "VERSION"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    rows.extend(members.iter().map(|member| {
        vec![
            format!("{}{}", member.node, if member.is_self { " *" } else { "" }),
            member.status.name().to_owned(),
            member.role.to_string(),
            or_dash(member.address.clone()),
            if member.is_self { "self".to_owned() } else { member.link.name().to_owned() },
            or_dash(member.rtt_ms.map(|rtt| format!("{rtt:.2}ms"))),
            member.since.clone(),
            or_dash(Some(member.version.clone()).filter(|version| !version.is_empty())),
        ]
    }));
    out::table(&rows)
}
