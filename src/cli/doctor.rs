//! `muster doctor`: looks at everything a cluster needs, and says what to mend.
//!
//! It sees this machine and what can be reached from it: the agent's API, the
//! peers' mesh ports, the discovery backend, the files. It changes nothing, and
//! registers nothing with a backend.

mod peers;

use std::process::ExitCode;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::args::ConnectArgs;
use super::client::{Client, ClientError};
use super::error::{CliError, EX_UNAVAILABLE};
use super::{files, out, target};
use crate::api::{Check, Cluster, Health, Members, rfc3339};
use crate::config::{Config, Loaded, StrategyConfig};
use crate::discovery;
use crate::mesh::tls::{EXPIRY_WARNING, TlsContext};
use crate::view::MemberStatus;

/// No backend takes longer to answer or to be given up.
const LOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// 2025-01-01: a clock before it was never set.
const PLAUSIBLE: Duration = Duration::from_secs(1_735_689_600);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// As it should be.
    Ok,
    /// Works, and could be better.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Finding {
    level: Level,
    check: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self { level: Level::Ok, check, message: message.into(), remedy: None }
    }

    fn warn(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        let remedy = Some(remedy.into());
        Self { level: Level::Warn, check, message: message.into(), remedy }
    }

    fn fail(check: &'static str, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(check, message, remedy) }
    }

    /// One line, whatever is in it.
    fn line(&self) -> String {
        let level = match self.level {
            Level::Ok => "ok",
            Level::Warn => "warn",
            Level::Fail => "FAIL",
        };
        let remedy = self.remedy.as_ref().map(|remedy| format!(" -> {remedy}"));
        let text = format!("{}{}", self.message, remedy.unwrap_or_default());
        let text: Vec<_> = text.lines().map(str::trim).collect();
        format!("{level:4}  {:11}  {}", self.check, text.join(" "))
    }
}

pub(super) async fn run(args: &ConnectArgs) -> Result<ExitCode, CliError> {
    let loaded = files::load_if_any(&args.config)?;
    let config = loaded.as_ref().map(|loaded| &loaded.config);
    let client = target::client_of(args, config)?;
    let mut findings = configuration(loaded.as_ref());
    let (seen, unreachable) = agent(&client, &mut findings).await;
    findings.push(clock());
    if let Some(config) = config {
        findings.push(cookie(config));
        let tls = certificates(config, &mut findings);
        findings.extend(backend(config).await);
        findings.extend(peers::look(config, tls.as_ref(), seen.as_ref()).await);
    }
    if args.json {
        out::json(&findings)?;
    } else {
        for finding in &findings {
            out::line(&finding.line())?;
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
        Finding::fail("ready", format!("{}: {}", check.name, check.reason), remedy(check))
    }));
    if health.ready {
        findings.push(Finding::ok("ready", "every check passes"));
    }
    findings.extend(health.notices.iter().filter(|check| !check.ok).map(|check| {
        Finding::warn("notice", format!("{}: {}", check.name, check.reason), remedy(check))
    }));
    let down = members.members.iter().filter(|member| member.status == MemberStatus::Down);
    findings.extend(down.map(|member| {
        let message = format!("{} is down since {}", member.node, member.since);
        let remedy = format!("start it, or: muster cluster force-leave {}", member.node);
        Finding::warn("member", message, remedy)
    }));
    (Some((cluster, members)), false)
}

fn remedy(check: &Check) -> &'static str {
    match check.name.as_str() {
        "discovery" | "discovery_backend" => "see the discovery line",
        "state" => "wait; or muster cluster join, or muster cluster discovery enable",
        "min_members" => "start the missing agents, or lower agent.ready.min_members",
        "majority" => "start the stopped cores, or remove them with muster cluster force-leave",
        "name_conflict" => "stop one of the two agents, or give it another node.name",
        "views_agree" => "wait some seconds; if it lasts, see the peer lines",
        "links" => "see the peer lines",
        "encryption" => "set cluster.proto_dist = inet_tls where the network is not yours alone",
        "api_token" => "set agent.api.token where other users share this machine",
        _ => "see the agent's log",
    }
}

