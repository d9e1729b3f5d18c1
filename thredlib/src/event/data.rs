//! The payload of an event.

use std::{fmt, sync::OnceLock};

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::json::{Builder, Built, Compact, Members, View};

/// The payload of an event: a JSON object. The well-known fields (`title`, `description`,
/// `display`, `advice`, `content`, `error`) are read through [`Event`](super::Event)'s methods.
///
/// What was read or rendered is kept in a compact form, and becomes a map when one is asked for.
/// [`view`](Self::view) looks at either.
#[derive(Clone)]
pub struct EventData(Kept);

#[derive(Clone)]
enum Kept {
    Map(Map<String, Value>),
    /// An object, and the same as a map once somebody has asked for that.
    Compact(Compact, OnceLock<Box<Map<String, Value>>>),
}

impl EventData {
    /// Payload with the given values at `content.values`.
    pub fn with_values(values: impl Into<Value>) -> Self {
        let content = Value::Object(Map::from_iter([("values".to_owned(), values.into())]));
        Map::from_iter([("content".to_owned(), content)]).into()
    }

    /// `None` when it is no object.
    pub(crate) fn built(built: Built) -> Option<Self> {
        match built {
            Built::Compact(compact) => match compact.root() {
                View::Object(_) => Some(Self(Kept::Compact(compact, OnceLock::new()))),
                _ => None,
            },
            Built::Value(Value::Object(map)) => Some(map.into()),
            Built::Value(_) => None,
        }
    }

    /// The payload's fields, without a copy.
    pub fn view(&self) -> Members<'_> {
        match &self.0 {
            Kept::Map(map) => map.into(),
            Kept::Compact(compact, _) => match compact.root() {
                View::Object(members) => members,
                _ => unreachable!("a payload is an object"),
            },
        }
    }

    /// More bytes than it can take as JSON, where that is known without writing it.
    pub fn max_json_bytes(&self) -> Option<usize> {
        match &self.0 {
            Kept::Map(_) => None,
            Kept::Compact(compact, _) => Some(compact.max_json_bytes()),
        }
    }

    /// A field of the payload.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_map().get(key)
    }

    /// The payload as a JSON object; made at the first call, if the payload was read or rendered.
    pub fn as_map(&self) -> &Map<String, Value> {
        match &self.0 {
            Kept::Map(map) => map,
            Kept::Compact(_, map) => map.get_or_init(|| Box::new(self.view().to_map())),
        }
    }

    /// The payload as a JSON object, to change it.
    pub fn as_map_mut(&mut self) -> &mut Map<String, Value> {
        if let Kept::Compact(..) = self.0 {
            self.0 = Kept::Map(self.view().to_map());
        }
        match &mut self.0 {
            Kept::Map(map) => map,
            Kept::Compact(..) => unreachable!("just made a map"),
        }
    }

    /// Gives up the JSON object.
    pub fn into_map(mut self) -> Map<String, Value> {
        std::mem::take(self.as_map_mut())
    }
}

impl Default for EventData {
    fn default() -> Self {
        Map::new().into()
    }
}

impl From<Map<String, Value>> for EventData {
    fn from(map: Map<String, Value>) -> Self {
        Self(Kept::Map(map))
    }
}

impl fmt::Debug for EventData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EventData").field(self.as_map()).finish()
    }
}

impl PartialEq for EventData {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Kept::Compact(a, _), Kept::Compact(b, _)) if a == b => true,
            // The order of members does not count.
            _ => self.as_map() == other.as_map(),
        }
    }
}

impl Serialize for EventData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.view().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EventData {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let built = Builder::read_object(deserializer)?;
        Self::built(built).ok_or_else(|| serde::de::Error::custom("the payload is no object"))
    }
}
