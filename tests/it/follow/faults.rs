//! What goes wrong at run time in what reacts to the membership: each is said once in the
//! log, in `/readyz?verbose`, in a metric and by `muster doctor`, and is over when it is over.

use std::process::Command;

use serde_json::json;

use super::script;
use crate::support::agent::{Ground, Spec};
use crate::support::dns::answered_by;
use crate::support::netns::skip_without_root;
use crate::support::programs::skip_without;
use crate::support::told::{TOLD, doctor, told, wait_notice};
use crate::support::wait::{LONG, eventually};

#[test]
fn every_failure_is_told_in_four_places() {
    let ground = Ground::new(1);
    let home = ground.directory.path();
    let [source, target] = ["source", "target"].map(|name| home.join(name));
    std::fs::write(&source, "{{ nobody }}").unwrap();
    let failing = script(home, "failing", "exit 1");
    let agent = Spec::new(&ground, 1)
        .line(
            "agent.broker { kind = tcp, address = \"nobody.invalid:1883\", probe { target = \
             \"127.0.0.1:1\", interval = 100ms, timeout = 100ms, fall = 2 } }",
        )
        .line(&format!(
            "agent.render = [{{ source = {source:?}, target = {target:?}, wait.min = 50ms }}]"
        ))
        .line(&format!(
            "agent.hooks = [{{ on = [member_updated], command = [{failing:?}] }}, {{ on = \
             [member_updated], url = \"http://127.0.0.1:1/\" }}]"
        ))
        .line(&format!("agent.dns.listen = \"127.0.0.1:{}\"", ground.ports.spare(1)))
        .start();
    let checks = [
        "broker".to_owned(),
        "dns_hosts".to_owned(),
        format!("render {}", target.display()),
        format!("hook {}", failing.display()),
        "hook http://127.0.0.1:1/".to_owned(),
    ];
    for check in &checks {
        wait_notice(&agent, check, true);
    }
    // It fails again and again, and is said once.
    for reason in ["a", "b", "c"] {
        assert_eq!(agent.put("/api/v1/node/drain", &json!({ "reason": reason })).status, 200);
    }
    let failed = format!("muster_hook_runs_total{{hook={failing:?},outcome=\"failed\"}}");
    eventually("more runs", LONG, || (agent.metric(&failed) >= 3).then_some(()));
    let findings = doctor(&agent);
    for check in &checks {
        assert_eq!(told(&agent, check, &findings), TOLD, "{check}\n{findings}\n{}", agent.logs());
    }
    assert!(findings.contains("dns          127.0.0.1:"), "{findings}");
    assert_eq!(agent.metric("muster_broker_up"), 0);
    // What is mended is over.
    std::fs::write(&source, "good").unwrap();
    wait_notice(&agent, &checks[2], false);
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "good");
}

/// A hook that is slower than what happens.
#[test]
fn events_that_a_hook_has_no_time_for_are_told() {
    let ground = Ground::new(1);
    let home = ground.directory.path();
    let go = home.join("go");
    let slow = script(home, "slow", &format!("until test -e {go:?}; do sleep 0.02; done"));
    let agent = Spec::new(&ground, 1)
        .line(&format!("agent.hooks = [{{ on = [member_updated], command = [{slow:?}] }}]"))
        .start();
    let check = format!("hook_dropped {}", slow.display());
    // One is told of, 256 wait.
    for time in 0..300 {
        let reason = json!({ "reason": time.to_string() });
        assert_eq!(agent.put("/api/v1/node/drain", &reason).status, 200);
    }
    wait_notice(&agent, &check, true);
    let findings = doctor(&agent);
    assert_eq!(told(&agent, &check, &findings), TOLD, "{findings}\n{}", agent.logs());
    let dropped = format!("muster_hook_dropped_total{{hook={slow:?}}}");
    assert!(agent.metric(&dropped) > 0);
    std::fs::write(&go, "").unwrap();
    wait_notice(&agent, &check, false);
}

/// The system refuses what the DNS server asks of its sockets, and no others'.
#[test]
fn a_socket_that_fails_is_told() {
    if skip_without(&["cc"]) {
        return;
    }
    let ground = Ground::new(1);
    let home = ground.directory.path();
    let [library, failing] = ["refuse.so", "failing"].map(|name| home.join(name));
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/follow/refuse.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(source)
        .status()
        .unwrap();
    assert!(compiled.success());
    let port = ground.ports.spare(1);
    let agent = Spec::new(&ground, 1)
        .line(&format!("agent.dns.listen = \"127.0.0.1:{port}\""))
        .env("LD_PRELOAD", library.to_str().unwrap())
        .env("REFUSED_PORT", &port.to_string())
        .env("REFUSED_WHILE", failing.to_str().unwrap())
        .start();
    let server = format!("127.0.0.1:{port}").parse().unwrap();
    assert_eq!(answered_by(server, "nodes.tests.muster"), Some(1));
    std::fs::write(&failing, "").unwrap();
    // They are noticed with the next query.
    std::net::UdpSocket::bind("127.0.0.1:0").unwrap().send_to(b"query", server).unwrap();
    let waiting = std::net::TcpStream::connect(server).unwrap();
    for check in ["dns_udp", "dns_tcp"] {
        wait_notice(&agent, check, true);
    }
    let findings = doctor(&agent);
    for check in ["dns_udp", "dns_tcp"] {
        assert_eq!(told(&agent, check, &findings), TOLD, "{findings}\n{}", agent.logs());
    }
    std::fs::remove_file(&failing).unwrap();
    for check in ["dns_udp", "dns_tcp"] {
        wait_notice(&agent, check, false);
    }
    drop(waiting);
    assert_eq!(answered_by(server, "nodes.tests.muster"), Some(1));
}

