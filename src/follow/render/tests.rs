use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use serde_json::{Value, json};

use super::*;

/// A view out of the API's answers.
fn view(majority: bool, state: &str, members: &[Value]) -> View {
    let cluster = json!({
        "name": "c", "description": "", "id": "00ff", "self": "emqx1@10.0.0.1",
        "strategy": "static", "proto_dist": "inet_tcp", "state": state, "running_nodes": [],
        "stopped_nodes": [], "view_hash": "0", "views_agree": true, "disagreeing": [],
        "majority": majority,
        "discovery": {"enabled": true, "nodes": [], "last_success": null, "last_error": null},
    });
    let members = serde_json::from_value(json!({ "members": members })).unwrap();
    View::new(serde_json::from_value(cluster).unwrap(), members)
}

/// A member; `broker` is its address and status.
fn member(node: &str, status: &str, draining: bool, broker: Option<(&str, &str)>) -> Value {
    let since = "2026-01-01T00:00:00Z";
    json!({
        "node": node, "status": status, "role": "core", "address": "10.0.0.9:6370",
        "incarnation": 7, "since": since, "link": "connected", "rtt_ms": 0.5,
        "version": "1", "self": node == "emqx1@10.0.0.1", "tags": {"zone": "a"},
        "draining": draining,
        "broker": broker.map(|(address, status)| json!({
            "address": address, "status": status, "since": since, "detail": "",
        })),
    })
}

fn cluster() -> View {
    view(
        true,
        "joined",
        &[
            member("emqx4@d.example", "up", false, Some(("[2001:db8::1]:1884", "up"))),
            member("emqx1@10.0.0.1", "up", false, Some(("a.example:1883", "unknown"))),
            member("emqx2@10.0.0.2", "down", false, Some(("b.example:1883", "up"))),
            member("emqx3@10.0.0.3", "up", true, Some(("c.example:1883", "up"))),
            member("emqx5@10.0.0.5", "up", false, Some(("e.example:1883", "down"))),
            member("emqx6@10.0.0.6", "suspect", false, None),
            member("emqx7@10.0.0.7", "up", false, None),
        ],
    )
}

fn rendered(text: &str) -> Result<String, String> {
    template::render(text, &cluster())
}

#[test]
fn what_a_template_sees() {
    let text = "{{ cluster.name }} {{ cluster.id }} {{ cluster.self }} {{ cluster.majority }}\n\
                {% for m in serving %}\n{{ m.node }} {{ m.host }} {{ m.port }} {{ m.tags.zone }}\n\
                {% endfor %}\n{{ members | length }}\n";
    // A member whose agent says nothing of a broker has MQTT's own port.
    assert_eq!(
        rendered(text).unwrap(),
        "c 00ff emqx1@10.0.0.1 true\nemqx1@10.0.0.1 a.example 1883 a\n\
         emqx4@d.example 2001:db8::1 1884 a\nemqx7@10.0.0.7 10.0.0.7 1883 a\n7\n"
    );
    let api = "{% for m in members %}{{ m.status }}/{{ m.role }}/{{ m.incarnation }}/{{ m.broker.status if m.broker else '' }} {% endfor %}";
    assert_eq!(
        rendered(api).unwrap(),
        "up/core/7/unknown down/core/7/up up/core/7/up up/core/7/up up/core/7/down \
         suspect/core/7/ up/core/7/ "
    );
}

#[test]
fn nothing_is_escaped() {
    assert_eq!(rendered("{{ '<&>\"' }}").unwrap(), "<&>\"");
}

#[test]
fn mistakes_are_named_with_their_line() {
    for (text, wanted) in [
        ("a\n{{ cluster.nam }}", "line 2"),
        ("{{ nobody }}", "undefined"),
        ("{% for m in serving %}{{ m.tags.rack }}{% endfor %}", "undefined"),
        ("{% if nobody.there %}{% endif %}", "undefined"),
        ("{% for %}", "line 1"),
        ("{% include 'other' %}", "line 1"),
        ("{{ 1 | nofilter }}", "nofilter"),
    ] {
        let error = rendered(text).unwrap_err();
        assert!(error.contains(wanted), "{text}: {error}");
    }
}

