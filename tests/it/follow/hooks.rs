//! Hooks, and what may go wrong in them, on real agents.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::script;
use crate::support::agent::{Agent, Ground, Spec};
use crate::support::programs::skip_without;
use crate::support::wait::{LONG, eventually, timed};

/// A server that takes what is posted, answers 200, and hands the bodies over.
fn posts() -> (String, Receiver<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = Vec::new();
            let mut buffer = [0; 4096];
            let body = loop {
                let read = stream.read(&mut buffer).unwrap();
                request.extend_from_slice(&buffer[..read]);
                let text = String::from_utf8_lossy(&request).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| {
                    line.to_lowercase().strip_prefix("content-length: ")?.parse().ok()
                });
                if body.len() >= length.unwrap_or(0) {
                    break body.to_owned();
                }
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
            if sender.send(serde_json::from_str(&body).unwrap()).is_err() {
                return;
            }
        }
    });
    (url, receiver)
}

/// Two agents, of which the first has these hooks; both up.
fn pair(ground: &std::sync::Arc<Ground>, hooks: &str) -> [Agent; 2] {
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let one = Spec::new(ground, 1).seeds(&seeds).line(&format!("agent.hooks = [{hooks}]")).start();
    let two = Spec::new(ground, 2).seeds(&seeds).start();
    for agent in [&one, &two] {
        agent.wait_nodes(LONG, &seeds, &[]);
    }
    [one, two]
}

/// Changes what a member says of itself.
fn flap(agent: &Agent, times: u32) {
    for time in 0..times {
        let reason = json!({ "reason": time.to_string() });
        assert_eq!(agent.put("/api/v1/node/drain", &reason).status, 200);
    }
}

#[test]
fn a_program_and_a_url_are_told_in_order() {
    let ground = Ground::new(2);
    let home = ground.directory.path();
    let log = home.join("events");
    let program = script(
        home,
        "tell",
        &format!(
            "echo \"$MUSTER_EVENT $MUSTER_NODE $MUSTER_SELF $MUSTER_URL $(cat)\" >> {}; \
             nice >> {}; echo said",
            log.display(),
            home.join("niceness").display()
        ),
    );
    let (url, posted) = posts();
    let all = "member_joined, member_up, member_down, member_left, member_removed, \
               member_updated, ready, not_ready, majority_lost, majority_regained";
    let [one, mut two] = pair(
        &ground,
        &format!(
            "{{ on = [{all}], command = [{program:?}] }}, {{ on = [{all}], url = \"{url}\" }}"
        ),
    );
    flap(&two, 20);
    two.kill9();
    let lines = eventually("the program to be told of the death", LONG, || {
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.iter().any(|line| line.starts_with("majority_lost ")).then_some(lines)
    });
    let bodies: Vec<Value> = lines
        .iter()
        .map(|line| serde_json::from_str(line.splitn(5, ' ').nth(4).unwrap()).unwrap())
        .collect();
    let node = |event: &str| {
        let of =
            bodies.iter().position(|body| body["event"] == event && body["node"] == two.name());
        of.unwrap_or_else(|| panic!("no {event} in {lines:?}"))
    };
    assert!(node("member_joined") < node("member_updated"));
    assert!(node("member_updated") < node("member_down"));
    let ids: Vec<_> = bodies.iter().filter_map(|body| body["id"].as_u64()).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    let down = &bodies[node("member_down")];
    assert_eq!(down["self"], one.name());
    assert_eq!(down["cluster"], "tests");
    assert_eq!(down["member"]["status"], "down");
    let words: Vec<_> = lines[node("member_down")].splitn(5, ' ').collect();
    let api = format!("http://{}", one.api());
    assert_eq!(words[..4], ["member_down", two.name(), one.name(), &api]);
    // The other hook heard the same: of members in the same order, and of this node. Each sees
    // for itself between which events of members its own node's state became another.
    let mut heard = Vec::new();
    while heard.len() < bodies.len() {
        heard.push(posted.recv_timeout(LONG).unwrap());
    }
    let names = |bodies: &[Value], of_members: bool| -> Vec<Value> {
        let those = bodies.iter().filter(|body| body["id"].is_u64() == of_members);
        those.map(|body| json!([body["event"], body["node"], body["id"]])).collect()
    };
    for of_members in [true, false] {
        assert_eq!(names(&heard, of_members), names(&bodies, of_members));
    }
    let outcome = format!("muster_hook_runs_total{{hook={program:?},outcome=\"ok\"}}");
    eventually("its runs to be counted", LONG, || {
        (one.metric(&outcome) >= bodies.len() as u64).then_some(())
    });
    one.wait_log("said");
    // It yields to the membership.
    let niceness = |text: &str| text.lines().next().unwrap().parse::<i32>().unwrap();
    let own = std::process::Command::new("nice").output().unwrap().stdout;
    let least = niceness(&String::from_utf8(own).unwrap()).max(10);
    assert_eq!(niceness(&std::fs::read_to_string(home.join("niceness")).unwrap()), least);
}

