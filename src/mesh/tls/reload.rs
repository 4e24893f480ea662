//! New files for new links, without a restart.
//!
//! One task, [`TlsContext::watch`], looks at the files. What cannot be used is named, and
//! what works is kept.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::time::{Instant, MissedTickBehavior, interval};
use tracing::{info, warn};

use super::TlsContext;
use super::failure::utc_text;
use super::material::TlsError;
use crate::metrics::Metrics;
use crate::watched::{LOOK_INTERVAL, Watched};

/// From so long before its end on, a certificate's end is warned of.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 24 * 3600);

/// Between two warnings of one certificate's end.
const WARN_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// What [`TlsContext::look`] found.
#[derive(Debug)]
pub enum Look {
    /// Nothing new, or new a moment ago and perhaps still being written.
    Same,
    /// New files are in use from now on.
    Loaded,
    /// New files cannot be used; what was in use still is.
    Failed(TlsError),
}

/// What the watching remembers.
#[derive(Debug)]
pub(super) struct Reload {
    pub(super) files: Watched,
    /// Why the files as they are now are not in use.
    pub(super) failed: Option<String>,
}

impl TlsContext {
    /// Looks at the files once and takes them if they changed and held still since the
    /// look before. Blocks for as long as the file system does.
    pub fn look(&self) -> Look {
        let mut reload = self.reload();
        if !reload.files.changed() {
            return Look::Same;
        }
        let loaded = self.read_files();
        // Files named by the new options: one more look, should they change just now.
        reload.files.follow(loaded.paths);
        match loaded.result.and_then(|material| self.replace(material)) {
            Ok(new) => {
                reload.failed = None;
                if new { Look::Loaded } else { Look::Same }
            }
            Err(error) => {
                reload.failed = Some(error.to_string());
                Look::Failed(error)
            }
        }
    }

    /// Keeps looking, and says in the log and in `metrics` what it finds. Never ends; may
    /// be dropped at any time.
    pub async fn watch(self, metrics: Arc<Metrics>) {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut warned: Option<Instant> = None;
        self.measure(&metrics);
        loop {
            let now = ticks.tick().await;
            let context = self.clone();
            let Ok(look) = tokio::task::spawn_blocking(move || context.look()).await else {
                continue;
            };
            match look {
                Look::Same => {}
                Look::Loaded => {
                    info!(
                        not_after = %utc_text(self.not_after()),
                        "new TLS certificate files are in use for new links"
                    );
                    for warning in self.warnings() {
                        warn!("{warning}");
                    }
                    metrics.tls_reload("ok");
                    warned = Some(now);
                    self.measure(&metrics);
                }
                Look::Failed(error) => {
                    warn!("changed TLS files cannot be used, the old ones still are: {error}");
                    metrics.tls_reload("failed");
                }
            }
            metrics.tls_stale.set(i64::from(self.reload().failed.is_some()));
            if warned.is_none_or(|at| now - at >= WARN_AGAIN)
                && let Some(warning) = expiry_warning(self.not_after(), SystemTime::now())
            {
                warn!("{warning}");
                warned = Some(now);
            }
        }
    }

    fn measure(&self, metrics: &Metrics) {
        let since = self.not_after().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        metrics.tls_not_after.set(i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
        metrics.tls_unverified.set(i64::from(!self.verifies()));
    }
}

/// In words, when a certificate has ended or soon will.
pub(crate) fn expiry_warning(not_after: SystemTime, now: SystemTime) -> Option<String> {
    let end = utc_text(not_after);
    match not_after.duration_since(now) {
        Err(_) => Some(format!("our TLS certificate expired at {end}; peers refuse it")),
        Ok(left) if left < EXPIRY_WARNING => {
            let days = left.as_secs() / (24 * 3600);
            Some(format!("our TLS certificate expires at {end}, in {days} days"))
        }
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests;
