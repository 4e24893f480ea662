//! `muster members`.

use std::io::{self, IsTerminal as _};
use std::time::Duration;

use super::args::MembersArgs;
use super::client::encode;
use super::error::CliError;
use super::{connect, out};
use crate::api::{Member, Members};

/// Between two looks with `--watch`.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// Clears a terminal and puts the cursor at its top.
const CLEAR: &str = "\x1b[H\x1b[2J\x1b[3J";

pub(super) async fn run(args: &MembersArgs) -> Result<(), CliError> {
    let client = connect::client(&args.connect)?;
    let path = path(args);
    let mut members: Members = client.get(&path).await?;
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
        members = client.get(&path).await?;
    }
}

fn path(args: &MembersArgs) -> String {
    let status = args.status.iter().map(|status| format!("status={status}"));
    // The whole of `name=value` is one value.
    let tags = args.tag.iter().map(|tag| format!("tag={}", encode(tag)));
    let query: Vec<_> = status.chain(tags).collect();
    match query.is_empty() {
        true => "/api/v1/members".to_owned(),
        false => format!("/api/v1/members?{}", query.join("&")),
    }
}

/// Round trips differ at every look and are no news.
fn comparable(members: &[Member]) -> Vec<Member> {
    members.iter().cloned().map(|member| Member { rtt_ms: None, ..member }).collect()
}

fn table(members: &[Member]) -> String {
    let mut head =
        ["NODE", "STATUS", "ROLE", "ADDRESS", "LINK", "RTT", "SINCE", "VERSION"].to_vec();
    // Who uses neither is not shown columns of dashes.
    let brokers = members.iter().any(|member| member.broker.is_some());
    let tags = members.iter().any(|member| !member.tags.is_empty());
    head.extend(brokers.then_some("BROKER"));
    head.extend(tags.then_some("TAGS"));
    let mut rows = vec![head.into_iter().map(str::to_owned).collect()];
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    rows.extend(members.iter().map(|member| {
        let status = member.status.name();
        let broker = member.broker.as_ref().map(|broker| broker.status.name().to_owned());
        let pairs = member.tags.iter().map(|(name, value)| format!("{name}={value}"));
        let pairs: Vec<_> = pairs.collect();
        let mut row = vec![
            format!("{}{}", member.node, if member.is_self { " *" } else { "" }),
            if member.draining { format!("{status}, drains") } else { status.to_owned() },
            member.role.to_string(),
            or_dash(member.address.clone()),
            if member.is_self { "self".to_owned() } else { member.link.name().to_owned() },
            or_dash(member.rtt_ms.map(|rtt| format!("{rtt:.2}ms"))),
            member.since.clone(),
            or_dash(Some(member.version.clone()).filter(|version| !version.is_empty())),
        ];
        row.extend(brokers.then(|| or_dash(broker)));
        row.extend(tags.then(|| or_dash(Some(pairs.join(",")).filter(|pairs| !pairs.is_empty()))));
        row
    }));
    out::table(&rows)
}
