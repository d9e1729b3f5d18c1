//! Threds, each with its outbox and its timer.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{Event, Message, MessageId, PatternId, ThredId, Topic};

use super::{
    Facts, ThredCount, ThredPage, ThredQuery,
    records::{History, LogRecord},
};
use crate::{
    port::{error::PortError, event_q::Command},
    state::{Consumed, ThredState, WaitKey},
};

/// Keeps threds, each with its outbox and its timer.
#[async_trait]
pub trait ThredStore: Send + Sync {
    /// How many partitions timers and outboxes are kept in; at least 1, the same for every
    /// process. A thred belongs to the partition of its id
    /// ([`partition_of`](crate::state::partition_of)).
    fn partitions(&self) -> u16;

    /// How large a commit may be: the [size](Commit::size) that is surely taken, in bytes. The engine
    /// fails a step that is larger, with a reason, and sends nothing.
    fn max_commit_bytes(&self) -> usize;

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
    /// [`PortErrorKind::Rejected`](crate::port::PortErrorKind::Rejected): it was not applied, and never
    /// will be; the other commits of the call are not concerned.
    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>>;

    /// Removes published entries from outboxes, and parks those whose topic is full. What is not
    /// there (any more) is ignored; an entry that is parked already stays so.
    ///
    /// # Errors
    /// Some entries may still be there; they will be published again.
    async fn clear_outbox(&self, cleared: &[Cleared]) -> Result<(), PortError>;

    /// Outboxes of a partition that hold entries made before a time (milliseconds since the Unix
    /// epoch) that are not parked, at most so many, oldest first; each whole, in the order of making.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError>;

    /// The topics that entries are parked for, with how many there are and since when. A look-up by
    /// topic, whatever the number of outboxes.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn parked_topics(&self) -> Result<Vec<ParkedTopic>, PortError>;

    /// Outboxes of a partition that hold entries parked for a topic, those of the oldest such
    /// entry first, at most so many; each whole, in the order of making.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn parked_outboxes(
        &self,
        partition: u16,
        topic: &Topic,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError>;

    /// The timers of a partition that are due at a time, in their order (by time, thred and entry): the
    /// first `limit` after one of them. They stay until a commit of their thred removes them.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn due(
        &self,
        partition: u16,
        at: i64,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Due, PortError>;

    /// The threds that match a query, oldest start first, a page at a time. The last page has no
    /// `next`, even if it is full.
    ///
    /// # Errors
    /// When the storage cannot be reached, or `after` is not what an earlier page gave.
    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError>;

    /// How many live threds there are of each revision, reaction and status, sorted.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn counts(&self) -> Result<Vec<ThredCount>, PortError>;

    /// The active threds, of all partitions, that wait under any of these keys
    /// ([`ThredState::waits`]), each once, sorted by id: the first `limit` after one of them.
    /// Found by the keys, however many threds wait under others.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn waiting(
        &self,
        keys: &[WaitKey],
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError>;

    /// Ended threds of a partition beyond the number that the storage is to keep, oldest end first,
    /// the first `skip` of them passed over; none that has something left to publish. They are kept
    /// until the engine says that nothing that they have consumed can come again
    /// ([`forget`](Self::forget)).
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn surplus(
        &self,
        partition: u16,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Ended>, PortError>;

    /// Forgets ended threds. One that is not there, lives, or has something left to publish is
    /// passed over.
    ///
    /// # Errors
    /// Some may be kept.
    async fn forget(&self, threds: &[ThredId]) -> Result<(), PortError>;
}

/// What has become of a thred's outbox entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cleared {
    /// The thred.
    pub thred: ThredId,
    /// Entries that have been published; they go.
    pub published: Vec<MessageId>,
    /// Messages whose topic is full; they stay, under the topic.
    pub parked: Vec<MessageId>,
}

/// A topic that takes no more messages for the time being, and what waits for it in outboxes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ParkedTopic {
    /// The topic.
    pub topic: Topic,
    /// How many messages wait.
    pub messages: u64,
    /// When the oldest was made, milliseconds since the Unix epoch.
    pub oldest: i64,
}

/// An ended thred that may be forgotten when nothing that it has consumed can come again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The thred.
    pub thred: ThredId,
    /// What it has consumed that may come again.
    pub inbox: Vec<Consumed>,
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
    /// The event or command that is consumed: the last of the new state's inbox.
    pub consumed: Consumed,
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
    /// How large it is, in bytes of JSON: state, outbox and history. Each message counts once, however
    /// many nodes get it; so a storage must keep it once.
    pub fn size(&self) -> usize {
        super::size::of_commit(self)
    }

    /// Whether it surely has no more than so many bytes, as far as that is known without measuring it.
    pub(crate) fn is_surely_within(&self, bytes: usize) -> bool {
        super::size::bound_of_commit(self).is_some_and(|bound| bound <= bytes)
    }

    /// What the thred's history keeps of it.
    pub fn history(&self) -> History {
        let messages = self.outbox.iter().filter_map(|entry| match &entry.outgoing {
            Outgoing::Message { message, .. } => Some(message.clone()),
            _ => None,
        });
        History {
            version: self.state.version,
            consumed: Some(self.consumed),
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
