//! Records.

use std::{fmt, sync::Arc};

use serde_json::{Map, Value};

use super::{
    TaskError,
    read::{At, Reader, field_name, object, text},
};

/// The field that holds a record's key.
pub const ID: &str = "id";
/// The field that holds when a record was made, milliseconds since the Unix epoch.
pub const CREATED: &str = "created";
/// The field that holds when a record last changed, milliseconds since the Unix epoch.
pub const MODIFIED: &str = "modified";

/// The name of a set of records: free of `$` and NUL, not below `system.`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RecordType(Arc<str>);

impl RecordType {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub(super) fn read(value: &Value, reader: &Reader, at: &At) -> Result<Self, TaskError> {
        let name = text(value, "`type`", at)?;
        reader.name(name, at)?;
        if name.contains('$') || name.chars().any(char::is_control) {
            return Err(at.error("a type's name must not hold `$` or control characters"));
        }
        if name.starts_with('.') || name.ends_with('.') || name.contains("..") {
            return Err(at.error("a type's name has an empty part; remove the extra dot"));
        }
        if name.starts_with("system.") {
            return Err(at.error("names below `system.` belong to the store; choose another"));
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Debug for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for RecordType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A record to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Record {
    /// Its key, if it came with one.
    pub id: Option<String>,
    /// Its fields, without `id`, `created` and `modified`.
    pub fields: Map<String, Value>,
}

impl Record {
    /// The record as it is stored.
    pub fn stored(&self, id: &str, created: i64, modified: i64) -> Map<String, Value> {
        let own = [(ID.to_owned(), id.into())];
        let times = [(CREATED.to_owned(), created.into()), (MODIFIED.to_owned(), modified.into())];
        own.into_iter().chain(self.fields.clone()).chain(times).collect()
    }

    pub(super) fn read(value: &Value, reader: &Reader, at: &At) -> Result<Self, TaskError> {
        let mut record = Self::default();
        for (name, value) in object(value, "a record", at)? {
            let at = at.key(name);
            match name.as_str() {
                ID => record.id = read_id(value, reader, &at)?,
                CREATED | MODIFIED => {}
                "_id" => {
                    return Err(at.error("a record's key is named `id`; write `id` instead"));
                }
                _ => {
                    field_name(name, &at)?;
                    record.fields.insert(name.clone(), reader.data(value, &at)?);
                }
            }
        }
        Ok(record)
    }
}

/// The key of a record; null is none.
pub(super) fn read_id(
    value: &Value,
    reader: &Reader,
    at: &At,
) -> Result<Option<String>, TaskError> {
    if value.is_null() {
        return Ok(None);
    }
    let id = text(value, "a record's `id`", at)?;
    reader.name(id, at)?;
    Ok(Some(id.to_owned()))
}
