//! A stub resolver that keeps "nobody", "could not ask" and "not allowed" apart.
//!
//! Name servers are asked through hickory's connection pool, one pool a server (UDP,
//! then TCP for truncated answers). What its resolver adds on top is done here:
//! it keeps a cache, which would hide a changed zone; it ends a search list with the
//! last name's answer, which turns a SERVFAIL followed by an NXDOMAIN into
//! "nobody"; it asks no second server after a first one's SERVFAIL or REFUSED; and
//! it takes a CNAME in front of SRV records for an empty answer.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{Either, select};
use futures_util::stream::FuturesUnordered;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ProtocolConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::xfer::DnsHandle;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::{DnsRequestOptions, Query, ResponseCode};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use hickory_resolver::{Hosts, NameServerPool, PoolContext, TlsConfig, system_conf};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;

/// Most time for one server's answer to one question, TCP included.
const SERVER_TIMEOUT: Duration = Duration::from_secs(2);

/// A server that has not answered by then gets company by the next in the list.
const STAGGER: Duration = Duration::from_millis(300);

/// Most time for a whole lookup, search list and aliases included; within a round.
const LOOKUP_DEADLINE: Duration = Duration::from_secs(8);

/// Name servers asked, of however many are configured.
const SERVERS_CAP: usize = 8;

/// Names tried of a search list (glibc's bound) and the name itself.
const SEARCH_CAP: usize = 7;

/// CNAMEs followed.
const ALIAS_CAP: usize = 8;

/// Why a lookup gave no answer; none of them says that nobody is there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum LookupError {
    /// Time-outs, unreachable servers, SERVFAIL.
    #[error("{0}")]
    Silent(String),
    /// The server answered that it will not tell us.
    #[error("{0}")]
    Refused(String),
    /// The server's answer, or our question, makes no sense.
    #[error("{0}")]
    Nonsense(String),
}

/// What was found; no records: certainly none.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) data: Vec<RData>,
    /// The least time to live on the way to the records; `None` without records.
    pub(super) ttl: Option<Duration>,
}

/// Where and how to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Setup {
    servers: Vec<SocketAddr>,
    search: Vec<Name>,
    ndots: usize,
}

/// One name server.
#[derive(Clone)]
struct Server {
    address: SocketAddr,
    pool: NameServerPool<TokioRuntimeProvider>,
}

pub(super) struct Client {
    /// Configured; empty: the system's.
    nameservers: Vec<SocketAddr>,
    /// Kept for what the pools learned of the servers, until the setup changes.
    current: Option<(Setup, Vec<Server>)>,
}

impl Client {
    pub(super) fn new(nameservers: &[SocketAddr]) -> Self {
        Self { nameservers: nameservers.to_vec(), current: None }
    }

    /// The records of `name`, search list and aliases followed.
    pub(super) async fn records(
        &mut self,
        name: &str,
        wanted: RecordType,
    ) -> Result<Found, LookupError> {
        let parsed = Name::from_str_relaxed(name)
            .map_err(|error| LookupError::Nonsense(format!("no domain name: {error}")))?;
        // RFC 6761 §6.3: localhost is this host, and no business of the system's servers.
        let local = parsed.is_localhost();
        if self.nameservers.is_empty() {
            if let Some(found) = hosts_file(&parsed, wanted) {
                return Ok(found);
            }
            if local {
                return Ok(loopback(wanted));
            }
        }
        let lookup = self.search(&parsed, wanted);
        let result = match timeout(LOOKUP_DEADLINE, lookup).await {
            Ok(result) => result,
            Err(_elapsed) => Err(LookupError::Silent("no answer in time".into())),
        };
        match result {
            // Servers that were configured for us may know better, and need not.
            Ok(found) if found.data.is_empty() && local => Ok(loopback(wanted)),
            Err(_) if local && wanted != RecordType::SRV => Ok(loopback(wanted)),
            result => result,
        }
    }

    /// Every name of the search list until one has records. An error on the way stays
    /// an error unless records are found.
    async fn search(&mut self, name: &Name, wanted: RecordType) -> Result<Found, LookupError> {
        let (setup, servers) = self.servers()?;
        let mut failed = None;
        for candidate in candidates(name, &setup.search, setup.ndots) {
            match follow(&servers, candidate, wanted).await {
                Ok(found) if found.data.is_empty() => {}
                Ok(found) => return Ok(found),
                Err(error) => {
                    failed.get_or_insert(error);
                }
            }
        }
        failed.map_or_else(|| Ok(Found::default()), Err)
    }

