//! An HTTP client that asks as fast as one core can.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// Enough to keep the server busy, few enough not to measure our own queue.
const CONNECTIONS: usize = 8;

/// What the client saw.
pub(crate) struct Load {
    pub(crate) per_second: f64,
    pub(crate) p99: Duration,
}

/// Asks for a path over kept connections until the time is over.
pub(crate) async fn run(api: SocketAddr, path: &str, window: Duration) -> Load {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {api}\r\n\r\n");
    let start = Instant::now();
    let connections = (0..CONNECTIONS).map(|_| one(api, request.as_bytes(), start + window));
    let mut times: Vec<Duration> = join_all(connections).await.concat();
    let elapsed = start.elapsed();
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    Load { per_second: times.len() as f64 / elapsed.as_secs_f64(), p99 }
}

async fn one(api: SocketAddr, request: &[u8], until: Instant) -> Vec<Duration> {
    let mut stream = TcpStream::connect(api).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times = Vec::new();
    let mut buffer = Vec::with_capacity(64 << 10);
    loop {
        let asked = Instant::now();
        if asked >= until {
            return times;
        }
        stream.write_all(request).await.unwrap();
        buffer.clear();
        while !is_whole(&buffer) {
            let read = stream.read_buf(&mut buffer).await.unwrap();
            assert_ne!(read, 0, "the agent closed the connection");
        }
        times.push(asked.elapsed());
    }
}

/// Whether the buffer holds an answer with its body. Anything but a 200 with a
/// length is no answer to measure.
fn is_whole(buffer: &[u8]) -> bool {
    let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return false;
    };
    let head = str::from_utf8(&buffer[..end]).unwrap().to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let length = head.split("content-length:").nth(1).expect("an answer without a length");
    let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
    buffer.len() >= end + 4 + length
}
