//! Paths to places in a JSON document.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
};

use serde_json::Value;

/// The path to one place in a JSON document, as `$.reactions[2].condition.publish['odd key']`.
///
/// Two places never have the same path, so that a path can be looked up as text.
///
/// ```
/// use thredlib::validate::JsonPath;
/// let path = JsonPath::root().key("reactions").index(2).key("odd key");
/// assert_eq!(path.as_str(), "$.reactions[2]['odd key']");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JsonPath(String);

impl JsonPath {
    /// The whole document, `$`.
    pub fn root() -> Self {
        Self("$".to_owned())
    }

    /// The value under a key of this object.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        let mut path = self.clone();
        push_key(&mut path.0, key);
        path
    }

    /// An item of this array.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        let mut path = self.clone();
        push_index(&mut path.0, index);
        path
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A place below this one, given as text.
    pub(super) fn below(&self, rest: &str) -> Self {
        Self(format!("{}{rest}", self.0))
    }
}

impl fmt::Display for JsonPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl PartialEq<str> for JsonPath {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for JsonPath {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

/// Numbers the places of a document that have something to say, in the order of the document.
pub(super) fn positions<'p>(
    document: &Value,
    paths: impl Iterator<Item = &'p JsonPath>,
) -> HashMap<&'p str, usize> {
    let mut positions: HashMap<&str, usize> =
        paths.map(|path| (path.as_str(), usize::MAX)).collect();
    if !positions.is_empty() {
        number(document, &mut "$".to_owned(), &mut 0, &mut positions);
    }
    positions
}

fn number(
    value: &Value,
    path: &mut String,
    next: &mut usize,
    positions: &mut HashMap<&str, usize>,
) {
    if let Some(position) = positions.get_mut(path.as_str()) {
        *position = *next;
    }
    *next += 1;
    let length = path.len();
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                push_key(path, key);
                number(child, path, next, positions);
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                push_index(path, index);
                number(child, path, next, positions);
                path.truncate(length);
            }
        }
        _ => {}
    }
}

fn push_index(path: &mut String, index: usize) {
    let _ = write!(path, "[{index}]");
}

fn push_key(path: &mut String, key: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if key.chars().all(plain) && key.starts_with(|c: char| plain(c) && !c.is_ascii_digit()) {
        path.push('.');
        path.push_str(key);
        return;
    }
    path.push_str("['");
    for c in key.chars() {
        match c {
            '\'' | '\\' => path.extend(['\\', c]),
            c if c.is_control() => path.extend(c.escape_default()),
            c => path.push(c),
        }
    }
    path.push_str("']");
}
