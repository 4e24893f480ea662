//! `agent.health.listen`, asked by the tools that are to ask it.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::support::agent::{Agent, Ground, Spec};
use crate::support::http;
use crate::support::programs::skip_without;
use crate::support::wait::{LONG, eventually};

/// A process that is ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is fine.
        let _ended = self.0.kill();
        let _ended = self.0.wait();
    }
}

/// One that is ready and one that isn't, each with where its health is asked.
fn agents() -> [(Agent, SocketAddr); 2] {
    let ground = Ground::new(2);
    [(1, 1), (2, 2)].map(|(k, wanted)| {
        let health = SocketAddr::from(([127, 0, 0, 1], ground.ports.spare(k)));
        let agent = Spec::new(&ground, k)
            .seeds::<&str>(&[])
            .line(&format!("agent.health.listen = \"{health}\""))
            .line(&format!("agent.ready.min_members = {wanted}"))
            .line("agent.api.token = \"t0ken-of-the-tests\"")
            .start();
        agent.wait_for("itself joined", LONG, |view| view["state"] == "joined");
        (agent, health)
    })
}

/// HAProxy's five ways of checking a server.
const CHECKS: [(&str, &str); 5] = [
    ("http10", "option httpchk GET /readyz"),
    (
        "host",
        "option httpchk\n  http-check send meth GET uri /readyz ver HTTP/1.1 hdr Host broker.example.com",
    ),
    ("options", "option httpchk OPTIONS /readyz"),
    ("head", "option httpchk HEAD /readyz HTTP/1.1\\r\\nHost:\\ www"),
    ("tcp", "option tcp-check"),
];

/// `backend/server` and its status as HAProxy sees it.
fn haproxy_status(socket: &Path) -> Vec<(String, String)> {
    let Ok(mut stream) = UnixStream::connect(socket) else { return Vec::new() };
    stream.write_all(b"show stat\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let rows = text.lines().filter_map(|line| {
        let fields: Vec<_> = line.split(',').collect();
        let server = fields.get(1).filter(|name| name.starts_with("agent"))?;
        Some((format!("{}/{server}", fields[0]), fields.get(17)?.to_string()))
    });
    rows.collect()
}

#[test]
fn haproxy_s_five_ways_of_checking_see_who_is_ready() {
    if skip_without(&["haproxy"]) {
        return;
    }
    let agents = agents();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("stats");
    let mut text = format!(
        "global\n  stats socket {}\ndefaults\n  mode tcp\n  timeout connect 5s\n  \
         timeout client 5s\n  timeout server 5s\n  timeout check 5s\n",
        socket.display()
    );
    for (name, check) in CHECKS {
        text.push_str(&format!("backend {name}\n  {check}\n"));
        for (k, (_, health)) in agents.iter().enumerate() {
            text.push_str(&format!("  server agent{k} {health} check inter 100ms rise 1 fall 1\n"));
        }
    }
    let file = directory.path().join("haproxy.cfg");
    std::fs::write(&file, text).unwrap();
    let _haproxy = Running(
        Command::new("haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&file)
            .stdin(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let mut expected = Vec::new();
    for (name, _) in CHECKS {
        expected.push((format!("{name}/agent0"), "UP".to_owned()));
        // A connection is all that this one looks at.
        let other = if name == "tcp" { "UP" } else { "DOWN" };
        expected.push((format!("{name}/agent1"), other.to_owned()));
    }
    let mut last = Vec::new();
    let met = crate::support::wait::try_eventually(LONG, || {
        last = haproxy_status(&socket);
        (last == expected).then_some(())
    });
    assert!(met.is_some(), "{last:?}, not {expected:?}");
}

#[test]
fn curl_without_a_host_and_in_http_1_0_is_answered() {
    if skip_without(&["curl"]) {
        return;
    }
    let [(_ready, yes), (_other, no)] = agents();
    for (health, path, status) in [
        (yes, "/readyz", "200"),
        (no, "/readyz", "503"),
        (no, "/livez", "200"),
        (no, "/healthz", "200"),
        (no, "/metrics", "200"),
        (yes, "/api/v1/cluster", "404"),
    ] {
        for arguments in
            [&["--http1.0", "-H", "Host:"][..], &["-H", "Host: b.example.com"], &["-I"]]
        {
            let output = Command::new("curl")
                .args(["-s", "-o", "/dev/null", "-w", "%{http_code}"])
                .args(arguments)
                .arg(format!("http://{health}{path}"))
                .output()
                .unwrap();
            assert_eq!(String::from_utf8_lossy(&output.stdout), status, "{path} {arguments:?}");
        }
    }
}

#[test]
fn prometheus_scrapes_it_as_it_stands() {
    if skip_without(&["prometheus"]) {
        return;
    }
    let [(agent, health), _] = agents();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("prometheus.yml");
    let text = format!(
        "global: {{ scrape_interval: 200ms }}\nscrape_configs:\n- job_name: muster\n  \
         static_configs:\n  - targets: ['{health}']\n"
    );
    std::fs::write(&file, text).unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], agent.ground().ports.spare(9)));
    let log = std::fs::File::create(directory.path().join("log")).unwrap();
    let _prometheus = Running(
        Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address={listen}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap(),
    );
    let path = "/api/v1/query?query=muster_members%7Bstatus%3D%22up%22%7D";
    let value = eventually("Prometheus to have scraped the members", LONG, || {
        let answer = http::request(listen, "GET", path, &[], None).ok()?;
        // It refuses everything until it has read its own state.
        if answer.status != 200 {
            return None;
        }
        let found = answer.json()["data"]["result"][0]["value"][1].as_str()?.to_owned();
        Some(found)
    });
    assert_eq!(value, "1");
}

#[test]
fn a_taken_health_address_stops_the_start() {
    let ground = Ground::new(1);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut agent = Spec::new(&ground, 1)
        .seeds::<&str>(&[])
        .line(&format!("agent.health.listen = \"{address}\""))
        .spawn();
    assert_eq!(agent.wait_exit().code(), Some(1));
    let logs = agent.logs();
    assert!(logs.contains(&format!("agent.health.listen = {address}")), "{logs}");
    assert!(logs.contains("in use"), "{logs}");
}
