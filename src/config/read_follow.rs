//! What follows the membership: tags, the broker, rendered files, hooks, DNS.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::address::{dns_name, host_port, socket, url};
use super::keys::{self, Key};
use super::read_agent::port;
use super::read_node::Own;
use super::reader::{Fault, Reader, all, any, boolean, duration, integer, word};
use super::types::{
    BrokerConfig, BrokerKind, DnsConfig, HookAction, HookConfig, HookEvent, ProbeConfig,
    RenderConfig,
};
use super::units;
use crate::attributes::Tags;
use crate::node::{Host, NodeName};

/// Where EMQX answers `GET /status`, unless it is told otherwise.
const STATUS_URL: &str = "http://127.0.0.1:18083/status";

/// Longest `agent.dns.domain`: names below it must fit into a DNS name.
const MAX_DOMAIN: usize = 100;

const HOUR: u64 = 3_600_000;

pub(super) fn tags(r: &mut Reader<'_>) -> Option<Tags> {
    let mut tags = Tags::default();
    r.texts(&keys::TAGS, |name, text| {
        tags.insert(name, text).map_err(|bad| Fault {
            found: Some("this tag".to_owned()),
            hint: Some(bad.to_string()),
        })
    })?;
    Some(tags)
}

pub(super) fn broker(r: &mut Reader<'_>, own: &Own) -> Option<BrokerConfig> {
    let kinds =
        [BrokerKind::None, BrokerKind::Tcp, BrokerKind::Mqtt, BrokerKind::Http, BrokerKind::Emqx];
    let found =
        r.get(&keys::BROKER_KIND, |text| word(&kinds.map(|kind| (kind.name(), kind)), text));
    // Nobody else asks for the listener, and what is wrong with it is the broker's concern.
    let unset = !r.is_set(&keys::BROKER_ADDRESS) || !r.is_set(&keys::BROKER_PROBE_TARGET);
    let bind = match found {
        Some(kind) if kind != BrokerKind::None && unset => {
            let before = r.settings.len();
            let bind = r.get(&keys::LISTENER_BIND, bound);
            r.settings.truncate(before);
            bind
        }
        _ => Some(SocketAddr::from((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT))),
    };
    let broker = all!(BrokerConfig {
        kind: found,
        address: address(r, own, found, bind),
        probe: probe(r, found, bind),
        required: r.get(&keys::BROKER_REQUIRED, boolean),
        drive: r.get(&keys::BROKER_DRIVE, boolean),
    })?;
    if broker.drive && broker.kind != BrokerKind::Emqx {
        let message = format!("found `true` beside the kind {}", broker.kind.name());
        r.error(&keys::BROKER_DRIVE, message, "only brokers of kind emqx are made one cluster");
    }
    if broker.required && broker.kind == BrokerKind::None {
        let message = "found `true` without a broker".to_owned();
        r.error(&keys::BROKER_REQUIRED, message, "set agent.broker.kind");
    }
    Some(broker)
}

/// EMQX's own default of a listener.
const DEFAULT_PORT: u16 = 1883;

/// `listeners.tcp.default.bind` as EMQX takes it; a port alone is every address.
fn bound(text: &str) -> Result<SocketAddr, Fault> {
    // As in EMQX, blanks anywhere change nothing, and IPv6 needs no brackets.
    let text: String = text.split_whitespace().collect();
    if let Ok(port) = port(text.strip_prefix(':').unwrap_or(&text)) {
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    let plain = || {
        let (ip, number) = text.rsplit_once(':')?;
        Some(SocketAddr::from((ip.parse::<Ipv6Addr>().ok()?, port(number).ok()?)))
    };
    text.parse().ok().or_else(plain).ok_or_else(Fault::default)
}

fn address(
    r: &mut Reader<'_>,
    own: &Own,
    kind: Option<BrokerKind>,
    bind: Option<SocketAddr>,
) -> Option<String> {
    if let Some(address) = r.optional(&keys::BROKER_ADDRESS, host_port)? {
        return Some(address);
    }
    let address = joined(own.name.as_ref()?, bind?.port());
    if kind != Some(BrokerKind::None) {
        r.derived(&keys::BROKER_ADDRESS, &address, false);
    }
    Some(address)
}

fn joined(name: &NodeName, port: u16) -> String {
    match name.host() {
        Host::V6(ip) => format!("[{ip}]:{port}"),
        _ => format!("{}:{port}", name.host_str()),
    }
}

fn probe(
    r: &mut Reader<'_>,
    kind: Option<BrokerKind>,
    bind: Option<SocketAddr>,
) -> Option<ProbeConfig> {
    let probe = all!(ProbeConfig {
        target: target(r, kind, bind),
        interval: r.get(&keys::BROKER_PROBE_INTERVAL, duration(100, HOUR)),
        timeout: r.get(&keys::BROKER_PROBE_TIMEOUT, duration(10, 60_000)),
        rise: r.get(&keys::BROKER_PROBE_RISE, integer(1, 100)),
        fall: r.get(&keys::BROKER_PROBE_FALL, integer(1, 100)),
    })?;
    if probe.timeout > probe.interval {
        let message = "found a time-out longer than agent.broker.probe.interval".to_owned();
        r.error(&keys::BROKER_PROBE_TIMEOUT, message, "a probe ends before the next one begins");
        return None;
    }
    Some(probe)
}

fn target(
    r: &mut Reader<'_>,
    kind: Option<BrokerKind>,
    bind: Option<SocketAddr>,
) -> Option<String> {
    let key = &keys::BROKER_PROBE_TARGET;
    let kind = kind?;
    let given = match kind {
        // Not used: what it would have to be depends on the kind.
        BrokerKind::None => return Some(String::new()),
        kind if kind.is_http() => r.optional(key, url),
        _ => r.optional(key, host_port),
    };
    if let Some(target) = given? {
        return Some(target);
    }
    let target = match kind {
        BrokerKind::Http => {
            r.missing(key, "agent.broker.kind = http asks a URL for its health");
            return None;
        }
        BrokerKind::Emqx => STATUS_URL.to_owned(),
        _ => reached(bind?).to_string(),
    };
    r.derived(key, &target, false);
    Some(target)
}

/// Where this host reaches a listener: one on every address over loopback.
fn reached(bind: SocketAddr) -> SocketAddr {
    let ip = match bind.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, bind.port())
}

