//! Keeps peers and clients from flooding the log.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Lines of one cause come at most this often.
const INTERVAL: Duration = Duration::from_secs(1);

/// Lets one line per cause and second through, and counts the others.
///
/// Causes are fixed words, so the table stays small whatever peers do.
#[derive(Debug, Default)]
pub struct Throttle {
    causes: Mutex<HashMap<&'static str, Seen>>,
}

#[derive(Debug)]
struct Seen {
    at: Instant,
    suppressed: u64,
}

impl Throttle {
    /// Whether a line of this cause may be written now; then also how many were held
    /// back since the last one.
    pub fn pass(&self, cause: &'static str) -> Option<Suppressed> {
        let now = Instant::now();
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(seen) = causes.get_mut(cause) else {
            causes.insert(cause, Seen { at: now, suppressed: 0 });
            return Some(Suppressed(0));
        };
        if now.duration_since(seen.at) < INTERVAL {
            seen.suppressed += 1;
            return None;
        }
        seen.at = now;
        Some(Suppressed(std::mem::take(&mut seen.suppressed)))
    }
}

/// How many lines were held back; prints nothing for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suppressed(pub u64);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            1 => f.write_str(" (and 1 more like it)"),
            more => write!(f, " (and {more} more like it)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_held_back_is_counted_by_cause() {
        let throttle = Throttle::default();
        assert_eq!(throttle.pass("x").unwrap().to_string(), "");
        assert!(throttle.pass("x").is_none());
        assert!(throttle.pass("x").is_none());
        assert!(throttle.pass("y").is_some());
        tokio::time::advance(INTERVAL).await;
        assert_eq!(throttle.pass("x").unwrap().to_string(), " (and 2 more like it)");
        tokio::time::advance(INTERVAL).await;
        assert_eq!(throttle.pass("x").unwrap().to_string(), "");
    }
}
