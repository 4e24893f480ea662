//! What is measured, of either kind of cluster.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

use crate::cluster::{Change, Cluster, State, Traffic};
use crate::report::Report;

/// One size of cluster, and how much of it is measured.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub members: usize,
    /// Changes of each kind.
    pub changes: usize,
    /// How long a tenth of the members is slow; zero: never.
    pub slow_for: Duration,
}

/// Until links are up, and links of no use closed.
const SETTLE: Duration = Duration::from_secs(15);

/// For so long nothing happens but the protocol.
const QUIET: Duration = Duration::from_secs(10);

/// Between two changes.
const BETWEEN: Duration = Duration::from_secs(3);

/// Nothing takes longer, unless it never happens.
const LIMIT: Duration = Duration::from_secs(60);

/// How exact times are.
const TICK: Duration = Duration::from_millis(1);

/// The messages of a slow process wait for so many milliseconds, then pass for so many, and
/// so on: as in Lifeguard's experiments, about as long as a suspicion takes.
const STALLS: std::ops::Range<u64> = 200..8_000;
const RUNS: std::ops::Range<u64> = 500..4_000;

/// Lets a cluster come to rest.
pub fn settle(cluster: &mut impl Cluster) {
    cluster.run(cluster.now() + SETTLE);
    cluster.news();
}

/// What membership costs when nothing happens.
///
/// Answers how many messages a member sends in a second.
pub fn quiet(report: &mut Report, system: &str, cluster: &mut impl Cluster) -> f64 {
    let before = cluster.sent();
    cluster.run(cluster.now() + QUIET);
    let cost = Cost::of(cluster, before);
    report.cell("sent by a member, nothing happening", system, cost.per_second(QUIET));
    let news = cluster.news();
    assert!(news.is_empty(), "{system}: something happened: {:?}", &news[..news.len().min(3)]);
    cost.messages / QUIET.as_secs_f64()
}

/// What was sent by one member.
struct Cost {
    messages: f64,
    bytes: f64,
}

impl Cost {
    fn of(cluster: &impl Cluster, since: Traffic) -> Self {
        let (now, members) = (cluster.sent(), cluster.living().len() as f64);
        Self {
            messages: (now.messages - since.messages) as f64 / members,
            bytes: (now.bytes - since.bytes) as f64 / members,
        }
    }

    fn per_second(&self, time: Duration) -> String {
        let seconds = time.as_secs_f64();
        format!("{:.1} messages/s, {:.0} B/s", self.messages / seconds, self.bytes / seconds)
    }
}

/// How soon everybody knows of changes, and what that costs.
pub fn changes(
    report: &mut Report,
    system: &str,
    cluster: &mut impl Cluster,
    change: Change,
    count: usize,
    quiet: f64,
) {
    let mut samples = Vec::new();
    let mut spreads = Vec::new();
    let mut messages = Vec::new();
    for turn in 0..count {
        let (start, before) = (cluster.now(), cluster.sent());
        let times = one(cluster, change, turn);
        let Some((whole, spread)) = times else {
            report.cell(change.title(), system, "never".to_owned());
            return;
        };
        samples.push(whole);
        spreads.push(spread.as_secs_f64() / cluster.period().as_secs_f64());
        cluster.run(cluster.now() + BETWEEN);
        let idle = quiet * (cluster.now() - start).as_secs_f64();
        messages.push(Cost::of(cluster, before).messages - idle);
        cluster.news();
    }
    samples.sort_unstable();
    spreads.sort_unstable_by(f64::total_cmp);
    messages.sort_unstable_by(f64::total_cmp);
    let (median, most) = (samples[count / 2], samples[count - 1]);
    report.cell(
        change.title(),
        system,
        format!(
            "{:.2} s (at most {:.2} s); {:.1} periods from the first to the last; {:.0} messages",
            median.as_secs_f64(),
            most.as_secs_f64(),
            spreads[count / 2],
            messages[count / 2],
        ),
    );
}

/// The time until the last has heard, and from the first who heard to the last.
fn one(cluster: &mut impl Cluster, change: Change, turn: usize) -> Option<(Duration, Duration)> {
    let start = cluster.now();
    let living = cluster.living();
    // Numbers have nothing to do with places on the ring.
    let chosen = living[(turn * 2 + 1) * living.len() / 13];
    let member = cluster.begin(change, chosen)?;
    let mut waiting: BTreeSet<usize> = cluster.living().into_iter().collect();
    waiting.remove(&member);
    let mut first = None;
    while cluster.now() < start + LIMIT {
        cluster.run(cluster.now() + TICK);
        for news in cluster.news() {
            if news.member == member && news.state == change.state() {
                first.get_or_insert(news.at);
                waiting.remove(&news.observer);
            }
            if waiting.is_empty() {
                return Some((news.at - start, news.at - first?));
            }
        }
    }
    None
}

/// How often members that live are said to be down while a tenth of them is slow.
pub fn slow(
    report: &mut Report,
    system: &str,
    cluster: &mut impl Cluster,
    time: Duration,
    seed: u64,
) {
    let mut rng = SmallRng::seed_from_u64(seed);
    let mut living = cluster.living();
    living.shuffle(&mut rng);
    let slow: BTreeSet<usize> = living.iter().copied().take(living.len() / 10).collect();
    let start = cluster.now();
    let ms = Duration::from_millis;
    let mut stalls: Vec<(Duration, usize, Duration)> = Vec::new();
    for member in &slow {
        let mut at = start + ms(rng.random_range(RUNS));
        while at < start + time {
            let stall = ms(rng.random_range(STALLS));
            stalls.push((at, *member, stall));
            at += stall + ms(rng.random_range(RUNS));
        }
    }
    stalls.sort_unstable();
    let before = cluster.sent();
    let mut said = Said::default();
    for (at, member, stall) in stalls {
        cluster.run(at);
        cluster.block(member, stall);
        said.count(cluster, &slow);
    }
    cluster.run(start + time);
    said.count(cluster, &slow);
    let cost = Cost::of(cluster, before);
    report.cell(
        "a tenth slow: healthy members said down",
        system,
        format!(
            "{} of {}, {} reports, {} of them by healthy members",
            said.healthy_victims.len(),
            living.len() - slow.len(),
            said.healthy,
            said.healthy_by_healthy
        ),
    );
    report.cell(
        "a tenth slow: slow members said down",
        system,
        format!("{} of {}, {} reports", said.slow_victims.len(), slow.len(), said.slow),
    );
    report.cell("a tenth slow: sent by a member", system, cost.per_second(time));
}

/// Who was said to be down although nobody died, and how many reports of that there were.
#[derive(Debug, Default)]
struct Said {
    healthy_victims: BTreeSet<usize>,
    slow_victims: BTreeSet<usize>,
    healthy: u64,
    healthy_by_healthy: u64,
    slow: u64,
}

impl Said {
    fn count(&mut self, cluster: &mut impl Cluster, slow: &BTreeSet<usize>) {
        for news in cluster.news().into_iter().filter(|news| news.state == State::Down) {
            if slow.contains(&news.member) {
                self.slow += 1;
                self.slow_victims.insert(news.member);
            } else {
                self.healthy += 1;
                self.healthy_by_healthy += u64::from(!slow.contains(&news.observer));
                self.healthy_victims.insert(news.member);
            }
        }
    }
}
