//! The members over DNS: with dig, haproxy, dnsmasq, unbound, and another cluster's own
//! `dns` strategy.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::json;

use super::support::agent::{Agent, Ground, Spec};
use super::support::bind::free_port;
use super::support::dns::{Running, count, dig, question, try_count};
use super::support::programs::skip_without;
use super::support::wait::{LONG, eventually, timed};

/// Members on hosts of their own, each with a name server.
struct Members {
    agents: Vec<Agent>,
    ports: Vec<u16>,
}

impl Members {
    /// `hosts` of loopback, each agent with these lines of configuration.
    fn start(hosts: u16, lines: impl Fn(u16) -> String) -> Self {
        let ground = Ground::new(hosts);
        let names: Vec<String> = (1..=hosts).map(|k| format!("emqx{k}@127.0.0.{k}")).collect();
        let mut ports = Vec::new();
        let agents = (1..=hosts).map(|k| {
            let port = free_port(Ipv4Addr::LOCALHOST.into());
            ports.push(port);
            Spec::named(&ground, k, &names[usize::from(k) - 1])
                .seeds(&names)
                .line(&format!("agent.dns.listen = \"127.0.0.1:{port}\""))
                .line(&lines(k))
                .spawn()
        });
        let mut agents: Vec<Agent> = agents.collect();
        for agent in &mut agents {
            agent.wait_api();
        }
        let all = Self { agents, ports };
        for agent in &all.agents {
            agent.wait_nodes(LONG, &names, &[]);
        }
        all
    }

    fn server(&self, at: usize) -> SocketAddr {
        SocketAddr::new(Ipv4Addr::LOCALHOST.into(), self.ports[at])
    }
}

/// A broker as far as a TCP probe is concerned: takes connections until it is dropped.
struct Accepting {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Accepting {
    fn start(listener: TcpListener) -> Self {
        let (address, stop) = (listener.local_addr().unwrap(), Arc::<AtomicBool>::default());
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::SeqCst) {
                let _taken = listener.accept();
            }
        });
        Self { address, stop, thread: Some(thread) }
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _wake = TcpStream::connect(self.address);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// One for each host, on one port.
fn listeners(hosts: u16) -> (Vec<Accepting>, u16) {
    eventually("a port free on all hosts", LONG, || {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        let more = (2..=hosts).map(|k| TcpListener::bind(format!("127.0.0.{k}:{port}")));
        let all: Result<Vec<_>, _> = std::iter::once(Ok(first)).chain(more).collect();
        all.ok().map(|all| (all.into_iter().map(Accepting::start).collect(), port))
    })
}

fn broker(port: u16) -> impl Fn(u16) -> String {
    move |k| {
        format!(
            "agent.broker {{ kind = tcp, address = \"127.0.0.{k}:{port}\"\n\
             probe {{ target = \"127.0.0.{k}:{port}\", interval = 100ms, timeout = 100ms, \
             rise = 1, fall = 1 }} }}"
        )
    }
}

