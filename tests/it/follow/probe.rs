//! The probe of the broker, against brokers.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::agent::{Agent, Ground, Spec};
use crate::support::brokers::Broker;
use crate::support::http::{Answer, request};
use crate::support::programs::{node_modules, python_tool, skip_without};
use crate::support::wait::{LONG, eventually};

/// An agent that probes four times a second.
fn agent(ground: &std::sync::Arc<Ground>, port: u16, broker: &str) -> Agent {
    Spec::new(ground, 1)
        .line(&format!("listeners.tcp.default.bind = \"127.0.0.1:{port}\""))
        .line(&format!(
            "agent.broker {{ {broker}, probe {{ interval = 250ms, timeout = 250ms }} }}"
        ))
        .start()
}

#[track_caller]
fn wait_broker(agent: &Agent, status: &str) -> Value {
    eventually(&format!("the broker to be {status}"), LONG, || {
        let broker = agent.get("/api/v1/broker");
        (broker["status"] == status).then_some(broker)
    })
}

/// Up, frozen, killed, up again: the probe sees each, and so do the member's readers.
fn seen_through_its_lives(start: impl Fn(&Path, u16) -> Broker) {
    let ground = Ground::new(1);
    let port = ground.ports.spare(0);
    let agent = agent(&ground, port, "kind = mqtt, required = true");
    let down = wait_broker(&agent, "down");
    assert_eq!(down["kind"], "mqtt");
    assert_eq!(down["address"], format!("127.0.0.1:{port}"));
    assert!(down["detail"].as_str().unwrap().to_lowercase().contains("refused"), "{down}");
    let ready =
        |agent: &Agent| -> Answer { request(agent.api(), "GET", "/readyz", &[], None).unwrap() };
    assert_eq!(ready(&agent).status, 503);
    assert!(ready(&agent).body.contains("\"broker\""));
    let mut broker = start(ground.directory.path(), port);
    wait_broker(&agent, "up");
    eventually("to be ready", LONG, || (ready(&agent).status == 200).then_some(()));
    let member = agent.get(&format!("/api/v1/members/{}", agent.name()));
    assert_eq!(member["broker"]["status"], "up");
    assert_eq!(member["broker"]["address"], format!("127.0.0.1:{port}"));
    assert_eq!(agent.metric("muster_broker_up"), 1);
    broker.freeze();
    let frozen = wait_broker(&agent, "down");
    assert!(frozen["detail"].as_str().unwrap().contains("no answer"), "{frozen}");
    broker.kill9();
    wait_broker(&agent, "down");
    eventually("not to be ready", LONG, || (ready(&agent).status == 503).then_some(()));
    broker.start();
    wait_broker(&agent, "up");
    assert!(!broker.log().contains("rotocol error"), "{}", broker.log());
}

#[test]
fn mosquitto() {
    if !skip_without(&["mosquitto"]) {
        seen_through_its_lives(Broker::mosquitto);
    }
}

#[test]
fn amqtt() {
    let Some(program) = python_tool("amqtt") else { return };
    seen_through_its_lives(|home, port| Broker::amqtt(&program, home, port));
}

#[test]
fn aedes() {
    if skip_without(&["node"]) {
        return;
    }
    let Some(modules) = node_modules("brokers") else { return };
    seen_through_its_lives(|home, port| Broker::aedes(&modules.join("aedes"), home, port));
}

#[test]
fn no_broker_is_none() {
    let ground = Ground::new(1);
    let agent = Spec::new(&ground, 1).start();
    let broker = agent.get("/api/v1/broker");
    assert_eq!(broker["kind"], "none");
    assert_eq!(broker["address"], Value::Null);
    assert_eq!(agent.get(&format!("/api/v1/members/{}", agent.name()))["broker"], Value::Null);
}

#[test]
fn tags_and_drain_are_seen_by_everybody() {
    let ground = Ground::new(2);
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let mut one =
        Spec::new(&ground, 1).seeds(&seeds).line("agent.tags { zone = a, id = \"1\" }").start();
    let two = Spec::new(&ground, 2).seeds(&seeds).start();
    let seen = |what: &str, holds: &dyn Fn(&Value) -> bool| {
        eventually(what, LONG, || {
            let answer = two.request("GET", "/api/v1/members/emqx1@127.0.0.1", None).ok()?;
            (answer.status == 200 && holds(&answer.json())).then_some(())
        });
    };
    seen("the tags", &|member| member["tags"] == json!({"id": "1", "zone": "a"}));
    one.configure("agent.tags { zone = b }");
    assert_eq!(one.post("/api/v1/reload", &json!({})).status, 200);
    seen("the changed tags", &|member| member["tags"] == json!({"id": "1", "zone": "b"}));
    let drained = one.put("/api/v1/node/drain", &json!({"reason": "kernel"}));
    assert_eq!(drained.status, 200, "{}", drained.body);
    assert_eq!(drained.json()["draining"], true);
    seen("the drain", &|member| member["draining"] == true);
    assert_eq!(one.request("GET", "/readyz", None).unwrap().status, 503);
    // It outlasts a restart.
    one.term();
    one.wait_exit();
    one.start_again();
    one.wait_api();
    seen("the drain after a restart", &|member| {
        member["status"] == "up" && member["draining"] == true
    });
    assert_eq!(one.delete("/api/v1/node/drain").status, 204);
    seen("its end", &|member| member["draining"] == false);
    let ready = || one.request("GET", "/readyz", None).unwrap().status;
    eventually("to be ready", Duration::from_secs(10), || (ready() == 200).then_some(()));
}
