//! The status page in a real browser: `tests/page/check.cjs` drives Chromium.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use crate::support::agent::{Ground, Spec};
use crate::support::netns::{Lan, skip_without_namespaces};
use crate::support::programs::{node_modules, skip_without};
use crate::support::wait::LONG;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/page/check.cjs");

/// Starts the script, does what it asks for, and fails with what it found.
#[track_caller]
fn check(wrapper: &[&str], arguments: &[&str], mut kill: impl FnMut(&str)) {
    let mut words = [wrapper, &["node", SCRIPT], arguments].concat().into_iter();
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .env("NODE_PATH", node_modules("page").unwrap())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        if let Some(node) = line.unwrap().strip_prefix("kill ") {
            kill(node);
        }
    }
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn skip() -> bool {
    skip_without(&["node", "chromium"]) || node_modules("page").is_none()
}

#[test]
fn a_browser_sees_the_cluster_and_its_changes() {
    if skip() {
        return;
    }
    let ground = Ground::new(3);
    let seeds = [1, 2, 3].map(|k| format!("emqx{k}@127.0.0.1"));
    let mut agents = [1, 2, 3].map(|k| {
        Spec::new(&ground, k).seeds(&seeds).line("agent.tags { zone = a, rack = \"12\" }").start()
    });
    agents[0].wait_nodes(LONG, &seeds, &[]);
    let url = format!("http://{}/", agents[0].api());
    let screenshots = std::env::var("SCREENSHOTS").ok();
    let mut arguments = vec!["cluster", &url, "3"];
    arguments.extend(screenshots.as_deref());
    check(&[], &arguments, |node| {
        agents.iter_mut().find(|agent| agent.name() == node).unwrap().kill9();
    });
}

/// The fault was 401 for the page itself, and no way to give the token.
#[test]
fn a_browser_elsewhere_is_asked_for_the_token() {
    if skip() || skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(2);
    let agent = lan
        .agent(1)
        .seeds::<&str>(&[])
        .line("agent.api { listen = \"10.99.0.1:7370\", token = \"a-token-of-some-length\" }")
        .spawn();
    agent.wait_log("runs as");
    let elsewhere = lan.host(2);
    let wrapper = ["ip", "netns", "exec", &elsewhere];
    check(&wrapper, &["token", "http://10.99.0.1:7370/", "a-token-of-some-length"], |_| ());
}
