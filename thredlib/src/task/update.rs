//! Updates: what to change in a record.

use std::collections::HashMap;

use serde_json::{Map, Number, Value};

use super::{
    CREATED, FieldPath, ID, MODIFIED, Matcher, TaskError, Test,
    matcher::{comparable, is_test, read_operators},
    read::{At, Reader, kind, object, quoted},
    record::read_id,
};

/// What to change in a record. No two changes touch the same field.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Update {
    /// The id that a record gets if an `upsert` creates it; an existing one keeps its own.
    pub id: Option<String>,
    /// Each field and its change; never `id`, `created` or `modified`.
    pub changes: Vec<(FieldPath, Change)>,
}

/// What to do with a field.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Sets it.
    Set(Value),
    /// Appends to a list what it does not hold yet.
    Add(Value),
    /// Appends to a list.
    Push(Value),
    /// Removes items from a list.
    Remove(Removal),
    /// Sets it to the time, milliseconds since the Unix epoch.
    Now,
    /// Adds to a number.
    Inc(Number),
    /// Multiplies a number.
    Mul(Number),
    /// Sets it if the value (a number, text or boolean) is less, in the order of all values.
    Min(Value),
    /// Sets it if the value (a number, text or boolean) is greater, in the order of all values.
    Max(Value),
}

/// Which items of a list are removed.
#[derive(Clone, Debug, PartialEq)]
pub enum Removal {
    /// Those that equal a value.
    Equal(Value),
    /// Those for which all tests hold.
    Tested(Vec<Test>),
    /// The objects that match.
    Matching(Matcher),
}

impl Update {
    pub(super) fn read(value: &Value, reader: &Reader, at: &At) -> Result<Self, TaskError> {
        let mut update = Self::default();
        let mut taken = Taken::default();
        for (name, value) in object(value, "the `values` of an update", at)? {
            let at = at.key(name);
            match name.as_str() {
                ID => update.id = read_id(value, reader, &at)?,
                CREATED | MODIFIED => {}
                operator if operator.starts_with('$') => {
                    let change_of =
                        change_reader(operator).ok_or_else(|| at.error(unknown(operator)))?;
                    for (field, operand) in object(value, "an operator's operand", &at)? {
                        let at = at.key(field);
                        let change = change_of(operand, reader, &at)?;
                        update.changes.push((taken.path(field, reader, &at)?, change));
                    }
                }
                _ => {
                    let change = Change::Set(reader.data(value, &at)?);
                    update.changes.push((taken.path(name, reader, &at)?, change));
                }
            }
        }
        Ok(update)
    }
}

/// The fields that an update touches, and those around them, each with the path that leads there.
#[derive(Default)]
struct Taken {
    paths: HashMap<String, FieldPath>,
    count: usize,
}

impl Taken {
    /// Reads the path of a change that must not touch what another one does.
    fn path(&mut self, field: &str, reader: &Reader, at: &At) -> Result<FieldPath, TaskError> {
        let path = reader.path(field, at)?;
        if let Some(own @ (ID | CREATED | MODIFIED)) = path.segments().next() {
            return Err(at.error(format!("`{own}` is kept by the store and cannot be changed")));
        }
        self.count += 1;
        if self.count > reader.limits.items {
            let most = reader.limits.items;
            return Err(at.error(format!("an update may have {most} changes; make two tasks")));
        }
        let around = field.match_indices('.').map(|(end, _)| &field[..end]);
        let mut others = around
            .clone()
            .filter_map(|prefix| self.paths.get(prefix).filter(|other| other.as_str() == prefix));
        if let Some(other) = others.next().or_else(|| self.paths.get(field)) {
            return Err(at.error(format!(
                "`{path}` and `{other}` change the same field; make two tasks of them"
            )));
        }
        self.paths.extend(around.chain([field]).map(|taken| (taken.to_owned(), path.clone())));
        Ok(path)
    }
}

type ReadChange = fn(&Value, &Reader, &At) -> Result<Change, TaskError>;

/// How the operand of an operator is read.
fn change_reader(operator: &str) -> Option<ReadChange> {
    Some(match operator {
        "$add" => |operand, reader, at| reader.data(operand, at).map(Change::Add),
        "$push" => |operand, reader, at| reader.data(operand, at).map(Change::Push),
        "$remove" => |operand, reader, at| removal(operand, reader, at).map(Change::Remove),
        "$inc" => |operand, reader, at| number(operand, reader, at).map(Change::Inc),
        "$mul" => |operand, reader, at| number(operand, reader, at).map(Change::Mul),
        "$min" => |operand, reader, at| comparable(operand, reader, at).map(Change::Min),
        "$max" => |operand, reader, at| comparable(operand, reader, at).map(Change::Max),
        "$now" => |operand, _, at| match operand {
            Value::Bool(true) => Ok(Change::Now),
            _ => Err(at.error("the operand of `$now` is true")),
        },
        _ => return None,
    })
}

fn removal(operand: &Value, reader: &Reader, at: &At) -> Result<Removal, TaskError> {
    let depth = reader.limits.matcher_depth;
    let tested = |map: &Map<_, _>| map.keys().any(|name: &String| is_test(name));
    Ok(match operand {
        Value::Object(map) if tested(map) => {
            Removal::Tested(read_operators(map, reader, at, depth)?)
        }
        Value::Object(map) => Removal::Matching(Matcher::read_object(map, reader, at, depth)?),
        value => Removal::Equal(reader.data(value, at)?),
    })
}

fn number(operand: &Value, reader: &Reader, at: &At) -> Result<Number, TaskError> {
    match reader.data(operand, at)? {
        Value::Number(number) => Ok(number),
        other => Err(at.error(format!("the operand is a number, not {}", kind(&other)))),
    }
}

fn unknown(operator: &str) -> String {
    format!(
        "{} is no update operator; there are $add $push $remove $now $inc $min $max $mul",
        quoted(operator)
    )
}
