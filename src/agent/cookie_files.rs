//! New cookies for new links, without a restart.
//!
//! One task, [`watch`], looks at the files that `node.cookie` names. What cannot be used
//! is named, and what works is kept: that is also a cookie which the agent would not
//! have started with.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use crate::config::{Config, Files, SystemFiles};
use crate::cookies::{Source, parse_file};
use crate::metrics::Metrics;
use crate::secret::Secret;
use crate::watched::{LOOK_INTERVAL, Watched};

/// Keeps looking, and says in the log and in `metrics` what it finds. Ends at once where
/// no cookie comes from a file, else never; may be dropped at any time.
pub(super) async fn watch(config: Arc<Config>, metrics: Arc<Metrics>) {
    let paths = files(&config);
    if paths.is_empty() {
        return;
    }
    let mut watched = Watched::unread(paths);
    let mut ticks = interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let looked = Arc::clone(&config);
        let look = tokio::task::spawn_blocking(move || {
            let read = watched.changed().then(|| read(&looked));
            (watched, read)
        });
        let Ok((back, read)) = look.await else { return };
        watched = back;
        match read {
            None => {}
            Some(Ok(cookies)) => {
                let count = cookies.len();
                if config.node.cookies.replace(cookies) {
                    info!(accepted = count, "changed cookies are in use for new links");
                    metrics.cookie_reload("ok");
                }
                metrics.cookie_stale.set(0);
            }
            Some(Err(reason)) => {
                warn!("changed cookies cannot be used, the old ones still are: {reason}");
                metrics.cookie_reload("failed");
                metrics.cookie_stale.set(1);
            }
        }
    }
}

fn files(config: &Config) -> Vec<PathBuf> {
    let file = |source: &Source| match source {
        Source::Text(_) => None,
        Source::File(path) => Some(path.clone()),
    };
    config.node.cookies.sources().iter().filter_map(file).collect()
}

/// What the sources hold now, or why that cannot be used; never a secret.
fn read(config: &Config) -> Result<Vec<Secret>, String> {
    let mut cookies = Vec::new();
    for source in config.node.cookies.sources() {
        match source {
            Source::Text(cookie) => cookies.push(cookie.clone()),
            Source::File(path) => {
                let failed = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
                let text = SystemFiles.read(path).map_err(|error| failed(&error))?;
                cookies.extend(parse_file(&text).map_err(|error| failed(&error))?);
            }
        }
    }
    match config.forbids_cookies(&cookies) {
        Some(reason) => Err(reason),
        None => Ok(cookies),
    }
}
