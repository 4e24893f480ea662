//! muster agents: static seeds, observed by their event stream.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::process::Command;
use tokio::time::sleep;

use crate::ground::{Ground, Reporter};

/// Issues the certificates of one group.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Writes a node's files; the lines of configuration that use them.
    fn issue(&self, k: usize, home: &Path) -> String {
        let name = name(k);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        let uri = format!("muster:{name}").try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(uri)];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let (cert, keyfile) = (home.join("cert.pem"), home.join("key.pem"));
        let (ca, optfile) = (home.join("ca.pem"), home.join("ssl_dist.conf"));
        std::fs::write(&cert, certificate).unwrap();
        std::fs::write(&keyfile, key.serialize_pem()).unwrap();
        std::fs::write(&ca, &self.pem).unwrap();
        let options = format!(
            "{{certfile, {cert:?}}}, {{keyfile, {keyfile:?}}}, {{cacertfile, {ca:?}}}, \
             {{verify, verify_peer}}"
        );
        let text = format!(
            "[{{server, [{options}, {{fail_if_no_peer_cert, true}}]}}, {{client, [{options}]}}]."
        );
        std::fs::write(&optfile, text).unwrap();
        format!("cluster.proto_dist = inet_tls\nnode.ssl_dist_optfile = {optfile:?}\n")
    }
}

/// The name of node `k`.
fn name(k: usize) -> String {
    format!("emqx{}@{}", Ground::slot(k), Ground::host(k))
}

pub(crate) fn command(ground: &Ground, k: usize, tls: Option<&Authority>) -> Command {
    let seeds: Vec<_> = (1..=ground.n).map(|k| format!("\"{}\"", name(k))).collect();
    let home = ground.directory.path().join(format!("agent{k}"));
    std::fs::create_dir(&home).unwrap();
    let config = home.join("emqx.conf");
    let text = format!(
        "node {{ name = \"{}\", cookie = benchmark-cookie-7Qx3, data_dir = {:?} }}\n\
         cluster {{ discovery_strategy = static, static.seeds = [{}] }}\n\
         agent {{ mesh.base_port = {}, mesh.bind = \"{}\", api.listen = \"{}\" }}\n",
        name(k),
        home.join("data").display().to_string(),
        seeds.join(", "),
        ground.ports.mesh_base(),
        Ground::host(k),
        ground.api(k),
    );
    let tls = tls.map(|authority| authority.issue(k, &home)).unwrap_or_default();
    std::fs::write(&config, text + &tls).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.arg("run").arg("-c").arg(config).stdout(Stdio::null());
    command
}

/// Reports the events of one of `n` agents, from its first. It looks for the agent the more
/// seldom the more of them there are: looking costs, and looking late shows.
pub(crate) async fn observe(api: SocketAddr, n: usize, reporter: Reporter) {
    let pause = Duration::from_micros(100) * u32::try_from(n).unwrap();
    let mut stream = connect(api, pause).await;
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {api}\r\nLast-Event-ID: 0\r\n\r\n");
    if stream.write_all(request.as_bytes()).await.is_err() {
        return;
    }
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some(data) = line.strip_prefix("data:") else { continue };
        let Ok(event) = serde_json::from_str::<Value>(data) else { continue };
        let Some(k) = event["node"].as_str().and_then(number) else { continue };
        match event["to"].as_str() {
            // A suspect is still counted as running.
            Some("up" | "suspect") => reporter.report(k, true),
            _ => reporter.report(k, false),
        }
    }
}

/// The node of a name.
fn number(node: &str) -> Option<usize> {
    let (slot, host) = node.strip_prefix("emqx")?.split_once('@')?;
    let last = host.rsplit('.').next()?;
    Some(Ground::node(slot.parse().ok()?, last.parse().ok()?))
}

/// Waits until the API answers.
pub(crate) async fn answers(api: SocketAddr) {
    while ask(api).await.is_err() {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn ask(api: SocketAddr) -> io::Result<()> {
    let mut stream = connect(api, Duration::from_millis(1)).await;
    let request = format!("GET /livez HTTP/1.1\r\nHost: {api}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.map(|_| ())
}

/// Connects as soon as somebody listens.
pub(crate) async fn connect(address: SocketAddr, pause: Duration) -> TcpStream {
    loop {
        if let Ok(stream) = TcpStream::connect(address).await {
            return stream;
        }
        sleep(pause).await;
    }
}
