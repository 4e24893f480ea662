//! `muster reload`.

use axum::http::{Method, StatusCode};

use super::args::ConnectArgs;
use super::client::ClientError;
use super::error::CliError;
use super::{connect, out};
use crate::command::Reloaded;

pub(super) async fn run(connect: &ConnectArgs) -> Result<(), CliError> {
    let client = connect::client(connect)?;
    let reloaded: Reloaded = match client.send(Method::POST, "/api/v1/reload", &()).await {
        Ok(reloaded) => reloaded,
        Err(ClientError::Refused { status: StatusCode::UNPROCESSABLE_ENTITY, message, .. }) => {
            return Err(CliError::ConfigFile(message));
        }
        Err(error) => return Err(error.into()),
    };
    if connect.json {
        return out::json(&reloaded);
    }
    let list = |paths: &[String]| match paths {
        [] => "nothing".to_owned(),
        paths => paths.join(", "),
    };
    out::line(&format!("changed: {}", list(&reloaded.changed)))?;
    out::line(&format!("waits for a restart: {}", list(&reloaded.needs_restart)))
}
