//! Events: what happened, as data.

mod data;
mod json;

use std::{fmt, sync::Arc};

use serde::ser::SerializeMap;
use serde_json::{Map, Value};

use crate::{EventId, ParticipantId, ThredId, error::EventError, id::new_event_id, json::View};

pub use data::EventData;

/// The source id of every event that the engine itself makes.
pub const SYSTEM: &str = "SYSTEM";

/// Names of the event types that the engine gives a meaning to.
pub mod event_type {
    /// What a step sends out.
    pub const TELL: &str = "org.wt.tell";
    /// What a person's client answers with.
    pub const CLIENT_TELL: &str = "org.wt.client.tell";
    /// A participant asks to send a message to all others.
    pub const CLIENT_BROADCAST: &str = "org.wt.client.broadcast";
    /// A relayed broadcast or echo.
    pub const BROADCAST: &str = "org.wt.broadcast";
    /// An error report.
    pub const ERROR: &str = "org.wt.error";
    /// A command to the engine that needs the admin role.
    pub const SYS_CONTROL: &str = "org.wt.control.sysControl";
    /// A query or change of stored data that needs the admin role.
    pub const DATA_CONTROL: &str = "org.wt.control.dataControl";
    /// What any participant may ask of the engine.
    pub const USER_CONTROL: &str = "org.wt.control.userControl";
}

/// Something that happened; immutable once made, shared as `Arc<Event>`.
///
/// Without a `thred_id` it is *unbound* and may start threds; with one it is *bound* to that
/// thred. Fields that this type does not know survive a round trip, at every level.
///
/// ```
/// use thredlib::Event;
/// let text = r#"{"id":"e1","type":"org.example.ping","source":{"id":"me"},"x":1}"#;
/// let event: Event = serde_json::from_str(text).unwrap();
/// assert_eq!(&*event.event_type, "org.example.ping");
/// assert_eq!(serde_json::to_string(&event).unwrap(), text);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Unique; an event delivered twice under one id has one effect.
    pub id: EventId,
    /// Dotted name of what happened (`type` in JSON).
    pub event_type: Arc<str>,
    /// The thred that the event is bound to.
    pub thred_id: Option<ThredId>,
    /// The id of the event that this one answers.
    pub re: Option<EventId>,
    /// Who or what the event comes from.
    pub source: Source,
    /// When it happened, milliseconds since the Unix epoch. `time` is read as another name.
    pub timestamp: Option<i64>,
    /// The payload.
    pub data: Option<EventData>,
    /// The trace that the event belongs to; copied to every event derived from it.
    pub trace: Option<Arc<Value>>,
    /// Top-level fields that this library does not know.
    pub extra: Extra,
}

impl Event {
    /// Starts building an event of a type from a source. The id is new; `timestamp` is left out
    /// until [`EventBuilder::timestamp`] sets it, so that a test is free of the clock.
    pub fn builder(
        event_type: impl Into<Arc<str>>,
        source: impl Into<ParticipantId>,
    ) -> EventBuilder {
        EventBuilder {
            event: Self {
                id: new_event_id(),
                event_type: event_type.into(),
                thred_id: None,
                re: None,
                source: Source::new(source),
                timestamp: None,
                data: None,
                trace: None,
                extra: Extra::default(),
            },
        }
    }

    /// `data.content`, when it is there.
    pub fn content(&self) -> Option<&Value> {
        self.data.as_ref()?.get("content")
    }

    /// `data.content.values`: an object or an array of objects.
    pub fn values(&self) -> Option<&Value> {
        self.content()?.get("values")
    }

    /// The first value of that name in `data.content.values` that is neither missing nor null,
    /// searched depth first: an object's own key before its children's, arrays in order.
    pub fn value_named(&self, name: &str) -> Option<&Value> {
        value_named(self.values()?, name)
    }

    /// The same as [`value_named`](Self::value_named), without a copy.
    pub fn view_named(&self, name: &str) -> Option<View<'_>> {
        self.view(&["content", "values"])?.named(name)
    }

    /// The error that the event carries, at `data.error` or `data.content.error`.
    pub fn error(&self) -> Option<&Value> {
        let paths: [&[&str]; 2] = [&["error"], &["content", "error"]];
        if paths.iter().all(|path| self.view(path).is_none_or(View::is_null)) {
            return None;
        }
        let data = self.data.as_ref()?;
        [data.get("error"), data.get("content").and_then(|c| c.get("error"))]
            .into_iter()
            .flatten()
            .find(|e| !e.is_null())
    }

    /// The same as [`error`](Self::error), without a copy.
    pub fn error_view(&self) -> Option<View<'_>> {
        let paths: [&[&str]; 2] = [&["error"], &["content", "error"]];
        paths.iter().filter_map(|path| self.view(path)).find(|error| !error.is_null())
    }

    /// `data.title`, when it is a text.
    pub fn title(&self) -> Option<&str> {
        self.view(&["title"])?.as_str()
    }

    /// `data.description`, when it is a text.
    pub fn description(&self) -> Option<&str> {
        self.view(&["description"])?.as_str()
    }

    /// `data.display.uri`, when it is a text.
    pub fn display_uri(&self) -> Option<&str> {
        self.view(&["display", "uri"])?.as_str()
    }

    /// Whether it has more levels of objects and lists in one another, its own included.
    pub fn nests_deeper(&self, levels: usize) -> bool {
        let Some(below) = levels.checked_sub(1) else { return true };
        let own = self.extra.iter().map(|(_, value)| View::from(value));
        let trace = self.trace.as_deref().map(View::from);
        let data = self.data.as_ref().map(|data| View::Object(data.view()));
        let of_source = || self.source.extra.iter().map(|(_, value)| View::from(value));
        own.chain(trace).chain(data).any(|value| value.nests_deeper(below))
            || below
                .checked_sub(1)
                .is_none_or(|below| of_source().any(|value| value.nests_deeper(below)))
    }

    /// A place in the payload, without a copy: the names that lead to it.
    pub fn view(&self, path: &[&str]) -> Option<View<'_>> {
        let data = View::Object(self.data.as_ref()?.view());
        path.iter().try_fold(data, |view, name| view.get(name))
    }
}