#[test]
fn a_template_without_end_is_stopped() {
    let steps = "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}";
    assert!(rendered(steps).unwrap_err().contains("fuel"));
    let bytes = "{% for a in range(100000) %}{{ 'x' * 1000 }}{% endfor %}";
    assert!(rendered(bytes).unwrap_err().contains("more than"));
    // Little work each, and twice the bytes every time.
    let double = "{% set n = namespace(x='xxxxxxxx') %}{% for a in range(60) %}\
                  {% set n.x = n.x ~ n.x %}{% endfor %}";
    assert!(rendered(double).unwrap_err().contains("fuel"));
    let repeated = "{{ ('x' * 1000000000) | length }}";
    assert!(rendered(repeated).is_err());
    let depth = "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}";
    assert!(rendered(depth).is_err());
}

#[test]
fn only_news_are_news() {
    let plain = cluster();
    let mut other = cluster();
    other.cluster.discovery.last_error = Some("x".into());
    other.cluster.view_hash = "1".into();
    assert!(plain.same_news(&other));
    let links = [member("emqx1@10.0.0.1", "up", false, None)];
    let mut moved = links.clone();
    moved[0]["rtt_ms"] = json!(9.0);
    moved[0]["link"] = json!("none");
    assert!(view(true, "joined", &links).same_news(&view(true, "joined", &moved)));
    moved[0]["tags"] = json!({"zone": "b"});
    assert!(!view(true, "joined", &links).same_news(&view(true, "joined", &moved)));
    assert!(!view(true, "joined", &links).same_news(&view(false, "joined", &links)));
    assert!(!view(true, "joined", &links).same_news(&view(true, "forming", &links)));
    assert!(!view(true, "joined", &links).same_news(&view(true, "joined", &[])));
}

/// A folder with a template, a target and a file that programs write to.
struct Ground(tempfile::TempDir);

