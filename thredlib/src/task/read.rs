//! Reading JSON into tasks: places, limits and the checks that every part shares.

use std::{cell::Cell, fmt};

use serde_json::{Map, Value};

use super::{FieldPath, TaskError, TaskLimits};

/// A place in the JSON that is being read; becomes text only in an error.
#[derive(Clone, Copy)]
pub(super) enum At<'a> {
    Root(&'a str),
    Key(&'a At<'a>, &'a str),
    Index(&'a At<'a>, usize),
}

impl<'a> At<'a> {
    pub(super) fn key(&'a self, name: &'a str) -> At<'a> {
        At::Key(self, name)
    }

    pub(super) fn index(&'a self, index: usize) -> At<'a> {
        At::Index(self, index)
    }

    pub(super) fn error(&self, message: impl Into<String>) -> TaskError {
        TaskError { path: self.to_string(), message: message.into() }
    }
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) => f.write_str(name),
            Self::Index(parent, index) => write!(f, "{parent}[{index}]"),
            Self::Key(parent, name) => {
                let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
                if !name.is_empty() && name.len() <= 64 && name.chars().all(plain) {
                    write!(f, "{parent}.{name}")
                } else {
                    write!(f, "{parent}[{}]", quoted(name))
                }
            }
        }
    }
}

/// A text from outside as it may stand in an error message: short, with escapes.
pub(super) fn quoted(text: &str) -> String {
    let mut shortened: String = text.chars().take(64).collect();
    if shortened.len() < text.len() {
        shortened.push('…');
    }
    Value::String(shortened).to_string()
}

/// What reading one list of tasks needs.
pub(super) struct Reader<'l> {
    pub(super) limits: &'l TaskLimits,
    regexes: Cell<usize>,
}

impl<'l> Reader<'l> {
    pub(super) fn new(limits: &'l TaskLimits) -> Self {
        Self { limits, regexes: Cell::new(0) }
    }

    /// Checks data that will be stored or compared, and sorts the keys of its objects.
    pub(super) fn data(&self, value: &Value, at: &At) -> Result<Value, TaskError> {
        self.data_below(value, at, self.limits.value_depth)
    }

    fn data_below(&self, value: &Value, at: &At, depth: usize) -> Result<Value, TaskError> {
        match value {
            Value::Number(number) if number.is_u64() && !number.is_i64() => {
                Err(at.error("the number does not fit 64 bits with sign; write it as a text"))
            }
            Value::Array(_) | Value::Object(_) if depth == 0 => Err(at.error(format!(
                "values may be nested {} deep; flatten them",
                self.limits.value_depth
            ))),
            Value::Array(items) => items
                .iter()
                .enumerate()
                .map(|(i, item)| self.data_below(item, &at.index(i), depth - 1))
                .collect(),
            Value::Object(map) => {
                let mut entries: Vec<_> = map.iter().collect();
                entries.sort_unstable_by_key(|(name, _)| *name);
                entries
                    .into_iter()
                    .map(|(name, value)| {
                        let at = at.key(name);
                        field_name(name, &at)?;
                        Ok((name.clone(), self.data_below(value, &at, depth - 1)?))
                    })
                    .collect()
            }
            plain => Ok(plain.clone()),
        }
    }

    /// Reads a field path.
    pub(super) fn path(&self, text: &str, at: &At) -> Result<FieldPath, TaskError> {
        self.name(text, at)?;
        if text.split('.').count() > self.limits.path_segments {
            let most = self.limits.path_segments;
            return Err(at.error(format!("a field path may have {most} segments")));
        }
        for segment in text.split('.') {
            if segment.is_empty() {
                return Err(at.error("a field path has an empty segment; remove the extra dot"));
            }
            field_name(segment, at)?;
        }
        if text.split('.').next() == Some("_id") {
            return Err(at.error("a record's key is named `id`; write `id` in place of `_id`"));
        }
        Ok(FieldPath::new_unchecked(text))
    }

    /// Checks a name that a store is addressed with.
    pub(super) fn name(&self, text: &str, at: &At) -> Result<(), TaskError> {
        if text.is_empty() {
            return Err(at.error("the name is empty; write one"));
        }
        if text.len() > self.limits.name_bytes {
            let most = self.limits.name_bytes;
            return Err(at.error(format!("the name is longer than {most} bytes; shorten it")));
        }
        if text.contains('\0') {
            return Err(at.error("the name holds a NUL character; remove it"));
        }
        Ok(())
    }

    /// Checks how many items a list has.
    pub(super) fn few(&self, items: &[Value], most: usize, at: &At) -> Result<(), TaskError> {
        if items.len() <= most {
            Ok(())
        } else {
            Err(at.error(format!("the list has {} items, at most {most} may be", items.len())))
        }
    }

    /// Compiles a `$re`.
    pub(super) fn regex(&self, text: &str, at: &At) -> Result<regex::Regex, TaskError> {
        let count = self.regexes.get() + 1;
        if count > self.limits.regexes {
            let most = self.limits.regexes;
            return Err(at.error(format!("a list of tasks may have {most} regular expressions")));
        }
        self.regexes.set(count);
        regex::RegexBuilder::new(text)
            .case_insensitive(true)
            .size_limit(self.limits.regex_bytes)
            .build()
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => {
                    at.error("the regular expression is too large; shorten it or its repetitions")
                }
                // The last line of the report says what is wrong; the others draw the place.
                other => at.error(format!(
                    "not a regular expression ({})",
                    other.to_string().lines().last().unwrap_or_default().trim()
                )),
            })
    }
}

/// Checks one name of a field.
pub(super) fn field_name(name: &str, at: &At) -> Result<(), TaskError> {
    if name.starts_with('$') {
        return Err(at.error(format!(
            "{} is no operator here, and a field's name must not start with `$`",
            quoted(name)
        )));
    }
    if name.contains('\0') {
        Err(at.error("a field's name holds a NUL character; remove it"))
    } else {
        Ok(())
    }
}

/// The object that must stand here.
pub(super) fn object<'v>(
    value: &'v Value,
    what: &str,
    at: &At,
) -> Result<&'v Map<String, Value>, TaskError> {
    value.as_object().ok_or_else(|| at.error(format!("{what} is an object, not {}", kind(value))))
}

/// The list that must stand here.
pub(super) fn list<'v>(value: &'v Value, what: &str, at: &At) -> Result<&'v [Value], TaskError> {
    value
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| at.error(format!("{what} is a list, not {}", kind(value))))
}

/// The text that must stand here.
pub(super) fn text<'v>(value: &'v Value, what: &str, at: &At) -> Result<&'v str, TaskError> {
    value.as_str().ok_or_else(|| at.error(format!("{what} is a text, not {}", kind(value))))
}

/// A value's type in words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
