//! Addresses and names as configuration writes them.

use std::net::{IpAddr, SocketAddr};

use super::reader::{Fault, shorten};
use crate::node::NodeName;
use crate::secret::shown_url;

/// A node name.
pub(super) fn node_name(text: &str) -> Result<NodeName, Fault> {
    NodeName::parse(text.trim()).map_err(|error| {
        let bracketed = text.contains("@[");
        Fault::hint(if bracketed {
            "an IPv6 address stands without brackets: \"emqx@::1\"".to_owned()
        } else {
            error.to_string()
        })
    })
}

/// The part of a node name before the `@`.
pub(super) fn name_part(text: &str) -> Result<String, Fault> {
    NodeName::parse(&format!("{text}@localhost"))
        .map(|name| name.name().to_owned())
        .map_err(|_| Fault::default())
}

/// `http://host[:port]` or `https://…`, without a path; the text without a slash at its end.
pub(super) fn http_url(text: &str) -> Result<String, Fault> {
    let (scheme, rest) = scheme(text)?;
    if !["http", "https"].contains(&scheme.as_str()) {
        return Err(Fault::hint("the scheme must be http or https"));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains(['/', '?', '#']) && !authority.contains('@') {
        return Err(Fault::hint("a path is not allowed"));
    }
    check_authority(authority)?;
    Ok(format!("{scheme}://{authority}"))
}

/// `http://host[:port][/path]`: what is asked or told in plain HTTP.
pub(super) fn url(text: &str) -> Result<String, Fault> {
    let (scheme, rest) = scheme(text)?;
    if scheme != "http" {
        return Err(Fault::hint("the scheme must be http"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    check_authority(authority)?;
    if !path.bytes().all(|b| b.is_ascii_graphic()) || path.contains('#') {
        return Err(Fault::hint("the path has a character that must be percent-encoded"));
    }
    let slash = if path.starts_with('/') { "" } else { "/" };
    Ok(format!("http://{authority}{slash}{path}"))
}

/// A URL's scheme in lower case, and what stands behind the `://`.
fn scheme(text: &str) -> Result<(String, &str), Fault> {
    let text = text.trim();
    if text.contains('@') && !text.contains("://") {
        return Err(with_user_name());
    }
    if text.contains("\\/") {
        let plain = text.replace("\\/", "/");
        let plain = shorten(&shown_url(&plain));
        return Err(Fault::hint(format!("write / without a backslash: \"{plain}\"")));
    }
    let quoting = "`//` begins a comment in HOCON: put the URL in quotes";
    match text.split_once("://") {
        Some((_, "" | "/")) => Err(Fault::hint(quoting)),
        Some((scheme, rest)) => Ok((scheme.to_ascii_lowercase(), rest)),
        None => Err(match text {
            "http:" | "https:" => Fault::hint(quoting),
            _ => Fault::hint(format!(
                "put the scheme before it: \"http://{}\"",
                shorten(&shown_url(text))
            )),
        }),
    }
}

/// `host` or `host:port`, an IPv6 host in brackets.
fn check_authority(authority: &str) -> Result<(), Fault> {
    if authority.contains('@') {
        return Err(with_user_name());
    }
    let (host, port) = split_authority(authority)?;
    if host.parse::<IpAddr>().is_err() && !is_dns_name(host) {
        return Err(Fault::hint("the host must be an address or a DNS name"));
    }
    if port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        return Err(Fault::hint("the port must be 1 to 65535"));
    }
    Ok(())
}

/// What stands before the `@` may be a password, so that the URL is not repeated.
fn with_user_name() -> Fault {
    Fault {
        found: Some("a URL with a user name".to_owned()),
        hint: Some("credentials have keys of their own".to_owned()),
    }
}

fn split_authority(authority: &str) -> Result<(&str, Option<&str>), Fault> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(Fault::default)?;
        if host.parse::<std::net::Ipv6Addr>().is_err() {
            return Err(Fault::hint("between the brackets stands no IPv6 address"));
        }
        return match rest.strip_prefix(':') {
            Some(port) => Ok((host, Some(port))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(Fault::default()),
        };
    }
    match authority.rsplit_once(':') {
        Some((host, _)) if host.contains(':') => {
            Err(Fault::hint("an IPv6 address stands in brackets: \"http://[::1]:2379\""))
        }
        Some((host, port)) => Ok((host, Some(port))),
        None => Ok((authority, None)),
    }
}

/// `host:port`, in one spelling: the name in lower case, an IPv6 address in brackets.
pub(super) fn host_port(text: &str) -> Result<String, Fault> {
    let text = text.trim();
    if let Ok(address) = text.parse::<SocketAddr>() {
        let fault = Fault::hint("the port must be 1 to 65535");
        return if address.port() > 0 { Ok(address.to_string()) } else { Err(fault) };
    }
    let Some((host, port)) = text.rsplit_once(':').filter(|(host, _)| !host.contains(':')) else {
        return Err(match text.parse::<IpAddr>() {
            Ok(ip) => {
                Fault::hint(format!("put a port behind it: \"{}\"", SocketAddr::new(ip, 1883)))
            }
            Err(_) => Fault::hint("put a port behind it, as in \"broker.example.com:1883\""),
        });
    };
    if !is_dns_name(host) {
        return Err(Fault::hint("the host must be an address or a DNS name"));
    }
    match port.parse::<u16>() {
        Ok(port @ 1..) => {
            let host = host.strip_suffix('.').unwrap_or(host);
            Ok(format!("{}:{port}", host.to_ascii_lowercase()))
        }
        _ => Err(Fault::hint("the port must be 1 to 65535")),
    }
}

/// Where something listens: `IP:port` or `[IPv6]:port`.
pub(super) fn socket(text: &str) -> Result<SocketAddr, Fault> {
    let text = text.trim();
    if text.contains('%') {
        return Err(Fault::hint("scope ids (`%`) are not supported"));
    }
    text.parse::<SocketAddr>().map_err(|_| {
        let number = text.strip_prefix(':').unwrap_or(text);
        if number.parse::<u16>().is_ok() {
            Fault::hint(format!("put an address before the port: 127.0.0.1:{number}"))
        } else if text.parse::<IpAddr>().is_ok() {
            Fault::hint("put a port behind the address")
        } else if let Some(port) = text.strip_prefix("localhost:") {
            Fault::hint(format!("give the address: 127.0.0.1:{port}"))
        } else {
            Fault::hint("a value with a `:` must be quoted: \"127.0.0.1:7370\"")
        }
    })
}

/// `IP`, `IP:port` or `[IPv6]:port`.
pub(super) fn nameserver(text: &str) -> Result<SocketAddr, Fault> {
    const DNS_PORT: u16 = 53;
    let text = text.trim();
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    match text.parse::<SocketAddr>() {
        Ok(address) if address.port() > 0 => Ok(address),
        Ok(_) => Err(Fault::hint("the port must be 1 to 65535")),
        Err(_) => {
            Err(Fault::hint("a name server is given by address, since nobody resolves its name"))
        }
    }
}

/// An IP address.
pub(super) fn ip(text: &str) -> Result<IpAddr, Fault> {
    let text = text.trim();
    text.parse().map_err(|_| {
        if text.contains('%') {
            Fault::hint("scope ids (`%`) are not supported")
        } else if text.parse::<SocketAddr>().is_ok() {
            Fault::hint("the address stands without a port: agent.mesh.base_port sets it")
        } else {
            Fault::default()
        }
    })
}

/// RFC 1123 labels of at most 63 bytes, 253 in all; `_` too, which SRV names have.
pub(super) fn is_dns_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    text.len() <= 253 && text.split('.').all(label)
}

/// A DNS name as a value.
pub(super) fn dns_name(text: &str) -> Result<String, Fault> {
    if is_dns_name(text) {
        return Ok(text.to_owned());
    }
    Err(if text.contains('@') {
        Fault::hint("the part before the `@` is the node's own; give the name alone")
    } else {
        Fault::default()
    })
}

/// One DNS label, as Kubernetes names services and namespaces.
pub(super) fn dns_label(text: &str) -> Result<String, Fault> {
    if is_dns_name(text) && !text.contains(['.', '_']) {
        return Ok(text.to_owned());
    }
    let lower = text.to_ascii_lowercase();
    Err(match lower.split_once('.') {
        Some((first, _)) => Fault::hint(format!("give the first label alone: {first}")),
        None => Fault::default(),
    })
}