impl Ground {
    fn new(template: &str) -> Self {
        let ground = Self(tempfile::tempdir().unwrap());
        fs::write(ground.path("source"), template).unwrap();
        ground
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn script(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    }

    fn config(&self) -> RenderConfig {
        RenderConfig {
            source: self.path("source"),
            target: self.path("target"),
            check: Vec::new(),
            command: Vec::new(),
            perms: 0o640,
            wait_min: Duration::from_secs(1),
            wait_max: Duration::from_secs(10),
            timeout: Duration::from_secs(20),
            require_majority: true,
        }
    }

    /// Nothing but these files: no candidate is left behind.
    fn assert_files(&self, wanted: &[&str]) {
        let mut names: Vec<_> = fs::read_dir(self.0.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, wanted);
    }
}

#[tokio::test]
async fn a_file_is_written_once() {
    let ground = Ground::new("{{ serving | length }}\n");
    let log = ground.path("log").display().to_string();
    let command = ground.script("command", &format!("echo ran >> {log}"));
    let config = RenderConfig { command: vec![command], ..ground.config() };
    let mut renderer = Renderer::new(config);
    assert_eq!(renderer.render(cluster()).await, Ok(Rendered::Written));
    assert_eq!(ground.read("target"), "3\n");
    assert_eq!(fs::metadata(ground.path("target")).unwrap().permissions().mode() & 0o777, 0o640);
    let before = fs::metadata(ground.path("target")).unwrap().modified().unwrap();
    assert_eq!(renderer.render(cluster()).await, Ok(Rendered::Unchanged));
    assert_eq!(fs::metadata(ground.path("target")).unwrap().modified().unwrap(), before);
    assert_eq!(ground.read("log"), "ran\n");
    // Another mode, another owner, and a target that is a link, stay as they are.
    fs::set_permissions(ground.path("target"), fs::Permissions::from_mode(0o600)).unwrap();
    let root = rustix::process::geteuid().is_root();
    if root {
        std::os::unix::fs::chown(ground.path("target"), Some(7), Some(8)).unwrap();
    }
    fs::rename(ground.path("target"), ground.path("real")).unwrap();
    std::os::unix::fs::symlink("real", ground.path("target")).unwrap();
    let more = view(true, "joined", &[]);
    assert_eq!(renderer.render(more).await, Ok(Rendered::Written));
    assert!(fs::symlink_metadata(ground.path("target")).unwrap().is_symlink());
    assert_eq!(ground.read("real"), "0\n");
    let real = fs::metadata(ground.path("real")).unwrap();
    assert_eq!(real.permissions().mode() & 0o777, 0o600);
    assert!(!root || (real.uid(), real.gid()) == (7, 8), "its owner was not kept");
    ground.assert_files(&["command", "log", "real", "source", "target"]);
}

#[tokio::test]
async fn what_is_not_settled_is_not_rendered() {
    let ground = Ground::new("x");
    let mut renderer = Renderer::new(ground.config());
    for view in [view(true, "forming", &[]), view(true, "left", &[]), view(false, "joined", &[])] {
        assert!(matches!(renderer.render(view).await, Ok(Rendered::Held(_))));
    }
    ground.assert_files(&["source"]);
    let anyway = RenderConfig { require_majority: false, ..ground.config() };
    let minority = view(false, "joined", &[]);
    assert_eq!(Renderer::new(anyway).render(minority).await, Ok(Rendered::Written));
    let alone = view(true, "singleton", &[]);
    assert_eq!(renderer.render(alone).await, Ok(Rendered::Unchanged));
}

#[tokio::test]
async fn what_fails_leaves_the_old_file() {
    let ground = Ground::new("new");
    fs::write(ground.path("target"), "old").unwrap();
    let refuse = ground.script("refuse", "grep -q new \"$1\" && echo 'line 7 is bad' >&2; exit 1");
    let config = |change: &dyn Fn(&mut RenderConfig)| {
        let mut config = ground.config();
        change(&mut config);
        config
    };
    let sleeper = ground.script("sleeper", "sleep 1000");
    for (change, word, text) in [
        (
            config(&|config| config.check = vec![refuse.clone(), FILE.into()]),
            "check",
            "line 7 is bad",
        ),
        (
            config(&|config| {
                config.check = vec![sleeper.clone()];
                config.timeout = Duration::from_millis(100);
            }),
            "check",
            "not done",
        ),
        (config(&|config| config.check = vec!["no-such-check".into()]), "check", "PATH"),
        (config(&|config| config.source = ground.path("nothing")), "source", "nothing"),
        (config(&|config| config.target = "/proc/muster".into()), "write", "old one stays"),
        // A file system without any room.
        (config(&|config| config.target = "/sys/muster".into()), "write", "old one stays"),
    ] {
        let error = Renderer::new(change).render(cluster()).await.unwrap_err();
        assert_eq!(error.word(), word, "{error}");
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(ground.read("target"), "old");
    }
    fs::write(ground.path("source"), "{{ wrong }}").unwrap();
    let error = Renderer::new(ground.config()).render(cluster()).await.unwrap_err();
    assert_eq!(error.word(), "template");
    fs::set_permissions(ground.path("source"), fs::Permissions::from_mode(0o666)).unwrap();
    let error = Renderer::new(ground.config()).render(cluster()).await.unwrap_err();
    assert!(error.to_string().contains("everybody may write"), "{error}");
    assert_eq!(ground.read("target"), "old");
    ground.assert_files(&["refuse", "sleeper", "source", "target"]);
}

#[tokio::test]
async fn a_command_that_failed_is_owed() {
    let ground = Ground::new("new");
    let (good, log) = (ground.path("good"), ground.path("log"));
    let command = ground
        .script("command", &format!("echo ran >> {}; test -e {}", log.display(), good.display()));
    let config = RenderConfig { command: vec![command], ..ground.config() };
    let mut renderer = Renderer::new(config);
    for _ in 0..2 {
        let error = renderer.render(cluster()).await.unwrap_err();
        assert_eq!(error.word(), "command");
        assert_eq!(ground.read("target"), "new");
    }
    fs::write(good, "").unwrap();
    assert_eq!(renderer.render(cluster()).await, Ok(Rendered::Unchanged));
    assert_eq!(renderer.render(cluster()).await, Ok(Rendered::Unchanged));
    assert_eq!(ground.read("log"), "ran\n".repeat(3));
}

#[tokio::test]
async fn leftovers_of_a_crash_are_no_hindrance() {
    let ground = Ground::new("new");
    fs::write(ground.path(".target.muster"), "half").unwrap();
    assert_eq!(Renderer::new(ground.config()).render(cluster()).await, Ok(Rendered::Written));
    ground.assert_files(&["source", "target"]);
}
