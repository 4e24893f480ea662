//! Somebody who attacks a running agent, and what is watched meanwhile: the members, the
//! agent's memory, and how long a healthy link waits for an answer.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use muster::mesh::tls::TlsContext;
use muster::mesh::{MAX_UNAUTHENTICATED, MAX_UNAUTHENTICATED_PER_ADDRESS};
use muster::node::NodeName;
use muster::protocol::dist::frame::{Decoder, Prefix};
use muster::protocol::dist::handshake::{Event, Handshake, Local};
use muster::secret::Secret;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{Instant, timeout};

use super::agent::{Agent, COOKIE, Spec};
use super::cluster::Cluster;
use super::wait::{LONG, eventually, settled};

/// What a healthy peer waits at most: well below what makes membership ask others.
const IN_TIME: Duration = Duration::from_millis(500);

/// What one attack may leave behind in an agent's memory, bytes: a page here and there
/// that its allocator keeps.
const LEFT_BEHIND: usize = 1 << 20;

/// What an unauthenticated connection may cost, bytes.
pub const PER_CONNECTION: usize = 16 * 1024;

/// Where attacks come from: an address that is nobody's.
pub const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 66);

pub trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A connection, TLS or not.
pub type Stream = Box<dyn Duplex>;

pub async fn connect(to: SocketAddr, from: Ipv4Addr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::new(IpAddr::V4(from), 0)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket.connect(to).await.unwrap()
}

/// Waits until the other end closed; whatever it said before.
pub async fn closed(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut said = Vec::new();
    // A reset, and an alert of TLS, are ways of closing too.
    let _how = timeout(LONG, stream.read_to_end(&mut said)).await.expect("closed in time");
    said
}

pub fn local(name: &str, cookie: &str) -> Arc<Local> {
    let name = NodeName::parse(name).unwrap();
    Arc::new(Local { name, creation: 1, cookies: [Secret::new(cookie)].into() })
}

/// Runs a dialler's handshake to its end; an error when the other end refuses. What came
/// behind it is in the decoder.
pub async fn shake(stream: &mut Stream, machine: &mut Handshake) -> io::Result<()> {
    loop {
        stream.write_all(&machine.transmit()).await?;
        stream.flush().await?;
        let mut bytes = [0; 512];
        let count = stream.read(&mut bytes).await?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        machine.handle(&bytes[..count]);
        while let Some(event) = machine.poll().map_err(io::Error::other)? {
            match event {
                Event::Done(_) => return Ok(()),
                // Whatever the other end has: this one knows of no link.
                Event::Alive => machine.answer_alive(true).map_err(io::Error::other)?,
                Event::Named(_) => {}
            }
        }
    }
}

