//! Large clusters in one thread: the membership core of `tests/sim`, at 100, 1,000 and 5,000
//! members, in virtual time.
//!
//! `cargo bench --profile sim --bench scale` (or `just scale`) prints one Markdown table: what
//! membership costs a member, how soon everybody knows of a change, and how often a member
//! that lives is said to be down while a tenth of the members is slow. Plain SWIM, as the
//! crate `foca` does it, stands beside it: the same network, timeouts, and slow members.
//!
//! `-- --quick` leaves out the largest; `-- --size 1000` measures one size, `-- --only changes`
//! or `-- --only slow` a part.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark that cannot run should say so and end"
)]
#![allow(unreachable_pub, reason = "modules of one binary")]

mod cluster;
mod formed;
mod measure;
mod report;
mod swim;

/// The simulator. Its faults and its checkers are of no use here.
macro_rules! simulator {
    ($($path:literal $name:ident),*) => {
        $(
            #[path = $path]
            #[allow(dead_code, unused_imports, reason = "tests/sim uses all of it")]
            mod $name;
        )*
    };
}

simulator!(
    "../../tests/sim/calm.rs" calm,
    "../../tests/sim/chaos.rs" chaos,
    "../../tests/sim/checks.rs" checks,
    "../../tests/sim/history.rs" history,
    "../../tests/sim/liar.rs" liar,
    "../../tests/sim/network.rs" network,
    "../../tests/sim/plan.rs" plan,
    "../../tests/sim/process.rs" process,
    "../../tests/sim/queue.rs" queue,
    "../../tests/sim/scene.rs" scene,
    "../../tests/sim/stranger.rs" stranger,
    "../../tests/sim/world.rs" world
);

use std::time::Duration;

use cluster::{Change, resident};
use formed::Formed;
use measure::Sizes;
use report::Report;
use swim::Swim;

const SIZES: [Sizes; 3] = [
    Sizes { members: 100, changes: 5, slow_for: Duration::from_secs(60) },
    Sizes { members: 1_000, changes: 5, slow_for: Duration::from_secs(12) },
    Sizes { members: 5_000, changes: 3, slow_for: Duration::ZERO },
];

/// Foca looks at all members for every piece of news, which is too slow beyond this.
const LARGEST_SWIM: usize = 1_000;

/// One seed for each size decides everything.
const SEED: u64 = 1;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |option: &str| {
        let place = arguments.iter().position(|argument| argument == option)?;
        arguments.get(place + 1)
    };
    let size: Option<usize> =
        value("--size").map(|text| text.parse().expect("--size takes a number"));
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let wanted = |part: &str| value("--only").is_none_or(|only| only == part);
    let mut report = Report::default();
    for sizes in SIZES {
        if size.is_some_and(|size| size != sizes.members) || (quick && sizes.members > 1_000) {
            continue;
        }
        if wanted("changes") {
            changes(&mut report, sizes);
        }
        if wanted("slow") && !sizes.slow_for.is_zero() {
            slow(&mut report, sizes);
        }
    }
    println!("{}", report.markdown());
}

fn muster(n: usize) -> String {
    format!("muster, {n}")
}

fn swim(n: usize) -> String {
    format!("SWIM (foca), {n}")
}

fn changes(report: &mut Report, sizes: Sizes) {
    let Sizes { members, changes, .. } = sizes;
    let system = muster(members);
    let before = resident();
    let mut cluster = Formed::new(members, SEED);
    measure::settle(&mut cluster);
    let memory = resident().saturating_sub(before) as f64 / members as f64;
    report.cell("memory of a member", &system, format!("{:.2} MB", memory / 1e6));
    let quiet = measure::quiet(report, &system, &mut cluster);
    for change in [Change::Join, Change::Leave, Change::Kill, Change::PowerOff] {
        measure::changes(report, &system, &mut cluster, change, changes, quiet);
    }
    drop(cluster);
    if members <= LARGEST_SWIM {
        let system = swim(members);
        let mut cluster = Swim::new(members, SEED);
        measure::settle(&mut cluster);
        let quiet = measure::quiet(report, &system, &mut cluster);
        measure::changes(report, &system, &mut cluster, Change::PowerOff, changes, quiet);
    }
}

/// Both begin anew, so that the same members are slow at the same times.
fn slow(report: &mut Report, sizes: Sizes) {
    let Sizes { members, slow_for, .. } = sizes;
    let mut cluster = Swim::new(members, SEED);
    measure::settle(&mut cluster);
    measure::slow(report, &swim(members), &mut cluster, slow_for, SEED);
    let mut cluster = Formed::new(members, SEED);
    measure::settle(&mut cluster);
    measure::slow(report, &muster(members), &mut cluster, slow_for, SEED);
}
