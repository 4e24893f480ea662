use std::os::unix::fs::PermissionsExt;

use tokio::net::UnixStream;

use super::*;

/// Reads until the server hangs up; with the clock paused, time passes at once
/// when nothing else can happen.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is a way of hanging up, too.
    let _reset = stream.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

#[tokio::test(start_paused = true)]
async fn a_head_that_never_ends_is_cut_off() {
    let server = Server::start();
    let began = tokio::time::Instant::now();
    for head in ["", "GET /livez HTTP/1.1\r\nHost: local"] {
        let mut stream = server.connect().await;
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = until_closed(&mut stream).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    let took = began.elapsed();
    assert!(took >= HEAD_TIMEOUT && took <= 3 * HEAD_TIMEOUT, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_is_not_waited_for() {
    let server = Server::start();
    let mut stream = server.connect().await;
    let head = "POST /api/v1/cluster/join HTTP/1.1\r\nHost: localhost\r\n\
                Content-Type: application/json\r\nContent-Length: 30\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let answer = until_closed(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("REQUEST_TIMEOUT"), "{answer}");
}

#[tokio::test]
async fn heads_and_bodies_have_a_longest_length() {
    let server = Server::start();
    let many: String = (0..=MAX_HEADERS).map(|i| format!("X-{i}: y\r\n")).collect();
    for headers in [format!("X: {}\r\n", "y".repeat(MAX_HEAD)), many] {
        let mut stream = server.connect().await;
        let text = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        // The server may hang up before it has all of it.
        let _reset = stream.write_all(text.as_bytes()).await;
        let answer = until_closed(&mut stream).await;
        assert!(!answer.contains(" 200 "), "{answer}");
    }
    let long = format!("{{\"node\":\"{}\"}}", "x".repeat(super::super::body::MAX_BODY));
    let answer = server.send("POST", "/api/v1/cluster/join", &long).await;
    answer.assert_error(413, "PAYLOAD_TOO_LARGE");
    assert_eq!(server.get("/livez").await.status, 200);
}

/// The line of the metrics that counts a limit.
async fn reached(server: &Server, limit: &str) -> u64 {
    let line = format!("muster_limit_reached_total{{limit=\"{limit}\"}} ");
    let metrics = server.get("/metrics").await.body;
    metrics.lines().find_map(|have| have.strip_prefix(&line)?.parse().ok()).unwrap_or(0)
}

/// The fault was 400 of each kind, and a probe that waited for as long as they liked.
#[tokio::test]
async fn clients_that_say_nothing_or_half_of_it_keep_no_probe_out() {
    let server = Server::start();
    for begun in [
        "",
        "GET /livez HTTP/1.1\r\nHost: local",
        "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "POST /api/v1/cluster/join HTTP/1.1\r\nHost: localhost\r\n\
         Content-Type: application/json\r\nContent-Length: 30\r\n\r\n{",
    ] {
        let mut held = Vec::new();
        for _ in 0..400 {
            let mut stream = server.connect().await;
            // It may have been hung up on already.
            let _gone = stream.write_all(begun.as_bytes()).await;
            held.push(stream);
        }
        let began = tokio::time::Instant::now();
        assert_eq!(server.get("/livez").await.status, 200);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}: {begun:?}", began.elapsed());
        // The longest idle one was hung up on, long before its time was over.
        until_closed(&mut held[0]).await;
        assert!(began.elapsed() < HEAD_TIMEOUT / 2, "{:?}: {begun:?}", began.elapsed());
    }
    assert!(reached(&server, "api_connections_per_peer").await >= 4 * (400 - 128));
}

#[tokio::test]
async fn commands_leave_places_to_those_who_ask() {
    let mut server = Server::start();
    let leave = "POST /api/v1/cluster/leave HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut held = Vec::new();
    let mut commands = Vec::new();
    for _ in 0..super::super::commands::MAX_COMMANDS {
        let mut stream = server.connect().await;
        stream.write_all(leave.as_bytes()).await.unwrap();
        held.push(stream);
        commands.push(server.commands.recv().await.unwrap());
    }
    let refused = server.ask("POST", "/api/v1/cluster/leave", "", "").await;
    refused.assert_error(503, "SERVICE_UNAVAILABLE");
    assert_eq!(server.get("/livez").await.status, 200);
    commands.pop().unwrap().reply.send(Ok(())).unwrap();
    let mut last = held.pop().unwrap();
    let mut answer = [0; 12];
    last.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_stops_reading_is_cut_off() {
    let mut big = snapshot();
    big.description = "x".repeat(8 << 20);
    let server = Server::with(config(None), big);
    let mut stream = server.connect().await;
    stream.write_all(b"GET /api/v1/cluster HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    tokio::time::sleep(3 * WRITE_TIMEOUT).await;
    let answer = until_closed(&mut stream).await;
    assert!(answer.len() < 8 << 20, "all of it was written");
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_does_not_answer_is_not_waited_for() {
    let server = Server::start();
    let answer = server.ask("POST", "/api/v1/cluster/leave", "", "").await;
    answer.assert_error(504, "GATEWAY_TIMEOUT");
    assert_eq!(server.get("/api/v1/members").await.status, 200);
}

#[tokio::test]
async fn the_guard_stands_before_every_route() {
    let server = Server::with(config(Some("t0ken")), snapshot());
    let foreign = "GET /livez HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n";
    let mut stream = server.connect().await;
    stream.write_all(foreign.as_bytes()).await.unwrap();
    Answer::read(stream).await.assert_error(403, "FORBIDDEN");

    let origin = "Origin: http://evil.example\r\n";
    server.ask("GET", "/nothing", origin, "").await.assert_error(403, "FORBIDDEN");

    let refused = server.ask("POST", "/api/v1/cluster/leave", "", "").await;
    refused.assert_error(401, "UNAUTHORIZED");
    assert!(refused.head.contains("\r\nwww-authenticate: bearer"), "{refused:?}");
    assert!(refused.head.contains("\r\ncache-control: no-store"), "{refused:?}");
    assert_eq!(server.get("/api/v1/members").await.status, 200);
}

#[tokio::test]
async fn addresses_that_cannot_be_had_are_refused_at_once() {
    let mut config = config(None).agent.api;
    let held = Listener::bind(&config).unwrap();
    config.listen = held.listen().clone();
    let error = Listener::bind(&config).unwrap_err();
    assert!(matches!(error, BindError::InUse(_)), "{error}");
    assert!(error.to_string().contains("in use"), "{error}");

    config.listen = ApiListen::Tcp("0.0.0.0:0".parse().unwrap());
    let error = Listener::bind(&config).unwrap_err();
    assert!(matches!(error, BindError::TokenRequired(_)), "{error}");
}

#[tokio::test]
async fn a_unix_socket_is_for_owner_and_group_and_replaced_when_dead() {
    let (_dir, path) = scratch("muster.sock");
    let mut config = config(None).agent.api;
    config.listen = ApiListen::Unix(path.clone());

    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "a dead process's socket stays behind");
    let listener = Listener::bind(&config).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert!(matches!(Listener::bind(&config), Err(BindError::InUse(_))));
    let entries = std::fs::read_dir(path.parent().unwrap()).unwrap().count();
    assert_eq!(entries, 1, "nothing is left of the way the socket was made");
    drop(listener);
    // A life with the same number, as in a container, was killed on that way.
    let private = path.with_file_name(format!(".m{}", std::process::id()));
    std::fs::create_dir(&private).unwrap();
    drop(std::os::unix::net::UnixListener::bind(private.join("s")).unwrap());
    let listener = Listener::bind(&config).unwrap();
    assert!(!private.exists());

    let (_snapshots, snapshots) = watch::channel(Arc::new(snapshot()));
    let state = ApiState {
        config: watch::channel(Arc::new(super::config(None))).1,
        snapshot: snapshots,
        commands: Commands::channel().0,
        reloads: crate::command::Reloads::channel().0,
        events: Arc::default(),
        metrics: Arc::default(),
        notices: Arc::default(),
        reach: Arc::default(),
        broker: tokio::sync::watch::channel(crate::broker::BrokerReport::default()).1,
    };
    let (stop, stopped) = oneshot::channel::<()>();
    let task = tokio::spawn(serve(listener, state, async { drop(stopped.await) }));
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let request = b"GET /api/v5/cluster HTTP/1.1\r\nHost: whatever\r\nConnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    drop(stop);
    task.await.unwrap();
    assert!(!path.exists(), "the socket goes with its server");

    std::fs::write(&path, "precious").unwrap();
    assert!(matches!(Listener::bind(&config), Err(BindError::NotASocket(_))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
}

#[tokio::test]
async fn shutdown_answers_what_was_asked_and_ends() {
    let mut server = Server::start();
    let mut idle = server.connect().await;
    let mut asking = server.connect().await;
    let text = "POST /api/v1/cluster/leave HTTP/1.1\r\nHost: localhost\r\n\r\n";
    asking.write_all(text.as_bytes()).await.unwrap();
    let command = server.commands.recv().await.unwrap();
    server.begin_stop();
    assert_eq!(until_closed(&mut idle).await, "");
    command.reply.send(Ok(())).unwrap();
    assert_eq!(Answer::read(asking).await.status, 200);
    let address = server.address;
    server.stop().await;
    assert!(TcpStream::connect(address).await.is_err());
}