/// What a member says of itself at its start came in one statement with its being there, and
/// hid it: a load balancer's hook heard `member_updated` instead of `member_up`.
#[test]
fn members_that_say_something_of_themselves_join_go_down_and_are_up_again() {
    let ground = Ground::new(2);
    let (url, posted) = posts();
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let hook = format!(
        "agent.hooks = [{{ on = [member_joined, member_up, member_down], url = {url:?} }}]"
    );
    let one = Spec::new(&ground, 1).seeds(&seeds).line(&hook).start();
    let mut two = Spec::new(&ground, 2).seeds(&seeds).line("agent.tags.zone = a").start();
    one.wait_nodes(LONG, &seeds, &[]);
    two.kill9();
    one.wait_nodes(LONG, &seeds[..1], &seeds[1..]);
    two.start_again_with("agent.tags.zone = b");
    one.wait_nodes(LONG, &seeds, &[]);
    let told: Vec<Value> = (0..3).map(|_| posted.recv_timeout(LONG).unwrap()).collect();
    let events: Vec<_> = told.iter().map(|body| [&body["event"], &body["node"]]).collect();
    let two = two.name();
    assert_eq!(
        events,
        [["member_joined", two], ["member_down", two], ["member_up", two]],
        "{told:?}"
    );
    let change = &one.get(&format!("/api/v1/members/{two}"))["last_change"];
    assert_eq!([&change["from"], &change["to"], &change["reason"]], ["down", "up", "restarted"]);
}

/// Programs that do everything wrong, and a member that changes all the while.
#[test]
fn what_goes_wrong_in_hooks_goes_wrong_there_alone() {
    let ground = Ground::new(2);
    let home = ground.directory.path();
    let hook = |name: &str, text: &str| {
        let program = script(home, name, text);
        format!("{{ on = [member_updated], command = [{program:?}], timeout = 1s }}")
    };
    let pids = home.join("pids");
    let hooks = [
        hook("sleeper", &format!("echo $$ >> {}; exec sleep 1000", pids.display())),
        hook(
            "forker",
            &format!(
                "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & echo $! >> {}; done",
                pids.display()
            ),
        ),
        hook("printer", "exec head -c 1000000000 /dev/zero"),
        hook("dier", "kill -SEGV $$"),
        hook("open", "true"),
        "{ on = [member_updated], url = \"http://127.0.0.1:1/\" }".to_owned(),
    ];
    let [one, two] = pair(&ground, &hooks.join(", "));
    let open = home.join("open");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let events = 400;
    let (_, took) = timed(|| flap(&two, events));
    println!("{events} changes took {took:?}");
    // Nothing of it is felt: its API answers, and its peer never doubted it.
    for _ in 0..50 {
        let (_, took) = timed(|| one.get("/api/v1/members"));
        assert!(took < Duration::from_millis(500), "{took:?}");
    }
    let change = two.get(&format!("/api/v1/members/{}", one.name()));
    assert_eq!(change["status"], "up");
    assert_ne!(change["last_change"]["from"], "suspect", "{change}");
    let metric = |name: &str, program: &str, outcome: &str| {
        let hook = home.join(program).display().to_string();
        one.metric(&format!("muster_{name}_total{{hook={hook:?}{outcome}}}"))
    };
    let runs = |program: &str, outcome: &str| {
        metric("hook_runs", program, &format!(",outcome=\"{outcome}\""))
    };
    eventually("each to fail in its way", LONG, || {
        let failed = runs("sleeper", "timeout") > 0
            && runs("forker", "ok") > 0
            && runs("printer", "ok") + runs("printer", "timeout") > 0
            && runs("dier", "signal") > 10
            && runs("open", "refused") > 10;
        failed.then_some(())
    });
    // One runs, 256 wait, the rest was dropped and counted.
    let (dropped, run) = (metric("hook_dropped", "sleeper", ""), runs("sleeper", "timeout"));
    assert!(dropped >= u64::from(events) - 256 - 1 - run - 10, "{dropped} dropped, {run} run");
    let notices = one.get("/readyz?verbose").to_string();
    for program in ["sleeper", "dier", "open"] {
        assert!(notices.contains(&format!("hook {}", home.join(program).display())), "{notices}");
    }
    // Nothing is left of them once the agent is gone.
    one.term();
    let mut one = one;
    one.wait_exit();
    let left = || {
        let pids = std::fs::read_to_string(&pids).unwrap_or_default();
        let alive = |pid: &&str| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
            stat.is_ok_and(|stat| !stat.contains(") Z "))
        };
        pids.lines().filter(alive).count()
    };
    eventually("every process of the hooks to end", LONG, || (left() == 0).then_some(()));
}

