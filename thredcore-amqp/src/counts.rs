//! How often a message was tried, and how that ended; told to the next process by its headers.

use std::time::Duration;

use lapin::{
    BasicProperties,
    message::Delivery,
    types::{AMQPValue, FieldTable},
};

use crate::{
    declare::text,
    delays::{due, since},
};

const FAILURES: &str = "thredcore-failures";
const DEATHS: &str = "thredcore-deaths";
const DUE: &str = "thredcore-due";
const PUBLISHED: &str = "thredcore-published";

/// What a message has been through before it came to this queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// How often it was given back because it failed.
    pub(crate) failures: u32,
    /// How often whoever had it has ended.
    pub(crate) deaths: u32,
    /// Before when it is not to be handed out, milliseconds since the Unix epoch.
    pub(crate) due: Option<i64>,
}

impl Counts {
    pub(crate) fn read(properties: &BasicProperties) -> Self {
        let count = |key| header(properties, key).and_then(integer).unwrap_or(0);
        let narrow = |count: i64| u32::try_from(count.max(0)).unwrap_or(u32::MAX);
        Self {
            failures: narrow(count(FAILURES)),
            deaths: narrow(count(DEATHS)),
            due: header(properties, DUE).and_then(integer),
        }
    }

    pub(crate) fn headers(self) -> FieldTable {
        let mut headers = FieldTable::default();
        headers.insert(FAILURES.into(), AMQPValue::LongLongInt(self.failures.into()));
        headers.insert(DEATHS.into(), AMQPValue::LongLongInt(self.deaths.into()));
        if let Some(due) = self.due {
            headers.insert(DUE.into(), AMQPValue::LongLongInt(due));
        }
        headers
    }
}

/// Headers that say when a message was published, for those who let it expire.
pub(crate) fn published_now() -> FieldTable {
    let mut headers = FieldTable::default();
    headers.insert(PUBLISHED.into(), AMQPValue::LongLongInt(due(0)));
    headers
}

/// How long ago a message was published; nothing, when that is not said.
pub(crate) fn age(properties: &BasicProperties) -> Duration {
    header(properties, PUBLISHED).and_then(integer).map_or(Duration::ZERO, since)
}

/// How often an item went back to its queue.
pub(crate) fn returns(delivery: &Delivery) -> u32 {
    match header(&delivery.properties, "x-delivery-count").and_then(integer) {
        Some(count) => u32::try_from(count).unwrap_or(u32::MAX),
        // A classic queue does not count, but it tells.
        None => u32::from(delivery.redelivered),
    }
}

pub(crate) fn header<'a>(properties: &'a BasicProperties, key: &str) -> Option<&'a AMQPValue> {
    properties.headers().as_ref()?.inner().get(key)
}

pub(crate) fn integer(value: &AMQPValue) -> Option<i64> {
    match *value {
        AMQPValue::ShortShortInt(value) => Some(value.into()),
        AMQPValue::ShortShortUInt(value) => Some(value.into()),
        AMQPValue::ShortInt(value) => Some(value.into()),
        AMQPValue::ShortUInt(value) => Some(value.into()),
        AMQPValue::LongInt(value) => Some(value.into()),
        AMQPValue::LongUInt(value) => Some(value.into()),
        AMQPValue::LongLongInt(value) => Some(value),
        AMQPValue::Timestamp(value) => i64::try_from(value).ok(),
        _ => None,
    }
}

pub(crate) fn words(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.to_string()),
        _ => None,
    }
}

/// A text for a header, which must fit into a frame with all others.
pub(crate) fn short_text(long: &str) -> AMQPValue {
    const LIMIT: usize = 4_096;
    text(&long[..long.floor_char_boundary(LIMIT)])
}
