//! MQTT 3.1.1 as far as a client that publishes needs it.

use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A broker, or what stands in front of it, that does not answer by then is lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// A connected client.
pub struct Client {
    stream: TcpStream,
    packet: u16,
}

impl Client {
    /// Connects, and waits until it is welcome.
    pub fn connect(address: SocketAddr, name: &str) -> io::Result<Self> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        let mut rest = b"\x00\x04MQTT\x04\x02\x00\x3c".to_vec();
        rest.extend([0, u8::try_from(name.len()).unwrap()]);
        rest.extend(name.bytes());
        let mut packet = vec![0x10, u8::try_from(rest.len()).unwrap()];
        packet.extend(rest);
        stream.write_all(&packet)?;
        let mut answer = [0; 4];
        stream.read_exact(&mut answer)?;
        match answer {
            [0x20, 2, _, 0] => Ok(Self { stream, packet: 0 }),
            other => Err(io::Error::other(format!("not a welcome: {other:02x?}"))),
        }
    }

    /// Publishes with quality of service 1, and waits until it was taken.
    pub fn publish(&mut self, topic: &str, payload: &[u8]) -> io::Result<()> {
        self.packet = self.packet % 60_000 + 1;
        let mut rest = vec![0, u8::try_from(topic.len()).unwrap()];
        rest.extend(topic.bytes());
        rest.extend(self.packet.to_be_bytes());
        rest.extend(payload);
        let mut packet = vec![0x32, u8::try_from(rest.len()).unwrap()];
        packet.extend(rest);
        self.stream.write_all(&packet)?;
        let mut answer = [0; 4];
        self.stream.read_exact(&mut answer)?;
        let [high, low] = self.packet.to_be_bytes();
        if answer == [0x40, 2, high, low] {
            return Ok(());
        }
        Err(io::Error::other(format!("not taken: {answer:02x?}")))
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _goodbye = self.stream.write_all(&[0xe0, 0]);
    }
}
