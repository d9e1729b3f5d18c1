//! Outboxes. The event of a message is stored once, however many topics it goes to.

use std::{collections::HashMap, sync::Arc};

use mongodb::bson::{Bson, Document, doc};
use serde::{Deserialize, Serialize};
use thredcore::port::{Commit, OutboxEntry, Outgoing, PortError, PortErrorKind};
use thredlib::{Event, Message, MessageId, ParticipantId, ThredId, Topic};

use super::{json, parsed, signed};

/// A message without its event.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    pub(super) id: MessageId,
    pub(super) to: Vec<ParticipantId>,
    pub(super) timestamp: i64,
    /// The place of its event among those of the commit.
    pub(super) event: usize,
}

impl Envelope {
    pub(super) fn message(self, event: Arc<Event>) -> Arc<Message> {
        let Self { id, to, timestamp, .. } = self;
        Arc::new(Message { id, event, to, timestamp })
    }
}

/// What a commit puts out, each event once.
#[derive(Debug)]
pub(crate) struct Packed {
    /// The events, as JSON.
    pub(crate) events: Vec<String>,
    pub(super) envelopes: Vec<Envelope>,
    version: u64,
}

impl Packed {
    pub(crate) fn of(commit: &Commit) -> Result<Self, PortError> {
        let mut events: Vec<String> = Vec::new();
        // Most messages share one value; equal ones that do not are found by their text.
        let mut by_value: HashMap<*const Event, usize> = HashMap::new();
        let mut by_text: HashMap<String, usize> = HashMap::new();
        let mut envelopes = Vec::new();
        for entry in &commit.outbox {
            let Outgoing::Message { message, .. } = &entry.outgoing else { continue };
            let event = match by_value.get(&Arc::as_ptr(&message.event)) {
                Some(place) => *place,
                None => {
                    let text = json(&*message.event)?;
                    let place = *by_text.entry(text).or_insert_with_key(|text| {
                        events.push(text.clone());
                        events.len() - 1
                    });
                    by_value.insert(Arc::as_ptr(&message.event), place);
                    place
                }
            };
            let (id, to, timestamp) = (message.id.clone(), message.to.clone(), message.timestamp);
            envelopes.push(Envelope { id, to, timestamp, event });
        }
        Ok(Self { events, envelopes, version: commit.state.version })
    }

    /// The entries as they are stored.
    pub(crate) fn entries(&self, commit: &Commit) -> Result<Vec<Document>, PortError> {
        let mut envelopes = self.envelopes.iter();
        let entries = commit.outbox.iter().enumerate().map(|(place, entry)| {
            let (id, n) = (entry.id.as_str(), number(self.version, place));
            let topic = match &entry.outgoing {
                Outgoing::Message { topic, .. } => envelopes.next().map(|it| (topic, it)),
                _ => None,
            };
            Ok(match topic {
                Some((topic, envelope)) => doc! {
                    "id": id, "at": entry.at, "n": n, "topic": topic.as_str(),
                    "e": number(self.version, envelope.event), "body": json(envelope)?,
                },
                None => doc! { "id": id, "at": entry.at, "n": n, "body": json(&entry.outgoing)? },
            })
        });
        entries.collect()
    }

    /// The events as they are stored.
    pub(crate) fn documents(&self) -> Vec<Document> {
        let events = self.events.iter().zip(self.keys());
        let version = signed(self.version);
        events.map(|(body, key)| doc! { "k": key, "v": version, "body": body }).collect()
    }

    /// What the events are known by in their thred's document.
    pub(crate) fn keys(&self) -> Vec<i64> {
        (0..self.events.len()).map(|place| number(self.version, place)).collect()
    }
}

/// A number that grows with version and place.
fn number(version: u64, place: usize) -> i64 {
    /// A commit has fewer entries than this.
    const PLACES: u64 = 1 << 20;
    signed(version.saturating_mul(PLACES).saturating_add(place as u64))
}

/// An event in its thred's document.
#[derive(Debug, Deserialize)]
pub(crate) struct EventDocument {
    pub(super) k: i64,
    pub(super) body: String,
}

/// The events of a document, read when they are wanted.
pub(crate) struct Events<'d> {
    texts: HashMap<i64, &'d str>,
    read: HashMap<i64, Arc<Event>>,
}

impl<'d> Events<'d> {
    pub(crate) fn of(documents: &'d [EventDocument]) -> Self {
        let texts = documents.iter().map(|event| (event.k, &*event.body)).collect();
        Self { texts, read: HashMap::new() }
    }

    fn get(&mut self, key: i64) -> Result<Arc<Event>, PortError> {
        if let Some(event) = self.read.get(&key) {
            return Ok(event.clone());
        }
        let text = self.text(key)?;
        let event: Arc<Event> = Arc::new(parsed(text)?);
        self.read.insert(key, event.clone());
        Ok(event)
    }

    pub(crate) fn text(&self, key: i64) -> Result<&'d str, PortError> {
        self.texts.get(&key).copied().ok_or_else(|| {
            let cause = "the event that a message or a step tells of is missing";
            PortError::new("read a document", PortErrorKind::Rejected, cause)
        })
    }
}

/// An entry of an outbox.
#[derive(Debug, Deserialize)]
pub(crate) struct EntryDocument {
    pub(crate) id: String,
    at: i64,
    pub(crate) n: i64,
    topic: Option<String>,
    /// The key of the message's event.
    e: Option<i64>,
    body: String,
}

impl EntryDocument {
    /// The entry, and its place in the order of making.
    pub(crate) fn entry(&self, events: &mut Events<'_>) -> Result<(i64, OutboxEntry), PortError> {
        let outgoing = match (&self.topic, self.e) {
            (Some(topic), Some(event)) => {
                let message = parsed::<Envelope>(&self.body)?.message(events.get(event)?);
                Outgoing::Message { topic: topic.as_str().into(), message }
            }
            _ => parsed(&self.body)?,
        };
        Ok((self.n, OutboxEntry { id: self.id.as_str().into(), at: self.at, outgoing }))
    }

    /// The message as it is parked; `None` for what is no message.
    pub(crate) fn parked(
        &self,
        thred: &ThredId,
        events: &Events<'_>,
    ) -> Result<Option<Document>, PortError> {
        let (Some(topic), Some(event)) = (&self.topic, self.e) else { return Ok(None) };
        Ok(Some(doc! {
            "_id": parked_id(thred, &self.id), "topic": topic, "at": self.at, "n": self.n,
            "body": &self.body, "event": events.text(event)?,
        }))
    }
}

/// What a parked message is known by.
pub(crate) fn parked_id(thred: &ThredId, message: impl Into<Bson>) -> Document {
    doc! { "t": thred.as_str(), "m": message.into() }
}

/// A parked message.
#[derive(Debug, Deserialize)]
pub(crate) struct ParkedDocument {
    #[serde(rename = "_id")]
    id: ParkedId,
    topic: Topic,
    at: i64,
    n: i64,
    body: String,
    event: String,
}

#[derive(Debug, Deserialize)]
struct ParkedId {
    t: ThredId,
    m: MessageId,
}

impl ParkedDocument {
    /// The thred, the place in the order of making, and the entry.
    pub(crate) fn entry(self) -> Result<(ThredId, i64, OutboxEntry), PortError> {
        let event = Arc::new(parsed(&self.event)?);
        let message = parsed::<Envelope>(&self.body)?.message(event);
        let outgoing = Outgoing::Message { topic: self.topic, message };
        Ok((self.id.t, self.n, OutboxEntry { id: self.id.m, at: self.at, outgoing }))
    }
}