#[test]
fn every_name_is_answered() {
    if skip_without(&["dig"]) {
        return;
    }
    let (_brokers, port) = listeners(3);
    let members = Members::start(3, broker(port));
    let server = members.server(0);
    let all = ["127.0.0.1", "127.0.0.2", "127.0.0.3"];
    for name in ["mqtt.service.tests.muster", "nodes.tests.muster"] {
        for carrier in ["", "+tcp", "+noedns", "+bufsize=4096"] {
            let answer = dig(server, &format!("{name} A {carrier}"));
            assert_eq!(answer.data(), all, "{}", answer.text);
            assert!(answer.flags.starts_with("qr aa rd"), "{}", answer.text);
        }
        assert!(dig(server, &format!("{name} AAAA")).answer.is_empty());
    }
    let srv = dig(server, "_mqtt._tcp.service.tests.muster SRV");
    let targets = [1, 2, 3].map(|k| format!("0 1 {port} 127-0-0-{k}.addr.tests.muster."));
    assert_eq!(srv.data(), targets, "{}", srv.text);
    assert!(srv.text.contains("ADDITIONAL SECTION"), "{}", srv.text);
    assert_eq!(dig(server, "127-0-0-2.addr.tests.muster A").data(), ["127.0.0.2"]);
    assert_eq!(dig(server, "EMQX2.node.tests.muster A").data(), ["127.0.0.2"]);
    assert_eq!(dig(server, "muster NS").data(), ["ns.tests.muster."]);
    assert_eq!(dig(server, "ns.tests.muster A").data(), ["127.0.0.1"]);
    assert!(dig(server, "muster SOA").data()[0].starts_with("ns.tests.muster. hostmaster.muster."));
    for (question, status) in [
        ("muster A", "NOERROR"),
        ("node.tests.muster A", "NOERROR"),
        ("service.tests.muster A", "NOERROR"),
        ("emqx9.node.tests.muster A", "NXDOMAIN"),
        ("nobody.muster A", "NXDOMAIN"),
        ("example.org A", "REFUSED"),
        ("muster AXFR", "REFUSED"),
        ("version.bind TXT CH", "REFUSED"),
        ("muster SOA +opcode=notify", "NOTIMP"),
        ("muster SOA +edns=1 +noednsnegotiation", "BADVERS"),
    ] {
        let answer = dig(server, question);
        let refused = question.contains("AXFR") && answer.text.contains("Transfer failed");
        assert!(refused || answer.status == status, "{question}: {}", answer.text);
        assert!(answer.answer.is_empty());
    }
    let orders: Vec<_> = (0..40).map(|_| dig(server, "nodes.tests.muster A").answer).collect();
    assert!(orders.iter().any(|order| *order != orders[0]), "always the same order");
    let agent = &members.agents[0];
    assert!(agent.metric("muster_dns_queries_total{outcome=\"ok\"}") >= 50);
    assert!(agent.metric("muster_dns_queries_total{outcome=\"refused\"}") >= 2);
}

#[test]
fn a_change_is_in_the_answers_as_soon_as_in_the_view() {
    let (mut brokers, port) = listeners(3);
    let mut members = Members::start(3, broker(port));
    let server = members.server(0);
    let (nodes, service) = ("nodes.tests.muster", "mqtt.service.tests.muster");
    eventually("every broker", LONG, || (count(server, service) == 3).then_some(()));
    // A node that is killed: both sides watched from one place.
    members.agents[2].kill9();
    let down = members.agents[2].name().to_owned();
    eventually("the view", LONG, || (members.agents[0].status_of(&down)? == "down").then_some(()));
    assert_eq!((count(server, nodes), count(server, service)), (2, 2));
    // A broker that ends is out of the service, and its node is not.
    drop(brokers.remove(1));
    let path = format!("/api/v1/members/{}", members.agents[1].name());
    eventually("the view", LONG, || {
        let member = members.agents[0].get(&path);
        (member["broker"]["status"] == "down").then_some(())
    });
    let (seen, after) = timed(|| (count(server, nodes), count(server, service)));
    assert_eq!(seen, (2, 1));
    assert!(after <= Duration::from_millis(50), "{after:?}");
    // One that drains.
    let answer = members.agents[0].put("/api/v1/node/drain", &json!({ "reason": "update" }));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((count(server, nodes), count(server, service)), (2, 0));
    // One that left speaks of nobody.
    assert_eq!(members.agents[0].post("/api/v1/cluster/leave", &json!({})).status, 200);
    if !skip_without(&["dig"]) {
        assert_eq!(dig(server, &format!("{nodes} A")).status, "SERVFAIL");
    }
    let other = members.server(1);
    eventually("the others", LONG, || (count(other, nodes) == 1).then_some(()));
}

