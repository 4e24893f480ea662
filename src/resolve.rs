//! From a node name's host to addresses, anew each time it is asked.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::Arc;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{RData, RecordType};
use tokio::sync::Semaphore;

use crate::node::{Host, NodeName};

/// Most system look-ups at one time: each holds a thread for as long as the system
/// waits for its name servers, and the runtime has few threads that may wait.
const SYSTEM_LOOKUPS: usize = 2;

/// Why a host has no address for us.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResolveError {
    /// A literal of the other family: an operator's mistake.
    #[error("{address} is no {family} address, which cluster.proto_dist asks for")]
    Family {
        /// The literal.
        address: IpAddr,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The name is unknown, or has no address of the family.
    #[error("{host} does not resolve to an {family} address")]
    Nothing {
        /// The name.
        host: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The name servers or the system could not say.
    #[error("{host} could not be looked up: {reason}")]
    Failed {
        /// The name.
        host: String,
        /// Why.
        reason: String,
    },
}

/// Finds addresses. Nothing is remembered: a name may mean another address at the
/// next attempt, and a cache that outlives a move keeps a node out.
pub struct Resolver {
    /// `agent.discovery.dns.nameservers`, where set.
    servers: Option<TokioResolver>,
    system: Arc<Semaphore>,
}

impl std::fmt::Debug for Resolver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Resolver").field("own_servers", &self.servers.is_some()).finish()
    }
}

impl Resolver {
    /// Asks these name servers first, and the system (its hosts file, its name
    /// servers) for what they do not know; with none, the system alone.
    ///
    /// # Errors
    /// The name servers can't be used, in words.
    pub fn new(nameservers: &[SocketAddr]) -> Result<Self, String> {
        let servers = if nameservers.is_empty() { None } else { Some(build(nameservers)?) };
        Ok(Self { servers, system: Arc::new(Semaphore::new(SYSTEM_LOOKUPS)) })
    }

    /// The addresses of a node's host, of one family, never none.
    ///
    /// Cancel-safe; a dropped system look-up ends in the background.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve(&self, node: &NodeName, ipv6: bool) -> Result<Vec<IpAddr>, ResolveError> {
        let family = if ipv6 { "IPv6" } else { "IPv4" };
        let host = match node.host() {
            Host::Dns(host) => host,
            Host::V4(ip) if !ipv6 => return Ok(vec![ip.into()]),
            Host::V6(ip) if ipv6 => return Ok(vec![ip.into()]),
            Host::V4(ip) => return Err(ResolveError::Family { address: ip.into(), family }),
            Host::V6(ip) => return Err(ResolveError::Family { address: ip.into(), family }),
        };
        if let Some(servers) = &self.servers
            && let Some(found) = ask_servers(servers, host, ipv6).await
        {
            return Ok(found);
        }
        let found = self.ask_system(host).await.map_err(|error| ResolveError::Failed {
            host: host.to_owned(),
            reason: error.to_string(),
        })?;
        let found: Vec<IpAddr> = found.into_iter().filter(|ip| ip.is_ipv6() == ipv6).collect();
        if found.is_empty() {
            return Err(ResolveError::Nothing { host: host.to_owned(), family });
        }
        Ok(found)
    }

    /// The addresses of a host that is a name, of both families, canonical, never none.
    ///
    /// Cancel-safe, as [`Resolver::resolve`].
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn lookup(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        let mut found = Vec::new();
        if let Some(servers) = &self.servers {
            for ipv6 in [false, true] {
                found.extend(ask_servers(servers, host, ipv6).await.unwrap_or_default());
            }
        }
        if found.is_empty() {
            let answer = self.ask_system(host).await;
            found = answer.map_err(|error| ResolveError::Failed {
                host: host.to_owned(),
                reason: error.to_string(),
            })?;
        }
        let mut found: Vec<IpAddr> = found.into_iter().map(|ip| ip.to_canonical()).collect();
        found.sort_unstable();
        found.dedup();
        if found.is_empty() {
            return Err(ResolveError::Nothing { host: host.to_owned(), family: "IP" });
        }
        Ok(found)
    }

    async fn ask_system(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        // Held by the thread, not by this future, which may be dropped before it.
        let permit = Arc::clone(&self.system).acquire_owned().await.map_err(io::Error::other)?;
        let host = host.to_owned();
        let lookup = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            (host.as_str(), 0).to_socket_addrs().map(|found| found.map(|a| a.ip()).collect())
        });
        lookup.await.map_err(io::Error::other)?
    }
}

/// `None`: they do not know the name, or did not say; the system may.
async fn ask_servers(servers: &TokioResolver, host: &str, ipv6: bool) -> Option<Vec<IpAddr>> {
    let record_type = if ipv6 { RecordType::AAAA } else { RecordType::A };
    // A final dot: node names are absolute.
    let answer = match servers.lookup(format!("{host}."), record_type).await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(host, %error, "the configured name servers have no answer");
            return None;
        }
    };
    let found: Vec<IpAddr> = answer
        .answers()
        .iter()
        .filter_map(|record| match &record.data {
            RData::A(a) => Some(IpAddr::V4(a.0)),
            RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
            _ => None,
        })
        .collect();
    (!found.is_empty()).then_some(found)
}

fn build(nameservers: &[SocketAddr]) -> Result<TokioResolver, String> {
    let servers = nameservers.iter().map(|server| {
        let mut udp = ConnectionConfig::udp();
        udp.port = server.port();
        let mut tcp = ConnectionConfig::tcp();
        tcp.port = server.port();
        NameServerConfig::new(server.ip(), true, vec![udp, tcp])
    });
    let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    builder.options_mut().cache_size = 0;
    builder.build().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
