//! `muster doctor`: looks at everything a cluster needs, and says what to mend.
//!
//! It sees this machine and what can be reached from it: the agent's API, the
//! peers' mesh ports, the discovery backend, the files. It changes nothing, and
//! registers nothing with a backend.

mod finding;
mod follow;
mod local;
mod matrix;
mod peers;

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;

use self::finding::{Finding, Level};
use super::args::DoctorArgs;
use super::client::{Client, ClientError};
use super::error::{CliError, EX_UNAVAILABLE};
use super::{connect, files, out};
use crate::api::{Check, Cluster, Health, Members};
use crate::config::{Config, Loaded, StrategyConfig};
use crate::discovery::{self, DiscoveryError};
use crate::view::MemberStatus;

/// No backend takes longer to answer or to be given up.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn run(args: &DoctorArgs) -> Result<ExitCode, CliError> {
    let connect = &args.connect;
    let loaded = files::load_if_any(&connect.config)?;
    let config = loaded.as_ref().map(|loaded| &loaded.config);
    let client = connect::client_of(connect, config)?;
    let mut findings = configuration(loaded.as_ref());
    let (seen, unreachable) = agent(&client, &mut findings).await;
    findings.push(local::clock());
    let mut matrix = None;
    if let Some(config) = config {
        findings.push(local::cookie(config));
        findings.extend(local::state(config, seen.is_some()));
        let tls = local::certificates(config, &mut findings);
        findings.extend(backend(config).await);
        findings.extend(follow::broker(config, &client).await);
        findings.extend(follow::dns(config).await);
        let looked = peers::look(config, tls.as_ref(), seen.as_ref(), args.cluster).await;
        findings.extend(looked.findings);
        if args.cluster {
            let (told, reach) = matrix::matrix(&looked.seen);
            findings.extend(reach);
            matrix = Some(told);
        }
    }
    match (&matrix, connect.json) {
        (Some(matrix), true) => out::json(&json!({ "findings": findings, "matrix": matrix }))?,
        (None, true) => out::json(&findings)?,
        (_, false) => {
            for finding in &findings {
                out::line(&finding.line())?;
            }
            for line in matrix.iter().flat_map(matrix::lines) {
                out::line(&line)?;
            }
        }
    }
    let failed = findings.iter().any(|finding| finding.level == Level::Fail);
    Ok(match (unreachable, failed) {
        (true, _) => ExitCode::from(EX_UNAVAILABLE),
        (false, true) => ExitCode::FAILURE,
        (false, false) => ExitCode::SUCCESS,
    })
}

fn configuration(loaded: Option<&Loaded>) -> Vec<Finding> {
    let Some(loaded) = loaded else {
        let message = "none given, so cookie, certificates, discovery and peers are not checked";
        return vec![Finding::warn("config", message, "name it with -c")];
    };
    let warnings = loaded.warnings.iter().map(|warning| {
        let message = format!("{}: {}: {}", warning.origin, warning.key, warning.message);
        let remedy = warning.hint.clone().unwrap_or_else(|| "mend or remove it".to_owned());
        Finding::warn("config", message, remedy)
    });
    let valid = format!("valid, for {}", loaded.config.node.name);
    std::iter::once(Finding::ok("config", valid)).chain(warnings).collect()
}

