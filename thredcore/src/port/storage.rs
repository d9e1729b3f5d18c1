//! The storage: threds and all that must change together with them.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{
    Event, EventId, Message, MessageId, ParticipantId, PatternId, PatternModel, ThredId, Topic,
};

use super::{error::PortError, event_q::Command};
use crate::state::{PatternKey, Status, ThredState};

/// All that the engine keeps. Implemented by whatever implements its parts.
pub trait Storage: ThredStore + RecordStore + LimitStore + LeaseStore + PatternStore {}

impl<S: ThredStore + RecordStore + LimitStore + LeaseStore + PatternStore + ?Sized> Storage for S {}

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
    /// [`PortErrorKind::Unknown`](super::PortErrorKind::Unknown): it may have been applied; sending
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
#[derive(Clone, Debug, PartialEq)]
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

/// Which threds are meant; all fields that are set must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ThredQuery {
    /// Those of a pattern, in any revision.
    pub pattern: Option<PatternId>,
    /// Those that somebody takes part in.
    pub participant: Option<ParticipantId>,
    /// Those in one of these states; none given: active and finished ones.
    pub status: Vec<Status>,
    /// Continues after the last page.
    pub after: Option<String>,
    /// At most so many; 0 stands for [`ThredQuery::DEFAULT_LIMIT`].
    pub limit: usize,
}

impl ThredQuery {
    /// The size of a page unless the query says another: 1000.
    pub const DEFAULT_LIMIT: usize = 1000;

    /// Whether a thred is meant, its place among the pages aside.
    pub fn matches(&self, state: &ThredState) -> bool {
        let status = match &*self.status {
            [] => state.status.is_live(),
            any => any.contains(&state.status),
        };
        status
            && self.pattern.as_ref().is_none_or(|id| *id == state.pattern.id)
            && self.participant.as_ref().is_none_or(|id| state.participants.contains(id))
    }
}

/// One page of threds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ThredPage {
    /// The threds.
    pub threds: Vec<Arc<ThredState>>,
    /// What [`ThredQuery::after`] must be for the next page; `None` on the last one.
    pub next: Option<String>,
}

/// Keeps records of decisions, beyond those that commits carry.
#[async_trait]
pub trait RecordStore: Send + Sync {
    /// Adds records about events that moved no thred, with the event. A record is known by its
    /// event and type: adding it again changes nothing.
    ///
    /// # Errors
    /// Some may have been added.
    async fn append_log(&self, records: Vec<(LogRecord, Arc<Event>)>) -> Result<(), PortError>;

    /// What is kept of one thred's past, in the order of its versions; with `None`, of the events
    /// that moved no thred, latest last, one entry for each record. Only the latest `limit` entries.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn history(
        &self,
        thred: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<History>, PortError>;

    /// The log records kept, of all threds and of none, oldest first; only the latest `limit`.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError>;
}

/// One step of the past: what came in, what was decided, what went out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The thred's version after the step; 0 for an event that moved no thred.
    pub version: u64,
    /// The event that came in; of a spawned thred's start, the event that it was given or else the
    /// spawning thred's; `None` for other commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Arc<Event>>,
    /// The command that came in; `None` for an event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<Arc<Command>>,
    /// What was decided.
    pub log: Vec<LogRecord>,
    /// The messages that went out, with their recipients.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Arc<Message>>,
}

/// What was decided about an event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogRecord {
    /// The kind of decision.
    #[serde(rename = "type")]
    pub log_type: LogType,
    /// The event or command.
    pub event: EventId,
    /// The thred, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thred_id: Option<ThredId>,
    /// The pattern, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pattern_id: Option<PatternId>,
    /// The reaction that the thred was in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Arc<str>>,
    /// The reaction that it went to, or a reserved name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Arc<str>>,
    /// When, milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// More, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<Box<str>>,
}

/// The kinds of decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[non_exhaustive]
pub enum LogType {
    /// The reaction matched; the thred moved.
    Match,
    /// An operand of an `and` matched; the reaction waits for the rest.
    PartialMatch,
    /// The reaction did not match.
    NoMatch,
    /// The source may not move the thred here.
    Unauthorized,
    /// The reaction expired.
    Expired,
    /// A thred was spawned.
    Spawned,
    /// The thred was started by another one.
    Started,
    /// The pattern has no room for another thred, or started one too short a time ago.
    Constrained,
    /// The thred ended.
    Terminated,
    /// A child ended.
    ChildEnded,
    /// An administrator moved the thred.
    Transitioned,
    /// A participant's message was relayed.
    Broadcast,
    /// An event with an error was reported to the participants.
    ErrorEvent,
    /// A name in an address stands for nobody.
    NoRecipient,
    /// A name in a spawn is no pattern's.
    NoPattern,
    /// No pattern and no thred matched an unbound event.
    NoPatternMatch,
    /// A bound event names a thred that is not there.
    NoThred,
    /// A control event was answered.
    Control,
}

