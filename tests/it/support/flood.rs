//! Strangers who connect and say nothing, from many addresses, as fast as one thread can.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use muster::mesh::MAX_UNAUTHENTICATED;
use rustix::process::{Resource, getrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use super::wait::{LONG, eventually};

/// Connections held open to each target at one time: what its kernel may keep for it, and
/// more than it has places for, since one that has ended by then needs no place.
const HELD: usize = 4096 + MAX_UNAUTHENTICATED + 100;

/// A running flood; it ends when dropped.
pub struct Flood {
    stop: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// Begins connections to all of these, each from another of so many addresses, and
    /// waits until some thousands have been made.
    #[track_caller]
    pub fn start(targets: Vec<SocketAddr>, addresses: u8) -> Self {
        let (stop, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let thread = {
            let (stop, made) = (Arc::clone(&stop), Arc::clone(&made));
            std::thread::spawn(move || flood(&targets, addresses, &stop, &made))
        };
        let flood = Self { stop, made, thread: Some(thread) };
        eventually("the flood to rise", LONG, || (flood.made() > 4_000).then_some(()));
        flood
    }

    /// Connections so far.
    pub fn made(&self) -> usize {
        self.made.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let ended = thread.join();
            // A second panic would hide the test's own.
            assert!(ended.is_ok() || std::thread::panicking(), "the flood failed");
        }
    }
}

fn flood(targets: &[SocketAddr], addresses: u8, stop: &AtomicBool, made: &AtomicUsize) {
    // The other half of this process's descriptors is for everything else.
    let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / 2;
    let most = usize::try_from(most).unwrap().min(HELD * targets.len());
    let mut held = VecDeque::new();
    let mut number = 0_usize;
    while !stop.load(Ordering::Relaxed) {
        let last = 1 + u8::try_from(number % usize::from(addresses)).unwrap();
        let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
        // Gone at once when it is closed, so that ports never run out.
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::new(127, 0, 1, last), 0)).into()).unwrap();
        match socket.connect(&targets[number % targets.len()].into()) {
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {}
            _under_way => held.push_back(socket),
        }
        if held.len() > most {
            held.pop_front();
        }
        number += 1;
        made.store(number, Ordering::Relaxed);
    }
}
