//! The `dns` strategy against a real BIND.

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use muster::config::{Config, DnsDiscovery, RecordType, StrategyConfig};
use muster::discovery::{DiscoveryError, DiscoveryEvent, Dns, Strategy};
use muster::node::NodeName;
use tokio::time::Instant;

use crate::support::bind::Bind;
use crate::support::discovery::{Discovery, config, names};

fn asking(own: &str, name: &str, record_type: RecordType, servers: &[SocketAddr]) -> Config {
    // As the configuration has it where cluster.dns.app is not set.
    let app_name = own.split('@').next().unwrap_or_default().to_owned();
    let dns = DnsDiscovery { name: name.into(), record_type, app_name };
    let mut config = config(own, StrategyConfig::Dns(dns));
    config.agent.discovery.nameservers = servers.to_vec();
    config
}

async fn once(config: &Config) -> Result<Vec<String>, DiscoveryError> {
    let StrategyConfig::Dns(dns) = &config.cluster.strategy else { unreachable!() };
    let servers = &config.agent.discovery.nameservers;
    let answer = Dns::new(dns, &config.node.name, servers).discover().await?;
    Ok(answer.nodes.iter().map(ToString::to_string).collect())
}

/// A socket that takes questions and never answers.
fn silent() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

const OWN: &str = "emqx@127.0.0.1";

#[tokio::test]
async fn every_record_type_names_the_nodes() {
    let Some(mut bind) = Bind::start() else { return };
    bind.set(&[
        "emqx A 10.0.0.1",
        "emqx A 10.0.0.2",
        "emqx AAAA 2001:db8::1",
        "emqx AAAA ::ffff:10.0.0.3",
        "_emqx._tcp SRV 0 5 4370 s1.emqx.io.",
        "_emqx._tcp SRV 9 0 1 S2",
        "alias CNAME emqx",
        "_alias._tcp CNAME _emqx._tcp",
        "_none._tcp SRV 0 0 0 .",
        "far CNAME emqx.elsewhere.test.",
    ]);
    let ask = async |name: &str, record_type| {
        once(&asking(OWN, name, record_type, &[bind.address()])).await
    };
    let a = ["emqx@10.0.0.1", "emqx@10.0.0.2"];
    assert_eq!(ask("emqx.muster.test", RecordType::A).await.unwrap(), a);
    assert_eq!(ask("emqx.muster.test.", RecordType::A).await.unwrap(), a);
    assert_eq!(ask("alias.muster.test", RecordType::A).await.unwrap(), a);
    let aaaa = ["emqx@10.0.0.3", "emqx@2001:db8::1"];
    assert_eq!(ask("emqx.muster.test", RecordType::Aaaa).await.unwrap(), aaaa);
    let srv = ["emqx@s1.emqx.io", "emqx@s2.muster.test"];
    assert_eq!(ask("_emqx._tcp.muster.test", RecordType::Srv).await.unwrap(), srv);
    assert_eq!(ask("_alias._tcp.muster.test", RecordType::Srv).await.unwrap(), srv);
    assert_eq!(ask("_none._tcp.muster.test", RecordType::Srv).await.unwrap(), [""; 0]);
    let error = ask("far.muster.test", RecordType::A).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Denied(_)), "{error:?}");
}

#[tokio::test]
async fn the_own_name_part_is_everybodys() {
    let Some(mut bind) = Bind::start() else { return };
    bind.set(&["emqx A 10.0.0.1"]);
    let config = asking("broker7@10.0.0.9", "emqx.muster.test", RecordType::A, &[bind.address()]);
    assert_eq!(once(&config).await.unwrap(), ["broker7@10.0.0.1"]);
}

#[tokio::test]
async fn eighty_addresses_all_arrive() {
    let Some(mut bind) = Bind::start() else { return };
    let records: Vec<_> = (1..=80).map(|i| format!("many A 10.0.0.{i}")).collect();
    bind.set(&records);
    let config = asking(OWN, "many.muster.test", RecordType::A, &[bind.address()]);
    assert_eq!(once(&config).await.unwrap().len(), 80);
    let records: Vec<_> =
        (0..500).map(|i| format!("many A 10.1.{}.{}", i / 250, i % 250)).collect();
    bind.set(&records);
    assert_eq!(once(&config).await.unwrap().len(), 500);
}

#[tokio::test]
async fn nobody_and_no_answer_stay_apart() {
    let Some(mut bind) = Bind::start() else { return };
    bind.set(&["emqx AAAA 2001:db8::1"]);
    let server = bind.address();
    let ask = async |name: &str, servers: &[SocketAddr]| {
        once(&asking(OWN, name, RecordType::A, servers)).await
    };
    // No such name; no such records.
    assert_eq!(ask("nobody.muster.test.", &[server]).await.unwrap(), [""; 0]);
    assert_eq!(ask("emqx.muster.test.", &[server]).await.unwrap(), [""; 0]);
    // SERVFAIL, REFUSED, silence, nothing listening.
    let error = ask("emqx.broken.test.", &[server]).await.unwrap_err();
    let text = format!("A records of emqx.broken.test.: {server} answered ServFail");
    assert_eq!(error, DiscoveryError::Unreachable(text));
    let error = ask("emqx.io.", &[server]).await.unwrap_err();
    let text = format!("A records of emqx.io.: {server} answered Refused");
    assert_eq!(error, DiscoveryError::Denied(text));
    let (_socket, mute) = silent();
    let start = Instant::now();
    let error = ask("emqx.muster.test.", &[mute]).await.unwrap_err();
    let text = format!("A records of emqx.muster.test.: {mute} did not answer in time");
    assert_eq!(error, DiscoveryError::Unreachable(text));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    bind.stop();
    let error = ask("emqx.muster.test.", &[server]).await.unwrap_err();
    assert!(matches!(error, DiscoveryError::Unreachable(_)), "{error:?}");
}

