//! The mesh against real Erlang nodes, over every carrier, in both directions.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use muster::mesh::tls::TlsContext;
use muster::mesh::{DialError, LinkTimes, MeshSettings, SendOutcome};
use muster::node::NodeName;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::mesh::{Log, Node, free_port, settings};
use crate::support::pki::{Ca, TlsFiles};
use crate::support::programs::skip_without;
use crate::support::wait::LONG;

/// `net_ticktime` of the Erlang nodes, seconds: ours must tick as often.
const TICKTIME: u64 = 4;

const TIMES: LinkTimes =
    LinkTimes { tick: Duration::from_secs(1), silence: Duration::from_secs(TICKTIME) };

/// A running Erlang node; killed when dropped.
struct Erlang {
    _process: Child,
    said: mpsc::Receiver<String>,
}

/// What links run over.
#[derive(Clone, Copy, Debug)]
enum Carrier {
    Tcp,
    Tcp6,
    Tls(&'static str),
}

impl Carrier {
    fn name(self) -> &'static str {
        match self {
            Self::Tcp => "inet_tcp",
            Self::Tcp6 => "inet6_tcp",
            Self::Tls(_) => "inet_tls",
        }
    }

    fn host(self, number: u8) -> String {
        match self {
            Self::Tcp6 => "::1".to_owned(),
            Self::Tcp | Self::Tls(_) => format!("127.0.0.{number}"),
        }
    }
}

impl Erlang {
    /// A node that looks for every peer at `port`; its own name's host is an address.
    fn start(name: &str, cookie: &str, port: u16, more: &[&str], eval: &str) -> Self {
        let mut command = Command::new("erl");
        command
            .args(["-noinput", "-start_epmd", "false", "-erl_epmd_port", &port.to_string()])
            .args(["-name", name, "-setcookie", cookie])
            .args(["-kernel", "net_ticktime", &TICKTIME.to_string()])
            .args(more)
            .args(["-eval", eval])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let (say, said) = mpsc::channel(100);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                match line.strip_prefix("> ") {
                    Some(line) => say.send(line.to_owned()).await.unwrap_or_default(),
                    // Erlang's own reports, for whoever looks into a failure.
                    None => println!("erl: {line}"),
                }
            }
        });
        Self { _process: process, said }
    }

    /// The next line that begins with `> `.
    async fn says(&mut self) -> String {
        let said = timeout(LONG, self.said.recv()).await.expect("the Erlang node in time");
        said.expect("the Erlang node lives")
    }
}

/// Pings the agent, stays for three tick times, exchanges messages, and says each.
fn dialler(agent: &str) -> String {
    format!(
        "A = '{agent}', Say = fun(T) -> io:format(\"> ~p~n\", [T]) end, \
         register(muster, self()), Say(net_adm:ping(A)), \
         monitor_node(A, true), \
         {{muster, A}} ! <<\"from erlang\">>, {{other, A}} ! junk, \
         receive M -> Say(M) after 10000 -> Say(nothing) end, \
         receive {{nodedown, A}} -> Say(nodedown) after {} -> Say({{nodes(), nodes(hidden)}}) end, \
         Say(net_adm:ping(A)), halt().",
        TICKTIME * 3 * 1000
    )
}

/// Waits for one message to `muster`, says it, and answers.
const LISTENER: &str = "register(muster, self()), io:format(\"> listening~n\"), \
     net_kernel:monitor_nodes(true, #{node_type => all}), \
     N = receive {nodeup, Node, _} -> Node end, \
     receive M when is_binary(M) -> io:format(\"> ~p ~p~n\", [N, M]) end, \
     {muster, N} ! <<\"from erlang\">>, \
     receive {nodedown, N, _} -> io:format(\"> nodedown~n\") end, halt().";

/// One side's certificates, for an agent and for an Erlang node alike.
struct Certificates {
    dir: TempDir,
    ca: Ca,
}

