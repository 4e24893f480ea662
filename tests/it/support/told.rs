//! Whether what fails at run time is told everywhere: once in the log, in
//! `/readyz?verbose`, in a metric and by `muster doctor`.

use std::process::Command;

use super::agent::Agent;
use super::wait::{LONG, eventually};

/// Whether a trouble stands, in each of the places; with how many log lines.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub log: usize,
    pub verbose: bool,
    pub metric: bool,
    pub doctor: bool,
}

/// Everywhere, and once in the log.
pub const TOLD: Told = Told { log: 1, verbose: true, metric: true, doctor: true };

/// What `muster doctor` says beside it.
pub fn doctor(agent: &Agent) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(["doctor", "-c"])
        .arg(agent.config_path())
        .output()
        .unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Where a check stands; `doctor` is its output.
pub fn told(agent: &Agent, check: &str, doctor: &str) -> Told {
    let notices = agent.get("/readyz?verbose")["notices"].take();
    let verbose = notices.as_array().unwrap().iter().any(|notice| notice["name"] == check);
    let metric = format!("muster_health_reason{{check={check:?}}}");
    let finding = format!("notice       {check}: ");
    let warnings = format!("check={check}");
    let log = agent.logs();
    let raised = log.lines().filter(|line| line.contains("WARN") && line.contains(&warnings));
    Told {
        log: raised.count(),
        verbose,
        metric: agent.metric(&metric) == 1,
        doctor: doctor.lines().any(|line| line.contains(&finding)),
    }
}

/// Waits until a notice is there, or gone.
#[track_caller]
pub fn wait_notice(agent: &Agent, check: &str, there: bool) {
    eventually(&format!("{check} to be {there}"), LONG, || {
        let notices = agent.get("/readyz?verbose")["notices"].take();
        let found = notices.as_array()?.iter().any(|notice| notice["name"] == check);
        (found == there).then_some(())
    });
}
