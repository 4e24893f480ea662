//! What the service manager (systemd) is told: that the agent is ready, reloads or stops,
//! how it fares, and that its membership driver still works.
//!
//! Task: one, [`report`], owned by [`super::Agent::run`], which drops it at the stop. Where
//! no service manager asked, nothing is sent.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval, timeout};
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

/// A manager that takes no messages delays nothing for longer than this.
const PATIENCE: Duration = Duration::from_secs(1);

/// One thing that it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// The start, or a reload, is finished.
    Ready,
    /// A reload has begun.
    Reloading,
    /// The end has begun.
    Stopping,
    /// The driver works.
    Alive,
    /// How the agent fares, for people.
    Status(String),
}

/// Tells the manager, if there is one, on a thread that may block: its socket does when it
/// does not read. May be dropped at any time; it is then told all the same.
pub(super) async fn tell(word: Word) {
    if !is_managed() {
        return;
    }
    let telling = tokio::task::spawn_blocking(move || match word {
        Word::Ready => sd_notify::notify(&[NotifyState::Ready]),
        Word::Reloading => NotifyState::monotonic_usec_now()
            .and_then(|now| sd_notify::notify(&[NotifyState::Reloading, now])),
        Word::Stopping => {
            sd_notify::notify(&[NotifyState::Stopping, NotifyState::Status("stopping")])
        }
        Word::Alive => sd_notify::notify(&[NotifyState::Watchdog]),
        Word::Status(text) => sd_notify::notify(&[NotifyState::Status(&text)]),
    });
    if let Ok(Ok(Err(error))) = timeout(PATIENCE, telling).await {
        warn!("cannot notify the service manager: {error}");
    }
}

fn is_managed() -> bool {
    std::env::var_os("NOTIFY_SOCKET").is_some()
}

/// Reports the status, and feeds the watchdog for as long as the driver works. May be
/// dropped at any time.
pub(super) async fn report(state: ApiState, pulse: Pulse) -> ! {
    if !is_managed() {
        std::future::pending::<()>().await;
    }
    report_to(state, pulse, sd_notify::watchdog_enabled(), tell).await
}

async fn report_to(
    state: ApiState,
    pulse: Pulse,
    watchdog: Option<Duration>,
    tell: impl AsyncFn(Word),
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
            tell(Word::Alive).await;
        }
        let status = status(&state);
        if status != told {
            tell(Word::Status(status.clone())).await;
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

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::sync::watch;

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
            reach: Arc::default(),
            broker: tokio::sync::watch::channel(crate::broker::BrokerReport::default()).1,
        };
        let pulse = Pulse::default();
        let sent = Arc::new(Mutex::new(Vec::new()));
        let to = Arc::clone(&sent);
        let limit = Duration::from_secs(3);
        let beats = pulse.clone();
        let report = report_to(state, beats, Some(limit), async move |word| {
            to.lock().unwrap().push(word);
        });
        let status = |text: &str| Word::Status(text.to_owned());
        let rest = async {
            let second = async || {
                tokio::time::sleep(Duration::from_secs(1)).await;
                std::mem::take(&mut *sent.lock().unwrap())
            };
            // Between two looks, so that each second has one.
            tokio::time::sleep(Duration::from_millis(500)).await;
            let first = std::mem::take(&mut *sent.lock().unwrap());
            assert_eq!(first, [Word::Alive, status("1 of 3 up, ready")]);
            pulse.beat();
            assert_eq!(second().await, [Word::Alive]);
            assert_eq!(second().await, Vec::<Word>::new(), "no beat, no food");
            pulse.beat();
            snapshots.send_modify(|held| {
                let mut left = (**held).clone();
                left.state = crate::view::ClusterState::Left;
                *held = Arc::new(left);
            });
            assert_eq!(second().await, [Word::Alive, status("1 of 3 up, not ready: state")]);
        };
        tokio::select! {
            never = report => never,
            () = rest => {}
        }
    }
}
