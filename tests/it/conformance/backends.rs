//! The other sides of the strategies.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use muster::config::{
    AddressType, Config, DnsDiscovery, EtcdConfig, K8sConfig, McastConfig, RecordType,
    StrategyConfig,
};
use muster::discovery::mcast::datagram::{Datagram, Keys, Kind, MAX_DATAGRAM};
use muster::node::{BootId, NodeName};
use muster::secret::Secret;
use serde_json::json;

use super::Backend;
use crate::support::agent::COOKIE;
use crate::support::bind::Bind;
use crate::support::discovery::config;
use crate::support::etcd::{Etcd, Options};
use crate::support::kube::{Api, NAMESPACE, SLICES};
use crate::support::mcast::group;

fn ip(index: usize) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 1)) + u32::try_from(index).unwrap())
}

fn dns(own: &str, name: &str, record_type: RecordType, bind: &Bind) -> Config {
    let dns = DnsDiscovery { name: name.into(), record_type, app_name: "emqx".into() };
    let mut config = config(own, StrategyConfig::Dns(dns));
    config.agent.discovery.nameservers = vec![bind.address()];
    config
}

/// `dns` with A records.
pub(super) struct DnsA {
    bind: Bind,
    records: Vec<String>,
}

impl Backend for DnsA {
    fn prepare() -> Option<Self> {
        Some(Self { bind: Bind::prepare(Ipv4Addr::LOCALHOST.into())?, records: Vec::new() })
    }

    fn start(&mut self) {
        self.bind.run();
    }

    fn stop(&mut self) {
        self.bind.stop();
    }

    fn node(&self, index: usize) -> String {
        format!("emqx@{}", ip(index))
    }

    fn config(&self, index: usize) -> Config {
        dns(&self.node(index), "emqx.muster.test", RecordType::A, &self.bind)
    }

    fn list(&mut self, nodes: &BTreeSet<usize>, _running: &BTreeSet<usize>) {
        self.records = nodes.iter().map(|index| format!("emqx A {}", ip(*index))).collect();
        self.bind.set(&self.records);
    }

    fn garbage(&mut self) {
        let rubbish = ["emqx A 0.0.0.0", "emqx A 239.1.2.3", "emqx TXT \"emqx@10.9.9.9\""];
        let rubbish = rubbish.map(String::from);
        self.bind.set(&[self.records.as_slice(), &rubbish].concat());
    }
}

/// `dns` with SRV records.
pub(super) struct DnsSrv {
    bind: Bind,
    records: Vec<String>,
}

impl Backend for DnsSrv {
    fn prepare() -> Option<Self> {
        Some(Self { bind: Bind::prepare(Ipv4Addr::LOCALHOST.into())?, records: Vec::new() })
    }

    fn start(&mut self) {
        self.bind.run();
    }

    fn stop(&mut self) {
        self.bind.stop();
    }

    fn node(&self, index: usize) -> String {
        format!("emqx@s{index}.emqx.io")
    }

    fn config(&self, index: usize) -> Config {
        dns(&self.node(index), "_emqx._tcp.muster.test", RecordType::Srv, &self.bind)
    }

    fn list(&mut self, nodes: &BTreeSet<usize>, _running: &BTreeSet<usize>) {
        let record = |index| format!("_emqx._tcp SRV 0 0 4370 s{index}.emqx.io.");
        self.records = nodes.iter().map(record).collect();
        self.bind.set(&self.records);
    }

    fn garbage(&mut self) {
        let rubbish = [
            "_emqx._tcp SRV 0 0 1 .",
            "_emqx._tcp SRV 0 0 1 -x.emqx.io.",
            "_emqx._tcp SRV 0 0 1 a\\@b.emqx.io.",
            "_emqx._tcp SRV 0 0 1 a\\000\\010b.emqx.io.",
        ];
        let rubbish = rubbish.map(String::from);
        self.bind.set(&[self.records.as_slice(), &rubbish].concat());
    }
}

/// `k8s`, by EndpointSlices.
pub(super) struct Kube {
    api: Api,
}

/// Slices hold at most 100 endpoints here, as the controller makes them.
const SLICE: usize = 100;

