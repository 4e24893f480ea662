//! `muster dev`: comes up, shows its members, cleans up.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::support::http;
use super::support::programs::skip_without;
use super::support::wait::{LONG, eventually};

/// A running `muster dev`, ended with its agents when dropped.
struct Dev {
    child: Child,
    log: PathBuf,
    /// Where it puts its directory.
    temporary: tempfile::TempDir,
}

impl Dev {
    fn start(arguments: &[&str]) -> Self {
        let temporary = tempfile::Builder::new().prefix("muster-it-dev-").tempdir().unwrap();
        let log = temporary.path().join("output");
        let child = Self::spawn(temporary.path(), &log, arguments);
        Self { child, log, temporary }
    }

    fn spawn(temporary: &Path, log: &Path, arguments: &[&str]) -> Child {
        Self::spawn_as(Command::new(env!("CARGO_BIN_EXE_muster")), temporary, log, arguments)
    }

    fn spawn_as(mut command: Command, temporary: &Path, log: &Path, arguments: &[&str]) -> Child {
        let output = File::create(log).unwrap();
        command
            .arg("dev")
            .args(arguments)
            .env("TMPDIR", temporary)
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap()
    }

    fn printed(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has printed a text, and returns all it has printed.
    #[track_caller]
    fn wait_printed(&mut self, text: &str) -> String {
        let printed = eventually(&format!("dev to print {text:?}"), LONG, || {
            let ended = self.child.try_wait().unwrap().is_some();
            let printed = self.printed();
            (ended || printed.contains(text)).then_some(printed)
        });
        assert!(printed.contains(text), "ended without {text:?}:\n{printed}");
        printed
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// Waits for its end: whether it says that all went well.
    #[track_caller]
    fn wait_end(&mut self) -> bool {
        eventually("dev to end", LONG, || self.child.try_wait().unwrap()).success()
    }

    fn directories(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.temporary.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect()
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            // Its agents outlive it only if it can't stop them itself.
            self.signal(Signal::TERM);
            let _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- what dev printed ---\n{}", self.printed());
        }
    }
}

/// Processes whose command line names something below this path.
fn processes_of(path: &Path) -> Vec<i32> {
    let path = path.to_str().unwrap();
    let entries = std::fs::read_dir("/proc").unwrap();
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(path)
        })
        .collect()
}

/// The API addresses out of the table.
fn apis(printed: &str) -> Vec<String> {
    let rows = printed.lines().filter(|line| line.starts_with("emqx"));
    rows.filter_map(|row| row.split("http://").nth(1)).map(str::to_owned).collect()
}

#[track_caller]
fn comes_up_and_cleans_up(arguments: &[&str], agents: usize) {
    let mut dev = Dev::start(arguments);
    let printed = dev.wait_printed("Ctrl-C stops");
    for phase in ["starting ", "listening", "forming: ", "formed in "] {
        assert!(printed.contains(phase), "no {phase:?} in:\n{printed}");
    }
    let apis = apis(&printed);
    assert_eq!(apis.len(), agents, "{printed}");
    for api in &apis {
        let answer =
            http::request(api.parse().unwrap(), "GET", "/api/v1/cluster", &[], None).unwrap();
        assert_eq!(answer.json()["running_nodes"].as_array().unwrap().len(), agents);
    }
    assert_eq!(processes_of(dev.temporary.path()).len(), agents);
    dev.signal(Signal::INT);
    assert!(dev.wait_end(), "{}", dev.printed());
    assert!(!dev.printed().contains("killed"), "{}", dev.printed());
    assert_eq!(dev.directories(), Vec::<PathBuf>::new());
    assert!(processes_of(dev.temporary.path()).is_empty());
}

#[test]
fn static_seeds() {
    comes_up_and_cleans_up(&["-n", "3"], 3);
}

#[test]
fn one_alone() {
    comes_up_and_cleans_up(&["-n", "1"], 1);
}

#[test]
fn manual_joins() {
    comes_up_and_cleans_up(&["-n", "3", "--strategy", "manual"], 3);
}

#[test]
fn multicast() {
    comes_up_and_cleans_up(&["-n", "3", "--strategy", "mcast"], 3);
}

#[test]
fn ipv6() {
    comes_up_and_cleans_up(&["-n", "2", "--proto-dist", "inet6_tcp"], 2);
}

