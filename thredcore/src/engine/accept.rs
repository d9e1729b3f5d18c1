//! Accepting: the door of the engine.

use std::sync::Arc;

use thredlib::{Event, EventLimits, SYSTEM};

use super::Engine;
use crate::port::{Inbound, PortError};

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
    #[error("`{field}` is {actual} bytes long, the limit is {limit}")]
    TooLong {
        /// The field; `event` for the whole.
        field: &'static str,
        /// Its length.
        actual: usize,
        /// The limit.
        limit: usize,
    },
    /// A field that must not be empty is.
    #[error("`{0}` is empty")]
    Empty(&'static str),
    /// The source is the engine's own.
    #[error("the source id `{SYSTEM}` is reserved for the engine")]
    ReservedSource,
    /// The queue failed.
    #[error(transparent)]
    Port(#[from] PortError),
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
        check_length("event", json.len(), limits.bytes)?;
        // Looked at as a whole, UTF-8 costs less than text by text.
        let read = match str::from_utf8(json) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(json),
        };
        // When something is wrong, it is read again, slowly, to say where.
        let event = read.map_err(|error| explain(json, &error))?;
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
        for event in &events {
            check_event(event, &self.config().event_limits)?;
        }
        let items = events.into_iter().map(|event| Inbound::Event(Arc::new(event))).collect();
        self.event_q().room().await?;
        Ok(self.event_q().publish(items).await?)
    }
}

fn explain(json: &[u8], error: &serde_json::Error) -> AcceptError {
    let mut reader = serde_json::Deserializer::from_slice(json);
    match serde_path_to_error::deserialize::<_, Event>(&mut reader) {
        Err(located) => AcceptError::Malformed {
            path: located.path().to_string(),
            reason: located.inner().to_string(),
        },
        Ok(_) => AcceptError::Malformed { path: ".".into(), reason: error.to_string() },
    }
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
    match event.source.id == SYSTEM {
        true => Err(AcceptError::ReservedSource),
        false => Ok(()),
    }
}

fn check_length(field: &'static str, actual: usize, limit: usize) -> Result<(), AcceptError> {
    match actual <= limit {
        true => Ok(()),
        false => Err(AcceptError::TooLong { field, actual, limit }),
    }
}
