//! What the service manager is told, over the socket that it gives.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use rustix::process::Signal;

use crate::support::agent::{Ground, Spec};
use crate::support::wait::{LONG, eventually};

/// systemd's end of `NOTIFY_SOCKET`.
struct Manager {
    socket: UnixDatagram,
    _directory: tempfile::TempDir,
    path: String,
    /// Everything that was said, one assignment each.
    heard: Vec<String>,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify").display().to_string();
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        Self { socket, _directory: directory, path, heard: Vec::new() }
    }

    /// Waits until something is said that was not waited for before; drops what is before it.
    #[track_caller]
    fn wait(&mut self, prefix: &str) -> String {
        eventually(
            &format!("the manager to hear {prefix}; it heard {:?}", self.heard),
            LONG,
            || {
                let mut buffer = [0; 4096];
                if let Ok(length) = self.socket.recv(&mut buffer) {
                    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                    self.heard.extend(text.lines().map(str::to_owned));
                }
                let at = self.heard.iter().position(|line| line.starts_with(prefix))?;
                self.heard.drain(..=at).next_back()
            },
        )
    }
}

#[test]
fn it_hears_of_start_status_reload_life_and_end() {
    let ground = Ground::new(2);
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let mut manager = Manager::new();
    let mut one = Spec::new(&ground, 1)
        .seeds(&seeds)
        .env("NOTIFY_SOCKET", &manager.path)
        .env("WATCHDOG_USEC", "3000000")
        .start();
    manager.wait("READY=1");
    manager.wait("WATCHDOG=1");
    let _two = Spec::new(&ground, 2).seeds(&seeds).start();
    manager.wait("STATUS=2 of 2 up, ready");
    manager.wait("WATCHDOG=1");
    one.configure("agent.ready.min_members = 3");
    one.signal(Signal::HUP);
    manager.wait("RELOADING=1");
    let since: u64 = manager.wait("MONOTONIC_USEC=").split('=').nth(1).unwrap().parse().unwrap();
    assert!(since > 0);
    manager.wait("READY=1");
    manager.wait("STATUS=2 of 2 up, not ready: min_members");
    one.term();
    manager.wait("STOPPING=1");
    assert!(one.wait_exit().success());
}
