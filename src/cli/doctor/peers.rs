//! What stands between this node and each of its peers: looked at over the mesh's own
//! dial, as far as muster's hello.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::finding::Finding;
use crate::agent::look::{Linked, Looker, Sight, passing_name};
use crate::api::{Cluster, Members};
use crate::config::{Config, StrategyConfig};
use crate::discovery::meant;
use crate::mesh::DialError;
use crate::mesh::tls::TlsContext;
use crate::node::NodeName;
use crate::protocol::membership::{Hello, PROTOCOL, PROTOCOL_MIN, Standing};
use crate::ready;
use crate::resolve::Resolver;
use crate::view::{MemberStatus, Rule};

/// What a look at all peers showed.
pub(super) struct Looked {
    pub(super) findings: Vec<Finding>,
    /// Every node that was looked at.
    pub(super) seen: BTreeMap<NodeName, Sight>,
}

impl Looked {
    fn nothing(finding: Finding) -> Self {
        Self { findings: vec![finding], seen: BTreeMap::new() }
    }
}

/// What is known of the peers before anybody is looked at.
struct Known<'a> {
    config: &'a Config,
    tls: bool,
    /// The cluster's id, as the agent beside has it.
    id: Option<String>,
    /// Whom the configuration names: seeds and core nodes.
    written: BTreeSet<NodeName>,
    members: BTreeMap<NodeName, MemberStatus>,
    /// Everybody, this node apart.
    peers: BTreeSet<NodeName>,
}

impl<'a> Known<'a> {
    fn new(config: &'a Config, tls: bool, seen: Option<&(Cluster, Members)>) -> Self {
        let mut written: BTreeSet<NodeName> = config.cluster.core_nodes.iter().cloned().collect();
        if let StrategyConfig::Static { seeds } = &config.cluster.strategy {
            written.extend(seeds.iter().cloned());
        }
        let (mut members, mut peers) = (BTreeMap::new(), written.clone());
        if let Some((cluster, listed)) = seen {
            let parse = |name: &String| NodeName::parse(name).ok();
            peers.extend(cluster.discovery.nodes.iter().filter_map(parse));
            let pairs =
                listed.members.iter().filter_map(|one| Some((parse(&one.node)?, one.status)));
            members.extend(pairs);
            peers.extend(members.keys().cloned());
        }
        peers.remove(&config.node.name);
        let id = seen.and_then(|(cluster, _)| cluster.id.clone());
        Self { config, tls, id, written, members, peers }
    }

    fn is_up(&self, peer: &NodeName) -> bool {
        self.members.get(peer).is_some_and(|status| *status != MemberStatus::Down)
    }

    fn is_down(&self, peer: &NodeName) -> bool {
        self.members.get(peer) == Some(&MemberStatus::Down)
    }
}

/// Looks at everybody who is a member, a seed, or was discovered; with `ask` also at this
/// node's own agent, and asks each whom it reaches.
pub(super) async fn look(
    config: &Config,
    tls: Option<&TlsContext>,
    seen: Option<&(Cluster, Members)>,
    ask: bool,
) -> Looked {
    if matches!(config.cluster.strategy, StrategyConfig::Singleton) {
        return Looked::nothing(Finding::ok("peer", "singleton has none"));
    }
    if config.cluster.proto_dist.is_tls() && tls.is_none() {
        let message = "not looked at: this node has no usable certificate";
        return Looked::nothing(Finding::fail("peer", message, "see the certificate line"));
    }
    let resolver = match Resolver::new(&config.agent.discovery.nameservers) {
        Ok(resolver) => Arc::new(resolver),
        Err(error) => {
            let remedy = "mend agent.discovery.dns.nameservers";
            return Looked::nothing(Finding::fail("peer", error, remedy));
        }
    };
    let known = Known::new(config, tls.is_some(), seen);
    let mut peers: Vec<_> = known.peers.iter().cloned().collect();
    if ask {
        peers.push(config.node.name.clone());
    }
    if peers.is_empty() {
        return Looked::nothing(Finding::ok("peer", "none is known"));
    }
    let looker = Looker {
        node: passing_name(&config.node.name),
        tls: tls.cloned(),
        ask,
        resolver: Arc::clone(&resolver),
    };
    let mut sights = match looker.look(config, &peers).await {
        Ok(sights) => sights,
        Err(error) => {
            return Looked::nothing(Finding::fail("peer", error.to_string(), "set node.cookie"));
        }
    };
    let plain = look_again(&looker, config, &mut sights).await;
    let mut findings: Vec<_> = known
        .peers
        .iter()
        .map(|peer| match sights.get(peer) {
            Some(sight) => judge(&known, peer, sight, plain.contains(peer)),
            None => Finding::fail("peer", format!("{peer}: no answer in time"), "look again"),
        })
        .collect();
    findings.extend(mistyped(&known, &sights));
    if known.peers.is_empty() {
        findings.push(Finding::ok("peer", "none is known"));
    }
    Looked { findings, seen: sights }
}

