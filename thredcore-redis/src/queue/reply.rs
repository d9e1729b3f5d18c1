//! What streams answer, as types.

use std::fmt;

use redis::Value;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// The id of an entry of a stream: milliseconds and a number, in the order of adding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct EntryId(pub(super) u64, pub(super) u64);

impl EntryId {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (time, number) = text.split_once('-')?;
        Some(Self(time.parse().ok()?, number.parse().ok()?))
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// An entry of a stream.
pub(super) struct Entry {
    pub(super) id: EntryId,
    /// Names and values.
    pub(super) fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Entry {
    /// The item in it: JSON in the field `p`.
    pub(super) fn item<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let text = self.field("p").unwrap_or_default();
        serde_json::from_slice(text).map_err(|error| {
            Error::Malformed(format!("the entry {} holds no item of ours: {error}", self.id))
        })
    }

    pub(super) fn field(&self, name: &str) -> Option<&[u8]> {
        let field = self.fields.iter().find(|(key, _)| key == name.as_bytes());
        field.map(|(_, value)| value.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> String {
        String::from_utf8_lossy(self.field(name).unwrap_or_default()).into_owned()
    }
}

/// Entries, as `XRANGE` answers.
pub(super) fn entries(value: Value) -> Result<Vec<Entry>, Error> {
    array(value)?.into_iter().map(entry).collect()
}

fn entry(value: Value) -> Result<Entry, Error> {
    let mut parts = array(value)?.into_iter();
    let id = parts.next().map(text).transpose()?;
    let id = id.as_deref().and_then(EntryId::parse).ok_or_else(|| malformed("no id"))?;
    let mut values = array(parts.next().unwrap_or(Value::Nil))?.into_iter();
    let mut fields = Vec::with_capacity(values.len() / 2);
    while let (Some(name), Some(value)) = (values.next(), values.next()) {
        fields.push((bytes(name)?, bytes(value)?));
    }
    Ok(Entry { id, fields })
}

pub(super) fn array(value: Value) -> Result<Vec<Value>, Error> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(malformed(&format!("no array: {other:?}"))),
    }
}

pub(super) fn text(value: Value) -> Result<String, Error> {
    String::from_utf8(bytes(value)?).map_err(|error| malformed(&error.to_string()))
}

fn bytes(value: Value) -> Result<Vec<u8>, Error> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        other => Err(malformed(&format!("no text: {other:?}"))),
    }
}

pub(super) fn malformed(why: &str) -> Error {
    Error::Malformed(why.to_owned())
}
