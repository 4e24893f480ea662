//! Real agents: `muster run` on loopback, on leased ports, in a temporary directory.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use muster::cli::dev::ports::PortLease;
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::http::{self, Answer, Events};
use super::wait::{LONG, eventually, try_eventually};

/// Long enough to be no shipped one, so that agents don't complain.
pub const COOKIE: &str = "cookie-of-the-tests-x7Qm2";

/// Lines of an agent's log that a failed test prints.
const TAIL: usize = 40;

/// What agents of one test share: a directory and a lease of ports. Dropped last.
#[derive(Debug)]
pub struct Ground {
    pub ports: PortLease,
    pub directory: tempfile::TempDir,
}

impl Ground {
    /// Room for agents `1..=agents`.
    pub fn new(agents: u16) -> Arc<Self> {
        let ports = PortLease::any(agents).unwrap();
        let directory = tempfile::Builder::new().prefix("muster-it-").tempdir().unwrap();
        Arc::new(Self { ports, directory })
    }
}

/// A not yet started agent: its name, its configuration, its environment.
#[derive(Clone, Debug)]
pub struct Spec {
    ground: Arc<Ground>,
    k: u16,
    name: String,
    home: PathBuf,
    api: SocketAddr,
    socket: Option<PathBuf>,
    config: String,
    environment: Vec<(String, String)>,
    wrapper: Vec<String>,
    log: Option<Arc<OwnedFd>>,
}

impl Spec {
    /// `emqx<k>@127.0.0.1` on the ports that the ground leased for `k`.
    pub fn new(ground: &Arc<Ground>, k: u16) -> Self {
        Self::named(ground, k, &format!("emqx{k}@127.0.0.1"))
    }

    /// An agent of any name. Its mesh port follows from the name's digits, its API
    /// port and directory from `k`.
    pub fn named(ground: &Arc<Ground>, k: u16, name: &str) -> Self {
        let home = ground.directory.path().join(format!("agent{k}"));
        let api = SocketAddr::from((Ipv4Addr::LOCALHOST, ground.ports.api(k)));
        let config = format!(
            "node.name = \"{name}\"\nnode.cookie = \"{COOKIE}\"\nnode.data_dir = {:?}\n\
             cluster.name = tests\nagent.mesh.base_port = {}\nagent.api.listen = \"{api}\"\n\
             agent.log.level = debug\n",
            home.join("data").display().to_string(),
            ground.ports.mesh_base(),
        );
        Self {
            ground: Arc::clone(ground),
            k,
            name: name.to_owned(),
            home,
            api,
            socket: None,
            config,
            environment: Vec::new(),
            wrapper: Vec::new(),
            log: None,
        }
    }

    /// Adds a line of configuration; the last one wins.
    #[must_use]
    pub fn line(mut self, line: &str) -> Self {
        self.config.push_str(line);
        self.config.push('\n');
        self
    }

    /// The static strategy with these seeds.
    #[must_use]
    pub fn seeds<S: AsRef<str>>(self, seeds: &[S]) -> Self {
        let seeds: Vec<_> = seeds.iter().map(|seed| format!("\"{}\"", seed.as_ref())).collect();
        self.line("cluster.discovery_strategy = static")
            .line(&format!("cluster.static.seeds = [{}]", seeds.join(", ")))
    }

    /// Sets an environment variable of the process.
    #[must_use]
    pub fn env(mut self, key: &str, value: &str) -> Self {
        self.environment.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Has it log there instead of into a file that the test reads.
    #[must_use]
    pub fn log_to(mut self, log: impl Into<OwnedFd>) -> Self {
        self.log = Some(Arc::new(log.into()));
        self
    }

    /// Runs the agent by way of another program, as `ip netns exec NAME`.
    #[must_use]
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// Where its API is asked, when that isn't the leased port on loopback.
    #[must_use]
    pub fn api(mut self, api: SocketAddr) -> Self {
        self.api = api;
        self.line(&format!("agent.api.listen = \"{api}\""))
    }

    /// Has its API listen on a Unix socket, which is reached from any network namespace.
    #[must_use]
    pub fn api_on_socket(mut self) -> Self {
        let socket = self.home.join("api.sock");
        let line = format!("agent.api.listen = \"unix:{}\"", socket.display());
        self.socket = Some(socket);
        self.line(&line)
    }

    /// The node's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The number behind its ports.
    pub fn k(&self) -> u16 {
        self.k
    }

    /// What it shares with the other agents of its test.
    pub fn ground(&self) -> &Arc<Ground> {
        &self.ground
    }

    /// The directory of its configuration, log and state.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// Writes the configuration and starts the process; does not wait for it.
    pub fn spawn(self) -> Agent {
        std::fs::create_dir_all(&self.home).unwrap();
        let mut agent = Agent { spec: self, child: None, starts: 0 };
        agent.start();
        agent
    }

    /// Starts the process and waits until its API answers.
    #[track_caller]
    pub fn start(self) -> Agent {
        let mut agent = self.spawn();
        agent.wait_api();
        agent
    }
}

/// A started agent; killed when dropped, and then its log's end is printed if the
/// test has failed.
#[derive(Debug)]
pub struct Agent {
    spec: Spec,
    child: Option<Child>,
    starts: u32,
}

impl Agent {
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The number behind its name and ports.
    pub fn k(&self) -> u16 {
        self.spec.k
    }