/// Keeps who takes up a pattern's places: sets of threds, not counters.
#[async_trait]
pub trait LimitStore: Send + Sync {
    /// Takes a place for a thred; a thred that has one already keeps it, whatever the limits. The
    /// time of the last place stays when that is given back.
    ///
    /// # Errors
    /// Whether the place was taken is unknown; asking again is safe.
    async fn reserve(&self, reservation: &Reservation) -> Result<Reserved, PortError>;

    /// Gives places back. What is not there (any more) is ignored.
    ///
    /// # Errors
    /// Some may still be taken.
    async fn release(&self, places: &[(PatternId, ThredId)]) -> Result<(), PortError>;

    /// The threds that take up places of a pattern.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn reserved(&self, pattern: &PatternId) -> Result<Vec<ThredId>, PortError>;
}

/// A place for a thred among its pattern's instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// The pattern.
    pub pattern: PatternId,
    /// The thred.
    pub thred: ThredId,
    /// Most places; 0 for no limit.
    pub max_instances: u64,
    /// Least time since the last place was taken, in milliseconds; 0 for none.
    pub interval: u64,
    /// The time, milliseconds since the Unix epoch.
    pub now: i64,
}

/// Whether there was a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// The thred has a place.
    Granted,
    /// All places are taken.
    Full,
    /// The last place was taken too short a time ago.
    TooSoon,
}

/// Keeps leases: they save wasted work and name who wants to hear of something, for a while.
/// Nothing is ever correct only because of a lease.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// Takes or renews a lease until a time (milliseconds since the Unix epoch), unless somebody
    /// else holds it at `now`; says whether it is held. At its `until` it has run out.
    ///
    /// # Errors
    /// Whether it is held is unknown.
    async fn acquire(&self, lease: &Lease, now: i64) -> Result<bool, PortError>;

    /// Gives a lease back, if this owner holds it.
    ///
    /// # Errors
    /// It may be held until it runs out.
    async fn give_back(&self, name: &str, owner: &str) -> Result<(), PortError>;

    /// The leases that run at a time and whose names start so.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn leases(&self, prefix: &str, now: i64) -> Result<Vec<Lease>, PortError>;
}

/// A right to something for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// What it is a right to.
    pub name: String,
    /// Who holds it.
    pub owner: String,
    /// When it runs out, milliseconds since the Unix epoch.
    pub until: i64,
}

/// Keeps patterns: the current revision of each, and the older ones that threds still run.
#[async_trait]
pub trait PatternStore: Send + Sync {
    /// Makes this the current revision of its pattern; earlier ones are kept.
    ///
    /// # Errors
    /// It may have been stored.
    async fn put_pattern(&self, pattern: StoredPattern) -> Result<(), PortError>;

    /// Takes a pattern out of use; its revisions are kept for the threds that run them.
    ///
    /// # Errors
    /// It may have been taken out.
    async fn remove_pattern(&self, id: &PatternId) -> Result<(), PortError>;

    /// The current revisions of all patterns, sorted by id.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn patterns(&self) -> Result<Vec<StoredPattern>, PortError>;

    /// One revision, current or not.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn pattern(&self, key: &PatternKey) -> Result<Option<StoredPattern>, PortError>;

    /// The revisions that active threds wait for unbound events in.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn listening_patterns(&self) -> Result<Vec<PatternKey>, PortError>;

    /// A number that changes whenever the set of current revisions does, and never returns to one
    /// that it had.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn patterns_version(&self) -> Result<u64, PortError>;
}

/// A pattern with the name of its revision.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredPattern {
    /// Its id and revision.
    pub key: PatternKey,
    /// The pattern as written.
    pub model: Arc<PatternModel>,
}

impl StoredPattern {
    /// Names the revision of a pattern by a hash of its text.
    pub fn new(model: PatternModel) -> Self {
        let text = serde_json::to_vec(&model).unwrap_or_default();
        let revision = thredlib::stable_hash(&text);
        Self { key: PatternKey { id: model.id(), revision }, model: Arc::new(model) }
    }
}
