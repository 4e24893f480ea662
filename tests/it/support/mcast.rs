//! A multicast group on loopback for one test.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use muster::config::McastConfig;

/// Ports that were free a moment ago, and a group of this test's own: tests run side
/// by side, and loopback carries every group.
pub fn group(ports: usize) -> McastConfig {
    let sockets: Vec<_> = (0..ports).map(|_| UdpSocket::bind("0.0.0.0:0").unwrap()).collect();
    let ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
    let [high, low] = ports[0].to_be_bytes();
    McastConfig {
        addr: IpAddr::V4(Ipv4Addr::new(239, 192, high, low)),
        ports,
        iface: "127.0.0.1".into(),
        ttl: 1,
        multicast_loop: true,
        sndbuf: 16 << 10,
        recbuf: 16 << 10,
        buffer: 32 << 10,
    }
}
