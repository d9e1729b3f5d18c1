//! Between serde_json's values and those of the interpreter.

use jsonata_core::value::{JArray, JMap, JValue};
use serde_json::{Map, Number, Value};

use super::exact;
use crate::{
    Event, ExprLimits, Extra, Source,
    json::{self, Members, View},
};

/// Why a value cannot leave the interpreter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// It holds a function.
    Function,
    /// It holds a number that is infinite, or none.
    OutOfRange,
    /// It goes over the named limit.
    Limit(&'static str),
}

/// What is said of numbers that JSON does not have.
pub(super) const OUT_OF_RANGE: &str =
    "D1001: number out of range; a division by zero gives one, for example";

pub(super) fn to_interpreter<'a>(value: impl Into<View<'a>>) -> JValue {
    match value.into() {
        View::Null => JValue::Null,
        View::Bool(b) => JValue::Bool(b),
        View::Number(n) => match n.beyond_double() {
            Some(n) => exact::boxed(n),
            None => JValue::Number(n.as_f64()),
        },
        View::Text(s) => JValue::string(s),
        View::Array(items) => {
            let flat = !items.iter().any(|item| matches!(item, View::Array(_)));
            let items = items.iter().map(to_interpreter).collect();
            JValue::Array(JArray::new_flat(items, flat))
        }
        View::Object(members) => map_to_interpreter(members),
    }
}

/// The mark by which the interpreter knows objects of its own that bind variables. From an event
/// it would be taken for that.
const MARK: &str = "__tuple__";

pub(super) fn map_to_interpreter<'a>(members: impl Into<Members<'a>>) -> JValue {
    let unmarked = members.into().iter().filter(|(key, _)| *key != MARK);
    object(unmarked.map(|(key, value)| (key.to_owned(), to_interpreter(value))))
}

pub(super) fn object(entries: impl Iterator<Item = (String, JValue)>) -> JValue {
    JValue::Object(entries.collect::<JMap>().into())
}

/// The event as expressions see it: as its JSON, with the timestamp under both of its names.
pub(super) fn event_to_interpreter(event: &Event) -> JValue {
    let text = |s: &str| JValue::string(s);
    let known = [
        ("id", Some(text(event.id.as_str()))),
        ("type", Some(text(&event.event_type))),
        ("thredId", event.thred_id.as_ref().map(|id| text(id.as_str()))),
        ("re", event.re.as_ref().map(|id| text(id.as_str()))),
        ("source", Some(source_to_interpreter(&event.source))),
        ("timestamp", event.timestamp.map(JValue::from_i64)),
        ("time", event.timestamp.map(JValue::from_i64)),
        ("data", event.data.as_ref().map(|data| map_to_interpreter(data.view()))),
        ("trace", event.trace.as_deref().map(to_interpreter)),
    ];
    with_extra(known.into_iter(), &event.extra)
}

fn source_to_interpreter(source: &Source) -> JValue {
    let known = [
        ("id", Some(JValue::string(source.id.as_str()))),
        ("name", source.name.as_deref().map(JValue::string)),
        ("uri", source.uri.as_deref().map(JValue::string)),
    ];
    with_extra(known.into_iter(), &source.extra)
}

fn with_extra(
    known: impl Iterator<Item = (&'static str, Option<JValue>)>,
    extra: &Extra,
) -> JValue {
    let known = known.filter_map(|(key, value)| Some((key.to_owned(), value?)));
    object(known.chain(extra.iter().map(|(key, value)| (key.clone(), to_interpreter(value)))))
}

/// The value as data; `None` when it is undefined. Whole numbers become integers.
pub(super) fn from_interpreter(
    value: &JValue,
    limits: &ExprLimits,
) -> Result<Option<Value>, Refused> {
    let mut export = Export { bytes: limits.result_bytes };
    export.value(value, limits.result_depth())
}

/// A number as a result has it: whole ones as integers.
pub(super) fn number(n: f64) -> Value {
    const I64_END: f64 = 9_223_372_036_854_775_808.0;
    if n.fract() == 0.0 && n.abs() < I64_END {
        Value::Number(Number::from(n as i64))
    } else if n.fract() == 0.0 && (I64_END..2.0 * I64_END).contains(&n) {
        Value::Number(Number::from(n as u64))
    } else {
        Number::from_f64(n).map_or(Value::Null, Value::Number)
    }
}

/// An integer that a double cannot hold, as a result has it.
pub(super) fn integer(n: i128) -> Value {
    json::exact::to_json(n).map_or(Value::Null, Value::Number)
}

/// Counts the bytes that the JSON will have before it allocates them.
struct Export {
    bytes: usize,
}

impl Export {
    fn value(&mut self, value: &JValue, depth: usize) -> Result<Option<Value>, Refused> {
        Ok(Some(match value {
            JValue::Undefined => return Ok(None),
            JValue::Null => self.fixed(4, Value::Null)?,
            JValue::Bool(b) => self.fixed(5, Value::Bool(*b))?,
            JValue::Number(n) if !n.is_finite() => return Err(Refused::OutOfRange),
            JValue::Number(n) => self.fixed(8, number(*n))?,
            JValue::String(s) => {
                self.take(s.len() + 2)?;
                Value::String(s.to_string())
            }
            JValue::Array(items) => {
                let depth = deeper(depth)?;
                self.take(items.len() + 2)?;
                let mut array = Vec::with_capacity(items.len());
                for item in items {
                    array.push(self.value(item, depth)?.unwrap_or(Value::Null));
                }
                Value::Array(array)
            }
            JValue::Object(entries) => {
                let depth = deeper(depth)?;
                self.take(2)?;
                let mut map = Map::new();
                for (key, item) in entries.iter() {
                    self.take(key.len() + 4)?;
                    if let Some(item) = self.value(item, depth)? {
                        map.insert(key.clone(), item);
                    }
                }
                Value::Object(map)
            }
            other => match exact::unboxed(other) {
                Some(n) => self.fixed(20, integer(n))?,
                None => return Err(Refused::Function),
            },
        }))
    }

    fn fixed(&mut self, bytes: usize, value: Value) -> Result<Value, Refused> {
        self.take(bytes).map(|()| value)
    }

    fn take(&mut self, bytes: usize) -> Result<(), Refused> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Refused::Limit("size"))?;
        Ok(())
    }
}

fn deeper(depth: usize) -> Result<usize, Refused> {
    depth.checked_sub(1).ok_or(Refused::Limit("depth"))
}