    /// The name servers as of now; resolv.conf may change at any time.
    fn servers(&mut self) -> Result<(Setup, Vec<Server>), LookupError> {
        let setup = setup(&self.nameservers);
        if let Some((known, servers)) = &self.current
            && *known == setup
        {
            return Ok((setup, servers.clone()));
        }
        debug!(servers = ?setup.servers, search = ?setup.search, "name servers");
        let servers =
            setup.servers.iter().map(|&address| server(address)).collect::<Result<Vec<_>, _>>();
        let servers = servers.map_err(|error| LookupError::Silent(error.to_string()))?;
        self.current = Some((setup.clone(), servers.clone()));
        Ok((setup, servers))
    }
}

fn loopback(wanted: RecordType) -> Found {
    let data = match wanted {
        RecordType::A => vec![RData::A(std::net::Ipv4Addr::LOCALHOST.into())],
        RecordType::AAAA => vec![RData::AAAA(std::net::Ipv6Addr::LOCALHOST.into())],
        _ => Vec::new(),
    };
    Found { data, ttl: None }
}

/// /etc/hosts, which the system's resolver asks first.
fn hosts_file(name: &Name, wanted: RecordType) -> Option<Found> {
    let hosts = Hosts::from_system().ok()?;
    let lookup = hosts.lookup_static_host(&Query::query(name.clone(), wanted))?;
    let data: Vec<_> = lookup.answers().iter().map(|record| record.data.clone()).collect();
    (!data.is_empty()).then_some(Found { data, ttl: None })
}

/// The system's settings, with the configured servers in place of its own.
fn setup(nameservers: &[SocketAddr]) -> Setup {
    let mut setup = Setup { servers: Vec::new(), search: Vec::new(), ndots: 1 };
    match system_conf::read_system_conf() {
        Ok((config, options)) => {
            setup.ndots = options.ndots;
            setup.search = config.search().to_vec();
            if setup.search.is_empty() {
                setup.search.extend(config.domain().cloned());
            }
            for server in config.name_servers() {
                let port = server.connections.first().map_or(53, |connection| connection.port);
                let address = SocketAddr::new(server.ip, port);
                if !setup.servers.contains(&address) {
                    setup.servers.push(address);
                }
            }
        }
        // resolv.conf(5): without the file, the server on this machine.
        Err(error) => {
            debug!(%error, "no resolver configuration");
            setup.servers.push(SocketAddr::from(([127, 0, 0, 1], 53)));
        }
    }
    if !nameservers.is_empty() {
        setup.servers = nameservers.to_vec();
    }
    setup.servers.truncate(SERVERS_CAP);
    setup
}

fn server(address: SocketAddr) -> Result<Server, NetError> {
    let connection = |protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    };
    let connections = vec![connection(ProtocolConfig::Udp), connection(ProtocolConfig::Tcp)];
    let config = NameServerConfig::new(address.ip(), true, connections);
    let mut options = ResolverOpts::default();
    options.timeout = SERVER_TIMEOUT;
    options.attempts = 0;
    let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
    let pool = NameServerPool::from_config([config], context, TokioRuntimeProvider::default());
    Ok(Server { address, pool })
}

