//! Partial matching: what an expectation leaves out may be anything.

use std::fmt;

use serde_json::Value;

/// One place where something is not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Where, as `event.data.title` or `to[1]`; empty for the whole.
    pub path: String,
    /// What was expected.
    pub expected: String,
    /// What was there.
    pub actual: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "expected {}, found {}", self.expected, self.actual)
    }
}

/// Compares a value with an expectation; no difference means that it matches.
///
/// An object matches when each key listed matches; an array item by item and in length; numbers
/// by value. `{"$any": true}` is anything present, `{"$absent": true}` nothing, `{"$contains":
/// "text"}` a text with that in it (or an array with a matching item), `{"$matches": "regex"}` a
/// text that the regular expression finds.
///
/// ```
/// use serde_json::json;
/// use thredcore::testing::scenario::differences;
///
/// let expected = json!({ "title": { "$contains": "Approve" }, "error": { "$absent": true } });
/// assert!(differences(&expected, &json!({ "title": "Approve?", "n": 1 })).is_empty());
/// let [difference] = &differences(&expected, &json!({ "title": "Reject" }))[..] else { panic!() };
/// assert_eq!(difference.path, "title");
/// ```
pub fn differences(expected: &Value, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    compare(expected, Some(actual), &mut String::new(), &mut found);
    found
}

/// Compares recipients without regard to their order.
pub fn recipient_differences(expected: &[Value], actual: &[Value]) -> Vec<Difference> {
    let mut left: Vec<&Value> = actual.iter().collect();
    let all_found = expected.iter().all(|wanted| {
        let place = left.iter().position(|item| differences(wanted, item).is_empty());
        place.map(|place| left.remove(place)).is_some()
    });
    if all_found && left.is_empty() {
        return Vec::new();
    }
    let list = |items: &[Value]| {
        let mut items: Vec<_> = items.iter().map(Value::to_string).collect();
        items.sort();
        format!("[{}]", items.join(", "))
    };
    vec![Difference { path: String::new(), expected: list(expected), actual: list(actual) }]
}

/// The operator that an expectation consists of, if it is one.
pub(super) fn operator(expected: &Value) -> Option<(&str, &Value)> {
    let object = expected.as_object().filter(|object| object.len() == 1)?;
    let (key, value) = object.iter().next()?;
    matches!(key.as_str(), "$any" | "$absent" | "$contains" | "$matches")
        .then_some((key.as_str(), value))
}

fn compare(
    expected: &Value,
    actual: Option<&Value>,
    path: &mut String,
    found: &mut Vec<Difference>,
) {
    let as_expected = match (operator(expected), actual) {
        (Some((operator, argument)), actual) => operator_holds(operator, argument, actual),
        (None, None) => false,
        (None, Some(actual)) => match (expected, actual) {
            (Value::Object(wanted), Value::Object(object)) => {
                for (key, wanted) in wanted {
                    let dot = if path.is_empty() { "" } else { "." };
                    let item = object.get(key);
                    below(path, &format!("{dot}{key}"), |path| compare(wanted, item, path, found));
                }
                return;
            }
            (Value::Array(wanted), Value::Array(items)) if wanted.len() == items.len() => {
                for (index, (wanted, item)) in wanted.iter().zip(items).enumerate() {
                    below(path, &format!("[{index}]"), |path| {
                        compare(wanted, Some(item), path, found);
                    });
                }
                return;
            }
            (Value::Number(wanted), Value::Number(number)) => same_number(wanted, number),
            (wanted, value) => wanted == value,
        },
    };
    if !as_expected {
        found.push(Difference {
            path: path.clone(),
            expected: describe(expected),
            actual: actual.map_or_else(|| "nothing".to_owned(), describe_actual),
        });
    }
}

fn below(path: &mut String, segment: &str, visit: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push_str(segment);
    visit(path);
    path.truncate(length);
}

