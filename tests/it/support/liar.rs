//! A hostile member: it has the cookie, and a hello that is in order.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use muster::node::{BootId, Incarnation, LinkId, NodeName, Role};
use muster::protocol::dist::control::Encoder;
use muster::protocol::membership::{
    Durable, Effect, Epoch, Health, Limits, Membership, Message, Reason, Record, Settings,
    Standing, Timing,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt, WriteHalf};
use tokio::task::JoinHandle;

use super::adversary::{Door, Stream};
use super::agent::COOKIE;

/// An open link to the victim. What comes back over it is read and dropped.
pub struct Liar {
    stream: WriteHalf<Stream>,
    encoder: Encoder,
    heard: JoinHandle<usize>,
}

impl Liar {
    /// Links under a name and says hello, as one of this cluster.
    pub async fn enter(door: &Door, from: Ipv4Addr, name: &str, cluster: &str) -> io::Result<Self> {
        let stream = door.enter(from, name, COOKIE).await?;
        let (mut read, stream) = tokio::io::split(stream);
        let heard = tokio::spawn(async move {
            let (mut heard, mut bytes) = (0, [0; 4096]);
            while let Ok(count @ 1..) = read.read(&mut bytes).await {
                heard += count;
            }
            heard
        });
        let node = NodeName::parse(name).unwrap();
        let mut liar = Self { stream, encoder: Encoder::new(&node, 1), heard };
        liar.say_bytes(&hello(&node, cluster, &door.victim)).await?;
        Ok(liar)
    }

    pub async fn say(&mut self, message: &Message) -> io::Result<()> {
        self.say_bytes(&message.encode()).await
    }

    pub async fn say_bytes(&mut self, payload: &[u8]) -> io::Result<()> {
        let mut frame = Vec::new();
        assert!(self.encoder.message(&mut frame, payload, 1 << 20));
        self.stream.write_all(&frame).await?;
        self.stream.flush().await
    }

    /// Waits until the victim has ended the link; what it had said by then, bytes.
    pub async fn ended(self) -> usize {
        self.heard.await.unwrap()
    }
}

/// What a node of this name and cluster says first.
fn hello(node: &NodeName, cluster: &str, to: &NodeName) -> Vec<u8> {
    let settings = Settings {
        node: node.clone(),
        boot: BootId(rand::random()),
        role: Role::Core,
        version: "0".to_owned(),
        cluster: cluster.to_owned(),
        automatic: true,
        autoheal: true,
        autoclean: None,
        full_mesh_limit: 64,
        leave_on_stop: false,
        whole_view_limit: Settings::WHOLE_VIEW,
        limits: Limits::default(),
        timing: Timing::default(),
    };
    let mut machine = Membership::new(settings, Durable::default(), Duration::ZERO, 1);
    machine.handle_link_up(Duration::ZERO, LinkId(1), to, true, None);
    let effects = std::iter::from_fn(|| machine.poll_effect());
    let mut frames = effects.filter_map(|effect| match effect {
        Effect::Send(_, frame) => Some(frame),
        _ => None,
    });
    frames.next().expect("a hello")
}

/// A member that nobody has met.
pub fn made_up(number: usize, by: &str) -> Record {
    Record {
        node: NodeName::parse(&format!("ghost{number}@10.9.9.9")).unwrap(),
        epoch: Epoch(1),
        standing: Standing::Member(Health::Down),
        incarnation: Incarnation(1),
        boot: BootId(1),
        role: Role::Replicant,
        reason: Some(Reason::Silent),
        by: NodeName::parse(by).unwrap(),
        version: "0".to_owned(),
        attributes: None,
        burial: 0,
    }
}
