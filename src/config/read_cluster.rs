//! `cluster.*`.

use std::cell::Cell;
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use super::address::{dns_label, dns_name, http_url, ip, is_dns_name, name_part, node_name};
use super::checks;
use super::keys;
use super::read_agent::port;
use super::read_node::{Own, Selected};
use super::reader::{Fault, Reader, all, any, boolean, duration, integer, size, word};
use super::types::{
    AddressType, ClientTls, ClusterConfig, DnsDiscovery, EtcdConfig, K8sConfig, McastConfig,
    RecordType, StrategyConfig,
};
use super::units;
use crate::node::NodeName;
use crate::secret::Secret;

const SECOND: u64 = 1000;
const DAY: u64 = 86_400_000;

pub(super) fn read(r: &mut Reader<'_>, own: &Own) -> Option<ClusterConfig> {
    all!(ClusterConfig {
        name: r.get(&keys::CLUSTER_NAME, |text| {
            let refused = |c: char| c.is_control() || c.is_whitespace() || c == '/';
            let good = !text.is_empty() && text.len() <= 255 && !text.contains(refused);
            good.then(|| text.to_owned()).ok_or_else(Fault::default)
        }),
        description: r.get(&keys::CLUSTER_DESCRIPTION, any(1024)),
        strategy: strategy(r, own),
        autoclean: autoclean(r),
        autoheal: r.get(&keys::CLUSTER_AUTOHEAL, boolean),
        proto_dist: own.proto,
        core_nodes: r.list(&keys::CLUSTER_CORE_NODES, node_name).map(different),
    })
}

/// As in EMQX: a number alone counts seconds, here alone, and parts of a second count as one.
fn autoclean(r: &mut Reader<'_>) -> Option<Option<Duration>> {
    let rounded = Cell::new(None);
    let period = r.get(&keys::CLUSTER_AUTOCLEAN, |text| {
        if text.eq_ignore_ascii_case("infinity") {
            return Ok(None);
        }
        let written = if text.contains(|c: char| c.is_ascii_alphabetic()) {
            let millis = units::duration(text).and_then(|d| u64::try_from(d.as_millis()).ok());
            millis.map(Duration::from_millis)
        } else {
            text.trim().parse().ok().map(Duration::from_secs)
        };
        let whole = |d: Duration| d.as_secs() + u64::from(d.subsec_millis() > 0);
        let period = written.map(|d| Duration::from_secs(whole(d)));
        if period != written {
            rounded.set(period);
        }
        period.filter(|d| !d.is_zero()).map(Some).ok_or_else(Fault::default)
    });
    if let Some(period) = rounded.take() {
        let message = format!("counts whole seconds, as in EMQX: {}s here", period.as_secs());
        r.warn(&keys::CLUSTER_AUTOCLEAN, message, "write so many seconds");
    }
    period
}

fn different(names: Vec<NodeName>) -> Vec<NodeName> {
    let mut seen = HashSet::new();
    names.into_iter().filter(|name| seen.insert(name.clone())).collect()
}

/// Every block is checked, so that a mistake shows before its strategy is selected;
/// only the selected one is kept and listed.
fn strategy(r: &mut Reader<'_>, own: &Own) -> Option<StrategyConfig> {
    let selected = own.strategy;
    let mut found = match selected {
        Some(Selected::Manual) => Some(StrategyConfig::Manual),
        Some(Selected::Singleton) => Some(StrategyConfig::Singleton),
        _ => None,
    };
    let mut block = |r: &mut Reader<'_>,
                     which: Selected,
                     read: &dyn Fn(&mut Reader<'_>) -> Option<StrategyConfig>| {
        let before = r.settings.len();
        let config = read(r);
        if selected == Some(which) {
            found = config;
        } else {
            r.settings.truncate(before);
        }
    };
    block(r, Selected::Static, &|r| {
        let seeds = r.list(&keys::STATIC_SEEDS, node_name)?;
        Some(StrategyConfig::Static { seeds: different(seeds) })
    });
    block(r, Selected::Mcast, &|r| mcast(r).map(StrategyConfig::Mcast));
    block(r, Selected::Dns, &|r| dns(r, own).map(StrategyConfig::Dns));
    let required = selected == Some(Selected::Etcd);
    block(r, Selected::Etcd, &|r| etcd(r, required).map(StrategyConfig::Etcd));
    block(r, Selected::K8s, &|r| k8s(r, own).map(StrategyConfig::K8s));
    let found = found?;
    if matches!(found, StrategyConfig::Mcast(_)) {
        let message = "multicast discovery is deprecated by EMQX and works here".to_owned();
        r.warn(&keys::CLUSTER_STRATEGY, message, "static, dns, etcd and k8s are not");
    }
    if let Some(name) = &own.name {
        checks::found_names(r, name, &found);
    }
    Some(found)
}

