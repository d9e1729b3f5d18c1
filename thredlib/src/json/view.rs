//! One way to look at JSON, however it is kept.

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value};

use super::{compact::Compact, exact};

/// A JSON value, borrowed from where it is kept.
///
/// ```
/// use thredlib::{Event, json::View};
///
/// let text = r#"{"id":"e1","type":"t","source":{"id":"s"},"data":{"content":{"values":{"n":7}}}}"#;
/// let event: Event = serde_json::from_str(text).unwrap();
/// assert_eq!(event.view_named("n").and_then(View::as_u64), Some(7));
/// ```
#[derive(Clone, Copy, Debug)]
pub enum View<'a> {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A number.
    Number(Number),
    /// A text.
    Text(&'a str),
    /// A list.
    Array(Items<'a>),
    /// An object.
    Object(Members<'a>),
}

impl<'a> View<'a> {
    /// A member of an object; `None` as well when this is no object.
    pub fn get(self, name: &str) -> Option<View<'a>> {
        match self {
            Self::Object(members) => members.get(name),
            _ => None,
        }
    }

    /// The text, when it is one.
    pub fn as_str(self) -> Option<&'a str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The number, when it is one and a whole one from 0.
    pub fn as_u64(self) -> Option<u64> {
        match self {
            Self::Number(Number(Kind::Unsigned(n))) => Some(n),
            _ => None,
        }
    }

    /// Whether it is `null`.
    pub fn is_null(self) -> bool {
        matches!(self, Self::Null)
    }

    /// Whether it is, or holds, an integer that a double cannot hold.
    pub(crate) fn has_beyond_double(self) -> bool {
        match self {
            Self::Number(n) => n.beyond_double().is_some(),
            Self::Array(items) => items.iter().any(Self::has_beyond_double),
            Self::Object(members) => members.iter().any(|(_, item)| item.has_beyond_double()),
            _ => false,
        }
    }

    /// Whether it has more levels of objects and lists in one another.
    pub fn nests_deeper(self, levels: usize) -> bool {
        match self {
            Self::Array(items) => {
                let below = levels.checked_sub(1);
                below.is_none_or(|below| items.iter().any(|item| item.nests_deeper(below)))
            }
            Self::Object(members) => members.nests_deeper(levels),
            _ => false,
        }
    }

    /// A copy.
    pub fn to_value(self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(b) => Value::Bool(b),
            Self::Number(n) => n.to_value(),
            Self::Text(text) => Value::String(text.to_owned()),
            Self::Array(items) => Value::Array(items.iter().map(View::to_value).collect()),
            Self::Object(members) => Value::Object(members.to_map()),
        }
    }

    /// The first value of that name that is neither missing nor null, depth first: an object's own
    /// member before its members' ones, lists in order.
    pub fn named(self, name: &str) -> Option<View<'a>> {
        match self {
            Self::Object(members) => match members.get(name) {
                Some(found) if !found.is_null() => Some(found),
                _ => members.iter().find_map(|(_, member)| member.named(name)),
            },
            Self::Array(items) => items.iter().find_map(|item| item.named(name)),
            _ => None,
        }
    }
}

impl<'a> From<&'a Value> for View<'a> {
    fn from(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => Number::of(n).map_or(Self::Null, Self::Number),
            Value::String(text) => Self::Text(text),
            Value::Array(items) => Self::Array(items.as_slice().into()),
            Value::Object(map) => Self::Object(map.into()),
        }
    }
}

impl Serialize for View<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(b) => serializer.serialize_bool(b),
            Self::Number(Number(Kind::Unsigned(n))) => serializer.serialize_u64(n),
            Self::Number(Number(Kind::Negative(n))) => serializer.serialize_i64(n),
            Self::Number(Number(Kind::Float(n))) => serializer.serialize_f64(n),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Array(items) => serializer.collect_seq(items.iter()),
            Self::Object(members) => members.serialize(serializer),
        }
    }
}

/// A JSON number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(Kind);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Unsigned(u64),
    /// Below 0.
    Negative(i64),
    /// Finite.
    Float(f64),
}

impl Number {
    /// The nearest double.
    pub fn as_f64(self) -> f64 {
        match self.0 {
            Kind::Unsigned(n) => n as f64,
            Kind::Negative(n) => n as f64,
            Kind::Float(n) => n,
        }
    }

    /// The integer, when it is one that a double cannot hold.
    pub(crate) fn beyond_double(self) -> Option<i128> {
        let n = match self.0 {
            Kind::Unsigned(n) => i128::from(n),
            Kind::Negative(n) => i128::from(n),
            Kind::Float(_) => return None,
        };
        exact::exceeds_double(n).then_some(n)
    }

    pub(super) fn unsigned(n: u64) -> Self {
        Self(Kind::Unsigned(n))
    }

    pub(super) fn signed(n: i64) -> Self {
        Self(u64::try_from(n).map_or(Kind::Negative(n), Kind::Unsigned))
    }

