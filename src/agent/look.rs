//! A look at peers from beside an agent, over the mesh's own dial and as far as muster's
//! hello.
//!
//! Whoever looks is a hidden node under a name of its own and says nothing: an agent that
//! is dialled speaks first, and takes a node that never says hello for a plain Erlang one.
//! So a look shows cookie, certificates, names, versions and cluster names as a link would
//! meet them, and changes nothing at the peer, whatever its version.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::config::Config;
use crate::mesh::tls::TlsContext;
use crate::mesh::{DialError, LinkTimes, Mesh, MeshError, MeshEvent, MeshSettings};
use crate::metrics::Metrics;
use crate::node::{LinkId, NodeName};
use crate::protocol::membership::{Hello, Message};
use crate::reach::{self, Reach};
use crate::resolve::Resolver;

/// A handshake takes no longer, or the peer's process does not run.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// For everything about one batch of peers: a look-up, a connection, a handshake, a hello.
const BATCH_TIME: Duration = Duration::from_secs(12);

/// A hello, and an answer, come within this after the handshake.
const HELLO: Duration = Duration::from_secs(2);

/// Who has not answered within this is asked again: an agent answers one at a time, and
/// leaves out who asks right behind another.
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// Dials at one time: a cluster of hundreds must not exhaust the file descriptors.
const AT_ONCE: usize = 32;

/// What was seen of one peer.
#[derive(Debug)]
pub enum Sight {
    /// The handshake was finished: cookie, names and certificates are right.
    Linked(Box<Linked>),
    /// It was not.
    Failed {
        /// On what.
        error: DialError,
        /// In the mesh's word.
        cause: &'static str,
    },
}

/// A peer behind a finished handshake.
#[derive(Debug)]
pub struct Linked {
    /// Where it is.
    pub remote: SocketAddr,
    /// How long its system took to answer.
    pub rtt: Option<Duration>,
    /// What it says of itself; `None`: it is no muster agent, or one that hangs.
    pub hello: Option<Box<Hello>>,
    /// Whom it reaches, where that was asked and it knows the question.
    pub reach: Option<Vec<Reach>>,
}

/// How to look.
#[derive(Clone, Debug)]
pub struct Looker {
    /// The name to look under.
    pub node: NodeName,
    /// Links are TLS with this, plain TCP without.
    pub tls: Option<TlsContext>,
    /// Whether to ask whom a peer reaches.
    pub ask: bool,
    /// Finds the peers' addresses.
    pub resolver: Arc<Resolver>,
}

/// A name that no member has, on this node's host: what certificates are issued for.
#[must_use]
pub fn passing_name(own: &NodeName) -> NodeName {
    let text = format!("muster-look-{:08x}@{}", rand::random::<u32>(), own.host_str());
    // A host that is too long for it leaves the node's own name.
    NodeName::parse(&text).unwrap_or_else(|_| own.clone())
}

impl Looker {
    /// Looks at every peer, some at a time.
    ///
    /// # Errors
    /// [`MeshError`]: there is no cookie to look with.
    pub async fn look(
        &self,
        config: &Config,
        peers: &[NodeName],
    ) -> Result<BTreeMap<NodeName, Sight>, MeshError> {
        let mesh = &config.agent.mesh;
        let settings = MeshSettings {
            node: self.node.clone(),
            creation: rand::random(),
            cookies: config.node.cookies.clone(),
            bind: Vec::new(),
            peer_base_port: mesh.base_port,
            ipv6: config.cluster.proto_dist.is_ipv6(),
            handshake_timeout: mesh.handshake_timeout.min(HANDSHAKE),
            max_frame: mesh.max_frame,
            times: LinkTimes::default(),
            resolver: Arc::clone(&self.resolver),
            tls: self.tls.clone(),
        };
        let (mesh, mut events) = Mesh::bind(settings, Arc::new(Metrics::default()))?;
        let mut seen = BTreeMap::new();
        for batch in peers.chunks(AT_ONCE) {
            Batch::new(&mesh, self.ask, batch).run(&mut events, &mut seen).await;
        }
        mesh.shutdown().await;
        Ok(seen)
    }
}

/// Peers that are looked at together.
struct Batch<'a> {
    mesh: &'a Mesh,
    ask: bool,
    waiting: BTreeSet<NodeName>,
    links: BTreeMap<LinkId, NodeName>,
    /// Whose answer is awaited, and when they are asked again.
    asked: BTreeSet<LinkId>,
    again: Instant,
    by: Instant,
}

impl<'a> Batch<'a> {
    fn new(mesh: &'a Mesh, ask: bool, peers: &[NodeName]) -> Self {
        for peer in peers {
            mesh.dial(peer.clone());
        }
        let now = Instant::now();
        Self {
            mesh,
            ask,
            waiting: peers.iter().cloned().collect(),
            links: BTreeMap::new(),
            asked: BTreeSet::new(),
            again: now + ASK_AGAIN,
            by: now + BATCH_TIME,
        }
    }

    async fn run(
        mut self,
        events: &mut mpsc::Receiver<MeshEvent>,
        seen: &mut BTreeMap<NodeName, Sight>,
    ) {
        while !self.waiting.is_empty() {
            match timeout_at(self.by.min(self.again), events.recv()).await {
                Ok(Some(event)) => self.take(event, seen),
                Ok(None) => break,
                Err(_elapsed) if Instant::now() >= self.by => break,
                Err(_elapsed) => self.ask_again(),
            }
        }
        for link in self.links.keys() {
            self.mesh.close(*link, "seen");
        }
    }

    fn ask_again(&mut self) {
        for link in &self.asked {
            // Where it does not go out, no answer comes, which is then shown.
            let _sent = self.mesh.send(*link, reach::ASK);
        }
        self.again = Instant::now() + ASK_AGAIN;
    }

    fn take(&mut self, event: MeshEvent, seen: &mut BTreeMap<NodeName, Sight>) {
        match event {
            MeshEvent::Up { link, peer, rtt, remote, .. } => {
                if self.links.len() + 1 >= self.waiting.len() {
                    // Everybody is linked, so that only the hellos are waited for.
                    self.by = self.by.min(Instant::now() + HELLO);
                }
                let linked = Linked { remote, rtt, hello: None, reach: None };
                seen.insert(peer.clone(), Sight::Linked(Box::new(linked)));
                self.links.insert(link, peer);
            }
            MeshEvent::DialFailed { peer, error, cause, .. } => {
                self.waiting.remove(&peer);
                seen.insert(peer, Sight::Failed { error, cause });
            }
            MeshEvent::Frame { link, payload, .. } => {
                let Some(peer) = self.links.get(&link) else { return };
                let Some(Sight::Linked(linked)) = seen.get_mut(peer) else { return };
                if let Some(rows) = reach::read(&payload) {
                    linked.reach = Some(rows);
                    self.waiting.remove(peer);
                    self.asked.remove(&link);
                } else if let Ok(Message::Hello(hello)) = Message::decode(&payload) {
                    let asked = self.ask && hello.protocol >= reach::SINCE;
                    linked.hello = Some(hello);
                    if asked {
                        self.asked.insert(link);
                        // Where it does not go out, no answer comes, which is then shown.
                        let _sent = self.mesh.send(link, reach::ASK);
                    } else {
                        self.waiting.remove(peer);
                    }
                }
            }
            MeshEvent::Down { link, .. } => {
                self.asked.remove(&link);
                if let Some(peer) = self.links.remove(&link) {
                    self.waiting.remove(&peer);
                }
            }
        }
    }
}