fn mcast(r: &mut Reader<'_>) -> Option<McastConfig> {
    let group = r.get(&keys::MCAST_ADDR, |text| {
        ip(text).and_then(|ip| if ip.is_multicast() { Ok(ip) } else { Err(Fault::default()) })
    });
    all!(McastConfig {
        addr: group,
        ports: mcast_ports(r),
        iface: r.get(&keys::MCAST_IFACE, |text| match text.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() => Ok(text.to_owned()),
            Ok(ip) if group.is_some_and(|group| group.is_ipv4() != ip.is_ipv4()) => {
                Err(Fault::default())
            }
            Ok(_) => Ok(text.to_owned()),
            // IFNAMSIZ less its final NUL.
            Err(_) if (1..=15).contains(&text.len()) && !text.contains(['/', ' ']) => {
                Ok(text.to_owned())
            }
            Err(_) => Err(Fault::default()),
        }),
        ttl: r.get(&keys::MCAST_TTL, integer(0, 255)),
        multicast_loop: r.get(&keys::MCAST_LOOP, boolean),
        sndbuf: r.get(&keys::MCAST_SNDBUF, size(1 << 10, 64 << 20)),
        recbuf: r.get(&keys::MCAST_RECBUF, size(1 << 10, 64 << 20)),
        buffer: r.get(&keys::MCAST_BUFFER, size(1 << 10, 1 << 20)),
    })
}

fn mcast_ports(r: &mut Reader<'_>) -> Option<Vec<u16>> {
    let ports = r.list(&keys::MCAST_PORTS, port)?;
    let different: HashSet<u16> = ports.iter().copied().collect();
    if (1..=16).contains(&ports.len()) && different.len() == ports.len() {
        return Some(ports);
    }
    let message = format!("found {} ports, allowed: {}", ports.len(), keys::MCAST_PORTS.allowed);
    r.error(&keys::MCAST_PORTS, message, "");
    None
}

fn dns(r: &mut Reader<'_>, own: &Own) -> Option<DnsDiscovery> {
    all!(DnsDiscovery {
        name: r.get(&keys::DNS_NAME, dns_name),
        record_type: r.get(&keys::DNS_RECORD_TYPE, |text| {
            let words =
                [("a", RecordType::A), ("aaaa", RecordType::Aaaa), ("srv", RecordType::Srv)];
            word(&words, text)
        }),
        app_name: app_name(r, &keys::DNS_APP, own),
    })
}

/// The name part that nodes are found under: this node's own, unless the key says otherwise.
fn app_name(r: &mut Reader<'_>, key: &keys::Key, own: &Own) -> Option<String> {
    if let Some(text) = r.optional(key, name_part)? {
        return Some(text);
    }
    let own = own.name.as_ref()?.name();
    r.derived(key, own, false);
    Some(own.to_owned())
}

fn etcd(r: &mut Reader<'_>, required: bool) -> Option<EtcdConfig> {
    let servers = r.list(&keys::ETCD_SERVER, http_url);
    if required && servers.as_ref().is_some_and(Vec::is_empty) {
        r.missing(&keys::ETCD_SERVER, "discovery by etcd needs a server");
    }
    let client = client_tls(r, servers.as_deref().unwrap_or_default());
    let on = matches!(client, Some(Some(_)));
    let config = all!(EtcdConfig {
        // EMQX decides by ssl_options alone, whatever the URL says.
        servers: servers.map(|servers| {
            let secure = |url: String| match url.strip_prefix("http://") {
                Some(rest) if on => format!("https://{rest}"),
                _ => url,
            };
            servers.into_iter().map(secure).collect()
        }),
        prefix: r.get(&keys::ETCD_PREFIX, |text| {
            let prefix = text.trim_matches('/');
            let refused = |c: char| c.is_control() || c.is_whitespace();
            let good = !prefix.is_empty() && text.len() <= 255 && !text.contains(refused);
            good.then(|| prefix.to_owned()).ok_or_else(Fault::default)
        }),
        node_ttl: r.get(&keys::ETCD_NODE_TTL, duration(SECOND, DAY)),
        auth: etcd_auth(r),
        tls: client,
    });
    config.filter(|config: &EtcdConfig| !config.servers.is_empty())
}

fn any_secret(text: &str) -> Result<Secret, Fault> {
    Ok(Secret::new(text))
}

