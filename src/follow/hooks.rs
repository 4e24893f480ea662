//! What is told of events: `agent.hooks`.
//!
//! Tasks: none of its own; [`run`] is one future for each hook, owned by the followers. It
//! takes events as they come and has one of them told at a time. Dropping it ends a program
//! that runs; what waits is then told to nobody.

mod conditions;
mod queue;
mod teller;

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::time::sleep_until;
use tracing::info;

use super::process::{self, Done, Job};
use super::{Beginning, Standing, World, http};
use crate::config::{ApiListen, Config, HookAction, HookConfig};
use crate::metrics::{Hook, HookRun, Word};
use queue::{Message, Queue};
use teller::Teller;

/// From an event to its telling at least. By then all members know of it: what they start
/// about it would stand in its way where they share a machine.
const PAUSE: Duration = Duration::from_millis(50);

/// What is said while more happens than a hook takes.
const OVERLOAD: &str = "more than 256 events waited for it, the limit, and the oldest were \
                        dropped: have it take less time for each, or tell it of fewer";

/// How telling one event ended.
struct Told {
    /// The kind of the outcome, for metrics.
    word: &'static str,
    /// Why it failed.
    failure: Option<String>,
    /// What the program wrote.
    lines: Vec<String>,
}

/// Tells of what happens after the beginning, until it is dropped.
pub(super) async fn run(config: HookConfig, mut world: World, beginning: Beginning) {
    let label = label(&config.action);
    let standing = Standing::new(&world.notices, format!("hook {label}"));
    let overload = Standing::new(&world.notices, format!("hook_dropped {label}"));
    let mut events = world.events.watch();
    let mut broker = world.broker.subscribe();
    let mut teller = Teller::new(&beginning);
    let dropped = world.metrics.hook_dropped.get_or_create(&Hook { hook: label.clone() }).clone();
    let mut queue = Queue::default();
    let mut telling: Option<BoxFuture<'static, Told>> = None;
    loop {
        // Marked as seen before they are looked at: what comes meanwhile wakes us again.
        events.borrow_and_update();
        broker.borrow_and_update();
        world.config.borrow_and_update();
        world.snapshots.borrow_and_update();
        for message in teller.news(&world) {
            if config.on.contains(&message.event) {
                queue.push(message);
            }
        }
        let lost = queue.take_dropped() + teller.take_missed();
        dropped.inc_by(lost);
        if lost > 0 {
            overload.set(OVERLOAD);
        }
        if telling.is_none() {
            telling = queue.pop().map(|message| {
                let agent = Arc::clone(&world.config.borrow());
                tell(config.clone(), message, agent).boxed()
            });
            if telling.is_none() {
                overload.clear();
            }
        }
        tokio::select! {
            told = ended(&mut telling) => {
                telling = None;
                for line in told.lines {
                    info!(hook = label, "{line}");
                }
                let run = HookRun { hook: label.clone(), outcome: Word(told.word) };
                world.metrics.hook_runs.get_or_create(&run).inc();
                match told.failure {
                    None => standing.clear(),
                    Some(reason) => standing.set(&reason),
                }
            }
            Ok(()) = events.changed() => {}
            Ok(()) = broker.changed() => {}
            Ok(()) = world.config.changed() => {}
            // The agent is about to end, and this with it.
            changed = world.snapshots.changed() => if changed.is_err() { return },
        }
    }
}

async fn ended(telling: &mut Option<BoxFuture<'static, Told>>) -> Told {
    match telling {
        Some(telling) => telling.await,
        None => std::future::pending().await,
    }
}

/// Has one event told.
async fn tell(config: HookConfig, message: Message, agent: Arc<Config>) -> Told {
    sleep_until(message.since + PAUSE).await;
    match config.action {
        HookAction::Command(argv) => {
            let environment = vec![
                ("MUSTER_EVENT", message.event.name().to_owned()),
                ("MUSTER_NODE", message.node),
                ("MUSTER_SELF", agent.node.name.to_string()),
                ("MUSTER_URL", own_url(&agent)),
            ];
            let mut stdin = message.body;
            stdin.push(b'\n');
            let job = Job { argv, stdin, environment, timeout: config.timeout };
            let Done { result, output } = process::run(job).await;
            let word = result.as_ref().err().map_or("ok", process::ProgramError::word);
            let failure = result.err().map(|error| error.to_string());
            Told { word, failure, lines: output.lines() }
        }
        HookAction::Url(url) => {
            let answer = http::send(Method::POST, &url, Some(message.body), config.timeout).await;
            let (word, failure) = match answer {
                Ok(status) if status.is_success() => ("ok", None),
                Ok(status) => ("refused", Some(format!("{} answers {status}", shown(&url)))),
                Err(reason) => ("failed", Some(format!("{}: {reason}", shown(&url)))),
            };
            Told { word, failure, lines: Vec::new() }
        }
    }
}

/// How a hook is called in metrics, notices and the log: its program, or its URL.
pub(super) fn label(action: &HookAction) -> String {
    match action {
        HookAction::Command(argv) => argv.first().cloned().unwrap_or_default(),
        HookAction::Url(url) => shown(url).to_owned(),
    }
}

/// A URL without its query, which may hold a secret.
fn shown(url: &str) -> &str {
    url.split(['?', '#']).next().unwrap_or(url)
}

/// Where a program finds this agent's API, as `MUSTER_URL` and `--url` want it.
fn own_url(config: &Config) -> String {
    match config.api_address() {
        ApiListen::Unix(path) => format!("unix:{}", path.display()),
        ApiListen::Tcp(address) if config.agent.api.tls.is_some() => format!("https://{address}"),
        ApiListen::Tcp(address) => format!("http://{address}"),
    }
}

#[cfg(test)]
mod tests;
