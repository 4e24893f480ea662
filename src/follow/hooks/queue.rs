//! Events that wait for a hook.

use std::collections::VecDeque;

use tokio::time::Instant;

use crate::config::HookEvent;

/// Events that wait for one hook at most: a minute's news for a program that takes a
/// quarter of a second, at about a kilobyte each. Beyond it the oldest gives way, since the
/// newest says how things are now.
pub(super) const WAITING: usize = 256;

/// One event, ready to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Which.
    pub(super) event: HookEvent,
    /// About whom.
    pub(super) node: String,
    /// The event as JSON.
    pub(super) body: Vec<u8>,
    /// When it was taken up.
    pub(super) since: Instant,
}

/// Messages in their order, [`WAITING`] at most.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: VecDeque<Message>,
    dropped: u64,
}

impl Queue {
    pub(super) fn push(&mut self, message: Message) {
        if self.waiting.len() == WAITING {
            self.waiting.pop_front();
            self.dropped += 1;
        }
        self.waiting.push_back(message);
    }

    pub(super) fn pop(&mut self) -> Option<Message> {
        self.waiting.pop_front()
    }

    /// How many gave way since this was last asked.
    pub(super) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_wait_in_order_and_drops_are_counted() {
        let mut queue = Queue::default();
        for number in 0..10_000_u32 {
            let body = number.to_be_bytes().to_vec();
            let (event, node, since) = (HookEvent::MemberUp, String::new(), Instant::now());
            queue.push(Message { event, node, body, since });
        }
        assert_eq!(queue.take_dropped(), 10_000 - 256);
        assert_eq!(queue.take_dropped(), 0);
        let left: Vec<_> = std::iter::from_fn(|| queue.pop()).map(|message| message.body).collect();
        let wanted: Vec<_> = (10_000 - 256..10_000_u32).map(|n| n.to_be_bytes().to_vec()).collect();
        assert_eq!(left, wanted);
    }
}
