//! The command line against the API: both are real, the driver behind is not.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use muster::api::{ApiState, Listener, serve};
use muster::command::{Action, Commands, RequestError};
use muster::config::{self, ApiListen, Config};
use muster::events::{Event, EventKind, EventLog};
use muster::metrics::Metrics;
use muster::node::{ClusterId, NodeName};
use muster::view::{LinkState, Member, MemberStatus, Snapshot};
use rustix::process::{Pid, Signal};
use serde_json::{Value, json};
use tokio::net::TcpSocket;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot, watch};

const STATUS: &str = "Cluster status: #{running_nodes => ['emqx1@127.0.0.1','emqx2@127.0.0.1'], \
                      stopped_nodes => ['emqx3@::1']}\n";

fn node(text: &str) -> NodeName {
    NodeName::parse(text).unwrap()
}

fn at() -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(1_769_862_896_789)
}

fn member(name: &str, status: MemberStatus) -> Member {
    Member {
        status,
        address: Some("127.0.0.1:6371".parse().unwrap()),
        link: LinkState::Connected,
        rtt_us: (status == MemberStatus::Up).then_some(1234),
        version: "0.1.0".into(),
        is_self: name == "emqx1@127.0.0.1",
        ..Member::new(node(name), at())
    }
}

fn snapshot() -> Snapshot {
    let members = vec![
        member("emqx1@127.0.0.1", MemberStatus::Up),
        member("emqx2@127.0.0.1", MemberStatus::Suspect),
        member("emqx3@::1", MemberStatus::Down),
    ];
    Snapshot {
        name: "tests".into(),
        id: Some(ClusterId(7)),
        view_hash: 1,
        ..Snapshot::new(node("emqx1@127.0.0.1"), members)
    }
}

/// The API of an agent that grants every wish but one, and a directory with its
/// configuration file.
struct Api {
    runtime: Option<Runtime>,
    directory: tempfile::TempDir,
    listen: ApiListen,
    events: Arc<EventLog>,
    actions: mpsc::Receiver<Action>,
    _snapshot: watch::Sender<Arc<Snapshot>>,
    _stop: oneshot::Sender<()>,
}

