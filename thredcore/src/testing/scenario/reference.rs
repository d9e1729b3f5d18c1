//! `{"$ref": "name.path"}`: values of what was named before.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use thredlib::validate::nearest;

/// What a scenario has named so far: events sent, messages received, threds; all as JSON.
#[derive(Clone, Debug, Default)]
pub struct References(BTreeMap<String, Value>);

/// A reference to what is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReferenceError(String);

impl References {
    /// Gives a value a name; the last one of a name counts.
    pub fn insert(&mut self, name: impl Into<String>, value: Value) {
        self.0.insert(name.into(), value);
    }

    /// What has that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The value with each `{"$ref": "name.path"}` in it replaced.
    ///
    /// # Errors
    /// When a reference names nothing; says what there is instead.
    pub fn resolve(&self, value: &Value) -> Result<Value, ReferenceError> {
        Ok(match value {
            Value::Object(object) => match reference(object) {
                Some(path) => self.look_up(path)?.clone(),
                None => {
                    let fields = object.iter().map(|(k, v)| Ok((k.clone(), self.resolve(v)?)));
                    Value::Object(fields.collect::<Result<_, _>>()?)
                }
            },
            Value::Array(items) => {
                Value::Array(items.iter().map(|v| self.resolve(v)).collect::<Result<_, _>>()?)
            }
            other => other.clone(),
        })
    }

    fn look_up(&self, path: &str) -> Result<&Value, ReferenceError> {
        let mut segments = path.split('.');
        let name = segments.next().unwrap_or_default();
        let root = self.0.get(name).ok_or_else(|| {
            let hint = match nearest(name, self.0.keys().map(String::as_str)) {
                Some(near) => format!("did you mean `{near}`?"),
                None => "name it with `as` or `starts` in an earlier step".to_owned(),
            };
            ReferenceError(format!("`$ref` {path:?}: nothing is named `{name}` yet; {hint}"))
        })?;
        let mut value = root;
        for segment in segments {
            let below = match value {
                Value::Object(object) => object.get(segment),
                Value::Array(items) => segment.parse().ok().and_then(|i: usize| items.get(i)),
                _ => None,
            };
            value = below.ok_or_else(|| {
                let there = match value {
                    Value::Object(object) => {
                        let keys: Vec<_> = object.keys().map(String::as_str).collect();
                        format!("there are {}", keys.join(", "))
                    }
                    Value::Array(items) => format!("there are {} items", items.len()),
                    other => format!("there is just {other}"),
                };
                ReferenceError(format!("`$ref` {path:?}: there is no `{segment}`; {there}"))
            })?;
        }
        Ok(value)
    }
}

/// The path of an object that is a reference.
pub(super) fn reference(object: &Map<String, Value>) -> Option<&str> {
    if object.len() != 1 {
        return None;
    }
    object.get("$ref")?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::References;

    fn references() -> References {
        let mut references = References::default();
        references.insert("ask", json!({ "to": ["ann", "bob"], "event": { "id": "e1" } }));
        references
    }

    #[test]
    fn paths_go_through_objects_and_arrays() {
        let value = json!({ "re": { "$ref": "ask.event.id" }, "x": [{ "$ref": "ask.to.1" }] });
        assert_eq!(references().resolve(&value).unwrap(), json!({ "re": "e1", "x": ["bob"] }));
    }

    #[test]
    fn a_wrong_reference_says_what_there_is() {
        let error = |path| references().resolve(&json!({ "$ref": path })).unwrap_err().to_string();
        assert!(error("ak.event").ends_with("did you mean `ask`?"));
        assert!(error("request.id").contains("name it with `as`"));
        assert!(error("ask.event.re").ends_with("there is no `re`; there are id"));
        assert!(error("ask.to.2").ends_with("there are 2 items"));
    }
}
