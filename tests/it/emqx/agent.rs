//! Whole agents beside Erlang nodes: what their API shows of the brokers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::process::Command;

use serde_json::json;

use crate::support::agent::{Agent, Ground, Spec};
use crate::support::broker::Site;
use crate::support::programs::skip_without;
use crate::support::wait::{LONG, eventually};

/// A server that answers every request as EMQX's `/status` does when all is well.
fn status() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/status", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _request = stream.read(&mut [0; 4096]);
            let _answered = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
    });
    url
}

#[tokio::test]
async fn agents_make_their_brokers_one_cluster_and_show_it() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let ground = Ground::new(2);
    let site = Site::on(ground.ports.spare(0)).await;
    let names = [2, 3].map(|host| site.name(host));
    let _brokers = [site.broker(2).await, site.broker(3).await];
    let url = status();
    let mut agents: Vec<Agent> = names
        .iter()
        .zip([1, 2])
        .map(|(name, k)| {
            Spec::named(&ground, k, name)
                .seeds(&names)
                .line("node.cookie = C")
                .line(&format!("agent.mesh.bind = \"127.0.0.{}\"", k + 1))
                .line(&format!(
                    "agent.broker {{ kind = emqx, drive = true, probe {{ target = {url:?}, \
                     interval = 500ms, timeout = 500ms }} }}"
                ))
                .spawn()
        })
        .collect();
    for agent in &mut agents {
        agent.wait_api();
    }
    for agent in &agents {
        let broker = eventually("one cluster of brokers", LONG, || {
            let broker = agent.get("/api/v1/broker");
            (broker["cluster"]["running_nodes"] == json!(names)
                && broker["drive"]["state"] == "joined")
                .then_some(broker)
        });
        assert_eq!((&broker["kind"], &broker["status"]), (&json!("emqx"), &json!("up")));
        let cluster = &broker["cluster"];
        assert_eq!(cluster["agrees"], true, "{broker}");
        assert_eq!([&cluster["missing"], &cluster["extra"]], [&json!([]), &json!([])]);
        assert_eq!(
            broker["drive"],
            json!({"enabled": true, "state": "joined", "last_error": null})
        );
        assert_eq!(agent.metric("muster_broker_view_agrees"), 1);
    }
    site.assert_one_at_a_time();
    assert_eq!(site.begun(), names[1..]);
    let doctor = Command::new(env!("CARGO_BIN_EXE_muster"))
        .args(["doctor", "-c"])
        .arg(agents[0].config_path())
        .output()
        .unwrap();
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    assert!(doctor.contains("and sees the 2 brokers that are up"), "{doctor}");
}
