//! Hosts of the test's own: network namespaces on a bridge that is itself in a
//! namespace, so that nothing outside can be reached, or reaches in.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::agent::{Agent, Ground, Spec};
use super::slow_wire::{Lateness, MTU, SlowSwitch, mac};

/// True when namespaces can't be made here, which is said; in CI it is a failure.
pub fn skip_without_namespaces() -> bool {
    if super::programs::skip_without(&["ip", "nft"]) {
        return true;
    }
    skip_without_root("network namespaces")
}

/// True without root, which something needs; this is said, and in CI it is a failure.
pub fn skip_without_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    assert!(root || std::env::var_os("CI").is_none(), "{what} needs root");
    if !root {
        eprintln!("skipped: {what} needs root");
    }
    !root
}

#[track_caller]
fn run(program: &str, arguments: &str) {
    let output = Command::new(program).args(arguments.split_whitespace()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {complaint}");
}

/// Hosts `1..=n`, each with an address on one wire. Removed when dropped.
#[derive(Debug)]
pub struct Lan {
    prefix: String,
    hosts: u16,
    ground: Arc<Ground>,
    slow: Option<SlowSwitch>,
}

static COUNT: AtomicU32 = AtomicU32::new(0);

impl Lan {
    #[track_caller]
    pub fn new(hosts: u16) -> Self {
        let lan = Self::unplugged(hosts);
        let switch = lan.host(0);
        run("ip", &format!("-n {switch} link add br0 type bridge"));
        run("ip", &format!("-n {switch} link set br0 up"));
        for k in 1..=hosts {
            run("ip", &format!("-n {switch} link set p{k} master br0"));
        }
        lan
    }

    /// Every frame arrives late.
    #[track_caller]
    pub fn slow(hosts: u16, lateness: Lateness) -> Self {
        let mut lan = Self::unplugged(hosts);
        let names: Vec<_> = (1..=hosts).map(|k| lan.host(k)).collect();
        lan.slow = Some(SlowSwitch::start(&lan.host(0), &names, lateness));
        lan
    }

    /// Hosts whose wires end in the switch's namespace, and nothing there that switches.
    #[track_caller]
    fn unplugged(hosts: u16) -> Self {
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("mu{}-{count}", std::process::id());
        let lan = Self { prefix, hosts, ground: Ground::new(hosts), slow: None };
        let switch = lan.host(0);
        run("ip", &format!("netns add {switch}"));
        for k in 1..=hosts {
            let host = lan.host(k);
            run("ip", &format!("netns add {host}"));
            let end = format!("name eth0 mtu {MTU} address {} netns {host}", mac(k));
            run("ip", &format!("-n {switch} link add p{k} mtu {MTU} type veth peer {end}"));
            run("ip", &format!("-n {switch} link set p{k} up"));
            run("ip", &format!("-n {host} link set lo up"));
            run("ip", &format!("-n {host} addr add {}/24 dev eth0", address(k)));
            run("ip", &format!("-n {host} link set eth0 up"));
            lan.nft(k, "add table inet faults");
            lan.nft(k, "add chain inet faults in { type filter hook input priority 0 ; }");
        }
        lan
    }

    /// The namespace of host `k`; 0 is the switch.
    pub fn host(&self, k: u16) -> String {
        format!("{}-{k}", self.prefix)
    }

    #[track_caller]
    fn nft(&self, k: u16, command: &str) {
        run("ip", &format!("netns exec {} nft {command}", self.host(k)));
    }

    /// An agent on host `k`, with all hosts as seeds.
    pub fn agent(&self, k: u16) -> Spec {
        let seeds: Vec<String> = (1..=self.hosts).map(name).collect();
        let host = self.host(k);
        Spec::named(&self.ground, k, &name(k))
            .seeds(&seeds)
            .api_on_socket()
            .through(&["ip", "netns", "exec", &host])
    }

    /// An agent on every host, started at once.
    pub fn agents(&self) -> Vec<Agent> {
        let mut agents: Vec<Agent> = (1..=self.hosts).map(|k| self.agent(k).spawn()).collect();
        for agent in &mut agents {
            agent.wait_api();
        }
        agents
    }

    /// The switch of a slow wire.
    pub fn switch(&self) -> &SlowSwitch {
        self.slow.as_ref().expect("the wire is a fast one")
    }

    /// Host `to` hears nothing from host `from` any more.
    pub fn deafen(&self, to: u16, from: u16) {
        self.nft(to, &format!("add rule inet faults in ip saddr {} drop", address(from)));
    }

    /// Of what host `from` sends, host `to` loses this share at random.
    pub fn lose(&self, to: u16, from: u16, percent: u8) {
        let rule = format!("ip saddr {} numgen random mod 100 < {percent} drop", address(from));
        self.nft(to, &format!("add rule inet faults in {rule}"));
    }

    /// Neither side hears the other.
    pub fn cut(&self, one: &[u16], other: &[u16]) {
        for &a in one {
            for &b in other {
                self.deafen(a, b);
                self.deafen(b, a);
            }
        }
    }

    /// Takes every fault on the wire away.
    pub fn heal(&self) {
        for k in 1..=self.hosts {
            self.nft(k, "flush chain inet faults in");
        }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.slow = None;
        for k in 0..=self.hosts {
            // A namespace that was never made needs no removal.
            let _ = Command::new("ip").args(["netns", "del", &self.host(k)]).output();
        }
    }
}

/// The node on host `k`. Without digits at the end of its name, all use one port.
pub fn name(k: u16) -> String {
    format!("emqx@{}", address(k))
}

/// The names of some hosts' nodes.
pub fn names(hosts: &[u16]) -> Vec<String> {
    hosts.iter().copied().map(name).collect()
}

fn address(k: u16) -> String {
    format!("10.99.0.{k}")
}
