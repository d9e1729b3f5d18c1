//! The queue of what goes out of the engine.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{Message, Topic};

use super::{
    error::PortError,
    queue::{Backlog, DeadLetter, DeadLetterFilter, Delivery, DeliveryTag},
    storage::Quarantine,
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
pub trait MessageQ: Quarantine {
    /// How large a message with its topic may be as JSON, in bytes.
    fn max_item_bytes(&self) -> usize;

    /// Publishes messages; the answers stand in the order of the messages. `Ok` means that the
    /// message is as durable as the queue ever makes it. Never waits for room: a topic that is full
    /// answers [`PortErrorKind::Full`](super::PortErrorKind::Full), and the others are not concerned.
    ///
    /// After an error at one place the call may have published later messages of other topics,
    /// but none of the same topic; after one that is
    /// [`PortErrorKind::Rejected`](super::PortErrorKind::Rejected) also those of the same.
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

    /// Gives a message back, to be delivered again after a delay (milliseconds). What is delayed for
    /// more than a minute waits in the queue, not in this process.
    ///
    /// # Errors
    /// It is delivered again at the latest when this consumer is gone.
    async fn nack(&self, tag: DeliveryTag, delay_ms: u64, why: Returned) -> Result<(), PortError>;

    /// Moves a message to the dead letters, with the reason.
    ///
    /// # Errors
    /// The message may be delivered again.
    async fn dead_letter(&self, tag: DeliveryTag, reason: &str) -> Result<(), PortError>;

    /// Puts messages among the dead letters that no topic has taken, each with the reason. Doing it
    /// twice may leave it there twice.
    ///
    /// # Errors
    /// Some may be there.
    async fn bury(&self, messages: Vec<(Routed, String)>) -> Result<(), PortError>;

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

    /// What waits on each topic there is, sorted by topic.
    ///
    /// # Errors
    /// When the queue cannot be reached.
    async fn backlog(&self) -> Result<Vec<TopicBacklog>, PortError>;

    /// Removes for good what waits on a topic and is not handed out; says how many messages.
    ///
    /// # Errors
    /// Some may be gone.
    async fn purge(&self, topic: &Topic) -> Result<u64, PortError>;

    /// Removes a topic with all that waits on it; says how many messages. Publishing to it makes it
    /// anew.
    ///
    /// # Errors
    /// [`PortErrorKind::Rejected`](super::PortErrorKind::Rejected): it has consumers. Otherwise some
    /// messages may be gone.
    async fn delete(&self, topic: &Topic) -> Result<u64, PortError>;
}

/// Why a message is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Returned {
    /// It could not be handled; this counts as a failure.
    Failed,
    /// Nobody has tried to handle it; this does not count as an attempt.
    Untried,
}

/// A topic and what waits on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicBacklog {
    /// The topic.
    pub topic: Topic,
    /// What waits.
    #[serde(flatten)]
    pub backlog: Backlog,
}
