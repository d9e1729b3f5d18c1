//! Events as JSON.

use std::{fmt, sync::Arc};

use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{self, MapAccess, Visitor},
    ser::SerializeMap,
};
use serde_json::Value;

use super::{Event, Extra, Source};
use crate::EventId;

impl Serialize for Event {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        map.serialize_entry("type", &*self.event_type)?;
        serialize_some(&mut map, "thredId", &self.thred_id)?;
        serialize_some(&mut map, "re", &self.re)?;
        map.serialize_entry("source", &self.source)?;
        serialize_some(&mut map, "timestamp", &self.timestamp)?;
        serialize_some(&mut map, "data", &self.data)?;
        serialize_some(&mut map, "trace", &self.trace)?;
        self.extra.serialize_into(&mut map)?;
        map.end()
    }
}

impl Serialize for Source {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("id", &self.id)?;
        serialize_some(&mut map, "name", &self.name)?;
        serialize_some(&mut map, "uri", &self.uri)?;
        self.extra.serialize_into(&mut map)?;
        map.end()
    }
}

fn serialize_some<M: SerializeMap, T: Serialize>(
    map: &mut M,
    key: &'static str,
    value: &Option<T>,
) -> Result<(), M::Error> {
    match value {
        Some(value) => map.serialize_entry(key, value),
        None => Ok(()),
    }
}

// Written by hand: a derived `flatten` would buffer every event in between.
impl<'de> Deserialize<'de> for Event {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct EventVisitor;

        impl<'de> Visitor<'de> for EventVisitor {
            type Value = Event;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
                let (mut id, mut event_type, mut thred_id, mut re) = (None, None, None, None);
                let (mut source, mut timestamp, mut data, mut trace) = (None, None, None, None);
                let mut extra = Extra::default();
                while let Some(key) = map.next_key::<Key>()? {
                    match key.0.as_ref() {
                        "id" => id = Some(map.next_value::<EventId>()?),
                        "type" => event_type = Some(map.next_value::<Arc<str>>()?),
                        "thredId" => thred_id = map.next_value()?,
                        "re" => re = map.next_value()?,
                        "source" => source = Some(map.next_value()?),
                        "timestamp" | "time" => {
                            timestamp = map.next_value::<Option<Millis>>()?.map(|ms| ms.0)
                        }
                        "data" => data = map.next_value()?,
                        "trace" => trace = map.next_value::<Option<Arc<Value>>>()?,
                        _ => extra.insert(key.0.into_owned(), map.next_value()?),
                    }
                }
                Ok(Event {
                    id: id.ok_or_else(|| de::Error::missing_field("id"))?,
                    event_type: event_type.ok_or_else(|| de::Error::missing_field("type"))?,
                    thred_id,
                    re,
                    source: source.ok_or_else(|| de::Error::missing_field("source"))?,
                    timestamp,
                    data,
                    trace,
                    extra,
                })
            }
        }

        deserializer.deserialize_map(EventVisitor)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SourceVisitor;

        impl<'de> Visitor<'de> for SourceVisitor {
            type Value = Source;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a source object with an `id`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Source, A::Error> {
                let (mut id, mut name, mut uri) = (None, None, None);
                let mut extra = Extra::default();
                while let Some(key) = map.next_key::<Key>()? {
                    match key.0.as_ref() {
                        "id" => id = Some(map.next_value()?),
                        "name" => name = map.next_value()?,
                        "uri" => uri = map.next_value()?,
                        _ => extra.insert(key.0.into_owned(), map.next_value()?),
                    }
                }
                let id = id.ok_or_else(|| de::Error::missing_field("id"))?;
                Ok(Source { id, name, uri, extra })
            }
        }

        deserializer.deserialize_map(SourceVisitor)
    }
}

/// A key, borrowed from the input where the format allows it.
struct Key<'a>(std::borrow::Cow<'a, str>);

impl<'de> Deserialize<'de> for Key<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;

        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_borrowed_str<E: de::Error>(self, v: &'de str) -> Result<Key<'de>, E> {
                Ok(Key(v.into()))
            }

            fn visit_str<E: de::Error>(self, v: &str) -> Result<Key<'de>, E> {
                Ok(Key(v.to_owned().into()))
            }
        }

        deserializer.deserialize_identifier(KeyVisitor)
    }
}

/// Milliseconds, also when written as a float without a fraction (`1.7e12`).
struct Millis(i64);

impl<'de> Deserialize<'de> for Millis {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let ms = number.as_i64().or_else(|| {
            let float = number.as_f64()?;
            (float.fract() == 0.0 && float.abs() < 9e15).then_some(float as i64)
        });
        ms.map(Self).ok_or_else(|| {
            de::Error::custom(format_args!("{number} is not a time in milliseconds since 1970"))
        })
    }
}
