use serde_json::json;

use super::*;

const EMQX_PATH: &str = "/api/v5/prometheus/stats";

async fn targets(server: &Server, query: &str) -> Value {
    server.get(&format!("/api/v1/sd/prometheus{query}")).await.json()
}

/// The first target's address and path.
async fn place(server: &Server, query: &str) -> (String, Value) {
    let targets = targets(server, query).await;
    let first = &targets[0];
    let address = first["targets"][0].as_str().unwrap().to_owned();
    (address, first["labels"]["__metrics_path__"].clone())
}

/// The fault was that EMQX was scraped where it has no metrics.
#[tokio::test]
async fn prometheus_targets_are_the_members_that_are_up() {
    let mut six = snapshot();
    six.members[1].status = MemberStatus::Up;
    six.members[1].draining = Some("maintenance".into());
    six.members[1].tags.insert("zone", "a \"b\"").unwrap();
    let server = Server::with(config(None), six);
    let labels = |node: &str, draining: &str| {
        json!({
            "__meta_muster_cluster": "emqxcl",
            "__meta_muster_node": node,
            "__meta_muster_role": "core",
            "__meta_muster_status": "up",
            "__meta_muster_draining": draining,
            "__metrics_path__": EMQX_PATH
        })
    };
    let mut tagged = labels("emqx3@::1", "true");
    tagged["__meta_muster_tag_zone"] = "a \"b\"".into();
    assert_eq!(
        targets(&server, "").await,
        json!([
            {"targets": ["[::1]:18083"], "labels": tagged},
            {"targets": ["127.0.0.1:18083"], "labels": labels("emqx@127.0.0.1", "false")}
        ])
    );
    assert_eq!(targets(&server, "?target=broker").await, targets(&server, "").await);
    let ported = targets(&server, "?port=9100&path=/m").await;
    assert_eq!(ported[1]["targets"], json!(["127.0.0.1:9100"]));
    assert_eq!(ported[1]["labels"]["__metrics_path__"], "/m");
}

#[tokio::test]
async fn each_kind_of_broker_has_its_place() {
    let with = |kind, target: &str| {
        let mut config = config(None);
        config.agent.broker.kind = kind;
        config.agent.broker.probe.target = target.to_owned();
        Server::with(config, snapshot())
    };
    let emqx = with(BrokerKind::Emqx, "http://127.0.0.1:18083/status");
    assert_eq!(place(&emqx, "").await, ("127.0.0.1:18083".into(), EMQX_PATH.into()));
    let http = with(BrokerKind::Http, "http://127.0.0.1:8081/health");
    assert_eq!(place(&http, "").await, ("127.0.0.1:8081".into(), Value::Null));
    for kind in [BrokerKind::Tcp, BrokerKind::Mqtt] {
        let mqtt = with(kind, "127.0.0.1:1883");
        mqtt.get("/api/v1/sd/prometheus").await.assert_error(400, "BAD_REQUEST");
        assert_eq!(place(&mqtt, "?port=9234").await, ("127.0.0.1:9234".into(), Value::Null));
    }
}

#[tokio::test]
async fn agents_are_found_where_this_one_is() {
    let with = |listen: &str, health: Option<&str>| {
        let mut config = config(None);
        config.node.name = node("emqx2@127.0.0.1");
        // Served elsewhere; what counts is what is configured.
        let server = config.agent.api.clone();
        config.agent.api.listen = ApiListen::Tcp(listen.parse().unwrap());
        config.agent.health.listen = health.map(|health| health.parse().unwrap());
        let mut up = snapshot();
        up.members[0].status = MemberStatus::Up;
        Server::bound(&server, config, up)
    };
    let addresses = async |server: &Server, query: &str| {
        let targets = targets(server, query).await;
        let targets = targets.as_array().unwrap().iter();
        targets.map(|group| group["targets"][0].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let by_offset = with("127.0.0.1:7372", None);
    let wanted = ["127.0.0.1:7372", "127.0.0.1:7370"];
    assert_eq!(addresses(&by_offset, "?target=agent").await, wanted);
    assert_eq!(place(&by_offset, "?target=agent").await.1, Value::Null);
    let same = with("127.0.0.1:8000", None);
    let wanted = ["127.0.0.1:8000", "127.0.0.1:8000"];
    assert_eq!(addresses(&same, "?target=agent").await, wanted);
    let health = with("127.0.0.1:8000", Some("127.0.0.1:9000"));
    let wanted = ["127.0.0.1:9000", "127.0.0.1:9000"];
    assert_eq!(addresses(&health, "?target=agent").await, wanted);
    let wanted = ["127.0.0.1:1", "127.0.0.1:1"];
    assert_eq!(addresses(&health, "?target=agent&port=1").await, wanted);
}

/// The fault was that `?port=2147483646` was refused and its refusal in no document.
#[tokio::test]
async fn what_makes_no_target_is_refused() {
    let server = Server::start();
    let long = format!("?path=/{}", "x".repeat(256));
    for query in [
        "?port=2147483646",
        "?port=65536",
        "?port=0",
        "?port=-1",
        "?port=x",
        "?target=both",
        "?target=",
        "?path=metrics",
        "?path=",
        "?path=/a%20b",
        "?path=/%0A",
        "?more=1",
        &long,
    ] {
        let answer = server.get(&format!("/api/v1/sd/prometheus{query}")).await;
        answer.assert_error(400, "BAD_REQUEST");
    }
}