/// An agent's anonymous memory, bytes: its heap and stacks, as the kernel counts them.
pub fn resident(agent: &Agent) -> usize {
    let path = format!("/proc/{}/status", agent.pid().as_raw_nonzero());
    let status = std::fs::read_to_string(path).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

/// The way in: where the victim listens, and how.
#[derive(Clone)]
pub struct Door {
    pub address: SocketAddr,
    pub victim: NodeName,
    /// The caller's certificates, where the mesh is TLS.
    pub tls: Option<TlsContext>,
}

impl Door {
    pub fn prefix(&self) -> Prefix {
        if self.tls.is_some() { Prefix::Four } else { Prefix::Two }
    }

    /// A connection to speak the distribution protocol on.
    pub async fn open(&self, from: Ipv4Addr) -> io::Result<Stream> {
        let stream = connect(self.address, from).await;
        Ok(match &self.tls {
            None => Box::new(stream),
            Some(tls) => {
                Box::new(tls.connect(&self.victim, stream).await.map_err(io::Error::other)?.0)
            }
        })
    }

    /// Comes in under a name, with a cookie.
    pub async fn enter(&self, from: Ipv4Addr, name: &str, cookie: &str) -> io::Result<Stream> {
        let mut stream = self.open(from).await?;
        let local = local(name, cookie);
        let mut machine = Handshake::dial(self.prefix(), local, self.victim.clone(), 1);
        shake(&mut stream, &mut machine).await?;
        Ok(stream)
    }
}

/// A healthy peer: an Erlang node as far as the victim can tell.
pub struct Friend {
    door: Door,
    stream: Option<(Stream, Decoder)>,
}

impl Friend {
    const NAME: &str = "b@127.0.0.2";
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
    /// `net_adm:ping/1` from that name, as OTP sends it.
    const PING: &[u8] =
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/control/is_auth"));

    pub fn of(door: &Door) -> Self {
        Self { door: door.clone(), stream: None }
    }

    /// The time of a ping and its pong. A link that was made anew is dialled again first.
    pub async fn round_trip(&mut self) -> Duration {
        loop {
            let (stream, decoder) = match &mut self.stream {
                Some(open) => open,
                None => {
                    let stream = self.door.enter(Self::ADDRESS, Self::NAME, COOKIE).await.unwrap();
                    self.stream.insert((stream, Decoder::new(Prefix::Four, 1 << 20)))
                }
            };
            match timeout(LONG, pinged(stream, decoder)).await.expect("a pong in time") {
                Ok(took) => return took,
                Err(_) => self.stream = None,
            }
        }
    }
}

async fn pinged(stream: &mut Stream, decoder: &mut Decoder) -> io::Result<Duration> {
    let start = Instant::now();
    let length = u32::try_from(Friend::PING.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, Friend::PING].concat()).await?;
    stream.flush().await?;
    loop {
        while let Some(frame) = decoder.next_frame().unwrap() {
            if frame.windows(3).any(|word| word == b"yes") {
                return Ok(start.elapsed());
            }
        }
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes).await? {
            0 => return Err(ErrorKind::UnexpectedEof.into()),
            count => decoder.push(&bytes[..count]),
        }
    }
}

/// Two agents, the first of them attacked.
pub struct Scene {
    pub cluster: Cluster,
    door: Door,
    friend: Friend,
    before: Vec<Value>,
}

impl Scene {
    /// `friend`: the certificates of `b@127.0.0.2`, where the mesh is TLS.
    pub fn new(cluster: Cluster, friend: Option<TlsContext>) -> Self {
        let port = cluster.ground().ports.mesh(1);
        let door = Door {
            address: (Ipv4Addr::LOCALHOST, port).into(),
            victim: NodeName::parse(cluster[0].name()).unwrap(),
            tls: friend,
        };
        let friend = Friend::of(&door);
        let before = cluster.histories();
        Self { cluster, door, friend, before }
    }

    /// With other certificates, or with those of the healthy peer.
    pub fn door(&self, tls: Option<TlsContext>) -> Door {
        Door { tls: tls.or_else(|| self.door.tls.clone()), ..self.door.clone() }
    }

    pub fn address(&self) -> SocketAddr {
        self.door.address
    }

    pub fn victim(&self) -> &Agent {
        &self.cluster[0]
    }

    /// One row of the table: an attack, the metric that counts it, and what the log says.
    /// It is repeated until the log has a line, since a cause gets one a second.
    pub async fn row(&mut self, name: &str, metric: &str, log: &str, attack: impl AsyncFn()) {
        self.watch(name, metric, log, LEFT_BEHIND, attack).await;
    }

    /// The row of a flood: half-open connections that have sent these bytes.
    pub async fn flood(&mut self, name: &str, connections: usize, bytes: &[u8]) {
        let metric = "muster_connections_refused_total{cause=\"total_limit\"}";
        let log = "too many connections in their handshake";
        let to = self.address();
        let attack = async || half_open(to, connections, bytes).await;
        // The allocator may keep what as many as there may be have cost.
        let left = MAX_UNAUTHENTICATED * PER_CONNECTION;
        self.watch(name, metric, log, left, attack).await;
    }

