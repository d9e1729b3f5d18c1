//! What an expectation says about what is there.

use std::collections::VecDeque;

use serde_json::{Value, json};
use thredlib::Message;

use super::{
    matcher::{Difference, differences, operator, recipient_differences},
    model::{MessageExpectation, ThredExpectation},
    reference::ReferenceError,
    report::message_line,
};

/// Why a step failed, in lines of text.
#[derive(Debug)]
pub(super) struct Mismatch(Vec<String>);

impl Mismatch {
    pub(super) fn says(line: impl Into<String>) -> Self {
        Self(vec![line.into()])
    }

    pub(super) fn of(lines: Vec<String>) -> Self {
        Self(lines)
    }

    pub(super) fn differs(headline: impl Into<String>, differences: Vec<Difference>) -> Self {
        let differences = differences.iter().map(Difference::to_string);
        Self(std::iter::once(headline.into()).chain(differences).collect())
    }

    pub(super) fn lines(self) -> Vec<String> {
        self.0
    }
}

impl From<ReferenceError> for Mismatch {
    fn from(error: ReferenceError) -> Self {
        Self::says(error.to_string())
    }
}

/// Messages are there that should not be.
pub(super) fn unclaimed(messages: &VecDeque<Message>, when: &str) -> Mismatch {
    let count = messages.len();
    let mut lines = vec![match count {
        1 => format!("a message is left unclaimed {when}"),
        _ => format!("{count} messages are left unclaimed {when}"),
    }];
    lines.extend(messages.iter().map(message_line));
    Mismatch(lines)
}

pub(super) fn message(expected: &MessageExpectation, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    if let Some(to) = &expected.to {
        found.extend(as_set("to", to, &actual["to"]));
    }
    if let Some(event) = &expected.event {
        found.extend(below("event", differences(event, &actual["event"])));
    }
    found
}

/// Each expectation must be met by a message of its own, in any order.
pub(super) fn messages(expected: &[MessageExpectation], actual: &[Value]) -> Result<(), Mismatch> {
    if actual.len() < expected.len() {
        return Err(Mismatch::says(format!(
            "{} messages should be there, but there are {}",
            expected.len(),
            actual.len()
        )));
    }
    let fits: Vec<Vec<bool>> = expected
        .iter()
        .map(|wanted| actual.iter().map(|it| message(wanted, it).is_empty()).collect())
        .collect();
    let mut taken = vec![None; actual.len()];
    for (wanted, expectation) in expected.iter().enumerate() {
        if !assign(wanted, &fits, &mut taken, &mut vec![false; actual.len()]) {
            let free = (0..actual.len()).filter(|place| taken[*place].is_none());
            let nearest = free
                .map(|place| message(expectation, &actual[place]))
                .min_by_key(Vec::len)
                .unwrap_or_default();
            let headline = format!("no message is as expected at [{wanted}]; the nearest one");
            return Err(Mismatch::differs(headline, nearest));
        }
    }
    Ok(())
}

/// Finds a place for one expectation, moving others if need be (Kuhn's algorithm).
fn assign(
    wanted: usize,
    fits: &[Vec<bool>],
    taken: &mut [Option<usize>],
    seen: &mut [bool],
) -> bool {
    for place in 0..taken.len() {
        if !fits[wanted][place] || std::mem::replace(&mut seen[place], true) {
            continue;
        }
        let free = match taken[place] {
            None => true,
            Some(other) => assign(other, fits, taken, seen),
        };
        if free {
            taken[place] = Some(wanted);
            return true;
        }
    }
    false
}

pub(super) fn thred(expected: &ThredExpectation, actual: &Value) -> Vec<Difference> {
    let mut found = Vec::new();
    let status = expected.status.as_ref().map(|status| json!(status));
    let parts = [
        ("pattern", &expected.pattern),
        ("reaction", &expected.reaction),
        ("status", &status),
        ("locals", &expected.locals),
        ("parent", &expected.parent),
    ];
    for (key, expected) in parts {
        let Some(expected) = expected else { continue };
        let actual = actual.get(key).map_or(json!({}), |value| json!({ key: value }));
        found.extend(differences(&json!({ key: expected }), &actual));
    }
    if let Some(participants) = &expected.participants {
        found.extend(as_set("participants", participants, &actual["participants"]));
    }
    if let Some(count) = expected.children {
        let children = actual["children"].as_array().map_or(0, Vec::len);
        found.extend(below("children", differences(&json!(count), &json!(children))));
    }
    found
}

/// Some item must match; says how the nearest one differs.
pub(super) fn some_matches(
    what: &str,
    expected: &Value,
    items: impl Iterator<Item = Value>,
) -> Result<(), Mismatch> {
    let mut nearest: Option<Vec<Difference>> = None;
    for item in items {
        let found = differences(expected, &item);
        if found.is_empty() {
            return Ok(());
        }
        if nearest.as_ref().is_none_or(|nearest| found.len() < nearest.len()) {
            nearest = Some(found);
        }
    }
    Err(match nearest {
        None => Mismatch::says(format!("a {what} should be there, but there is none")),
        Some(nearest) => {
            Mismatch::differs(format!("no {what} is as expected; the nearest one"), nearest)
        }
    })
}

/// In a log record the event is its id; an event that stands there whole means the same.
pub(super) fn event_by_id(mut expected: Value) -> Value {
    if let Some(event) = expected.get_mut("event")
        && operator(event).is_none()
        && let Some(id) = event.get("id").cloned()
    {
        *event = id;
    }
    expected
}

/// In a dead letter the event stands whole; an id that stands there means the same.
pub(super) fn event_as_object(mut expected: Value) -> Value {
    if let Some(event) = expected.get_mut("event")
        && event.is_string()
    {
        *event = json!({ "id": event });
    }
    expected
}

fn as_set(key: &str, expected: &Value, actual: &Value) -> Vec<Difference> {
    let found = match (expected, actual) {
        (Value::Array(expected), Value::Array(actual)) => recipient_differences(expected, actual),
        _ => differences(expected, actual),
    };
    below(key, found)
}

fn below(key: &str, found: Vec<Difference>) -> Vec<Difference> {
    found
        .into_iter()
        .map(|difference| {
            let path = match difference.path.as_str() {
                "" => key.to_owned(),
                index if index.starts_with('[') => format!("{key}{index}"),
                path => format!("{key}.{path}"),
            };
            Difference { path, ..difference }
        })
        .collect()
}