impl Certificates {
    fn new() -> Self {
        Self { dir: TempDir::new().unwrap(), ca: Ca::new("the cluster's") }
    }

    /// The optfile of a node on this address, for one version of TLS.
    fn of(&self, ip: &str, version: &str) -> PathBuf {
        // An Erlang dialler wants the literal as a DNS name.
        let leaf = self.ca.leaf(&[&format!("dns:{ip}"), &format!("ip:{ip}")]);
        let dir = self.dir.path().join(ip);
        let files = TlsFiles::write(&dir, &self.ca.pem, &leaf);
        files.extra(&format!(", {{versions, ['{version}']}}")).conf()
    }
}

fn erl_flags(carrier: Carrier, conf: &Path) -> Vec<String> {
    let mut flags = vec!["-proto_dist".to_owned(), carrier.name().to_owned()];
    if matches!(carrier, Carrier::Tls(_)) {
        flags.extend(["-ssl_dist_optfile".to_owned(), conf.display().to_string()]);
    }
    flags
}

fn agent(carrier: Carrier, port: u16, certificates: &Certificates) -> MeshSettings {
    let host = carrier.host(1);
    let mut settings = settings(&format!("agent@{host}"), port);
    settings.times = TIMES;
    if let Carrier::Tls(version) = carrier {
        let conf = certificates.of(&host, version);
        settings.tls = Some(TlsContext::load(&conf, &settings.node, true).unwrap());
    }
    settings
}

async fn erlang_dials(carrier: Carrier) {
    let certificates = Certificates::new();
    let port = free_port();
    let mut agent = Node::start(agent(carrier, port, &certificates));
    let host = carrier.host(2);
    let conf = certificates.of(&host, if let Carrier::Tls(v) = carrier { v } else { "tlsv1.3" });
    let flags = erl_flags(carrier, &conf);
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["-dist_listen", "false"]);
    let name = format!("e@{host}");
    let mut erlang = Erlang::start(&name, "C", port, &flags, &dialler(agent.name.as_str()));
    assert_eq!(erlang.says().await, "pong", "{carrier:?}");
    let (link, peer) = agent.up().await;
    assert_eq!(peer.as_str(), name);
    assert_eq!(agent.frame().await, b"from erlang");
    assert_eq!(agent.mesh.send(link, b"from muster"), SendOutcome::Queued);
    assert_eq!(erlang.says().await, "<<\"from muster\">>");
    // Three tick times later: hidden, and up.
    assert_eq!(erlang.says().await, format!("{{[],['{}']}}", agent.name));
    assert_eq!(erlang.says().await, "pong");
    let (_, closed_by_peer) = agent.down().await;
    assert!(closed_by_peer);
    assert!(agent.metric("frames_ignored_total{cause=\"other_name\"}") >= 1);
    assert_eq!(agent.metric("links"), 0);
}

async fn agent_dials(carrier: Carrier) {
    let certificates = Certificates::new();
    let port = free_port();
    let mut settings = agent(carrier, port, &certificates);
    settings.bind = vec![(IpAddr::from([127, 0, 0, 1]), 0).into()];
    let mut agent = Node::start(settings);
    let host = carrier.host(2);
    let name = format!("e@{host}");
    let conf = certificates.of(&host, if let Carrier::Tls(v) = carrier { v } else { "tlsv1.3" });
    let flags = erl_flags(carrier, &conf);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut erlang = Erlang::start(&name, "C", port, &flags, LISTENER);
    assert_eq!(erlang.says().await, "listening", "{carrier:?}");
    agent.mesh.dial(NodeName::parse(&name).unwrap());
    let (link, peer) = agent.up().await;
    assert_eq!(peer.as_str(), name);
    assert_eq!(agent.mesh.send(link, b"from muster"), SendOutcome::Queued);
    assert_eq!(erlang.says().await, format!("'{}' <<\"from muster\">>", agent.name));
    assert_eq!(agent.frame().await, b"from erlang");
    agent.mesh.close(link, "done");
    assert_eq!(agent.down().await, ("done".to_owned(), false));
    assert_eq!(erlang.says().await, "nodedown");
}