/// Peers answer no question about their clocks, and none is asked: no decision rests
/// on them. Certificates and logs do.
fn clock() -> Finding {
    let now = SystemTime::now();
    let text = rfc3339(now);
    if now.duration_since(UNIX_EPOCH).unwrap_or_default() < PLAUSIBLE {
        let message = format!("reads {text}: certificates will not be valid yet");
        return Finding::fail("clock", message, "set it: run an NTP client");
    }
    Finding::ok("clock", format!("reads {text}; peers' clocks cannot be seen, nor do they matter"))
}

fn cookie(config: &Config) -> Finding {
    let weak = config.weak_cookie();
    let count = config.node.cookies.current().len();
    let remedy = "take a long random one: openssl rand -hex 32";
    match weak {
        Some(why) => Finding::warn("cookie", why, remedy),
        None if count > 1 => Finding::warn(
            "cookie",
            format!("{count} cookies are accepted"),
            "remove the old ones once every node offers the new one",
        ),
        None => Finding::ok("cookie", "long, and none that is shipped"),
    }
}

fn certificates(config: &Config, findings: &mut Vec<Finding>) -> Option<TlsContext> {
    if !config.cluster.proto_dist.is_tls() {
        return None;
    }
    let optfile = &config.node.ssl_dist_optfile;
    let verify = config.agent.mesh.verify_node_name;
    match TlsContext::load(optfile, &config.node.name, verify) {
        Ok(tls) => {
            let days = |span: Duration| span.as_secs() / 86_400;
            let left = tls.not_after().duration_since(SystemTime::now()).unwrap_or_default();
            let warnings = tls.warnings();
            if warnings.is_empty() {
                let message = format!("valid for {} more days", days(left));
                findings.push(Finding::ok("certificate", message));
            }
            let remedy = match left < EXPIRY_WARNING {
                true => "renew the certificate; new files are used without a restart".to_owned(),
                false => format!("mend {}", optfile.display()),
            };
            findings.extend(
                warnings.into_iter().map(|text| Finding::warn("certificate", text, &*remedy)),
            );
            Some(tls)
        }
        Err(error) => {
            let remedy = format!("mend {} or the files it names", optfile.display());
            findings.push(Finding::fail("certificate", error.to_string(), remedy));
            None
        }
    }
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
            return vec![Finding::fail("discovery", message, backend_remedy(config))];
        }
    };
    match answer {
        Ok(answer) => {
            let rejected = answer.rejected.iter().map(|text| {
                let message = format!("{name}: unusable entry: {text}");
                Finding::warn("discovery", message, "remove it from the backend")
            });
            let names: Vec<_> = answer.nodes.iter().map(ToString::to_string).collect();
            let message = match names.len() {
                0 => format!("{name}: answers, and nobody is there"),
                count => format!("{name}: {count} found: {}", names.join(", ")),
            };
            let limits = answer.notices.into_iter().chain(answer.doubts).map(|text| {
                let message = format!("{name}: {text}");
                Finding::warn("discovery", message, backend_remedy(config))
            });
            std::iter::once(Finding::ok("discovery", message))
                .chain(limits)
                .chain(rejected)
                .collect()
        }
        Err(error) => {
            let message = format!("{name}: {error}");
            vec![Finding::fail("discovery", message, backend_remedy(config))]
        }
    }
}

fn backend_remedy(config: &Config) -> &'static str {
    match config.cluster.strategy {
        StrategyConfig::Dns(_) => "check cluster.dns.name, the record and the name servers",
        StrategyConfig::Etcd(_) => {
            "check cluster.etcd.server, username, password and ssl_options, and that etcd runs"
        }
        StrategyConfig::K8s(_) => {
            "check cluster.k8s and the Role: get, list and watch on endpointslices"
        }
        _ => "check the cluster block",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_one_line() {
        let finding = Finding::fail("peer", "a@b.c: broken\n  hint: x", "mend\nit");
        assert_eq!(finding.line(), "FAIL  peer         a@b.c: broken hint: x -> mend it");
        assert_eq!(Finding::ok("clock", "reads").line(), "ok    clock        reads");
    }
}
