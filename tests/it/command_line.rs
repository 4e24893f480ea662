//! How the commands find their agent, and that their help helps.

use std::process::{Command, Output, Stdio};

use crate::support::agent::{COOKIE, Ground, Spec};
use crate::support::pki::{Ca, Leaf};
use crate::support::programs::skip_without;
use crate::support::told::wait_notice;

fn muster(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_configuration_comes_before_the_environment_and_empty_variables_are_none() {
    let ground = Ground::new(1);
    let token = "agent.api.token = \"t0ken-of-the-tests\"";
    let agent = Spec::new(&ground, 1).seeds::<&str>(&[]).line(token).start();
    let file = agent.config_path().display().to_string();
    let elsewhere = ("MUSTER_URL", "http://127.0.0.1:1");
    let wrong = ("MUSTER_TOKEN", "another");
    let output = muster(&["reload", "-c", &file], &[elsewhere, wrong]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // What is typed comes before all.
    let url = format!("http://{}", agent.api());
    let output = muster(&["members", "--url", "http://127.0.0.1:1", "-c", &file], &[]);
    assert_eq!(output.status.code(), Some(69), "{}", stderr(&output));
    let output = muster(&["members"], &[("MUSTER_URL", &url)]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = muster(&["reload", "--url", &url], &[("MUSTER_TOKEN", "t0ken-of-the-tests")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let output = muster(&["members", "-c", &file], &[("MUSTER_URL", ""), ("MUSTER_TOKEN", "")]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // Empty, it is the default address that is asked: whoever may be there, it is no usage error.
    let output = muster(&["ready"], &[("MUSTER_URL", "")]);
    assert_ne!(output.status.code(), Some(2), "{}", stderr(&output));
    let output = muster(&["ready"], &[("MUSTER_URL", "nonsense")]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("MUSTER_URL"), "{}", stderr(&output));
}

/// As with a systemd credential, which is there for the agent alone.
#[test]
fn a_cookie_that_only_the_agent_can_read_stops_no_command() {
    let ground = Ground::new(1);
    let files = tempfile::tempdir().unwrap();
    let cookie = files.path().join("cookie");
    std::fs::write(&cookie, COOKIE).unwrap();
    let line = format!("node.cookie = \"file://{}\"", cookie.display());
    let agent = Spec::new(&ground, 1).seeds::<&str>(&[]).line(&line).start();
    let file = agent.config_path().display().to_string();
    std::fs::remove_file(&cookie).unwrap();
    for command in ["members", "ready"] {
        let output = muster(&[command, "-c", &file], &[]);
        assert_eq!(output.status.code(), Some(0), "{command}: {}", stderr(&output));
    }
    // The agent itself reads it again, and cannot.
    let output = muster(&["reload", "-c", &file], &[]);
    assert_eq!(output.status.code(), Some(78), "{}", stderr(&output));
    assert!(stderr(&output).contains("node.cookie"), "{}", stderr(&output));
    assert_eq!(muster(&["check", "-c", &file], &[]).status.code(), Some(78));
}

/// HTTPS, where clients need a certificate too, as the commands meet it.
#[test]
fn commands_speak_tls_with_an_agent_that_wants_it() {
    let ground = Ground::new(1);
    let (ca, others) = (Ca::new("of the tests"), Ca::new("of others"));
    let files = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let identity = |name: &str, leaf: Leaf| {
        (write(&format!("{name}.pem"), &leaf.cert), write(&format!("{name}.key"), &leaf.key))
    };
    let (authority, foreign) = (write("ca.pem", &ca.pem), write("others.pem", &others.pem));
    let (certificate, key) = identity("agent", ca.leaf(&["ip:127.0.0.1"]));
    let (own, own_key) = identity("operator", ca.leaf(&["dns:operator"]));
    let (stranger, stranger_key) = identity("stranger", others.leaf(&["dns:operator"]));
    let tls = format!(
        "agent.api.tls {{ certfile = {certificate:?}, keyfile = {key:?}, cacertfile = {authority:?} }}"
    );
    let agent = Spec::new(&ground, 1).seeds::<&str>(&[]).line(&tls).spawn();
    let (url, file) = (format!("https://{}", agent.api()), agent.config_path());
    let shown = ["--cert", &own, "--key", &own_key];
    let code = |arguments: &[&[&str]]| {
        let output = muster(&arguments.concat(), &[]);
        (output.status.code(), stderr(&output))
    };
    let by_url = ["--url", &url, "--cacert", &authority];
    assert_eq!(code(&[&["ready", "--wait", "30s"], &by_url, &shown]), (Some(0), String::new()));
    // The file tells address and certificate, so that no CA is needed.
    let by_file = ["-c", file.to_str().unwrap()];
    let commands: [&[&str]; 4] =
        [&["members", "--json"], &["cluster", "status"], &["reload"], &["doctor"]];
    for command in commands {
        let (code, said) = code(&[command, &by_file, &shown]);
        assert_eq!(code, Some(0), "{command:?}: {said}");
    }
    let stranger = ["--cert", &stranger, "--key", &stranger_key];
    let foreign = ["--url", &url, "--cacert", &foreign];
    for (arguments, remedy) in [
        (vec![&["members"][..], &by_url], "--cert"),
        (vec![&["members"], &by_url, &stranger], "--cert"),
        (vec![&["members"], &foreign, &shown], "name its CA with --cacert"),
    ] {
        let (code, said) = code(&arguments);
        assert_eq!(code, Some(69), "{remedy}: {said}");
        assert!(said.contains(remedy), "{said}");
    }
    let plain = format!("http://{}", agent.api());
    let (code, said) = code(&[&["members", "--url", &plain]]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("if it speaks TLS, write https://"), "{said}");
}

/// Rows of the terminals that people have.
const SCREEN: usize = 40;

#[test]
fn every_help_fits_a_screen_and_shows_an_example() {
    let commands: [&[&str]; 24] = [
        &[],
        &["run"],
        &["check"],
        &["cluster"],
        &["cluster", "status"],
        &["cluster", "join"],
        &["cluster", "leave"],
        &["cluster", "force-leave"],
        &["cluster", "invite"],
        &["cluster", "discovery"],
        &["cluster", "discovery", "enable"],
        &["members"],
        &["events"],
        &["ready"],
        &["reload"],
        &["doctor"],
        &["debug"],
        &["dev"],
        &["drain"],
        &["undrain"],
        &["render"],
        &["cluster", "discovery", "disable"],
        &["completions"],
        &["man"],
    ];
    for command in commands {
        for flag in ["-h", "--help"] {
            let output = muster(&[command, &[flag]].concat(), &[("COLUMNS", "80")]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(output.status.code(), Some(0), "{command:?}");
            assert!(text.lines().count() <= SCREEN, "{command:?} {flag}:\n{text}");
            assert!(
                text.lines().all(|line| line.chars().count() <= 80),
                "{command:?} {flag}:\n{text}"
            );
            let example = format!("muster {}", command.join(" "));
            let examples = text.split_once("Examples:").map(|(_, examples)| examples);
            let shown = examples.is_some_and(|examples| examples.contains(example.trim_end()));
            assert!(shown, "no example of {example:?} in {flag}:\n{text}");
        }
    }
}

#[test]
fn a_report_has_everything_but_secrets() {
    if skip_without(&["tar"]) {
        return;
    }
    let ground = Ground::new(1);
    let token = "agent.api.token = \"t0ken-of-the-tests\"";
    // It fails, which is told in the log, in a notice and in a metric.
    let hook = "agent.hooks = [{ on = ready, url = \"http://127.0.0.1:1/?key=t0ken-of-a-hook\" }]";
    let agent = Spec::new(&ground, 1).seeds::<&str>(&[]).line(token).line(hook).start();
    wait_notice(&agent, "hook http://127.0.0.1:1/", true);
    let file = agent.config_path().display().to_string();
    let archive = agent.home().join("report.tar").display().to_string();
    let output = muster(&["debug", "-c", &file, "--output", &archive], &[]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let tar = Command::new("tar").args(["-xOf", &archive]).output().unwrap();
    assert!(tar.status.success(), "{tar:?}");
    let text = String::from_utf8(tar.stdout).unwrap();
    let parts = ["view_hash", "\"members\"", "\"ready\"", "muster_members", "agent.api.listen"];
    for part in parts.into_iter().chain(["http://127.0.0.1:1/?******"]) {
        assert!(text.contains(part), "no {part} in {text}");
    }
    let text = text + &agent.logs();
    for secret in ["t0ken-of", COOKIE] {
        assert!(!text.contains(secret), "{text}");
    }
    let again = muster(&["debug", "-c", &file, "--output", &archive], &[]);
    assert_eq!(again.status.code(), Some(1), "an existing file is not overwritten");
}
