//! Asks name servers: with dig, and with bytes of its own.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// What dig makes of an answer.
#[derive(Debug)]
pub struct Dig {
    /// `NOERROR`, `NXDOMAIN`, …
    pub status: String,
    /// `qr aa rd`.
    pub flags: String,
    /// Lines of the answer section, in their order.
    pub answer: Vec<String>,
    /// All it said.
    pub text: String,
}

impl Dig {
    /// The data of the answers, sorted.
    pub fn data(&self) -> Vec<String> {
        let data = |line: &String| line.split_whitespace().skip(4).collect::<Vec<_>>().join(" ");
        let mut data: Vec<String> = self.answer.iter().map(data).collect();
        data.sort();
        data
    }
}

/// One question; the words are a name, a type and options.
#[track_caller]
pub fn dig(server: SocketAddr, words: &str) -> Dig {
    let output = Command::new("dig")
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string()])
        .args(["+tries=1", "+time=5"])
        .args(words.split_whitespace())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let behind = |word: &str| {
        let found = text.lines().find_map(|line| line.split_once(word)).map(|(_, rest)| rest);
        found.and_then(|rest| rest.split([',', ';']).next()).unwrap_or_default().trim().to_owned()
    };
    let section = text.lines().skip_while(|line| !line.starts_with(";; ANSWER SECTION"));
    let answer = section.skip(1).take_while(|line| !line.is_empty()).map(str::to_owned).collect();
    Dig { status: behind("status: "), flags: behind(";; flags:"), answer, text }
}

/// A question for A records as bytes: a name of plain labels.
pub fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

/// How many answers there are to a question; without starting a process.
#[track_caller]
pub fn count(server: SocketAddr, name: &str) -> u16 {
    try_count(server, name).expect("an answer")
}

/// [`count`]; `None` when no answer comes.
pub fn try_count(server: SocketAddr, name: &str) -> Option<u16> {
    let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(&question(name), server).unwrap();
    let mut buffer = [0; 2048];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    assert!(length >= 12 && buffer[..2] == [0x12, 0x34]);
    Some(u16::from_be_bytes([buffer[6], buffer[7]]))
}

/// [`try_count`] as a client that hears nobody but the address it asked.
pub fn answered_by(server: SocketAddr, name: &str) -> Option<u16> {
    let own = if server.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    let socket = UdpSocket::bind(own).unwrap();
    socket.connect(server).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send(&question(name)).unwrap();
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer).ok()?;
    assert!(length >= 12 && buffer[..2] == [0x12, 0x34]);
    Some(u16::from_be_bytes([buffer[6], buffer[7]]))
}

/// Queries from many addresses of loopback, as fast as they can be sent; ends when dropped.
pub struct Flood {
    over: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Flood {
    pub fn start(server: SocketAddr, name: &str, addresses: u8) -> Self {
        let own = |k| UdpSocket::bind((Ipv4Addr::new(127, 1, 0, k), 0)).unwrap();
        let sockets: Vec<UdpSocket> = (1..=addresses).map(own).collect();
        let (query, over) = (question(name), Arc::<AtomicBool>::default());
        let ended = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut sent = 0;
            while !ended.load(Ordering::Relaxed) {
                for socket in &sockets {
                    // A full queue is what a flood makes.
                    sent += u64::from(socket.send_to(&query, server).is_ok());
                }
            }
            sent
        });
        Self { over, thread: Some(thread) }
    }

    /// How many queries it sent.
    pub fn end(mut self) -> u64 {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// A server that runs in the foreground; killed when dropped.
pub struct Running(Child);

impl Running {
    pub fn start(program: &str, arguments: &[&str], log: &Path) -> Self {
        let log = File::create(log).unwrap();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
