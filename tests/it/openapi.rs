//! The API is what its document says, as two tools of others see it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::agent::{Ground, Spec};
use crate::support::netns::{Lan, skip_without_namespaces};
use crate::support::programs::python_tool;

#[track_caller]
fn run(tool: &Path, arguments: &[&str], directory: &Path) {
    let output = Command::new(tool).args(arguments).current_dir(directory).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}:\n{said}\n{complained}", tool.display());
}

fn config() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/python/schemathesis.toml")
}

/// The fault was `Operation ID 'cluster' is not unique`.
#[test]
fn the_document_is_valid() {
    let Some(validator) = python_tool("openapi-spec-validator") else { return };
    let directory = tempfile::tempdir().unwrap();
    let document = muster::api::openapi_document().to_json().unwrap();
    std::fs::write(directory.path().join("openapi.json"), document).unwrap();
    run(&validator, &["openapi.json"], directory.path());
}

/// The faults were undocumented statuses and bodies of `null`.
///
/// Everything runs in a network of its own: nodes of made-up names and addresses are
/// asked to join there, and must not be looked for anywhere else.
#[test]
fn schemathesis_finds_nothing() {
    let Some(schemathesis) = python_tool("schemathesis") else { return };
    if skip_without_namespaces() {
        return;
    }
    let lan = Lan::new(1);
    let inside = ["ip", "netns", "exec", &lan.host(1)].map(str::to_owned);
    let wrapper: Vec<&str> = inside.iter().map(String::as_str).collect();
    let ground = Ground::new(3);
    let seeds = [1, 2, 3].map(|k| format!("emqx{k}@127.0.0.1"));
    let agents = [1, 2, 3].map(|k| {
        let spec = Spec::new(&ground, k).seeds(&seeds).through(&wrapper);
        // A made-up name costs no time where somebody says that there is none.
        let dns = format!("127.0.0.1:{}", 5390 + k);
        let spec = spec.line(&format!("agent.dns.listen = \"{dns}\""));
        spec.line(&format!("agent.discovery.dns.nameservers = [\"{dns}\"]")).spawn()
    });
    for seed in &seeds[1..] {
        agents[0].wait_log(&format!("{seed} is a member, up"));
    }
    let directory = tempfile::tempdir().unwrap();
    let (url, config) = (format!("http://{}/openapi.json", agents[0].api()), config());
    let arguments = [
        schemathesis.to_str().unwrap(),
        "--config-file",
        config.to_str().unwrap(),
        "run",
        &url,
        "--phases=examples,coverage,fuzzing",
        "--max-examples=8",
        "--seed=1",
        // Several threads at once run into a fault of CPython 3.11's ast module.
        "--workers=1",
        "--no-color",
    ];
    run(Path::new(wrapper[0]), &[&wrapper[1..], &arguments].concat(), directory.path());
}
