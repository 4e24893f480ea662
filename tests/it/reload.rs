//! A running agent takes up what may change, and says what waits for a restart.

use std::process::{Command, Output};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::agent::{Agent, Ground, Spec};
use crate::support::http;
use crate::support::wait::LONG;

fn muster(agent: &Agent, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(arguments)
        .args(["--url", &format!("http://{}", agent.api())])
        .output()
        .unwrap()
}

fn reload(agent: &Agent) -> Value {
    let answer = agent.post("/api/v1/reload", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()
}

#[test]
fn signals_out_of_habit_end_nobody() {
    let ground = Ground::new(1);
    let mut agent = Spec::new(&ground, 1).seeds::<&str>(&[]).start();
    for signal in [Signal::USR1, Signal::USR2, Signal::HUP] {
        agent.signal(signal);
    }
    agent.wait_log("configuration reloaded");
    assert!(agent.is_running());
    assert_eq!(agent.request("GET", "/livez", None).unwrap().status, 200);
}

#[test]
fn new_seeds_are_joined_and_what_is_bound_waits() {
    let ground = Ground::new(2);
    let names = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let mut one = Spec::new(&ground, 1).seeds(&names[..1]).start();
    let _two = Spec::new(&ground, 2).seeds(&names[1..]).start();
    one.wait_nodes(LONG, &names[..1], &[]);
    one.configure("cluster.static.seeds = [\"emqx2@127.0.0.1\"]");
    one.configure("agent.mesh.base_port = 1024");
    let expected = json!({
        "changed": ["cluster.static.seeds"],
        "needs_restart": ["agent.mesh.base_port"],
    });
    assert_eq!(reload(&one), expected);
    one.wait_nodes(LONG, &names, &[]);
    let waits = json!({ "changed": [], "needs_restart": ["agent.mesh.base_port"] });
    assert_eq!(reload(&one), waits);
    let output = muster(&one, &["reload"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "changed: nothing\nwaits for a restart: agent.mesh.base_port\n");
}

#[test]
fn level_readiness_autoclean_and_token_change_at_once() {
    let ground = Ground::new(2);
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let info = "agent.log.level = info";
    let mut one = Spec::new(&ground, 1).seeds(&seeds).line(info).start();
    let mut two = Spec::new(&ground, 2).seeds(&seeds).start();
    one.wait_nodes(LONG, &seeds, &[]);
    // Stopped on purpose: the other one keeps the majority, without which nobody is cleaned.
    two.term();
    assert!(two.wait_exit().success());
    one.wait_nodes(LONG, &seeds[..1], &seeds[1..]);
    assert!(!one.logs().contains("DEBUG"), "{}", one.logs());
    one.configure("agent.log.level = debug");
    one.configure("agent.ready.min_members = 2");
    one.configure("cluster.autoclean = 1s");
    one.configure("agent.api.token = \"t0ken-of-the-tests\"");
    one.signal(Signal::HUP);
    let line = one.wait_log("configuration reloaded: in use are");
    for path in ["log.level", "ready.min_members", "autoclean", "api.token"] {
        assert!(line.contains(path), "no {path} in {line}");
    }
    one.wait_log("DEBUG");
    one.wait_nodes(LONG, &seeds[..1], &[]);
    assert_eq!(one.request("GET", "/readyz", None).unwrap().status, 503);
    assert_eq!(one.post("/api/v1/reload", &json!({})).status, 401);
    let token = [("Authorization", "Bearer t0ken-of-the-tests")];
    let answer = http::request(one.api(), "POST", "/api/v1/reload", &token, None).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

#[test]
fn a_bad_file_is_refused_with_every_mistake_and_changes_nothing() {
    let ground = Ground::new(1);
    let mut agent = Spec::new(&ground, 1).seeds::<&str>(&[]).start();
    agent.configure("agent.ready.min_members = 7");
    agent.configure("agent.log.level = loud");
    agent.configure("cluster.autoheel = true");
    let answer = agent.post("/api/v1/reload", &json!({}));
    assert_eq!(answer.status, 422, "{}", answer.body);
    let message = answer.json()["message"].as_str().unwrap().to_owned();
    assert!(message.contains("agent.log.level") && message.contains("autoheel"), "{message}");
    let output = muster(&agent, &["reload"]);
    assert_eq!(output.status.code(), Some(78), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("autoheel"), "{output:?}");
    agent.signal(Signal::HUP);
    agent.wait_log("the configuration was not reloaded, nothing has changed");
    assert_eq!(agent.request("GET", "/readyz", None).unwrap().status, 200);
}

#[test]
fn readiness_is_an_exit_code() {
    let ground = Ground::new(2);
    let agent = Spec::new(&ground, 1)
        .seeds(&["emqx1@127.0.0.1", "emqx2@127.0.0.1"])
        .line("agent.ready.min_members = 2")
        .start();
    let no = muster(&agent, &["ready"]);
    assert_eq!(no.status.code(), Some(1), "{no:?}");
    let text = String::from_utf8_lossy(&no.stdout).into_owned();
    assert!(
        text.starts_with("not ready\n") && text.contains("min_members: 1 up, 2 wanted"),
        "{text}"
    );
    // It waits, and the other comes meanwhile.
    let url = format!("http://{}", agent.api());
    let waiting = Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(["ready", "--wait", "30s", "--url", &url])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let _two = Spec::new(&ground, 2).seeds(&["emqx1@127.0.0.1"]).start();
    let output = waiting.wait_with_output().unwrap();
    assert_eq!((output.status.code(), &*output.stdout), (Some(0), b"ready\n".as_slice()));
    let nobody = Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(["ready", "--wait", "300ms", "--url", "http://127.0.0.1:1"])
        .output()
        .unwrap();
    assert_eq!(nobody.status.code(), Some(69), "{nobody:?}");
}
