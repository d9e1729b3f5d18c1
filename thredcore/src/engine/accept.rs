//! Accepting: the door of the engine.

use thredlib::{
    Event, EventLimits, MAX_DEPTH, ParticipantId, SYSTEM,
    json::text::{self, TextFault},
};

use super::Engine;
use crate::port::{Accepted, Inbound, PortError};

/// An event that was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// It is no event.
    #[error("not an event: at `{path}`: {reason}")]
    Malformed {
        /// Where in the JSON.
        path: String,
        /// What is wrong there.
        reason: String,
    },
    /// A field is over its limit.
    #[error(
        "`{field}` is {actual} bytes long, the limit is {limit}; shorten it, or keep what is large \
        elsewhere and name it"
    )]
    TooLong {
        /// The field; `event` for the whole.
        field: &'static str,
        /// Its length.
        actual: usize,
        /// The limit.
        limit: usize,
    },
    /// It nests too deep.
    #[error(
        "the event has more than {limit} levels of objects and lists in one another, which is the \
        limit; flatten it, or send the inner part as text"
    )]
    TooDeep {
        /// The limit.
        limit: usize,
    },
    /// A field that must not be empty is.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// The principal may not send for others, and the source is somebody else.
    #[error("`{principal}` may not send events of the source `{source_id}`")]
    NotTheSource {
        /// Who sends.
        principal: ParticipantId,
        /// Whose event it claims to be.
        source_id: ParticipantId,
    },
    /// The source is the engine's own.
    #[error("the source id `{SYSTEM}` is reserved for the engine")]
    ReservedSource,
    /// The queue failed.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Somebody whom the host has authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Who it is.
    pub id: ParticipantId,
    /// Whether it may send events whose source is somebody else: a gateway, a bridge.
    pub acts_for_others: bool,
}

impl Principal {
    /// Somebody who sends for himself alone.
    pub fn new(id: impl Into<ParticipantId>) -> Self {
        Self { id: id.into(), acts_for_others: false }
    }

    /// Somebody who may send for others.
    pub fn acting_for_others(id: impl Into<ParticipantId>) -> Self {
        Self { id: id.into(), acts_for_others: true }
    }
}

impl AcceptError {
    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Port(error) if error.is_retryable())
    }
}

impl Engine {
    /// Reads an event from JSON and checks it.
    ///
    /// # Errors
    /// Where it is malformed, and why.
    pub fn read_event(&self, json: &[u8]) -> Result<Event, AcceptError> {
        let limits = &self.config().event_limits;
        let json = text::without_mark(json);
        check_length("event", json.len(), limits.bytes)?;
        // Looked at as a whole, UTF-8 costs less than text by text.
        let read = match str::from_utf8(json) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(json),
        };
        // When something is wrong, it is read again, slowly, to say where.
        let event = read.map_err(|error| explain(json, &error, limits))?;
        if let Some(fault) = text::integer_too_large(json) {
            return Err(malformed(fault));
        }
        check_event(&event, limits)?;
        Ok(event)
    }

    /// Takes events in. When it returns without an error they are durable and will be processed.
    /// Waits while the engine is behind.
    ///
    /// # Errors
    /// None was accepted, or, with a failure of the queue, perhaps some: accepting them again is
    /// safe.
    pub async fn accept(&self, events: Vec<Event>) -> Result<(), AcceptError> {
        self.take(events, None).await
    }

    /// Takes in events that somebody has sent whom the host has authenticated: only this principal's
    /// own, unless it may act for others.
    ///
    /// # Errors
    /// As [`accept`](Self::accept); and when one of the events claims another source.
    pub async fn accept_from(
        &self,
        principal: &Principal,
        events: Vec<Event>,
    ) -> Result<(), AcceptError> {
        let foreign = events.iter().find(|event| event.source.id != principal.id);
        match foreign.filter(|_| !principal.acts_for_others) {
            Some(event) => Err(AcceptError::NotTheSource {
                principal: principal.id.clone(),
                source_id: event.source.id.clone(),
            }),
            None => self.take(events, Some(principal)).await,
        }
    }

    async fn take(
        &self,
        events: Vec<Event>,
        principal: Option<&Principal>,
    ) -> Result<(), AcceptError> {
        for event in &events {
            check_event(event, &self.config().event_limits)?;
        }
        let now = self.now();
        let items = events.into_iter().map(|event| {
            let other = principal.filter(|principal| principal.id != event.source.id);
            let principal = other.map(|principal| principal.id.clone());
            Inbound::Event(Accepted { principal, ..Accepted::new(event, now) })
        });
        let items = items.collect();
        self.event_q().room().await?;
        Ok(self.event_q().publish(items).await?)
    }
}

fn malformed(fault: TextFault) -> AcceptError {
    AcceptError::Malformed { path: ends_of(fault.path), reason: fault.reason.to_string() }
}

fn explain(json: &[u8], error: &serde_json::Error, limits: &EventLimits) -> AcceptError {
    // Deeper than the reader goes, which is deeper than an event may be.
    if error.to_string().starts_with("recursion limit exceeded") {
        return AcceptError::TooDeep { limit: depth(limits) };
    }
    if let Some(fault) = text::lone_surrogate(json) {
        return malformed(fault);
    }
    let mut reader = serde_json::Deserializer::from_slice(json);
    match serde_path_to_error::deserialize::<_, Event>(&mut reader) {
        Err(located) => AcceptError::Malformed {
            path: ends_of(located.path().to_string()),
            reason: located.inner().to_string(),
        },
        Ok(_) => AcceptError::Malformed { path: ".".into(), reason: error.to_string() },
    }
}

/// A path, of a long one both ends.
fn ends_of(path: String) -> String {
    const END: usize = 60;
    if path.len() <= 2 * END {
        return path;
    }
    let is_start = |c: char| matches!(c, '.' | '[');
    let (head, tail) = (path.floor_char_boundary(END), path.ceil_char_boundary(path.len() - END));
    let head = path[..head].rfind(is_start).unwrap_or(head);
    let tail = path[tail..].find(is_start).map_or(tail, |at| tail + at);
    format!("{}…{}", &path[..head], &path[tail..])
}

/// Levels that an event may have.
fn depth(limits: &EventLimits) -> usize {
    limits.depth.min(MAX_DEPTH)
}

fn check_event(event: &Event, limits: &EventLimits) -> Result<(), AcceptError> {
    let fields = [
        ("id", Some(event.id.as_str())),
        ("type", Some(&*event.event_type)),
        ("thredId", event.thred_id.as_ref().map(|id| id.as_str())),
        ("re", event.re.as_ref().map(|id| id.as_str())),
        ("source.id", Some(event.source.id.as_str())),
    ];
    for (field, text) in fields {
        let Some(text) = text else { continue };
        check_length(field, text.len(), limits.id_bytes)?;
        if text.is_empty() {
            return Err(AcceptError::Empty(field));
        }
    }
    if event.nests_deeper(depth(limits)) {
        return Err(AcceptError::TooDeep { limit: depth(limits) });
    }
    if let Some(before @ ..0) = event.timestamp {
        return Err(AcceptError::Malformed {
            path: "timestamp".to_owned(),
            reason: format!(
                "{before} is before 1970; give milliseconds since then, or leave it out"
            ),
        });
    }
    if event.source.id == SYSTEM { Err(AcceptError::ReservedSource) } else { Ok(()) }
}

fn check_length(field: &'static str, actual: usize, limit: usize) -> Result<(), AcceptError> {
    if actual <= limit { Ok(()) } else { Err(AcceptError::TooLong { field, actual, limit }) }
}
