//! When followers look at what the members did.

use std::time::Duration;

use tokio::sync::watch::error::RecvError;
use tokio::time::Instant;

use super::until;

/// From the first change of the members until it is looked at, with all that follow it. By
/// then every member knows of it: what each agent does about it would stand in the way of the
/// others' where they share a machine.
pub(super) const PAUSE: Duration = Duration::from_millis(50);

/// A pause behind the first of what happens.
#[derive(Debug, Default)]
pub(super) struct Moment {
    ends: Option<Instant>,
}

impl Moment {
    /// Waits for `news`, and [`PAUSE`] longer. Cancel-safe if `news` is: a pause that has
    /// begun goes on with the next call.
    ///
    /// # Errors
    /// There will be no news any more.
    pub(super) async fn after(
        &mut self,
        news: impl Future<Output = Result<(), RecvError>>,
    ) -> Result<(), RecvError> {
        if self.ends.is_none() {
            news.await?;
            self.ends = Some(Instant::now() + PAUSE);
        }
        until(self.ends).await;
        self.ends = None;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;
    use tokio::time::{sleep, timeout};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_change_opens_a_pause_that_is_not_lost() {
        let (sender, mut news) = watch::channel(0);
        let (mut moment, begun) = (Moment::default(), Instant::now());
        sender.send_replace(1);
        // Whoever waits for several things asks again and again.
        let cancelled = timeout(PAUSE / 2, moment.after(news.changed())).await;
        assert!(cancelled.is_err());
        sender.send_replace(2);
        assert!(moment.after(news.changed()).await.is_ok());
        assert_eq!(begun.elapsed(), PAUSE);
        // What came within the pause, unread, opens the next.
        assert!(moment.after(news.changed()).await.is_ok());
        assert_eq!(begun.elapsed(), PAUSE * 2);
        drop(sender);
        sleep(PAUSE).await;
        assert!(moment.after(news.changed()).await.is_err());
    }
}