#[tokio::test]
async fn another_server_answers_for_a_failed_one() {
    let Some(mut bind) = Bind::start() else { return };
    bind.set(&["emqx A 10.0.0.1"]);
    let (_socket, mute) = silent();
    let Some(other) = Bind::start() else { return };
    let config = asking(OWN, "emqx.muster.test", RecordType::A, &[mute, bind.address()]);
    let start = Instant::now();
    assert_eq!(once(&config).await.unwrap(), ["emqx@10.0.0.1"]);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    // A SERVFAIL of the first, a REFUSED of the second: both are named.
    let servers = [other.address(), mute];
    let error = once(&asking(OWN, "x.broken.test.", RecordType::A, &servers)).await.unwrap_err();
    let text = format!(
        "A records of x.broken.test.: {} answered ServFail; {mute} did not answer in time",
        other.address()
    );
    assert_eq!(error, DiscoveryError::Unreachable(text));
}

#[tokio::test]
async fn name_servers_may_have_ipv6_addresses() {
    let Some(mut bind) = Bind::prepare(Ipv6Addr::LOCALHOST.into()) else { return };
    bind.set(&["emqx A 10.0.0.1"]);
    bind.run();
    let config = asking(OWN, "emqx.muster.test", RecordType::A, &[bind.address()]);
    assert_eq!(once(&config).await.unwrap(), ["emqx@10.0.0.1"]);
}

#[tokio::test]
async fn localhost_is_this_host() {
    let ask = async |record_type| once(&asking(OWN, "localhost", record_type, &[])).await.unwrap();
    assert_eq!(ask(RecordType::A).await, ["emqx@127.0.0.1"]);
    assert_eq!(ask(RecordType::Srv).await, [""; 0]);
    let Some(bind) = Bind::start() else { return };
    let config = asking(OWN, "localhost", RecordType::A, &[bind.address()]);
    assert_eq!(once(&config).await.unwrap(), ["emqx@127.0.0.2", "emqx@127.0.0.3"]);
}

#[tokio::test]
async fn a_zone_changed_altogether_is_seen_after_its_time_to_live() {
    let Some(mut bind) = Bind::start() else { return };
    bind.set_with_ttl(&["emqx A 10.0.0.1", "emqx A 10.0.0.2"], 2);
    let config = asking(OWN, "emqx.muster.test", RecordType::A, &[bind.address()]);
    let mut discovery = Discovery::start(&config);
    discovery.finds(&["emqx@10.0.0.1", "emqx@10.0.0.2"]).await;
    let changed = Instant::now();
    bind.set_with_ttl(&["emqx A 10.0.9.1", "emqx A 10.0.9.2"], 60);
    discovery.finds(&["emqx@10.0.9.1", "emqx@10.0.9.2"]).await;
    assert!(changed.elapsed() < Duration::from_secs(4), "{:?}", changed.elapsed());
    // Not asked again within the minute that the records hold now. Time itself is the
    // subject: the old records would have been asked for again after two seconds.
    let asked = discovery.rounds("ok");
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(discovery.rounds("ok"), asked);
    discovery.handle.withdraw_and_stop().await;
}

#[tokio::test]
async fn an_outage_is_an_error_and_its_end_an_answer() {
    let Some(mut bind) = Bind::prepare([127, 0, 0, 1].into()) else { return };
    bind.set(&["emqx A 10.0.0.1"]);
    let mut config = asking(OWN, "emqx.muster.test", RecordType::A, &[bind.address()]);
    config.cluster.core_nodes = vec![NodeName::parse("emqx@10.0.0.99").unwrap()];
    let mut discovery = Discovery::start(&config);
    assert!(matches!(discovery.fails().await, DiscoveryError::Unreachable(_)));
    bind.run();
    discovery.finds(&["emqx@10.0.0.1", "emqx@10.0.0.99"]).await;
    bind.freeze();
    assert!(matches!(discovery.fails().await, DiscoveryError::Unreachable(_)));
    bind.thaw();
    discovery.finds(&["emqx@10.0.0.1", "emqx@10.0.0.99"]).await;
    bind.stop();
    match discovery.until("a failure", |e| matches!(e, DiscoveryEvent::Failed { .. })).await {
        DiscoveryEvent::Failed { nodes, .. } => assert_eq!(nodes, names(&["emqx@10.0.0.99"])),
        answer => panic!("{answer:?}"),
    }
    bind.set(&["emqx A 10.0.0.2"]);
    bind.run();
    discovery.finds(&["emqx@10.0.0.2", "emqx@10.0.0.99"]).await;
}
