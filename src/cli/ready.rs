//! `muster ready`: what supervisors and images ask instead of a shell.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::args::ReadyArgs;
use super::client::Client;
use super::error::CliError;
use super::{connect, out};
use crate::api::Health;

/// Between two questions while waiting.
const POLL: Duration = Duration::from_millis(200);

/// An agent that is there answers a health check at once.
const PATIENCE: Duration = Duration::from_secs(3);

pub(super) async fn run(args: &ReadyArgs) -> Result<ExitCode, CliError> {
    let client = connect::client(&args.connect)?;
    let deadline = args.wait.map(|wait| Instant::now() + wait);
    let health = loop {
        let asked = ask(&client).await;
        let late = deadline.is_none_or(|deadline| Instant::now() >= deadline);
        match asked {
            Ok(health) if health.ready || late => break health,
            Err(error) if late || !matches!(error, CliError::Unreachable(_)) => return Err(error),
            _ => sleep(POLL).await,
        }
    };
    if args.connect.json {
        out::json(&health)?;
    } else {
        out::text(&describe(&health))?;
    }
    Ok(if health.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn ask(client: &Client) -> Result<Health, CliError> {
    match timeout_at(Instant::now() + PATIENCE, client.get_any("/readyz")).await {
        Ok(answer) => Ok(answer?),
        Err(_) => {
            let (target, patience) = (client.target(), PATIENCE.as_secs());
            let message = format!("the agent at {target} does not answer: {patience} s are over");
            Err(CliError::Unreachable(message))
        }
    }
}

/// `ready`, or why not, one reason a line.
fn describe(health: &Health) -> String {
    if health.ready {
        return "ready\n".to_owned();
    }
    let mut text = "not ready\n".to_owned();
    for check in health.checks.iter().filter(|check| !check.ok) {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{}: {}", check.name, check.reason);
    }
    text
}
