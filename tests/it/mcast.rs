//! The `mcast` strategy over real multicast sockets.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use muster::config::{Config, McastConfig, StrategyConfig};
use muster::discovery::mcast::datagram::{Datagram, Keys, Kind};
use muster::discovery::{DiscoveryError, DiscoveryEvent};
use muster::node::{BootId, NodeName};
use muster::secret::Secret;
use tokio::time::Instant;

use crate::support::agent::COOKIE;
use crate::support::discovery::{Discovery, config};
use crate::support::mcast::group;
use crate::support::programs::skip_without;

fn node(index: u8, mcast: &McastConfig) -> Config {
    config(&format!("emqx@10.0.0.{index}"), StrategyConfig::Mcast(mcast.clone()))
}

fn datagram(index: u8, boot: u64, sequence: u64) -> Datagram {
    Datagram {
        kind: Kind::Announce,
        cluster: "emqxcl".into(),
        node: NodeName::parse(&format!("emqx@10.0.0.{index}")).unwrap(),
        boot: BootId(boot),
        sequence,
    }
}

fn keys(cookie: &str) -> Keys {
    Keys::new(&[Secret::new(cookie)])
}

#[tokio::test]
async fn three_on_one_host_find_each_other_and_part() {
    let mcast = group(3);
    let start = Instant::now();
    let mut nodes: Vec<_> = (1..=3).map(|i| Discovery::start(&node(i, &mcast))).collect();
    nodes[0].finds(&["emqx@10.0.0.2", "emqx@10.0.0.3"]).await;
    nodes[1].finds(&["emqx@10.0.0.1", "emqx@10.0.0.3"]).await;
    nodes[2].finds(&["emqx@10.0.0.1", "emqx@10.0.0.2"]).await;
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    // All three ports are taken now.
    let mut fourth = Discovery::start(&node(4, &mcast));
    let error = fourth.fails().await;
    let text = format!(
        "all ports of cluster.mcast.ports are taken ({:?}): add one there, on all nodes",
        mcast.ports
    );
    assert_eq!(error, DiscoveryError::Unreachable(text));
    // A goodbye is heard, and makes room.
    let third = nodes.pop().unwrap();
    third.handle.withdraw_and_stop().await;
    let left = Instant::now();
    nodes[0].finds(&["emqx@10.0.0.2", "emqx@10.0.0.4"]).await;
    assert!(left.elapsed() < Duration::from_secs(2), "{:?}", left.elapsed());
    fourth.finds(&["emqx@10.0.0.1", "emqx@10.0.0.2"]).await;
}

#[tokio::test]
async fn a_late_one_is_answered_at_once() {
    let mcast = group(3);
    let mut first = Discovery::start(&node(1, &mcast));
    first.finds(&[""; 0]).await;
    // Time itself is the subject: the burst is over, and the next announcement a second or
    // more away.
    tokio::time::sleep(Duration::from_millis(600)).await;
    let start = Instant::now();
    let mut late = Discovery::start(&node(2, &mcast));
    let DiscoveryEvent::Answer { nodes, .. } = late.next().await else { panic!("a failure") };
    assert_eq!(nodes.len(), 1, "known in the very first answer");
    assert!(start.elapsed() < Duration::from_millis(500), "{:?}", start.elapsed());
    first.finds(&["emqx@10.0.0.2"]).await;
}

#[tokio::test]
async fn disabled_it_is_not_heard_and_enabled_it_is_again() {
    let mcast = group(3);
    let mut one = Discovery::start(&node(1, &mcast));
    let mut two = Discovery::start(&node(2, &mcast));
    one.finds(&["emqx@10.0.0.2"]).await;
    two.finds(&["emqx@10.0.0.1"]).await;
    two.handle.set_enabled(false);
    one.finds(&[""; 0]).await;
    two.handle.set_enabled(true);
    one.finds(&["emqx@10.0.0.2"]).await;
    two.finds(&["emqx@10.0.0.1"]).await;
}

#[tokio::test]
async fn cookies_rotate_and_clusters_do_not_mix() {
    let mcast = group(3);
    let cookies = |mut config: Config, cookies: &[&str]| {
        config.node.cookies = cookies.iter().map(|cookie| Secret::new(*cookie)).collect();
        config
    };
    let mut old = Discovery::start(&cookies(node(1, &mcast), &["old cookie", "new cookie"]));
    let mut new = Discovery::start(&cookies(node(2, &mcast), &["new cookie", "old cookie"]));
    let mut other = Discovery::start(&cookies(node(3, &mcast), &["a stranger's cookie"]));
    old.finds(&["emqx@10.0.0.2"]).await;
    new.finds(&["emqx@10.0.0.1"]).await;
    old.shows("unsigned datagrams", |old| old.datagrams("unsigned") > 0).await;
    other.shows("unsigned datagrams", |other| other.datagrams("unsigned") > 0).await;
    assert_eq!(other.datagrams("ok"), 0);
    other.finds(&[""; 0]).await;

    let mcast = group(3);
    let mut ours = Discovery::start(&node(1, &mcast));
    let mut foreign = node(2, &mcast);
    foreign.cluster.name = "another".into();
    let mut foreign = Discovery::start(&foreign);
    foreign.finds(&[""; 0]).await;
    ours.finds(&[""; 0]).await;
    ours.shows("a foreign datagram", |ours| ours.datagrams("foreign") > 0).await;
}

