//! What was measured, as one Markdown table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;
use std::time::Duration;

use crate::ground::System;

/// Repetitions of one measurement; `None`: it did not happen within the limit.
#[derive(Debug, Default)]
pub(crate) struct Samples(Vec<Option<Duration>>);

impl Samples {
    pub(crate) fn push(&mut self, sample: Option<Duration>) {
        self.0.push(sample);
    }

    /// `median (min to max; count)`, with failures counted; empty without samples.
    fn text(&self) -> String {
        let mut times: Vec<_> = self.0.iter().copied().flatten().collect();
        times.sort_unstable();
        let failed = self.0.len() - times.len();
        let failed = if failed == 0 { String::new() } else { format!(", {failed} never") };
        let Some((&first, &last)) = times.first().zip(times.last()) else {
            return if self.0.is_empty() { String::new() } else { "never".to_owned() };
        };
        let median = show(times[times.len() / 2]);
        if times.len() == 1 && failed.is_empty() {
            return format!("{median} (1)");
        }
        format!("{median} ({} to {}; {}{failed})", show(first), show(last), times.len())
    }
}

fn show(time: Duration) -> String {
    let milliseconds = time.as_secs_f64() * 1e3;
    match milliseconds {
        0.0..10.0 => format!("{milliseconds:.1} ms"),
        10.0..1000.0 => format!("{milliseconds:.0} ms"),
        _ => format!("{:.2} s", time.as_secs_f64()),
    }
}

/// Rows in the order of their first measurement.
pub(crate) struct Report {
    rows: Vec<(String, BTreeMap<System, String>)>,
}

impl Report {
    pub(crate) fn new() -> Self {
        Self { rows: Vec::new() }
    }

    pub(crate) fn time(&mut self, row: &str, system: System, samples: &Samples) {
        let text = samples.text();
        if !text.is_empty() {
            self.cell(row, system, text);
        }
    }

    pub(crate) fn cell(&mut self, row: &str, system: System, text: String) {
        eprintln!("{row}, {}: {text}", system.name());
        let index = self.rows.iter().position(|(name, _)| name == row).unwrap_or_else(|| {
            self.rows.push((row.to_owned(), BTreeMap::new()));
            self.rows.len() - 1
        });
        self.rows[index].1.insert(system, text);
    }

    pub(crate) fn markdown(&self, systems: &[System]) -> String {
        let mut text = machine();
        let titles: Vec<_> = systems.iter().map(|&system| title(system)).collect();
        let _ = writeln!(text, "\n| measure | {} | to reach |", titles.join(" | "));
        let _ = writeln!(text, "| --- |{}", " --- |".repeat(systems.len() + 1));
        for (row, cells) in &self.rows {
            let cells: Vec<_> = systems
                .iter()
                .map(|system| cells.get(system).map_or("–", String::as_str))
                .collect();
            let _ = writeln!(text, "| {row} | {} | {} |", cells.join(" | "), target(row));
        }
        text.push_str("\nMedian (least to most; repetitions).\n");
        text
    }
}

/// What is promised for a row.
fn target(row: &str) -> &'static str {
    match row {
        "formation, N = 3" => "≤ 0.1 s",
        "formation, N = 10" => "≤ 0.25 s",
        "formation, N = 20" => "≤ 0.45 s",
        "formation, N = 50" => "≤ 1.4 s",
        "CPU of an agent until then, N = 300" => "≤ 2 × N = 50's",
        "idle CPU per agent, N = 10" => "≤ 0.06 %",
        "idle CPU per agent, N = 50" => "≤ 0.08 %",
        "resident memory, N = 10" => "≤ 10 MB",
        "resident memory, N = 50" => "≤ 12 MB",
        "resident memory, N = 300" => "≤ 14 MB",
        "start until its interface answers" => "≤ 10 ms",
        _ if row.starts_with("resident memory while members flap") => "≤ 14 MB",
        _ if row.starts_with("half killed") => "≤ 1 s",
        _ if row.starts_with("CPU of an agent") => "≤ half of serf's",
        _ if row.starts_with("`kill -9`") => "≤ 20 ms, at most 40 ms",
        _ if row.starts_with("SIGSTOP") => "≤ 3 s",
        _ if row.starts_with("`GET") => "≥ 50,000/s, p99 ≤ 1 ms",
        _ => "",
    }
}

fn title(system: System) -> String {
    match system {
        System::Muster => format!("muster {}", env!("CARGO_PKG_VERSION")),
        System::MusterTls => "muster, TLS".to_owned(),
        System::MusterFollow => "muster, all of the broker next door on".to_owned(),
        System::Serf => {
            // Debian's serf calls itself a development version; the package knows.
            let package = output("dpkg-query", &["-W", "-f=${Version}", "serf"]);
            format!("serf {}", package.unwrap_or_default()).trim().to_owned()
        }
        System::Erlang => {
            let release = "io:format(\"~s\", [erlang:system_info(otp_release)]), halt().";
            let release = output("erl", &["-noshell", "-eval", release]);
            format!("Erlang/OTP {}", release.unwrap_or_default()).trim().to_owned()
        }
    }
}

/// The machine in one line.
fn machine() -> String {
    let processors = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = processors
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib: u64 =
        memory.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).unwrap_or_default();
    let build = if cfg!(debug_assertions) { "development" } else { "release" };
    format!(
        "{model}, {cores} cores, {} GiB, Linux {}; loopback, {build} build, defaults.\n",
        kib >> 20,
        kernel.trim()
    )
}

fn output(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
