//! The commands: `run` is the agent, `dev` starts several; the others are clients of the
//! HTTP API or read configuration.

pub mod dev;

mod args;
mod check;
mod client;
mod cluster;
mod connect;
mod debug;
mod doctor;
mod drain;
mod error;
mod events;
mod files;
mod generate;
mod members;
mod out;
mod ready;
mod reload;
mod render;
mod run;
mod sse;
mod target;
mod tls;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use error::CliError;

/// What `muster` does with its arguments; the process's exit code.
///
/// 0 done, 1 refused or failed, 2 usage, 69 agent not reachable, 78 configuration.
#[must_use]
pub fn main() -> ExitCode {
    let args = Args::parse();
    match dispatch(args) {
        Ok(code) => code,
        Err(error) => {
            error.report();
            error.exit_code()
        }
    }
}

fn dispatch(args: Args) -> Result<ExitCode, CliError> {
    match args.command {
        Command::Run(args) => run::run(&args)?,
        Command::Check(args) => check::check(&args)?,
        Command::Completions { shell } => generate::completions(shell)?,
        Command::Man { dir } => generate::man(dir.as_deref())?,
        Command::Dev(args) => return Ok(client_runtime()?.block_on(dev::run(args))),
        Command::Cluster { command, connect } => {
            client_runtime()?.block_on(cluster::run(command, &connect))?;
        }
        Command::Doctor(args) => return client_runtime()?.block_on(doctor::run(&args)),
        Command::Debug(args) => client_runtime()?.block_on(debug::run(&args))?,
        Command::Drain(args) => client_runtime()?.block_on(drain::drain(&args))?,
        Command::Undrain(connect) => client_runtime()?.block_on(drain::undrain(&connect))?,
        Command::Reload(connect) => client_runtime()?.block_on(reload::run(&connect))?,
        Command::Render(args) => return client_runtime()?.block_on(render::run(&args)),
        Command::Ready(args) => return client_runtime()?.block_on(ready::run(&args)),
        Command::Members(args) => client_runtime()?.block_on(members::run(&args))?,
        Command::Events(args) => client_runtime()?.block_on(events::run(&args))?,
    }
    Ok(ExitCode::SUCCESS)
}

/// One thread is enough for a client.
fn client_runtime() -> Result<tokio::runtime::Runtime, CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(|error| CliError::Failed(format!("cannot start: {error}")))
}
