//! Real brokers on loopback, and HAProxy in front of them; killed when dropped.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::wait::{LONG, eventually};

/// A broker that can be killed and started again.
pub struct Broker {
    directory: PathBuf,
    port: u16,
    command: Vec<String>,
    child: Option<Child>,
}

impl Broker {
    /// Mosquitto, of Debian.
    pub fn mosquitto(directory: &Path, port: u16) -> Self {
        let config = format!(
            "listener {port} 127.0.0.1\nallow_anonymous true\nlog_dest stderr\n\
             connection_messages true\nset_tcp_nodelay true\n"
        );
        Self::prepare(directory, port, &config, &["mosquitto", "-c", "broker.conf"])
    }

    /// amqtt, of PyPI.
    pub fn amqtt(program: &Path, directory: &Path, port: u16) -> Self {
        let config = format!(
            "---\nlisteners:\n  default:\n    type: tcp\n    bind: 127.0.0.1:{port}\n\
             plugins:\n  amqtt.plugins.authentication.AnonymousAuthPlugin:\n    \
             allow_anonymous: true\n"
        );
        let program = program.display().to_string();
        Self::prepare(directory, port, &config, &[&program, "-c", "broker.conf"])
    }

    /// Aedes, of npm.
    pub fn aedes(modules: &Path, directory: &Path, port: u16) -> Self {
        let program = format!(
            "const broker = require({:?})();\
             require('net').createServer(broker.handle).listen({port}, '127.0.0.1')",
            modules.display().to_string()
        );
        Self::prepare(directory, port, "", &["node", "-e", &program])
    }

    fn prepare(directory: &Path, port: u16, config: &str, command: &[&str]) -> Self {
        let directory = directory.join(format!("broker{port}"));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("broker.conf"), config).unwrap();
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let mut broker = Self { directory, port, command, child: None };
        broker.start();
        broker
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// Starts it, and waits until it listens.
    #[track_caller]
    pub fn start(&mut self) {
        let log = File::options().create(true).append(true).open(self.log_path()).unwrap();
        let child = Command::new(&self.command[0])
            .args(&self.command[1..])
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        eventually("a broker to listen", LONG, || {
            let ended = self.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none(), "it ended: {}", self.log());
            TcpStream::connect(self.address()).ok()
        });
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// More configuration for its next start.
    pub fn append(&self, text: &str) {
        let path = self.directory.join("broker.conf");
        let config = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, config + text).unwrap();
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ended = child.kill();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: it accepts, and never answers.
    pub fn freeze(&self) {
        let id = i32::try_from(self.child.as_ref().unwrap().id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), Signal::STOP).unwrap();
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// HAProxy, master and worker; its file may be replaced and read again.
pub struct Haproxy {
    pid_file: PathBuf,
    stats: PathBuf,
    child: Child,
}

impl Haproxy {
    /// Starts it over a file that names `stats` as its admin socket.
    #[track_caller]
    pub fn start(config: &Path, pid_file: &Path, stats: &Path) -> Self {
        let log = File::create(Self::log_path(pid_file)).unwrap();
        let child = Command::new("haproxy")
            .args(["-W", "-db", "-f"])
            .arg(config)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let haproxy = Self { pid_file: pid_file.to_owned(), stats: stats.to_owned(), child };
        eventually("HAProxy to answer", LONG, || haproxy.servers());
        // Not before: until it is ready, the signal to read its file ends it.
        std::fs::write(pid_file, haproxy.child.id().to_string()).unwrap();
        haproxy
    }

    fn log_path(pid_file: &Path) -> PathBuf {
        pid_file.with_extension("log")
    }

    /// What master and workers have said.
    pub fn log(&self) -> String {
        std::fs::read_to_string(Self::log_path(&self.pid_file)).unwrap_or_default()
    }

    /// The servers of its back ends as it works now: name, and sessions since its start.
    pub fn servers(&self) -> Option<Vec<(String, u64)>> {
        use std::io::{Read as _, Write as _};
        let mut socket = std::os::unix::net::UnixStream::connect(&self.stats).ok()?;
        socket.write_all(b"show stat\n").ok()?;
        let mut text = String::new();
        socket.read_to_string(&mut text).ok()?;
        let rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let servers = rows.filter(|row| {
            row.len() > 7 && row[0] == "brokers" && !["BACKEND", "FRONTEND"].contains(&row[1])
        });
        Some(servers.map(|row| (row[1].to_owned(), row[7].parse().unwrap_or(0))).collect())
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _gone = std::fs::remove_file(&self.pid_file);
        let id = i32::try_from(self.child.id()).unwrap();
        // The master ends its workers.
        let _ended = kill_process(Pid::from_raw(id).unwrap(), Signal::TERM);
        let _reaped = self.child.wait();
    }
}
