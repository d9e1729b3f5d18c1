//! Values on their way through the native tree, and what operators do with them.

use serde_json::{Map, Value};

use super::{super::convert, Arithmetic, Order};
use crate::{
    Event, ExprLimits,
    json::{Items, Members, View, exact},
};

/// The native part ends here; the interpreter has to do it.
#[derive(Debug)]
pub(in super::super) struct Bail;

/// A value on its way, borrowed where it can be.
#[derive(Debug)]
pub(in super::super) enum Operand<'a> {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    /// An integer that a double cannot hold.
    Integer(i128),
    Text(&'a str),
    List(Items<'a>),
    Map(Members<'a>),
    Made(Value),
    /// The whole event or its source: what only the interpreter has as one value.
    Event(&'a Event),
    Source(&'a Event),
}

pub(super) type Evaluated<'a> = Result<Operand<'a>, Bail>;

impl<'a> Operand<'a> {
    pub(super) fn of(value: impl Into<View<'a>>) -> Self {
        match value.into() {
            View::Null => Self::Null,
            View::Bool(b) => Self::Bool(b),
            View::Number(n) => match n.beyond_double() {
                Some(n) => Self::Integer(n),
                None => Self::Number(n.as_f64()),
            },
            View::Text(s) => Self::Text(s),
            View::Array(items) => Self::List(items),
            View::Object(members) => Self::Map(members),
        }
    }

    pub(super) fn of_option(value: Option<impl Into<View<'a>>>) -> Self {
        value.map_or(Self::Undefined, Self::of)
    }

    pub(super) fn of_text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Undefined, Self::Text)
    }

    pub(super) fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    /// One field on. A list would be mapped over; that is the interpreter's.
    pub(super) fn step(self, name: &str) -> Evaluated<'a> {
        Ok(match self {
            Self::Map(map) => Self::of_option(map.get(name)),
            Self::Event(event) => match name {
                "id" => Self::Text(event.id.as_str()),
                "type" => Self::Text(&event.event_type),
                "thredId" => Self::of_text(event.thred_id.as_ref().map(|id| id.as_str())),
                "re" => Self::of_text(event.re.as_ref().map(|id| id.as_str())),
                "source" => Self::Source(event),
                "timestamp" | "time" => {
                    event.timestamp.map_or(Self::Undefined, |ms| Self::Number(ms as f64))
                }
                "data" => {
                    event.data.as_ref().map_or(Self::Undefined, |data| Self::Map(data.view()))
                }
                "trace" => Self::of_option(event.trace.as_deref()),
                name => Self::of_option(event.extra.get(name)),
            },
            Self::Source(event) => match name {
                "id" => Self::Text(event.source.id.as_str()),
                "name" => Self::of_text(event.source.name.as_deref()),
                "uri" => Self::of_text(event.source.uri.as_deref()),
                name => Self::of_option(event.source.extra.get(name)),
            },
            Self::List(_) | Self::Made(_) => return Err(Bail),
            _ => Self::Undefined,
        })
    }

    /// JSONata's boolean cast.
    pub(in super::super) fn truthy(&self) -> Result<bool, Bail> {
        Ok(match self {
            Self::Undefined | Self::Null => false,
            Self::Bool(b) => *b,
            Self::Number(n) => *n != 0.0,
            Self::Integer(_) => true,
            Self::Text(s) => !s.is_empty(),
            Self::List(items) => items.iter().any(truthy),
            Self::Map(map) => !map.is_empty(),
            Self::Made(value) => truthy(value.into()),
            Self::Event(_) | Self::Source(_) => true,
        })
    }

    /// The value as the result of an expression; bails when that goes over a limit.
    pub(in super::super) fn into_value(self, limits: &ExprLimits) -> Result<Option<Value>, Bail> {
        Copy { bytes: limits.result_bytes }.operand(self, limits.result_depth())
    }

    /// Appends the text that `&` makes of it.
    pub(super) fn write(&self, out: &mut String) -> Result<(), Bail> {
        match self {
            Self::Undefined => {}
            Self::Null => out.push_str("null"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            // Fractions and huge numbers follow rules of their own.
            Self::Number(n) if n.fract() == 0.0 && n.abs() < 1e15 => {
                out.push_str(&(*n as i64).to_string());
            }
            Self::Integer(n) => out.push_str(&n.to_string()),
            Self::Text(s) => out.push_str(s),
            Self::Made(Value::String(s)) => out.push_str(s),
            _ => return Err(Bail),
        }
        Ok(())
    }

    /// The text, also of one that was made.
    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(s) => Some(s),
            Self::Made(Value::String(s)) => Some(s),
            _ => None,
        }
    }
}

fn truthy(value: View<'_>) -> bool {
    match value {
        View::Null => false,
        View::Bool(b) => b,
        View::Number(n) => n.as_f64() != 0.0,
        View::Text(s) => !s.is_empty(),
        View::Array(items) => items.iter().any(truthy),
        View::Object(members) => !members.is_empty(),
    }
}

pub(super) fn equal(a: &Operand<'_>, b: &Operand<'_>) -> Result<bool, Bail> {
    use Operand::{Bool, Integer, List, Map, Null, Number, Undefined};
    if let (Some(a), Some(b)) = (a.as_text(), b.as_text()) {
        return Ok(a == b);
    }
    match (a, b) {
        (Undefined, _) | (_, Undefined) => Ok(false),
        (Null, Null) => Ok(true),
        (Bool(a), Bool(b)) => Ok(a == b),
        (Number(a), Number(b)) => Ok(a == b),
        (Integer(a), Integer(b)) => Ok(a == b),
        (List(_) | Map(_), List(_) | Map(_)) => Err(Bail),
        (Operand::Made(_) | Operand::Event(_) | Operand::Source(_), _)
        | (_, Operand::Made(_) | Operand::Event(_) | Operand::Source(_)) => Err(Bail),
        _ => Ok(false),
    }
}

