//! Where the agent is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use axum::http::Uri;

use super::args::ConnectArgs;
use super::client::Client;
use super::error::CliError;
use super::files;
use crate::config::ApiListen;
use crate::secret::Secret;

/// Where an agent listens that nothing else was said about.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7370);

/// An agent's API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// `host:port`; the host may be a name.
    Tcp(String),
    /// The path of a socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(authority) => write!(f, "http://{authority}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<&ApiListen> for Target {
    /// An unspecified address is reached over loopback.
    fn from(listen: &ApiListen) -> Self {
        match listen {
            ApiListen::Unix(path) => Self::Unix(path.clone()),
            ApiListen::Tcp(address) => {
                let ip = match address.ip() {
                    IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                    ip => ip,
                };
                Self::Tcp(SocketAddr::new(ip, address.port()).to_string())
            }
        }
    }
}

/// Reads `http://host:port` or `unix:/path`.
fn parse(url: &str) -> Result<Target, String> {
    if let Some(path) = url.strip_prefix("unix:") {
        let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
        return match path {
            "" => Err(format!("'{url}' names no socket")),
            path => Ok(Target::Unix(path.into())),
        };
    }
    let uri: Uri = url.parse().map_err(|error| format!("'{url}' is not a URL: {error}"))?;
    match (uri.scheme_str(), uri.authority(), uri.path()) {
        (Some("https"), ..) => Err(format!("'{url}': the agent's API is plain http:// or unix:")),
        (Some("http"), Some(authority), "" | "/") if uri.query().is_none() => {
            let port = authority.port_u16().unwrap_or(80);
            Ok(Target::Tcp(format!("{}:{port}", authority.host())))
        }
        _ => Err(format!("'{url}' must be http://host:port or unix:/path")),
    }
}

/// The client that the arguments ask for.
pub(super) fn client(args: &ConnectArgs) -> Result<Client, CliError> {
    let api = match args.config.as_slice() {
        [] => None,
        files => Some(files::load(files)?.config.agent.api),
    };
    let target = match (&args.url, &api) {
        (Some(url), _) => parse(url).map_err(CliError::Usage)?,
        (None, Some(api)) => (&api.listen).into(),
        (None, None) => Target::Tcp(DEFAULT.to_string()),
    };
    let token: Option<Secret> = args.token.clone().or_else(|| api.and_then(|api| api.token));
    Ok(Client::new(target, token))
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
        for bad in
            ["", "unix:", "127.0.0.1:7370", "https://a:1", "http://a/b", "http://a/?b", "ftp://a"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn listening_everywhere_is_reached_over_loopback() {
        for (listen, target) in [
            ("0.0.0.0:7370", "http://127.0.0.1:7370"),
            ("[::]:7371", "http://[::1]:7371"),
            ("10.0.0.1:7370", "http://10.0.0.1:7370"),
        ] {
            let listen = ApiListen::Tcp(listen.parse().unwrap());
            assert_eq!(Target::from(&listen).to_string(), target);
        }
    }
}