impl Api {
    /// `more` are further lines of configuration.
    fn start(more: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let more = more.replace("DIR", directory.path().to_str().unwrap());
        let (file, config) = configuration(directory.path(), "127.0.0.1:0", &more);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.unwrap();
        let guard = runtime.enter();
        let listener = Listener::bind(&config.agent.api).unwrap();
        let listen = listener.listen().clone();
        if let ApiListen::Tcp(address) = listen {
            configuration(directory.path(), &address.to_string(), &more);
        }
        assert!(file.exists());
        let (_snapshot, snapshot) = watch::channel(Arc::new(snapshot()));
        let (commands, mut queue) = Commands::channel();
        let events = Arc::new(EventLog::starting_after(100));
        let state = ApiState {
            config: watch::channel(Arc::new(config)).1,
            snapshot,
            commands,
            reloads: muster::command::Reloads::channel().0,
            events: Arc::clone(&events),
            metrics: Arc::new(Metrics::default()),
            notices: Arc::default(),
            reach: Arc::default(),
            broker: tokio::sync::watch::channel(muster::broker::BrokerReport::default()).1,
        };
        let (granted, actions) = mpsc::channel(16);
        runtime.spawn(async move {
            while let Some(command) = queue.recv().await {
                let refused = command.action == Action::Leave;
                let answer = match refused {
                    true => Err(RequestError::Conflict("stay a while".into())),
                    false => Ok(()),
                };
                granted.send(command.action).await.unwrap();
                drop(command.reply.send(answer));
            }
        });
        let (_stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(serve(listener, state, async { drop(stopped.await) }));
        drop(guard);
        Self { runtime: Some(runtime), directory, listen, events, actions, _snapshot, _stop }
    }

    fn url(&self) -> String {
        match &self.listen {
            ApiListen::Tcp(address) => format!("http://{address}"),
            unix @ ApiListen::Unix(_) => unix.to_string(),
        }
    }

    /// `muster` with these arguments and the agent's URL.
    fn muster(&self, arguments: &[&str]) -> Output {
        let url = self.url();
        muster(&[arguments, &["--url", &url]].concat(), &[])
    }
}

impl Drop for Api {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Writes `emqx.conf` into the directory and loads it.
fn configuration(directory: &Path, listen: &str, more: &str) -> (std::path::PathBuf, Config) {
    let file = directory.join("emqx.conf");
    let text = format!(
        "node.name = emqx1@127.0.0.1\nnode.cookie = a-cookie-of-decent-length\n\
         node.data_dir = \"{}\"\nagent.api.listen = \"{listen}\"\n{more}\n",
        directory.display()
    );
    std::fs::write(&file, text).unwrap();
    let loaded = config::load(std::slice::from_ref(&file), []).unwrap();
    (file, loaded.config)
}

/// A port that is ours and that nobody listens on.
fn bound() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// The program, in an environment of its own.
fn command(arguments: &[&str], environment: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_muster"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.current_dir(std::env::temp_dir()).stdin(Stdio::null());
    command
}

fn muster(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    command(arguments, environment).output().unwrap()
}

#[track_caller]
fn assert_output(output: &Output, code: i32, stdout: &str, stderr: &str) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let all = format!("{}\n{}", text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{all}");
    assert_eq!(text(&output.stdout), stdout, "{all}");
    match stderr {
        "" => assert_eq!(text(&output.stderr), ""),
        part => assert!(text(&output.stderr).contains(part), "no {part:?} in {all}"),
    }
}

fn json_of(output: &Output) -> Value {
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn status_is_emqx_s_own_line() {
    let api = Api::start("");
    assert_output(&api.muster(&["cluster", "status"]), 0, STATUS, "");
    let json = json_of(&api.muster(&["cluster", "status", "--json"]));
    assert_eq!(
        json,
        json!({
            "running_nodes": ["emqx1@127.0.0.1", "emqx2@127.0.0.1"],
            "stopped_nodes": ["emqx3@::1"]
        })
    );
}

#[test]
fn each_verb_asks_for_its_action() {
    let mut api = Api::start("");
    let other = || node("emqx9@10.0.0.9");
    for (arguments, done, action) in [
        (
            &["cluster", "join", "emqx9@10.0.0.9"][..],
            "Joined the cluster.",
            Action::Join { node: other(), force: false },
        ),
        (
            &["cluster", "join", "--force", "emqx9@10.0.0.9"],
            "Joined the cluster.",
            Action::Join { node: other(), force: true },
        ),
        (
            &["cluster", "force-leave", "emqx3@::1"],
            "Removed the node from the cluster.",
            Action::ForceLeave { node: node("emqx3@::1"), force: false },
        ),
        (
            &["cluster", "force-leave", "emqx3@::1", "--force"],
            "Removed the node from the cluster.",
            Action::ForceLeave { node: node("emqx3@::1"), force: true },
        ),
        (
            &["cluster", "invite", "emqx9@10.0.0.9"],
            "The node joined the cluster.",
            Action::Invite { node: other() },
        ),
        (
            &["cluster", "discovery", "enable"],
            "Discovery is enabled.",
            Action::SetDiscovery { enabled: true },
        ),
        (
            &["cluster", "discovery", "disable"],
            "Discovery is disabled.",
            Action::SetDiscovery { enabled: false },
        ),
    ] {
        assert_output(&api.muster(arguments), 0, &format!("{done}\n{STATUS}"), "");
        assert_eq!(api.actions.try_recv(), Ok(action));
        let json = json_of(&api.muster(&[arguments, &["--json"]].concat()));
        assert_eq!(json["self"], "emqx1@127.0.0.1");
        api.actions.try_recv().unwrap();
    }
}

#[test]
fn refusals_say_why() {
    let api = Api::start("");
    let refused = "muster: failed to leave the cluster: stay a while (CONFLICT)\n";
    assert_output(&api.muster(&["cluster", "leave"]), 1, "", refused);
    let bad = "failed to join the cluster: 'nobody' is not a node name";
    assert_output(&api.muster(&["cluster", "join", "nobody"]), 1, "", bad);
    let absent = "failed to remove the node: 'a/b?c' is not a member of this cluster (NOT_FOUND)";
    assert_output(&api.muster(&["cluster", "force-leave", "a/b?c"]), 1, "", absent);
}

#[test]
fn the_token_comes_from_the_argument_the_environment_or_the_file() {
    let api = Api::start("agent.api.token = a-token-of-the-tests");
    let (url, done) = (api.url(), format!("Discovery is enabled.\n{STATUS}"));
    let enable = ["cluster", "discovery", "enable", "--url", &url];
    let without = "(UNAUTHORIZED); give it with --token, MUSTER_TOKEN or -c";
    assert_output(&muster(&enable, &[]), 1, "", without);
    let token = "a-token-of-the-tests";
    assert_output(&muster(&enable, &[("MUSTER_TOKEN", "wrong")]), 1, "", "UNAUTHORIZED");
    assert_output(&muster(&enable, &[("MUSTER_TOKEN", token)]), 0, &done, "");
    let explicit = [&enable[..], &["--token", token]].concat();
    assert_output(&muster(&explicit, &[("MUSTER_TOKEN", "wrong")]), 0, &done, "");
    let file = api.directory.path().join("emqx.conf");
    let by_file = ["cluster", "discovery", "enable", "-c", file.to_str().unwrap()];
    assert_output(&muster(&by_file, &[]), 0, &done, "");
    let help = muster(&["cluster", "status", "--help"], &[("MUSTER_TOKEN", "s3cret")]);
    let help = String::from_utf8(help.stdout).unwrap();
    assert!(help.contains("MUSTER_TOKEN") && !help.contains("s3cret"), "{help}");
}

#[test]
fn the_agent_is_found_by_environment_file_and_socket() {
    let api = Api::start("");
    let url = api.url();
    assert_output(&muster(&["cluster", "status"], &[("MUSTER_URL", &url)]), 0, STATUS, "");
    let unix = Api::start("agent.api.listen = \"unix:DIR/api.sock\"");
    let file = unix.directory.path().join("emqx.conf");
    let by_file = ["cluster", "status", "-c", file.to_str().unwrap()];
    assert_output(&muster(&by_file, &[]), 0, STATUS, "");
    assert_output(&unix.muster(&["cluster", "status"]), 0, STATUS, "");
}

#[test]
fn what_is_wrong_shows_in_the_exit_code() {
    let (_held, port) = bound();
    let url = format!("http://127.0.0.1:{port}");
    let status = |url: &str| muster(&["cluster", "status", "--url", url], &[]);
    let refused = "connection refused; is it running?";
    assert_output(&status(&url), 69, "", refused);
    assert_output(&status("unix:/nowhere/m.sock"), 69, "", "no such socket; is it running?");
    assert_output(&status("ftp://127.0.0.1:1"), 2, "", "neither http://, https:// nor unix:");
    assert_output(&muster(&["cluster"], &[]), 2, "", "Usage");
    assert_output(&muster(&["cluster", "fly"], &[]), 2, "", "unrecognized subcommand");
    let absent = ["members", "-c", "/nowhere/emqx.conf"];
    assert_output(&muster(&absent, &[]), 78, "", "no such file");
}

#[test]
fn members_are_a_table_or_json() {
    let api = Api::start("");
    let table = "\
NODE               STATUS   ROLE  ADDRESS         LINK       RTT     SINCE                     VERSION
emqx1@127.0.0.1 *  up       core  127.0.0.1:6371  self       1.23ms  2026-01-31T12:34:56.789Z  0.1.0
emqx2@127.0.0.1    suspect  core  127.0.0.1:6371  connected  -       2026-01-31T12:34:56.789Z  0.1.0
emqx3@::1          down     core  127.0.0.1:6371  connected  -       2026-01-31T12:34:56.789Z  0.1.0
";
    assert_output(&api.muster(&["members"]), 0, table, "");
    let json = json_of(&api.muster(&["members", "--json"]));
    assert_eq!(json["members"][2]["node"], "emqx3@::1");
    assert_eq!(json["members"][0]["rtt_ms"], 1.234);
}

#[test]
fn a_closed_output_is_no_failure() {
    let api = Api::start("");
    let url = api.url();
    for arguments in [
        &["members", "--watch", "--json", "--url", &url][..],
        &["events", "--after", "0", "--url", &url],
        &["completions", "bash"],
    ] {
        let mut child =
            command(arguments, &[]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        api.events.push(event);
        let output = child.wait_with_output().unwrap();
        assert_output(&output, 0, "", "");
    }
}

fn event(id: u64) -> Event {
    Event {
        id,
        at: at(),
        kind: EventKind::Changed,
        node: node("emqx2@127.0.0.1"),
        from: Some(MemberStatus::Up),
        to: Some(MemberStatus::Suspect),
        reason: "silent",
        text: "silent for 2 s".into(),
        by: node("emqx1@127.0.0.1"),
    }
}

#[test]
fn events_are_followed_until_interrupted() {
    let api = Api::start("");
    api.events.push(event);
    let url = api.url();
    let mut child = command(&["events", "--after", "100", "--url", &url], &[])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = "2026-01-31T12:34:56.789Z  emqx2@127.0.0.1  up -> suspect: silent for 2 s \
                (by emqx1@127.0.0.1)";
    assert_eq!(lines.next().unwrap().unwrap(), line);
    api.events.push(event);
    assert_eq!(lines.next().unwrap().unwrap(), line);
    rustix::process::kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));

    let mut child = command(&["events", "--after", "7", "--json", "--url", &url], &[])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reset: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(reset, json!({"event": "reset", "data": {"id": 102}}));
    drop(api);
    assert_eq!(child.wait().unwrap().code(), Some(69));
}

#[test]
fn check_judges_a_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let (file, _) = configuration(directory.path(), "127.0.0.1:7371", "");
    let file = file.to_str().unwrap();
    let valid = "valid: emqx1@127.0.0.1 in emqxcl, manual over inet_tcp, API on 127.0.0.1:7371\n";
    assert_output(&muster(&["check", "-c", file], &[]), 0, valid, "");

