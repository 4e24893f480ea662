//! Erlang nodes that stand in for EMQX: real distribution, and the modules `ekka` and
//! `emqx_mgmt_api_cluster` of our own behind it.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use super::mesh::free_port;
use super::programs::skip_without;
use super::wait::LONG;

const EKKA: &str = include_str!("../erlang/ekka.erl");
const MANAGEMENT: &str = include_str!("../erlang/emqx_mgmt_api_cluster.erl");

/// What the brokers of one test share: compiled modules, a port, a log of joins.
pub struct Site {
    dir: TempDir,
    /// All of them listen on it, each on a host of its own.
    pub port: u16,
}

impl Site {
    /// With a broker on each of the hosts from 2 on, and their names; `None`, which is said,
    /// where there is no Erlang and the test is to be skipped.
    pub async fn with<const N: usize>() -> Option<(Self, [String; N], [Broker; N])> {
        let site = Self::new().await?;
        let mut brokers = Vec::new();
        for host in (2..).take(N) {
            brokers.push(site.broker(host).await);
        }
        let names: Vec<_> = brokers.iter().map(|broker| broker.name.clone()).collect();
        Some((site, names.try_into().ok()?, brokers.try_into().ok()?))
    }

    /// Without brokers; `None` as [`Site::with`].
    pub async fn new() -> Option<Self> {
        if skip_without(&["erl", "erlc"]) {
            return None;
        }
        Some(Self::on(free_port()).await)
    }

    /// All of its brokers listen on this port.
    pub async fn on(port: u16) -> Self {
        let dir = tempfile::Builder::new().prefix("muster-brokers-").tempdir().unwrap();
        for (folder, name, text) in
            [("a", "ekka", EKKA), ("b", "emqx_mgmt_api_cluster", MANAGEMENT)]
        {
            let folder = dir.path().join(folder);
            std::fs::create_dir(&folder).unwrap();
            let file = folder.join(name).with_extension("erl");
            std::fs::write(&file, text).unwrap();
            let compiled = Command::new("erlc").arg("-o").arg(&folder).arg(&file).status().await;
            assert!(compiled.unwrap().success());
        }
        Self { dir, port }
    }

    /// The name of the broker on `127.0.0.<host>`: its digits make it the port.
    pub fn name(&self, host: u8) -> String {
        format!("emqx{}@127.0.0.{host}", self.port - muster::follow::emqx::BASE_PORT)
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    fn log(&self) -> PathBuf {
        self.path().join("joins.log")
    }

    /// Begins and ends of joins in their order: who, and what.
    pub fn joins(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let line = |line: &str| {
            let mut words = line.splitn(3, ' ');
            let (_time, who, what) = (words.next()?, words.next()?, words.next()?);
            Some((who.trim_matches('\'').to_owned(), what.to_owned()))
        };
        text.lines().filter_map(line).collect()
    }

    /// Who began to join, in order.
    pub fn begun(&self) -> Vec<String> {
        let begun = |(who, what): (String, String)| what.starts_with("{start").then_some(who);
        self.joins().into_iter().filter_map(begun).collect()
    }

    /// Fails when a join began before the one before it had ended.
    #[track_caller]
    pub fn assert_one_at_a_time(&self) {
        let joins = self.joins();
        for pair in joins.chunks(2) {
            let [(who, start), (same, end)] = pair else { panic!("a join has no end: {joins:?}") };
            assert!(start.starts_with("{start") && end.starts_with("{ended"), "{joins:?}");
            assert_eq!(who, same, "{joins:?}");
        }
    }

    pub async fn broker(&self, host: u8) -> Broker {
        self.start(host, &["a", "b"], &[]).await
    }

    /// One of these modules' folders and with these flags.
    pub async fn start(&self, host: u8, modules: &[&str], flags: &[String]) -> Broker {
        let mut command = Command::new("erl");
        let interface = format!("{{127,0,0,{host}}}");
        command
            .args(["-noshell", "-start_epmd", "false"])
            .args(["-erl_epmd_port", &self.port.to_string()])
            .args(["-name", &self.name(host), "-setcookie", "C"])
            .args(["-kernel", "inet_dist_use_interface", &interface, "logger_level", "none"])
            .args(["-pa"])
            .args(modules.iter().map(|folder| self.path().join(folder)))
            .args(flags)
            .args(["-eval", &format!("ekka:boot({:?}), ekka:say(\">\")", self.log())])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut broker = Broker { name: self.name(host), process, stdin, lines };
        assert_eq!(broker.said().await, "booted");
        broker
    }
}

/// A running node; killed when dropped.
pub struct Broker {
    pub name: String,
    process: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Broker {
    async fn said(&mut self) -> String {
        let line = async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the broker's node lives");
                if let Some(said) = line.strip_prefix("> ") {
                    return said.to_owned();
                }
                println!("erl: {line}");
            }
        };
        timeout(LONG, line).await.expect("the broker's node in time")
    }

    /// What an Erlang expression is at this node.
    pub async fn eval(&mut self, expression: &str) -> String {
        self.stdin.write_all(format!("{expression}.\n").as_bytes()).await.unwrap();
        self.said().await
    }

    /// Sets how it behaves; see `ekka.erl`.
    pub async fn set(&mut self, key: &str, value: &str) {
        assert_eq!(self.eval(&format!("ekka:set({key}, {value})")).await, "ok");
    }

    /// SIGKILL; returns when it is gone.
    pub async fn kill(&mut self) {
        self.process.kill().await.unwrap();
    }

    /// Waits until it has ended by itself.
    pub async fn ended(&mut self) {
        timeout(LONG, self.process.wait()).await.expect("the broker's node to end").unwrap();
    }

    /// SIGSTOP, and SIGCONT.
    pub fn freeze(&self, frozen: bool) {
        use rustix::process::{Pid, Signal, kill_process};
        let pid = self.process.id().and_then(|id| Pid::from_raw(id.cast_signed())).unwrap();
        kill_process(pid, if frozen { Signal::STOP } else { Signal::CONT }).unwrap();
    }
}

/// Waits for a condition without blocking the runtime that the brokers' readers run on.
pub async fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match timeout(LONG, wait).await {
        Ok(answer) => answer,
        Err(_) => panic!("waited for {what}"),
    }
}
