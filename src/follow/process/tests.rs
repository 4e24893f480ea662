use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::runtime::Builder;

use super::*;

/// A script that is ours alone.
fn script(directory: &tempfile::TempDir, text: &str) -> String {
    let path: PathBuf = directory.path().join("script");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

fn job(argv: &[&str], timeout: Duration) -> Job {
    let argv = argv.iter().map(|&word| word.to_owned()).collect();
    Job {
        argv,
        stdin: b"event\n".to_vec(),
        environment: vec![("MUSTER_EVENT", "x".into())],
        timeout,
    }
}

const LONG: Duration = Duration::from_secs(20);

fn alive(pid: &str) -> bool {
    // A zombie that init has not collected yet is dead.
    fs::read_to_string(format!("/proc/{}/stat", pid.trim()))
        .is_ok_and(|stat| !stat.contains(") Z "))
}

async fn gone(pid: &str) {
    let waited = timeout(LONG, async {
        while alive(pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert!(waited.await.is_ok(), "process {pid} still runs");
}

#[tokio::test]
async fn input_environment_arguments_and_output() {
    let directory = tempfile::tempdir().unwrap();
    let program =
        script(&directory, "cat; echo \"$MUSTER_EVENT $1 $# $EMQX_NODE__COOKIE\"; echo err >&2");
    let done = run(job(&[&program, "a b;c"], LONG)).await;
    assert_eq!(done.result, Ok(()));
    assert_eq!(done.output.lines(), ["event", "x a b;c 1", "err"]);
}

#[tokio::test]
async fn failures_have_names() {
    let directory = tempfile::tempdir().unwrap();
    let program = script(&directory, "[ \"$1\" ] && kill -9 $$; exit 3");
    let path = fs::canonicalize(&program).unwrap().display().to_string();
    let status = ProgramError::Status { program: path.clone(), status: 3 };
    assert_eq!(run(job(&[&program], LONG)).await.result, Err(status));
    let signal = ProgramError::Signal { program: path, signal: 9 };
    assert_eq!(run(job(&[&program, "kill"], LONG)).await.result, Err(signal));
    let missing = run(job(&["/no/such/program"], LONG)).await.result.unwrap_err();
    assert_eq!(missing.word(), "refused");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(run(job(&[&program], LONG)).await.result.unwrap_err().word(), "start");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(run(job(&[&program], LONG)).await.result.unwrap_err().word(), "refused");
}

#[tokio::test]
async fn output_without_end_is_read_and_bounded() {
    let done = run(job(&["head", "-c", "50000000", "/dev/zero"], LONG)).await;
    assert_eq!(done.result, Ok(()));
    let lines = done.output.lines();
    assert!(lines.last().unwrap().ends_with("bytes more"), "{lines:?}");
    assert!(done.output.kept.len() <= KEPT_BYTES && lines.len() <= KEPT_LINES + 1);
    assert_eq!(done.output.total, 50_000_000);
}

#[tokio::test]
async fn the_whole_group_ends_at_the_time_out() {
    let directory = tempfile::tempdir().unwrap();
    // Neither the program nor its child ends when asked to.
    let program = script(
        &directory,
        "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo $!; echo $$; \
         while :; do sleep 1; done",
    );
    let done = run(job(&[&program], Duration::from_millis(300))).await;
    assert_eq!(done.result.unwrap_err().word(), "timeout");
    let lines = done.output.lines();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for pid in lines {
        gone(&pid).await;
    }
}

#[tokio::test]
async fn what_a_program_leaves_running_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let program = script(&directory, "sleep 1000 & echo $!");
    let done = run(job(&[&program], LONG)).await;
    assert_eq!(done.result, Ok(()));
    gone(&done.output.lines()[0]).await;
}

#[tokio::test]
async fn a_run_that_is_given_up_ends_the_group() {
    let directory = tempfile::tempdir().unwrap();
    let pid = directory.path().join("pid");
    let program = script(
        &directory,
        &format!("echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000", pid.display()),
    );
    let running = tokio::spawn(run(job(&[&program], LONG)));
    let started = timeout(LONG, async {
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    started.await.unwrap();
    running.abort();
    gone(&fs::read_to_string(&pid).unwrap()).await;
}

/// Its pipes cannot be registered with a runtime that ends, so that its start fails although it
/// runs.
#[test]
fn a_program_that_is_being_started_ends_before_its_runtime() {
    let directory = tempfile::tempdir().unwrap();
    let pids = directory.path().join("pids");
    let program = script(&directory, &format!("echo $$ >> {}; exec sleep 1000", pids.display()));
    let outer = Builder::new_current_thread().enable_all().build().unwrap();
    for _ in 0..100 {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (program, running) = (program.clone(), Arc::new(AtomicBool::new(false)));
        let begun = Arc::clone(&running);
        let task = runtime.spawn(async move {
            let mut run = std::pin::pin!(run(job(&[&program], LONG)));
            // The first poll hands it to another thread.
            let _pending = futures_util::poll!(run.as_mut());
            begun.store(true, Ordering::Release);
            run.await
        });
        while !running.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        task.abort();
        outer.block_on(async { timeout(LONG, started()).await }).unwrap();
        runtime.shutdown_background();
    }
    for pid in fs::read_to_string(&pids).unwrap_or_default().lines() {
        outer.block_on(gone(pid));
    }
}

#[test]
fn output_is_shown_in_harmless_lines() {
    let mut output = Output::default();
    output.push(b"one\n\ntwo \x1b[31m\n");
    assert_eq!(output.lines(), ["one", "two \\u{1b}[31m"]);
    output.push("x\n".repeat(40).as_bytes());
    let lines = output.lines();
    assert_eq!(lines.last().unwrap(), "… and 22 bytes more");
}
