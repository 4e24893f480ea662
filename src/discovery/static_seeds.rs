//! Strategies whose answer is known beforehand: `static`, `manual`, `singleton`.

use std::time::Duration;

use super::{Answer, BoxFuture, DiscoveryError, Strategy};
use crate::node::NodeName;

/// Always the same nodes.
#[derive(Debug)]
pub struct Fixed {
    answer: Answer,
}

impl Fixed {
    /// `static`: the seeds, this node possibly among them. Whether any is alive is
    /// for the mesh to find out.
    #[must_use]
    pub fn seeds(seeds: &[NodeName]) -> Self {
        let nodes = seeds.iter().cloned().collect();
        Self { answer: Answer { nodes, ..Answer::default() } }
    }

    /// `manual` and `singleton`: nobody, and that for as long as the runner lets an
    /// answer hold.
    #[must_use]
    pub fn nobody() -> Self {
        let answer = Answer { valid_for: Some(Duration::MAX), ..Answer::default() };
        Self { answer }
    }
}

impl Strategy for Fixed {
    fn discover(&mut self) -> BoxFuture<'_, Result<Answer, DiscoveryError>> {
        Box::pin(std::future::ready(Ok(self.answer.clone())))
    }
}
