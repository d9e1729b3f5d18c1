//! The order of JSON values, as MongoDB has it.

use std::cmp::Ordering;

use serde_json::{Map, Number, Value};

/// Orders any two values: null, numbers, texts, objects, lists, booleans; within a type by value,
/// lists item by item, objects entry by entry in the order of their keys.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => compare_numbers(a, b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => compare_lists(a, b),
        (Value::Object(a), Value::Object(b)) => compare_objects(a, b),
        _ => rank(a).cmp(&rank(b)),
    }
}

/// Whether two values are equal: numbers by value, objects whatever the order of their keys.
pub fn same(a: &Value, b: &Value) -> bool {
    compare(a, b).is_eq()
}

/// The place of a value's type among the types.
pub(super) fn rank(value: &Value) -> u8 {
    match value {
        Value::Null => 0,
        Value::Number(_) => 1,
        Value::String(_) => 2,
        Value::Object(_) => 3,
        Value::Array(_) => 4,
        Value::Bool(_) => 5,
    }
}

fn compare_lists(a: &[Value], b: &[Value]) -> Ordering {
    let first_difference = a.iter().zip(b).map(|(a, b)| compare(a, b)).find(|order| order.is_ne());
    first_difference.unwrap_or_else(|| a.len().cmp(&b.len()))
}

/// Entry by entry: type, then name, then value.
fn compare_objects(a: &Map<String, Value>, b: &Map<String, Value>) -> Ordering {
    let (a_sorted, b_sorted) = (sorted(a), sorted(b));
    let mut entries = a_sorted.iter().zip(&b_sorted);
    let first_difference = entries
        .by_ref()
        .map(|((a_name, a), (b_name, b))| {
            rank(a).cmp(&rank(b)).then_with(|| a_name.cmp(b_name)).then_with(|| compare(a, b))
        })
        .find(|order| order.is_ne());
    first_difference.unwrap_or_else(|| a.len().cmp(&b.len()))
}

fn sorted(map: &Map<String, Value>) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = map.iter().collect();
    entries.sort_unstable_by_key(|(name, _)| *name);
    entries
}

/// By value and exactly: a large integer is not rounded to meet a float.
fn compare_numbers(a: &Number, b: &Number) -> Ordering {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a.cmp(&b),
        (Some(a), None) => compare_with_float(a, float(b)),
        (None, Some(b)) => compare_with_float(b, float(a)).reverse(),
        (None, None) => float(a).partial_cmp(&float(b)).unwrap_or(Ordering::Equal),
    }
}

fn float(number: &Number) -> f64 {
    number.as_f64().unwrap_or_default()
}

/// The cast saturates far outside of what an integer in JSON can be, so it keeps the order.
fn compare_with_float(a: i128, b: f64) -> Ordering {
    a.cmp(&(b.trunc() as i128))
        .then_with(|| 0.0_f64.partial_cmp(&b.fract()).unwrap_or(Ordering::Equal))
}
