//! Clusters of real processes on loopback, measured from outside.
//!
//! `cargo bench --bench cluster` prints one Markdown table: how fast agents form a
//! cluster, see a crash and a freeze, what they cost, how fast the API is. Where
//! `serf` and `erl` are installed they are measured in the same run by the same
//! rules: one observer per process learns of changes as they happen (muster's event
//! stream, serf's log, Erlang's `monitor_nodes`), and a time ends when the
//! last observer concerned has heard.
//!
//! `-- --follow` measures one thing alone: what a probe, a rendered file, hooks and DNS at every
//! agent change about the membership, with members that flap (50 agents and two minutes unless
//! `--agents N` and `--seconds N` say otherwise), beside the same without them.
//!
//! `-- --quick` takes about a minute; `-- --only muster` (or `muster-tls`, `serf`, `erlang`)
//! leaves out the others, `-- --part formation` (or `kills`, `halves`, `freezes`, `footprint`,
//! `starts`, `throughput`) all but that, `-- --size 200` all clusters formed but those of that size.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark that cannot run should say so and end"
)]

mod erlang;
mod follow;
mod ground;
mod group;
mod load;
mod muster;
mod process;
mod report;
mod serf;
mod surroundings;

use std::collections::BTreeMap;
use std::time::Duration;

use ground::System;
use group::Group;
use report::{Report, Samples};

/// Nothing measured here takes longer, unless it never happens.
const LIMIT: Duration = Duration::from_secs(100);

/// How much is measured.
struct Plan {
    quick: bool,
    /// The only part to measure, where one is given.
    part: Option<String>,
    /// The only size to form clusters of, where one is given.
    size: Option<usize>,
    systems: Vec<System>,
    follow: Option<follow::Plan>,
}

impl Plan {
    fn from_arguments() -> Self {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let value = |flag: &str| {
            arguments.iter().position(|a| a == flag).and_then(|i| arguments.get(i + 1))
        };
        let only = value("--only");
        let systems = [System::Muster, System::MusterTls, System::Serf, System::Erlang]
            .into_iter()
            .filter(|system| only.is_none_or(|name| name == system.name()))
            .filter(|system| {
                let installed = system.is_installed();
                if !installed {
                    eprintln!("{} is not installed and left out", system.name());
                }
                installed
            })
            .collect();
        let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
        let number = |flag: &str, otherwise: u64| {
            value(flag).map_or(otherwise, |number| number.parse().expect("a number"))
        };
        let follow = given("--follow").then(|| follow::Plan {
            // As many as there are ports for.
            agents: usize::try_from(number("--agents", 50)).unwrap().clamp(2, 50),
            window: Duration::from_secs(number("--seconds", 120)),
        });
        let systems = if follow.is_some() { follow::SYSTEMS.to_vec() } else { systems };
        Self {
            quick: given("--quick"),
            part: value("--part").cloned(),
            size: value("--size").map(|size| size.parse().expect("--size takes a number")),
            systems,
            follow,
        }
    }

    fn wants(&self, part: &str) -> bool {
        self.part.as_ref().is_none_or(|only| only == part)
    }

    /// How often a cluster of this size is formed.
    fn formations(&self, system: System, n: usize) -> usize {
        match (system, n, self.quick) {
            (System::Erlang, 3, true) => 1,
            (System::Erlang, _, true) | (System::Erlang, 50.., false) => 0,
            (System::MusterTls, _, true) => usize::from(n == 20),
            (System::MusterTls, 51.., _) | (_, 101.., true) | (System::MusterFollow, ..) => 0,
            (System::Erlang, ..) => 5,
            (_, 3 | 10, true) => 3,
            (_, _, true) | (_, 201.., _) | (System::Serf, 101.., _) => 1,
            (_, 50, false) => 7,
            (_, 51.., false) => 3,
            (_, _, false) => 11,
        }
    }

