//! What can be seen on this machine alone: clock, cookie, certificates, state directory.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, access};

use super::finding::Finding;
use crate::api::rfc3339;
use crate::config::Config;
use crate::mesh::tls::{EXPIRY_WARNING, TlsContext};

/// 2025-01-01: a clock before it was never set.
const PLAUSIBLE: Duration = Duration::from_secs(1_735_689_600);

/// Room that the state of a large cluster takes, twice: the old file and the new.
const ROOM: u64 = 4 << 20;

/// Whether state can be kept below `node.data_dir`. A running agent says whether it could
/// write; without one only the directory can be looked at.
pub(super) fn state(config: &Config, agent: bool) -> Option<Finding> {
    let directory = config.node.data_dir.join("muster");
    let mut existing = directory.as_path();
    while !existing.exists() {
        existing = existing.parent().filter(|parent| !parent.as_os_str().is_empty())?;
    }
    let shown = directory.display();
    if let Ok(stat) = rustix::fs::statvfs(existing)
        && stat.f_bavail.saturating_mul(stat.f_frsize) < ROOM
    {
        let message = format!("{shown}: the file system is full, so that state is not saved");
        return Some(Finding::fail("state", message, "free some space there"));
    }
    // Another user may look, whose rights say nothing about the agent's.
    if !agent && access(existing, Access::WRITE_OK).is_err() {
        let message = format!("{shown}: this user may not write it");
        return Some(Finding::warn("state", message, "the agent's user must: chown it"));
    }
    None
}

/// Peers answer no question about their clocks, and none is asked: no decision rests
/// on them. Certificates and logs do.
pub(super) fn clock() -> Finding {
    let now = SystemTime::now();
    let text = rfc3339(now);
    if now.duration_since(UNIX_EPOCH).unwrap_or_default() < PLAUSIBLE {
        let message = format!("reads {text}: certificates will not be valid yet");
        return Finding::fail("clock", message, "set it: run an NTP client");
    }
    Finding::ok("clock", format!("reads {text}; peers' clocks cannot be seen, nor do they matter"))
}

pub(super) fn cookie(config: &Config) -> Finding {
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

pub(super) fn certificates(config: &Config, findings: &mut Vec<Finding>) -> Option<TlsContext> {
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
