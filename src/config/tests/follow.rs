//! Tags, the broker, rendered files, hooks, DNS and what else an agent serves.

use super::*;

fn agent(text: &str) -> AgentConfig {
    self::text(text).agent
}

fn refused(text: &str) -> String {
    layers(&[("base.conf", BASE), ("e", text)], &[]).unwrap_err().to_string()
}

#[test]
fn all_of_it_is_off_unless_configured() {
    let agent = agent("");
    assert_eq!(agent.health, HealthConfig { listen: None });
    assert_eq!(agent.ready, ReadyConfig { min_members: 1, majority: false });
    assert_eq!(agent.leave_on_stop, LeaveOnStop::Auto);
    assert_eq!(agent.broker.kind, BrokerKind::None);
    assert_eq!(agent.broker.address, "127.0.0.1:1883");
    assert!(agent.tags.is_empty() && agent.render.is_empty() && agent.hooks.is_empty());
    assert!(agent.api.tls.is_none() && agent.dns.is_none());
}

#[test]
fn what_an_agent_serves() {
    let agent = agent(
        r#"
        agent {
            api.tls { certfile = "${EMQX_ETC_DIR}/c.pem", keyfile = "k.pem", cacertfile = "a.pem" }
            health.listen = "0.0.0.0:7371"
            ready { min_members = 3, majority = true }
            leave_on_stop = true
            dns { listen = "[::1]:53", domain = "Brokers.Example.", ttl = 5s }
        }
        "#,
    );
    let tls = agent.api.tls.unwrap();
    assert_eq!((tls.certfile, tls.keyfile), ("etc/c.pem".into(), "k.pem".into()));
    assert_eq!(tls.cacertfile, Some("a.pem".into()));
    assert_eq!(agent.health.listen, Some("0.0.0.0:7371".parse().unwrap()));
    assert_eq!(agent.ready, ReadyConfig { min_members: 3, majority: true });
    assert_eq!(agent.leave_on_stop, LeaveOnStop::Always);
    let dns = agent.dns.unwrap();
    assert_eq!((dns.domain.as_str(), dns.ttl.as_secs()), ("brokers.example", 5));
    assert_eq!(self::agent("agent.leave_on_stop = off").leave_on_stop, LeaveOnStop::Never);
}

#[test]
fn cookies_that_are_accepted_stand_behind_the_others() {
    let files = [
        ("base.conf", BASE),
        ("e", "agent.mesh.accept_cookies = [\"file:///old\", yet-another-long-cookie]"),
        ("/old", "one-of-the-old-cookies\nanother-of-the-old-ones\n"),
    ];
    let memory = Memory::new(&files);
    let loaded = load_with(&["base.conf".into(), "e".into()], [], &memory).unwrap();
    let cookies = loaded.config.node.cookies.current();
    let cookies: Vec<&str> = cookies.iter().map(|cookie| cookie.expose()).collect();
    let accepted = ["one-of-the-old-cookies", "another-of-the-old-ones", "yet-another-long-cookie"];
    assert_eq!(cookies, [&["aaaaaaaaaaaaaaaaaaaaaaaa"][..], &accepted].concat());
    let shown = explain(&loaded.effective);
    assert!(shown.contains("accept_cookies = [\"file:///old\", \"******\"]"), "{shown}");
    let weak = "node.name = \"emqx@a.io\", agent.mesh.accept_cookies = [short]";
    assert!(refused(weak).starts_with("e:1:54: agent.mesh.accept_cookies: the cookie is shorter"));
}

#[test]
fn tags_are_bounded() {
    let tags = agent("agent.tags { zone = a, id = \"1\", rack = ${?none} }").tags;
    assert_eq!(tags.to_string(), "id=1,zone=a");
    let loaded = with_env(&[("MUSTER_TAGS__ZONE", "b")]);
    assert_eq!((loaded.config.agent.tags.get("zone"), loaded.warnings.len()), (Some("b"), 0));
    assert_eq!(
        refused("agent.tags.Zone = a"),
        "e:1:19: agent.tags.Zone: found this tag, allowed: a block of names of a-z, 0-9 and _, \
         each with a text; 512 bytes in all\n  hint: a tag's name has 1 to 32 of a-z, 0-9 and _"
    );
    assert!(refused("agent.tags.a = [b]").contains("found a list"));
    assert!(refused(&format!("agent.tags.a = {}", "x".repeat(512))).contains("at most 512 bytes"));
}

