//! Agents on a machine that has no time for them. A program of its own, since it takes
//! the machine from every other test: nothing else is to run beside it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test fails by panicking, and its output is for people"
)]

#[path = "../it/support/mod.rs"]
mod support;

mod turmoil;

use std::hint::spin_loop;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use support::cluster::Cluster;
use support::soak::load;
use support::wait::{LONG, always, timed};
use support::watch::Watch;

/// The promise for a silent member, with room for the way from its agent's event to us
/// on a machine where nobody gets a core when they want one.
const SILENT: Duration = Duration::from_millis(3000);

/// Busy loops, twice as many as there are cores; ended when dropped.
struct Busy {
    stop: Arc<AtomicBool>,
    loops: Vec<JoinHandle<u64>>,
}

impl Busy {
    fn start() -> Self {
        let cores = thread::available_parallelism().map_or(2, usize::from);
        let stop = Arc::new(AtomicBool::new(false));
        let loops = (0..2 * cores)
            .map(|_| {
                let stop = Arc::clone(&stop);
                thread::spawn(move || {
                    let mut turns = 0;
                    while !stop.load(Ordering::Relaxed) {
                        spin_loop();
                        turns += 1;
                    }
                    turns
                })
            })
            .collect();
        Self { stop, loops }
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for busy in self.loops.drain(..) {
            assert!(busy.join().unwrap() > 0);
        }
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.end();
    }
}

/// How long a process was ready to run and had no core: proc_pid_schedstat(5). Its first
/// thread is the one that the mesh and the membership live on.
fn waited(pid: rustix::process::Pid) -> Duration {
    let path = format!("/proc/{}/schedstat", pid.as_raw_nonzero());
    let text = std::fs::read_to_string(path).unwrap_or_default();
    Duration::from_nanos(text.split(' ').nth(1).and_then(|ns| ns.parse().ok()).unwrap_or(0))
}

#[test]
fn with_every_core_busy_nobody_healthy_is_down_and_a_frozen_member_is_in_time() {
    let cluster = Cluster::start(10);
    let mut watch = Watch::of(&cluster);
    let mut busy = Busy::start();
    let before: Duration = cluster.iter().map(|agent| waited(agent.pid())).sum();
    always("nobody is down", load(), || watch.bad_news().iter().all(|said| said.to == "suspect"));
    let after: Duration = cluster.iter().map(|agent| waited(agent.pid())).sum();
    let suspects = watch.bad_news();
    println!(
        "{:?} under load: agents waited {:?} for a core, {} suspicions {suspects:?}",
        load(),
        after.saturating_sub(before),
        suspects.len(),
    );
    watch.forget();
    let frozen = cluster[4].name().to_owned();
    let others: Vec<_> = cluster.names().into_iter().filter(|name| *name != frozen).collect();
    cluster[4].stop();
    let time = watch.wait_down(&frozen, &others, LONG);
    println!("frozen under load: down after {time:?}");
    let wrong: Vec<_> =
        watch.bad_news().into_iter().filter(|s| s.node != frozen && s.to != "suspect").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert!(time <= SILENT, "{time:?}");
    cluster[4].cont();
    let ((), time) = timed(|| cluster.wait_nodes_but(&[], LONG, &cluster.names(), &[]));
    println!("one view under load {time:?} later");
    busy.end();
}