/// The names that resolv.conf's `search` and `ndots` make of one, in order.
fn candidates(name: &Name, search: &[Name], ndots: usize) -> Vec<Name> {
    let mut absolute = name.clone();
    absolute.set_fqdn(true);
    if name.is_fqdn() {
        return vec![absolute];
    }
    let mut names: Vec<Name> =
        search.iter().filter_map(|domain| name.clone().append_domain(domain).ok()).collect();
    names.truncate(SEARCH_CAP - 1);
    let dots = usize::from(name.num_labels()).saturating_sub(1);
    let place = if dots >= ndots { 0 } else { names.len() };
    names.insert(place, absolute);
    let mut seen = BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// The records of one absolute name, behind however many aliases.
async fn follow(
    servers: &[Server],
    mut name: Name,
    wanted: RecordType,
) -> Result<Found, LookupError> {
    let mut ttl = u32::MAX;
    for _ in 0..ALIAS_CAP {
        let records = ask(servers, &name, wanted).await?;
        let (target, data) = resolve(&records, &name, wanted, &mut ttl)?;
        if !data.is_empty() {
            return Ok(Found { data, ttl: Some(Duration::from_secs(ttl.into())) });
        }
        if target == name {
            return Ok(Found::default());
        }
        // The server knows the alias and not what it stands for.
        name = target;
    }
    Err(LookupError::Nonsense(format!("more than {ALIAS_CAP} aliases")))
}

/// Where the aliases of one answer lead, and what it says of that name.
fn resolve(
    records: &[Record],
    name: &Name,
    wanted: RecordType,
    ttl: &mut u32,
) -> Result<(Name, Vec<RData>), LookupError> {
    let mut target = name.clone();
    for _ in 0..ALIAS_CAP {
        let here = || records.iter().filter(|record| record.name == target);
        let found: Vec<_> = here().filter(|record| record.record_type() == wanted).collect();
        if let Some(least) = found.iter().map(|record| record.ttl).min() {
            *ttl = least.min(*ttl);
            return Ok((target, found.iter().map(|record| record.data.clone()).collect()));
        }
        let alias = here().find_map(|record| match &record.data {
            RData::CNAME(alias) => Some((alias.0.clone(), record.ttl)),
            _ => None,
        });
        let Some((next, alias_ttl)) = alias else { return Ok((target, Vec::new())) };
        *ttl = alias_ttl.min(*ttl);
        target = next;
    }
    Err(LookupError::Nonsense("aliases in a circle".into()))
}

/// The first server's answer that is one: records, or certainly none. Servers join in
/// one after another, at once after a failure.
async fn ask(
    servers: &[Server],
    name: &Name,
    wanted: RecordType,
) -> Result<Vec<Record>, LookupError> {
    let mut waiting = servers.iter().enumerate();
    let mut asked = FuturesUnordered::new();
    let mut failed: Vec<(usize, LookupError)> = Vec::new();
    let mut next_at = Instant::now();
    loop {
        if Instant::now() >= next_at || asked.is_empty() {
            match waiting.next() {
                Some((index, server)) => {
                    asked.push(async move { (index, ask_one(server, name, wanted).await) });
                    next_at = Instant::now() + STAGGER;
                }
                None if asked.is_empty() => return Err(combined(failed)),
                // Nobody left to join in.
                None => next_at = Instant::now() + LOOKUP_DEADLINE,
            }
        }
        let joining = pin!(sleep_until(next_at));
        match select(asked.next(), joining).await {
            Either::Left((Some((_, Ok(records))), _)) => return Ok(records),
            Either::Left((Some((index, Err(error))), _)) => {
                failed.push((index, error));
                next_at = Instant::now();
            }
            Either::Left((None, _)) | Either::Right(_) => {}
        }
    }
}

/// One error of all servers', in their configured order.
fn combined(mut failed: Vec<(usize, LookupError)>) -> LookupError {
    failed.sort_by_key(|(index, _)| *index);
    let text = failed.iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>().join("; ");
    match failed.first() {
        None => LookupError::Silent("no name server is configured".into()),
        Some((_, LookupError::Silent(_))) => LookupError::Silent(text),
        Some((_, LookupError::Refused(_))) => LookupError::Refused(text),
        Some((_, LookupError::Nonsense(_))) => LookupError::Nonsense(text),
    }
}

async fn ask_one(
    server: &Server,
    name: &Name,
    wanted: RecordType,
) -> Result<Vec<Record>, LookupError> {
    let at = server.address;
    let query = Query::query(name.clone(), wanted);
    let mut responses = server.pool.lookup(query, DnsRequestOptions::default());
    let response = match timeout(SERVER_TIMEOUT, responses.next()).await {
        Ok(Some(response)) => response,
        Ok(None) => Err(NetError::NoConnections),
        Err(_elapsed) => Err(NetError::Timeout),
    };
    let code = match response {
        Ok(response) => match response.response_code {
            ResponseCode::NoError => return Ok(response.answers.clone()),
            // With aliases in the answer, whose last target does not exist.
            ResponseCode::NXDomain => return Ok(Vec::new()),
            code => code,
        },
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match none.response_code {
            ResponseCode::NoError if none.soa.is_none() && none.ns.is_some() => {
                let text = format!("{at} refers to other servers instead of asking them");
                return Err(LookupError::Nonsense(text));
            }
            ResponseCode::NoError | ResponseCode::NXDomain => return Ok(Vec::new()),
            code => code,
        },
        Err(NetError::Dns(DnsError::ResponseCode(code))) => code,
        Err(NetError::Timeout) => {
            return Err(LookupError::Silent(format!("{at} did not answer in time")));
        }
        Err(NetError::Io(error)) => {
            return Err(LookupError::Silent(format!("{at}: {}", error.kind())));
        }
        Err(error @ NetError::NoConnections) => {
            return Err(LookupError::Silent(format!("{at}: {error}")));
        }
        Err(error) => return Err(LookupError::Nonsense(format!("{at}: {error}"))),
    };
    let text = format!("{at} answered {code:?}");
    Err(match code {
        ResponseCode::Refused | ResponseCode::NotAuth => LookupError::Refused(text),
        ResponseCode::ServFail => LookupError::Silent(text),
        _ => LookupError::Nonsense(text),
    })
}

#[cfg(test)]
mod tests;
