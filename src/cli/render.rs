//! `muster render`: the configured files, from an agent's members.

use std::process::ExitCode;

use serde::Serialize;
use similar::TextDiff;

use super::args::RenderArgs;
use super::error::CliError;
use super::{connect, files, out};
use crate::api::{Cluster, Members};
use crate::config::RenderConfig;
use crate::follow::render::{Rendered, Renderer, View, preview};

/// Lines around a difference.
const CONTEXT: usize = 3;

/// What came of one file.
#[derive(Debug, Serialize)]
struct Line {
    target: String,
    /// `written`, `unchanged`, `held` or `failed`; with `--dry-run` `different` for the first.
    outcome: &'static str,
    /// Why, where it was held or failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// With `--dry-run`: the difference, empty where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    diff: Option<String>,
}

pub(super) async fn run(args: &RenderArgs) -> Result<ExitCode, CliError> {
    let config = files::load(&args.connect.config)?.config;
    let client = connect::client_of(&args.connect, Some(&config))?;
    let cluster: Cluster = client.get("/api/v1/cluster").await?;
    let members: Members = client.get("/api/v1/members").await?;
    let view = View::new(cluster, members);
    let mut lines = Vec::new();
    for render in config.agent.render {
        lines.push(if args.dry_run { compare(&render, &view) } else { write(render, &view).await });
    }
    if args.connect.json {
        out::json(&lines)?;
    } else if lines.is_empty() {
        out::line("agent.render names no file")?;
    } else {
        for line in &lines {
            show(line)?;
        }
    }
    let failed = lines.iter().any(|line| line.outcome == "failed");
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn write(render: RenderConfig, view: &View) -> Line {
    let target = render.target.display().to_string();
    let (outcome, reason) = match Renderer::new(render).render(view.clone()).await {
        Ok(Rendered::Written) => ("written", None),
        Ok(Rendered::Unchanged) => ("unchanged", None),
        Ok(Rendered::Held(reason)) => ("held", Some(reason.to_owned())),
        Err(error) => ("failed", Some(error.to_string())),
    };
    Line { target, outcome, reason, diff: None }
}

fn compare(render: &RenderConfig, view: &View) -> Line {
    let target = render.target.display().to_string();
    match preview(render, view) {
        Err(error) => {
            Line { target, outcome: "failed", reason: Some(error.to_string()), diff: None }
        }
        Ok((held, new)) => {
            let diff = TextDiff::from_lines(&held, &new)
                .unified_diff()
                .context_radius(CONTEXT)
                .header(&target, &target)
                .to_string();
            let outcome = if held == new { "unchanged" } else { "different" };
            let reason = view.held(render.require_majority).map(str::to_owned);
            Line { target, outcome, reason, diff: Some(diff) }
        }
    }
}

fn show(line: &Line) -> Result<(), CliError> {
    let Line { target, outcome, reason, diff } = line;
    match reason {
        Some(reason) => out::line(&format!("{target}: {outcome} ({reason})"))?,
        None => out::line(&format!("{target}: {outcome}"))?,
    }
    out::text(diff.as_deref().unwrap_or_default())
}
