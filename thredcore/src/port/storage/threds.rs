//! Threds, each with its outbox and its timer.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{Event, EventId, Message, MessageId, PatternId, ThredId, Topic};

use super::{
    Facts, ThredPage, ThredQuery,
    records::{History, LogRecord},
};
use crate::{
    port::{error::PortError, event_q::Command},
    state::{PatternKey, ThredState},
};

/// Keeps threds, each with its outbox and its timer.
#[async_trait]
pub trait ThredStore: Send + Sync {
    /// How many partitions timers and outboxes are kept in; at least 1, the same for every
    /// process. A thred belongs to the partition of its id
    /// ([`partition_of`](crate::state::partition_of)).
    fn partitions(&self) -> u16;

    /// The threds as last committed, ended ones included as long as they are kept; in the order of
    /// the ids, `None` for what does not exist.
    ///
    /// # Errors
    /// Nothing has been read.
    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError>;

    /// Commits changes of different threds; each succeeds or conflicts by itself, the answers
    /// stand in the order of the commits.
    ///
    /// A commit is atomic: the new state, its timer, its outbox entries and its records are all
    /// there, or none is. It applies only if the stored version is the expected one (0: there is
    /// no such thred) and the stored inbox does not hold the consumed event. The inbox is asked
    /// first: what it holds is a duplicate, whatever the version.
    ///
    /// # Errors
    /// [`PortErrorKind::Unknown`](crate::port::PortErrorKind::Unknown): it may have been applied; sending
    /// the identical commit again is safe and tells.
    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>>;

    /// Removes published entries from outboxes. What is not there (any more) is ignored.
    ///
    /// # Errors
    /// Some entries may still be there; they will be published again.
    async fn clear_outbox(&self, published: &[(ThredId, Vec<MessageId>)]) -> Result<(), PortError>;

    /// Outboxes of a partition that hold entries made before a time (milliseconds since the Unix
    /// epoch), at most so many; each whole, in the order of making.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError>;

    /// The timers of a partition that are due at a time, earliest first, at most so many; they
    /// stay until a commit of their thred removes them.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn due(&self, partition: u16, at: i64, limit: usize) -> Result<Due, PortError>;

    /// The threds that match a query, oldest start first, a page at a time. The last page has no
    /// `next`, even if it is full.
    ///
    /// # Errors
    /// When the storage cannot be reached, or `after` is not what an earlier page gave.
    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError>;

    /// The active threds that wait for unbound events in a reaction.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn listeners(
        &self,
        pattern: &PatternKey,
        reaction: &str,
    ) -> Result<Vec<ThredId>, PortError>;
}

/// A thred as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Loaded {
    /// The state.
    pub state: Arc<ThredState>,
    /// What its commits have put out and nobody has published yet, oldest first. It must be
    /// published before anything newer of this thred is.
    pub outbox: Vec<OutboxEntry>,
}

/// One change of one thred: all of it is stored, or none.
#[derive(Clone, Debug, PartialEq)]
pub struct Commit {
    /// The version that the change was computed from; 0 when the thred is new.
    pub expected: u64,
    /// The event or command that is consumed.
    pub consumed: EventId,
    /// The new state, at version `expected + 1`.
    pub state: Arc<ThredState>,
    /// What is to be published, in order.
    pub outbox: Vec<OutboxEntry>,
    /// What was decided.
    pub log: Vec<LogRecord>,
    /// The consumed event, for the thred's history; of a spawned thred's start, the event that it
    /// was given or else the spawning thred's; `None` for other commands.
    pub event: Option<Arc<Event>>,
    /// The consumed command, for the thred's history; `None` for an event.
    pub command: Option<Arc<Command>>,
    /// What the step has asked of the world around it, for the thred's history.
    pub facts: Option<Arc<Facts>>,
}

impl Commit {
    /// What the thred's history keeps of it.
    pub fn history(&self) -> History {
        let messages = self.outbox.iter().filter_map(|entry| match &entry.outgoing {
            Outgoing::Message { message, .. } => Some(message.clone()),
            _ => None,
        });
        History {
            version: self.state.version,
            event: self.event.clone(),
            command: self.command.clone(),
            log: self.log.clone(),
            messages: messages.collect(),
            facts: self.facts.clone(),
        }
    }
}

/// How a commit ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Committed {
    /// It is stored.
    Applied,
    /// Another commit came first; load again and react again.
    Conflict,
    /// The event has been consumed by this thred already.
    Duplicate,
}

/// Something that a commit puts out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboxEntry {
    /// Stable id; a message's is the message's id.
    pub id: MessageId,
    /// When it was made, milliseconds since the Unix epoch.
    pub at: i64,
    /// What it is.
    pub outgoing: Outgoing,
}

/// What a thred puts out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outgoing {
    /// A message to participants of one session node, or to a service.
    Message {
        /// Where it goes.
        topic: Topic,
        /// The message.
        message: Arc<Message>,
    },
    /// A command to another thred.
    Command(Arc<Command>),
    /// The thred has ended and gives back its place among its pattern's instances.
    Release(PatternId),
}

/// A thred's unpublished entries.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingOutbox {
    /// The thred.
    pub thred_id: ThredId,
    /// All its entries, oldest first.
    pub entries: Vec<OutboxEntry>,
}

/// Timers that are due, and when to ask again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Due {
    /// The timers, earliest first.
    pub timers: Vec<Timer>,
    /// When the first timer that is not among them is due.
    pub next: Option<i64>,
}

/// The expiry of a thred's reaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timer {
    /// When it is due, milliseconds since the Unix epoch.
    pub at: i64,
    /// The thred.
    pub thred_id: ThredId,
    /// The version at which the reaction was entered.
    pub entry: u64,
}
