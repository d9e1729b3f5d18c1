//! What was decided, and why.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{Event, EventId, EventKey, Message, PatternId, ThredId};

use super::{Facts, Receipt, ReceiptRetention, Settlement, Unmoved};
use crate::{
    port::{error::PortError, event_q::Command},
    state::Consumed,
};

/// Keeps records of decisions beyond those that commits carry, and receipts.
#[async_trait]
pub trait RecordStore: Send + Sync {
    /// Writes down that events and commands are settled, before their deliveries are acknowledged:
    /// the records of those that changed nothing, and the receipts, which are filed in a partition
    /// of the storage ([`partition_of`](crate::state::partition_of) the item's
    /// [partition key](crate::port::Inbound::partition_key)).
    ///
    /// A record is known by its event's key and its type: adding it again changes nothing. A receipt
    /// only goes up ([`Receipt`] is ordered): writing a lower one changes nothing. The records are
    /// written before the receipts, or both at once.
    ///
    /// # Errors
    /// Some may have been written.
    async fn settle(&self, partition: u16, settlement: &Settlement) -> Result<(), PortError>;

    /// The receipts of these keys in a partition, in the order of the keys. One that has been
    /// written is found for as long as [`retention`](Self::retention) says, whatever else is
    /// written meanwhile.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn receipts(
        &self,
        partition: u16,
        keys: &[EventKey],
    ) -> Result<Vec<Option<Receipt>>, PortError>;

    /// Which of these events are on record as having changed nothing, in the order of the keys. Asked
    /// for those that are handed out again without a receipt: whoever worked on them may have died
    /// between writing the record and the receipt. Where both are written at once the answer may be
    /// "none".
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn recorded(&self, keys: &[EventKey]) -> Result<Vec<bool>, PortError>;

    /// How long receipts are kept.
    fn retention(&self) -> ReceiptRetention;

    /// What is kept of one thred's past, in the order of its versions: the latest `limit` steps that
    /// led to versions below `before` (`None`: up to the latest). Found by the thred, whatever else is
    /// on record.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn history(
        &self,
        thred: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<History>, PortError>;

    /// The records about events that changed nothing, oldest first: the latest `limit` of those
    /// before a cursor that an earlier page gave (`None`: up to the latest).
    ///
    /// # Errors
    /// When the storage cannot be reached, or the cursor is not what an earlier page gave.
    async fn unmoved(&self, before: Option<&str>, limit: usize) -> Result<UnmovedPage, PortError>;

    /// The log records kept, of all threds and of none, oldest first; only the latest `limit`.
    ///
    /// # Errors
    /// When the storage cannot be reached.
    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError>;
}

/// A page of what changed nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UnmovedPage {
    /// The records, oldest first.
    pub records: Vec<Unmoved>,
    /// The cursor for what came before these; `None` when that is all there is.
    pub before: Option<String>,
}

/// One step of the past: what came in, what was decided, what went out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The thred's version after the step; 0 for an event that moved no thred.
    pub version: u64,
    /// What the thred's inbox has kept of the input; `None` for an event that moved no thred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consumed: Option<Consumed>,
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
    /// What the step has asked of the world around it; `None` when every answer was the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Arc<Facts>>,
}

impl History {
    /// The history that an event leaves that moved no thred.
    pub fn unmoved(record: LogRecord, event: Arc<Event>) -> Self {
        Self {
            version: 0,
            consumed: None,
            event: Some(event),
            command: None,
            log: vec![record],
            messages: vec![],
            facts: None,
        }
    }
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
    /// The expression of an operand of an `or` failed; another one matched.
    OperandFailed,
    /// The source may not move the thred here.
    Unauthorized,
    /// The reaction expired.
    Expired,
    /// The step that an expiry leads to failed; the timer is put off.
    ExpiryFailed,
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
