use std::collections::BTreeSet;

use serde_json::json;

use super::*;

#[tokio::test]
async fn the_cluster() {
    let server = Server::start();
    let answer = server.get("/api/v1/cluster").await;
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.json(),
        json!({
            "name": "emqxcl",
            "description": "for tests",
            "id": "00000000000000000000000000000abc",
            "self": "emqx@127.0.0.1",
            "strategy": "static",
            "proto_dist": "inet_tcp",
            "state": "joined",
            "running_nodes": ["emqx2@127.0.0.1", "emqx@127.0.0.1"],
            "stopped_nodes": ["emqx3@::1"],
            "view_hash": "000000000000beef",
            "views_agree": true,
            "disagreeing": [],
            "majority": true,
            "discovery": {
                "enabled": true,
                "nodes": ["emqx2@127.0.0.1"],
                "last_success": "2026-01-31T12:34:56.789Z",
                "last_error": null
            }
        })
    );
    let mut changed = snapshot();
    changed.id = None;
    changed.state = ClusterState::Forming;
    changed.disagreeing = vec![node("emqx2@127.0.0.1")];
    changed.conflict = Some("emqx2@127.0.0.1 knows another emqx@127.0.0.1".into());
    server.snapshot.send_replace(Arc::new(changed));
    let cluster = server.get("/api/v1/cluster").await.json();
    assert_eq!(cluster["id"], Value::Null);
    assert_eq!(cluster["state"], "forming");
    assert_eq!(cluster["views_agree"], false);
    assert_eq!(cluster["disagreeing"], json!(["emqx2@127.0.0.1"]));
    assert_eq!(cluster["conflict"], "emqx2@127.0.0.1 knows another emqx@127.0.0.1");
}

#[tokio::test]
async fn the_members_and_each_of_them() {
    let server = Server::start();
    let members = server.get("/api/v1/members").await.json();
    let first = json!({
        "node": "emqx2@127.0.0.1",
        "status": "suspect",
        "role": "core",
        "address": "127.0.0.1:6370",
        "incarnation": 3,
        "since": "2026-01-31T12:34:56.789Z",
        "link": "connected",
        "rtt_ms": 0.25,
        "version": "0.1.0",
        "self": false,
        "tags": {},
        "draining": false,
        "broker": null
    });
    assert_eq!(members["members"][0], first);
    assert_eq!(members["members"].as_array().map(Vec::len), Some(3));
    assert_eq!(members["members"][2]["self"], true);

    for (query, expected) in [("up", 1), ("suspect", 1), ("down", 1)] {
        let members = server.get(&format!("/api/v1/members?status={query}")).await.json();
        assert_eq!(members["members"].as_array().map(Vec::len), Some(expected));
        assert_eq!(members["members"][0]["status"], query);
    }

    let mut one = first;
    one["last_change"] = json!({
        "from": "suspect",
        "to": "suspect",
        "reason": "silent",
        "text": "silent for 2 s",
        "by": "emqx@127.0.0.1",
        "at": "2026-01-31T12:34:56.789Z"
    });
    assert_eq!(server.get("/api/v1/members/emqx2@127.0.0.1").await.json(), one);
    assert_eq!(server.get("/api/v1/members/emqx2%40127.0.0.1").await.json(), one);
    assert_eq!(server.get("/api/v1/members/emqx3@%3a%3A1").await.json()["node"], "emqx3@::1");
    for absent in ["emqx4@127.0.0.1", "nonsense", "%F0%9F%92%A9"] {
        let answer = server.get(&format!("/api/v1/members/{absent}")).await;
        answer.assert_error(404, "NOT_FOUND");
    }
    server.get("/api/v1/members/%ff").await.assert_error(400, "BAD_REQUEST");
}

#[tokio::test]
async fn who_reaches_whom_is_said_at_once_and_not_guessed() {
    let server = Server::start();
    let answer = server.get("/api/v1/reach").await;
    assert_eq!(answer.status, 200);
    let silent = |node: &str, reason: &str, text: &str| {
        let mut cells = json!(["silent", "silent", "silent"]);
        let place = ["emqx2@127.0.0.1", "emqx3@::1", "emqx@127.0.0.1"];
        cells[place.iter().position(|name| *name == node).unwrap()] = json!("itself");
        json!({ "node": node, "reaches": cells, "silent": { "reason": reason, "text": text } })
    };
    assert_eq!(
        answer.json(),
        json!({
            "nodes": ["emqx2@127.0.0.1", "emqx3@::1", "emqx@127.0.0.1"],
            "rows": [
                silent("emqx2@127.0.0.1", "waiting", "being asked"),
                silent("emqx3@::1", "down", "not asked: it is down"),
                {
                    "node": "emqx@127.0.0.1",
                    "reaches": ["connected", "connected", "itself"]
                },
            ]
        })
    );
    server.send("POST", "/api/v1/reach", "{}").await.assert_error(405, "METHOD_NOT_ALLOWED");
}

