//! Addresses and names as configuration writes them.

use std::net::{IpAddr, SocketAddr};

use super::reader::{Fault, shorten};
use crate::node::NodeName;

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

/// `http://host[:port]`, without a path; the text without a slash at its end.
pub(super) fn http_url(text: &str) -> Result<String, Fault> {
    let text = text.trim();
    let quoting = "`//` begins a comment in HOCON: put the URL in quotes";
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(match text {
            "http:" | "https:" => Fault::hint(quoting),
            _ => Fault::hint(format!("put the scheme before it: \"http://{}\"", shorten(text))),
        });
    };
    if !["http", "https"].iter().any(|known| scheme.eq_ignore_ascii_case(known)) {
        return Err(Fault::hint("the scheme must be http or https"));
    }
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.is_empty() {
        return Err(Fault::hint(quoting));
    }
    if authority.contains('@') {
        // What stands before the `@` may be a password.
        return Err(Fault {
            found: Some("a URL with a user name".to_owned()),
            hint: Some("credentials have keys of their own".to_owned()),
        });
    }
    if authority.contains(['/', '?', '#']) {
        return Err(Fault::hint("a path is not allowed"));
    }
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or_else(Fault::default)?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(Fault::hint("between the brackets stands no IPv6 address"));
            }
            let port = match rest.strip_prefix(':') {
                Some(port) => Some(port),
                None if rest.is_empty() => None,
                None => return Err(Fault::default()),
            };
            (host, port)
        }
        None => match authority.rsplit_once(':') {
            Some((host, _)) if host.contains(':') => {
                return Err(Fault::hint(
                    "an IPv6 address stands in brackets: \"http://[::1]:2379\"",
                ));
            }
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.parse::<IpAddr>().is_err() && !is_dns_name(host) {
        return Err(Fault::hint("the host must be an address or a DNS name"));
    }
    if port.is_some_and(|port| !matches!(port.parse::<u16>(), Ok(1..))) {
        return Err(Fault::hint("the port must be 1 to 65535"));
    }
    Ok(format!("{}://{authority}", scheme.to_ascii_lowercase()))
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
