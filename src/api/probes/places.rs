//! A bounded number of connections, of which those that do nothing give way.

use std::collections::HashMap;
use std::net::IpAddr;

use tokio::task::{AbortHandle, JoinSet};

/// Connections at once: a few tools check now and then, each for a millisecond.
pub(super) const MAX: usize = 128;

/// The connections that are open. Every one is to end by itself in bounded time.
#[derive(Debug, Default)]
pub(super) struct Places {
    tasks: JoinSet<()>,
    /// Those that have not been seen to end, the oldest first.
    held: Vec<Place>,
}

#[derive(Debug)]
struct Place {
    peer: IpAddr,
    task: AbortHandle,
}

impl Places {
    /// Gives a connection a place, if need be that of another: whoever holds most places
    /// loses the one it has held for longest. Says whether that was needed.
    pub(super) fn take(
        &mut self,
        peer: IpAddr,
        connection: impl Future<Output = ()> + Send + 'static,
    ) -> bool {
        self.held.retain(|place| !place.task.is_finished());
        let full = self.held.len() >= MAX;
        if full {
            let longest = self.held.remove(self.longest_of_most());
            longest.task.abort();
        }
        let task = self.tasks.spawn(connection);
        self.held.push(Place { peer, task });
        full
    }

    /// Resolves when a connection has ended; never while there is none. Cancel-safe.
    pub(super) async fn ended(&mut self) {
        if self.tasks.join_next().await.is_none() {
            std::future::pending().await
        }
    }

    fn longest_of_most(&self) -> usize {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for place in &self.held {
            *counts.entry(place.peer).or_default() += 1;
        }
        let most = counts.values().copied().max().unwrap_or(0);
        self.held.iter().position(|place| counts.get(&place.peer) == Some(&most)).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([127, 0, 0, last])
    }

    #[tokio::test]
    async fn the_longest_of_the_greediest_gives_way() {
        let mut places = Places::default();
        assert!(!places.take(ip(1), pending()));
        for _ in 1..MAX {
            assert!(!places.take(ip(2), pending()));
        }
        let victim = places.held[1].task.clone();
        assert!(places.take(ip(3), pending()));
        places.ended().await;
        assert!(victim.is_finished());
        assert_eq!(places.held.iter().filter(|place| place.peer == ip(1)).count(), 1);
        assert_eq!(places.held.len(), MAX);
    }

    #[tokio::test]
    async fn a_connection_that_ended_costs_nobody_a_place() {
        let mut places = Places::default();
        for _ in 0..MAX {
            places.take(ip(1), async {});
        }
        for _ in 0..MAX {
            places.ended().await;
        }
        assert!(!places.take(ip(1), pending()));
        assert_eq!(places.held.len(), 1);
    }
}
