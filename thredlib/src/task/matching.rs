//! Evaluating a matcher on a record.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{
    Clause, Matcher, Test,
    compare::{compare, rank, same},
    path::{index, split},
};

impl Matcher {
    /// Whether a record is meant.
    pub fn matches(&self, record: &Map<String, Value>) -> bool {
        self.clauses.iter().all(|clause| match clause {
            Clause::Or(matchers) => matchers.iter().any(|matcher| matcher.matches(record)),
            Clause::Field { path, tests } => tests.iter().all(|test| {
                test.holds(&|accepts| {
                    walk(record, path.as_str(), &mut |leaf| accepts_leaf(leaf, accepts))
                })
            }),
        })
    }
}

/// Asks whether one of the values that a path leads to is accepted; `None` is a missing field.
type AnyOf<'a> = dyn Fn(&mut dyn FnMut(Option<&Value>) -> bool) -> bool + 'a;

impl Test {
    /// Whether the test holds for a value by itself, as for the item of a list.
    pub(super) fn holds_for(&self, value: &Value) -> bool {
        self.holds(&|accepts| accepts_leaf(Some(value), accepts))
    }

    fn holds(&self, any: &AnyOf<'_>) -> bool {
        match self {
            Self::Eq(wanted) => any(&mut |found| equal(found, wanted)),
            Self::Ne(wanted) => !any(&mut |found| equal(found, wanted)),
            Self::In(wanted) => any(&mut |found| wanted.iter().any(|one| equal(found, one))),
            Self::Nin(wanted) => !any(&mut |found| wanted.iter().any(|one| equal(found, one))),
            Self::Gt(bound) => any(&mut |found| ordered(found, bound, Ordering::is_gt)),
            Self::Gte(bound) => any(&mut |found| ordered(found, bound, Ordering::is_ge)),
            Self::Lt(bound) => any(&mut |found| ordered(found, bound, Ordering::is_lt)),
            Self::Lte(bound) => any(&mut |found| ordered(found, bound, Ordering::is_le)),
            Self::Re(pattern) => any(&mut |found| {
                found.and_then(Value::as_str).is_some_and(|text| pattern.regex.is_match(text))
            }),
            Self::Not(tests) => !tests.iter().all(|test| test.holds(any)),
        }
    }
}

fn equal(found: Option<&Value>, wanted: &Value) -> bool {
    found.map_or(wanted.is_null(), |found| same(found, wanted))
}

fn ordered(found: Option<&Value>, bound: &Value, wanted: fn(Ordering) -> bool) -> bool {
    found.is_some_and(|found| rank(found) == rank(bound) && wanted(compare(found, bound)))
}

/// A list counts item by item and as a whole.
fn accepts_leaf(leaf: Option<&Value>, accepts: &mut dyn FnMut(Option<&Value>) -> bool) -> bool {
    match leaf {
        Some(Value::Array(items)) => items.iter().any(|item| accepts(Some(item))) || accepts(leaf),
        _ => accepts(leaf),
    }
}

/// Visits what a path leads to, lists unopened, until one visit says true. A name missing from an
/// object or below a plain value is visited as `None`; a list without objects has nothing to visit.
pub(super) fn walk<'r>(
    record: &'r Map<String, Value>,
    path: &str,
    visit: &mut dyn FnMut(Option<&'r Value>) -> bool,
) -> bool {
    let (name, rest) = split(path);
    match record.get(name) {
        None => visit(None),
        Some(value) => walk_on(value, rest, visit),
    }
}

fn walk_on<'r>(
    value: &'r Value,
    path: Option<&str>,
    visit: &mut dyn FnMut(Option<&'r Value>) -> bool,
) -> bool {
    let Some(path) = path else { return visit(Some(value)) };
    match value {
        Value::Object(map) => walk(map, path, visit),
        Value::Array(items) => {
            let (name, rest) = split(path);
            items.iter().filter_map(Value::as_object).any(|item| walk(item, path, visit))
                || index(name)
                    .and_then(|i| items.get(i))
                    .is_some_and(|item| walk_on(item, rest, visit))
        }
        _ => visit(None),
    }
}
