//! Collectors: the order of records, and which part of them.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::{
    FieldPath, ID, TaskError, TaskLimits,
    compare::compare,
    matching::walk,
    read::{At, Reader, field_name, kind, list, object, text},
};

/// The order in which records are given, and which part of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collector {
    /// What to sort by, first things first; in the end by `id`, ascending.
    pub sort: Vec<SortKey>,
    /// How many to leave out.
    pub skip: u64,
    /// How many to give at most; the default applied.
    pub limit: usize,
}

/// A field to sort by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SortKey {
    /// The field.
    pub field: FieldPath,
    /// Whether the greatest comes first.
    pub descending: bool,
}

impl Collector {
    /// Sorts records and gives the wanted part of them.
    pub fn arrange<'r>(
        &self,
        records: impl IntoIterator<Item = &'r Map<String, Value>>,
    ) -> Vec<&'r Map<String, Value>> {
        let mut keyed: Vec<_> = records
            .into_iter()
            .map(|record| {
                let keys = self.sort.iter().map(|key| key.of(record)).collect::<Vec<_>>();
                (keys, record)
            })
            .collect();
        keyed.sort_by(|(a_keys, a), (b_keys, b)| {
            let orders = self.sort.iter().zip(a_keys).zip(b_keys).map(|((key, a), b)| {
                let order = a.compare(b);
                if key.descending { order.reverse() } else { order }
            });
            orders.into_iter().find(|order| order.is_ne()).unwrap_or_else(|| id(a).cmp(&id(b)))
        });
        let skip = usize::try_from(self.skip).unwrap_or(usize::MAX);
        keyed.into_iter().map(|(_, record)| record).skip(skip).take(self.limit).collect()
    }

    /// The collector of a task that names none.
    pub(super) fn unordered(limits: &TaskLimits) -> Self {
        Self { sort: vec![], skip: 0, limit: limits.default_results }
    }

    pub(super) fn read(value: &Value, reader: &Reader, at: &At) -> Result<Self, TaskError> {
        let mut collector = Self::unordered(reader.limits);
        for (name, value) in object(value, "a collector", at)? {
            let at = at.key(name);
            match name.as_str() {
                "sort" => collector.sort = read_sort(value, reader, &at)?,
                "skip" => collector.skip = whole_number(value, &at)?,
                "limit" => match whole_number(value, &at)? {
                    0 => {}
                    limit => {
                        let most = reader.limits.results;
                        let fitting = usize::try_from(limit).ok().filter(|limit| *limit <= most);
                        collector.limit = fitting.ok_or_else(|| {
                            at.error(format!("`limit` is at most {most}; read on with `skip`"))
                        })?;
                    }
                },
                _ => field_name(name, &at)?,
            }
        }
        Ok(collector)
    }
}

fn id(record: &Map<String, Value>) -> Option<&str> {
    record.get(ID).and_then(Value::as_str)
}

fn read_sort(value: &Value, reader: &Reader, at: &At) -> Result<Vec<SortKey>, TaskError> {
    if value.is_null() {
        return Ok(vec![]);
    }
    let items = list(value, "`sort`", at)?;
    reader.few(items, reader.limits.sort_fields, at)?;
    items.iter().enumerate().map(|(i, item)| SortKey::read(item, reader, &at.index(i))).collect()
}

/// A count; null is 0, and a float without a fraction is whole too.
fn whole_number(value: &Value, at: &At) -> Result<u64, TaskError> {
    let float = || value.as_f64().filter(|f| f.fract() == 0.0 && (0.0..9e15).contains(f));
    match value {
        Value::Null => Ok(0),
        Value::Number(_) => value.as_u64().or_else(|| float().map(|f| f as u64)).ok_or_else(|| {
            at.error(format!("{value} is no count; write a whole number from 0 upwards"))
        }),
        other => Err(at.error(format!("a count is a number, not {}", kind(other)))),
    }
}

impl SortKey {
    fn read(value: &Value, reader: &Reader, at: &At) -> Result<Self, TaskError> {
        let map = object(value, "a sort key", at)?;
        if let Some(name) = map.keys().find(|name| name.starts_with('$')) {
            field_name(name, &at.key(name))?;
        }
        let field_at = at.key("field");
        let field = map.get("field").ok_or_else(|| field_at.error("a sort key needs a `field`"))?;
        let descending = match map.get("desc") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(descending)) => *descending,
            Some(other) => {
                return Err(at
                    .key("desc")
                    .error(format!("`desc` is a boolean, not {}", kind(other))));
            }
        };
        let field = reader.path(text(field, "a field", &field_at)?, &field_at)?;
        Ok(Self { field, descending })
    }

    fn of<'r>(&self, record: &'r Map<String, Value>) -> Standing<'r> {
        let mut best = None;
        let mut offer = |standing: Standing<'r>| {
            let replaces = best.as_ref().is_none_or(|best| {
                let order = standing.compare(best);
                if self.descending { order.is_gt() } else { order.is_lt() }
            });
            if replaces {
                best = Some(standing);
            }
        };
        walk(record, self.field.as_str(), &mut |leaf| {
            match leaf {
                None => offer(Standing::Value(&Value::Null)),
                Some(Value::Array(items)) if items.is_empty() => offer(Standing::EmptyList),
                Some(Value::Array(items)) => {
                    items.iter().for_each(|item| offer(Standing::Value(item)));
                }
                Some(value) => offer(Standing::Value(value)),
            }
            false
        });
        best.unwrap_or(Standing::Value(&Value::Null))
    }
}

/// What a record is sorted by.
enum Standing<'r> {
    EmptyList,
    Value(&'r Value),
}

impl Standing<'_> {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::EmptyList, Self::EmptyList) => Ordering::Equal,
            (Self::EmptyList, Self::Value(_)) => Ordering::Less,
            (Self::Value(_), Self::EmptyList) => Ordering::Greater,
            (Self::Value(a), Self::Value(b)) => compare(a, b),
        }
    }
}