#[tokio::test]
async fn members_are_filtered() {
    let mut tagged = snapshot();
    let broker = |status| {
        Some(BrokerView { address: "a:1883".into(), status, since: at(), detail: String::new() })
    };
    tagged.members[0].tags.insert("zone", "a").unwrap();
    tagged.members[0].broker = broker(BrokerStatus::Down);
    tagged.members[1].tags.insert("zone", "b=c").unwrap();
    tagged.members[1].tags.insert("rack", "").unwrap();
    tagged.members[1].broker = broker(BrokerStatus::Up);
    let server = Server::with(config(None), tagged);
    for (query, expected) in [
        ("status=up", "emqx@127.0.0.1"),
        ("status=suspect", "emqx2@127.0.0.1"),
        ("status=down", "emqx3@::1"),
        ("tag=zone=a", "emqx2@127.0.0.1"),
        ("tag=zone%3Db%3Dc", "emqx3@::1"),
        ("tag=zone=b=c&tag=rack=", "emqx3@::1"),
        ("broker=up", "emqx3@::1"),
        ("broker=down&tag=zone=a&status=suspect", "emqx2@127.0.0.1"),
        ("tag=zone=c", ""),
        ("tag=zone=a&tag=rack=", ""),
        ("broker=unknown", ""),
        ("broker=up&status=up", ""),
    ] {
        let members = server.get(&format!("/api/v1/members?{query}")).await.json();
        let members = members["members"].as_array().unwrap();
        let names: Vec<_> = members.iter().map(|m| m["node"].as_str().unwrap()).collect();
        assert_eq!(names.join(" "), expected, "{query}");
    }
    for bad in
        ["status=sleepy", "status=", "broker=none", "tag=zone", "tag==a", "tag=Zone=a", "zone=a"]
    {
        let answer = server.get(&format!("/api/v1/members?{bad}")).await;
        answer.assert_error(400, "BAD_REQUEST");
    }
}