    pub fn api(&self) -> SocketAddr {
        self.spec.api
    }

    pub fn home(&self) -> &Path {
        &self.spec.home
    }

    pub fn ground(&self) -> &Arc<Ground> {
        &self.spec.ground
    }

    pub fn pid(&self) -> Pid {
        let child = self.child.as_ref().expect("the agent was already waited for");
        Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap()
    }

    /// Everything the process has written since its latest start.
    pub fn logs(&self) -> String {
        let bytes = std::fs::read(self.log_path()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for a line of the log that contains `text`.
    #[track_caller]
    pub fn wait_log(&self, text: &str) -> String {
        eventually(&format!("{} to log {text:?}", self.name()), LONG, || {
            self.logs().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    fn log_path(&self) -> PathBuf {
        self.spec.home.join(format!("agent.{}.log", self.starts))
    }

    fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.spec.name);
        self.starts += 1;
        let config = self.config_path();
        std::fs::write(&config, &self.spec.config).unwrap();
        let log = File::create(self.log_path()).unwrap();
        let program = env!("CARGO_BIN_EXE_muster");
        let mut command = match self.spec.wrapper.split_first() {
            None => Command::new(program),
            Some((wrapper, arguments)) => {
                let mut command = Command::new(wrapper);
                command.args(arguments).arg(program);
                command
            }
        };
        command
            .args(["run", "-c"])
            .arg(config)
            .envs(self.spec.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(match &self.spec.log {
                Some(other) => Stdio::from(other.try_clone().unwrap()),
                None => Stdio::from(log),
            });
        self.child = Some(command.spawn().unwrap());
    }

    /// Starts the process again after it has ended; does not wait for its API.
    pub fn start_again(&mut self) {
        self.start();
    }

    /// Adds a line to the configuration's file, which the running agent has read.
    pub fn configure(&mut self, line: &str) {
        self.spec = self.spec.clone().line(line);
        std::fs::write(self.config_path(), &self.spec.config).unwrap();
    }

    /// The configuration's file.
    pub fn config_path(&self) -> PathBuf {
        self.spec.home.join("emqx.conf")
    }

    /// As [`Agent::start_again`], with more configuration.
    pub fn start_again_with(&mut self, line: &str) {
        self.spec = self.spec.clone().line(line);
        self.start();
    }

    /// Waits until the API answers; fails when the process ends instead.
    #[track_caller]
    pub fn wait_api(&mut self) {
        let answered = try_eventually(LONG, || {
            if let Some(status) = self.child.as_mut()?.try_wait().unwrap() {
                self.child = None;
                return Some(Err(status));
            }
            self.request("GET", "/livez", None).ok().map(Ok)
        });
        match answered {
            Some(Ok(_)) => {}
            Some(Err(status)) => {
                panic!("{} ended ({status}):\n{}", self.name(), self.logs())
            }
            None => panic!("the API of {} does not answer", self.name()),
        }
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid(), signal).unwrap();
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.wait_exit();
    }

    /// SIGTERM; see [`Agent::wait_exit`].
    pub fn term(&self) {
        self.signal(Signal::TERM);
    }

    /// SIGINT.
    pub fn int(&self) {
        self.signal(Signal::INT);
    }

    /// SIGSTOP: the process freezes, its sockets stay.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn cont(&self) {
        self.signal(Signal::CONT);
    }

    /// How the process ended, as soon as it has.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let name = self.spec.name.clone();
        let child = self.child.as_mut().expect("the agent was already waited for");
        let status = eventually(&format!("{name} to end"), LONG, || child.try_wait().unwrap());
        self.child = None;
        status
    }

    /// Whether the process runs (a frozen one does).
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// One request to its API.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> io::Result<Answer> {
        match &self.spec.socket {
            Some(socket) => http::request_unix(socket, method, path, body),
            None => http::request(self.api(), method, path, &[], body),
        }
    }

