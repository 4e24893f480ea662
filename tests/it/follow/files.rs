//! Rendered files, and the repository's templates against the programs they are for.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::{script, template};
use crate::support::agent::{Agent, Ground, Spec};
use crate::support::brokers::Broker;
use crate::support::programs::skip_without;
use crate::support::wait::{LONG, eventually};

/// Renders at once.
const FAST: &str = "wait { min = 50ms, max = 100ms }";

/// Starts two agents with one more member each template can show, and waits for the file.
fn rendered(ground: &Arc<Ground>, name: &str, more: &str) -> (Vec<Agent>, String) {
    let (source, _) = template(ground.directory.path(), name);
    let target = ground.directory.path().join("target");
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let agents: Vec<_> = (1..=2)
        .map(|k| {
            let port = ground.ports.spare(k);
            let spec = Spec::new(ground, k)
                .seeds(&seeds)
                .line(&format!("agent.tags {{ id = \"{k}\" }}"))
                .line(&format!(
                    "agent.broker {{ kind = tcp, address = \"127.0.0.1:{port}\", probe {{ \
                     fall = 100 }} }}"
                ));
            match k {
                1 => spec.line(&format!(
                    "agent.render = [{{ source = {source:?}, target = {target:?}, {FAST} {more} }}]"
                )),
                _ => spec,
            }
            .start()
        })
        .collect();
    let text = eventually("both members in the file", LONG, || {
        let text = std::fs::read_to_string(&target).ok()?;
        let both = [1, 2].iter().all(|&k| {
            text.contains(&format!(":{}", ground.ports.spare(k)))
                || text.contains(&format!("\"{k}@127.0.0.1"))
                || text.contains("sites/emqx2/#")
        });
        both.then_some(text)
    });
    (agents, text)
}

#[test]
fn haproxy() {
    if skip_without(&["haproxy"]) {
        return;
    }
    let ground = Ground::new(2);
    let (_agents, text) =
        rendered(&ground, "haproxy.cfg.j2", ", check = [haproxy, \"-c\", \"-f\", \"{file}\"]");
    assert!(
        text.contains(&format!("server emqx1-127.0.0.1 127.0.0.1:{}\n", ground.ports.spare(1)))
    );
}

#[test]
fn nginx() {
    if skip_without(&["nginx"]) {
        return;
    }
    let ground = Ground::new(2);
    let home = ground.directory.path();
    let modules = "/usr/lib/nginx/modules/ngx_stream_module.so";
    let module = match Path::new(modules).exists() {
        true => format!("load_module {modules};"),
        false => String::new(),
    };
    let judge = script(
        home,
        "judge",
        &format!(
            "printf '%s\\n' '{module}' 'pid {0}/pid; error_log stderr; events {{}}' \
             \"include $1;\" > {0}/nginx.conf && exec nginx -t -p {0} -c {0}/nginx.conf",
            home.display()
        ),
    );
    let check = format!(", check = [{judge:?}, \"{{file}}\"]");
    let (_agents, text) = rendered(&ground, "nginx-stream.conf.j2", &check);
    assert!(text.contains("proxy_pass mqtt;"));
}

#[test]
fn mosquitto_bridges_carry_what_others_publish() {
    if skip_without(&["mosquitto", "mosquitto_sub"]) {
        return;
    }
    let ground = Ground::new(2);
    let (_agents, text) = rendered(&ground, "mosquitto-bridge.conf.j2", "");
    assert!(!text.contains("connection emqx1"), "no bridge to itself:\n{text}");
    let home = ground.directory.path();
    let remote = Broker::mosquitto(home, ground.ports.spare(2));
    // The local one reads the file as a part of its configuration.
    let port = ground.ports.spare(1);
    let included = home.join("conf.d");
    std::fs::create_dir(&included).unwrap();
    std::fs::write(included.join("bridges.conf"), &text).unwrap();
    let mut local = Broker::mosquitto(home, port);
    local.kill9();
    local.append(&format!("include_dir {}\n", included.display()));
    local.start();
    // Retained, so that it waits for whoever subscribes late.
    let publish = |at: &Broker| {
        let status = Command::new("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &at.address().port().to_string()])
            .args(["-t", "sites/emqx2/x", "-m", "hello", "-r"])
            .status();
        assert!(status.unwrap().success());
    };
    publish(&remote);
    let got = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-t", "sites/#", "-C", "1", "-W", "20"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&got.stdout), "hello\n", "{}", local.log());
}

#[test]
fn nanomq() {
    let ground = Ground::new(2);
    let (_agents, text) = rendered(&ground, "nanomq.conf.j2", "");
    let server = format!("server = \"mqtt-tcp://127.0.0.1:{}\"", ground.ports.spare(2));
    assert!(text.contains(&server), "{text}");
    assert!(!text.contains("bridges.mqtt.emqx1"), "no bridge to itself:\n{text}");
    // NanoMQ reads HOCON, and ignores what it does not know as muster does.
    let base = ground.directory.path().join("base.conf");
    std::fs::write(&base, "node { name = \"emqx@127.0.0.1\", cookie = \"of-the-tests-alone\" }")
        .unwrap();
    let loaded = muster::config::load(&[base, ground.directory.path().join("target")], []);
    assert!(loaded.is_ok(), "{text}");
}

#[test]
fn flashmq() {
    let ground = Ground::new(2);
    let (_agents, text) = rendered(&ground, "flashmq.conf.j2", "");
    let blocks: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let port = format!("    port {}", ground.ports.spare(2));
    assert_eq!(
        blocks,
        [
            "bridge {",
            "    address 127.0.0.1",
            &port,
            "    clientid_prefix emqx1",
            "    subscribe sites/emqx2/# 1",
            "}"
        ],
        "{text}"
    );
}

#[test]
fn rmqtt_peers_are_toml() {
    if skip_without(&["python3"]) {
        return;
    }
    let ground = Ground::new(2);
    let (_agents, text) = rendered(&ground, "rmqtt-cluster-raft.toml.j2", "");
    let file = ground.directory.path().join("target");
    let program = "import sys, tomllib; t = tomllib.load(open(sys.argv[1], 'rb')); \
                   print(t['node_grpc_addrs'], t['raft_peer_addrs'])";
    let printed = Command::new("python3").args(["-c", program]).arg(file).output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&printed.stdout).trim(),
        "['1@127.0.0.1:5363', '2@127.0.0.1:5363'] ['1@127.0.0.1:6003', '2@127.0.0.1:6003']",
        "{text}"
    );
}