    let print = muster(&["check", "-c", file, "--print"], &[("EMQX_CLUSTER__NAME", "other")]);
    let text = String::from_utf8(print.stdout).unwrap();
    let line = |key: &str| {
        let found = text.lines().find(|line| line.starts_with(&format!("{key} = ")));
        found.unwrap_or_else(|| panic!("no {key} in {text}")).to_owned()
    };
    assert!(line("node.name").ends_with(&format!("# {file}:1:13")), "{text}");
    assert!(line("cluster.name").ends_with("# environment EMQX_CLUSTER__NAME"), "{text}");
    assert!(line("cluster.autoheal").ends_with("# default"), "{text}");
    assert!(!text.contains("a-cookie-of-decent-length"));

    let json = json_of(&muster(&["check", "-c", file, "--print", "--json"], &[]));
    assert_eq!(json["valid"], true);
    let name = &json["effective"][0];
    assert_eq!((&name["key"], &name["origin"]["line"]), (&json!("node.name"), &json!(1)));

    std::fs::write(file, "node.name = emqx\ncluster.nmae = x\n").unwrap();
    let broken = muster(&["check", "-c", file], &[]);
    assert_output(&broken, 78, "", &format!("{file}:1:"));
    let broken = muster(&["check", "-c", file, "--json"], &[]);
    assert_eq!(broken.status.code(), Some(78));
    let json: Value = serde_json::from_slice(&broken.stdout).unwrap();
    assert_eq!(json["valid"], false);
    assert!(json["errors"].as_array().is_some_and(|errors| errors.len() >= 2), "{json}");
}

#[test]
fn doctor_says_what_to_mend() {
    let (peer, port) = bound();
    let mut api = Api::start(&format!(
        "agent.mesh.base_port = {}\ncluster.discovery_strategy = static\n\
         cluster.static.seeds = [emqx1@127.0.0.1, emqx2@127.0.0.1]",
        port - 2
    ));
    let file = api.directory.path().join("emqx.conf");
    let doctor = ["doctor", "-c", file.to_str().unwrap()];
    let json = muster(&[&doctor[..], &["--json"]].concat(), &[]).stdout;
    let json: Value = serde_json::from_slice(&json).unwrap();
    let dead = json.as_array().unwrap().iter().find(|finding| {
        finding["message"].as_str().is_some_and(|text| text.contains("nothing listens on port"))
    });
    assert_eq!(dead.unwrap()["level"], "fail", "{json}");

    let runtime = api.runtime.take().unwrap();
    let guard = runtime.enter();
    let peer = peer.listen(1).unwrap();
    let output = muster(&doctor, &[]);
    let text = String::from_utf8(output.stdout).unwrap();
    // The snapshot has discovery that never answered.
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "ok    config       valid, for emqx1@127.0.0.1",
        "ok    agent        emqx1@127.0.0.1 answers at http://127.0.0.1:",
        "FAIL  ready        discovery: static has not answered yet -> ",
        "warn  member       emqx3@::1 is down since 2026-01-31T12:34:56.789Z -> start it, or: ",
        "ok    cookie       long",
        "ok    discovery    static: 2 found: emqx1@127.0.0.1, emqx2@127.0.0.1",
        "FAIL  peer         emqx2@127.0.0.1, which is up: port ",
        "warn  peer         emqx3@::1: ::1 is no IPv4 address",
    ] {
        assert!(text.lines().any(|line| line.starts_with(part)), "no {part:?} in\n{text}");
    }
    drop((peer, guard));

    // The agent ends; its port may be anybody's then, so another one is asked.
    drop(runtime);
    let (_held, port) = bound();
    let url = format!("http://127.0.0.1:{port}");
    let output = muster(&[&doctor[..], &["--url", &url]].concat(), &[]);
    assert_eq!(output.status.code(), Some(69));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("FAIL  agent        agent not reachable at http://"), "{text}");
}

#[test]
fn completions_and_manual_cover_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = muster(&["completions", shell], &[]);
        assert_eq!(script.status.code(), Some(0));
        let script = String::from_utf8(script.stdout).unwrap();
        assert!(script.contains("force-leave"), "{shell}");
    }
    let page = String::from_utf8(muster(&["man"], &[]).stdout).unwrap();
    assert!(page.contains(".TH muster 1"), "{page}");
    let directory = tempfile::tempdir().unwrap();
    let output = muster(&["man", "--dir", directory.path().to_str().unwrap()], &[]);
    assert_output(&output, 0, "", "");
    assert!(directory.path().join("muster-cluster-force-leave.1").exists());
}