#[test]
fn hosts_that_are_names_and_ipv6_are_resolved() {
    if skip_without(&["dig"]) {
        return;
    }
    let ground = Ground::new(1);
    let port = free_port("::1".parse().unwrap());
    let mut agent = Spec::named(&ground, 1, "emqx1@127.0.0.1")
        .line(&format!("agent.dns {{ listen = \"[::1]:{port}\", domain = \"mq.test\", ttl = 5s }}"))
        .line("agent.broker { kind = tcp, address = \"localhost:1883\", probe.interval = 60s }")
        .start();
    agent.wait_api();
    let server = SocketAddr::new("::1".parse().unwrap(), port);
    let srv = "_mqtt._tcp.service.tests.mq.test SRV";
    eventually("a target", LONG, || {
        (dig(server, srv).data() == ["0 1 1883 localhost."]).then_some(())
    });
    eventually("its addresses", LONG, || {
        let v4 = dig(server, "mqtt.service.tests.mq.test A").data();
        (v4 == ["127.0.0.1"]).then_some(())
    });
    for carrier in ["", "+tcp"] {
        let answer = dig(server, &format!("emqx1.node.tests.mq.test A {carrier}"));
        assert_eq!(answer.data(), ["127.0.0.1"], "{}", answer.text);
        assert_eq!(answer.answer[0].split_whitespace().nth(1), Some("5"));
    }
    assert_eq!(dig(server, "ns.tests.mq.test AAAA").data(), ["::1"]);
}

#[test]
fn hostile_queries_leave_it_well() {
    let members = Members::start(1, |_| String::new());
    let server = members.server(0);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let good = question("nodes.tests.muster");
    let mut scrap = vec![0xff; 4000];
    for (round, byte) in scrap.iter_mut().take(2000).enumerate() {
        let mut bytes = good.clone();
        let at = round % bytes.len();
        bytes[at] = bytes[at].wrapping_add(u8::try_from(round % 251).unwrap());
        socket.send_to(&bytes, server).unwrap();
        socket.send_to(&bytes[..at], server).unwrap();
        *byte = u8::try_from(round % 256).unwrap();
    }
    socket.send_to(&scrap, server).unwrap();
    // A name that points to itself.
    let looped = [&good[..12], &[0xc0, 12, 0, 1, 0, 1]].concat();
    socket.send_to(&looped, server).unwrap();
    // The socket's queue may have been full.
    eventually("an answer", LONG, || try_count(server, "nodes.tests.muster").filter(|n| *n == 1));
    // Over TCP: places are few, and those who hold them and say nothing lose them.
    let connect = || TcpStream::connect(server).unwrap();
    let held: Vec<_> = (0..40).map(|_| connect()).collect();
    let refused = "muster_dns_queries_total{outcome=\"no_place\"}";
    eventually("a bound", LONG, || (members.agents[0].metric(refused) >= 1).then_some(()));
    let ask = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let length = u16::try_from(good.len()).unwrap().to_be_bytes();
        stream.write_all(&length).ok()?;
        stream.write_all(&good).ok()?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).ok()
    };
    eventually("a place again", LONG, || ask(connect()));
    drop(held);
    // What is longer than a query ends its connection.
    let mut stream = connect();
    stream.write_all(&[0xff, 0xff]).unwrap();
    let mut rest = Vec::new();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    assert_eq!(stream.read_to_end(&mut rest).unwrap_or(0), 0);
    assert_eq!(count(server, "nodes.tests.muster"), 1);
}

#[test]
fn a_port_that_is_taken_is_said() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let ground = Ground::new(1);
    let listen = taken.local_addr().unwrap();
    let mut agent = Spec::new(&ground, 1).line(&format!("agent.dns.listen = \"{listen}\"")).spawn();
    assert!(!agent.wait_exit().success());
    assert!(agent.logs().contains("another process has the port"), "{}", agent.logs());
}

