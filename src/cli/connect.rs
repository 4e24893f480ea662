//! From the arguments to a client of the agent that they mean.

use std::env::VarError;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::args::ConnectArgs;
use super::client::Client;
use super::error::CliError;
use super::files;
use super::target::{self, Target};
use super::tls::{self, TlsFiles};
use crate::config::Config;
use crate::secret::Secret;

/// Where an agent listens that nothing else was said about.
const DEFAULT: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7370);

/// The client that the arguments ask for.
pub(super) fn client(args: &ConnectArgs) -> Result<Client, CliError> {
    match args.config.as_slice() {
        [] => client_of(args, None),
        files => client_of(args, Some(&files::load_for_client(files)?)),
    }
}

/// The client that the arguments and the agent's configuration ask for.
pub(super) fn client_of(args: &ConnectArgs, config: Option<&Config>) -> Result<Client, CliError> {
    let target = match (&args.url, config) {
        (Some(url), _) => target::parse(url).map_err(CliError::Usage)?,
        (None, Some(config)) => Target::of(config.api_address(), config.agent.api.tls.is_some()),
        (None, None) => match variable("MUSTER_URL")? {
            Some(url) => target::parse(&url)
                .map_err(|error| CliError::Usage(format!("MUSTER_URL: {error}")))?,
            None => Target::Tcp(DEFAULT.to_string()),
        },
    };
    let configured = || config.and_then(|config| config.agent.api.token.clone());
    let token = match args.token.clone().or_else(configured) {
        None => variable("MUSTER_TOKEN")?.map(Secret::new),
        token => token,
    };
    if !matches!(target, Target::Tls(_)) {
        if args.cacert.is_some() || args.cert.is_some() || args.key.is_some() {
            let text = format!("--cacert, --cert and --key mean nothing with {target}");
            return Err(CliError::Usage(text));
        }
        return Ok(Client::new(target, token, None));
    }
    let configured = config.and_then(|config| config.agent.api.tls.as_ref());
    let files = TlsFiles {
        cacert: args.cacert.clone(),
        cert: args.cert.clone(),
        key: args.key.clone(),
        own: configured.map(|tls| tls.certfile.clone()),
    };
    Ok(Client::new(target, token, Some(tls::client_config(files)?)))
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