/// Looks once more where the first look cannot tell: under this node's own name at peers
/// that take no other from its certificate, and over plain TCP at those that ended TLS.
/// Returns the latter that speak plain TCP.
async fn look_again(
    looker: &Looker,
    config: &Config,
    sights: &mut BTreeMap<NodeName, Sight>,
) -> BTreeSet<NodeName> {
    let failed = |sights: &BTreeMap<NodeName, Sight>, word: &str| -> Vec<NodeName> {
        let failed = sights
            .iter()
            .filter(|(_, sight)| matches!(sight, Sight::Failed { cause, .. } if *cause == word));
        failed.map(|(node, _)| node.clone()).collect()
    };
    if looker.tls.is_none() {
        return BTreeSet::new();
    }
    let picky = failed(sights, "not_allowed");
    if !picky.is_empty() {
        let own = Looker { node: config.node.name.clone(), ..looker.clone() };
        if let Ok(again) = own.look(config, &picky).await {
            sights.extend(again);
        }
    }
    let ended = failed(sights, "tls_closed");
    let plain = Looker { tls: None, ..looker.clone() };
    match plain.look(config, &ended).await {
        Ok(again) if !ended.is_empty() => {
            let speaks = again.into_iter().filter(|(_, sight)| match sight {
                Sight::Linked(_) => true,
                Sight::Failed { cause, .. } => matches!(*cause, "cookie" | "name" | "version"),
            });
            speaks.map(|(node, _)| node).collect()
        }
        _ => BTreeSet::new(),
    }
}

fn judge(known: &Known<'_>, peer: &NodeName, sight: &Sight, plain: bool) -> Finding {
    match sight {
        Sight::Linked(linked) => judge_linked(known, peer, linked),
        Sight::Failed { .. } if plain => Finding::fail(
            "peer",
            format!("{peer}: speaks plain TCP, and this node TLS"),
            ready::remedy(Rule::Carrier),
        ),
        Sight::Failed { error, cause } => judge_failed(known, peer, error, cause),
    }
}

fn judge_linked(known: &Known<'_>, peer: &NodeName, linked: &Linked) -> Finding {
    let Linked { remote, rtt, hello, .. } = linked;
    let Some(hello) = hello else {
        return Finding::fail(
            "peer",
            format!("{peer}: what answers at {remote} has the cookie and is no muster agent"),
            "is agent.mesh.base_port the agents', and not the broker's, port?",
        );
    };
    let Hello { cluster, id, protocol_min, protocol, me, automatic, .. } = &**hello;
    let own = &known.config.cluster;
    if *protocol < PROTOCOL_MIN || *protocol_min > PROTOCOL {
        let message = format!(
            "{peer}: speaks muster's protocol versions {protocol_min} to {protocol}, and this \
             program {PROTOCOL_MIN} to {PROTOCOL}"
        );
        return Finding::fail("peer", message, ready::remedy(Rule::Version));
    }
    if *cluster != own.name {
        let message = format!("{peer}: its cluster.name is {cluster:?}, here it is {:?}", own.name);
        return Finding::fail("peer", message, ready::remedy(Rule::ClusterName));
    }
    if me.standing == Standing::Left {
        let remedy = "on it: muster cluster join, or muster cluster discovery enable";
        return Finding::warn("peer", format!("{peer}: has left the cluster"), remedy);
    }
    let theirs = id.map(|id| id.to_string());
    if !(own.strategy.is_automatic() && *automatic)
        && let (Some(own), Some(theirs)) = (&known.id, &theirs)
        && own != theirs
    {
        let message = format!("{peer}: belongs to cluster {theirs}, and this node to {own}");
        return Finding::warn("peer", message, format!("muster cluster join {peer}"));
    }
    let tls = if known.tls { " over TLS" } else { "" };
    let took = rtt.map(|rtt| format!(" in {:.1} ms", rtt.as_secs_f64() * 1_000.0));
    let took = took.unwrap_or_default();
    let version = me.version.as_str();
    Finding::ok("peer", format!("{peer}: reached{tls} at {remote}{took}, muster {version}"))
}