pub(super) fn render(r: &mut Reader<'_>) -> Option<Vec<RenderConfig>> {
    let files = r.blocks(&keys::RENDER, |r| {
        let file = all!(RenderConfig {
            source: required_path(r, &keys::RENDER_SOURCE, "the template"),
            target: required_path(r, &keys::RENDER_TARGET, "the file it becomes"),
            check: r.program(&keys::RENDER_CHECK),
            command: r.program(&keys::RENDER_COMMAND),
            perms: r.get(&keys::RENDER_PERMS, mode),
            wait_min: r.get(&keys::RENDER_WAIT_MIN, duration(0, HOUR)),
            wait_max: r.get(&keys::RENDER_WAIT_MAX, duration(0, HOUR)),
            timeout: r.get(&keys::RENDER_TIMEOUT, duration(100, HOUR)),
            require_majority: r.get(&keys::RENDER_REQUIRE_MAJORITY, boolean),
        })?;
        if file.wait_max < file.wait_min {
            let message = "found less than wait.min".to_owned();
            r.error(&keys::RENDER_WAIT_MAX, message, "wait.max is the longest a file waits");
        }
        if file.source == file.target {
            let message = "found the template itself".to_owned();
            r.error(&keys::RENDER_TARGET, message, "it would be replaced by what it renders");
        }
        if !file.check.is_empty() && !file.check.iter().any(|arg| arg.contains("{file}")) {
            let message = "no argument of the check names the candidate".to_owned();
            r.warn(&keys::RENDER_CHECK, message, "write {file} where its path belongs");
        }
        Some(file)
    })?;
    let mut targets = HashSet::new();
    if let Some(n) = files.iter().position(|file| !targets.insert(&file.target)) {
        let message = format!("found `{}` a second time", files[n].target.display());
        r.error_at(&keys::RENDER, n, message, "every block needs a target of its own");
    }
    Some(files)
}

fn required_path(r: &mut Reader<'_>, key: &Key, what: &str) -> Option<std::path::PathBuf> {
    let path = r.optional_path(key)?;
    if path.is_none() {
        r.missing(key, &format!("it names {what}"));
    }
    path
}

fn mode(text: &str) -> Result<u32, Fault> {
    let text = text.trim();
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777);
    mode.ok_or_else(|| Fault::hint("as chmod takes it: 0644 lets everybody read"))
}

pub(super) fn hooks(r: &mut Reader<'_>) -> Option<Vec<HookConfig>> {
    r.blocks(&keys::HOOKS, |r| {
        all!(HookConfig {
            on: hook_events(r),
            action: hook_action(r),
            timeout: r.get(&keys::HOOK_TIMEOUT, duration(100, HOUR)),
        })
    })
}

fn hook_events(r: &mut Reader<'_>) -> Option<Vec<HookEvent>> {
    let words = HookEvent::ALL.map(|event| (event.name(), event));
    let mut events = r.list(&keys::HOOK_ON, |text| word(&words, text))?;
    events.sort_unstable();
    events.dedup();
    if events.is_empty() {
        r.missing(&keys::HOOK_ON, "a hook is told of at least one kind of event");
        return None;
    }
    Some(events)
}

fn hook_action(r: &mut Reader<'_>) -> Option<HookAction> {
    let command = r.program(&keys::HOOK_COMMAND);
    let url = r.optional(&keys::HOOK_URL, url);
    match (command?, url?) {
        (command, None) if !command.is_empty() => Some(HookAction::Command(command)),
        (command, Some(url)) if command.is_empty() => Some(HookAction::Url(url)),
        (command, _) => {
            let hint = "a hook runs a command or posts to a url: give one of them";
            if command.is_empty() {
                r.missing(&keys::HOOK_COMMAND, hint);
            } else {
                r.error(&keys::HOOK_URL, "found a url beside a command".to_owned(), hint);
            }
            None
        }
    }
}

pub(super) fn dns(r: &mut Reader<'_>) -> Option<Option<DnsConfig>> {
    let before = r.settings.len();
    let listen = r.optional(&keys::SERVE_LISTEN, socket);
    let domain = r.get(&keys::SERVE_DOMAIN, |text| {
        let name = dns_name(text)?;
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        any(MAX_DOMAIN)(&name)
    });
    let ttl = r.get(&keys::SERVE_TTL, |text| {
        let whole = |d: &Duration| d.subsec_nanos() == 0 && d.as_secs() <= 86_400;
        units::duration(text).filter(whole).ok_or_else(Fault::default)
    });
    match listen? {
        Some(listen) => Some(Some(DnsConfig { listen, domain: domain?, ttl: ttl? })),
        None if r.is_set(&keys::SERVE_DOMAIN) || r.is_set(&keys::SERVE_TTL) => {
            r.missing(&keys::SERVE_LISTEN, "without it nothing is served");
            None
        }
        None => {
            r.settings.truncate(before);
            Some(None)
        }
    }
}
