//! Steps of the past: in their thred's document, on their way, and in the archive.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use mongodb::bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};
use thredcore::{
    port::{Commit, History, LogRecord, PortError, Unmoved},
    state::{Status, ThredState},
};
use thredlib::{EventKey, ThredId};

use super::{
    Events, Packed, StateDocument,
    outbox::Envelope,
    {json, parsed, signed},
};
use crate::connection::wall_clock;

/// A step as it waits in its thred's document.
#[derive(Debug, Deserialize)]
pub(super) struct StepDocument {
    v: i64,
    at: i64,
    seq: i64,
    body: String,
    /// The keys of the events that its messages tell.
    e: Vec<i64>,
}

/// What the text of a step holds: its messages refer to events that stand beside it.
#[derive(Serialize, Deserialize)]
struct Body {
    history: History,
    messages: Vec<Envelope>,
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
    /// A [`Body`] as JSON.
    body: String,
    /// The events that its messages tell, as JSON, each once.
    events: Vec<String>,
    /// The state that it ended in, if it did.
    pub(crate) ended: Option<Arc<ThredState>>,
}

impl Step {
    pub(crate) fn of(commit: &Commit, packed: &Packed) -> Result<Self, PortError> {
        let history = History {
            version: commit.state.version,
            consumed: Some(commit.consumed),
            event: commit.event.clone(),
            command: commit.command.clone(),
            log: commit.log.clone(),
            messages: vec![],
            facts: commit.facts.clone(),
        };
        Ok(Self {
            thred: commit.state.id.clone(),
            version: commit.state.version,
            at: commit.state.modified_at,
            seq: sequence(),
            body: json(&Body { history, messages: packed.envelopes.clone() })?,
            events: packed.events.clone(),
            ended: has_ended(&commit.state).then(|| commit.state.clone()),
        })
    }

    /// The steps that a thred's document holds.
    pub(crate) fn waiting(thred: &StateDocument) -> Result<Vec<Self>, PortError> {
        let state = Arc::new(thred.state()?);
        let events = Events::of(&thred.events);
        let steps = thred.past.iter().map(|step| {
            let version = u64::try_from(step.v).unwrap_or_default();
            let ended = (version == state.version && has_ended(&state)).then(|| state.clone());
            let told = step.e.iter().map(|key| events.text(*key).map(str::to_owned));
            Ok(Self {
                thred: state.id.clone(),
                version,
                at: step.at,
                seq: step.seq,
                body: step.body.clone(),
                events: told.collect::<Result<_, PortError>>()?,
                ended,
            })
        });
        steps.collect()
    }

    /// As it waits in its thred's document, which holds the events beside it.
    pub(crate) fn inside(&self, events: Vec<i64>) -> Document {
        let (version, body) = (signed(self.version), &self.body);
        doc! { "v": version, "at": self.at, "seq": self.seq, "body": body, "e": events }
    }

    /// As it is archived, under an id that is the same whoever does it.
    pub(crate) fn archived(&self) -> Document {
        let Past { id, at, seq, moved, body, events } = self.past();
        doc! { "_id": id, "at": at, "seq": seq, "moved": moved, "body": body, "events": events }
    }

    /// What is archived of it when it is too large: what was decided, and how large it was.
    pub(crate) fn shortened(&self, bytes: usize) -> Result<Document, PortError> {
        /// Records and bytes of what each tells beyond names.
        const RECORDS: usize = 64;
        const DETAIL: usize = 1_024;
        let Body { mut history, .. } = parsed(&self.body)?;
        (history.event, history.command, history.facts) = (None, None, None);
        history.log.truncate(RECORDS);
        for record in &mut history.log {
            if let Some(detail) = &mut record.detail {
                let end = detail.floor_char_boundary(DETAIL);
                *detail = detail[..end].into();
            }
        }
        if let Some(first) = history.log.first_mut() {
            let told = first.detail.as_deref().map(|told| format!("{told}; "));
            let told = told.unwrap_or_default();
            let note = format!(
                "{told}the step of {bytes} bytes is too large for the archive: event and messages \
                 are left out"
            );
            first.detail = Some(note.into());
        }
        let body = json(&Body { history, messages: vec![] })?;
        let shortened = Self { body, events: vec![], ended: None, ..self.clone() };
        let mut document = shortened.archived();
        document.insert("shortened", signed(bytes as u64));
        Ok(document)
    }

    pub(crate) fn past(&self) -> Past {
        let id = doc! { "t": self.thred.as_str(), "v": signed(self.version) };
        let (body, events) = (self.body.clone(), self.events.clone());
        Past { id, at: self.at, seq: self.seq, moved: true, body, events }
    }
}

/// An archived record of an event that changed nothing.
pub(crate) fn unmoved(unmoved: &Unmoved) -> Result<Document, PortError> {
    let decision = serde_json::to_value(unmoved.record.log_type).unwrap_or_default();
    let decision = decision.as_str().unwrap_or_default();
    let id = doc! { "e": unmoved.key.to_string(), "y": decision };
    let (at, seq) = (unmoved.record.timestamp, sequence());
    Ok(doc! { "_id": id, "at": at, "seq": seq, "moved": false, "body": json(unmoved)? })
}

/// A step of the past, as it is read.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Past {
    #[serde(rename = "_id")]
    pub(crate) id: Document,
    pub(crate) at: i64,
    pub(crate) seq: i64,
    /// Whether a thred was changed.
    pub(crate) moved: bool,
    body: String,
    #[serde(default)]
    events: Vec<String>,
}

impl Past {
    /// The documents about these events, whatever was decided.
    pub(crate) fn about(key: &EventKey) -> Document {
        let bound = |decision: Bson| doc! { "e": key.to_string(), "y": decision };
        doc! { "_id": { "$gte": bound(Bson::MinKey), "$lte": bound(Bson::MaxKey) } }
    }

    /// A thred's step.
    pub(crate) fn history(&self) -> Result<History, PortError> {
        let Body { mut history, messages } = parsed(&self.body)?;
        let events = self.events.iter().map(|text| Ok(Arc::new(parsed(text)?)));
        let events = events.collect::<Result<Vec<_>, PortError>>()?;
        let messages = messages.into_iter().map(|envelope| {
            let event = events.get(envelope.event).cloned();
            event.map(|event| envelope.message(event)).ok_or_else(|| {
                let kind = thredcore::port::PortErrorKind::Rejected;
                PortError::new("read a step", kind, "the event of a message is missing")
            })
        });
        history.messages = messages.collect::<Result<_, _>>()?;
        Ok(history)
    }

    /// An event that changed nothing.
    pub(crate) fn unmoved(&self) -> Result<Unmoved, PortError> {
        parsed(&self.body)
    }

    /// What was decided.
    pub(crate) fn log(&self) -> Result<Vec<LogRecord>, PortError> {
        if self.moved {
            return Ok(parsed::<Body>(&self.body)?.history.log);
        }
        Ok(vec![self.unmoved()?.record])
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