/// A forwarder in front of an agent, which is asked for every name.
fn forwards(program: &str, start: impl Fn(SocketAddr, u16, &std::path::Path) -> Running) {
    if skip_without(&["dig", program]) {
        return;
    }
    let (_brokers, broker_port) = listeners(2);
    let members = Members::start(2, broker(broker_port));
    let port = free_port(Ipv4Addr::LOCALHOST.into());
    let home = members.agents[0].home().to_owned();
    let _running = start(members.server(0), port, &home);
    let forwarder = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let log = || std::fs::read_to_string(home.join("forwarder.log")).unwrap_or_default();
    let ready = super::support::wait::try_eventually(LONG, || {
        let answer = dig(forwarder, "mqtt.service.tests.muster A");
        (answer.data() == ["127.0.0.1", "127.0.0.2"]).then_some(())
    });
    let text = || dig(forwarder, "mqtt.service.tests.muster A").text;
    assert!(ready.is_some(), "{}\n{}", text(), log());
    let srv = dig(forwarder, "_mqtt._tcp.service.tests.muster SRV");
    let targets = [1, 2].map(|k| format!("0 1 {broker_port} 127-0-0-{k}.addr.tests.muster."));
    assert_eq!(srv.data(), targets, "{}", srv.text);
    assert_eq!(dig(forwarder, "127-0-0-2.addr.tests.muster A").data(), ["127.0.0.2"]);
    assert_eq!(dig(forwarder, "emqx2.node.tests.muster A +tcp").data(), ["127.0.0.2"]);
    assert_eq!(dig(forwarder, "nobody.node.tests.muster A").status, "NXDOMAIN");
    let nodata = dig(forwarder, "mqtt.service.tests.muster AAAA");
    assert!(nodata.status == "NOERROR" && nodata.answer.is_empty(), "{}", nodata.text);
    // It keeps answers for the second that they are good for.
    assert_eq!(members.agents[1].put("/api/v1/node/drain", &json!({})).status, 200);
    eventually("the change", LONG, || {
        (dig(forwarder, "mqtt.service.tests.muster A").data() == ["127.0.0.1"]).then_some(())
    });
}

#[test]
fn dnsmasq_forwards_to_it() {
    forwards("dnsmasq", |server, port, home| {
        let forward = format!("--server=/muster/127.0.0.1#{}", server.port());
        let port = format!("--port={port}");
        let arguments = [
            "--keep-in-foreground",
            "--conf-file=/dev/null",
            "--pid-file=",
            "--user=root",
            "--no-resolv",
            "--no-hosts",
            "--bind-interfaces",
            "--listen-address=127.0.0.1",
            &port,
            &forward,
        ];
        Running::start("dnsmasq", &arguments, &home.join("forwarder.log"))
    });
}

#[test]
fn unbound_asks_it() {
    forwards("unbound", |server, port, home| {
        let conf = home.join("unbound.conf");
        let text = format!(
            "server:\n  interface: 127.0.0.1@{port}\n  do-not-query-localhost: no\n  \
             username: \"\"\n  chroot: \"\"\n  directory: \"{}\"\n  pidfile: \"\"\n  \
             use-syslog: no\n  module-config: \"iterator\"\n  domain-insecure: \"muster\"\n\
             remote-control:\n  control-enable: no\n\
             stub-zone:\n  name: \"muster\"\n  stub-addr: 127.0.0.1@{}\n",
            home.display(),
            server.port()
        );
        std::fs::write(&conf, text).unwrap();
        let arguments = ["-d", "-c", conf.to_str().unwrap()];
        Running::start("unbound", &arguments, &home.join("forwarder.log"))
    });
}