/// The server's own tasks go on while this waits.
fn wait<T>(work: impl Future<Output = T>) -> T {
    tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(work))
}

impl Backend for Kube {
    fn prepare() -> Option<Self> {
        wait(async {
            let mut api = Api::fake().await;
            api.grant(SLICES).await;
            api.kill().await;
            Some(Self { api })
        })
    }

    fn start(&mut self) {
        wait(self.api.run_again());
    }

    fn stop(&mut self) {
        wait(self.api.kill());
    }

    fn node(&self, index: usize) -> String {
        format!("emqx@{}", ip(index))
    }

    fn config(&self, index: usize) -> Config {
        let k8s = K8sConfig {
            apiserver: "https://kubernetes.default.svc:443".into(),
            service_name: "emqx".into(),
            address_type: AddressType::Ip,
            namespace: NAMESPACE.into(),
            suffix: "pod.local".into(),
            app_name: "emqx".into(),
        };
        let mut config = config(&self.node(index), StrategyConfig::K8s(k8s));
        config.agent.discovery.kubeconfig = Some(self.api.kubeconfig());
        config
    }

    fn list(&mut self, nodes: &BTreeSet<usize>, _running: &BTreeSet<usize>) {
        let nodes: Vec<_> = nodes.iter().copied().collect();
        wait(async {
            let slices: Vec<_> = nodes.chunks(SLICE).collect();
            for number in 0..500 / SLICE {
                let name = format!("emqx-{number}");
                match slices.get(number) {
                    Some(nodes) => {
                        let endpoint = |index| json!({"addresses": [ip(index)], "conditions": {"ready": true}});
                        let endpoints = nodes.iter().copied().map(endpoint).collect();
                        self.api.put_slice(&name, "emqx", "IPv4", endpoints).await;
                    }
                    None => self.api.delete_slice(&name).await,
                }
            }
        });
    }

    fn garbage(&mut self) {
        let rubbish = json!([
            {"addresses": ["-no-host-"]},
            {"addresses": ["a b"], "conditions": null},
            {"addresses": []},
            {"addresses": ["10.9.9.9"], "conditions": {"terminating": true}},
        ]);
        wait(async {
            self.api.put_slice("rubbish", "emqx", "IPv4", rubbish).await;
            let elsewhere = json!([{"addresses": ["10.9.9.8"]}]);
            self.api.put_slice("foreign", "another", "IPv4", elsewhere).await;
        });
    }
}

/// `etcd`.
pub(super) struct EtcdServer {
    etcd: Etcd,
    /// Those among the listed that no discovery registers.
    put: BTreeSet<usize>,
}

impl EtcdServer {
    fn change(&self, put: Vec<(String, String)>, delete: Vec<String>) {
        let url = self.etcd.url(0);
        let work = async move {
            let mut client = etcd_client::Client::connect([url], None).await.unwrap();
            for (key, value) in put {
                client.put(key, value, None).await.unwrap();
            }
            for key in delete {
                client.delete(key, None).await.unwrap();
            }
        };
        // A thread of its own, as the tests' runtime must not be blocked on.
        let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
        std::thread::spawn(move || runtime().unwrap().block_on(work)).join().unwrap();
    }

    fn key(&self, index: usize) -> String {
        format!("/emqxcl/emqxcl/nodes/{}", self.node(index))
    }
}

impl Backend for EtcdServer {
    fn prepare() -> Option<Self> {
        let etcd = Etcd::prepare(1, Options::default())?;
        Some(Self { etcd, put: BTreeSet::new() })
    }

    fn start(&mut self) {
        self.etcd.run(0);
        self.etcd.healthy();
    }

    fn stop(&mut self) {
        self.etcd.kill(0);
    }

    fn node(&self, index: usize) -> String {
        format!("emqx@s{index}.emqx.io")
    }

    fn config(&self, index: usize) -> Config {
        let etcd = EtcdConfig {
            servers: self.etcd.urls(),
            prefix: "emqxcl".into(),
            node_ttl: Duration::from_secs(5),
            auth: None,
            tls: None,
        };
        config(&self.node(index), StrategyConfig::Etcd(etcd))
    }