#[tokio::test]
async fn commands_reach_the_driver_and_its_answers_the_caller() {
    let mut server = Server::start();
    let join = |force| Action::Join { node: node("emqx2@10.0.0.2"), force };
    let forced = Action::ForceLeave { node: node("emqx3@::1"), force: true };
    let unforced = Action::ForceLeave { node: node("emqx3@::1"), force: false };
    let invite = Action::Invite { node: node("emqx2@10.0.0.2") };
    let purge = Action::ForceLeaveBroughtBy { node: node("emqx3@::1") };
    let off = Action::SetDiscovery { enabled: false };
    let (v1, v5) = ("/api/v1/cluster", "/api/v5/cluster");
    for (method, path, body, action, status) in [
        ("POST", format!("{v1}/join"), r#"{"node":"emqx2@10.0.0.2"}"#, join(false), 200),
        (
            "POST",
            format!("{v1}/join"),
            r#"{"node":"emqx2@10.0.0.2","force":true}"#,
            join(true),
            200,
        ),
        ("POST", format!("{v1}/leave"), "", Action::Leave, 200),
        ("POST", format!("{v1}/invite"), r#"{"node":"emqx2@10.0.0.2"}"#, invite.clone(), 200),
        ("PUT", format!("{v1}/discovery"), r#"{"enabled":false}"#, off, 200),
        ("DELETE", "/api/v1/members/emqx3@::1".into(), "", unforced.clone(), 204),
        ("DELETE", "/api/v1/members/emqx3%40%3A%3A1?force=true".into(), "", forced, 204),
        ("DELETE", "/api/v1/members?brought_by=emqx3@::1".into(), "", purge, 204),
        ("PUT", format!("{v5}/emqx2@10.0.0.2/invite"), "", invite.clone(), 200),
        ("PUT", format!("{v5}/emqx2@10.0.0.2/invite"), r#"{"timeout":5000}"#, invite, 200),
        ("DELETE", format!("{v5}/emqx3@::1/force_leave"), "", unforced, 204),
    ] {
        let address = server.address;
        let request = {
            let (method, path, body) = (method.to_owned(), path.clone(), body.to_owned());
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                let text = format!(
                    "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\
                     Content-Type: application/json; charset=utf-8\r\n\
                     Content-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(text.as_bytes()).await.unwrap();
                Answer::read(stream).await
            })
        };
        assert_eq!(server.on_command(Ok(())).await, action, "{method} {path}");
        let answer = request.await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        match path.starts_with(v1) {
            true => assert_eq!(answer.json()["self"], "emqx@127.0.0.1"),
            false => assert_eq!(answer.body, ""),
        }
    }
}

#[tokio::test]
async fn refusals_have_their_status_and_code() {
    let mut server = Server::start();
    let text = || "because".to_owned();
    for (refused, v1, code, v5) in [
        (RequestError::BadRequest(text()), 400, "BAD_REQUEST", (400, "BAD_REQUEST")),
        (RequestError::NotFound(text()), 404, "NOT_FOUND", (404, "NOT_FOUND")),
        (RequestError::Conflict(text()), 409, "CONFLICT", (400, "BAD_REQUEST")),
        (RequestError::Unreachable(text()), 504, "GATEWAY_TIMEOUT", (400, "BAD_REQUEST")),
        (RequestError::Stopping, 503, "SERVICE_UNAVAILABLE", (400, "BAD_REQUEST")),
    ] {
        for (path, (status, code)) in [
            ("/api/v1/members/emqx3@::1", (v1, code)),
            ("/api/v5/cluster/emqx3@::1/force_leave", v5),
        ] {
            let stream = server.connect().await;
            let mut stream = stream;
            let head = format!("DELETE {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close");
            stream.write_all(format!("{head}\r\n\r\n").as_bytes()).await.unwrap();
            server.on_command(Err(refused.clone())).await;
            Answer::read(stream).await.assert_error(status, code);
        }
    }
    drop(server.commands);
    let (_, empty) = mpsc::channel(1);
    server.commands = empty;
    let answer = server.ask("POST", "/api/v1/cluster/leave", "", "").await;
    answer.assert_error(503, "SERVICE_UNAVAILABLE");
}

#[tokio::test]
async fn unusable_requests_never_reach_the_driver() {
    let mut server = Server::start();
    let join = "/api/v1/cluster/join";
    for (body, status, code) in [
        ("", 400, "BAD_REQUEST"),
        ("{", 400, "BAD_REQUEST"),
        ("[]", 400, "BAD_REQUEST"),
        (r#"{"node":7}"#, 400, "BAD_REQUEST"),
        (r#"{"node":"nobody"}"#, 400, "BAD_REQUEST"),
        (r#"{"node":"a@b.c","forced":true}"#, 400, "BAD_REQUEST"),
        (r#"{"node":"a@b.c","force":"yes"}"#, 400, "BAD_REQUEST"),
    ] {
        server.send("POST", join, body).await.assert_error(status, code);
    }
    for kind in ["", "Content-Type: text/plain\r\n", "Content-Type: application/jsonp\r\n"] {
        let answer = server.ask("POST", join, kind, r#"{"node":"a@b.c"}"#).await;
        answer.assert_error(415, "UNSUPPORTED_MEDIA_TYPE");
    }
    let wrong = server.ask("DELETE", "/api/v1/members/a@b.c?force=perhaps", "", "").await;
    wrong.assert_error(400, "BAD_REQUEST");
    server.ask("DELETE", "/api/v1/members/nobody", "", "").await.assert_error(404, "NOT_FOUND");
    for (path, body) in [
        ("/api/v5/cluster/nobody/invite", ""),
        ("/api/v5/cluster/emqx@127.0.0.1/invite", ""),
        ("/api/v5/cluster/a@b.c/invite", r#"{"timeout":4999}"#),
        ("/api/v5/cluster/a@b.c/invite", r#"{"timeout":"soon"}"#),
    ] {
        server.send("PUT", path, body).await.assert_error(400, "BAD_REQUEST");
    }
    let own = "/api/v5/cluster/emqx@127.0.0.1/force_leave";
    server.ask("DELETE", own, "", "").await.assert_error(400, "BAD_REQUEST");
    assert!(server.commands.try_recv().is_err());
}

#[tokio::test]
async fn unknown_routes_and_wrong_methods() {
    let server = Server::start();
    for path in ["/nothing", "/api/v1", "/api/v1/members/", "/api/v2/cluster", "/livez/"] {
        server.get(path).await.assert_error(404, "NOT_FOUND");
    }
    for (method, path, allowed) in [
        ("POST", "/api/v1/members", "get,head"),
        ("PUT", "/api/v1/members/a@b.c", "get,head,delete"),
        ("GET", "/api/v1/cluster/join", "post"),
        ("TRACE", "/", "get,head"),
    ] {
        let answer = server.ask(method, path, "", "").await;
        answer.assert_error(405, "METHOD_NOT_ALLOWED");
        assert!(answer.head.contains(&format!("\r\nallow: {allowed}")), "{answer:?}");
    }
    let head = server.ask("HEAD", "/api/v1/members", "", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn readiness_names_what_is_missing() {
    let mut config = config(None);
    config.agent.ready.min_members = 2;
    let server = Server::with(config, snapshot());
    let failing = |health: &Value| -> BTreeSet<String> {
        let checks = health["checks"].as_array().unwrap().iter();
        checks.filter(|c| c["ok"] == false).map(|c| c["name"].as_str().unwrap().into()).collect()
    };
    let answer = server.get("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["ready"], false);
    assert_eq!(failing(&answer.json()), BTreeSet::from(["min_members".to_owned()]));
    let reason = "1 up, 2 wanted -> start the missing agents, or lower agent.ready.min_members";
    assert_eq!(answer.json()["checks"][2]["reason"], reason);
    assert_eq!(answer.json().get("notices"), None);

    let mut worse = snapshot();
    worse.state = ClusterState::Forming;
    worse.majority = false;
    worse.discovery.answered = false;
    worse.discovery.last_error = Some("connection refused".into());
    worse.conflict = Some("another emqx@127.0.0.1".into());
    server.snapshot.send_replace(Arc::new(worse));
    let answer = server.get("/readyz?verbose").await;
    let all = ["discovery", "min_members", "name_conflict", "state"];
    assert_eq!(failing(&answer.json()), all.map(str::to_owned).into());
    let reason = answer.json()["checks"][0]["reason"].clone();
    assert_eq!(reason, "static has never answered: connection refused");
    let health = answer.json();
    let notices = health["notices"].as_array().unwrap();
    let named = |name: &str| notices.iter().find(|n| n["name"] == name).unwrap()["ok"].clone();
    assert_eq!(named("discovery_backend"), false);
    assert_eq!(named("majority"), false);
    assert_eq!(named("encryption"), false);
    assert_eq!(named("cookie"), true);

    let mut ready = snapshot();
    ready.members[0].status = MemberStatus::Up;
    server.snapshot.send_replace(Arc::new(ready));
    let answer = server.get("/readyz").await;
    assert_eq!((answer.status, answer.json()["ready"].clone()), (200, true.into()));
}

#[tokio::test]
async fn liveness_follows_the_driver() {
    let mut server = Server::start();
    assert_eq!(server.get("/livez").await.status, 200);
    let (other, _) = watch::channel(Arc::new(snapshot()));
    drop(std::mem::replace(&mut server.snapshot, other));
    let answer = server.get("/livez").await;
    assert_eq!((answer.status, answer.json()["ready"].clone()), (503, false.into()));
    assert_eq!(server.get("/api/v1/members").await.status, 200);
}

#[tokio::test]
async fn emqx_s_cluster() {
    let server = Server::start();
    assert_eq!(
        server.get("/api/v5/cluster").await.json(),
        json!({
            "name": "emqxcl",
            "description": "for tests",
            "nodes": ["emqx2@127.0.0.1", "emqx@127.0.0.1"],
            "self": "emqx@127.0.0.1"
        })
    );
}

#[tokio::test]
async fn the_page_runs_nothing_but_itself() {
    let server = Server::start();
    let answer = server.get("/").await;
    assert!(answer.head.contains("content-type: text/html"), "{}", answer.head);
    let nonce = answer.head.split("script-src 'nonce-").nth(1).unwrap();
    let nonce = &nonce[..32];
    assert!(answer.body.contains(&format!("<script nonce=\"{nonce}\">")));
    assert!(answer.body.contains(&format!("<style nonce=\"{nonce}\">")));
    for placeholder in ["@NONCE@", "@TOKEN@", "@STYLE@", "@SCRIPT@"] {
        assert!(!answer.body.contains(placeholder), "{placeholder}");
    }
    for forbidden in ["src=", "href=", "http://", "https://", "innerHTML", " style=", "onclick"] {
        assert!(!answer.body.contains(forbidden), "{forbidden}");
    }
    let again = server.get("/").await;
    assert!(!again.head.contains(nonce));
}

/// Every path with its methods, as axum knows them, against the document.
#[tokio::test]
async fn the_document_lists_every_route() {
    let server = Server::start();
    let document = server.get("/openapi.json").await.json();
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")));
    let mut documented = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            documented.insert(format!("{method} {path}"));
            assert!(operation["responses"].as_object().is_some_and(|all| !all.is_empty()));
        }
    }
    // The router's own source is the list of what it serves.
    let source = include_str!("../routes.rs");
    let mut served = BTreeSet::new();
    for line in source.lines().filter_map(|line| line.trim().strip_prefix(".route(\"")) {
        let (path, handlers) = line.split_once('"').unwrap();
        for method in ["get", "post", "put", "delete"] {
            if handlers.contains(&format!("{method}(")) {
                served.insert(format!("{method} {path}"));
            }
        }
    }
    assert_eq!(documented, served);
    for reference in references(&document) {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

fn references(value: &Value) -> Vec<&str> {
    match value {
        Value::Object(map) => map
            .iter()
            .flat_map(|(key, value)| match (key.as_str(), value) {
                ("$ref", Value::String(reference)) => vec![reference.as_str()],
                _ => references(value),
            })
            .collect(),
        Value::Array(list) => list.iter().flat_map(references).collect(),
        _ => Vec::new(),
    }
}