    /// Cluster sizes, clusters of each, and kills in each cluster.
    fn kills(&self, system: System) -> &'static [(usize, usize, usize)] {
        match (system, self.quick) {
            (System::Muster, true) => &[(5, 1, 2), (10, 1, 3)],
            (System::Muster, false) => &[(5, 5, 2), (10, 5, 3), (20, 3, 3), (50, 3, 3)],
            (System::MusterTls, true) | (System::MusterFollow, _) => &[],
            (System::MusterTls, false) => &[(10, 3, 3)],
            (System::Serf, true) => &[(5, 1, 1)],
            (System::Serf, false) => &[(5, 3, 2), (10, 3, 2), (20, 1, 3), (50, 1, 3)],
            (System::Erlang, true) => &[(5, 1, 1)],
            (System::Erlang, false) => &[(5, 3, 2), (10, 3, 3)],
        }
    }

    /// Cluster sizes of which half is killed at once.
    fn halves(&self, system: System) -> &'static [usize] {
        match (system, self.quick) {
            (System::Muster, true) => &[20],
            (System::Muster | System::Serf, false) => &[100, 200],
            _ => &[],
        }
    }

    /// Cluster sizes and freezes, each in a cluster of its own.
    fn freezes(&self, system: System) -> &'static [(usize, usize)] {
        match (system, self.quick) {
            (System::Muster, true) => &[(5, 2)],
            (System::MusterTls | System::MusterFollow, _) => &[],
            (System::Serf, true) => &[(5, 1)],
            // Erlang's `net_ticktime` is a minute.
            (System::Erlang, true) => &[],
            (System::Erlang, false) => &[(5, 1)],
            (_, false) => &[(5, 5), (10, 5)],
        }
    }

    fn footprints(&self, system: System) -> &'static [usize] {
        match (system, self.quick) {
            (System::Erlang | System::MusterTls, true) | (System::MusterFollow, _) => &[],
            (System::Erlang, false) => &[10],
            (_, true) => &[10],
            (System::Muster, false) => &[10, 50, 300],
            (_, false) => &[10, 50],
        }
    }

    fn idle_window(&self) -> Duration {
        Duration::from_secs(if self.quick { 5 } else { 60 })
    }

    fn start_repetitions(&self) -> usize {
        if self.quick { 5 } else { 21 }
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let plan = Plan::from_arguments();
    let mut report = Report::new();
    // Dropping the plan's future on Ctrl-C drops its processes, which kills them.
    tokio::select! {
        () = measure(&plan, &mut report) => {}
        _ = tokio::signal::ctrl_c() => eprintln!("interrupted; what there is:"),
    }
    println!("{}", report.markdown(&plan.systems));
}

async fn measure(plan: &Plan, report: &mut Report) {
    if let Some(plan) = &plan.follow {
        return follow::measure(plan, report).await;
    }
    if plan.wants("formation") {
        formation(plan, report).await;
    }
    for &system in &plan.systems {
        if plan.wants("kills") {
            kills(plan, report, system).await;
        }
        if plan.wants("halves") {
            halves(plan, report, system).await;
        }
        if plan.wants("freezes") {
            freezes(plan, report, system).await;
        }
        if plan.wants("footprint") {
            footprint(plan, report, system).await;
        }
        if plan.wants("starts") && system != System::MusterTls {
            starts(plan, report, system).await;
        }
        if plan.wants("throughput") && system == System::Muster {
            throughput(plan, report).await;
        }
    }
}

/// The systems take turns, so that whatever else the machine does meets them alike.
async fn formation(plan: &Plan, report: &mut Report) {
    let sizes = match plan.size {
        Some(size) => vec![size],
        None => vec![3, 10, 20, 50, 100, 200, 300],
    };
    for n in sizes {
        let mut runs: BTreeMap<System, Formations> = BTreeMap::new();
        for &system in &plan.systems {
            let left = plan.formations(system, n);
            runs.insert(system, Formations { left, ..Formations::default() });
        }
        while runs.values().any(|run| run.left > 0) {
            for (&system, run) in runs.iter_mut().filter(|(_, run)| run.left > 0) {
                run.left -= 1;
                let mut group = Group::start(system, n).await;
                let time = group.formed(LIMIT).await;
                let used = group.processor_time() / u32::try_from(n).unwrap();
                run.times.push(time);
                run.used.push(time.map(|_| used));
            }
        }
        for (system, run) in &runs {
            report.time(&format!("formation, N = {n}"), *system, &run.times);
        }
        for (system, run) in &runs {
            report.time(&format!("CPU of an agent until then, N = {n}"), *system, &run.used);
        }
    }
}

