//! Matchers: which records are meant.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{
    FieldPath, ID, TaskError,
    read::{At, Reader, field_name, kind, list, object, quoted, text},
};

/// Which records are meant: those for which every clause holds. Without clauses, all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Matcher {
    /// What must hold.
    pub clauses: Vec<Clause>,
}

/// One condition of a [`Matcher`].
#[derive(Clone, Debug, PartialEq)]
pub enum Clause {
    /// All tests hold for a field, each by itself.
    Field {
        /// The way to the field.
        path: FieldPath,
        /// What must hold.
        tests: Vec<Test>,
    },
    /// One of at least two matchers matches.
    Or(Vec<Matcher>),
}

/// What must hold for a field.
///
/// The operands of `Gt`, `Gte`, `Lt` and `Lte` are numbers, texts or booleans.
#[derive(Clone, Debug, PartialEq)]
pub enum Test {
    /// It equals a value; null stands for a missing field too.
    Eq(Value),
    /// [`Test::Eq`] does not hold.
    Ne(Value),
    /// It is greater, and of the same type.
    Gt(Value),
    /// It is greater or equal, and of the same type.
    Gte(Value),
    /// It is less, and of the same type.
    Lt(Value),
    /// It is less or equal, and of the same type.
    Lte(Value),
    /// It equals one of these.
    In(Vec<Value>),
    /// [`Test::In`] does not hold.
    Nin(Vec<Value>),
    /// It is a text in which the pattern is found.
    Re(TextPattern),
    /// Not all of these hold.
    Not(Vec<Test>),
}

/// A regular expression: case-insensitive, unanchored, compiled, in linear time.
#[derive(Clone, Debug)]
pub struct TextPattern {
    source: Arc<str>,
    pub(super) regex: regex::Regex,
}

impl TextPattern {
    /// The expression as it was written; it has no look-around and no back-references.
    pub fn source(&self) -> &str {
        &self.source
    }
}

impl PartialEq for TextPattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Matcher {
    /// The id that a record must have to match, if the matcher says so.
    pub fn id(&self) -> Option<&str> {
        self.equalities().find_map(|(path, value)| match path.as_str() {
            ID => value.as_str(),
            _ => None,
        })
    }

    /// The fields that must equal a value in any case; an `upsert` gives them to a new record.
    pub fn equalities(&self) -> impl Iterator<Item = (&FieldPath, &Value)> {
        self.clauses.iter().flat_map(|clause| {
            let (path, tests) = match clause {
                Clause::Field { path, tests } => (Some(path), tests.as_slice()),
                Clause::Or(_) => (None, [].as_slice()),
            };
            path.into_iter().flat_map(|path| {
                tests.iter().filter_map(move |test| match test {
                    Test::Eq(value) => Some((path, value)),
                    _ => None,
                })
            })
        })
    }

    pub(super) fn read(value: &Value, reader: &Reader, at: &At) -> Result<Self, TaskError> {
        Self::read_object(object(value, "a matcher", at)?, reader, at, reader.limits.matcher_depth)
    }

    /// Reads the matcher of a list's items, which stands in a `$remove`.
    pub(super) fn read_object(
        map: &Map<String, Value>,
        reader: &Reader,
        at: &At,
        depth: usize,
    ) -> Result<Self, TaskError> {
        let mut clauses = Vec::with_capacity(map.len());
        for (name, value) in map {
            let at = at.key(name);
            match name.as_str() {
                "$or" => match read_or(value, reader, &at, depth)? {
                    // So that the equalities of an `$or` of one are those of the matcher.
                    one if one.len() == 1 => {
                        clauses.extend(one.into_iter().flat_map(|matcher| matcher.clauses));
                    }
                    many => clauses.push(Clause::Or(many)),
                },
                operator if operator.starts_with('$') => {
                    return Err(at.error(if is_test(operator) {
                        format!("`{operator}` tests a field; write it below one")
                    } else {
                        unknown(operator)
                    }));
                }
                _ => {
                    let path = reader.path(name, &at)?;
                    let tests = read_tests(value, reader, &at, depth)?;
                    clauses.push(Clause::Field { path, tests });
                }
            }
        }
        Ok(Self { clauses })
    }
}

