//! `node.*`, and what other blocks depend on.

use super::address::node_name;
use super::checks;
use super::keys;
use super::reader::{Fault, Reader, all, word};
use super::types::{NodeConfig, ProtoDist};
use crate::cookies::{self, Cookies, Source};
use crate::node::{NodeName, Role};

/// What other keys are compared with; `None` where it was refused.
pub(super) struct Own {
    pub(super) name: Option<NodeName>,
    pub(super) proto: Option<ProtoDist>,
    pub(super) strategy: Option<Selected>,
    /// Those of `node.cookie`, and behind them those of `agent.mesh.accept_cookies`.
    pub(super) cookies: Option<Cookies>,
    /// How many of them are those of `node.cookie`.
    pub(super) offered: usize,
}

/// `cluster.discovery_strategy` by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Selected {
    Manual,
    Static,
    Mcast,
    Dns,
    Etcd,
    K8s,
    Singleton,
}

impl Own {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let name = r.get(&keys::NODE_NAME, node_name);
        let proto = r.get(&keys::CLUSTER_PROTO_DIST, |text| {
            let words = [
                ("inet_tcp", ProtoDist::InetTcp),
                ("inet6_tcp", ProtoDist::Inet6Tcp),
                ("inet_tls", ProtoDist::InetTls),
                ("inet6_tls", ProtoDist::Inet6Tls),
            ];
            word(&words, text)
        });
        if let Some(name) = name.as_ref().filter(|name| name.is_single_label()) {
            let message = format!("the host of `{name}` has no dot");
            let hint = "an Erlang long name needs one; use an address or a full DNS name";
            r.warn(&keys::NODE_NAME, message, hint);
        }
        if let (Some(name), Some(proto)) = (&name, proto) {
            checks::family(r, name, proto);
        }
        let strategy = r.get(&keys::CLUSTER_STRATEGY, |text| {
            let words = [
                ("manual", Selected::Manual),
                ("static", Selected::Static),
                ("mcast", Selected::Mcast),
                ("dns", Selected::Dns),
                ("etcd", Selected::Etcd),
                ("k8s", Selected::K8s),
                ("singleton", Selected::Singleton),
            ];
            let found = word(&words, text)?;
            let missing = match found {
                Selected::Etcd if !cfg!(feature = "etcd") => "etcd",
                Selected::K8s if !cfg!(feature = "k8s") => "k8s",
                _ => return Ok(found),
            };
            Err(Fault::hint(format!(
                "this muster was built without the feature `{missing}`: take one that has it"
            )))
        });
        let (cookies, offered) = cookies(r).unzip();
        Self { name, proto, strategy, cookies, offered: offered.unwrap_or_default() }
    }
}

pub(super) fn read(r: &mut Reader<'_>, own: &Own) -> Option<NodeConfig> {
    all!(NodeConfig {
        name: own.name.clone(),
        cookies: own.cookies.clone(),
        data_dir: r.path(&keys::NODE_DATA_DIR),
        role: r.get(&keys::NODE_ROLE, |text| {
            word(&[("core", Role::Core), ("replicant", Role::Replicant)], text)
        }),
        ssl_dist_optfile: r.path(&keys::NODE_SSL_DIST_OPTFILE),
    })
}

/// All that are accepted, those of `node.cookie` first, and how many these are.
fn cookies(r: &mut Reader<'_>) -> Option<(Cookies, usize)> {
    let read = |text: &str, file| {
        let fault = |error: cookies::CookieError| Fault::found(error.to_string());
        match file {
            Some(path) => Ok((Source::File(path), cookies::parse_file(text).map_err(fault)?)),
            None => {
                let cookie = cookies::parse(text).map_err(fault)?;
                Ok((Source::Text(cookie.clone()), vec![cookie]))
            }
        }
    };
    let own = r.secrets(&keys::NODE_COOKIE, read);
    let accepted = r.secrets(&keys::MESH_ACCEPT_COOKIES, read);
    let own = own?;
    if own.is_empty() {
        let hint = "every node of a cluster has the same; set it here or in EMQX_NODE__COOKIE";
        r.missing(&keys::NODE_COOKIE, hint);
        return None;
    }
    let named = own.len();
    let offered = own.iter().map(|(_, cookies)| cookies.len()).sum();
    let (sources, cookies): (Vec<_>, Vec<_>) = own.into_iter().chain(accepted?).unzip();
    Some((Cookies::new(sources, named, cookies.concat()), offered))
}
