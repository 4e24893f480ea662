//! Erlang nodes: each connects to each, observed by `net_kernel:monitor_nodes`.

use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};

use crate::ground::{Ground, Reporter};

/// No epmd: every node listens on the same port of an address of its own.
pub(crate) fn command(ground: &Ground, k: usize) -> Command {
    let port = ground.ports.spare(0).to_string();
    let peers: Vec<_> = (1..=ground.n).map(|peer| format!("'e{peer}@127.0.1.{peer}'")).collect();
    let program = format!(
        "ok = net_kernel:monitor_nodes(true), io:format(\"ready~n\"), \
         [io:format(\"up ~s~n\", [N]) || N <- nodes()], \
         [spawn(fun Try() -> case net_kernel:connect_node(P) of \
             true -> ok; _ -> timer:sleep(50), Try() end end) \
          || P <- [{}], P =/= node()], \
         (fun Tell() -> receive \
             {{nodeup, N}} -> io:format(\"up ~s~n\", [N]), Tell(); \
             {{nodedown, N}} -> io:format(\"down ~s~n\", [N]), Tell() end end)().",
        peers.join(", ")
    );
    let mut command = Command::new("erl");
    command
        .args(["-noinput", "-start_epmd", "false", "-erl_epmd_port", &port])
        .args(["-name", &format!("e{k}@127.0.1.{k}"), "-setcookie", "benchmark-cookie-7Qx3"])
        .args(["-kernel", "inet_dist_use_interface", &format!("{{127,0,1,{k}}}")])
        .args(["-eval", &program])
        .stdout(Stdio::piped());
    command
}

/// Reports what one node prints.
pub(crate) async fn observe(output: ChildStdout, reporter: Reporter) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Some((word, node)) = line.split_once(' ') else { continue };
        let number = node.strip_prefix('e').and_then(|rest| rest.split('@').next());
        if let Some(k) = number.and_then(|number| number.parse().ok()) {
            reporter.report(k, word == "up");
        }
    }
}

/// Waits until the node has a name and runs code.
pub(crate) async fn answers(output: ChildStdout) {
    let mut lines = BufReader::new(output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        if line == "ready" {
            return;
        }
    }
    std::future::pending().await
}