/// Clusters of one system and size.
#[derive(Default)]
struct Formations {
    left: usize,
    times: Samples,
    used: Samples,
}

async fn kills(plan: &Plan, report: &mut Report, system: System) {
    for &(n, clusters, kills) in plan.kills(system) {
        let mut samples = Samples::default();
        for _ in 0..clusters {
            let Some(mut group) = Group::formed_group(system, n, LIMIT).await else {
                samples.push(None);
                continue;
            };
            for victim in (n - kills)..n {
                samples.push(group.kill_until_all_know(victim, LIMIT).await);
            }
        }
        report.time(&format!("`kill -9` until all know, N = {n}"), system, &samples);
    }
}

async fn halves(plan: &Plan, report: &mut Report, system: System) {
    for &n in plan.halves(system) {
        let mut samples = Samples::default();
        for _ in 0..if plan.quick { 1 } else { 3 } {
            let Some(mut group) = Group::formed_group(system, n, LIMIT).await else {
                samples.push(None);
                continue;
            };
            samples.push(group.kill_all_until_all_know(n / 2..n, LIMIT).await);
        }
        report.time(&format!("half killed until all others know, N = {n}"), system, &samples);
    }
}

async fn freezes(plan: &Plan, report: &mut Report, system: System) {
    for &(n, repetitions) in plan.freezes(system) {
        let mut down = Samples::default();
        let mut back = Samples::default();
        for _ in 0..repetitions {
            let Some(mut group) = Group::formed_group(system, n, LIMIT).await else {
                down.push(None);
                continue;
            };
            let until_down = group.freeze_until_all_know(n - 1, LIMIT).await;
            down.push(until_down);
            if until_down.is_some() {
                back.push(group.thaw_until_whole(n - 1, LIMIT).await);
            }
        }
        report.time(&format!("SIGSTOP until all know, N = {n}"), system, &down);
        report.time(&format!("SIGCONT until whole again, N = {n}"), system, &back);
    }
}

async fn footprint(plan: &Plan, report: &mut Report, system: System) {
    for &n in plan.footprints(system) {
        let Some(mut group) = Group::formed_group(system, n, LIMIT).await else { continue };
        // The work of forming is over by then, and its memory is what an idle agent keeps.
        group.settle(Duration::from_secs(2)).await;
        let before = group.processor_time();
        let window = plan.idle_window();
        group.settle(window).await;
        let used = group.processor_time().saturating_sub(before);
        let share = used.as_secs_f64() / window.as_secs_f64() / n as f64 * 100.0;
        report.cell(&format!("idle CPU per agent, N = {n}"), system, format!("{share:.3} %"));
        let mut rss = group.resident_kib();
        rss.sort_unstable();
        let median = rss[rss.len() / 2] as f64 * 1024.0 / 1e6;
        report.cell(&format!("resident memory, N = {n}"), system, format!("{median:.1} MB"));
    }
}

async fn starts(plan: &Plan, report: &mut Report, system: System) {
    let mut starts = Samples::default();
    for _ in 0..plan.start_repetitions() {
        starts.push(Group::start_time(system, LIMIT).await);
    }
    report.time("start until its interface answers", system, &starts);
}

async fn throughput(plan: &Plan, report: &mut Report) {
    let n = 50;
    let Some(mut group) = Group::formed_group(System::Muster, n, LIMIT).await else { return };
    group.settle(Duration::from_secs(1)).await;
    let window = Duration::from_secs(if plan.quick { 2 } else { 10 });
    let result = load::run(group.api(0), "/api/v1/members", window).await;
    report.cell(
        "`GET /api/v1/members`, 50 members",
        System::Muster,
        format!("{:.0}/s, p99 {:.2} ms", result.per_second, result.p99.as_secs_f64() * 1e3),
    );
}
