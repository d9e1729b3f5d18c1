//! Threds as other people see them.

use serde_json::{Map, Value, json};

use crate::state::ThredState;

/// A thred in short, as control events tell it: without locals and inbox.
pub fn summary(state: &ThredState) -> Value {
    json!({
        "id": state.id,
        "patternId": state.pattern.id,
        "status": state.status,
        "reaction": state.reaction,
        "version": state.version,
        "label": state.label,
        "description": state.description,
        "display": state.display,
        "participants": state.participants,
        "parent": state.parent,
        "children": state.children,
        "startedAt": state.started_at,
        "modifiedAt": state.modified_at,
        "expiresAt": state.expires_at,
    })
}

/// About how many bytes an object takes as JSON, without writing it.
pub(super) fn json_size(map: &Map<String, Value>) -> usize {
    map.iter().map(|(key, value)| key.len() + 4 + value_size(value)).sum::<usize>() + 2
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) => 5,
        Value::Number(_) => 8,
        Value::String(text) => text.len() + 2,
        Value::Array(items) => items.iter().map(|item| value_size(item) + 1).sum::<usize>() + 2,
        Value::Object(map) => json_size(map),
    }
}