fn judge_failed(known: &Known<'_>, peer: &NodeName, error: &DialError, cause: &str) -> Finding {
    let port = known.config.agent.mesh.port_of(peer);
    let port = port.map_or_else(|| "its mesh port".to_owned(), |port| format!("port {port}"));
    let up = if known.is_up(peer) { ", which is up" } else { "" };
    let about = |text: &str| format!("{peer}{up}: {text}");
    let (message, remedy) = match error {
        DialError::Refused => {
            let remedy = "start its agent; is agent.mesh.base_port the same there?";
            (about(&format!("nothing listens on {port}")), remedy.to_owned())
        }
        DialError::Resolve(text) => (about(text), "mend the name or its record".to_owned()),
        DialError::Unreachable(text) if known.is_down(peer) => {
            let remedy = format!("start it, or: muster cluster force-leave {peer}");
            (about(text), remedy)
        }
        DialError::Unreachable(text) => {
            (about(text), format!("start it; do firewalls let TCP {port} through, both ways?"))
        }
        DialError::Timeout => {
            let text = format!("{port} accepts the connection and nothing answers");
            let remedy = "its process is frozen or hangs: look at it, and restart it";
            return Finding::fail("peer", about(&text), remedy);
        }
        DialError::Yield => {
            return Finding::ok("peer", about("a link to this node is up there"));
        }
        DialError::Itself => {
            return Finding::ok("peer", about("another name of this node itself"));
        }
        DialError::Rejected(text) => {
            return Finding::fail("peer", about(text), rejection(known, peer, text, cause));
        }
    };
    match known.is_up(peer) {
        true => Finding::fail("peer", message, remedy),
        false => Finding::warn("peer", message, remedy),
    }
}

/// The remedy of a refusal, by the mesh's word for it.
fn rejection(known: &Known<'_>, peer: &NodeName, text: &str, cause: &str) -> String {
    match cause {
        "cookie" => ready::remedy(Rule::Cookie).to_owned(),
        "version" => ready::remedy(Rule::Version).to_owned(),
        "name" => match text.rsplit(' ').next().and_then(|name| NodeName::parse(name).ok()) {
            Some(real) => format!(
                "write {real} where {peer} is written, or set node.name there to what is written \
                 here"
            ),
            None => ready::remedy(Rule::NodeName).to_owned(),
        },
        "own_name" => ready::remedy(Rule::NodeName).to_owned(),
        // Only a certificate decides which names its holder may use.
        "not_allowed" if known.tls => format!(
            "give this node a certificate whose subjectAltName is for {}, and see the log of {peer}",
            known.config.node.name
        ),
        "tls_expired" => format!("renew the certificate of {peer}"),
        "tls_not_yet_valid" => "set the clocks of both hosts: run an NTP client".to_owned(),
        "tls_unknown_ca" => format!(
            "issue the certificate of {peer} from the CA in this node's cacertfile, or add its CA \
             there"
        ),
        "tls_wrong_name" => format!(
            "give {peer} a certificate whose subjectAltName has its host, {}",
            peer.host_str()
        ),
        "tls_no_certificate" => format!("set certfile and keyfile in the ssl_dist.conf of {peer}"),
        tls if tls.starts_with("tls_") && tls != "tls_garbage" => {
            ready::remedy(Rule::Certificate).to_owned()
        }
        _ => ready::remedy(Rule::Carrier).to_owned(),
    }
}

/// Names in the configuration that are nobody's, and close to somebody's.
fn mistyped(known: &Known<'_>, sights: &BTreeMap<NodeName, Sight>) -> Vec<Finding> {
    let there = |peer: &NodeName| matches!(sights.get(peer), Some(Sight::Linked(_)));
    let real: BTreeSet<_> = known
        .members
        .keys()
        .chain(known.peers.iter().filter(|peer| there(peer)))
        .chain([&known.config.node.name])
        .filter(|name| !known.written.contains(*name) || there(name))
        .collect();
    let lost = known.written.iter().filter(|name| {
        !there(name) && !known.members.contains_key(*name) && **name != known.config.node.name
    });
    lost.filter_map(|name| {
        let real = meant(name, real.iter().copied())?;
        let message = format!("{name} is written in the configuration, and there is {real}");
        Some(Finding::fail("seeds", message, format!("write {real} where {name} is written")))
    })
    .collect()
}
