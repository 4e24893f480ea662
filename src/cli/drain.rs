//! `muster drain` and `muster undrain`.

use axum::http::Method;
use serde_json::json;

use super::args::{ConnectArgs, DrainArgs};
use super::error::CliError;
use super::{connect, out};
use crate::api::Member;

const PATH: &str = "/api/v1/node/drain";

pub(super) async fn drain(args: &DrainArgs) -> Result<(), CliError> {
    let client = connect::client(&args.connect)?;
    let body = json!({ "reason": args.reason });
    let member: Member = client.send(Method::PUT, PATH, &body).await?;
    match args.connect.json {
        true => out::json(&member),
        false => out::line(&format!("{} serves nobody new, until undrain.", member.node)),
    }
}

pub(super) async fn undrain(args: &ConnectArgs) -> Result<(), CliError> {
    let client = connect::client(args)?;
    client.delete(PATH).await?;
    match args.json {
        true => out::json(&json!({ "draining": null })),
        false => out::line("The node is in service."),
    }
}
