use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::*;

const WITHIN: Duration = Duration::from_millis(600);

/// A server that answers with `head` and then `part` again and again, with a pause between.
async fn server(head: &'static str, part: &'static [u8], pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _request = stream.read(&mut [0; 4096]).await;
        if stream.write_all(head.as_bytes()).await.is_ok() {
            endless(&mut stream, part, pause).await;
        }
    });
    url
}

/// Until the other side closes.
async fn endless(stream: &mut TcpStream, part: &[u8], pause: Duration) {
    while stream.write_all(part).await.is_ok() {
        sleep(pause).await;
    }
}

#[tokio::test]
async fn who_answers_slowly_or_without_end_is_not_waited_for() {
    const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
    let (slow, fast) = (Duration::from_millis(20), Duration::ZERO);
    for (what, head, part, pause, wanted) in [
        ("a slow body", OK, &b"x"[..], slow, Some(200)),
        ("an endless body", OK, &[b'x'; 4096], fast, Some(200)),
        ("a body that never comes", OK, b"", Duration::from_secs(60), Some(200)),
        ("a slow refusal", "HTTP/1.1 503 No\r\n\r\n", b"x", slow, Some(503)),
        ("no answer", "", b"", Duration::from_secs(60), None),
        ("a slow head", "HTTP/1.1 200 OK\r\nX: ", b"x", slow, None),
        ("an endless head", "HTTP/1.1 200 OK\r\nX: ", &[b'x'; 4096], fast, None),
        ("endless headers", "HTTP/1.1 200 OK\r\n", b"X: y\r\n", fast, None),
    ] {
        let url = server(head, part, pause).await;
        let begun = Instant::now();
        let answer = send(Method::POST, &url, Some(b"{}".to_vec()), WITHIN).await;
        assert_eq!(answer.clone().ok().map(|status| status.as_u16()), wanted, "{what}: {answer:?}");
        assert!(begun.elapsed() < WITHIN * 5, "{what} took {:?}", begun.elapsed());
    }
}
