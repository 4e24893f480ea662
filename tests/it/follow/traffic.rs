//! HAProxy with three brokers behind it, while clients publish all the time: what it costs
//! them when a broker dies, drains and returns. The figures stand in `docs/brokers.md`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde_json::json;

use super::{script, template};
use crate::support::brokers::{Broker, Haproxy};
use crate::support::cluster::Cluster;
use crate::support::mqtt::Client;
use crate::support::programs::skip_without;
use crate::support::wait::{LONG, always, eventually, timed};

/// Clients that stay, and publish through one connection for as long as it lasts.
const STAYING: usize = 4;

/// What is promised with a probe of 100 ms and a quiet period of 100 ms. A machine busy with
/// other tests gets more.
const PROMISED: Duration = Duration::from_secs(1);
const GRANTED: Duration = Duration::from_secs(4);

/// What the clients saw.
#[derive(Debug, Default)]
struct Seen {
    published: AtomicU64,
    lost: AtomicU64,
    connected: AtomicU64,
    refused: AtomicU64,
    over: AtomicBool,
}

/// Clients on threads of their own, until told that it is over.
struct Traffic {
    seen: &'static Seen,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn start(front: SocketAddr) -> Self {
        let seen: &'static Seen = Box::leak(Box::default());
        let staying = (0..STAYING).map(|number| thread::spawn(move || stay(front, number, seen)));
        let coming = std::iter::once(thread::spawn(move || come_and_go(front, seen)));
        Self { seen, clients: staying.chain(coming).collect() }
    }

    fn counts(&self) -> [u64; 4] {
        let Seen { published, lost, connected, refused, .. } = self.seen;
        [published, lost, connected, refused].map(|count| count.load(Ordering::Relaxed))
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.seen.over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            // Its panic is printed, and the counts show it.
            let _ended = client.join();
        }
    }
}

fn count(of: &AtomicU64) {
    of.fetch_add(1, Ordering::Relaxed);
}

