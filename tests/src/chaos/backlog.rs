//! What is left to do.

use serde::{Deserialize, Serialize};
use thredcore::{Ports, port::PortError};
use thredlib::Topic;

use super::patterns::{AGENT, SESSIONS};

/// What is left to do, counted; looked at from outside, nothing of it is exact while engines work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    /// Events and commands that wait or are out.
    pub events: usize,
    /// Messages that wait or are out.
    pub messages: usize,
    /// Partitions with outboxes that are not empty.
    pub outboxes: usize,
    /// Partitions with timers that are due.
    pub due: usize,
}

impl Backlog {
    /// Counts.
    ///
    /// # Errors
    /// When a backend fails.
    pub async fn of(ports: &Ports) -> Result<Self, PortError> {
        let mut backlog = Self { events: ports.event_q.depth().await?, ..Self::default() };
        for topic in [AGENT, SESSIONS] {
            backlog.messages += ports.message_q.depth(&Topic::from(topic)).await?;
        }
        let now = ports.clock.now();
        for partition in 0..ports.storage.partitions() {
            let pending = ports.storage.pending_outboxes(partition, i64::MAX, 1).await?;
            backlog.outboxes += pending.len();
            backlog.due += ports.storage.due(partition, now, None, 1).await?.timers.len();
        }
        Ok(backlog)
    }

    /// Of each the more, of two looks at the same.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            events: self.events.max(other.events),
            messages: self.messages.max(other.messages),
            outboxes: self.outboxes.max(other.outboxes),
            due: self.due.max(other.due),
        }
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
