use std::net::{Ipv4Addr, Ipv6Addr};

use tokio::net::UdpSocket;

use super::*;

fn node(name: &str) -> NodeName {
    NodeName::parse(name).unwrap()
}

#[tokio::test]
async fn literals_of_the_family_are_their_own_address() {
    let resolver = Resolver::new(&[]).unwrap();
    let found = resolver.resolve(&node("a@10.0.0.1"), false).await;
    assert_eq!(found, Ok(vec![[10, 0, 0, 1].into()]));
    let found = resolver.resolve(&node("a@::1"), true).await;
    assert_eq!(found, Ok(vec![Ipv6Addr::LOCALHOST.into()]));
    let error = resolver.resolve(&node("a@::1"), false).await.unwrap_err();
    let expected = "::1 is no IPv4 address, which cluster.proto_dist asks for";
    assert_eq!(error.to_string(), expected);
    assert!(resolver.resolve(&node("a@10.0.0.1"), true).await.is_err());
}

#[tokio::test]
async fn the_system_knows_localhost() {
    let resolver = Resolver::new(&[]).unwrap();
    let found = resolver.resolve(&node("a@localhost"), false).await.unwrap();
    assert!(found.contains(&Ipv4Addr::LOCALHOST.into()), "{found:?}");
}

/// Answers every A question with one address, which it counts up.
async fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut packet = [0; 512];
        for answer in 1u8.. {
            let (length, client) = socket.recv_from(&mut packet).await.unwrap();
            // The question ends behind its name, its type and its class.
            let name = packet[12..length].iter().position(|&byte| byte == 0).unwrap();
            let question = &packet[12..12 + name + 5];
            let reply = [
                &packet[..2],
                &[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0],
                question,
                &[0xc0, 12, 0, 1, 0, 1, 0, 0, 14, 16, 0, 4, 10, 0, 0, answer],
            ];
            socket.send_to(&reply.concat(), client).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn configured_servers_are_asked_each_time() {
    let resolver = Resolver::new(&[name_server().await]).unwrap();
    let peer = node("a@peer.example");
    let first = resolver.resolve(&peer, false).await.unwrap();
    // The answer's TTL is an hour; the address changed all the same.
    let second = resolver.resolve(&peer, false).await.unwrap();
    assert_ne!(first, second);
    assert!(first[0].is_ipv4() && first.len() == 1);
}