#[test]
fn tls() {
    comes_up_and_cleans_up(&["-n", "3", "--proto-dist", "inet_tls"], 3);
}

#[test]
fn a_kept_directory_stays() {
    let mut dev = Dev::start(&["-n", "1", "--keep"]);
    dev.wait_printed("Ctrl-C stops");
    dev.signal(Signal::TERM);
    assert!(dev.wait_end());
    let directories = dev.directories();
    assert_eq!(directories.len(), 1);
    assert!(directories[0].join("emqx1/emqx.conf").is_file());
}

#[test]
fn the_end_of_an_agent_is_told_and_the_others_stay() {
    let mut dev = Dev::start(&["-n", "2"]);
    let printed = dev.wait_printed("Ctrl-C stops");
    let pid = processes_of(&dev.directories()[0].join("emqx2"))[0];
    kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL).unwrap();
    dev.wait_printed("emqx2@127.0.0.1 ended (signal: 9 (SIGKILL)); the end of its log:");
    let first = apis(&printed)[0].parse().unwrap();
    assert_eq!(http::request(first, "GET", "/livez", &[], None).unwrap().status, 200);
    dev.signal(Signal::INT);
    assert!(dev.wait_end());
}

#[test]
fn the_loss_of_its_terminal_ends_it_in_order() {
    for signal in [Signal::HUP, Signal::QUIT] {
        let mut dev = Dev::start(&["-n", "2"]);
        dev.wait_printed("Ctrl-C stops");
        dev.signal(signal);
        assert!(dev.wait_end(), "{}", dev.printed());
        assert_eq!(dev.directories(), Vec::<PathBuf>::new());
        assert!(processes_of(dev.temporary.path()).is_empty());
    }
}

#[test]
fn killed_it_takes_its_agents_along_and_the_next_one_removes_its_directory() {
    let mut dev = Dev::start(&["-n", "2"]);
    dev.wait_printed("Ctrl-C stops");
    let left = dev.directories();
    let agents = processes_of(dev.temporary.path());
    // Not even one that is stopped stays.
    kill_process(Pid::from_raw(agents[0]).unwrap(), Signal::STOP).unwrap();
    dev.signal(Signal::KILL);
    assert!(!dev.wait_end());
    eventually("the agents to end", LONG, || {
        processes_of(dev.temporary.path()).is_empty().then_some(())
    });
    assert_eq!(dev.directories(), left);
    dev.child = Dev::spawn(dev.temporary.path(), &dev.log, &["-n", "1"]);
    dev.wait_printed("Ctrl-C stops");
    assert_eq!(dev.directories().len(), 1);
    assert_ne!(dev.directories(), left);
    dev.signal(Signal::INT);
    assert!(dev.wait_end());
    assert_eq!(dev.directories(), Vec::<PathBuf>::new());
}

#[test]
fn under_nohup_it_outlives_its_terminal() {
    if skip_without(&["nohup"]) {
        return;
    }
    let temporary = tempfile::tempdir().unwrap();
    let log = temporary.path().join("output");
    let mut nohup = Command::new("nohup");
    nohup.arg(env!("CARGO_BIN_EXE_muster"));
    let child = Dev::spawn_as(nohup, temporary.path(), &log, &["-n", "1"]);
    let mut dev = Dev { child, log, temporary };
    dev.wait_printed("Ctrl-C stops");
    let status = std::fs::read_to_string(format!("/proc/{}/status", dev.child.id())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let ignored = u64::from_str_radix(ignored.trim(), 16).unwrap();
    assert_eq!(ignored & 1, 1, "SIGHUP is signal 1");
    dev.signal(Signal::INT);
    assert!(dev.wait_end());
}

#[test]
fn usage_mistakes_are_named() {
    for (arguments, hint) in [
        (["-n", "0"], "1..=100"),
        (["--strategy", "etcd"], "possible values: static, manual, mcast"),
        (["--proto-dist", "inet_ssl"], "inet_tls"),
    ] {
        let mut dev = Dev::start(&arguments);
        dev.wait_end();
        assert!(dev.printed().contains(hint), "{}", dev.printed());
        assert_eq!(dev.child.wait().unwrap().code(), Some(2));
    }
}
