//! Whether the broker next door answers: `agent.broker.probe`.
//!
//! Tasks: none of its own; [`run`] is one future, owned by the followers. One probe at a
//! time, each over a connection of its own. Cancel-safe.

mod judge;
mod mqtt;

use std::time::SystemTime;

use axum::http::Method;
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::{info, warn};

use super::{Standing, World, http};
use crate::attributes::{BrokerStatus, MAX_DETAIL};
use crate::broker::BrokerReport;
use crate::config::{BrokerConfig, BrokerKind};
use crate::escape::escaped;
use crate::secret::shown_urls;
use judge::Judge;

/// Probes until it is dropped.
pub(super) async fn run(config: BrokerConfig, world: World) {
    let probe = &config.probe;
    let target = shown_urls(&probe.target);
    let mut judge = Judge::new(probe.rise, probe.fall);
    let mut dialect = mqtt::Dialect::new();
    let standing = Standing::new(&world.notices, "broker".to_owned());
    let mut ticks = interval(probe.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let found = match timeout(probe.timeout, ask(&config, &mut dialect)).await {
            Ok(found) => found,
            Err(_) => Err(format!("no answer within {} s", probe.timeout.as_secs_f64())),
        };
        let why = found.as_ref().err().map(|reason| short(reason)).unwrap_or_default();
        let Some(status) = judge.observe(found.is_ok()) else { continue };
        let at = &config.address;
        match status {
            BrokerStatus::Up => {
                standing.clear();
                info!("the broker at {at} is up");
            }
            // Whether this node is ready says so already.
            _ if config.required => warn!("the broker at {at} is down ({target}): {why}"),
            _ => standing.set(&format!("the broker at {at} is down ({target}): {why}")),
        }
        world.broker.send_modify(|report| {
            report.status = status;
            report.since = Some(SystemTime::now());
            report.detail = why;
        });
    }
}

/// What stands in the report before the first verdict.
pub(super) fn unprobed(config: &BrokerConfig) -> BrokerReport {
    let mut report = BrokerReport { kind: config.kind.name(), ..BrokerReport::default() };
    if config.kind != BrokerKind::None {
        report.address = Some(config.address.clone());
    }
    report
}

/// One probe, without its time limit.
async fn ask(config: &BrokerConfig, dialect: &mut mqtt::Dialect) -> Result<(), String> {
    let target = &config.probe.target;
    match config.kind {
        BrokerKind::None => Ok(()),
        BrokerKind::Tcp => {
            TcpStream::connect(target.as_str()).await.map(drop).map_err(|error| error.to_string())
        }
        BrokerKind::Mqtt => mqtt::ask(target, dialect).await,
        BrokerKind::Http | BrokerKind::Emqx => {
            let status = http::send(Method::GET, target, None, config.probe.timeout).await?;
            if status.is_success() { Ok(()) } else { Err(format!("it answers {status}")) }
        }
    }
}

/// A reason that fits into the member's statement.
fn short(reason: &str) -> String {
    let mut text = escaped(reason);
    while text.len() > MAX_DETAIL {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests;
