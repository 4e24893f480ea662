//! What is told of events: `agent.hooks`.
//!
//! Tasks: none of its own; [`run`] is one future for each hook, owned by the followers. It
//! takes events as they come and has one of them told at a time. Dropping it ends a program
//! that runs; what waits is then told to nobody.

mod conditions;
mod queue;
mod teller;

use std::sync::Arc;

use axum::http::Method;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::sync::watch::error::RecvError;
use tracing::info;

use super::moment::Moment;
use super::process::{self, Done, Job};
use super::{Beginning, Standing, World, http};
use crate::broker::BrokerReport;
use crate::config::{ApiListen, Config, HookAction, HookConfig};
use crate::metrics::{Hook, HookRun, Word};
use queue::{Message, Queue};
use teller::Teller;

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
    let (mut moment, mut is_news) = (Moment::default(), true);
    loop {
        if std::mem::take(&mut is_news) {
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
            happened = moment.after(happens(&mut events, &mut broker, &mut world)) => {
                // The agent is about to end, and this with it.
                if happened.is_err() {
                    return;
                }
                is_news = true;
            }
        }
    }
}

/// Waits for anything that may be news; an error when nothing happens any more.
async fn happens(
    events: &mut watch::Receiver<u64>,
    broker: &mut watch::Receiver<BrokerReport>,
    world: &mut World,
) -> Result<(), RecvError> {
    tokio::select! {
        Ok(()) = events.changed() => Ok(()),
        Ok(()) = broker.changed() => Ok(()),
        Ok(()) = world.config.changed() => Ok(()),
        changed = world.snapshots.changed() => changed,
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
