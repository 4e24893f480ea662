//! A switch that takes its time: every frame is delivered late, in order within its
//! flow. Kernels of small machines come without `netem`, so this one is a packet socket
//! (packet(7)) and two threads in the switch's namespace.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::fs::File;
use std::net::{Ipv4Addr, UdpSocket};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use rustix::net::sockopt::{Timeout, set_socket_recv_buffer_size, set_socket_timeout};
use rustix::net::{
    AddressFamily, Protocol, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::wait::{LONG, eventually};

/// Larger than any segment the hosts send: they use this MTU, so that the kernel has
/// no reason to hand over segments that are still to be cut.
pub const MTU: u16 = 65_535;

const LARGEST_FRAME: usize = MTU as usize + 14;

/// How soon the threads see that they are to end.
const LOOK: Duration = Duration::from_millis(50);

type Mac = [u8; 6];

/// The address of host `k`; frames of others, as the switch's own kernel, are ignored.
pub fn mac(k: u16) -> String {
    let [high, low] = k.to_be_bytes();
    format!("02:00:00:00:{high:02x}:{low:02x}")
}

/// How late frames come, one way.
#[derive(Clone, Copy, Debug)]
pub struct Lateness {
    pub delay: Duration,
    /// Drawn anew for every frame: at most so much less or more.
    pub jitter: Duration,
}

/// A running switch; stopped when dropped.
#[derive(Debug)]
pub struct SlowSwitch {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    delivered: Arc<AtomicUsize>,
}

struct Delivery {
    at: Instant,
    to: SocketAddrAny,
    frame: Vec<u8>,
}

impl SlowSwitch {
    /// Switches between the interfaces of a namespace, once every host was heard.
    #[track_caller]
    pub fn start(switch: &str, hosts: &[String], lateness: Lateness) -> Self {
        let socket = Arc::new(inside(switch, packet_socket));
        let stop = Arc::new(AtomicBool::new(false));
        let known = Arc::new(AtomicUsize::new(0));
        let delivered = Arc::new(AtomicUsize::new(0));
        let (deliveries, due) = channel();
        let reader = {
            let (socket, stop, known) =
                (Arc::clone(&socket), Arc::clone(&stop), Arc::clone(&known));
            thread::spawn(move || read(&socket, &stop, &known, lateness, &deliveries))
        };
        let writer = {
            let delivered = Arc::clone(&delivered);
            thread::spawn(move || write(&socket, &due, &delivered))
        };
        let this = Self { stop, threads: vec![reader, writer], delivered };
        // A port is known by the first frame that comes out of it.
        eventually("the switch to hear every host", LONG, || {
            hosts.iter().for_each(|host| inside(host, call_out));
            (known.load(Ordering::Relaxed) == hosts.len()).then_some(())
        });
        this
    }

    /// Frames delivered so far.
    pub fn delivered(&self) -> usize {
        self.delivered.load(Ordering::Relaxed)
    }
}

impl Drop for SlowSwitch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            // A second panic would hide the test's own.
            assert!(ended.is_ok() || thread::panicking(), "the switch failed");
        }
    }
}

/// Does something on a thread of its own, which is in that network namespace.
fn inside<T: Send>(namespace: &str, action: impl FnOnce() -> T + Send) -> T {
    let file = File::open(format!("/run/netns/{namespace}")).unwrap();
    thread::scope(|scope| {
        let there = scope.spawn(move || {
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            action()
        });
        there.join().unwrap()
    })
}

/// Hears every frame of every interface of the namespace.
fn packet_socket() -> OwnedFd {
    /// `ETH_P_ALL` in network byte order.
    const ALL: u32 = (3_u16.to_be()) as u32;
    let all = NonZeroU32::new(ALL).map(Protocol::from_raw);
    let flags = SocketFlags::CLOEXEC;
    let socket =
        rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, all).unwrap();
    set_socket_timeout(&socket, Timeout::Recv, Some(LOOK)).unwrap();
    set_socket_recv_buffer_size(&socket, 4 << 20).unwrap();
    socket
}

fn call_out() {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap();
    socket.set_broadcast(true).unwrap();
    // An interface that is not up yet is called out of again.
    let _not_yet = socket.send_to(b"here", (Ipv4Addr::new(10, 99, 0, 255), 9));
}

