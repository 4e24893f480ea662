//! What reacts to the membership: the broker next door, files, hooks, DNS.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use hickory_resolver::proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::super::client::Client;
use super::finding::Finding;
use crate::api::BrokerState;
use crate::attributes::BrokerStatus;
use crate::config::{BrokerKind, Config};

/// The agent answers DNS queries at once, or not at all.
const DNS_TIMEOUT: Duration = Duration::from_secs(3);

/// Notices of what does not work. The others are of what did not work once, as a hook.
pub(super) fn fails(notice: &str) -> bool {
    let kind = notice.split(' ').next().unwrap_or_default();
    matches!(
        kind,
        "broker"
            | "broker_link"
            | "broker_view"
            | "broker_drive"
            | "render"
            | "crashed"
            | "followers"
            | "nameservers"
            | "dns_udp"
            | "dns_tcp"
            | "dns_answer"
    )
}

/// What the agent says of its broker. That it is down, other checks and notices say.
pub(super) async fn broker(config: &Config, client: &Client) -> Option<Finding> {
    if config.agent.broker.kind == BrokerKind::None {
        return None;
    }
    // An agent that does not answer is a finding already.
    let state: BrokerState = client.get("/api/v1/broker").await.ok()?;
    let at = state.address.as_deref().unwrap_or("an unknown address");
    match state.status {
        BrokerStatus::Up => {
            let joined = match &state.cluster {
                None => String::new(),
                Some(cluster) if cluster.agrees => {
                    format!(", and sees the {} brokers that are up", cluster.running_nodes.len())
                }
                Some(_) => ", and sees other brokers than the agents do".to_owned(),
            };
            Some(Finding::ok("broker", format!("{at} is up{joined}")))
        }
        BrokerStatus::Unknown => {
            let remedy = "wait some seconds, or reload the agent";
            Some(Finding::warn("broker", format!("{at} was not probed yet"), remedy))
        }
        BrokerStatus::Down => None,
    }
}

/// Whether the agent's name server answers, asked from here.
pub(super) async fn dns(config: &Config) -> Option<Finding> {
    let dns = config.agent.dns.as_ref()?;
    let listen = match dns.listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    let server = SocketAddr::new(listen, dns.listen.port());
    let asked = timeout(DNS_TIMEOUT, ask(server, &dns.domain)).await;
    Some(match asked.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
        Ok(ResponseCode::NoError) => Finding::ok("dns", format!("{server} answers")),
        Ok(ResponseCode::ServFail) => {
            let message = format!("{server} answers SERVFAIL");
            let remedy = "it does so while this node forms its cluster, or has left it";
            Finding::warn("dns", message, remedy)
        }
        Ok(code) => {
            let message = format!("{server} answers {code} for {}", dns.domain);
            Finding::fail("dns", message, "another name server has the port: see agent.dns.listen")
        }
        Err(why) => {
            let message = format!("{server} does not answer: {why}");
            Finding::fail("dns", message, "restart the agent, which listens there only then")
        }
    })
}

/// Asks a name server for the start of authority of a domain.
async fn ask(server: SocketAddr, domain: &str) -> Result<ResponseCode, String> {
    let mut query = Message::new(rand::random(), MessageType::Query, OpCode::Query);
    let mut name = Name::from_ascii(domain).map_err(|error| error.to_string())?;
    name.set_fqdn(true);
    query.add_query(Query::query(name, RecordType::SOA));
    let bytes = query.to_vec().map_err(|error| error.to_string())?;
    let exchange = async {
        let any: IpAddr = match server {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&bytes).await?;
        let mut buffer = [0; 1232];
        let length = socket.recv(&mut buffer).await?;
        std::io::Result::Ok(buffer[..length].to_vec())
    };
    let answer = exchange.await.map_err(|error| error.to_string())?;
    let answer = Message::from_vec(&answer).map_err(|error| error.to_string())?;
    if answer.id == query.id { Ok(answer.response_code) } else { Err("no answer of its".into()) }
}