#[test]
fn the_broker_is_where_its_listener_is() {
    let broker = |text: &str| {
        let text = format!("node.name = \"emqx@a.io\", agent.broker.kind = mqtt\n{text}");
        let broker = self::text(&text).agent.broker;
        (broker.address, broker.probe.target)
    };
    let is = |address: &str, target: &str| (address.to_owned(), target.to_owned());
    assert_eq!(broker(""), is("a.io:1883", "127.0.0.1:1883"));
    let bind = |bind: &str| broker(&format!("listeners.tcp.default {{ bind = {bind} }}"));
    assert_eq!(bind("1884"), is("a.io:1884", "127.0.0.1:1884"));
    assert_eq!(bind("\"0.0.0.0:1884\""), is("a.io:1884", "127.0.0.1:1884"));
    assert_eq!(bind("\":1884\""), is("a.io:1884", "127.0.0.1:1884"));
    assert_eq!(bind("\"[::]:1884\""), is("a.io:1884", "[::1]:1884"));
    assert_eq!(bind("\"10.0.0.5:1884\""), is("a.io:1884", "10.0.0.5:1884"));
    assert_eq!(bind("\"10.0.0.5: 1884\""), is("a.io:1884", "10.0.0.5:1884"));
    assert_eq!(bind("\"::1:1884\""), is("a.io:1884", "[::1]:1884"));
    assert_eq!(
        broker("agent.broker { address = \"B.example:8883\", probe.target = \"[0::1]:1\" }"),
        is("b.example:8883", "[::1]:1")
    );
    let env = [("EMQX_LISTENERS__TCP__DEFAULT__BIND", "2883"), ("MUSTER_BROKER__KIND", "tcp")];
    assert_eq!(with_env(&env).config.agent.broker.address, "127.0.0.1:2883");
    let v6 =
        "node.name = \"emqx@fd00::2\", cluster.proto_dist = inet6_tcp, agent.broker.kind = tcp";
    assert_eq!(agent(v6).broker.address, "[fd00::2]:1883");
}

#[test]
fn what_is_asked_depends_on_the_kind() {
    let target = |text: &str| agent(&format!("agent.broker {text}")).broker.probe.target;
    assert_eq!(target("{ kind = emqx }"), "http://127.0.0.1:18083/status");
    let url = "{ kind = http, probe.target = \"http://h:8080/health?x=1\" }";
    assert_eq!(target(url), "http://h:8080/health?x=1");
    assert_eq!(target("{ kind = emqx, probe.target = \"http://[::1]\" }"), "http://[::1]/");
    for (text, part) in [
        ("{ kind = http }", "agent.broker.probe.target: found nothing"),
        ("{ kind = http, probe.target = \"h:80\" }", "put the scheme before it"),
        ("{ kind = http, probe.target = \"https://h\" }", "the scheme must be http"),
        ("{ kind = tcp, probe.target = \"http://h\" }", "the port must be"),
        ("{ kind = tcp, probe.target = h }", "put a port behind it"),
        ("{ kind = tcp, address = \"h:0\" }", "the port must be 1 to 65535"),
        ("{ kind = tcp, probe { interval = 1s, timeout = 2s } }", "longer than"),
        ("{ kind = tcp, drive = true }", "only brokers of kind emqx"),
        ("{ required = true }", "set agent.broker.kind"),
        ("{ kind = emq }", "did you mean `emqx`?"),
    ] {
        let message = refused(&format!("agent.broker {text}"));
        assert!(message.contains(part), "{text}: {message}");
    }
    // A listener that nobody here asks for is the broker's concern.
    agent("listeners.tcp.default.bind = nonsense");
    assert!(
        refused("agent.broker.kind = tcp, listeners.tcp.default.bind = nonsense")
            .contains("listeners.tcp.default.bind: found `nonsense`")
    );
}

