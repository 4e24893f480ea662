//! Where the agent is.

use std::fmt;
use std::path::PathBuf;

use axum::http::Uri;

use crate::config::ApiListen;
use crate::secret::shown_url;

/// An agent's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `host:port`; the host may be a name.
    Tcp(String),
    /// `host:port` that speaks TLS.
    Tls(String),
    /// The path of a socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Tls(authority) => write!(f, "https://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Target {
    /// Where an agent with this configuration is reached from its own machine.
    pub(super) fn of(listen: ApiListen, tls: bool) -> Self {
        match listen {
            ApiListen::Unix(path) => Self::Unix(path),
            ApiListen::Tcp(address) if tls => Self::Tls(address.to_string()),
            ApiListen::Tcp(address) => Self::Tcp(address.to_string()),
        }
    }
}

/// Reads `http://host:port`, `https://host:port` or `unix:/path`.
pub(super) fn parse(url: &str) -> Result<Target, String> {
    if let Some(path) = url.strip_prefix("unix:") {
        let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        return match path {
            "" => Err(format!("'{url}' names no socket")),
            path => Ok(Target::Unix(path.into())),
        };
    }
    // In a message it is cut where a password may be.
    let shown = shown_url(url);
    let uri: Uri = url.parse().map_err(|error| format!("'{shown}' is not a URL: {error}"))?;
    let (Some(authority), "" | "/", None) = (uri.authority(), uri.path(), uri.query()) else {
        return Err(format!("'{shown}' must be http://host:port, https://host:port or unix:/path"));
    };
    let with_port = |default| {
        let port = authority.port_u16().unwrap_or(default);
        format!("{}:{port}", authority.host())
    };
    match uri.scheme_str() {
        Some("http") => Ok(Target::Tcp(with_port(80))),
        Some("https") => Ok(Target::Tls(with_port(443))),
        _ => Err(format!("'{shown}' is neither http://, https:// nor unix:")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let tcp = |text: &str| Ok(Target::Tcp(text.into()));
        assert_eq!(parse("http://127.0.0.1:7372"), tcp("127.0.0.1:7372"));
        assert_eq!(parse("http://[::1]:7372/"), tcp("[::1]:7372"));
        assert_eq!(parse("http://agent.example"), tcp("agent.example:80"));
        assert_eq!(parse("unix:/run/m.sock"), Ok(Target::Unix("/run/m.sock".into())));
        assert_eq!(parse("unix:///run/m.sock"), Ok(Target::Unix("/run/m.sock".into())));
        assert_eq!(parse("unix:m.sock"), Ok(Target::Unix("m.sock".into())));
        assert_eq!(parse("https://agent.example"), Ok(Target::Tls("agent.example:443".into())));
        for bad in ["", "unix:", "127.0.0.1:7370", "http://a/b", "https://a/?b", "ftp://a"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        for bad in ["http://a/?token=hunter2", "http://me:hunter2@a/b", "me:hunter2@a:7370"] {
            let error = parse(bad).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }
}