#[tokio::test]
async fn a_changed_cookie_seals_and_opens_from_then_on() {
    let mcast = group(2);
    let changed = |index, cookie: &str| {
        let mut config = node(index, &mcast);
        config.node.cookies = [Secret::new(cookie)].into_iter().collect();
        config
    };
    let (one, two) = (changed(1, "old cookie"), changed(2, "new cookie"));
    let mut old = Discovery::start(&one);
    old.finds(&[""; 0]).await;
    let mut new = Discovery::start(&two);
    old.shows("unsigned datagrams", |old| old.datagrams("unsigned") > 0).await;
    assert!(one.node.cookies.replace(vec![Secret::new("new cookie")]));
    old.finds(&["emqx@10.0.0.2"]).await;
    new.finds(&["emqx@10.0.0.1"]).await;
}

#[tokio::test]
async fn hostile_datagrams_are_counted_and_change_nothing() {
    let mcast = group(3);
    let mut victim = Discovery::start(&node(1, &mcast));
    victim.finds(&[""; 0]).await;
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), mcast.ports[0]);
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |bytes: &[u8]| {
        sender.send_to(bytes, to).unwrap();
    };
    let good = datagram(9, 7, 5).encode(&keys(COOKIE)).unwrap();
    send(&good);
    victim.finds(&["emqx@10.0.0.9"]).await;
    // Sent again; overtaken; another life's goodbye; unsigned; another version; noise.
    send(&good);
    send(&datagram(9, 7, 4).encode(&keys(COOKIE)).unwrap());
    let goodbye = Datagram { kind: Kind::Goodbye, ..datagram(9, 7, 5) };
    send(&goodbye.encode(&keys(COOKIE)).unwrap());
    let forged = Datagram { kind: Kind::Goodbye, ..datagram(9, 7, 6) };
    send(&forged.encode(&keys("guessed")).unwrap());
    let mut version = good.clone();
    version[4] = 2;
    send(&version);
    send(&[]);
    send(b"hello");
    send(&vec![0x83; 9_000]);
    let counted = |victim: &Discovery| {
        ["replayed", "unsigned", "version", "malformed"].map(|cause| victim.datagrams(cause))
    };
    victim.shows("all to be counted", |victim| counted(victim).iter().sum::<u64>() >= 8).await;
    assert_eq!(counted(&victim), [3, 1, 1, 3]);
    victim.finds(&["emqx@10.0.0.9"]).await;
    // What only a holder of the cookie could say.
    send(&Datagram { kind: Kind::Goodbye, ..datagram(9, 7, 6) }.encode(&keys(COOKIE)).unwrap());
    victim.finds(&[""; 0]).await;
}

#[tokio::test]
async fn a_flood_does_not_drown_the_members() {
    let mcast = group(3);
    let mut victim = Discovery::start(&node(1, &mcast));
    victim.finds(&[""; 0]).await;
    let to = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), mcast.ports[0]);
    let flood = tokio::task::spawn_blocking(move || {
        let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..20_000 {
            let _dropped = sender.send_to(&[0; 400], to);
        }
    });
    let mut late = Discovery::start(&node(2, &mcast));
    flood.await.unwrap();
    victim.finds(&["emqx@10.0.0.2"]).await;
    late.finds(&["emqx@10.0.0.1"]).await;
    assert!(victim.datagrams("malformed") > 0);
}

#[tokio::test]
async fn interfaces_go_by_name_too_and_wrong_ones_are_named() {
    let by_name = McastConfig { iface: "lo".into(), ..group(3) };
    let mut one = Discovery::start(&node(1, &by_name));
    let mut two = Discovery::start(&node(2, &by_name));
    one.finds(&["emqx@10.0.0.2"]).await;
    two.finds(&["emqx@10.0.0.1"]).await;

    let wrong = McastConfig { iface: "nosuch0".into(), ..group(3) };
    let error = Discovery::start(&node(1, &wrong)).fails().await;
    let text = "the interface \"nosuch0\" is none of this host's: set cluster.mcast.iface to an \
                address of it";
    assert_eq!(error, DiscoveryError::Unreachable(text.into()));
    let wrong = McastConfig { addr: Ipv4Addr::new(10, 0, 0, 1).into(), ..group(3) };
    let error = Discovery::start(&node(1, &wrong)).fails().await;
    let text = "10.0.0.1 is no multicast group: set cluster.mcast.addr to one, as 239.192.0.1";
    assert_eq!(error, DiscoveryError::Unreachable(text.into()));
}

/// Set for a run of this program within a network namespace of its own.
const NAMESPACE: &str = "MUSTER_TEST_NAMESPACE";

/// Loopback does not carry IPv6 multicast: this needs an interface of its own.
#[tokio::test]
async fn ipv6_groups_work_as_well() {
    if std::env::var_os(NAMESPACE).is_none() {
        if skip_without(&["ip", "unshare"]) {
            return;
        }
        let setup = "ip link set lo up && ip link add m0 type veth peer name m1 && \
                     ip link set m1 up && ip link set m0 up && \
                     ip -6 addr add fd00:4370::1/64 dev m0 nodad && exec \"$@\"";
        let status = Command::new("unshare")
            .args(["--map-root-user", "--net", "sh", "-c", setup, "sh"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "mcast::ipv6_groups_work_as_well", "--nocapture"])
            .env(NAMESPACE, "1")
            .status()
            .unwrap();
        assert!(status.success(), "{status}");
        return;
    }
    for (addr, iface) in [("ff02::4370", "m0"), ("ff05::4370", "fd00:4370::1")] {
        let mcast = McastConfig { addr: addr.parse().unwrap(), iface: iface.into(), ..group(3) };
        let mut one = Discovery::start(&node(1, &mcast));
        let mut two = Discovery::start(&node(2, &mcast));
        one.finds(&["emqx@10.0.0.2"]).await;
        two.finds(&["emqx@10.0.0.1"]).await;
    }
}