    /// Its news, from the oldest it keeps.
    pub fn events(&self) -> io::Result<Events> {
        const PATH: &str = "/api/v1/events";
        match &self.spec.socket {
            Some(socket) => Events::open_unix(socket, PATH, Some(0)),
            None => Events::open(self.api(), PATH, Some(0)),
        }
    }

    /// The JSON of a route, whatever its status.
    #[track_caller]
    pub fn get(&self, path: &str) -> Value {
        self.request("GET", path, None).unwrap().json()
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, Some(body)).unwrap()
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: &Value) -> Answer {
        self.request("PUT", path, Some(body)).unwrap()
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path, None).unwrap()
    }

    /// `GET /api/v1/cluster`, if the agent answers.
    pub fn cluster(&self) -> Option<Value> {
        let answer = self.request("GET", "/api/v1/cluster", None).ok()?;
        serde_json::from_str(&answer.body).ok()
    }

    /// A line of its metrics without the value, e.g. `muster_links`; 0 where there is none.
    #[track_caller]
    pub fn metric(&self, line: &str) -> u64 {
        let text = self.request("GET", "/metrics", None).unwrap().body;
        let found = text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or(0)
    }

    /// Handshakes counted, by `direction` and `outcome`.
    #[track_caller]
    pub fn handshakes(&self, direction: &str, outcome: &str) -> u64 {
        let labels = format!("direction=\"{direction}\",outcome=\"{outcome}\"");
        self.metric(&format!("muster_handshakes_total{{{labels}}}"))
    }

    /// What it knows of a member, without what may change while nothing happens: whoever
    /// was suspect for a moment has another history after it.
    #[track_caller]
    pub fn history_of(&self, node: &str) -> Value {
        let member = self.get(&format!("/api/v1/members/{node}"));
        let fields = ["node", "status", "since", "last_change", "incarnation"];
        fields.map(|field| member[field].clone()).into_iter().collect()
    }

    /// `status` of a member in this agent's view; `None`: not listed.
    pub fn status_of(&self, node: &str) -> Option<String> {
        let answer = self.request("GET", &format!("/api/v1/members/{node}"), None).ok()?;
        (answer.status == 200).then(|| answer.json()["status"].as_str().unwrap().to_owned())
    }

    /// What an event would change of each member: not the links and round trips, which come
    /// and go.
    pub fn standings(&self) -> Vec<[Value; 4]> {
        let mut answer = self.get("/api/v1/members");
        let of = |member: &mut Value| {
            ["node", "status", "since", "incarnation"].map(|key| member[key].take())
        };
        answer["members"].as_array_mut().unwrap().iter_mut().map(of).collect()
    }

    /// Waits for a condition on the cluster route, and returns what met it.
    #[track_caller]
    pub fn wait_for(
        &self,
        what: &str,
        within: Duration,
        mut holds: impl FnMut(&Value) -> bool,
    ) -> Value {
        let mut last = None;
        let met = try_eventually(within, || {
            last = self.cluster();
            last.as_ref().filter(|cluster| holds(cluster)).cloned()
        });
        met.unwrap_or_else(|| {
            panic!("waited {within:?} for {} to see {what}; last answer: {last:?}", self.name())
        })
    }

    /// Waits until it lists exactly these as running and as stopped.
    #[track_caller]
    pub fn wait_nodes<S: AsRef<str>>(&self, within: Duration, running: &[S], stopped: &[S]) {
        let running = sorted(running);
        let stopped = sorted(stopped);
        self.wait_for(&format!("running {running:?}, stopped {stopped:?}"), within, |cluster| {
            names(&cluster["running_nodes"]) == running
                && names(&cluster["stopped_nodes"]) == stopped
        });
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // SIGKILL ends frozen processes too; one that has ended already is fine.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            let logs = self.logs();
            let lines: Vec<_> = logs.lines().collect();
            let tail = &lines[lines.len().saturating_sub(TAIL)..];
            eprintln!("--- the end of {}'s log ---\n{}", self.spec.name, tail.join("\n"));
        }
    }
}

fn sorted<S: AsRef<str>>(names: &[S]) -> Vec<String> {
    let mut names: Vec<_> = names.iter().map(|name| name.as_ref().to_owned()).collect();
    names.sort();
    names
}

/// A JSON list of names, in its order.
pub fn names(list: &Value) -> Vec<String> {
    let list = list.as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|name| name.as_str().unwrap_or_default().to_owned()).collect()
}