#[test]
fn rendered_files() {
    let files = agent(
        r#"
        agent.render = [
            { source = "a.j2", target = "/run/a", check = [haproxy, "-c", "{file}"], perms = 0600 }
            { source = "a.j2", target = "/run/b", wait { min = 0s, max = 1m }, timeout = 5s
              command = ["systemctl", "reload", "x"], require_majority = false }
        ]
        "#,
    )
    .render;
    assert_eq!(files[0].check, ["haproxy", "-c", "{file}"]);
    assert_eq!((files[0].perms, files[0].wait_max.as_secs()), (0o600, 10));
    assert!(files[0].require_majority && !files[1].require_majority);
    assert_eq!(
        (files[1].perms, files[1].wait_min.as_secs(), files[1].wait_max.as_secs()),
        (0o644, 0, 60)
    );
    assert_eq!(files[1].command.len(), 3);
    for (text, part) in [
        ("{ target = t }", "agent.render.1.source: found nothing"),
        ("{ source = s, target = s }", "agent.render.1.target: found the template itself"),
        (
            "{ source = s, target = t }, { source = s, target = t }",
            "agent.render: found `t` a second",
        ),
        ("{ source = s, target = t, perms = 0999 }", "agent.render.1.perms: found `0999`"),
        ("{ source = s, target = t, perms = 7777 }", "as chmod takes it"),
        ("{ source = s, target = t, check = \"a b\" }", "one item an argument: [a, b]"),
        ("{ source = s, target = t, check = [] }", "found no program"),
        ("{ source = s, target = t, wait { min = 9s, max = 3s } }", "less than wait.min"),
        ("{ source = s, target = t, comand = [c] }", "agent.render.1.comand: unknown key"),
        ("x", "agent.render.1: found a text"),
    ] {
        let message = refused(&format!("agent.render = [{text}]"));
        assert!(message.contains(part), "{text}: {message}");
    }
    assert!(refused("agent.render { source = s }").contains("agent.render: found a block"));
    let many = "{ source = s, target = t },".repeat(65);
    assert!(refused(&format!("agent.render = [{many}]")).contains("found 65 blocks"));
    let quiet = "agent.render = [{ source = s, target = t, check = [true] }]";
    let warnings = layers(&[("base.conf", BASE), ("e", quiet)], &[]).unwrap().warnings;
    assert!(warnings[0].to_string().contains("write {file} where its path belongs"));
}

#[test]
fn hooks() {
    let hooks = agent(
        r#"
        agent.hooks = [
            { on = [member_down, ready, member_down], command = ["/usr/bin/notify", "a b"] }
            { on = "broker_up, broker_down", url = "http://127.0.0.1:9000/hook", timeout = 2s }
        ]
        "#,
    )
    .hooks;
    assert_eq!(hooks[0].on, [HookEvent::MemberDown, HookEvent::Ready]);
    let command = ["/usr/bin/notify", "a b"].map(String::from).to_vec();
    assert_eq!(hooks[0].action, HookAction::Command(command));
    assert_eq!(hooks[1].on, [HookEvent::BrokerUp, HookEvent::BrokerDown]);
    assert_eq!(hooks[1].action, HookAction::Url("http://127.0.0.1:9000/hook".into()));
    assert_eq!((hooks[0].timeout.as_secs(), hooks[1].timeout.as_secs()), (30, 2));
    for (text, part) in [
        ("{ command = [c] }", "agent.hooks.1.on: found nothing"),
        ("{ on = [], command = [c] }", "told of at least one"),
        ("{ on = member_dwon, command = [c] }", "did you mean `member_down`?"),
        ("{ on = ready }", "give one of them"),
        ("{ on = ready, command = [c], url = \"http://h\" }", "found a url beside a command"),
        ("{ on = ready, command = \"sh -c x\" }", "[sh, \"-c\", x]"),
        ("{ on = ready, url = \"https://h\" }", "the scheme must be http"),
    ] {
        let message = refused(&format!("agent.hooks = [{text}]"));
        assert!(message.contains(part), "{text}: {message}");
    }
    let words = HookEvent::ALL.map(HookEvent::name).join(", ");
    let allowed = KEYS.iter().find(|key| key.path == "agent.hooks[].on").unwrap().allowed;
    assert_eq!(words, allowed);
}

