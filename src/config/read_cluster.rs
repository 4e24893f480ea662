//! `cluster.*`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::address::{dns_label, dns_name, http_url, ip, is_dns_name, node_name};
use super::keys;
use super::read_agent::port;
use super::reader::{Fault, Read, Reader, boolean, duration_within, integer, size_within, word};
use super::types::{
    AddressType, ClientTls, DnsConfig, EtcdConfig, K8sConfig, McastConfig, ProtoDist, RecordType,
    StrategyConfig,
};
use super::units;
use crate::node::NodeName;
use crate::secret::Secret;

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);

pub(super) struct ClusterParts {
    pub(super) name: Option<String>,
    pub(super) description: Option<String>,
    /// The selected one, in its place in the text.
    pub(super) strategy: Option<Read<StrategyConfig>>,
    /// `Some(None)`: never.
    pub(super) autoclean: Option<Option<Duration>>,
    pub(super) autoheal: Option<bool>,
    pub(super) proto_dist: Option<Read<ProtoDist>>,
    pub(super) core_nodes: Option<Vec<NodeName>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Selected {
    Manual,
    Static,
    Mcast,
    Dns,
    Etcd,
    K8s,
    Singleton,
}

pub(super) fn read(r: &mut Reader<'_>, own: Option<&NodeName>) -> ClusterParts {
    let name = r.scalar(&keys::CLUSTER_NAME, |text| {
        let refused = |c: char| c.is_control() || c.is_whitespace() || c == '/';
        let good = !text.is_empty() && text.len() <= 255 && !text.contains(refused);
        good.then(|| text.to_owned()).ok_or_else(Fault::default)
    });
    let description = r.scalar(&keys::CLUSTER_DESCRIPTION, |text| {
        (text.len() <= 1024).then(|| text.to_owned()).ok_or_else(Fault::default)
    });
    let selected = r.scalar(&keys::CLUSTER_STRATEGY, |text| {
        let words = [
            ("manual", Selected::Manual),
            ("static", Selected::Static),
            ("mcast", Selected::Mcast),
            ("dns", Selected::Dns),
            ("etcd", Selected::Etcd),
            ("k8s", Selected::K8s),
            ("singleton", Selected::Singleton),
        ];
        word(&words, text)
    });
    let autoclean = r.scalar(&keys::CLUSTER_AUTOCLEAN, |text| {
        if text.eq_ignore_ascii_case("infinity") {
            return Ok(None);
        }
        units::duration(text).filter(|d| *d >= SECOND).map(Some).ok_or_else(Fault::default)
    });
    let autoheal = r.scalar(&keys::CLUSTER_AUTOHEAL, boolean);
    let proto_dist = r.scalar(&keys::CLUSTER_PROTO_DIST, |text| {
        let words = [
            ("inet_tcp", ProtoDist::InetTcp),
            ("inet6_tcp", ProtoDist::Inet6Tcp),
            ("inet_tls", ProtoDist::InetTls),
            ("inet6_tls", ProtoDist::Inet6Tls),
        ];
        word(&words, text)
    });
    let core_nodes = r.list(&keys::CLUSTER_CORE_NODES, node_name);
    let strategy = strategies(r, selected.as_ref(), own);
    ClusterParts {
        name: name.map(|read| read.value),
        description: description.map(|read| read.value),
        strategy,
        autoclean: autoclean.map(|read| read.value),
        autoheal: autoheal.map(|read| read.value),
        proto_dist,
        core_nodes: core_nodes.map(names),
    }
}

fn names(read: Read<Vec<Read<NodeName>>>) -> Vec<NodeName> {
    let mut seen = HashSet::new();
    let names = read.value.into_iter().map(|read| read.value);
    names.filter(|name| seen.insert(name.clone())).collect()
}

/// Every block is checked, so that a mistake shows before its strategy is selected;
/// only the selected one is kept and listed.
fn strategies(
    r: &mut Reader<'_>,
    selected: Option<&Read<Selected>>,
    own: Option<&NodeName>,
) -> Option<Read<StrategyConfig>> {
    let chosen = selected.map(|read| read.value);
    let mut found = match chosen {
        Some(Selected::Manual) => Some(StrategyConfig::Manual),
        Some(Selected::Singleton) => Some(StrategyConfig::Singleton),
        _ => None,
    };
    let mut block = |r: &mut Reader<'_>,
                     which: Selected,
                     read: &dyn Fn(&mut Reader<'_>) -> Option<StrategyConfig>| {
        let before = r.settings.len();
        let config = read(r);
        if chosen == Some(which) {
            found = config;
        } else {
            r.settings.truncate(before);
        }
    };
    block(r, Selected::Static, &|r| {
        r.list(&keys::STATIC_SEEDS, node_name)
            .map(|seeds| StrategyConfig::Static { seeds: names(seeds) })
    });
    block(r, Selected::Mcast, &|r| mcast(r).map(StrategyConfig::Mcast));
    block(r, Selected::Dns, &|r| dns(r).map(StrategyConfig::Dns));
    let required = chosen == Some(Selected::Etcd);
    block(r, Selected::Etcd, &|r| etcd(r, required).map(StrategyConfig::Etcd));
    block(r, Selected::K8s, &|r| k8s(r, own).map(StrategyConfig::K8s));
    let selected = selected?;
    let read = Read { value: found?, origin: selected.origin.clone(), key: selected.key.clone() };
    if matches!(read.value, StrategyConfig::Mcast(_)) {
        r.warn(
            &read,
            "multicast discovery is deprecated by EMQX and works here".to_owned(),
            "static, dns, etcd and k8s are not",
        );
    }
    Some(read)
}

fn mcast(r: &mut Reader<'_>) -> Option<McastConfig> {
    let addr = r.scalar(&keys::MCAST_ADDR, |text| {
        ip(text).and_then(|ip| if ip.is_multicast() { Ok(ip) } else { Err(Fault::default()) })
    });
    let ports = r.list(&keys::MCAST_PORTS, |text| port(text).ok_or_else(Fault::default));
    let ports = ports.and_then(|read| {
        let different: HashSet<u16> = read.value.iter().map(|port| port.value).collect();
        if (1..=16).contains(&read.value.len()) && different.len() == read.value.len() {
            return Some(read.value.iter().map(|port| port.value).collect::<Vec<_>>());
        }
        let message =
            format!("found {} ports, allowed: {}", read.value.len(), keys::MCAST_PORTS.allowed);
        r.error(&read, message, "");
        None
    });
    let group = addr.as_ref().map(|read| read.value);
    let iface = r.scalar(&keys::MCAST_IFACE, |text| match text.parse::<IpAddr>() {
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
    });
    let ttl = r.scalar(&keys::MCAST_TTL, |text| {
        integer(0, 255)(text).and_then(|n| u8::try_from(n).map_err(|_| Fault::default()))
    });
    let multicast_loop = r.scalar(&keys::MCAST_LOOP, boolean);
    let sndbuf = r.scalar(&keys::MCAST_SNDBUF, |text| size_within(text, 1 << 10, 64 << 20));
    let recbuf = r.scalar(&keys::MCAST_RECBUF, |text| size_within(text, 1 << 10, 64 << 20));
    let buffer = r.scalar(&keys::MCAST_BUFFER, |text| size_within(text, 1 << 10, 1 << 20));
    Some(McastConfig {
        addr: addr?.value,
        ports: ports?,
        iface: iface?.value,
        ttl: ttl?.value,
        multicast_loop: multicast_loop?.value,
        sndbuf: sndbuf?.value,
        recbuf: recbuf?.value,
        buffer: buffer?.value,
    })
}

fn dns(r: &mut Reader<'_>) -> Option<DnsConfig> {
    let name = r.scalar(&keys::DNS_NAME, dns_name);
    let record_type = r.scalar(&keys::DNS_RECORD_TYPE, |text| {
        word(&[("a", RecordType::A), ("aaaa", RecordType::Aaaa), ("srv", RecordType::Srv)], text)
    });
    Some(DnsConfig { name: name?.value, record_type: record_type?.value })
}

fn etcd(r: &mut Reader<'_>, required: bool) -> Option<EtcdConfig> {
    let server = r.list(&keys::ETCD_SERVER, http_url);
    let empty = server.as_ref().is_some_and(|read| read.value.is_empty());
    if required && (r.find(&keys::ETCD_SERVER).is_none() || empty) {
        r.missing(&keys::ETCD_SERVER, "discovery by etcd needs a server");
    }
    let prefix = r.scalar(&keys::ETCD_PREFIX, |text| {
        let prefix = text.trim_matches('/');
        let refused = |c: char| c.is_control() || c.is_whitespace();
        let good = !prefix.is_empty() && text.len() <= 255 && !text.contains(refused);
        good.then(|| prefix.to_owned()).ok_or_else(Fault::default)
    });
    let node_ttl = r.scalar(&keys::ETCD_NODE_TTL, |text| duration_within(text, SECOND, DAY));
    let any = |text: &str| Ok(text.to_owned());
    let username = r.scalar(&keys::ETCD_USERNAME, any);
    let password = r.secrets(&keys::ETCD_PASSWORD, any_secret);
    let auth = match (username, password) {
        (Some(user), Some(password)) => {
            password.value.into_iter().next().map(|password| (user.value, password))
        }
        (Some(user), None) if r.find(&keys::ETCD_PASSWORD).is_none() => {
            r.error(
                &user,
                "found a user name without a password".to_owned(),
                "set cluster.etcd.password",
            );
            None
        }
        (None, Some(password)) => {
            r.error(
                &password,
                "found a password without a user name".to_owned(),
                "set cluster.etcd.username",
            );
            None
        }
        _ => None,
    };
    let tls = client_tls(r, server.as_ref());
    let servers = server.filter(|read| !read.value.is_empty())?;
    let servers = servers.value.into_iter().map(|read| {
        // EMQX decides by ssl_options alone, whatever the URL says.
        match read.value.strip_prefix("http://") {
            Some(rest) if tls.is_some() => format!("https://{rest}"),
            _ => read.value,
        }
    });
    Some(EtcdConfig {
        servers: servers.collect(),
        prefix: prefix?.value,
        node_ttl: node_ttl?.value,
        auth,
        tls,
    })
}

fn any_secret(text: &str, _file: Option<PathBuf>) -> Result<Secret, Fault> {
    Ok(Secret::new(text))
}

fn client_tls(r: &mut Reader<'_>, server: Option<&Read<Vec<Read<String>>>>) -> Option<ClientTls> {
    let cacertfile = r.path(&keys::ETCD_SSL_CACERTFILE);
    let certfile = r.path(&keys::ETCD_SSL_CERTFILE);
    let keyfile = r.path(&keys::ETCD_SSL_KEYFILE);
    let password = r.secrets(&keys::ETCD_SSL_PASSWORD, any_secret);
    let verify = r.scalar(&keys::ETCD_SSL_VERIFY, |text| {
        word(&[("verify_peer", true), ("verify_none", false)], text)
    });
    let server_name = r.scalar(&keys::ETCD_SSL_SNI, |text| match text {
        "disable" => Ok(None),
        text if is_dns_name(text) => Ok(Some(text.to_owned())),
        _ => Err(Fault::default()),
    });
    let enable = r.scalar(&keys::ETCD_SSL_ENABLE, boolean);
    let block = r.has("cluster.etcd.ssl_options") || r.has("cluster.etcd.ssl");
    let urls = || server.into_iter().flat_map(|read| &read.value);
    let https = urls().any(|url| url.value.starts_with("https://"));
    match &enable {
        Some(read) if !read.value => {
            if https {
                r.error(
                    read,
                    "found `false` beside an https:// server".to_owned(),
                    "write http://, or enable it",
                );
            }
            return None;
        }
        None if !block && !https => return None,
        _ => {}
    }
    match (&certfile, &keyfile) {
        (Some(read), None) => {
            r.error(read, "found a certificate without its key".to_owned(), "set keyfile");
        }
        (None, Some(read)) => {
            r.error(read, "found a key without its certificate".to_owned(), "set certfile");
        }
        _ => {}
    }
    if let Some(url) = urls().find(|url| url.value.starts_with("http://")) {
        let message = format!("`{}` is reached over TLS, since ssl_options are on", url.value);
        r.warn(url, message, "write https://");
    }
    if let Some(read) = verify.as_ref().filter(|read| !read.value) {
        r.warn(
            read,
            "the certificate of etcd is not verified".to_owned(),
            "write verify_peer, and its CA in cacertfile",
        );
    }
    Some(ClientTls {
        cacertfile: cacertfile.map(|read| read.value),
        certfile: certfile.map(|read| read.value),
        keyfile: keyfile.map(|read| read.value),
        password: password.and_then(|read| read.value.into_iter().next()),
        verify: verify?.value,
        server_name: server_name.and_then(|read| read.value),
    })
}

fn k8s(r: &mut Reader<'_>, own: Option<&NodeName>) -> Option<K8sConfig> {
    let apiserver = r.scalar(&keys::K8S_APISERVER, http_url);
    let service_name = r.scalar(&keys::K8S_SERVICE_NAME, dns_label);
    let address_type = r.scalar(&keys::K8S_ADDRESS_TYPE, |text| {
        let words = [
            ("ip", AddressType::Ip),
            ("dns", AddressType::Dns),
            ("hostname", AddressType::Hostname),
        ];
        word(&words, text)
    });
    let namespace = r.scalar(&keys::K8S_NAMESPACE, dns_label);
    let suffix = r.scalar(&keys::K8S_SUFFIX, |text| {
        if text.is_empty() { Ok(String::new()) } else { dns_name(text) }
    });
    let app_name = r.scalar(&keys::K8S_APP_NAME, |text| {
        NodeName::parse(&format!("{text}@localhost"))
            .map(|name| name.name().to_owned())
            .map_err(|_| Fault::default())
    });
    let app_name = match (app_name, own) {
        (Some(read), _) => Some(read.value),
        (None, Some(own)) if r.find(&keys::K8S_APP_NAME).is_none() => {
            r.derived(&keys::K8S_APP_NAME, own.name(), false);
            Some(own.name().to_owned())
        }
        (None, _) => None,
    };
    Some(K8sConfig {
        apiserver: apiserver?.value,
        service_name: service_name?.value,
        address_type: address_type?.value,
        namespace: namespace?.value,
        suffix: suffix?.value,
        app_name: app_name?,
    })
}