fn operator_holds(operator: &str, argument: &Value, actual: Option<&Value>) -> bool {
    match (operator, argument, actual) {
        ("$any", _, actual) => actual.is_some(),
        ("$absent", _, actual) => actual.is_none(),
        ("$contains", Value::String(part), Some(Value::String(text))) => text.contains(part),
        ("$contains", wanted, Some(Value::Array(items))) => {
            items.iter().any(|item| differences(wanted, item).is_empty())
        }
        ("$matches", Value::String(pattern), Some(Value::String(text))) => {
            regex::Regex::new(pattern).is_ok_and(|regex| regex.is_match(text))
        }
        _ => false,
    }
}

fn same_number(a: &serde_json::Number, b: &serde_json::Number) -> bool {
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a == b,
        _ => a.as_f64() == b.as_f64(),
    }
}

fn describe(expected: &Value) -> String {
    match operator(expected) {
        Some(("$any", _)) => "anything".into(),
        Some(("$absent", _)) => "nothing".into(),
        Some(("$contains", part)) => format!("something with {part} in it"),
        Some((_, pattern)) => format!("a text that matches {pattern}"),
        None => shortened(expected),
    }
}

fn describe_actual(actual: &Value) -> String {
    match actual {
        Value::Array(items) => format!("{} ({} items)", shortened(actual), items.len()),
        _ => shortened(actual),
    }
}

fn shortened(value: &Value) -> String {
    const MOST: usize = 300;
    let text = value.to_string();
    match text.char_indices().nth(MOST) {
        Some((cut, _)) => format!("{}…", &text[..cut]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{differences, recipient_differences};

    fn check(expected: Value, actual: Value, paths: &[&str]) {
        let found = differences(&expected, &actual);
        let found: Vec<_> = found.iter().map(|difference| difference.path.as_str()).collect();
        assert_eq!(found, paths, "{expected} against {actual}");
    }

    #[test]
    fn objects_match_by_the_keys_listed() {
        check(json!({ "a": 1 }), json!({ "a": 1, "b": 2 }), &[]);
        check(json!({ "a": { "b": 1 }, "c": 2 }), json!({ "a": { "b": 3 } }), &["a.b", "c"]);
        check(json!({}), json!([]), &[""]);
    }

    #[test]
    fn arrays_match_item_by_item_and_in_length() {
        check(json!([1, { "a": 1 }]), json!([1, { "a": 1, "b": 2 }]), &[]);
        check(json!({ "x": [1, 2] }), json!({ "x": [1, 3] }), &["x[1]"]);
        check(json!([1]), json!([1, 2]), &[""]);
    }

    #[test]
    fn numbers_match_by_value() {
        check(json!(7), json!(7.0), &[]);
        check(json!(u64::MAX), json!(u64::MAX), &[]);
        check(json!(9_007_199_254_740_993_i64), json!(9_007_199_254_740_992_i64), &[""]);
        check(json!(7), json!("7"), &[""]);
    }

    #[test]
    fn operators_replace_a_value() {
        check(json!({ "a": { "$any": true } }), json!({ "a": null }), &[]);
        check(json!({ "a": { "$any": true } }), json!({}), &["a"]);
        check(json!({ "a": { "$absent": true } }), json!({}), &[]);
        check(json!({ "a": { "$absent": true } }), json!({ "a": null }), &["a"]);
        check(json!({ "$contains": "ell" }), json!("hello"), &[]);
        check(json!({ "$contains": { "a": 1 } }), json!([2, { "a": 1, "b": 2 }]), &[]);
        check(json!({ "$matches": "^h.*o$" }), json!("hello"), &[]);
        check(json!({ "$matches": "^e" }), json!("hello"), &[""]);
        check(json!({ "$other": true }), json!({ "$other": true }), &[]);
    }

    #[test]
    fn a_difference_reads_as_a_sentence() {
        let found = differences(&json!({ "a": { "b": "x" } }), &json!({ "a": {} }));
        assert_eq!(found[0].to_string(), "a.b: expected \"x\", found nothing");
    }

    #[test]
    fn recipients_have_no_order() {
        let lists = |a: Value, b: Value| {
            recipient_differences(a.as_array().unwrap(), b.as_array().unwrap()).len()
        };
        assert_eq!(lists(json!(["a", "b"]), json!(["b", "a"])), 0);
        assert_eq!(lists(json!(["a"]), json!(["b", "a"])), 1);
        assert_eq!(lists(json!(["a", "a"]), json!(["a", "b"])), 1);
    }
}
