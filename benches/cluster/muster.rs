//! muster agents: static seeds, observed by their event stream.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
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
    pub(crate) fn issue(&self, ground: &Ground, k: usize) -> String {
        let (name, home) = (name(k), home(ground, k));
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

/// The directory of node `k`.
pub(crate) fn home(ground: &Ground, k: usize) -> PathBuf {
    let home = ground.directory.path().join(format!("agent{k}"));
    std::fs::create_dir_all(&home).unwrap();
    home
}

/// Node `k`, with more lines of configuration.
pub(crate) fn command(ground: &Ground, k: usize, lines: &str) -> Command {
    let seeds: Vec<_> = (1..=ground.n).map(|k| format!("\"{}\"", name(k))).collect();
    let home = home(ground, k);
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
    std::fs::write(home.join("emqx.conf"), text + lines).unwrap();
    again(ground, k)
}

/// Node `k`, configured already.
pub(crate) fn again(ground: &Ground, k: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.arg("run").arg("-c").arg(home(ground, k).join("emqx.conf")).stdout(Stdio::null());
    command
}

/// Reports the events of one of `n` agents, after the one of this number or from now on. It
/// looks for the agent the more seldom the more of them there are: looking costs, and looking
/// late shows.
pub(crate) async fn observe(api: SocketAddr, n: usize, after: Option<u64>, reporter: Reporter) {
    let pause = Duration::from_micros(100) * u32::try_from(n).unwrap();
    let mut stream = connect(api, pause).await;
    let after = after.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    let request = format!("GET /api/v1/events HTTP/1.1\r\nHost: {api}\r\n{after}\r\n");
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
    while ask(api, "GET /livez").await.is_err() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// What it answers to a request that says nothing more: head and body as they come.
pub(crate) async fn ask(api: SocketAddr, request: &str) -> io::Result<String> {
    let mut stream = connect(api, Duration::from_millis(1)).await;
    let body = if request.starts_with("PUT") { "{}" } else { "" };
    let request = format!(
        "{request} HTTP/1.1\r\nHost: {api}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    if answer.is_empty() { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(answer) }
}

/// How many nodes run in its view.
pub(crate) async fn running(api: SocketAddr) -> Option<usize> {
    let answer = ask(api, "GET /api/v1/cluster").await.ok()?;
    let (_, body) = answer.split_once("\r\n\r\n")?;
    let cluster: Value = serde_json::from_str(body).ok()?;
    Some(cluster["running_nodes"].as_array()?.len())
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