#[allow(clippy::disallowed_methods, reason = "a client that rests between two messages")]
fn stay(front: SocketAddr, number: usize, seen: &Seen) {
    while !seen.over.load(Ordering::Relaxed) {
        let Ok(mut client) = Client::connect(front, &format!("staying{number}")) else {
            count(&seen.refused);
            continue;
        };
        while !seen.over.load(Ordering::Relaxed) {
            if client.publish("load", b"x").is_err() {
                count(&seen.lost);
                break;
            }
            count(&seen.published);
            thread::sleep(Duration::from_millis(2));
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a client that rests between two messages")]
fn come_and_go(front: SocketAddr, seen: &Seen) {
    while !seen.over.load(Ordering::Relaxed) {
        match Client::connect(front, "coming") {
            Ok(_) => count(&seen.connected),
            Err(_) => count(&seen.refused),
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// The shipped template on a port of ours, with a socket that tells what is used.
fn own_template(home: &Path, port: u16, stats: &Path) -> std::path::PathBuf {
    let (path, text) = template(home, "haproxy.cfg.j2");
    let text = text
        .replace("bind :1883", &format!("bind 127.0.0.1:{port}"))
        .replace("global\n", &format!("global\n    stats socket {}\n", stats.display()));
    std::fs::write(&path, text).unwrap();
    path
}

#[test]
fn brokers_behind_haproxy_die_drain_and_return() {
    if skip_without(&["haproxy", "mosquitto"]) {
        return;
    }
    let home = tempfile::Builder::new().prefix("muster-it-").tempdir().unwrap();
    let home = home.path();
    let [stats, pid_file, target] = ["stats", "pid", "haproxy.cfg"].map(|name| home.join(name));
    // Nothing to reload before it runs.
    let reload = script(
        home,
        "reload",
        &format!("[ ! -e {0} ] || kill -USR2 $(cat {0})", pid_file.display()),
    );
    let mut cluster = Cluster::spawn_with(3, |spec| {
        let ports = &spec.ground().ports;
        let port = ports.spare(spec.k());
        let source = own_template(home, ports.spare(0), &stats);
        let spec = spec.line(&format!("listeners.tcp.default.bind = \"127.0.0.1:{port}\""));
        let spec = spec.line(&format!(
            "agent.broker {{ kind = mqtt, probe {{ target = \
             \"127.0.0.1:{port}\", interval = 100ms, timeout = 100ms, rise = 2, fall = 2 }} }}"
        ));
        match spec.k() {
            1 => spec.line(&format!(
                "agent.render = [{{ source = {source:?}, target = {target:?}, wait {{ min = \
                 100ms, max = 1s }}, check = [haproxy, \"-c\", \"-f\", \"{{file}}\"], command = \
                 [{reload:?}] }}]"
            )),
            _ => spec,
        }
    });
    let ports = &cluster.ground().ports;
    let front = SocketAddr::from((Ipv4Addr::LOCALHOST, ports.spare(0)));
    let mut brokers: Vec<_> = (1..=3).map(|k| Broker::mosquitto(home, ports.spare(k))).collect();
    cluster.wait_formed();
    for agent in cluster.iter() {
        agent.wait_log("is up");
        eventually("every broker up", LONG, || {
            let members = agent.get("/api/v1/members")["members"].take();
            let up = members.as_array()?.iter().filter(|m| m["broker"]["status"] == "up").count();
            (up == 3).then_some(())
        });
    }
    let text = || std::fs::read_to_string(&target).unwrap_or_default();
    let in_file = |k: u16| text().contains(&format!("server emqx{k}-127.0.0.1 "));
    eventually("all three in the file", LONG, || (1..=3).all(in_file).then_some(()));
    let haproxy = Haproxy::start(&target, &pid_file, &stats);
    let written = || {
        cluster[0].metric(&format!("muster_render_total{{target={target:?},outcome=\"written\"}}"))
    };
    let until = |k: u16, there: bool| {
        let name = format!("emqx{k}-127.0.0.1");
        let (_, took) = timed(|| {
            eventually(&format!("{name} {there} in HAProxy"), LONG, || {
                let servers = haproxy.servers()?;
                (servers.iter().any(|(server, _)| *server == name) == there).then_some(())
            });
        });
        took
    };
    let traffic = Traffic::start(front);
    let published = traffic.counts()[0];
    eventually("publishes", LONG, || (traffic.counts()[0] > published + 500).then_some(()));
    let quiet = traffic.counts();
    assert_eq!((quiet[1], quiet[3]), (0, 0), "nothing is lost while nothing happens");
    let writes = written();
    always("no rewrite", Duration::from_secs(2), || written() == writes);

    brokers[1].kill9();
    let killed = until(2, false);
    let after_kill = traffic.counts();
    assert!(killed <= GRANTED, "{killed:?}");
    brokers[1].start();
    let returned = until(2, true);
    assert!(returned <= GRANTED, "{returned:?}");

    let before_drain = traffic.counts();
    assert_eq!(cluster[2].put("/api/v1/node/drain", &json!({"reason": "test"})).status, 200);
    let drained = until(3, false);
    assert!(drained <= GRANTED, "{drained:?}");
    // The probe of a member that drains goes on, and is a client too.
    let connections = || {
        let log = brokers[2].log();
        let clients = log.lines().filter(|line| line.contains("New client connected"));
        clients.filter(|line| !line.contains(" as musterprobe")).count()
    };
    let come = |more: u64| {
        let came = traffic.counts()[2];
        eventually("new connections", LONG, || (traffic.counts()[2] > came + more).then_some(()));
    };
    // A worker with the new file answers already before the old one stops to accept; what
    // that one accepted has arrived when others have come after it.
    let logged = |words: &str| haproxy.log().matches(words).count();
    eventually("the old workers to stop", LONG, || {
        (logged("Proxy mqtt stopped") >= logged("Reloading HAProxy")).then_some(())
    });
    come(2);
    let held = connections();
    come(100);
    assert_eq!(connections(), held, "one that drains gets no new connection");
    let after_drain = traffic.counts();
    assert_eq!(after_drain[1], before_drain[1], "a drain loses nothing");
    assert_eq!(cluster[2].delete("/api/v1/node/drain").status, 204);
    let undrained = until(3, true);

    // Two of three agents gone: the one that is left has no majority, and its file stays.
    let (last, writes) = (text(), written());
    cluster[1].kill9();
    cluster[2].kill9();
    let names = cluster.names();
    cluster[0].wait_nodes(LONG, &names[..1], &names[1..]);
    always("the file as it was", Duration::from_secs(1), || text() == last);
    let held =
        || cluster[0].metric(&format!("muster_render_total{{target={target:?},outcome=\"held\"}}"));
    eventually("the minority to hold back", LONG, || (held() > 0).then_some(()));
    let written =
        cluster[0].metric(&format!("muster_render_total{{target={target:?},outcome=\"written\"}}"));
    assert_eq!(written, writes);

    let total = traffic.counts();
    println!(
        "| event | in HAProxy after | publishes lost | connections refused |\n\
         | a broker is killed | {} ms | {} | {} |\n| it is back | {} ms | | |\n\
         | a member drains | {} ms | {} | {} |\n| it is back | {} ms | | |\n\
         published {} in all, promised {PROMISED:?}",
        killed.as_millis(),
        after_kill[1] - quiet[1],
        after_kill[3] - quiet[3],
        returned.as_millis(),
        drained.as_millis(),
        after_drain[1] - before_drain[1],
        after_drain[3] - before_drain[3],
        undrained.as_millis(),
        total[0],
    );
}
