//! `process_*`, as every client library of Prometheus names them, from `/proc/self`.

use procfs::WithCurrentSystemInfo as _;
use procfs::process::{LimitValue, Process};

use super::Scrape;

/// Measures this process; what the system does not tell is left out.
#[expect(clippy::cast_precision_loss, reason = "2^53 ticks are out of reach")]
pub fn measure(scrape: &mut Scrape) {
    let Ok(process) = Process::myself() else { return };
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second() as f64;
        scrape.counter("process_cpu_seconds", (stat.utime + stat.stime) as f64 / ticks);
        scrape.gauge("process_virtual_memory_bytes", stat.vsize);
        scrape.gauge("process_resident_memory_bytes", stat.rss_bytes().get());
        scrape.gauge("process_threads", stat.num_threads);
        if let Ok(booted) = procfs::boot_time_secs() {
            let started = booted as f64 + stat.starttime as f64 / ticks;
            scrape.gauge("process_start_time_seconds", started);
        }
    }
    if let Ok(count) = process.fd_count() {
        scrape.gauge("process_open_fds", count as u64);
    }
    if let Ok(limits) = process.limits()
        && let LimitValue::Value(most) = limits.max_open_files.soft_limit
    {
        scrape.gauge("process_max_fds", most);
    }
}