/// What haproxy's socket answers.
fn haproxy_says(socket: &std::path::Path, command: &str) -> Option<String> {
    let mut stream = UnixStream::connect(socket).ok()?;
    stream.write_all(format!("{command}\n").as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}

#[test]
fn haproxy_fills_its_backends_from_it() {
    if skip_without(&["haproxy"]) {
        return;
    }
    let (_brokers, broker_port) = listeners(3);
    let members = Members::start(3, broker(broker_port));
    let home = members.agents[0].home().to_owned();
    let (conf, socket) = (home.join("haproxy.cfg"), home.join("haproxy.sock"));
    let text = format!(
        "global\n  stats socket {} level admin\n\
         defaults\n  mode tcp\n  timeout connect 1s\n  timeout client 5s\n  timeout server 5s\n\
         resolvers muster\n  nameserver agent 127.0.0.1:{}\n  resolve_retries 2\n  \
         timeout resolve 200ms\n  timeout retry 200ms\n  accepted_payload_size 1232\n  \
         hold valid 1s\n  hold obsolete 0s\n  hold nx 0s\n\
         backend srv\n  server-template mqtt 8 _mqtt._tcp.service.tests.muster resolvers muster \
         check inter 200ms init-addr none\n\
         backend a\n  server-template mqtt 8 mqtt.service.tests.muster:{broker_port} \
         resolvers muster resolve-prefer ipv4 check inter 200ms init-addr none\n",
        socket.display(),
        members.ports[0]
    );
    std::fs::write(&conf, text).unwrap();
    let arguments = ["-db", "-f", conf.to_str().unwrap()];
    let _running = Running::start("haproxy", &arguments, &home.join("haproxy.log"));
    // Addresses of the servers that are up, by backend.
    let up = |backend: &str| {
        let text = haproxy_says(&socket, &format!("show servers state {backend}"))?;
        let address = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // be_id be_name srv_id srv_name srv_addr srv_op_state …; 2 is "running".
            let up = words.get(5) == Some(&"2") && words.get(4) != Some(&"-");
            up.then(|| words[4].to_owned())
        };
        let mut addresses: Vec<String> = text.lines().skip(2).filter_map(address).collect();
        addresses.sort();
        Some(addresses)
    };
    let fills = |wanted: &[&str]| {
        for backend in ["srv", "a"] {
            let what = format!("{wanted:?} in {backend}, now {:?}", up(backend));
            eventually(&what, LONG, || up(backend).filter(|found| found == wanted));
        }
    };
    fills(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
    assert_eq!(members.agents[1].put("/api/v1/node/drain", &json!({})).status, 200);
    fills(&["127.0.0.1", "127.0.0.3"]);
    assert_eq!(members.agents[1].delete("/api/v1/node/drain").status, 204);
    fills(&["127.0.0.1", "127.0.0.2", "127.0.0.3"]);
}

#[test]
fn another_cluster_finds_the_nodes_by_it() {
    let members = Members::start(2, |_| String::new());
    let ground: Arc<Ground> = Ground::new(1);
    let server = members.server(0);
    let names = |record_type: &str, name: &str| {
        Spec::named(&ground, 1, "emqx1@127.0.0.9")
            .line("cluster.name = others")
            .line("cluster.discovery_strategy = dns")
            .line(&format!("cluster.dns {{ name = \"{name}\", record_type = {record_type} }}"))
            .line(&format!("agent.discovery.dns.nameservers = [\"{server}\"]"))
            .start()
    };
    let agent = names("a", "nodes.tests.muster");
    agent.wait_for("the nodes", LONG, |cluster| {
        cluster["discovery"]["nodes"] == json!(["emqx1@127.0.0.1", "emqx1@127.0.0.2"])
    });
    drop(agent);
    let agent = names("srv", "_mqtt._tcp.service.tests.muster");
    agent.wait_for("the nodes", LONG, |cluster| {
        let nodes = cluster["discovery"]["nodes"].as_array().cloned().unwrap_or_default();
        nodes.len() == 2 && nodes[0] == json!("emqx1@127-0-0-1.addr.tests.muster")
    });
}
