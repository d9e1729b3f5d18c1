//! Selectors: which fields of a record are wanted.

use serde_json::{Map, Value};

use super::{
    FieldPath, ID, TaskError,
    path::split,
    read::{At, Reader, field_name, list, object, text},
};

/// Which fields of a record are wanted: those included (all when none is named; `id` in any case),
/// without those excluded. Paths lead into the objects of lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// The fields to give; none: all.
    pub include: Vec<FieldPath>,
    /// The fields to leave out.
    pub exclude: Vec<FieldPath>,
}

impl Selector {
    /// The record with the wanted fields alone.
    pub fn select(&self, record: &Map<String, Value>) -> Map<String, Value> {
        let mut selected = if self.include.is_empty() {
            record.clone()
        } else {
            let paths = self.include.iter().map(FieldPath::as_str).chain([ID]);
            include(record, &paths.collect::<Vec<_>>())
        };
        for path in &self.exclude {
            exclude(&mut selected, path.as_str());
        }
        selected
    }

    pub(super) fn read(value: &Value, reader: &Reader, at: &At) -> Result<Self, TaskError> {
        let mut selector = Self::default();
        for (name, value) in object(value, "a selector", at)? {
            let at = at.key(name);
            match name.as_str() {
                "include" => selector.include = read_paths(value, reader, &at)?,
                "exclude" => selector.exclude = read_paths(value, reader, &at)?,
                _ => field_name(name, &at)?,
            }
        }
        Ok(selector)
    }
}

fn read_paths(value: &Value, reader: &Reader, at: &At) -> Result<Vec<FieldPath>, TaskError> {
    if value.is_null() {
        return Ok(vec![]);
    }
    let items = list(value, "a selector's part", at)?;
    reader.few(items, reader.limits.items, at)?;
    let paths = items.iter().enumerate().map(|(i, item)| {
        let at = at.index(i);
        reader.path(text(item, "a field", &at)?, &at)
    });
    paths.collect()
}

fn include(map: &Map<String, Value>, paths: &[&str]) -> Map<String, Value> {
    let included = map.iter().filter_map(|(name, value)| {
        let below: Vec<_> = paths
            .iter()
            .map(|path| split(path))
            .filter(|(head, _)| head == name)
            .map(|(_, rest)| rest)
            .collect();
        if below.is_empty() {
            return None;
        }
        let value = match below.into_iter().collect::<Option<Vec<_>>>() {
            Some(paths) => include_below(value, &paths)?,
            None => value.clone(),
        };
        Some((name.clone(), value))
    });
    included.collect()
}

/// A plain value has no fields to include.
fn include_below(value: &Value, paths: &[&str]) -> Option<Value> {
    match value {
        Value::Object(map) => Some(Value::Object(include(map, paths))),
        Value::Array(items) => {
            Some(items.iter().filter_map(|item| include_below(item, paths)).collect())
        }
        _ => None,
    }
}

fn exclude(map: &mut Map<String, Value>, path: &str) {
    match split(path) {
        (name, None) => map.retain(|key, _| key != name),
        (name, Some(rest)) => {
            if let Some(value) = map.get_mut(name) {
                exclude_below(value, rest);
            }
        }
    }
}

fn exclude_below(value: &mut Value, path: &str) {
    match value {
        Value::Object(map) => exclude(map, path),
        Value::Array(items) => items.iter_mut().for_each(|item| exclude_below(item, path)),
        _ => {}
    }
}
