//! Where two JSON values differ.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::cli::{diagnostics::printable, text};

/// A place where what is stored and what follows differ.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Difference {
    /// The version that the step leads to.
    pub(super) version: u64,
    /// The JSON path in the step's record, or in the state.
    pub(super) path: String,
    /// What is stored.
    pub(super) expected: Found,
    /// What follows from the history.
    pub(super) found: Found,
}

/// What stands at a place.
#[derive(Debug, PartialEq)]
pub(super) enum Found {
    Value(Value),
    Nothing,
    /// Nothing follows, and why.
    Failure(String),
}

impl Serialize for Found {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::Nothing => serializer.serialize_none(),
            Self::Failure(why) => serializer.serialize_str(why),
        }
    }
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => f.write_str(&text::value(value)),
            Self::Nothing => f.write_str("nothing"),
            Self::Failure(why) => f.write_str(&printable(why)),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { version, path, expected, found } = self;
        write!(f, "version {version}")?;
        if !path.is_empty() {
            write!(f, ", {}", printable(path))?;
        }
        write!(f, ":\n  stored    {expected}\n  computed  {found}")
    }
}

/// All places where two values differ; if they hold the same in another order, that is one.
pub(super) fn differences(
    version: u64,
    root: &str,
    expected: &Value,
    found: &Value,
) -> Vec<Difference> {
    let mut list = Vec::new();
    descend(root, Some(expected), Some(found), &mut |path, expected, found| {
        let of = |value: Option<&Value>| value.cloned().map_or(Found::Nothing, Found::Value);
        let (expected, found) = (of(expected), of(found));
        list.push(Difference { version, path: path.to_owned(), expected, found });
    });
    if list.is_empty() {
        let (expected, found) = (Found::Value(expected.clone()), Found::Value(found.clone()));
        list.push(Difference { version, path: root.to_owned(), expected, found });
    }
    list
}

type Report<'r> = dyn FnMut(&str, Option<&Value>, Option<&Value>) + 'r;

fn descend(path: &str, left: Option<&Value>, right: Option<&Value>, report: &mut Report<'_>) {
    let dot = if path.is_empty() { "" } else { "." };
    match (left, right) {
        (Some(Value::Object(left)), Some(Value::Object(right))) => {
            let more = right.keys().filter(|key| !left.contains_key(*key));
            for key in left.keys().chain(more) {
                descend(&format!("{path}{dot}{key}"), left.get(key), right.get(key), report);
            }
        }
        (Some(Value::Array(left)), Some(Value::Array(right))) => {
            for index in 0..left.len().max(right.len()) {
                descend(&format!("{path}[{index}]"), left.get(index), right.get(index), report);
            }
        }
        (left, right) if left == right => {}
        (left, right) => report(path, left, right),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_is_named() {
        let stored = json!({ "a": [1, { "b": 2 }], "c": null, "same": [1] });
        let computed = json!({ "a": [1, { "b": 3 }, 4], "d": "x", "same": [1] });
        let list = differences(7, "state", &stored, &computed);
        let told: Vec<_> = list.iter().map(ToString::to_string).collect();
        assert_eq!(
            told,
            [
                "version 7, state.a[1].b:\n  stored    2\n  computed  3",
                "version 7, state.a[2]:\n  stored    nothing\n  computed  4",
                "version 7, state.c:\n  stored    null\n  computed  nothing",
                "version 7, state.d:\n  stored    nothing\n  computed  \"x\"",
            ]
        );
    }

    #[test]
    fn another_order_is_a_difference() {
        let (left, right) = (json!({ "a": 1, "b": 2 }), json!({ "b": 2, "a": 1 }));
        assert_eq!(differences(1, "", &left, &right).len(), 1);
    }
}
