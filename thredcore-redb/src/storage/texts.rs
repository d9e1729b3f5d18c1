//! How states and steps are written.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thredcore::{
    port::{
        Command, Commit, Facts, History, LogRecord, OutboxEntry, Outgoing, PortError, PortErrorKind,
    },
    state::ThredState,
};
use thredlib::{Event, ThredId};

use crate::{error::RedbError, segments::Body};

/// What opening a directory needs to know of a state, without reading its text.
pub(crate) struct Header {
    pub(crate) id: ThredId,
    pub(crate) is_live: bool,
    pub(crate) listens: bool,
    /// When it expires, and the entry that armed the timer.
    pub(crate) timer: Option<(i64, u64)>,
}

const LIVE: u8 = 1;
const LISTENS: u8 = 2;
const TIMED: u8 = 4;

/// A state: a header of flags, timer and id, then JSON.
pub(crate) fn state_body(state: &ThredState) -> Result<Body, serde_json::Error> {
    let timer = state.timer();
    let flags =
        [(state.status.is_live(), LIVE), (state.listening, LISTENS), (timer.is_some(), TIMED)];
    let flags = flags.iter().filter(|(is, _)| *is).fold(0, |flags, (_, flag)| flags | flag);
    let (at, entry) = timer.unwrap_or_default();
    let id = state.id.as_str().as_bytes();
    let mut bytes = Vec::with_capacity(512 + 48 * state.inbox.len());
    bytes.push(flags);
    bytes.extend(at.to_le_bytes());
    bytes.extend(entry.to_le_bytes());
    bytes.extend((id.len() as u32).to_le_bytes());
    bytes.extend_from_slice(id);
    serde_json::to_writer(&mut bytes, state)?;
    Ok(Body::new(bytes))
}

fn split(body: &[u8]) -> Option<(Header, &[u8])> {
    let (flags, rest) = body.split_first()?;
    let (at, rest) = rest.split_first_chunk()?;
    let (entry, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (id, text) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
    let timer = (i64::from_le_bytes(*at), u64::from_le_bytes(*entry));
    let header = Header {
        id: std::str::from_utf8(id).ok()?.into(),
        is_live: flags & LIVE != 0,
        listens: flags & LISTENS != 0,
        timer: (flags & TIMED != 0).then_some(timer),
    };
    Some((header, text))
}

/// The header of a state.
pub(crate) fn header(body: &[u8]) -> Result<Header, RedbError> {
    let header = split(body).map(|(header, _)| header);
    header.ok_or_else(|| RedbError::damaged("state", "", "its header is cut off"))
}

/// A whole state.
pub(crate) fn state(body: &[u8]) -> Result<ThredState, RedbError> {
    let (header, text) =
        split(body).ok_or_else(|| RedbError::damaged("state", "", "its header is cut off"))?;
    serde_json::from_slice(text).map_err(|error| RedbError::damaged("state of", header.id, error))
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StepToWrite<'a> {
    version: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a Arc<Event>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<&'a Arc<Command>>,
    log: &'a [LogRecord],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    outbox: &'a [OutboxEntry],
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<&'a Arc<Facts>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    thred: Option<&'a ThredId>,
}

/// A step as it was written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct StoredStep {
    version: u64,
    #[serde(default)]
    event: Option<Arc<Event>>,
    #[serde(default)]
    command: Option<Arc<Command>>,
    pub(crate) log: Vec<LogRecord>,
    #[serde(default)]
    pub(crate) outbox: Vec<OutboxEntry>,
    #[serde(default)]
    facts: Option<Arc<Facts>>,
    #[serde(default)]
    pub(crate) thred: Option<ThredId>,
}

/// The step that a commit makes.
pub(crate) fn step_body(commit: &Commit) -> Result<Body, serde_json::Error> {
    let step = StepToWrite {
        version: commit.state.version,
        event: commit.event.as_ref(),
        command: commit.command.as_ref(),
        log: &commit.log,
        outbox: &commit.outbox,
        facts: commit.facts.as_ref(),
        thred: (!commit.outbox.is_empty()).then_some(&commit.state.id),
    };
    serde_json::to_vec(&step).map(Body::new)
}

/// The step of an event that moved no thred.
pub(crate) fn unmoved_body(
    record: &LogRecord,
    event: &Arc<Event>,
) -> Result<Body, serde_json::Error> {
    let log = std::slice::from_ref(record);
    let (event, command, outbox, facts) = (Some(event), None, &[][..], None);
    let step = StepToWrite { version: 0, event, command, log, outbox, facts, thred: None };
    serde_json::to_vec(&step).map(Body::new)
}

/// A step.
pub(crate) fn step(body: &[u8]) -> Result<StoredStep, RedbError> {
    serde_json::from_slice(body).map_err(|error| RedbError::damaged("step", "", error))
}

impl StoredStep {
    pub(crate) fn history(self) -> History {
        let messages = self.outbox.into_iter().filter_map(|entry| match entry.outgoing {
            Outgoing::Message { message, .. } => Some(message),
            _ => None,
        });
        History {
            version: self.version,
            messages: messages.collect(),
            event: self.event,
            command: self.command,
            log: self.log,
            facts: self.facts,
        }
    }
}

/// A value that has no JSON will have none the next time.
pub(crate) fn unwritable(operation: &'static str) -> impl Fn(serde_json::Error) -> PortError {
    move |error| PortError::new(operation, PortErrorKind::Rejected, error)
}
