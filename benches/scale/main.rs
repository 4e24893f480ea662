//! Large clusters in one thread: the membership core of `tests/sim`, at 100, 1,000 and 5,000
//! members, in virtual time.
//!
//! `cargo bench --profile sim --bench scale` (or `just scale`) prints one Markdown table: what
//! membership costs a member, how soon everybody knows of a change, and how often a member
//! that lives is said to be down while a tenth of the members is slow. Plain SWIM, as the
//! crate `foca` does it, stands beside it: the same network, timeouts, and slow members.
//!
//! `-- --quick` leaves out the largest; `-- --size 1000` measures one size.
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
            #[allow(dead_code, reason = "see tests/sim, which uses all of it")]
            mod $name;
        )*
    };
}

simulator!(
    "../../tests/sim/calm.rs" calm,
    "../../tests/sim/chaos.rs" chaos,
    "../../tests/sim/checks.rs" checks,
    "../../tests/sim/history.rs" history,
    "../../tests/sim/network.rs" network,
    "../../tests/sim/plan.rs" plan,
    "../../tests/sim/process.rs" process,
    "../../tests/sim/queue.rs" queue,
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
    let size = arguments.iter().position(|a| a == "--size").and_then(|i| arguments.get(i + 1));
    let size: Option<usize> = size.map(|text| text.parse().expect("--size takes a number"));
    let quick = arguments.iter().any(|a| a == "--quick");
    let mut report = Report::default();
    for sizes in SIZES {
        let n = sizes.members;
        if size.is_some_and(|size| size != n) || (quick && n > 1_000) {
            continue;
        }
        let system = format!("muster, {n}");
        let before = resident();
        let mut cluster = Formed::new(n, SEED);
        measure::settle(&mut cluster);
        let memory = resident().saturating_sub(before) / n as u64;
        report.cell("memory of a member", &system, format!("{:.2} MB", memory as f64 / 1e6));
        let quiet = measure::quiet(&mut report, &system, &mut cluster);
        for change in [Change::Join, Change::Leave, Change::Kill, Change::PowerOff] {
            measure::changes(&mut report, &system, &mut cluster, change, sizes.changes, quiet);
        }
        measure::slow(&mut report, &system, &mut cluster, sizes.slow_for, SEED);
        drop(cluster);
        if n <= LARGEST_SWIM {
            let system = format!("SWIM (foca), {n}");
            let mut cluster = Swim::new(n, SEED);
            measure::settle(&mut cluster);
            let quiet = measure::quiet(&mut report, &system, &mut cluster);
            let change = Change::PowerOff;
            measure::changes(&mut report, &system, &mut cluster, change, sizes.changes, quiet);
            measure::slow(&mut report, &system, &mut cluster, sizes.slow_for, SEED);
        }
    }
    println!("{}", report.markdown());
}
