use super::*;

/// The raw text of one event stream.
struct Reader {
    stream: TcpStream,
    text: String,
}

impl Reader {
    async fn open(server: &Server, last_event_id: Option<&str>) -> Self {
        let mut stream = server.connect().await;
        let resume = last_event_id.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
        let head = format!("GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n{resume}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Self { stream, text: String::new() }
    }

    /// Reads on until this text was read; what came before it and it.
    async fn until(&mut self, wanted: &str) -> String {
        let deadline = Duration::from_secs(60);
        tokio::time::timeout(deadline, async {
            loop {
                if let Some(at) = self.text.find(wanted) {
                    let rest = self.text.split_off(at + wanted.len());
                    return std::mem::replace(&mut self.text, rest);
                }
                let mut bytes = [0; 4096];
                let count = self.stream.read(&mut bytes).await.unwrap();
                assert_ne!(count, 0, "closed; so far: {}", self.text);
                self.text.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
            }
        })
        .await
        .unwrap_or_else(|_| panic!("no {wanted:?} in {:?}", self.text))
    }
}

#[tokio::test]
async fn news_come_as_they_happen() {
    let server = Server::start();
    server.push("emqx2@127.0.0.1", MemberStatus::Suspect);
    let mut reader = Reader::open(&server, None).await;
    let head = reader.until("id: 101\n\n").await;
    assert!(head.to_ascii_lowercase().contains("content-type: text/event-stream"), "{head}");
    server.push("emqx2@127.0.0.1", MemberStatus::Down);
    let event = reader.until("}\n\n").await;
    let event = &event[event.find("id: ").unwrap()..];
    assert_eq!(
        event,
        "id: 102\nevent: changed\ndata: {\"id\":102,\"at\":\"2026-01-31T12:34:56.789Z\",\
         \"kind\":\"changed\",\"node\":\"emqx2@127.0.0.1\",\"from\":\"up\",\"to\":\"down\",\
         \"reason\":\"refused\",\"text\":\"it\\nsaid so\",\"by\":\"emqx@127.0.0.1\"}\n\n"
    );
    server.push("emqx2@127.0.0.1", MemberStatus::Up);
    reader.until("id: 103\n").await;
}

#[tokio::test]
async fn a_reader_resumes_behind_the_id_it_names() {
    let server = Server::start();
    for _ in 0..300 {
        server.push("emqx2@127.0.0.1", MemberStatus::Down);
    }
    let mut reader = Reader::open(&server, Some("150")).await;
    let text = reader.until("id: 400\n").await;
    let ids: Vec<u64> = text
        .lines()
        .filter_map(|line| line.strip_prefix("id: "))
        .map(|id| id.parse().unwrap())
        .collect();
    assert_eq!(ids, (151..=400).collect::<Vec<_>>());
    assert!(!text.contains("reset"));
    let mut all = Reader::open(&server, Some("0")).await;
    assert_eq!(all.until("id: 101\n").await.matches("id: ").count(), 1);
}

#[tokio::test]
async fn a_newcomer_may_begin_with_the_last_events() {
    let server = Server::start();
    let open = async |last: &str| {
        let mut stream = server.connect().await;
        let head = format!("GET /api/v1/events?last={last} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        Reader { stream, text: String::new() }
    };
    let mut early = open("50").await;
    early.until("retry: 2000\n").await;
    for _ in 0..60 {
        server.push("emqx2@127.0.0.1", MemberStatus::Down);
    }
    assert_eq!(early.until("id: 160\n").await.matches("\nid: ").count(), 60);
    let mut reader = open("50").await;
    let text = reader.until("id: 160\n").await;
    assert!(text.contains("\nid: 111\n") && !text.contains("id: 110\n"), "{text}");
    assert_eq!(text.matches("\nid: ").count(), 50);
    let mut more = open("1024").await;
    assert_eq!(more.until("id: 160\n").await.matches("\nid: ").count(), 60);
    for bad in ["1025", "-1", "x", "50&more=1"] {
        server.get(&format!("/api/v1/events?last={bad}")).await.assert_error(400, "BAD_REQUEST");
    }
}

#[tokio::test]
async fn an_id_that_is_not_known_resets() {
    let server = Server::start();
    server.push("emqx2@127.0.0.1", MemberStatus::Down);
    for unknown in ["7", "4711", "18446744073709551615", "-1", "x"] {
        let mut reader = Reader::open(&server, Some(unknown)).await;
        reader.until("id: 101\nevent: reset\ndata: {\"id\":101}\n\n").await;
    }
    let mut reader = Reader::open(&server, Some("x")).await;
    reader.until("event: reset").await;
    server.push("emqx2@127.0.0.1", MemberStatus::Up);
    assert!(!reader.until("id: 102\n").await.contains("reset\nid"));
}

#[tokio::test(start_paused = true)]
async fn silence_is_filled_with_comments() {
    let server = Server::start();
    let mut reader = Reader::open(&server, None).await;
    reader.until("id: 100\n\n").await;
    reader.until(": still here\n\n").await;
    reader.until(": still here\n\n").await;
}

/// The fault was that as many readers as are allowed kept every other one out.
#[tokio::test]
async fn readers_that_never_read_keep_no_other_from_the_news() {
    let server = Server::start();
    let mut slow = Vec::new();
    for _ in 0..MAX_READERS {
        let mut reader = Reader::open(&server, None).await;
        reader.until("id: 100\n\n").await;
        slow.push(reader);
    }
    let mut late = Reader::open(&server, None).await;
    late.until("id: 100\n\n").await;
    server.push("emqx2@127.0.0.1", MemberStatus::Down);
    late.until("id: 101\n").await;
    let mut oldest = slow.swap_remove(0);
    let mut rest = String::new();
    // A reset is a way of hanging up, too.
    let _reset = oldest.stream.read_to_string(&mut rest).await;
    assert!(!rest.contains("id: 101"), "{rest}");
    let mut second = slow.swap_remove(1);
    second.until("id: 101\n").await;
    let metrics = server.get("/metrics").await.body;
    let line = "muster_limit_reached_total{limit=\"api_event_readers\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test]
async fn shutdown_ends_the_streams() {
    let server = Server::start();
    let mut reader = Reader::open(&server, None).await;
    reader.until("id: 100\n\n").await;
    let began = tokio::time::Instant::now();
    server.stop().await;
    assert!(began.elapsed() < DRAIN_GRACE, "it was cut, not ended");
    let mut rest = String::new();
    reader.stream.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "{rest:?}");
}
