//! A log that nobody reads, or that has no room, does not stop the agent.

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader};

use crate::support::agent::{Agent, Ground, Spec};
use crate::support::wait::{LONG, eventually};

const DROPPED: &str = "muster_log_lines_dropped_total";

/// Has an agent log until lines are dropped.
#[track_caller]
fn wait_dropped(agent: &Agent) {
    // What is asked of it is logged, with the name in it.
    let path = format!("/api/v1/members/{}@127.0.0.1", "x".repeat(200));
    let before = agent.metric(DROPPED);
    eventually("lines to be dropped", LONG, || {
        for _ in 0..20 {
            assert_eq!(agent.delete(&path).status, 404);
        }
        (agent.metric(DROPPED) > before).then_some(())
    });
}

#[test]
fn a_reader_that_stalls_freezes_nobody_and_is_told_what_it_missed() {
    let ground = Ground::new(2);
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let (reader, writer) = std::io::pipe().unwrap();
    let trace = "agent.log.level = trace";
    let mut quiet = Spec::new(&ground, 1).seeds(&seeds).line(trace).log_to(writer).start();
    let other = Spec::new(&ground, 2).seeds(&seeds).start();
    wait_dropped(&quiet);
    // It goes on: it is seen, it sees, it answers.
    other.wait_nodes(LONG, &seeds, &[]);
    quiet.wait_nodes(LONG, &seeds, &[]);
    wait_dropped(&quiet);
    other.wait_nodes(LONG, &seeds, &[]);
    // The reader is back.
    let (found, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(reader).lines().map_while(Result::ok) {
            if line.contains("lines of this log were dropped") {
                // The test may be over.
                let _unheard = found.send(line);
            }
        }
    });
    let line = told.recv_timeout(LONG).expect("the log to say what is missing");
    assert!(line.contains("WARN"), "{line}");
    quiet.term();
    assert!(quiet.wait_exit().success());
}

#[test]
fn a_full_disk_stops_neither_the_agent_nor_its_end() {
    let ground = Ground::new(1);
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut agent = Spec::new(&ground, 1).seeds::<&str>(&[]).log_to(full).start();
    wait_dropped(&agent);
    agent.wait_for("itself joined", LONG, |view| view["state"] == "joined");
    agent.term();
    assert!(agent.wait_exit().success());
}

#[test]
fn a_reader_that_never_comes_back_delays_no_end() {
    let ground = Ground::new(1);
    let (_reader, writer) = std::io::pipe().unwrap();
    let trace = "agent.log.level = trace";
    let mut agent = Spec::new(&ground, 1).seeds::<&str>(&[]).line(trace).log_to(writer).start();
    wait_dropped(&agent);
    agent.term();
    assert!(agent.wait_exit().success());
}