/// Web hooks and health checks have their tokens there.
#[test]
fn what_stands_behind_the_path_of_a_url_is_not_shown() {
    let text = r#"
        agent {
            hooks = [
                { on = ready, url = "http://h/hook?token=hunter2" }
                { on = ready, command = [curl, "--url=http://h/?hunter2", "https://me:hunter2@h/"] }
            ]
            render = [{ source = s, target = t, command = [curl, "http://h/reload#hunter2"] }]
            broker { kind = http, probe.target = "http://127.0.0.1:8080/health?key=hunter2" }
        }
    "#;
    let loaded = layers(&[("base.conf", BASE), ("e", text)], &[]).unwrap();
    let shown = explain(&loaded.effective);
    assert!(!shown.contains("hunter2"), "{shown}");
    for part in ["http://h/hook?******", "https://******@h/", "8080/health?******"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    layers(&[("shown", &shown)], &[]).unwrap_or_else(|e| panic!("{shown}\n{e}"));
    assert_eq!(loaded.config.agent.broker.probe.target, "http://127.0.0.1:8080/health?key=hunter2");
    for url in [
        "https://h/?hunter2",
        "h/hook?hunter2",
        "http:\\\\/\\\\/h?hunter2",
        "ftp://me:hunter2@h/",
        "http://me:hunter2@h/",
        "http://me:hun/ter2@h/?hunter2",
        "http://h:0/?hunter2",
        "http://h/ ?hunter2",
        "http://h/#hunter2",
        "http:?hunter2",
    ] {
        for key in [
            format!("agent.hooks = [{{ on = ready, url = \"{url}\" }}]"),
            format!("agent.broker {{ kind = http, probe.target = \"{url}\" }}"),
            format!("cluster {{ discovery_strategy = etcd, etcd.server = \"{url}\" }}"),
            format!("cluster {{ discovery_strategy = k8s, k8s.apiserver = \"{url}\" }}"),
        ] {
            let message = refused(&key);
            assert!(!message.contains("ter2"), "{key}: {message}");
        }
    }
    let message =
        refused("agent.hooks = [{ on = ready, command = \"curl http://h/?hunter2 -v\" }]");
    assert!(message.contains("http://h/?******") && !message.contains("hunter2"), "{message}");
}

#[test]
fn listeners_do_not_meet() {
    for (text, part) in [
        ("agent.health.listen = \"0.0.0.0:6370\"", "port 6370 is the mesh's too"),
        ("agent.health.listen = \"127.0.0.1:7370\"", "port 7370 is the API's too"),
        ("agent.dns.listen = \"127.0.0.1:7370\"", "port 7370 is the API's too"),
        ("agent.health.listen = 7371", "put an address before the port: 127.0.0.1:7371"),
        ("agent.dns.domain = x", "agent.dns.listen: found nothing"),
        ("agent.dns { listen = \"127.0.0.1:53\", ttl = 10ms }", "whole seconds"),
        ("agent.api.tls.certfile = c", "agent.api.tls.keyfile: found nothing"),
        ("agent.api.tls.cacertfile = c", "agent.api.tls.certfile: found nothing"),
        (
            "agent.api { listen = \"unix:/a\", tls { certfile = c, keyfile = k } }",
            "found TLS on a Unix socket",
        ),
    ] {
        let message = refused(text);
        assert!(message.contains(part), "{text}: {message}");
    }
}

#[test]
fn what_check_prints_of_blocks_loads_again() {
    let text = r#"
        agent {
            tags { zone = "a b" }
            broker.kind = mqtt
            render = [{ source = "s {x}", target = t, check = [c, "{file}"] }]
            hooks = [{ on = ready, command = ["c\n"] }, { on = ready, url = "http://h/b" }]
            dns.listen = "127.0.0.1:53"
        }
    "#;
    let first = layers(&[("base.conf", BASE), ("e", text)], &[]).unwrap();
    let shown = explain(&first.effective);
    let again = layers(&[("shown", &shown)], &[]).unwrap_or_else(|e| panic!("{shown}\n{e}"));
    assert_eq!(shown.lines().count(), explain(&again.effective).lines().count());
    assert_eq!(first.config.agent.render, again.config.agent.render);
    assert_eq!(first.config.agent.hooks, again.config.agent.hooks);
    assert_eq!(first.config.agent.broker, again.config.agent.broker);
}