macro_rules! matrix {
    ($($name:ident: $carrier:expr;)*) => {$(
        mod $name {
            use super::*;

            #[tokio::test]
            async fn erlang_dials() {
                if !skip_without(&["erl"]) {
                    super::erlang_dials($carrier).await;
                }
            }

            #[tokio::test]
            async fn agent_dials() {
                if !skip_without(&["erl"]) {
                    super::agent_dials($carrier).await;
                }
            }
        }
    )*};
}

matrix! {
    tcp: Carrier::Tcp;
    tcp6: Carrier::Tcp6;
    tls12: Carrier::Tls("tlsv1.2");
    tls13: Carrier::Tls("tlsv1.3");
}

const PING: &str = "io:format(\"> ~p~n\", [net_adm:ping('agent@127.0.0.1')]), halt().";

#[tokio::test]
async fn a_wrong_cookie_is_pang_and_one_line_with_the_reason() {
    if skip_without(&["erl"]) {
        return;
    }
    let (log, _guard) = Log::capture();
    let agent = Node::start(settings("agent@127.0.0.1", free_port()));
    let flags = ["-dist_listen", "false"];
    let mut erlang = Erlang::start("e@127.0.0.2", "wrong", agent.port, &flags, PING);
    assert_eq!(erlang.says().await, "pang");
    assert!(agent.counted("handshakes_total{direction=\"in\",outcome=\"cookie\"}", 1).await >= 1);
    let warnings = log.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("wrong cookie"), "{warnings:?}");
    assert!(warnings[0].contains("e@127.0.0.2"), "{warnings:?}");
}

#[tokio::test]
async fn an_erlang_listener_refuses_a_wrong_cookie() {
    if skip_without(&["erl"]) {
        return;
    }
    let (log, _guard) = Log::capture();
    let port = free_port();
    let mut agent = Node::start(MeshSettings {
        bind: vec![([127, 0, 0, 1], 0).into()],
        ..settings("agent@127.0.0.1", port)
    });
    let mut erlang = Erlang::start("e@127.0.0.2", "wrong", port, &[], LISTENER);
    assert_eq!(erlang.says().await, "listening");
    agent.mesh.dial(NodeName::parse("e@127.0.0.2").unwrap());
    let error = agent.dial_failed().await;
    let DialError::Rejected(reason) = &error else { panic!("{error:?}") };
    assert!(reason.contains("refused this node's cookie"), "{reason}");
    assert!(log.warnings()[0].contains("e@127.0.0.2"), "{:?}", log.warnings());
    // The same failure again is no news.
    agent.mesh.dial(NodeName::parse("e@127.0.0.2").unwrap());
    agent.dial_failed().await;
    assert_eq!(log.warnings().len(), 1);
}

#[tokio::test]
async fn an_erlang_node_of_a_foreign_ca_is_refused() {
    if skip_without(&["erl"]) {
        return;
    }
    let (log, _guard) = Log::capture();
    let (ours, theirs) = (Certificates::new(), Certificates::new());
    let carrier = Carrier::Tls("tlsv1.3");
    let agent = Node::start(agent(carrier, free_port(), &ours));
    let flags = erl_flags(carrier, &theirs.of("127.0.0.2", "tlsv1.3"));
    let mut flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    flags.extend(["-dist_listen", "false"]);
    let mut erlang = Erlang::start("e@127.0.0.2", "C", agent.port, &flags, PING);
    assert_eq!(erlang.says().await, "pang");
    let refused = "handshakes_total{direction=\"in\",outcome=\"tls_";
    assert!(agent.metrics.render().contains(refused), "{}", agent.metrics.render());
    assert!(!log.warnings().is_empty());
}
