//! DNS over TCP (RFC 7766): a query behind its length, its answer likewise.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{Id, JoinSet};
use tokio::time::{sleep, timeout};

use super::answer::MAX_QUERY;
use super::{Carrier, PAUSE, Server, Standing};

/// Connections at one time. Clients come only for long answers and forwarders keep a few.
/// At some 70 kB for the longest answer each, all of them cost 5 MB at the worst.
pub(super) const PLACES: usize = 64;

/// Of them, those of one address: a quarter, so that no single host keeps all others out.
pub(super) const PLACES_PER_ADDRESS: usize = 16;

/// A connection on which no whole query came for so long is closed.
pub(super) const IDLE: Duration = Duration::from_secs(5);

/// An answer that is not taken for so long is given up with its connection.
const WRITE: Duration = Duration::from_secs(5);

/// Accepts until it is dropped, and its connections with it.
pub(super) async fn serve(server: &Arc<Server>, listener: &TcpListener) {
    let trouble = Standing::new(&server.notices, "dns_tcp".to_owned());
    let mut failing = false;
    let mut connections = JoinSet::new();
    let mut places: HashMap<Id, IpAddr> = HashMap::new();
    loop {
        tokio::select! {
            Some(ended) = connections.join_next_with_id() => {
                let id = match ended {
                    Ok((id, ())) => id,
                    Err(error) => error.id(),
                };
                places.remove(&id);
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, from)) => {
                    if std::mem::take(&mut failing) {
                        trouble.clear();
                    }
                    let address = from.ip().to_canonical();
                    let same = places.values().filter(|taken| **taken == address).count();
                    if places.len() >= PLACES || same >= PLACES_PER_ADDRESS {
                        server.count("no_place");
                        server.limit(
                            "dns_connections",
                            "64 TCP connections ask for DNS answers, or 16 of one address; \
                             further ones are closed",
                        );
                        continue;
                    }
                    let task = connections.spawn(converse(Arc::clone(server), stream, from));
                    places.insert(task.id(), address);
                }
                Err(error) => {
                    failing = true;
                    trouble.set(&format!(
                        "no connections can be accepted for DNS over TCP: {error}; it is tried \
                         again; if files run out, raise the limit of open files (LimitNOFILE)"
                    ));
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Answers one query after another, until the client closes, waits too long or sends
/// what is no query.
async fn converse(server: Arc<Server>, mut stream: TcpStream, from: SocketAddr) {
    let mut query = Vec::new();
    loop {
        match timeout(IDLE, read(&mut stream, &mut query)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => return server.count("formerr"),
            Ok(Err(_)) | Err(_) => return,
        }
        let Some(answer) = server.respond(&query, from, Carrier::Tcp) else { return };
        let Ok(length) = u16::try_from(answer.len()) else { return };
        let mut framed = Vec::with_capacity(2 + answer.len());
        framed.extend_from_slice(&length.to_be_bytes());
        framed.extend_from_slice(&answer);
        match timeout(WRITE, stream.write_all(&framed)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}

/// Reads one query; false: it is longer than any.
async fn read(stream: &mut TcpStream, query: &mut Vec<u8>) -> std::io::Result<bool> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_QUERY {
        return Ok(false);
    }
    query.resize(length, 0);
    stream.read_exact(query).await?;
    Ok(true)
}
