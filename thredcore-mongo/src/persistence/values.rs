//! Records as documents, and back.

use mongodb::bson::{Bson, Document};
use serde_json::{Map, Value};
use thredlib::task::ID;

/// What MongoDB calls a record's key.
pub(super) const KEY: &str = "_id";

/// A record as a document: its `id` is MongoDB's `_id`.
pub(super) fn document(record: &Map<String, Value>) -> Document {
    let name = |name: &str| if name == ID { KEY.to_owned() } else { name.to_owned() };
    record.iter().map(|(field, value)| (name(field), bson(value))).collect()
}

/// A value. The keys of objects are sorted, since MongoDB compares objects in the order of theirs.
pub(super) fn bson(value: &Value) -> Bson {
    match value {
        Value::Null => Bson::Null,
        Value::Bool(value) => Bson::Boolean(*value),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Bson::Int64(integer),
            None => Bson::Double(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Bson::String(text.clone()),
        Value::Array(items) => Bson::Array(items.iter().map(bson).collect()),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by_key(|(name, _)| *name);
            let entries = entries.into_iter().map(|(name, value)| (name.clone(), bson(value)));
            Bson::Document(entries.collect())
        }
    }
}

/// The record in a document.
pub(super) fn record(document: Document) -> Map<String, Value> {
    let name = |name: String| if name == KEY { ID.to_owned() } else { name };
    document.into_iter().map(|(field, value)| (name(field), json(value))).collect()
}

/// A value; what JSON has no type for, and other programs may have stored, as a text or a number.
fn json(value: Bson) -> Value {
    match value {
        Bson::Null | Bson::Undefined => Value::Null,
        Bson::Boolean(value) => value.into(),
        Bson::Int32(number) => number.into(),
        Bson::Int64(number) => number.into(),
        Bson::Double(number) => number.into(),
        Bson::String(text) => text.into(),
        Bson::Array(items) => items.into_iter().map(json).collect(),
        Bson::Document(document) => {
            document.into_iter().map(|(name, value)| (name, json(value))).collect()
        }
        Bson::ObjectId(id) => id.to_hex().into(),
        Bson::DateTime(time) => time.timestamp_millis().into(),
        other => other.to_string().into(),
    }
}
