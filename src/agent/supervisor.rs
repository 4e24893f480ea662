//! What the service manager (systemd) is told: that the agent is ready, reloads or stops,
//! how it fares, and that its membership driver still works.
//!
//! Task: one, [`report`], owned by [`super::Agent::run`], which drops it at the stop. Where
//! no service manager asked, nothing is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use crate::api::ApiState;
use crate::ready;
use crate::view::MemberStatus;

/// Between two looks at the status. A line for people needs to be no fresher.
const LOOK: Duration = Duration::from_secs(2);

/// Counts what the membership driver does. A driver that is stuck counts no further, and
/// then the watchdog goes hungry.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse(Arc<AtomicU64>);

impl Pulse {
    /// For the driver, in every turn. It takes one a second at least.
    pub(super) fn beat(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The start, or a reload, is finished.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// A reload has begun.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(error) => warn!("cannot tell the service manager of the reload: {error}"),
    }
}

/// The end has begun.
pub(super) fn stopping() {
    notify(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// Reports the status, and feeds the watchdog for as long as the driver works. May be
/// dropped at any time.
pub(super) async fn report(state: ApiState, pulse: Pulse) -> ! {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        std::future::pending::<()>().await;
    }
    report_to(state, pulse, sd_notify::watchdog_enabled(), notify).await
}

async fn report_to(
    state: ApiState,
    pulse: Pulse,
    watchdog: Option<Duration>,
    notify: impl Fn(&[NotifyState<'_>]),
) -> ! {
    // Three chances within the time after which the manager ends a process.
    let watchdog = watchdog.map(|limit| limit / 3);
    let mut looks = interval(watchdog.map_or(LOOK, |watchdog| watchdog.min(LOOK)));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = None;
    let mut told = String::new();
    loop {
        looks.tick().await;
        let count = pulse.count();
        if watchdog.is_some() && seen.replace(count) != Some(count) {
            notify(&[NotifyState::Watchdog]);
        }
        let status = status(&state);
        if status != told {
            notify(&[NotifyState::Status(&status)]);
            told = status;
        }
    }
}

/// `3 of 3 up, ready`, or which checks say no.
fn status(state: &ApiState) -> String {
    let snapshot = Arc::clone(&state.snapshot.borrow());
    let up = snapshot.nodes(|status| status == MemberStatus::Up).count();
    let checks = ready::checks(&snapshot, &state.config.borrow());
    let failed: Vec<_> = checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
    let ready = match failed.as_slice() {
        [] => "ready".to_owned(),
        failed => format!("not ready: {}", failed.join(", ")),
    };
    format!("{up} of {} up, {ready}", snapshot.members.len())
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        warn!("cannot notify the service manager: {error}");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::watch;
    use tokio::time::advance;

    use super::*;
    use crate::api::tests::{config, snapshot};
    use crate::command::{Commands, Reloads};

    #[tokio::test(start_paused = true)]
    async fn a_driver_that_is_stuck_goes_hungry_and_the_status_is_told_once() {
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot()));
        let state = ApiState {
            config: watch::channel(Arc::new(config(None))).1,
            snapshot: receiver,
            commands: Commands::channel().0,
            reloads: Reloads::channel().0,
            events: Arc::default(),
            metrics: Arc::default(),
            notices: Arc::default(),
            broker: tokio::sync::watch::channel(crate::broker::BrokerReport::default()).1,
        };
        let pulse = Pulse::default();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&sent);
        let limit = Duration::from_secs(3);
        let task = tokio::spawn(report_to(state, pulse.clone(), Some(limit), move |states| {
            to.lock().unwrap().extend(states.iter().map(ToString::to_string));
        }));
        let second = async || {
            advance(Duration::from_secs(1)).await;
            tokio::task::yield_now().await;
            std::mem::take(&mut *sent.lock().unwrap())
        };
        tokio::task::yield_now().await;
        let first = std::mem::take(&mut *sent.lock().unwrap());
        assert_eq!(first, ["WATCHDOG=1", "STATUS=1 of 3 up, ready"]);
        pulse.beat();
        assert_eq!(second().await, ["WATCHDOG=1"]);
        assert_eq!(second().await, Vec::<String>::new(), "no beat, no food");
        pulse.beat();
        snapshots.send_modify(|held| {
            let mut left = (**held).clone();
            left.state = crate::view::ClusterState::Left;
            *held = Arc::new(left);
        });
        assert_eq!(second().await, ["WATCHDOG=1", "STATUS=1 of 3 up, not ready: state"]);
        task.abort();
    }
}
