//! The multicast socket: interface, membership, options, and the first free port.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, Socket, Type};
use tokio::net::UdpSocket;

use crate::config::McastConfig;

/// Why no socket could be had; in words, all of them the operator's or the host's.
#[derive(Debug, thiserror::Error)]
pub(super) enum SocketError {
    #[error("{0} is no multicast group: set cluster.mcast.addr to one, as 239.192.0.1")]
    NoGroup(IpAddr),
    #[error(
        "the interface {0:?} is none of this host's: set cluster.mcast.iface to an address of it"
    )]
    NoInterface(String),
    #[error("all ports of cluster.mcast.ports are taken ({0:?}): add one there, on all nodes")]
    NoPort(Vec<u16>),
    #[error("{what}: {error}")]
    Os { what: &'static str, error: io::Error },
}

/// The interface to send and listen on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Interface {
    /// As the routing table says.
    Any,
    Index(u32),
    Address(Ipv4Addr),
}

fn os(what: &'static str) -> impl FnOnce(io::Error) -> SocketError {
    move |error| SocketError::Os { what, error }
}

/// A member of the group on the first free port.
pub(super) fn open(config: &McastConfig) -> Result<UdpSocket, SocketError> {
    if !config.addr.is_multicast() {
        return Err(SocketError::NoGroup(config.addr));
    }
    let domain = if config.addr.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket =
        Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).map_err(os("opening a socket"))?;
    socket.set_nonblocking(true).map_err(os("setting the socket up"))?;
    let interface = interface(&socket, config)?;
    let hops = u32::from(config.ttl);
    let looped = config.multicast_loop;
    match config.addr {
        IpAddr::V4(group) => {
            match interface {
                Interface::Any => socket.join_multicast_v4(&group, &Ipv4Addr::UNSPECIFIED),
                Interface::Index(index) => {
                    let index = InterfaceIndexOrAddress::Index(index);
                    socket.join_multicast_v4_n(&group, &index)
                }
                Interface::Address(address) => socket.join_multicast_v4(&group, &address),
            }
            .map_err(os("joining the group"))?;
            match interface {
                Interface::Any => Ok(()),
                Interface::Index(index) => rustix::net::sockopt::set_ip_multicast_if_with_ifindex(
                    &socket,
                    &group,
                    &Ipv4Addr::UNSPECIFIED,
                    index,
                )
                .map_err(io::Error::from),
                Interface::Address(address) => socket.set_multicast_if_v4(&address),
            }
            .map_err(os("choosing the interface"))?;
            // Groups that other processes of this host joined are none of ours.
            #[cfg(any(target_os = "linux", target_os = "android"))]
            socket.set_multicast_all_v4(false).map_err(os("setting the socket up"))?;
            socket.set_multicast_ttl_v4(hops).map_err(os("setting ttl"))?;
            socket.set_multicast_loop_v4(looped).map_err(os("setting loop"))?;
        }
        IpAddr::V6(group) => {
            let index = if let Interface::Index(index) = interface { index } else { 0 };
            socket.set_only_v6(true).map_err(os("setting the socket up"))?;
            socket.join_multicast_v6(&group, index).map_err(os("joining the group"))?;
            socket.set_multicast_if_v6(index).map_err(os("choosing the interface"))?;
            #[cfg(any(target_os = "linux", target_os = "android"))]
            socket.set_multicast_all_v6(false).map_err(os("setting the socket up"))?;
            socket.set_multicast_hops_v6(hops).map_err(os("setting ttl"))?;
            socket.set_multicast_loop_v6(looped).map_err(os("setting loop"))?;
        }
    }
    socket.set_send_buffer_size(config.sndbuf).map_err(os("setting sndbuf"))?;
    socket.set_recv_buffer_size(config.recbuf).map_err(os("setting recbuf"))?;
    bind(&socket, config)?;
    UdpSocket::from_std(socket.into()).map_err(os("setting the socket up"))
}

/// Binds without sharing: of several agents on a host each has a port to itself, and
/// every port is sent to.
fn bind(socket: &Socket, config: &McastConfig) -> Result<(), SocketError> {
    let any = match config.addr {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    for &port in &config.ports {
        match socket.bind(&SockAddr::from(SocketAddr::new(any, port))) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) => return Err(os("binding a port")(error)),
        }
    }
    Err(SocketError::NoPort(config.ports.clone()))
}

/// `cluster.mcast.iface`: an address of this host, or an interface's name.
fn interface(socket: &Socket, config: &McastConfig) -> Result<Interface, SocketError> {
    let text = config.iface.trim();
    let none = || SocketError::NoInterface(text.to_owned());
    match text.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Ok(Interface::Any),
        Ok(IpAddr::V4(address)) if config.addr.is_ipv4() => Ok(Interface::Address(address)),
        Ok(IpAddr::V6(address)) if config.addr.is_ipv6() => {
            let table = std::fs::read_to_string("/proc/net/if_inet6").map_err(|_| none())?;
            index_of(&table, address).map(Interface::Index).ok_or_else(none)
        }
        Ok(_) => Err(none()),
        Err(_) if text.is_empty() => Ok(Interface::Any),
        Err(_) => rustix::net::netdevice::name_to_index(socket, text)
            .map(Interface::Index)
            .map_err(|_| none()),
    }
}

/// Looks an address up in Linux' `/proc/net/if_inet6`: lines of address and interface
/// index, both in hexadecimal, and more.
fn index_of(table: &str, address: Ipv6Addr) -> Option<u32> {
    let wanted: String = address.octets().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut rows = table.lines().map(|line| line.split_ascii_whitespace());
    let index = rows.find_map(|mut row| (row.next()? == wanted).then(|| row.next()).flatten())?;
    u32::from_str_radix(index, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_found_in_the_kernels_table() {
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe80000000000000005056fffec00001 1f 40 20 80     eth0\n";
        assert_eq!(index_of(table, Ipv6Addr::LOCALHOST), Some(1));
        assert_eq!(index_of(table, "fe80::50:56ff:fec0:1".parse().unwrap()), Some(31));
        assert_eq!(index_of(table, "fe80::1".parse().unwrap()), None);
    }
}