fn etcd_auth(r: &mut Reader<'_>) -> Option<Option<(String, Secret)>> {
    let user = r.optional(&keys::ETCD_USERNAME, any(1024));
    let password = r.optional_secret(&keys::ETCD_PASSWORD, any_secret);
    match (user?, password?) {
        (Some(user), Some(password)) => Some(Some((user, password))),
        (Some(_), None) => {
            let message = "found a user name without a password".to_owned();
            r.error(&keys::ETCD_USERNAME, message, "set cluster.etcd.password");
            None
        }
        (None, Some(_)) => {
            let message = "found a password without a user name".to_owned();
            r.error(&keys::ETCD_PASSWORD, message, "set cluster.etcd.username");
            None
        }
        (None, None) => Some(None),
    }
}

/// `None`: refused; `Some(None)`: off.
fn client_tls(r: &mut Reader<'_>, servers: &[String]) -> Option<Option<ClientTls>> {
    let enable = r.optional(&keys::ETCD_SSL_ENABLE, boolean);
    let tls = all!(ClientTls {
        cacertfile: r.optional_path(&keys::ETCD_SSL_CACERTFILE),
        certfile: r.optional_path(&keys::ETCD_SSL_CERTFILE),
        keyfile: r.optional_path(&keys::ETCD_SSL_KEYFILE),
        password: r.optional_secret(&keys::ETCD_SSL_PASSWORD, any_secret),
        verify: r.get(&keys::ETCD_SSL_VERIFY, |text| {
            word(&[("verify_peer", true), ("verify_none", false)], text)
        }),
        server_name: r
            .optional(&keys::ETCD_SSL_SNI, |text| match text {
                "disable" => Ok(None),
                text if is_dns_name(text) => Ok(Some(text.to_owned())),
                _ => Err(Fault::default()),
            })
            .map(Option::flatten),
    });
    let (tls, enable): (ClientTls, _) = (tls?, enable?);
    let https = servers.iter().any(|url| url.starts_with("https://"));
    let key = &keys::ETCD_SSL_ENABLE;
    match enable {
        Some(false) if https => {
            let message = "found `false` beside an https:// server".to_owned();
            r.error(key, message, "write http://, or enable it");
            return None;
        }
        Some(false) => return Some(None),
        None if !https => {
            plain_etcd(r);
            return Some(None);
        }
        _ => {}
    }
    match (&tls.certfile, &tls.keyfile) {
        (Some(_), None) => {
            let message = "found a certificate without its key".to_owned();
            r.error(&keys::ETCD_SSL_CERTFILE, message, "set keyfile");
        }
        (None, Some(_)) => {
            let message = "found a key without its certificate".to_owned();
            r.error(&keys::ETCD_SSL_KEYFILE, message, "set certfile");
        }
        _ => {}
    }
    if let Some(n) = servers.iter().position(|url| url.starts_with("http://")) {
        let message = format!("`{}` is reached over TLS, since ssl_options are on", servers[n]);
        r.warn_at(&keys::ETCD_SERVER, n, message, "write https://");
    }
    if !tls.verify {
        let message = "the certificate of etcd is not verified".to_owned();
        let hint = "write verify_peer, and its CA in cacertfile";
        r.warn(&keys::ETCD_SSL_VERIFY, message, hint);
    }
    Some(Some(tls))
}

/// `ssl_options` that say nothing of being on, beside plain servers, are off in EMQX.
fn plain_etcd(r: &mut Reader<'_>) {
    let keys = [
        &keys::ETCD_SSL_CACERTFILE,
        &keys::ETCD_SSL_CERTFILE,
        &keys::ETCD_SSL_KEYFILE,
        &keys::ETCD_SSL_PASSWORD,
        &keys::ETCD_SSL_VERIFY,
        &keys::ETCD_SSL_SNI,
    ];
    if let Some(key) = keys.into_iter().find(|key| r.is_set(key)) {
        let message = "ssl_options are not used: the servers are http://".to_owned();
        r.warn(key, message, "for TLS write https://, or ssl_options.enable = true");
    }
}

fn k8s(r: &mut Reader<'_>, own: &Own) -> Option<K8sConfig> {
    all!(K8sConfig {
        apiserver: r.get(&keys::K8S_APISERVER, http_url),
        service_name: r.get(&keys::K8S_SERVICE_NAME, dns_label),
        address_type: r.get(&keys::K8S_ADDRESS_TYPE, |text| {
            let words = [
                ("ip", AddressType::Ip),
                ("dns", AddressType::Dns),
                ("hostname", AddressType::Hostname),
            ];
            word(&words, text)
        }),
        namespace: r.get(&keys::K8S_NAMESPACE, dns_label),
        suffix: r.get(&keys::K8S_SUFFIX, |text| {
            if text.is_empty() { Ok(String::new()) } else { dns_name(text) }
        }),
        app_name: app_name(r, &keys::K8S_APP_NAME, own),
    })
}