/// File systems of the agent's own: one without room, one that cannot be written.
#[test]
fn a_full_and_a_read_only_file_system_leave_the_old_file() {
    if skip_without(&["unshare", "nsenter", "mount"]) || skip_without_root("mounting") {
        return;
    }
    let ground = Ground::new(1);
    let home = ground.directory.path();
    let [full, fixed, source] = ["full", "fixed", "source"].map(|name| home.join(name));
    for folder in [&full, &fixed] {
        std::fs::create_dir(folder).unwrap();
    }
    let render = |folder: &std::path::Path| {
        format!(
            "{{ source = {source:?}, target = {:?}, wait {{ min = 50ms, max = 100ms }} }}",
            folder.join("file")
        )
    };
    std::fs::write(&source, "new {{ cluster.name }}").unwrap();
    let prepare = format!(
        "mount -t tmpfs -o size=16k none {0} && mount -t tmpfs none {1} && echo old > {1}/file && \
         mount -o remount,ro {1} && exec \"$@\"",
        full.display(),
        fixed.display()
    );
    let agent = Spec::new(&ground, 1)
        .through(&["unshare", "--mount", "sh", "-c", &prepare, "sh"])
        .line(&format!("agent.render = [{}, {}]", render(&full), render(&fixed)))
        .start();
    let pid = agent.pid().as_raw_nonzero().to_string();
    let inside = |words: &[&str]| {
        let mut command = Command::new("nsenter");
        let output = command.args(["--mount", "--target", &pid]).args(words).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let read = |folder: &std::path::Path| inside(&["cat", folder.join("file").to_str().unwrap()]);
    let check = |folder: &std::path::Path| format!("render {}", folder.join("file").display());
    wait_notice(&agent, &check(&fixed), true);
    eventually("the first file", LONG, || (read(&full) == "new tests").then_some(()));
    // More than there is room for.
    std::fs::write(&source, "{% for n in range(9999) %}too long {% endfor %}").unwrap();
    wait_notice(&agent, &check(&full), true);
    for reason in ["a", "b", "c"] {
        assert_eq!(agent.put("/api/v1/node/drain", &json!({ "reason": reason })).status, 200);
        let at = full.join("file");
        let failed = format!("muster_render_total{{target={at:?},outcome=\"write\"}}");
        let before = agent.metric(&failed);
        eventually("another attempt", LONG, || (agent.metric(&failed) > before).then_some(()));
    }
    let findings = doctor(&agent);
    for (folder, held) in [(&full, "new tests"), (&fixed, "old\n")] {
        assert_eq!(told(&agent, &check(folder), &findings), TOLD, "{findings}\n{}", agent.logs());
        assert_eq!(read(folder), held);
        assert_eq!(
            inside(&["ls", "-A", folder.to_str().unwrap()]),
            "file\n",
            "a candidate is left"
        );
    }
    // Room again, and leave to write.
    std::fs::write(&source, "short").unwrap();
    inside(&["mount", "-o", "remount,rw", fixed.to_str().unwrap()]);
    assert_eq!(agent.delete("/api/v1/node/drain").status, 204);
    for folder in [&full, &fixed] {
        wait_notice(&agent, &check(folder), false);
        assert_eq!(read(folder), "short");
    }
}

/// On all addresses of the machine a client hears from the one that it asked, whichever the
/// route to it begins at.
#[test]
fn dns_answers_leave_from_the_address_that_was_asked() {
    let ground = Ground::new(2);
    for (k, any) in [(1, "0.0.0.0"), (2, "[::]")] {
        let port = ground.ports.spare(k);
        let _agent =
            Spec::new(&ground, k).line(&format!("agent.dns.listen = \"{any}:{port}\"")).start();
        for asked in ["127.0.0.1", "127.0.0.7", "127.9.9.9"] {
            let server = format!("{asked}:{port}").parse().unwrap();
            assert_eq!(answered_by(server, "nodes.tests.muster"), Some(1), "{any} at {server}");
        }
        if any == "[::]" {
            let server = format!("[::1]:{port}").parse().unwrap();
            assert_eq!(answered_by(server, "nodes.tests.muster"), Some(1), "{any} at {server}");
        }
    }
}

/// Queries from hundreds of addresses, as fast as they can be sent.
#[test]
fn a_flood_of_dns_queries_is_not_felt_by_the_membership() {
    let ground = Ground::new(2);
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let port = ground.ports.spare(1);
    let one = Spec::new(&ground, 1)
        .seeds(&seeds)
        .line(&format!("agent.dns.listen = \"127.0.0.1:{port}\""))
        .start();
    let two = Spec::new(&ground, 2).seeds(&seeds).start();
    for agent in [&one, &two] {
        agent.wait_nodes(LONG, &seeds, &[]);
    }
    let before = [one.history_of(two.name()), two.history_of(one.name())];
    let server = format!("127.0.0.1:{port}").parse().unwrap();
    let flood = crate::support::dns::Flood::start(server, "nodes.tests.muster", 250);
    let mut slowest = std::time::Duration::ZERO;
    crate::support::wait::repeatedly(std::time::Duration::from_secs(2), |_| {
        let (_, took) = crate::support::wait::timed(|| one.get("/api/v1/members"));
        slowest = slowest.max(took);
    });
    let sent = flood.end();
    println!("{sent} queries in two seconds; the slowest answer of the API took {slowest:?}");
    assert!(sent > 5_000, "{sent}");
    assert!(slowest < std::time::Duration::from_millis(500), "{slowest:?}");
    assert_eq!([one.history_of(two.name()), two.history_of(one.name())], before);
    eventually("an answer", LONG, || answered_by(server, "nodes.tests.muster").filter(|n| *n == 1));
}