/// Searches a JSON value depth first for the first non-null value under a key; see
/// [`Event::value_named`].
pub fn value_named<'v>(values: &'v Value, name: &str) -> Option<&'v Value> {
    match values {
        Value::Object(map) => match map.get(name) {
            Some(found) if !found.is_null() => Some(found),
            _ => map.values().find_map(|child| value_named(child, name)),
        },
        Value::Array(items) => items.iter().find_map(|item| value_named(item, name)),
        _ => None,
    }
}

/// Where an event comes from.
#[derive(Clone, Debug, PartialEq)]
pub struct Source {
    /// The participant, device or service.
    pub id: ParticipantId,
    /// Its name for people.
    pub name: Option<String>,
    /// Where more is to be found about it.
    pub uri: Option<String>,
    /// Fields that this library does not know.
    pub extra: Extra,
}

impl Source {
    /// A source of which only the id is known.
    pub fn new(id: impl Into<ParticipantId>) -> Self {
        Self { id: id.into(), name: None, uri: None, extra: Extra::default() }
    }
}

/// Fields that a type does not know, kept for the round trip. Costs nothing when there are none.
#[derive(Clone, Default, PartialEq)]
pub struct Extra(Option<Box<Map<String, Value>>>);

impl Extra {
    /// An unknown field.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.as_ref()?.get(key)
    }

    /// Adds or replaces an unknown field.
    pub fn insert(&mut self, key: impl Into<String>, value: Value) {
        self.0.get_or_insert_default().insert(key.into(), value);
    }

    /// The unknown fields in the order they were read.
    pub fn iter(&self) -> impl Iterator<Item = (&String, &Value)> {
        self.0.iter().flat_map(|map| map.iter())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|map| map.is_empty())
    }

    fn serialize_into<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        self.iter().try_for_each(|(key, value)| map.serialize_entry(key, value))
    }
}

impl fmt::Debug for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Builds an [`Event`]; see [`Event::builder`].
#[derive(Clone, Debug)]
#[must_use = "call `build` to get the event"]
pub struct EventBuilder {
    event: Event,
}

impl EventBuilder {
    /// Sets the id instead of a new one.
    pub fn id(mut self, id: impl Into<EventId>) -> Self {
        self.event.id = id.into();
        self
    }

    /// Binds the event to a thred.
    pub fn thred(mut self, id: impl Into<ThredId>) -> Self {
        self.event.thred_id = Some(id.into());
        self
    }

    /// Says which event this one answers.
    pub fn re(mut self, id: impl Into<EventId>) -> Self {
        self.event.re = Some(id.into());
        self
    }

    /// Names the source for people.
    pub fn source_name(mut self, name: impl Into<String>) -> Self {
        self.event.source.name = Some(name.into());
        self
    }

    /// Milliseconds since the Unix epoch.
    pub fn timestamp(mut self, ms: i64) -> Self {
        self.event.timestamp = Some(ms);
        self
    }

    /// Sets `data.title`.
    pub fn title(self, title: impl Into<String>) -> Self {
        self.data_field("title", Value::String(title.into()))
    }

    /// Sets `data.description`.
    pub fn description(self, text: impl Into<String>) -> Self {
        self.data_field("description", Value::String(text.into()))
    }

    /// Sets `data.content.values`, keeping the rest of the content.
    pub fn values(self, values: impl Into<Value>) -> Self {
        self.content_field("values", values.into())
    }

    /// Sets a field of `data.content`.
    pub fn content_field(mut self, key: &str, value: Value) -> Self {
        let data = self.event.data.get_or_insert_default().as_map_mut();
        let content = data.entry("content").or_insert_with(|| Value::Object(Map::new()));
        if !content.is_object() {
            *content = Value::Object(Map::new());
        }
        content[key] = value;
        self
    }

    /// Sets a field of `data`.
    pub fn data_field(mut self, key: &str, value: Value) -> Self {
        self.event.data.get_or_insert_default().as_map_mut().insert(key.to_owned(), value);
        self
    }

    /// Replaces the whole payload.
    pub fn data(mut self, data: impl Into<EventData>) -> Self {
        self.event.data = Some(data.into());
        self
    }

    /// Sets `data.error`, which makes this an error event.
    pub fn error(self, error: &EventError) -> Self {
        self.data_field("error", error.to_value())
    }

    /// Carries a trace along.
    pub fn trace(mut self, trace: Option<Arc<Value>>) -> Self {
        self.event.trace = trace;
        self
    }

    /// The finished event.
    pub fn build(self) -> Event {
        self.event
    }
}
