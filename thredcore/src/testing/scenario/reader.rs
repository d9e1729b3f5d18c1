//! Reads JSON objects key by key, so that each error says where and what would be right.

use serde_json::{Map, Value};
use thredlib::validate::{kind_of, nearest};

/// Something wrong at a place of a document.
#[derive(Debug)]
pub(super) struct Wrong {
    /// The JSON path, as `$.steps[2].send`.
    pub(super) at: String,
    /// What is wrong, with the remedy.
    pub(super) message: String,
}

pub(super) fn wrong<T>(at: &str, message: impl Into<String>) -> Result<T, Wrong> {
    Err(Wrong { at: at.to_owned(), message: message.into() })
}

/// An object whose keys are taken one after the other; what is left in the end is unknown.
pub(super) struct Fields<'v> {
    at: String,
    left: Map<String, Value>,
    known: &'v [&'v str],
}

impl<'v> Fields<'v> {
    /// Takes an object that has no other keys than these.
    pub(super) fn of(value: Value, at: &str, known: &'v [&'v str]) -> Result<Self, Wrong> {
        let Value::Object(left) = value else {
            return wrong(at, format!("this is {}, write an object", kind_of(&value)));
        };
        for key in left.keys() {
            if !known.contains(&key.as_str()) {
                let hint = match nearest(key, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known are {}", known.join(", ")),
                };
                return wrong(&format!("{at}.{key}"), format!("unknown key `{key}`; {hint}"));
            }
        }
        Ok(Self { at: at.to_owned(), left, known })
    }

    /// Where a key of the object stands.
    pub(super) fn at(&self, key: &str) -> String {
        format!("{}.{key}", self.at)
    }

    /// Takes a key, whatever its value.
    pub(super) fn take(&mut self, key: &str) -> Option<Value> {
        debug_assert!(self.known.contains(&key), "{key} is not among the known keys");
        self.left.swap_remove(key)
    }

    /// Takes a key through a reader that knows the kind of value.
    pub(super) fn read<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(Value, &str) -> Result<T, Wrong>,
    ) -> Result<Option<T>, Wrong> {
        self.take(key).map(|value| read(value, &self.at(key))).transpose()
    }

    /// Takes a key that must be there.
    pub(super) fn require<T>(
        &mut self,
        key: &str,
        read: impl FnOnce(Value, &str) -> Result<T, Wrong>,
    ) -> Result<T, Wrong> {
        match self.read(key, read)? {
            Some(value) => Ok(value),
            None => wrong(&self.at, format!("`{key}` is missing")),
        }
    }
}

pub(super) fn text(value: Value, at: &str) -> Result<String, Wrong> {
    match value {
        Value::String(text) => Ok(text),
        other => wrong(at, format!("this is {}, write a text", kind_of(&other))),
    }
}

pub(super) fn boolean(value: Value, at: &str) -> Result<bool, Wrong> {
    match value {
        Value::Bool(value) => Ok(value),
        other => wrong(at, format!("this is {}, write true or false", kind_of(&other))),
    }
}

/// A key that is only ever `true`.
pub(super) fn only_true(value: Value, at: &str) -> Result<(), Wrong> {
    match value {
        Value::Bool(true) => Ok(()),
        other => wrong(at, format!("{other} says nothing here; write true, or leave the step out")),
    }
}

pub(super) fn count(value: Value, at: &str) -> Result<u64, Wrong> {
    match value.as_u64() {
        Some(count) => Ok(count),
        None => wrong(at, format!("{value} is no count; write a whole number from 0")),
    }
}

pub(super) fn list<T>(
    value: Value,
    at: &str,
    read: impl Fn(Value, &str) -> Result<T, Wrong>,
) -> Result<Vec<T>, Wrong> {
    match value {
        Value::Array(items) => {
            let items = items.into_iter().enumerate();
            items.map(|(index, item)| read(item, &format!("{at}[{index}]"))).collect()
        }
        other => wrong(at, format!("this is {}, write a list", kind_of(&other))),
    }
}