/// The VerneMQ hook of the repository, with a program in the place of `vmq-admin` that
/// answers as it does.
#[test]
fn the_vernemq_hook_joins_who_is_alone_to_the_first() {
    if skip_without(&["jq"]) {
        return;
    }
    let ground = Ground::new(2);
    let home = ground.directory.path();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("etc/hooks/vernemq-join");
    let join = home.join("vernemq-join");
    std::fs::copy(source, &join).unwrap();
    std::fs::set_permissions(&join, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let programs = home.join("bin");
    std::fs::create_dir(&programs).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_muster"), programs.join("muster")).unwrap();
    // As vmq-admin prints it: one line for each node of the cluster that it is in.
    script(
        &programs,
        "vmq-admin",
        "state=\"$VERNEMQ_STATE\"\n\
         case \"$1 $2\" in\n\
         'cluster show') cat \"$state\" ;;\n\
         'cluster join') echo \"$3\" >> \"$state.joins\"; echo '| other@h | true |' >> \"$state\" ;;\n\
         esac",
    );
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let seeds = ["emqx1@127.0.0.1", "emqx2@127.0.0.1"];
    let brokers: Vec<_> =
        (1..=2).map(|k| TcpListener::bind(("127.0.0.1", ground.ports.spare(k))).unwrap()).collect();
    let state = |k: u16| home.join(format!("state{k}"));
    let agents: Vec<_> = (1..=2)
        .map(|k| {
            std::fs::write(state(k), format!("+---+\n| emqx{k}@127.0.0.1 | true |\n")).unwrap();
            Spec::new(&ground, k)
                .seeds(&seeds)
                .env("PATH", &path)
                .env("VERNEMQ_STATE", &state(k).display().to_string())
                .line(&format!(
                    "listeners.tcp.default.bind = \"127.0.0.1:{}\"",
                    ground.ports.spare(k)
                ))
                .line("agent.broker { kind = tcp, probe { interval = 100ms, timeout = 100ms } }")
                .line(&format!(
                    "agent.hooks = [{{ on = [broker_up, member_joined, member_updated], command = \
                     [{join:?}] }}]"
                ))
                .start()
        })
        .collect();
    let joins =
        |k: u16| std::fs::read_to_string(home.join(format!("state{k}.joins"))).unwrap_or_default();
    let joined = eventually("the second broker to join", LONG, || {
        Some(joins(2)).filter(|joins| !joins.is_empty())
    });
    assert_eq!(joined, "discovery-node=emqx1@127.0.0.1\n");
    // Later events change nothing: it is alone no more. The first never joins anybody.
    flap(&agents[1], 5);
    let hook = format!("muster_hook_runs_total{{hook={join:?},outcome=\"ok\"}}");
    let ran = agents[1].metric(&hook);
    flap(&agents[0], 1);
    eventually("a run afterwards", LONG, || (agents[1].metric(&hook) > ran).then_some(()));
    assert_eq!((joins(1), joins(2)), (String::new(), joined));
    drop(brokers);
}
