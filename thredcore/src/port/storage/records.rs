//! What was decided, and why.

use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use thredlib::{Event, EventId, Message, PatternId, ThredId};

use super::Facts;
use crate::port::{error::PortError, event_q::Command};

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
    /// What the step has asked of the world around it; `None` when every answer was the usual one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<Arc<Facts>>,
}

impl History {
    /// The history that an event leaves that moved no thred.
    pub fn unmoved(record: LogRecord, event: Arc<Event>) -> Self {
        Self {
            version: 0,
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
