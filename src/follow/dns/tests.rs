use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::follow::fixtures::{member, snapshot};

/// A question for the addresses of `nodes.emqxcl.muster`.
fn query() -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in ["nodes", "emqxcl", "muster"] {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend_from_slice(label.as_bytes());
    }
    bytes.extend_from_slice(&[0, 0, 1, 0, 1]);
    bytes
}

fn zone() -> Zone {
    Zone::new("emqxcl", "muster", Duration::from_secs(1), Ipv4Addr::LOCALHOST.into()).unwrap()
}

fn view(members: u8) -> Arc<Snapshot> {
    Arc::new(snapshot((1..=members).map(|n| member(&format!("e{n}@10.0.0.{n}"))).collect()))
}

fn server(members: u8) -> (Server, watch::Sender<Arc<Snapshot>>) {
    let (publish, snapshots) = watch::channel(view(members));
    let (_found, hosts) = watch::channel(Arc::default());
    (Server::new(zone(), snapshots, hosts, Arc::default(), Arc::default()), publish)
}

fn answers(bytes: &[u8]) -> u16 {
    u16::from_be_bytes([bytes[6], bytes[7]])
}

fn counted(metrics: &Metrics, outcome: &'static str) -> u64 {
    metrics.dns_queries.get_or_create(&Outcome { outcome: Word(outcome) }).get()
}

#[tokio::test]
async fn the_newest_snapshot_answers() {
    let (server, publish) = server(3);
    let from = SocketAddr::from(([127, 0, 0, 1], 5));
    let ask = || server.respond(&query(), from, Carrier::Udp).unwrap();
    assert_eq!(answers(&ask()), 3);
    let serial = server.table().serial;
    publish.send_replace(view(3));
    assert_eq!(server.table().serial, serial, "the same answers, whatever else changed");
    publish.send_replace(view(5));
    assert_eq!(answers(&ask()), 5);
    assert_eq!(server.table().serial, serial + 1);
    assert_eq!(counted(&server.metrics, "ok"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_forged_sender_is_worth_nothing() {
    let (server, _publish) = server(200);
    let victim = SocketAddr::from(([192, 0, 2, 7], 53));
    let asked = 5000 * query().len();
    let (mut long, mut short) = (0, 0);
    for _ in 0..5000 {
        match server.respond(&query(), victim, Carrier::Udp) {
            // Marked as cut, without any records: ask over TCP.
            Some(bytes) if answers(&bytes) == 0 => {
                assert!(bytes[2] & 2 != 0 && bytes.len() == query().len());
                short += bytes.len();
            }
            Some(bytes) => long += bytes.len(),
            None => {}
        }
    }
    assert!(long <= limit::BYTES_AT_ONCE as usize, "{long}");
    assert!((1..asked).contains(&short), "{short} for {asked}");
    assert!(counted(&server.metrics, "limited") > 4000);
    let reached = crate::metrics::Limit { limit: Word("dns_answers") };
    assert!(server.metrics.limit_reached.get_or_create(&reached).get() > 4000);
    // Over TCP nobody forges.
    assert!(server.respond(&query(), victim, Carrier::Tcp).is_some());
    // All queries together are bounded, too, even those that cost little.
    let from = SocketAddr::from(([127, 0, 0, 1], 5));
    let read = (0..30_000).filter(|_| server.respond(&query(), from, Carrier::Udp).is_some());
    assert!(read.count() <= limit::QUERIES_PER_SECOND as usize);
}

/// Forged senders of as many networks as there are: in all no more is sent than queries are
/// read, whatever each of them was allowed.
#[tokio::test(start_paused = true)]
async fn forged_senders_of_many_networks_are_bounded_in_all() {
    let (server, _publish) = server(200);
    let most = limit::QUERIES_PER_SECOND as usize;
    let (mut count, mut bytes) = (0, 0);
    for number in 0..3 * most {
        let [_, high, middle, low] = u32::try_from(number).unwrap().to_be_bytes();
        let from = SocketAddr::from(([198, high, middle, low], 53));
        if let Some(answer) = server.respond(&query(), from, Carrier::Udp) {
            count += 1;
            bytes += answer.len();
        }
    }
    assert!(count <= most && bytes <= most * usize::from(answer::MIN_UDP), "{count}, {bytes}");
    // Networks share places by chance: one that is over the share of its place is answered
    // in short now and then, which counts as limited, too.
    let limited = counted(&server.metrics, "limited");
    let unanswered = 3 * most as u64 - count as u64;
    assert!((unanswered..unanswered + most as u64).contains(&limited), "{limited}");
    // A second later, those who forged nothing are answered.
    tokio::time::advance(Duration::from_secs(1)).await;
    let from = SocketAddr::from(([203, 0, 113, 1], 53));
    assert!(server.respond(&query(), from, Carrier::Udp).is_some());
}

async fn running() -> (SocketAddr, Arc<Metrics>, tokio::task::JoinHandle<()>) {
    let (publish, snapshot) = watch::channel(view(3));
    let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let metrics = Arc::<Metrics>::default();
    let parts = Parts {
        zone: zone(),
        snapshot,
        resolver: Resolver::new(&[]).unwrap(),
        metrics: Arc::clone(&metrics),
        notices: Arc::default(),
    };
    let task = tokio::spawn(async move {
        let _held_open = publish;
        serve(&listener, parts).await;
    });
    (address, metrics, task)
}

async fn ask(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let query = query();
    stream.write_u16(u16::try_from(query.len()).unwrap()).await?;
    stream.write_all(&query).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[tokio::test]
async fn connections_are_kept_and_bounded() {
    let (address, metrics, task) = running().await;
    let mut first = TcpStream::connect(address).await.unwrap();
    for _ in 0..3 {
        assert_eq!(answers(&ask(&mut first).await.unwrap()), 3);
    }
    let mut held = Vec::new();
    for _ in 1..tcp::PLACES_PER_ADDRESS {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream).await.unwrap();
        held.push(stream);
    }
    let mut late = TcpStream::connect(address).await.unwrap();
    assert!(ask(&mut late).await.is_err());
    assert_eq!(counted(&metrics, "no_place"), 1);
    // A place that is given back is another's.
    drop(held);
    let again = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            if ask(&mut stream).await.is_ok() {
                return;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
    assert!(ask(&mut first).await.is_ok());
    // The server's end is its connections' end.
    task.abort();
    let _aborted = task.await;
    assert!(ask(&mut first).await.is_err());
}

#[tokio::test]
async fn who_says_nothing_loses_its_place() {
    let (address, _metrics, _task) = running().await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut slow = TcpStream::connect(address).await.unwrap();
    // Half a query, and no more.
    slow.write_all(&[0, 200, 1]).await.unwrap();
    let mut byte = [0];
    let limit = tcp::IDLE + Duration::from_secs(10);
    let ended = async { (silent.read(&mut byte).await, slow.read(&mut [0]).await) };
    let ended = tokio::time::timeout(limit, ended).await.unwrap();
    assert!(matches!(ended, (Ok(0), Ok(0))), "{ended:?}");
}

#[test]
fn an_address_that_cannot_be_had_is_said() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _inside = runtime.enter();
    let error = Listener::bind(SocketAddr::from(([192, 0, 2, 1], 0))).unwrap_err().to_string();
    assert!(error.contains("agent.dns.listen") && error.contains("no such address"), "{error}");
}