pub(super) fn compare<'a>(order: Order, a: &Operand<'_>, b: &Operand<'_>) -> Evaluated<'a> {
    let ordering = match (a, b) {
        (Operand::Number(a), Operand::Number(b)) => a.partial_cmp(b).ok_or(Bail)?,
        (Operand::Integer(a), Operand::Integer(b)) => a.cmp(b),
        (Operand::Integer(a), Operand::Number(b)) => exact::compare(*a, *b).ok_or(Bail)?,
        (Operand::Number(a), Operand::Integer(b)) => exact::compare(*b, *a).ok_or(Bail)?.reverse(),
        (Operand::Undefined, Operand::Undefined | Operand::Number(_) | Operand::Text(_))
        | (Operand::Number(_) | Operand::Text(_), Operand::Undefined) => {
            return Ok(Operand::Undefined);
        }
        _ => match (a.as_text(), b.as_text()) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => return Err(Bail),
        },
    };
    Ok(Operand::Bool(match order {
        Order::Less => ordering.is_lt(),
        Order::LessOrEqual => ordering.is_le(),
        Order::Greater => ordering.is_gt(),
        Order::GreaterOrEqual => ordering.is_ge(),
    }))
}

pub(super) fn is_among(item: &Operand<'_>, among: &[Value]) -> Result<bool, Bail> {
    match item {
        Operand::Undefined => Ok(false),
        // Lists and objects are found by identity, which no literal has.
        Operand::List(_) | Operand::Map(_) => Ok(false),
        Operand::Event(_) | Operand::Source(_) => Err(Bail),
        item => among
            .iter()
            .try_fold(false, |found, value| Ok(found || equal(item, &Operand::of(value))?)),
    }
}

pub(super) fn arithmetic<'a>(op: Arithmetic, a: &Operand<'_>, b: &Operand<'_>) -> Evaluated<'a> {
    let (a, b) = match (a, b) {
        (Operand::Number(a), Operand::Number(b)) => (*a, *b),
        (Operand::Undefined, Operand::Undefined | Operand::Number(_))
        | (Operand::Number(_), Operand::Undefined) => return Ok(Operand::Undefined),
        _ => return Err(Bail),
    };
    let result = match op {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
    };
    if result.is_finite() { Ok(Operand::Number(result)) } else { Err(Bail) }
}

/// Copies data as the interpreter's results are: whole numbers as integers, within limits.
pub(super) struct Copy {
    pub(super) bytes: usize,
}

impl Copy {
    pub(super) fn operand(
        &mut self,
        operand: Operand<'_>,
        depth: usize,
    ) -> Result<Option<Value>, Bail> {
        Ok(Some(match operand {
            Operand::Undefined => return Ok(None),
            Operand::Null => Value::Null,
            Operand::Bool(b) => Value::Bool(b),
            Operand::Number(n) => convert::number(n),
            Operand::Integer(n) => convert::integer(n),
            Operand::Text(s) => self.text(s)?,
            Operand::List(items) => self.list(items, depth)?,
            Operand::Map(map) => self.map(map, depth)?,
            Operand::Made(value) => {
                self.weigh(&value, depth)?;
                value
            }
            Operand::Event(_) | Operand::Source(_) => return Err(Bail),
        }))
    }

    /// Counts a value that needs no copy.
    fn weigh(&mut self, value: &Value, depth: usize) -> Result<(), Bail> {
        self.take(8)?;
        match value {
            Value::String(s) => self.take(s.len()),
            Value::Array(items) => {
                let depth = depth.checked_sub(1).ok_or(Bail)?;
                items.iter().try_for_each(|item| self.weigh(item, depth))
            }
            Value::Object(map) => {
                let depth = depth.checked_sub(1).ok_or(Bail)?;
                map.iter().try_for_each(|(key, item)| {
                    self.take(key.len())?;
                    self.weigh(item, depth)
                })
            }
            _ => Ok(()),
        }
    }

    fn value(&mut self, value: View<'_>, depth: usize) -> Result<Value, Bail> {
        self.take(8)?;
        Ok(match value {
            View::Null => Value::Null,
            View::Bool(b) => Value::Bool(b),
            View::Number(n) => match n.beyond_double() {
                Some(n) => convert::integer(n),
                None => convert::number(n.as_f64()),
            },
            View::Text(s) => self.text(s)?,
            View::Array(items) => self.list(items, depth)?,
            View::Object(members) => self.map(members, depth)?,
        })
    }

    fn text(&mut self, text: &str) -> Result<Value, Bail> {
        self.take(text.len() + 2)?;
        Ok(Value::String(text.to_owned()))
    }

    fn list(&mut self, items: Items<'_>, depth: usize) -> Result<Value, Bail> {
        let depth = depth.checked_sub(1).ok_or(Bail)?;
        let items = items.iter().map(|item| self.value(item, depth));
        Ok(Value::Array(items.collect::<Result<_, _>>()?))
    }

    fn map(&mut self, members: Members<'_>, depth: usize) -> Result<Value, Bail> {
        let depth = depth.checked_sub(1).ok_or(Bail)?;
        let mut copy = Map::with_capacity(members.len());
        for (name, value) in members.iter() {
            self.take(name.len() + 4)?;
            copy.insert(name.to_owned(), self.value(value, depth)?);
        }
        Ok(Value::Object(copy))
    }

    fn take(&mut self, bytes: usize) -> Result<(), Bail> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Bail)?;
        Ok(())
    }
}
