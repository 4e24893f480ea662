//! Whether the peers' mesh ports can be reached from here.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::Finding;
use crate::api::{Cluster, Members};
use crate::config::{Config, StrategyConfig};
use crate::mesh::tls::TlsContext;
use crate::node::NodeName;
use crate::resolve::Resolver;
use crate::view::MemberStatus;

/// To connect, and again for a TLS handshake.
const DIAL_TIMEOUT: Duration = Duration::from_secs(3);

/// Dials at one time: a cluster of hundreds must not exhaust the file descriptors.
const AT_ONCE: usize = 32;

/// Dials everybody who is a member, a seed, or was discovered.
pub(super) async fn look(
    config: &Config,
    tls: Option<&TlsContext>,
    seen: Option<&(Cluster, Members)>,
) -> Vec<Finding> {
    if matches!(config.cluster.strategy, StrategyConfig::Singleton) {
        return vec![Finding::ok("peer", "singleton has none")];
    }
    let resolver = match Resolver::new(&config.agent.discovery.nameservers) {
        Ok(resolver) => resolver,
        Err(error) => {
            let remedy = "mend agent.discovery.dns.nameservers";
            return vec![Finding::fail("peer", error, remedy)];
        }
    };
    let mut up = BTreeSet::new();
    let mut peers: BTreeSet<NodeName> = config.cluster.core_nodes.iter().cloned().collect();
    if let StrategyConfig::Static { seeds } = &config.cluster.strategy {
        peers.extend(seeds.iter().cloned());
    }
    if let Some((cluster, members)) = seen {
        let parse = |name: &String| NodeName::parse(name).ok();
        peers.extend(cluster.discovery.nodes.iter().filter_map(parse));
        peers.extend(members.members.iter().filter_map(|member| parse(&member.node)));
        let alive = members.members.iter().filter(|member| member.status != MemberStatus::Down);
        up.extend(alive.filter_map(|member| parse(&member.node)));
    }
    peers.remove(&config.node.name);
    if peers.is_empty() {
        return vec![Finding::ok("peer", "none is known")];
    }
    let peers: Vec<_> = peers.into_iter().collect();
    let mut findings = Vec::new();
    for some in peers.chunks(AT_ONCE) {
        findings.extend(
            join_all(some.iter().map(|peer| dial(config, tls, &resolver, peer, &up))).await,
        );
    }
    findings
}

async fn dial(
    config: &Config,
    tls: Option<&TlsContext>,
    resolver: &Resolver,
    peer: &NodeName,
    up: &BTreeSet<NodeName>,
) -> Finding {
    match reach(config, tls, resolver, peer).await {
        Ok(how) => Finding::ok("peer", format!("{peer}: {how}")),
        Err((message, remedy)) if up.contains(peer) => {
            Finding::fail("peer", format!("{peer}, which is up: {message}"), remedy)
        }
        Err((message, remedy)) => Finding::warn("peer", format!("{peer}: {message}"), remedy),
    }
}

/// How it was reached, or why not and what to do.
async fn reach(
    config: &Config,
    tls: Option<&TlsContext>,
    resolver: &Resolver,
    peer: &NodeName,
) -> Result<String, (String, String)> {
    let Some(port) = config.agent.mesh.port_of(peer) else {
        return Err(("its mesh port would be beyond 65535".into(), "rename it".into()));
    };
    let ipv6 = config.cluster.proto_dist.is_ipv6();
    let addresses = match timeout(DIAL_TIMEOUT, resolver.resolve(peer, ipv6)).await {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => return Err((error.to_string(), "mend the name or its record".into())),
        Err(_) => return Err(("its host's look-up takes too long".into(), "check DNS".into())),
    };
    let began = Instant::now();
    let mut failure = (String::from("it has no address"), String::from("mend its record"));
    for address in addresses.into_iter().map(|ip| SocketAddr::new(ip, port)) {
        let stream = match timeout(DIAL_TIMEOUT, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                let message = format!("nothing listens on {address}");
                failure = (message, "start its agent, and check base_port is the same".into());
                continue;
            }
            Ok(Err(error)) => {
                failure = (format!("{address}: {error}"), "check routes and firewall".into());
                continue;
            }
            Err(_) => {
                let message = format!("{address} does not answer");
                failure = (message, format!("open TCP port {port} in the firewall"));
                continue;
            }
        };
        let took = began.elapsed().as_secs_f64() * 1_000.0;
        let Some(tls) = tls else { return Ok(format!("reached at {address} in {took:.1} ms")) };
        match timeout(DIAL_TIMEOUT, tls.connect(peer, stream)).await {
            Ok(Ok(_)) => return Ok(format!("reached over TLS at {address} in {took:.1} ms")),
            Ok(Err(error)) => {
                let remedy = "mend the certificates at the one end or the other";
                failure = (format!("{address}: {error}"), remedy.into());
            }
            Err(_) => {
                let message = format!("{address} does not finish the TLS handshake");
                failure = (message, "check that it uses cluster.proto_dist = inet_tls too".into());
            }
        }
    }
    Err(failure)
}