fn read_or(
    value: &Value,
    reader: &Reader,
    at: &At,
    depth: usize,
) -> Result<Vec<Matcher>, TaskError> {
    let depth = deeper(depth, reader, at)?;
    let items = list(value, "the operand of `$or`", at)?;
    reader.few(items, reader.limits.items, at)?;
    if items.is_empty() {
        return Err(at.error("`$or` needs at least one matcher"));
    }
    let matchers = items.iter().enumerate().map(|(i, item)| {
        let at = at.index(i);
        Matcher::read_object(object(item, "a matcher", &at)?, reader, &at, depth)
    });
    matchers.collect()
}

/// The tests for a field: a value stands for equality.
fn read_tests(
    value: &Value,
    reader: &Reader,
    at: &At,
    depth: usize,
) -> Result<Vec<Test>, TaskError> {
    match value.as_object() {
        Some(map) if map.keys().any(|name| name.starts_with('$')) => {
            read_operators(map, reader, at, depth)
        }
        _ => Ok(vec![Test::Eq(reader.data(value, at)?)]),
    }
}

/// The tests that an object of operators holds.
pub(super) fn read_operators(
    map: &Map<String, Value>,
    reader: &Reader,
    at: &At,
    depth: usize,
) -> Result<Vec<Test>, TaskError> {
    map.iter()
        .map(|(operator, operand)| {
            let at = at.key(operator);
            read_test(operator, operand, reader, &at, depth)
        })
        .collect()
}

fn read_test(
    operator: &str,
    operand: &Value,
    reader: &Reader,
    at: &At,
    depth: usize,
) -> Result<Test, TaskError> {
    Ok(match operator {
        "$ne" => Test::Ne(reader.data(operand, at)?),
        "$gt" => Test::Gt(comparable(operand, reader, at)?),
        "$gte" => Test::Gte(comparable(operand, reader, at)?),
        "$lt" => Test::Lt(comparable(operand, reader, at)?),
        "$lte" => Test::Lte(comparable(operand, reader, at)?),
        "$in" => Test::In(operands(operand, reader, at)?),
        "$nin" => Test::Nin(operands(operand, reader, at)?),
        "$re" => {
            let source = text(operand, "the operand of `$re`", at)?;
            Test::Re(TextPattern { source: source.into(), regex: reader.regex(source, at)? })
        }
        "$not" => {
            let depth = deeper(depth, reader, at)?;
            let map = object(operand, "the operand of `$not`", at)?;
            if map.is_empty() {
                return Err(at.error("`$not` needs a test, as {\"$gt\": 1}; for a value use `$ne`"));
            }
            Test::Not(read_operators(map, reader, at, depth)?)
        }
        "$or" => return Err(at.error("`$or` stands beside fields, not below one")),
        unknown_one if unknown_one.starts_with('$') => return Err(at.error(unknown(operator))),
        _ => {
            field_name(operator, at)?;
            return Err(at.error(
                "a field cannot stand among operators; write nested fields with dots, as `a.b`",
            ));
        }
    })
}

/// The operand of a comparison.
pub(super) fn comparable(value: &Value, reader: &Reader, at: &At) -> Result<Value, TaskError> {
    match value {
        Value::Number(_) | Value::String(_) | Value::Bool(_) => reader.data(value, at),
        other => Err(at.error(format!(
            "only numbers, texts and booleans can be compared, not {}",
            kind(other)
        ))),
    }
}

fn operands(value: &Value, reader: &Reader, at: &At) -> Result<Vec<Value>, TaskError> {
    let items = list(value, "the operand of `$in` and `$nin`", at)?;
    reader.few(items, reader.limits.items, at)?;
    items.iter().enumerate().map(|(i, item)| reader.data(item, &at.index(i))).collect()
}

fn deeper(depth: usize, reader: &Reader, at: &At) -> Result<usize, TaskError> {
    depth.checked_sub(1).ok_or_else(|| {
        at.error(format!("a matcher may be nested {} deep", reader.limits.matcher_depth))
    })
}

pub(super) fn is_test(operator: &str) -> bool {
    matches!(operator, "$gt" | "$gte" | "$lt" | "$lte" | "$ne" | "$not" | "$in" | "$nin" | "$re")
}

fn unknown(operator: &str) -> String {
    format!(
        "{} is no match operator; there are $gt $gte $lt $lte $ne $not $in $nin $or $re",
        quoted(operator)
    )
}
