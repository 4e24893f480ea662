use std::net::SocketAddr;

use axum::http::request::Builder;

use super::*;

const LOCAL: &str = "127.0.0.1:50000";
const REMOTE: &str = "10.0.0.9:50000";

fn tcp(remote: &str, local: &str) -> Peer {
    let address = |text: &str| text.parse::<SocketAddr>().unwrap();
    Peer::Tcp { remote: address(remote), local: address(local) }
}

fn status(token: Option<&str>, peer: Peer, request: Builder) -> u16 {
    let token = token.map(Secret::new);
    let request = request.body(()).unwrap();
    check(token.as_ref(), peer, &request).map_or_else(|error| error.status().as_u16(), |()| 200)
}

fn get(host: &str) -> Builder {
    Request::get("/api/v1/members").header("host", host)
}

#[test]
fn only_own_names_are_answered() {
    let v4 = tcp(LOCAL, "127.0.0.1:7370");
    let v6 = tcp("[::1]:50000", "[::1]:7370");
    let mapped = tcp("[::ffff:127.0.0.1]:50000", "[::ffff:127.0.0.1]:7370");
    for (peer, host, expected) in [
        (v4, "127.0.0.1:7370", 200),
        (v4, "127.0.0.1", 200),
        (v4, "localhost:7370", 200),
        (v4, "LOCALHOST", 200),
        (v4, "127.0.0.53:8080", 200),
        (v4, "[::1]:7370", 200),
        (v6, "[::1]:7370", 200),
        (mapped, "127.0.0.1:7370", 200),
        (v4, "evil.example", 403),
        (v4, "localhost.evil.example", 403),
        (v4, "127.0.0.1.evil.example:7370", 403),
        (v4, "10.0.0.1:7370", 403),
        (v4, "", 400),
        (v4, "a b", 400),
        (Peer::Unix, "anything", 200),
    ] {
        assert_eq!(status(None, peer, get(host)), expected, "Host: {host}");
    }
    assert_eq!(status(None, v4, Request::get("/")), 400);
    let twice = get("127.0.0.1").header("host", "evil.example");
    assert_eq!(status(None, v4, twice), 400);
    let absolute = Request::get("http://evil.example/").header("host", "127.0.0.1");
    assert_eq!(status(None, v4, absolute), 400);
}

#[test]
fn origins_must_be_the_host_itself() {
    let peer = tcp(LOCAL, "127.0.0.1:7370");
    for (host, origin, expected) in [
        ("127.0.0.1:7370", "http://127.0.0.1:7370", 200),
        ("localhost", "http://localhost", 200),
        ("localhost:80", "http://localhost", 200),
        ("localhost", "https://localhost:443", 200),
        ("localhost:7370", "http://localhost:7371", 403),
        ("127.0.0.1:7370", "http://evil.example", 403),
        ("127.0.0.1:7370", "http://127.0.0.1:7370.evil.example", 403),
        ("127.0.0.1:7370", "null", 403),
        ("127.0.0.1:7370", "file://127.0.0.1:7370", 403),
        ("127.0.0.1:7370", "", 403),
    ] {
        let request = get(host).header("origin", origin);
        assert_eq!(status(None, peer, request), expected, "Host: {host}, Origin: {origin}");
    }
    let own = || get("127.0.0.1:7370").header("origin", "http://127.0.0.1:7370");
    for second in ["http://127.0.0.1:7370", "http://evil.example"] {
        assert_eq!(status(None, peer, own().header("origin", second)), 400, "{second}");
    }
    let trusted = get("127.0.0.1:7370").header("authorization", "Bearer t0ken");
    let foreign = trusted.header("origin", "http://evil.example");
    assert_eq!(status(Some("t0ken"), peer, foreign), 403);
}

#[test]
fn a_token_guards_changes_and_every_remote_request() {
    let near = tcp(LOCAL, "127.0.0.1:7370");
    let far = tcp(REMOTE, "10.0.0.1:7370");
    let token = Some("t0ken");
    let post = || Request::post("/api/v1/cluster/leave").header("host", "127.0.0.1:7370");
    let with = |request: Builder, value: &str| request.header("authorization", value);

    assert_eq!(status(None, near, post()), 200);
    assert_eq!(status(token, near, get("localhost")), 200);
    assert_eq!(status(token, near, post()), 401);
    assert_eq!(status(token, Peer::Unix, post()), 401);
    assert_eq!(status(token, far, get("10.0.0.1:7370")), 401);
    for (value, expected) in [
        ("Bearer t0ken", 200),
        ("bearer t0ken", 200),
        ("Bearer t0keN", 401),
        ("Bearer t0ken ", 401),
        ("Bearer t0ke", 401),
        ("Bearer ", 401),
        ("Bearer", 401),
        ("Basic t0ken", 401),
        ("", 401),
    ] {
        assert_eq!(status(token, near, with(post(), value)), expected, "{value}");
        assert_eq!(status(token, far, with(get("10.0.0.1"), value)), expected, "{value}");
    }
}

#[test]
fn the_page_that_asks_for_the_token_is_served_without_it() {
    let far = tcp(REMOTE, "10.0.0.1:7370");
    let page = |method: Method| Request::builder().method(method).uri("/");
    for host in ["10.0.0.1:7370", "agent1.example.org:7370"] {
        assert_eq!(status(Some("t0ken"), far, page(Method::GET).header("host", host)), 200);
        assert_eq!(status(Some("t0ken"), far, page(Method::HEAD).header("host", host)), 200);
        assert_eq!(status(Some("t0ken"), far, page(Method::POST).header("host", host)), 401);
    }
    let foreign = page(Method::GET).header("host", "evil.example");
    assert_eq!(status(None, tcp(LOCAL, "127.0.0.1:7370"), foreign), 403);
    let framed = page(Method::GET).header("host", "10.0.0.1").header("origin", "http://a.b");
    assert_eq!(status(Some("t0ken"), far, framed), 403);
}

#[test]
fn one_authorization_is_one() {
    let near = tcp(LOCAL, "127.0.0.1:7370");
    let twice = Request::post("/").header("host", "localhost");
    let twice = twice.header("authorization", "Bearer t0ken").header("authorization", "x");
    assert_eq!(status(Some("t0ken"), near, twice), 401);
}

#[test]
fn only_the_token_opens_foreign_names() {
    let near = tcp(LOCAL, "127.0.0.1:7370");
    let far = tcp(REMOTE, "10.0.0.1:7370");
    let agent = || get("agent1.example.org:7370");
    assert_eq!(status(Some("t0ken"), near, agent()), 403);
    assert_eq!(status(Some("t0ken"), far, agent().header("authorization", "Bearer t0ken")), 200);
}