    /// What the attack gives back stays until it is counted: the victim may take connections
    /// later than the kernel did, and of those that have ended by then none needs a place.
    async fn watch<Kept>(
        &mut self,
        name: &str,
        metric: &str,
        log: &str,
        may_leave: usize,
        attack: impl AsyncFn() -> Kept,
    ) {
        let victim = &self.cluster[0];
        self.friend.round_trip().await;
        let (memory, counted, logged) =
            (resident(victim), victim.metric(metric), victim.logs().len());
        let (mut slowest, mut attacks) = (Duration::ZERO, 0);
        let start = Instant::now();
        loop {
            let over = Cell::new(false);
            let attacked = async {
                let kept = attack().await;
                over.set(true);
                kept
            };
            let healthy = async {
                loop {
                    slowest = slowest.max(self.friend.round_trip().await);
                    if over.get() {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            let (kept, ()) = tokio::join!(attacked, healthy);
            attacks += 1;
            eventually(&format!("{name}: {metric} to grow"), LONG, || {
                (victim.metric(metric) >= counted + attacks).then_some(())
            });
            drop(kept);
            let logs = victim.logs();
            if logs[logged..].lines().any(|line| line.contains(log)) {
                break;
            }
            assert!(start.elapsed() < LONG, "{name}: no line with {log:?}:\n{}", &logs[logged..]);
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let left = resident(victim).saturating_sub(memory);
        println!(
            "{name}: {metric}, {} KiB left behind, slowest round trip {slowest:?}",
            left / 1024
        );
        assert!(left < may_leave, "{name}: {left}");
        assert!(slowest < IN_TIME, "{name}: {slowest:?}");
        assert_eq!(self.cluster.histories(), self.before, "{name}");
    }
}

/// What unauthenticated connections cost an agent, bytes each, once they have sent these
/// bytes and heard the beginning of an answer, if there is one. The agent is a fresh one,
/// so that nothing is paid for with memory it has already; then for one connection more
/// one is refused, for the cause given.
pub async fn cost(spec: Spec, k: u16, attack: Attack<'_>, refused: &str) -> usize {
    let Attack { what, connections, bytes, answered } = attack;
    let agent = spec.seeds(&[""; 0]).start();
    let to = (Ipv4Addr::LOCALHOST, agent.ground().ports.mesh(k)).into();
    let before = resident(&agent);
    let mut held = Vec::new();
    let sources = MAX_UNAUTHENTICATED / MAX_UNAUTHENTICATED_PER_ADDRESS;
    for number in 0..connections {
        let source = Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(number % sources).unwrap());
        let mut stream = connect(to, source).await;
        stream.write_all(bytes).await.unwrap();
        if answered {
            stream.read_u8().await.unwrap();
        }
        held.push(stream);
    }
    let mut one_more = connect(to, ATTACKER).await;
    // The victim may have closed already.
    let _closed = one_more.write_all(bytes).await;
    eventually(&format!("{what}: {refused}"), LONG, || (agent.metric(refused) == 1).then_some(()));
    // What was sent is read once the memory stands still.
    let now = settled("the agent's memory to stand still", LONG, || resident(&agent));
    let each = now.saturating_sub(before) / connections;
    println!("{what}: {each} bytes for each of {connections} connections");
    each
}

/// So many connections that stop there.
pub struct Attack<'a> {
    pub what: &'a str,
    pub connections: usize,
    pub bytes: &'a [u8],
    pub answered: bool,
}

/// Half-open connections from eight addresses: more than each one's share, and more than
/// there may be in all. Each sends these bytes and stops. Those that are still open are given
/// back.
async fn half_open(to: SocketAddr, connections: usize, bytes: &[u8]) -> VecDeque<TcpStream> {
    let mut held = VecDeque::new();
    for number in 0..connections {
        let source = Ipv4Addr::new(127, 0, 1, 1 + u8::try_from(number % 8).unwrap());
        let mut stream = connect(to, source).await;
        // The victim may have closed already.
        let _closed = stream.write_all(bytes).await;
        held.push_back(stream);
        // Descriptors of this process are limited, too.
        if held.len() > MAX_UNAUTHENTICATED + 100 {
            held.pop_front();
        }
    }
    held
}

/// Says something as soon as it is connected, and waits for the end.
pub async fn say(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = connect(to, ATTACKER).await;
    // The victim may have closed already.
    let _closed = stream.write_all(bytes).await;
    closed(&mut stream).await
}