    fn list(&mut self, nodes: &BTreeSet<usize>, running: &BTreeSet<usize>) {
        let wanted: BTreeSet<_> = nodes - running;
        let put = wanted.difference(&self.put).map(|i| (self.key(*i), self.node(*i))).collect();
        let delete = self.put.difference(&wanted).map(|index| self.key(*index)).collect();
        self.change(put, delete);
        self.put = wanted;
    }

    fn garbage(&mut self) {
        let rubbish = [
            ("/emqxcl/emqxcl/nodes/emqx", "emqx"),
            ("/emqxcl/emqxcl/nodes/a@b@c", "a@b@c"),
            ("/emqxcl/emqxcl/nodes/\u{1b}[31m@x.io", "\u{1b}[31m@x.io"),
            ("/emqxcl/emqxcl/nodes/", ""),
            ("/emqxcl/emqxcl/nodes/sub/emqx@x.io/more", "{\"json\": true}"),
            ("/emqxcl/emqxclx/nodes/emqx@other.io", "emqx@other.io"),
        ];
        let put = rubbish.map(|(key, value)| (key.to_owned(), value.to_owned())).to_vec();
        self.change(put, Vec::new());
    }
}

/// `mcast`: the group, to which the backend speaks for nodes that do not run.
pub(super) struct Group {
    mcast: McastConfig,
    socket: UdpSocket,
    keys: Keys,
    sequence: u64,
    spoken_for: BTreeSet<usize>,
}

impl Group {
    /// Every port gets it, and the kernel of a busy machine loses some: so twice.
    fn say(&mut self, kind: Kind, nodes: &BTreeSet<usize>) {
        for _ in 0..2 {
            self.sequence += 1;
            for (count, index) in nodes.iter().enumerate() {
                let datagram = Datagram {
                    kind,
                    cluster: "emqxcl".into(),
                    node: NodeName::parse(&self.node(*index)).unwrap(),
                    boot: BootId(u64::try_from(*index).unwrap()),
                    sequence: self.sequence,
                };
                self.send(&datagram.encode(&self.keys).unwrap());
                if count % 20 == 0 {
                    pause();
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) {
        for port in &self.mcast.ports {
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, *port));
            // Refused where no node has the port.
            let _refused = self.socket.send_to(bytes, to);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "lets the receivers empty their buffers")]
fn pause() {
    std::thread::sleep(Duration::from_millis(3));
}

impl Backend for Group {
    const OUTAGES: bool = false;

    fn prepare() -> Option<Self> {
        let mcast = McastConfig { recbuf: 1 << 20, ..group(4) };
        let socket = UdpSocket::bind((IpAddr::from(Ipv4Addr::LOCALHOST), 0)).unwrap();
        let keys = Keys::new(&[Secret::new(COOKIE)]);
        Some(Self { mcast, socket, keys, sequence: 0, spoken_for: BTreeSet::new() })
    }

    fn start(&mut self) {}

    fn stop(&mut self) {}

    fn node(&self, index: usize) -> String {
        format!("emqx@{}", ip(index))
    }

    fn config(&self, index: usize) -> Config {
        config(&self.node(index), StrategyConfig::Mcast(self.mcast.clone()))
    }

    fn list(&mut self, nodes: &BTreeSet<usize>, running: &BTreeSet<usize>) {
        let wanted: BTreeSet<_> = nodes - running;
        let gone = &self.spoken_for - &wanted;
        self.say(Kind::Answer, &wanted);
        self.say(Kind::Goodbye, &gone);
        self.spoken_for = wanted;
    }

    fn garbage(&mut self) {
        let good = Datagram {
            kind: Kind::Announce,
            cluster: "emqxcl".into(),
            node: NodeName::parse("emqx@10.9.9.9").unwrap(),
            boot: BootId(u64::MAX),
            sequence: 1,
        };
        let stranger = Keys::new(&[Secret::new("another cookie")]);
        self.send(&good.encode(&stranger).unwrap());
        let other = Datagram { cluster: "other".into(), ..good.clone() };
        self.send(&other.encode(&self.keys).unwrap());
        let sealed = good.encode(&self.keys).unwrap();
        for length in 0..sealed.len() {
            self.send(&sealed[..length]);
        }
        self.send(&vec![b'M'; MAX_DATAGRAM * 3]);
    }
}
