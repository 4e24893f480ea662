//! serf agents with the LAN profile, observed by their log.
//!
//! The event stream of serf's RPC interface holds news back for a second and more,
//! to tell several at once; the log has each at once.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio::time::sleep;

use crate::ground::{Ground, Reporter};
use crate::muster::connect;

/// Every agent is told to join all of them, as muster's seeds are: of the ways to
/// start serf agents at once this is the fastest.
pub(crate) fn command(ground: &Ground, k: usize) -> Command {
    let mut command = Command::new("serf");
    command
        .args(["agent", "-profile=lan", "-log-level=info", "-retry-interval=1s"])
        .arg(format!("-node=n{k}"))
        .arg(format!("-bind={}", ground.mesh(k)))
        .arg(format!("-rpc-addr={}", ground.api(k)))
        .args((1..=ground.n).map(|peer| format!("-retry-join={}", ground.mesh(peer))))
        .stdout(Stdio::piped());
    command
}

/// Reports what one agent logs of its members.
pub(crate) async fn observe(output: ChildStdout, reporter: Reporter) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((_, event)) = line.split_once("serf: EventMember") else { continue };
        let Some((kind, rest)) = event.split_once(": n") else { continue };
        if let Some(k) = rest.split(' ').next().and_then(|number| number.parse().ok()) {
            match kind {
                "Join" => reporter.report(k, true),
                "Failed" | "Leave" => reporter.report(k, false),
                _ => {}
            }
        }
    }
}

/// Waits until the RPC interface answers.
pub(crate) async fn answers(api: SocketAddr) {
    while greet(api).await.is_err() {
        sleep(Duration::from_millis(1)).await;
    }
}

async fn greet(api: SocketAddr) -> io::Result<()> {
    // MessagePack: {"Command": "handshake", "Seq": 0} and {"Version": 1}.
    const HANDSHAKE: &[u8] = b"\x82\xa7Command\xa9handshake\xa3Seq\x00\x81\xa7Version\x01";
    let mut stream = connect(api, Duration::from_millis(1)).await;
    stream.write_all(HANDSHAKE).await?;
    stream.read_u8().await.map(|_| ())
}
