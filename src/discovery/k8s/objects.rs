//! What the API server sends, as far as it is read, and the node names in it.
//!
//! `endpoints`, `addresses` and `subsets` may be `null`, `conditions` may be `{}`
//! or absent: every field here is therefore optional.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use serde::Deserialize;

use crate::config::{AddressType, K8sConfig};
use crate::discovery::Answer;
use crate::discovery::text::shown;
use crate::node::NodeName;

/// `ObjectMeta` and `ListMeta`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Meta {
    pub(super) resource_version: Option<String>,
    pub(super) labels: Option<BTreeMap<String, String>>,
}

/// The label that ties a slice to its service.
pub(super) const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// `discovery.k8s.io/v1 EndpointSliceList`.
#[derive(Debug, Deserialize)]
pub(super) struct SliceList {
    #[serde(default)]
    pub(super) metadata: Meta,
    #[serde(default)]
    pub(super) items: Option<Vec<Slice>>,
}

/// `discovery.k8s.io/v1 EndpointSlice`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Slice {
    #[serde(default)]
    metadata: Meta,
    address_type: String,
    #[serde(default)]
    endpoints: Option<Vec<Endpoint>>,
}

#[derive(Debug, Deserialize)]
struct Endpoint {
    #[serde(default)]
    addresses: Option<Vec<String>>,
    #[serde(default)]
    conditions: Option<Conditions>,
    #[serde(default)]
    hostname: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Conditions {
    ready: Option<bool>,
    terminating: Option<bool>,
}

/// `v1 Endpoints`.
#[derive(Debug, Deserialize)]
pub(super) struct Endpoints {
    #[serde(default)]
    pub(super) metadata: Meta,
    #[serde(default)]
    subsets: Option<Vec<Subset>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subset {
    #[serde(default)]
    addresses: Option<Vec<Address>>,
    #[serde(default)]
    not_ready_addresses: Option<Vec<Address>>,
}

#[derive(Debug, Deserialize)]
struct Address {
    ip: String,
    #[serde(default)]
    hostname: Option<String>,
}

/// A watch event; of its object only what a watcher needs.
#[derive(Debug, Deserialize)]
pub(super) struct Event {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) object: EventObject,
}

/// A bookmark, an object or a `Status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct EventObject {
    pub(super) metadata: Meta,
    pub(super) code: Option<u16>,
    pub(super) message: Option<String>,
}

/// `v1 Status`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) kind: String,
    pub(super) message: String,
}

/// How endpoints become nodes.
#[derive(Clone, Debug)]
pub(super) struct Naming {
    pub(super) config: K8sConfig,
    pub(super) include_not_ready: bool,
    /// The family of addresses that the mesh carries.
    pub(super) ipv6: bool,
}

impl SliceList {
    /// The services that have slices here.
    pub(super) fn services(&self) -> BTreeSet<&str> {
        let labels = self.items.iter().flatten().filter_map(|slice| slice.metadata.labels.as_ref());
        labels.filter_map(|labels| labels.get(SERVICE_LABEL)).map(String::as_str).collect()
    }
}

impl Naming {
    pub(super) fn slices(&self, list: &SliceList) -> Answer {
        let mut answer = Answer::default();
        let family = if self.ipv6 { "IPv6" } else { "IPv4" };
        let others = list.items.iter().flatten().filter(|slice| slice.address_type != family);
        let dropped = others.map(|slice| slice.endpoints.iter().flatten().count()).sum();
        let slices = list.items.iter().flatten().filter(|slice| slice.address_type == family);
        for endpoint in slices.flat_map(|slice| slice.endpoints.iter().flatten()) {
            let conditions = endpoint.conditions.as_ref();
            let terminating = conditions.and_then(|conditions| conditions.terminating);
            // "Unknown" counts as ready: API reference, EndpointConditions.
            let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
            if terminating == Some(true) || !(ready || self.include_not_ready) {
                continue;
            }
            // All of an endpoint's addresses lead to the same pod; the first is the one to use.
            if let Some(address) = endpoint.addresses.iter().flatten().next() {
                self.add(&mut answer, address, endpoint.hostname.as_deref());
            }
        }
        self.drop_family(&mut answer, dropped);
        answer
    }

    pub(super) fn endpoints(&self, endpoints: &Endpoints) -> Answer {
        let mut answer = Answer::default();
        let mut dropped = 0;
        for subset in endpoints.subsets.iter().flatten() {
            let not_ready = subset.not_ready_addresses.iter().flatten();
            let not_ready = not_ready.filter(|_| self.include_not_ready);
            for address in subset.addresses.iter().flatten().chain(not_ready) {
                if address.ip.parse().is_ok_and(|ip: IpAddr| ip.is_ipv6() == self.ipv6) {
                    self.add(&mut answer, &address.ip, address.hostname.as_deref());
                } else {
                    dropped += 1;
                }
            }
        }
        self.drop_family(&mut answer, dropped);
        answer
    }

    /// Endpoints of the other family beside ours are a dual-stack service; alone they are a
    /// setting to mend.
    fn drop_family(&self, answer: &mut Answer, dropped: usize) {
        if dropped == 0 || !answer.nodes.is_empty() || !answer.rejected.is_empty() {
            return;
        }
        let K8sConfig { service_name, namespace, .. } = &self.config;
        let (ours, theirs, other) = if self.ipv6 {
            ("IPv6", "IPv4", "inet_tcp or inet_tls")
        } else {
            ("IPv4", "IPv6", "inet6_tcp or inet6_tls")
        };
        answer.notices.push(format!(
            "all {dropped} endpoints of service {service_name} in namespace {namespace} are \
             {theirs} and are left out, since the mesh carries {ours} -> set cluster.proto_dist to \
             {other}, or give the service {ours} among its ipFamilies"
        ));
    }

    fn add(&self, answer: &mut Answer, address: &str, hostname: Option<&str>) {
        match self.name(address, hostname) {
            Ok(node) => {
                answer.nodes.insert(node);
            }
            Err(reason) => answer.rejected.push(reason),
        }
    }

    /// As EMQX names them. Without a suffix the namespace is left out too.
    fn name(&self, address: &str, hostname: Option<&str>) -> Result<NodeName, String> {
        let K8sConfig { service_name, namespace, suffix, app_name, .. } = &self.config;
        let tail = |middle: &str| {
            if suffix.is_empty() { String::new() } else { format!("{middle}.{namespace}.{suffix}") }
        };
        let host = match self.config.address_type {
            AddressType::Ip => address.to_owned(),
            AddressType::Dns => format!("{}{}", address.replace(['.', ':'], "-"), tail("")),
            AddressType::Hostname => {
                let hostname = hostname.filter(|hostname| !hostname.is_empty()).ok_or_else(|| {
                    format!(
                        "{}: the endpoint has no hostname: the pod needs `hostname` and \
                         `subdomain: {service_name}`, as a StatefulSet of that serviceName gives it",
                        shown(address)
                    )
                })?;
                format!("{hostname}{}", tail(&format!(".{service_name}")))
            }
        };
        let text = format!("{app_name}@{host}");
        NodeName::parse(&text).map_err(|error| format!("{}: {error}", shown(&text)))
    }
}