/// What the agent knows, and whether it could not be reached.
async fn agent(client: &Client, findings: &mut Vec<Finding>) -> (Option<(Cluster, Members)>, bool) {
    let seen = async {
        let cluster: Cluster = client.get("/api/v1/cluster").await?;
        let members: Members = client.get("/api/v1/members").await?;
        let health: Health = client.get_any("/readyz?verbose").await?;
        Ok::<_, ClientError>((cluster, members, health))
    };
    let (cluster, members, health) = match seen.await.map_err(CliError::from) {
        Ok(seen) => seen,
        Err(error) => {
            let unreachable = matches!(error, CliError::Unreachable(_));
            let remedy = match unreachable {
                true => "start it: muster run -c emqx.conf",
                false => "ask the agent that this configuration belongs to",
            };
            findings.push(Finding::fail("agent", error.to_string(), remedy));
            return (None, unreachable);
        }
    };
    let answers = format!(
        "{} answers at {}: {} running, {} stopped",
        cluster.self_node,
        client.target(),
        cluster.running_nodes.len(),
        cluster.stopped_nodes.len()
    );
    findings.push(Finding::ok("agent", answers));
    findings.extend(health.checks.iter().filter(|check| !check.ok).map(|check| {
        let (reason, remedy) = split(check);
        Finding::fail("ready", format!("{}: {reason}", check.name), remedy)
    }));
    if health.ready {
        findings.push(Finding::ok("ready", "every check passes"));
    }
    let failing = cluster.discovery.last_error.is_some();
    findings.extend(health.notices.iter().filter(|check| !check.ok).map(|check| {
        let (reason, remedy) = split(check);
        let message = format!("{}: {reason}", check.name);
        match check.name.as_str() {
            "state_unsaved" => Finding::fail("notice", message, remedy),
            "discovery_backend" if failing => Finding::fail("notice", message, remedy),
            name if follow::fails(name) => Finding::fail("notice", message, remedy),
            _ => Finding::warn("notice", message, remedy),
        }
    }));
    let down = members.members.iter().filter(|member| member.status == MemberStatus::Down);
    findings.extend(down.map(|member| {
        let message = format!("{} is down since {}", member.node, member.since);
        let remedy = format!("start it, or: muster cluster force-leave {}", member.node);
        Finding::warn("member", message, remedy)
    }));
    (Some((cluster, members)), false)
}

/// A reason, and the remedy that it comes with or that is known here.
fn split(check: &Check) -> (&str, &str) {
    if let Some(both) = check.reason.rsplit_once(" -> ") {
        return both;
    }
    let remedy = match check.name.as_str() {
        "discovery" | "discovery_backend" => "see the discovery line",
        "state" => "wait; if it lasts, see the discovery line and the peer lines",
        "state_unsaved" => "free space, or give the agent a data_dir that it may write",
        "name_conflict" => "stop one of the two agents, or give it another node.name",
        _ => "see the agent's log",
    };
    (&check.reason, remedy)
}

/// The discovery backend, asked from here.
async fn backend(config: &Config) -> Vec<Finding> {
    let name = config.cluster.strategy.name();
    let look = tokio::time::timeout(LOOK_TIMEOUT, discovery::look(config)).await;
    let answer = match look {
        Ok(Some(answer)) => answer,
        Ok(None) => {
            let message = format!("{name}: only the agent can ask; see the ready lines");
            return vec![Finding::ok("discovery", message)];
        }
        Err(_) => {
            let message = format!("{name}: no answer within {} s", LOOK_TIMEOUT.as_secs());
            let error = DiscoveryError::Unreachable(message.clone());
            return vec![Finding::fail("discovery", message, discovery::remedy(config, &error))];
        }
    };
    match answer {
        Ok(answer) => {
            let rejected = answer.rejected.iter().map(|text| {
                let message = format!("{name}: unusable entry: {text}");
                let remedy = match &config.cluster.strategy {
                    StrategyConfig::K8s(_) => "mend the pods, or cluster.k8s",
                    _ => "remove it from the backend",
                };
                Finding::warn("discovery", message, remedy)
            });
            let names: Vec<_> = answer.nodes.iter().map(ToString::to_string).collect();
            let message = match names.len() {
                0 => format!("{name}: answers, and nobody is there"),
                count => format!("{name}: {count} found: {}", names.join(", ")),
            };
            let notices = answer.notices.into_iter().chain(answer.doubts).map(|text| {
                let (text, remedy) = text.split_once(" -> ").unwrap_or((&text, "see the text"));
                Finding::warn("discovery", format!("{name}: {text}"), remedy)
            });
            std::iter::once(Finding::ok("discovery", message))
                .chain(notices)
                .chain(rejected)
                .collect()
        }
        Err(error) => {
            let message = format!("{name}: {error}");
            vec![Finding::fail("discovery", message, discovery::remedy(config, &error))]
        }
    }
}
