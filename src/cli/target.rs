//! Where the agent is.

use std::env::VarError;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use axum::http::Uri;

use super::args::ConnectArgs;
use super::client::Client;
use super::error::CliError;
use super::files;
use crate::config::{ApiListen, Config};
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

impl From<ApiListen> for Target {
    fn from(listen: ApiListen) -> Self {
        match listen {
            ApiListen::Unix(path) => Self::Unix(path),
            ApiListen::Tcp(address) => Self::Tcp(address.to_string()),
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
    match args.config.as_slice() {
        [] => client_of(args, None),
        files => client_of(args, Some(&files::load(files)?.config)),
    }
}

/// The client that the arguments and the agent's configuration ask for.
pub(super) fn client_of(args: &ConnectArgs, config: Option<&Config>) -> Result<Client, CliError> {
    let target = match (&args.url, config) {
        (Some(url), _) => parse(url).map_err(CliError::Usage)?,
        (None, Some(config)) => config.api_address().into(),
        (None, None) => match variable("MUSTER_URL")? {
            Some(url) => {
                parse(&url).map_err(|error| CliError::Usage(format!("MUSTER_URL: {error}")))?
            }
            None => Target::Tcp(DEFAULT.to_string()),
        },
    };
    let configured = || config.and_then(|config| config.agent.api.token.clone());
    let token = match args.token.clone().or_else(configured) {
        None => variable("MUSTER_TOKEN")?.map(Secret::new),
        token => token,
    };
    Ok(Client::new(target, token))
}

/// An environment variable; an empty one is as good as none, since Compose and its like
/// write those for what is not set.
fn variable(name: &str) -> Result<Option<String>, CliError> {
    match std::env::var(name) {
        Ok(text) if text.is_empty() => Ok(None),
        Ok(text) => Ok(Some(text)),
        Err(VarError::NotPresent) => Ok(None),
        Err(VarError::NotUnicode(_)) => Err(CliError::Usage(format!("{name} is not UTF-8"))),
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
        for bad in
            ["", "unix:", "127.0.0.1:7370", "https://a:1", "http://a/b", "http://a/?b", "ftp://a"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
