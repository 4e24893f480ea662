//! MQTT as far as the answer to a CONNECT.
//!
//! MQTT 3.1.1 §3.1 and §3.2, MQTT 5.0 §3.1 and §3.2.

use std::io;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// The first byte of a CONNACK.
const CONNACK: u8 = 0x20;

/// A DISCONNECT of either version: normal, nothing else said.
const DISCONNECT: [u8; 2] = [0xe0, 0x00];

/// The version that a broker is asked in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// 3.1.1.
    V4,
    /// 5.0.
    V5,
}

/// How this agent introduces itself, and the version that was answered last: brokers that
/// speak only one of them are asked in it first.
#[derive(Debug)]
pub(super) struct Dialect {
    client: String,
    version: Version,
}

impl Dialect {
    pub(super) fn new() -> Self {
        // Of its own: a broker ends the older of two clients of one name. Letters and
        // digits, 23 at most, is what every broker takes.
        Self { client: format!("musterprobe{:08x}", rand::random::<u32>()), version: Version::V4 }
    }
}

/// Connects, asks, says goodbye.
pub(super) async fn ask(target: &str, dialect: &mut Dialect) -> Result<(), String> {
    match attempt(target, dialect.version, &dialect.client).await {
        // Who does not know the version closes the connection.
        Err(Refusal::Closed) => {}
        Err(Refusal::Other(reason)) => return Err(reason),
        Ok(()) => return Ok(()),
    }
    let other = match dialect.version {
        Version::V4 => Version::V5,
        Version::V5 => Version::V4,
    };
    match attempt(target, other, &dialect.client).await {
        Ok(()) => {
            dialect.version = other;
            Ok(())
        }
        Err(Refusal::Closed) => Err("it closes the connection instead of a CONNACK".to_owned()),
        Err(Refusal::Other(reason)) => Err(reason),
    }
}

enum Refusal {
    Closed,
    Other(String),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => Self::Closed,
            _ => Self::Other(error.to_string()),
        }
    }
}

async fn attempt(target: &str, version: Version, client: &str) -> Result<(), Refusal> {
    let mut stream =
        TcpStream::connect(target).await.map_err(|error| Refusal::Other(error.to_string()))?;
    stream.write_all(&connect(version, client)).await?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let verdict = connack(head);
    // It is answered; how the goodbye is taken is no matter.
    let _goodbye = stream.write_all(&DISCONNECT).await;
    let _closed = stream.shutdown().await;
    verdict.map_err(Refusal::Other)
}

/// A CONNECT with a clean session, no will, nobody's name, and a keep-alive of 10 s.
fn connect(version: Version, client: &str) -> Vec<u8> {
    let level = match version {
        Version::V4 => 4,
        Version::V5 => 5,
    };
    let mut rest = vec![0, 4, b'M', b'Q', b'T', b'T', level, 0x02, 0, 10];
    if version == Version::V5 {
        // No properties.
        rest.push(0);
    }
    let length = |bytes: usize| u8::try_from(bytes).unwrap_or(u8::MAX);
    rest.extend([0, length(client.len())]);
    rest.extend(client.bytes());
    let mut packet = vec![0x10, length(rest.len())];
    packet.extend(rest);
    packet
}

/// Judges the first bytes of an answer: its kind, its length (one byte, of a packet so
/// short), the session flag, the code. A broker that wants a name or a password answers,
/// and is up; one that says it cannot serve is not.
fn connack(head: [u8; 4]) -> Result<(), String> {
    match head {
        // Longer than 127 bytes: the code is further on.
        [CONNACK, (0x80..), ..] => Ok(()),
        [CONNACK, (..=1), ..] => Err("it answers with half a CONNACK".to_owned()),
        [CONNACK, 2, _, 3] => Err("it answers that the server is unavailable (3)".to_owned()),
        [CONNACK, (3..), _, 0x88] => {
            Err("it answers that the server is unavailable (0x88)".to_owned())
        }
        [CONNACK, (3..), _, 0x89] => Err("it answers that the server is busy (0x89)".to_owned()),
        [CONNACK, ..] => Ok(()),
        [kind, ..] => Err(format!("it answers with 0x{kind:02x} instead of a CONNACK")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_is_as_the_standards_write_it() {
        let v4 = connect(Version::V4, "ab");
        assert_eq!(v4, [0x10, 14, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 10, 0, 2, b'a', b'b']);
        let v5 = connect(Version::V5, "ab");
        assert_eq!(v5, [0x10, 15, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 10, 0, 0, 2, b'a', b'b']);
        let client = Dialect::new().client;
        assert!(client.len() <= 23 && client.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }

    #[test]
    fn answers() {
        for (head, good) in [
            ([0x20, 2, 0, 0], true),
            // Not authorised, unacceptable version: somebody answers.
            ([0x20, 2, 0, 5], true),
            ([0x20, 2, 0, 1], true),
            ([0x20, 2, 0, 3], false),
            ([0x20, 6, 0, 0], true),
            ([0x20, 3, 0, 0x87], true),
            ([0x20, 3, 0, 0x88], false),
            ([0x20, 3, 0, 0x89], false),
            ([0x20, 0x90, 1, 0], true),
            ([0x20, 1, 0, 0], false),
            ([0x30, 2, 0, 0], false),
            (*b"HTTP", false),
        ] {
            assert_eq!(connack(head).is_ok(), good, "{head:02x?}");
        }
    }
}