#[allow(clippy::disallowed_methods, reason = "frames between real processes take real time")]
fn read(
    socket: &OwnedFd,
    stop: &AtomicBool,
    known: &AtomicUsize,
    lateness: Lateness,
    deliveries: &Sender<Delivery>,
) {
    let mut rng = SmallRng::seed_from_u64(300);
    let mut ports: BTreeMap<Mac, SocketAddrAny> = BTreeMap::new();
    let mut last: BTreeMap<(Mac, Mac), Instant> = BTreeMap::new();
    let mut buffer = vec![0; LARGEST_FRAME];
    while !stop.load(Ordering::Relaxed) {
        let (length, from) =
            match rustix::net::recvfrom(socket, &mut buffer[..], RecvFlags::empty()) {
                Ok((length, _, Some(from))) => (length, from),
                _ => continue,
            };
        let mut frame = buffer[..length].to_vec();
        let Some((to, rest)) = frame.split_first_chunk::<6>() else { continue };
        let Some((source, _)) = rest.split_first_chunk::<6>() else { continue };
        let (to, source) = (*to, *source);
        if !source.starts_with(&[2, 0, 0, 0]) {
            continue;
        }
        // Where frames come from is where frames can be sent to.
        ports.insert(source, from);
        known.store(ports.len(), Ordering::Relaxed);
        complete_checksum(&mut frame);
        let everybody = to[0] & 1 == 1;
        for (port, address) in &ports {
            if *port == source || !(everybody || *port == to) {
                continue;
            }
            let most = lateness.jitter.as_micros() as u64;
            let jitter = Duration::from_micros(rng.random_range(0..=2 * most));
            let at = Instant::now() + lateness.delay + jitter - lateness.jitter;
            let before = last.entry((source, *port)).or_insert(at);
            let at = at.max(*before);
            *before = at;
            let delivery = Delivery { at, to: address.clone(), frame: frame.clone() };
            deliveries.send(delivery).unwrap();
        }
    }
}

/// Delivers what is due, until the reader is gone.
#[allow(clippy::disallowed_methods, reason = "frames between real processes take real time")]
fn write(socket: &OwnedFd, due: &Receiver<Delivery>, delivered: &AtomicUsize) {
    let mut order: BinaryHeap<Reverse<(Instant, u64)>> = BinaryHeap::new();
    let mut waiting = BTreeMap::new();
    let mut count = 0_u64;
    loop {
        let now = Instant::now();
        while let Some(Reverse((at, number))) = order.peek().copied()
            && at <= now
        {
            order.pop();
            let Some(Delivery { to, frame, .. }) = waiting.remove(&number) else { continue };
            // A host that is gone gets nothing.
            if rustix::net::sendto(socket, &frame, SendFlags::empty(), &to).is_ok() {
                delivered.fetch_add(1, Ordering::Relaxed);
            }
        }
        let next = order.peek().map_or(LOOK, |Reverse((at, _))| at.saturating_duration_since(now));
        match due.recv_timeout(next) {
            Ok(delivery) => {
                // Numbered: what is due at one time stays in order.
                count += 1;
                order.push(Reverse((delivery.at, count)));
                waiting.insert(count, delivery);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Hosts leave the checksum of TCP and UDP to the interface, and so it is still to be
/// made (RFC 1071) when a packet socket reads the frame.
fn complete_checksum(frame: &mut [u8]) {
    const IPV4: [u8; 2] = [0x08, 0x00];
    let (Some(kind), Some(first)) = (frame.get(12..14), frame.get(14)) else { return };
    if kind != IPV4 {
        return;
    }
    let header = usize::from(first & 0x0f) * 4;
    let Some((ip, payload)) = frame[14..].split_at_mut_checked(header) else { return };
    let (Some(total), Some(&protocol)) = (ip.get(2..4), ip.get(9)) else { return };
    let total = usize::from(u16::from_be_bytes([total[0], total[1]]));
    let Some(payload) = payload.get_mut(..total.saturating_sub(header)) else { return };
    let at = match protocol {
        6 => 16,
        17 => 6,
        _ => return,
    };
    if payload.len() < at + 2 {
        return;
    }
    payload[at..at + 2].fill(0);
    let length = payload.len() as u16;
    let pseudo = ip[12..20].iter().copied().chain([0, protocol]).chain(length.to_be_bytes());
    let sum = ones_complement(pseudo) + ones_complement(payload.iter().copied());
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    let checksum = match !(folded as u16) {
        // Zero would say that there is none.
        0 => 0xffff,
        checksum => checksum,
    };
    payload[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// The sum of 16-bit words, an odd byte being the high one; not folded.
fn ones_complement(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.enumerate().map(|(at, byte)| u64::from(byte) << if at % 2 == 0 { 8 } else { 0 }).sum()
}