    /// `None` for what JSON cannot write.
    pub(super) fn float(n: f64) -> Option<Self> {
        n.is_finite().then_some(Self(Kind::Float(n)))
    }

    fn of(n: &serde_json::Number) -> Option<Self> {
        match (n.as_u64(), n.as_i64()) {
            (Some(n), _) => Some(Self::unsigned(n)),
            (_, Some(n)) => Some(Self::signed(n)),
            _ => Self::float(n.as_f64()?),
        }
    }

    fn to_value(self) -> Value {
        match self.0 {
            Kind::Unsigned(n) => n.into(),
            Kind::Negative(n) => n.into(),
            Kind::Float(n) => n.into(),
        }
    }
}

/// The items of a list.
#[derive(Clone, Copy, Debug)]
pub struct Items<'a>(Kept<'a, [Value]>);

/// The members of an object.
#[derive(Clone, Copy, Debug)]
pub struct Members<'a>(Kept<'a, Map<String, Value>>);

#[derive(Debug)]
enum Kept<'a, V: ?Sized> {
    Value(&'a V),
    /// With the number of its own node.
    Compact {
        of: &'a Compact,
        at: usize,
        len: u32,
    },
}

impl<V: ?Sized> Clone for Kept<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V: ?Sized> Copy for Kept<'_, V> {}

impl<'a> Items<'a> {
    pub(super) fn compact(of: &'a Compact, at: usize, len: u32) -> Self {
        Self(Kept::Compact { of, at, len })
    }

    /// How many there are.
    pub fn len(self) -> usize {
        match self.0 {
            Kept::Value(items) => items.len(),
            Kept::Compact { len, .. } => len as usize,
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// All of them, in order.
    pub fn iter(self) -> impl Iterator<Item = View<'a>> {
        let (values, mut nodes) = match self.0 {
            Kept::Value(items) => (items, None),
            Kept::Compact { of, at, len } => (&[][..], Some((of, at + 1, len))),
        };
        let mut values = values.iter();
        std::iter::from_fn(move || match &mut nodes {
            None => values.next().map(View::from),
            Some((_, _, 0)) => None,
            Some((of, at, left)) => {
                let view = of.view(*at);
                (*at, *left) = (of.behind(*at), *left - 1);
                Some(view)
            }
        })
    }
}

impl<'a> From<&'a [Value]> for Items<'a> {
    fn from(items: &'a [Value]) -> Self {
        Self(Kept::Value(items))
    }
}

impl<'a> Members<'a> {
    pub(super) fn compact(of: &'a Compact, at: usize, len: u32) -> Self {
        Self(Kept::Compact { of, at, len })
    }

    /// A member.
    pub fn get(self, name: &str) -> Option<View<'a>> {
        match self.0 {
            Kept::Value(map) => map.get(name).map(View::from),
            Kept::Compact { of, at, len } => {
                let mut at = at + 1;
                for _ in 0..len {
                    if of.name(at) == name {
                        return Some(of.view(at + 1));
                    }
                    at = of.behind(at + 1);
                }
                None
            }
        }
    }

    /// How many there are.
    pub fn len(self) -> usize {
        match self.0 {
            Kept::Value(map) => map.len(),
            Kept::Compact { len, .. } => len as usize,
        }
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    fn nests_deeper(self, levels: usize) -> bool {
        let Some(below) = levels.checked_sub(1) else { return true };
        // In the compact form a level takes a node at least.
        if let Kept::Compact { of, at, .. } = self.0
            && of.behind(at) - at <= levels
        {
            return false;
        }
        self.iter().any(|(_, item)| item.nests_deeper(below))
    }

    /// All of them with their names, in order.
    pub fn iter(self) -> impl Iterator<Item = (&'a str, View<'a>)> {
        let (map, mut nodes) = match self.0 {
            Kept::Value(map) => (Some(map), None),
            Kept::Compact { of, at, len } => (None, Some((of, at + 1, len))),
        };
        let mut members = map.into_iter().flatten();
        std::iter::from_fn(move || match &mut nodes {
            None => members.next().map(|(name, value)| (name.as_str(), value.into())),
            Some((_, _, 0)) => None,
            Some((of, at, left)) => {
                let member = (of.name(*at), of.view(*at + 1));
                (*at, *left) = (of.behind(*at + 1), *left - 1);
                Some(member)
            }
        })
    }

    /// A copy; of two members with one name the later one, at the place of the earlier one.
    pub fn to_map(self) -> Map<String, Value> {
        let mut map = Map::with_capacity(self.len());
        map.extend(self.iter().map(|(name, value)| (name.to_owned(), value.to_value())));
        map
    }
}

impl<'a> From<&'a Map<String, Value>> for Members<'a> {
    fn from(map: &'a Map<String, Value>) -> Self {
        Self(Kept::Value(map))
    }
}

impl Serialize for Members<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        self.iter().try_for_each(|(name, value)| map.serialize_entry(name, &value))?;
        map.end()
    }
}
