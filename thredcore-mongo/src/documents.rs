//! What the documents look like. States, events and messages are JSON texts in them, so that they
//! come back byte for byte; beside the text stand the fields that MongoDB has to see.
//!
//! | collection | `_id` | holds |
//! |---|---|---|
//! | `threds` | thred | state, inbox, outbox, steps that are not archived yet |
//! | `history` | thred and version, or event and type | a step of the past |
//! | `ended` | thred | the last state of an ended thred |
//! | `places` | pattern | the threds that take up places |
//! | `leases` | name | owner and end |
//! | `revisions` | pattern and revision | the pattern's text |
//! | `patterns` | pattern | the current revision, and whether it is active |
//! | `counters` | name | numbers that only grow |
//! | `users` | participant | groups and roles |
//! | `executed` | key of a list of tasks | its results |
//! | `meta` | `format` | the [version](thredcore::format) of all this |
//! | `records.TYPE` | record | a record of the pattern language's tasks |

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use mongodb::bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thredcore::{
    port::{Commit, History, LogRecord, OutboxEntry, PortError, PortErrorKind},
    state::{PatternKey, Status, ThredState},
};
use thredlib::{Event, ThredId};

use crate::connection::wall_clock;

pub(crate) const THREDS: &str = "threds";
pub(crate) const HISTORY: &str = "history";
pub(crate) const ENDED: &str = "ended";
pub(crate) const PLACES: &str = "places";
pub(crate) const LEASES: &str = "leases";
pub(crate) const REVISIONS: &str = "revisions";
pub(crate) const PATTERNS: &str = "patterns";
pub(crate) const COUNTERS: &str = "counters";
pub(crate) const USERS: &str = "users";
pub(crate) const EXECUTED: &str = "executed";
pub(crate) const RECORDS: &str = "records.";

/// A value as JSON text.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<String, PortError> {
    let rejected = |error| PortError::new("write JSON", PortErrorKind::Rejected, error);
    serde_json::to_string(value).map_err(rejected)
}

/// A value from JSON text.
pub(crate) fn parsed<T: DeserializeOwned>(text: &str) -> Result<T, PortError> {
    let damaged = |error: serde_json::Error| {
        PortError::new("read JSON that MongoDB holds", PortErrorKind::Rejected, error)
    };
    serde_json::from_str(text).map_err(damaged)
}

/// Versions and counts stay far below the range of `i64`.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// BSON knows no unsigned numbers, and a revision uses all 64 bits.
pub(crate) fn revision_text(revision: u64) -> String {
    format!("{revision:016x}")
}

pub(crate) fn revision_of(text: &str) -> Result<u64, PortError> {
    let damaged = |error| PortError::new("read a revision", PortErrorKind::Rejected, error);
    u64::from_str_radix(text, 16).map_err(damaged)
}

/// Where active threds listen, as one text: MongoDB walks over distinct texts from one to the next.
pub(crate) fn listening_text(key: &PatternKey) -> String {
    format!("{}/{}", revision_text(key.revision), key.id)
}

pub(crate) fn listening_key(text: &str) -> Result<PatternKey, PortError> {
    let (revision, id) = text.split_once('/').unwrap_or((text, ""));
    Ok(PatternKey { id: id.into(), revision: revision_of(revision)? })
}

/// What is stored of a thred's state, live or ended.
pub(crate) fn state_fields(state: &ThredState) -> Result<Document, PortError> {
    let bare = ThredState { inbox: Vec::new(), ..state.clone() };
    let inbox: Vec<_> = state.inbox.iter().map(|id| id.as_str()).collect();
    let participants: Vec<_> = state.participants.iter().map(|id| id.as_str()).collect();
    Ok(doc! {
        "v": signed(state.version),
        "status": state.status.as_str(),
        "started": state.started_at,
        "pattern": state.pattern.id.as_str(),
        "participants": participants,
        "inbox": inbox,
        "state": json(&bare)?,
    })
}

/// A state as it is read.
#[derive(Debug, Deserialize)]
pub(crate) struct StateDocument {
    #[serde(rename = "_id")]
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) inbox: Vec<String>,
    #[serde(default)]
    pub(crate) outbox: Vec<EntryDocument>,
    #[serde(default)]
    pub(crate) past: Vec<StepDocument>,
}

impl StateDocument {
    pub(crate) fn state(&self) -> Result<ThredState, PortError> {
        let state: ThredState = parsed(&self.state)?;
        let inbox = self.inbox.iter().map(|id| id.as_str().into()).collect();
        Ok(ThredState { inbox, ..state })
    }

    pub(crate) fn entries(&self) -> Result<Vec<OutboxEntry>, PortError> {
        self.outbox.iter().map(EntryDocument::entry).collect()
    }
}

