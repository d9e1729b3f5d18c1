//! What an event must be like, read from a compiled expression.

use crate::json::View;

/// A necessary condition on an event: whenever the expression is true of an event, so is this.
/// The reverse need not hold.
#[derive(Clone, Debug, PartialEq)]
pub enum Requirement {
    /// Nothing is known: any event may match.
    Anything,
    /// No event can match.
    Nothing,
    /// The field equals one of the scalars.
    OneOf(Field, Vec<Scalar>),
    /// All of these hold.
    All(Vec<Requirement>),
    /// At least one of these holds.
    Any(Vec<Requirement>),
}

/// A place in an event that a match index can look at.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Field {
    /// `type`.
    Type,
    /// `source.id`.
    SourceId,
    /// The first value of that name in `data.content.values`.
    ValueNamed(Box<str>),
}

/// A JSON scalar, comparable as both languages compare: by type and value, numbers as doubles.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scalar {
    /// `true` or `false`.
    Bool(bool),
    /// A number: the bits of the double, with -0 as 0.
    Number(u64),
    /// A text.
    Text(Box<str>),
}

impl Scalar {
    /// A number.
    pub fn number(n: f64) -> Self {
        Self::Number(if n == 0.0 { 0.0_f64.to_bits() } else { n.to_bits() })
    }

    /// The scalar of a JSON value; `None` for null, arrays and objects.
    pub fn of<'a>(value: impl Into<View<'a>>) -> Option<Self> {
        match value.into() {
            View::Bool(b) => Some(Self::Bool(b)),
            View::Number(n) => Some(Self::number(n.as_f64())),
            View::Text(s) => Some(Self::Text(s.into())),
            _ => None,
        }
    }
}
