use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config::ProbeConfig;

/// A server that reads once and answers each connection with the next of these; nothing
/// for `None`, and closes.
async fn server(answers: Vec<Option<&'static [u8]>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 512];
            let _read = stream.read(&mut buffer).await;
            if let Some(answer) = answer {
                let _written = stream.write_all(answer).await;
            }
        }
        // Nobody else is answered, and nobody refused.
        std::future::pending::<()>().await;
    });
    address
}

async fn asked(kind: BrokerKind, target: String) -> Result<(), String> {
    let probe = ProbeConfig {
        target,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(5),
        rise: 2,
        fall: 3,
    };
    let address = "127.0.0.1:1883".to_owned();
    let config = BrokerConfig { kind, address, probe, required: false, drive: false };
    ask(&config, &mut mqtt::Dialect::new()).await
}

#[tokio::test]
async fn tcp() {
    assert_eq!(asked(BrokerKind::Tcp, server(vec![]).await).await, Ok(()));
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = asked(BrokerKind::Tcp, nobody.to_string()).await.unwrap_err();
    assert!(refused.to_lowercase().contains("refused"), "{refused}");
}

#[tokio::test]
async fn mqtt_of_either_version() {
    for (answers, wanted) in [
        (vec![Some(&b"\x20\x02\x00\x00"[..])], Ok(())),
        // Speaks version 5 alone: closes first.
        (vec![None, Some(&b"\x20\x03\x00\x00\x00"[..])], Ok(())),
        (vec![Some(&b"\x20\x02\x00\x03"[..])], Err("unavailable")),
        (vec![Some(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..])], Err("instead of a CONNACK")),
        (vec![None, None], Err("closes the connection")),
    ] {
        let answer = asked(BrokerKind::Mqtt, server(answers.clone()).await).await;
        match wanted {
            Ok(()) => assert_eq!(answer, Ok(()), "{answers:?}"),
            Err(text) => assert!(answer.clone().unwrap_err().contains(text), "{answer:?}"),
        }
    }
}

#[tokio::test]
async fn http() {
    for (answer, wanted) in [
        (Some(&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..]), Ok(())),
        (Some(&b"HTTP/1.1 204 No Content\r\n\r\n"[..]), Ok(())),
        (Some(&b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"[..]), Err("503")),
        (Some(&b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"[..]), Err("302")),
        // A body without end.
        (Some(&b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome"[..]), Ok(())),
        (Some(&b"SSH-2.0-OpenSSH\r\n"[..]), Err("")),
        (None, Err("")),
    ] {
        let url = format!("http://{}/status", server(vec![answer]).await);
        let found = asked(BrokerKind::Emqx, url).await;
        match wanted {
            Ok(()) => assert_eq!(found, Ok(()), "{answer:?}"),
            Err(text) => assert!(found.clone().unwrap_err().contains(text), "{found:?}"),
        }
    }
}

#[test]
fn reasons_fit_into_a_statement() {
    assert_eq!(short("refused"), "refused");
    assert!(short(&"ä".repeat(400)).len() <= MAX_DETAIL);
    assert_eq!(short("a\nb"), "a\\u{a}b");
}
