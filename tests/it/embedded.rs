//! The agent without its process: built from a configuration and listeners in here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use muster::agent::{self, Listeners};
use muster::api;
use muster::config::{self, ApiListen};
use muster::mesh::Listening;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::http;
use crate::support::wait::{LONG, eventually};

#[test]
fn it_is_built_on_listeners_that_it_is_handed_and_stops_when_told() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("emqx.conf");
    let data = directory.path().join("data").display().to_string();
    let text = format!(
        "node {{ name = \"emqx@127.0.0.1\", cookie = \"a-cookie-of-the-tests-12345\" }}\n\
         node.data_dir = {data:?}\ncluster.discovery_strategy = static\n"
    );
    std::fs::write(&file, text).unwrap();
    let mut config = config::load(&[file], []).unwrap().config;
    config.agent.api.listen = "127.0.0.1:0".parse().map(ApiListen::Tcp).unwrap();

    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let guard = runtime.enter();
    let listeners = Listeners {
        mesh: Listening::bind(&[SocketAddr::from(([127, 0, 0, 1], 0))]).unwrap(),
        api: api::Listener::bind(&config.agent.api).unwrap(),
        health: None,
    };
    let agent = agent::build(config, None, listeners, Arc::default()).unwrap();
    let ApiListen::Tcp(address) = agent.api().clone() else { panic!("no TCP address") };
    let (stop, stopped) = oneshot::channel::<()>();
    let running = runtime.spawn(agent.run(async { drop(stopped.await) }));
    drop(guard);
    eventually("the agent to be ready", LONG, || {
        let answer = http::request(address, "GET", "/readyz", &[], None).ok()?;
        (answer.status == 200).then_some(())
    });
    drop(stop);
    let ended = runtime.block_on(timeout(Duration::from_secs(5), running)).expect("an end in time");
    ended.unwrap().unwrap();
    assert!(http::request(address, "GET", "/livez", &[], None).is_err());
}
