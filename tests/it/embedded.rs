//! The agent without its process: built from a configuration and listeners in here.

use std::net::SocketAddr;
use std::sync::Arc;

use muster::agent::{self, Listeners, Surroundings, Wish};
use muster::api;
use muster::config::{self, ApiListen};
use muster::mesh::Listening;
use tokio::sync::mpsc;

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
    let read = move || config::load(std::slice::from_ref(&file), []);
    let mut loaded = read().unwrap();
    loaded.config.agent.api.listen = "127.0.0.1:0".parse().map(ApiListen::Tcp).unwrap();

    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().unwrap();
    let guard = runtime.enter();
    let listeners = Listeners {
        mesh: Listening::bind(&[SocketAddr::from(([127, 0, 0, 1], 0))]).unwrap(),
        api: api::Listener::bind(&loaded.config.agent.api).unwrap(),
        health: None,
        dns: None,
    };
    let surroundings = Surroundings {
        metrics: Arc::default(),
        read: Arc::new(read),
        set_log_level: Box::new(|_| {}),
    };
    let agent = agent::build(loaded, None, listeners, surroundings).unwrap();
    let ApiListen::Tcp(address) = agent.api().clone() else { panic!("no TCP address") };
    let (tell, mut told) = mpsc::channel(2);
    let handle = runtime.handle().clone();
    let running = std::thread::spawn(move || {
        handle.block_on(agent.run(async || told.recv().await.unwrap_or(Wish::Stop)))
    });
    drop(guard);
    eventually("the agent to be ready", LONG, || {
        let answer = http::request(address, "GET", "/readyz", &[], None).ok()?;
        (answer.status == 200).then_some(())
    });
    tell.blocking_send(Wish::Reload).unwrap();
    tell.blocking_send(Wish::Stop).unwrap();
    eventually("the agent to end", LONG, || running.is_finished().then_some(()));
    running.join().unwrap().unwrap();
    assert!(http::request(address, "GET", "/livez", &[], None).is_err());
}
