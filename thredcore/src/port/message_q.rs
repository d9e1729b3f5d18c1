//! The queue of what goes out of the engine.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{Message, Topic};

use super::{
    error::PortError,
    queue::{DeadLetter, DeadLetterFilter, Delivery, DeliveryTag},
};

/// A message and where it goes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Routed {
    /// An agent's node id or node type, or a session node.
    pub topic: Topic,
    /// The message.
    pub message: Arc<Message>,
}

/// Takes messages to agents and session nodes. Messages of one topic are delivered in the order of
/// their publishing, redelivered ones excepted.
#[async_trait]
pub trait MessageQ: Send + Sync {
    /// Publishes messages; the answers stand in the order of the messages. `Ok` means that the
    /// message is as durable as the queue ever makes it. Waits while a topic is full.
    ///
    /// After an error at one place the call may have published later messages of other topics,
    /// but none of the same topic.
    async fn publish(&self, messages: Vec<Routed>) -> Vec<Result<(), PortError>>;

    /// Hands out up to `max` messages of any of the topics; waits until there is one. Dropping the
    /// future loses nothing.
    ///
    /// # Errors
    /// [`PortErrorKind::Closed`](super::PortErrorKind::Closed) when there will be no more.
    async fn receive(
        &self,
        topics: &[Topic],
        max: usize,
    ) -> Result<Vec<Delivery<Routed>>, PortError>;

    /// Removes messages for good. A tag that is not out (any more) is ignored.
    ///
    /// # Errors
    /// Messages may be delivered again.
    async fn ack(&self, tags: &[DeliveryTag]) -> Result<(), PortError>;

    /// Gives a message back, to be delivered again after a delay (milliseconds).
    ///
    /// # Errors
    /// It is delivered again at the latest when this consumer is gone.
    async fn nack(&self, tag: DeliveryTag, delay_ms: u64) -> Result<(), PortError>;

    /// Moves a message to the dead letters, with the reason.
    ///
    /// # Errors
    /// The message may be delivered again.
    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError>;

    /// The dead letters that are meant, oldest first.
    ///
    /// # Errors
    /// When the queue cannot be reached.
    async fn dead_letters(
        &self,
        filter: &DeadLetterFilter,
    ) -> Result<Vec<DeadLetter<Routed>>, PortError>;

    /// Publishes dead letters again and removes them from the dead letters; says how many.
    ///
    /// # Errors
    /// Some may be in both places.
    async fn redrive(&self, filter: &DeadLetterFilter) -> Result<usize, PortError>;

    /// Removes dead letters for good; says how many.
    ///
    /// # Errors
    /// Some may still be there.
    async fn discard(&self, filter: &DeadLetterFilter) -> Result<usize, PortError>;

    /// How many messages wait on a topic, those handed out included.
    ///
    /// # Errors
    /// When the queue cannot be reached.
    async fn depth(&self, topic: &Topic) -> Result<usize, PortError>;
}
