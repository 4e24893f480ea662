//! What a probe, a rendered file, hooks and DNS at every agent cost the membership: the same
//! measurements with and without them, in clusters that take turns, while members flap.

use std::time::Duration;

use tokio::time::Instant;

use crate::LIMIT;
use crate::ground::System;
use crate::group::Group;
use crate::muster;
use crate::report::{Report, Samples};

/// What is compared.
pub(crate) const SYSTEMS: [System; 2] = [System::Muster, System::MusterFollow];

/// Clusters formed of each.
const FORMATIONS: usize = 5;

/// Freezes of each.
const FREEZES: usize = 3;

/// Between a member that is back and the next that is killed.
const BETWEEN: Duration = Duration::from_millis(300);

/// How much is measured.
pub(crate) struct Plan {
    pub(crate) agents: usize,
    /// For how long members flap.
    pub(crate) window: Duration,
}

pub(crate) async fn measure(plan: &Plan, report: &mut Report) {
    let n = plan.agents;
    let mut formed = SYSTEMS.map(|_| Samples::default());
    for _ in 0..FORMATIONS {
        for (samples, system) in formed.iter_mut().zip(SYSTEMS) {
            samples.push(Group::start(system, n).await.formed(LIMIT).await);
        }
    }
    for (samples, system) in formed.iter().zip(SYSTEMS) {
        report.time(&format!("formation, N = {n}"), system, samples);
    }
    for system in SYSTEMS {
        match Group::formed_group(system, n, LIMIT).await {
            Some(mut group) => flapping(plan, report, system, &mut group).await,
            None => report.cell("flapping", system, "never formed".to_owned()),
        }
    }
}

/// One after another is killed and started again, and another drains and returns meanwhile.
async fn flapping(plan: &Plan, report: &mut Report, system: System, group: &mut Group) {
    let n = plan.agents;
    group.settle(Duration::from_secs(3)).await;
    memory(report, system, "resident memory", group);
    let [mut down, mut back, mut frozen] = [(); 3].map(|()| Samples::default());
    let (begun, before) = (Instant::now(), group.processor_time());
    let mut victim = 0;
    while begun.elapsed() < plan.window {
        let drained = group.api((victim + n / 2) % n);
        down.push(group.kill_until_all_know(victim, LIMIT).await);
        let told = muster::ask(drained, "PUT /api/v1/node/drain").await;
        assert!(told.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200")), "no drain");
        back.push(group.restart_until_all_know(victim, LIMIT).await);
        let told = muster::ask(drained, "DELETE /api/v1/node/drain").await;
        assert!(told.is_ok_and(|answer| answer.starts_with("HTTP/1.1 204")), "no end of a drain");
        group.settle(BETWEEN).await;
        victim = (victim + 1) % n;
    }
    let share = group.processor_time().saturating_sub(before).as_secs_f64()
        / begun.elapsed().as_secs_f64()
        / n as f64
        * 100.0;
    report.time(&format!("`kill -9` until all know, members flapping, N = {n}"), system, &down);
    report.time(&format!("start until all know, members flapping, N = {n}"), system, &back);
    report.cell(
        &format!("CPU while members flap, for an agent, N = {n}"),
        system,
        format!("{share:.2} %"),
    );
    memory(report, system, "resident memory while members flap", group);
    for freeze in 0..FREEZES {
        let victim = n - 1 - freeze;
        frozen.push(group.freeze_until_all_know(victim, LIMIT).await);
        group.thaw_until_whole(victim, LIMIT).await;
    }
    report.time(&format!("SIGSTOP until all know, N = {n}"), system, &frozen);
    if let Some(told) = group.surroundings().await {
        report.cell("what happened around it", system, told);
    }
}

/// The median and the most of all agents.
fn memory(report: &mut Report, system: System, row: &str, group: &Group) {
    let mut rss: Vec<f64> =
        group.resident_kib().into_iter().map(|kib| kib as f64 * 1024.0 / 1e6).collect();
    rss.sort_unstable_by(f64::total_cmp);
    let (median, most) = (rss[rss.len() / 2], rss[rss.len() - 1]);
    let row = format!("{row}, N = {}", rss.len());
    report.cell(&row, system, format!("{median:.1} MB, at most {most:.1}"));
}
