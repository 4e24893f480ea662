//! Whole agents beside Erlang nodes: what their API shows of the brokers.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::Arc;

use serde_json::json;

use crate::support::agent::{Agent, Ground, Spec};
use crate::support::broker::Site;
use crate::support::programs::skip_without;
use crate::support::told::{TOLD, doctor, told, wait_notice};
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

/// Agent `k` beside the broker on host `k + 1`.
fn beside(ground: &Arc<Ground>, k: u16, site: &Site, status: &str, drive: bool) -> Spec {
    let host = u8::try_from(k + 1).unwrap();
    Spec::named(ground, k, &site.name(host))
        .line("node.cookie = C")
        .line(&format!("agent.mesh.bind = \"127.0.0.{host}\""))
        .line(&format!(
            "agent.broker {{ kind = emqx, drive = {drive}, probe {{ target = {status:?}, interval \
             = 500ms, timeout = 500ms }} }}"
        ))
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
    let mut agents: Vec<Agent> = [1, 2]
        .map(|k| beside(&ground, k, &site, &url, true).seeds(&names).spawn())
        .into_iter()
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
    let doctor = doctor(&agents[0]);
    assert!(doctor.contains("and sees the 2 brokers that are up"), "{doctor}");
}

/// Three agents that know nothing of each other. Half a minute, which brokers have to heal a
/// view by themselves before anybody is told that it differs.
#[tokio::test]
async fn what_is_wrong_with_a_broker_s_cluster_is_told() {
    if skip_without(&["erl", "erlc"]) {
        return;
    }
    let ground = Ground::new(3);
    let site = Site::on(ground.ports.spare(0)).await;
    let mut static_one = site.broker(3).await;
    static_one.set("env", "{ok, {static, [{seeds, []}]}}").await;
    let mut with_stranger = site.broker(4).await;
    let own = site.name(4);
    with_stranger.set("running", &format!("['{own}', 'emqx@127.0.0.98']")).await;
    let url = status();
    let start = |k, drive| beside(&ground, k, &site, &url, drive).start();
    // Nothing is the first one's node.
    let agents = [start(1, false), start(2, true), start(3, false)];
    let checks = ["broker_link", "broker_drive", "broker_view"];
    let stand = |there| {
        for (agent, check) in agents.iter().zip(checks) {
            wait_notice(agent, check, there);
        }
    };
    stand(true);
    for (agent, check) in agents.iter().zip(checks) {
        let findings = doctor(agent);
        assert_eq!(told(agent, check, &findings), TOLD, "{check}\n{findings}\n{}", agent.logs());
    }
    assert_eq!(agents[2].metric("muster_broker_view_agrees"), 0);
    // What is mended is over.
    let _broker = site.broker(2).await;
    static_one.set("env", "{ok, {manual, []}}").await;
    static_one.kill().await;
    let _broker = site.broker(3).await;
    with_stranger.set("running", &format!("['{own}']")).await;
    stand(false);
}
