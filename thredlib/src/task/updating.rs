//! Applying an update to a record.

use serde_json::{Map, Number, Value};

use super::{
    Change, FieldPath, Matcher, Removal, Update, UpdateError,
    compare::{compare, same},
    path::{index, split},
    read::kind,
};

/// How far behind the end of a list an item may be set; the gap is filled with nulls.
const MAX_GAP: usize = 1000;

impl Update {
    /// Changes a record. The caller keeps `id`, `created` and `modified`.
    ///
    /// # Errors
    /// When a change does not fit the record, which is then changed in part.
    pub fn apply(&self, record: &mut Map<String, Value>, now: i64) -> Result<(), UpdateError> {
        self.changes.iter().try_for_each(|(path, change)| change.apply(path, record, now))
    }
}

impl Matcher {
    /// The fields of the record that an `upsert` creates before the update is applied.
    ///
    /// # Errors
    /// When two equalities contradict each other.
    pub fn seed(&self) -> Result<Map<String, Value>, UpdateError> {
        let mut record = Map::new();
        for (path, value) in self.equalities() {
            Change::Set(value.clone()).apply(path, &mut record, 0)?;
        }
        Ok(record)
    }
}

impl Change {
    fn apply(
        &self,
        path: &FieldPath,
        record: &mut Map<String, Value>,
        now: i64,
    ) -> Result<(), UpdateError> {
        let refused = |message: String| UpdateError { field: path.as_str().to_owned(), message };
        if let Self::Remove(removal) = self {
            return match existing(record, path.as_str()) {
                None => Ok(()),
                Some(Value::Array(items)) => {
                    items.retain(|item| !removal.removes(item));
                    Ok(())
                }
                Some(other) => Err(refused(format!("is {}, not a list", kind(other)))),
            };
        }
        let mut slot = Slot::make(record, path.as_str()).map_err(refused)?;
        let new = self.value(slot.get(), now).map_err(refused)?;
        if let Some(new) = new {
            slot.set(new).map_err(refused)?;
        }
        Ok(())
    }

    /// The field's new value; `None` where it stays.
    fn value(&self, old: Option<&Value>, now: i64) -> Result<Option<Value>, String> {
        Ok(Some(match (self, old) {
            (Self::Set(value), _) => value.clone(),
            (Self::Now, _) => now.into(),
            (Self::Push(value) | Self::Add(value), None) => Value::Array(vec![value.clone()]),
            (Self::Add(value), Some(Value::Array(items)))
                if items.iter().any(|item| same(item, value)) =>
            {
                return Ok(None);
            }
            (Self::Push(value) | Self::Add(value), Some(Value::Array(items))) => {
                items.iter().chain([value]).cloned().collect()
            }
            (Self::Push(_) | Self::Add(_), Some(other)) => {
                return Err(format!("is {}, not a list", kind(other)));
            }
            (Self::Inc(by), None) => Value::Number(by.clone()),
            (Self::Mul(_), None) => 0.into(),
            (Self::Inc(by), Some(Value::Number(old))) => {
                Value::Number(arithmetic(old, by, i64::checked_add, |a, b| a + b)?)
            }
            (Self::Mul(by), Some(Value::Number(old))) => {
                Value::Number(arithmetic(old, by, i64::checked_mul, |a, b| a * b)?)
            }
            (Self::Inc(_) | Self::Mul(_), Some(other)) => {
                return Err(format!("is {}, not a number", kind(other)));
            }
            (Self::Min(value), Some(old)) if compare(old, value).is_le() => return Ok(None),
            (Self::Max(value), Some(old)) if compare(old, value).is_ge() => return Ok(None),
            (Self::Min(value) | Self::Max(value), _) => value.clone(),
            (Self::Remove(_), _) => return Ok(None),
        }))
    }
}

impl Removal {
    /// Whether an item is removed.
    pub fn removes(&self, item: &Value) -> bool {
        match self {
            Self::Equal(value) => same(item, value),
            Self::Tested(tests) => tests.iter().all(|test| test.holds_for(item)),
            Self::Matching(matcher) => item.as_object().is_some_and(|item| matcher.matches(item)),
        }
    }
}

/// Integers stay integers; anything with a float becomes one.
fn arithmetic(
    a: &Number,
    b: &Number,
    integers: fn(i64, i64) -> Option<i64>,
    floats: fn(f64, f64) -> f64,
) -> Result<Number, String> {
    let number = match (a.as_i64(), b.as_i64(), a.as_f64(), b.as_f64()) {
        (Some(a), Some(b), ..) => integers(a, b).map(Number::from),
        (_, _, Some(a), Some(b)) => Number::from_f64(floats(a, b)),
        _ => None,
    };
    number.ok_or_else(|| "would leave the range of numbers".to_owned())
}

/// The value at a path, if all the way exists.
fn existing<'r>(record: &'r mut Map<String, Value>, path: &str) -> Option<&'r mut Value> {
    let (name, mut rest) = split(path);
    let mut value = record.get_mut(name)?;
    while let Some(path) = rest {
        let (name, next) = split(path);
        value = match value {
            Value::Object(map) => map.get_mut(name)?,
            Value::Array(items) => items.get_mut(index(name)?)?,
            _ => return None,
        };
        rest = next;
    }
    Some(value)
}

/// The place of a value, which may be empty yet.
enum Slot<'r, 'p> {
    Field(&'r mut Map<String, Value>, &'p str),
    Item(&'r mut Vec<Value>, usize),
}

impl<'r, 'p> Slot<'r, 'p> {
    /// Finds the place at a path, making the objects that are missing on the way.
    fn make(record: &'r mut Map<String, Value>, path: &'p str) -> Result<Self, String> {
        let (name, mut rest) = split(path);
        let mut slot = Slot::Field(record, name);
        while let Some(path) = rest {
            let (name, next) = split(path);
            slot = match slot.or_object()? {
                Value::Object(map) => Slot::Field(map, name),
                Value::Array(items) => match index(name) {
                    Some(index) => Slot::Item(items, index),
                    None => return Err(format!("leads to `{name}` in a list; give a position")),
                },
                other => return Err(format!("leads through {}", kind(other))),
            };
            rest = next;
        }
        Ok(slot)
    }

    fn or_object(self) -> Result<&'r mut Value, String> {
        let empty = || Value::Object(Map::new());
        match self {
            Self::Field(map, name) => Ok(map.entry(name).or_insert_with(empty)),
            Self::Item(items, index) => {
                if index >= items.len() {
                    fill(items, index)?;
                    items.push(empty());
                }
                Ok(&mut items[index])
            }
        }
    }

    fn get(&self) -> Option<&Value> {
        match self {
            Self::Field(map, name) => map.get(*name),
            Self::Item(items, index) => items.get(*index),
        }
    }

    fn set(&mut self, value: Value) -> Result<(), String> {
        match self {
            Self::Field(map, name) => {
                map.insert((*name).to_owned(), value);
            }
            Self::Item(items, index) => match items.get_mut(*index) {
                Some(item) => *item = value,
                None => {
                    fill(items, *index)?;
                    items.push(value);
                }
            },
        }
        Ok(())
    }
}

fn fill(items: &mut Vec<Value>, until: usize) -> Result<(), String> {
    if until - items.len() > MAX_GAP {
        return Err(format!("lies more than {MAX_GAP} items behind the end of the list"));
    }
    items.resize(until, Value::Null);
    Ok(())
}
