//! What stands around agents with everything on: a broker to probe, somebody who takes web
//! hooks, somebody who asks DNS, templates.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;
use tokio::time::interval;

use crate::ground::Ground;
use crate::muster;

/// DNS queries a second, over all agents.
const QUERIES: u32 = 500;

/// Runs until it is dropped.
pub(crate) struct Surroundings {
    /// Where every agent finds its broker.
    broker: SocketAddr,
    /// Where web hooks go.
    hooks: SocketAddr,
    template: PathBuf,
    posted: Arc<AtomicU64>,
    answered: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Surroundings {
    pub(crate) async fn start(ground: &Ground) -> Self {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/templates/haproxy.cfg.j2");
        // The checkout's group may be allowed to write it there.
        let template = ground.directory.path().join("haproxy.cfg.j2");
        std::fs::write(&template, std::fs::read(shipped).unwrap()).unwrap();
        let any = (Ipv4Addr::LOCALHOST, 0);
        let [brokers, hooks] =
            [TcpListener::bind(any).await.unwrap(), TcpListener::bind(any).await.unwrap()];
        let [posted, answered] = [(); 2].map(|()| Arc::<AtomicU64>::default());
        let mut tasks = JoinSet::new();
        let all = Self {
            broker: brokers.local_addr().unwrap(),
            hooks: hooks.local_addr().unwrap(),
            template,
            posted: Arc::clone(&posted),
            answered: Arc::clone(&answered),
            _tasks: JoinSet::new(),
        };
        tasks.spawn(async move {
            loop {
                // A TCP probe wants no more.
                let _taken = brokers.accept().await;
            }
        });
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = hooks.accept().await {
                posted.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let _request = stream.read(&mut [0; 8192]).await;
                    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
                    let _answered = stream.write_all(answer).await;
                });
            }
        });
        let servers: Vec<_> = (1..=ground.n).map(|k| dns(ground, k)).collect();
        tasks.spawn(ask(servers, answered));
        Self { _tasks: tasks, ..all }
    }

    /// The lines of configuration of node `k`.
    pub(crate) fn lines(&self, ground: &Ground, k: usize) -> String {
        let target = muster::home(ground, k).join("haproxy.cfg");
        format!(
            "agent.tags {{ zone = a, id = \"{k}\" }}\n\
             agent.broker {{ kind = tcp, probe.target = \"{}\" }}\n\
             agent.render = [{{ source = {:?}, target = {target:?}, check = [\"true\", \"{{file}}\"] }}]\n\
             agent.hooks = [{{ on = [member_down, member_up], command = [\"true\"] }}, {{ on = \
             [member_joined, member_updated, member_down, member_up], url = \"http://{}/\" }}]\n\
             agent.dns.listen = \"{}\"\n",
            self.broker,
            self.template,
            self.hooks,
            dns(ground, k),
        )
    }

    /// What happened, by its own count and by the agents'.
    pub(crate) async fn told(&self, apis: &[SocketAddr]) -> String {
        let [mut written, mut programs, mut queries] = [0; 3];
        for &api in apis {
            let metrics = muster::ask(api, "GET /metrics").await.unwrap_or_default();
            let sum = |name: &str, label: &str| -> u64 {
                let lines = metrics.lines().filter(|l| l.starts_with(name) && l.contains(label));
                lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
            };
            written += sum("muster_render_total{", "outcome=\"written\"");
            programs += sum("muster_hook_runs_total{hook=\"true\"", "outcome=\"ok\"");
            queries += sum("muster_dns_queries_total{", "outcome=\"ok\"");
        }
        let [posted, answered] =
            [&self.posted, &self.answered].map(|count| count.load(Ordering::Relaxed));
        assert!(written > 0 && programs > 0 && queries > 0 && posted > 0, "not everything was on");
        format!(
            "files written {written}, programs run {programs}, web hooks {posted}, DNS queries \
             answered {answered}"
        )
    }
}

/// Where node `k` answers DNS queries.
fn dns(ground: &Ground, k: usize) -> SocketAddr {
    (Ground::host(k), ground.ports.spare(Ground::slot(k) - 1)).into()
}

/// Asks one after another.
async fn ask(servers: Vec<SocketAddr>, answered: Arc<AtomicU64>) {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["mqtt", "service", "emqxcl", "muster"] {
        query.push(u8::try_from(label.len()).unwrap());
        query.extend_from_slice(label.as_bytes());
    }
    query.extend_from_slice(&[0, 0, 1, 0, 1]);
    let mut ticks = interval(Duration::from_secs(1) / QUERIES);
    let mut buffer = [0; 2048];
    for server in servers.iter().cycle() {
        tokio::select! {
            _ = ticks.tick() => {
                let _sent = socket.send_to(&query, server).await;
            }
            Ok(_) = socket.recv_from(&mut buffer) => {
                answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