/// An entry of an outbox.
#[derive(Debug, Deserialize)]
pub(crate) struct EntryDocument {
    id: String,
    at: i64,
    body: String,
}

impl EntryDocument {
    pub(crate) fn of(entry: &OutboxEntry) -> Result<Document, PortError> {
        Ok(doc! { "id": entry.id.as_str(), "at": entry.at, "body": json(&entry.outgoing)? })
    }

    pub(crate) fn entry(&self) -> Result<OutboxEntry, PortError> {
        let outgoing = parsed(&self.body)?;
        Ok(OutboxEntry { id: self.id.as_str().into(), at: self.at, outgoing })
    }
}

/// A step as it waits in its thred's document.
#[derive(Debug, Deserialize)]
pub(crate) struct StepDocument {
    v: i64,
    at: i64,
    seq: i64,
    body: String,
}

/// A step of a thred's past, on its way to the archive.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Step {
    pub(crate) thred: ThredId,
    pub(crate) version: u64,
    /// When, milliseconds since the Unix epoch.
    pub(crate) at: i64,
    /// Orders steps of the same time.
    pub(crate) seq: i64,
    /// A [`History`] as JSON.
    pub(crate) body: String,
    /// The state that it ended in, if it did.
    pub(crate) ended: Option<Arc<ThredState>>,
}

impl Step {
    pub(crate) fn of(commit: &Commit) -> Result<Self, PortError> {
        Ok(Self {
            thred: commit.state.id.clone(),
            version: commit.state.version,
            at: commit.state.modified_at,
            seq: sequence(),
            body: json(&commit.history())?,
            ended: has_ended(&commit.state).then(|| commit.state.clone()),
        })
    }

    /// The steps that a thred's document holds.
    pub(crate) fn waiting(thred: &StateDocument) -> Result<Vec<Self>, PortError> {
        let state = Arc::new(thred.state()?);
        let steps = thred.past.iter().map(|step| {
            let version = u64::try_from(step.v).unwrap_or_default();
            let ended = (version == state.version && has_ended(&state)).then(|| state.clone());
            let (thred, body) = (state.id.clone(), step.body.clone());
            Self { thred, version, at: step.at, seq: step.seq, body, ended }
        });
        Ok(steps.collect())
    }

    /// As it waits in its thred's document.
    pub(crate) fn inside(&self) -> Document {
        doc! { "v": signed(self.version), "at": self.at, "seq": self.seq, "body": &self.body }
    }

    /// As it is archived, under an id that is the same whoever does it.
    pub(crate) fn archived(&self) -> Document {
        let id = doc! { "t": self.thred.as_str(), "v": signed(self.version) };
        doc! { "_id": id, "at": self.at, "seq": self.seq, "moved": true, "body": &self.body }
    }

    pub(crate) fn past(&self) -> Past {
        let id = doc! { "t": self.thred.as_str(), "v": signed(self.version) };
        Past { id, at: self.at, seq: self.seq, body: self.body.clone() }
    }
}

/// An archived record of an event that moved no thred.
pub(crate) fn unmoved(record: &LogRecord, event: &Arc<Event>) -> Result<Document, PortError> {
    let decision = serde_json::to_value(record.log_type).unwrap_or_default();
    let id = doc! { "e": record.event.as_str(), "y": decision.as_str().unwrap_or_default() };
    let history = History::unmoved(record.clone(), event.clone());
    Ok(doc! {
        "_id": id, "at": record.timestamp, "seq": sequence(), "moved": false, "body": json(&history)?
    })
}

/// A step of the past, as it is read.
#[derive(Debug, Deserialize)]
pub(crate) struct Past {
    #[serde(rename = "_id")]
    pub(crate) id: Document,
    pub(crate) at: i64,
    pub(crate) seq: i64,
    pub(crate) body: String,
}

impl Past {
    pub(crate) fn version(&self) -> i64 {
        self.id.get_i64("v").unwrap_or_default()
    }

    pub(crate) fn history(&self) -> Result<History, PortError> {
        parsed(&self.body)
    }
}

fn has_ended(state: &ThredState) -> bool {
    state.status == Status::Terminated
}

/// A number greater than all before it in this process, and most likely in those before it.
fn sequence() -> i64 {
    static LAST: AtomicI64 = AtomicI64::new(0);
    let now = wall_clock().saturating_mul(1000);
    let next = |last: i64| now.max(last.saturating_add(1));
    let mut last = LAST.load(Ordering::Relaxed);
    loop {
        match LAST.compare_exchange_weak(last, next(last), Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => return next(last),
            Err(current) => last = current,
        }
    }
}

/// Texts as they stand in an expression, where one that starts with `$` would name a field.
pub(crate) fn literal(values: impl IntoIterator<Item = impl Into<Bson>>) -> Document {
    doc! { "$literal": values.into_iter().map(Into::into).collect::<Vec<Bson>>() }
}
