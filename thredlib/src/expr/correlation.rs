//! What an event and a thred have in common when an expression is true: equalities between
//! something of the event and a local, read from a compiled expression.

use std::{fmt::Debug, sync::Arc};

use serde_json::{Map, Value};

use super::{ExprError, Scalar, Scope};

/// An equality between something of the event and a local: it holds whenever the expression that
/// it was read from is true.
///
/// Both sides are compared as [`Scalar`]s, numbers as doubles: what is equal in either language is
/// the same scalar, though two integers beyond 2^53 that differ may be the same one too.
#[derive(Clone, Debug)]
pub struct Correlation {
    event: Arc<dyn EventSide>,
    local: LocalPath,
    relation: Relation,
}

/// A local by its name, and the names of the fields that lead on from it.
pub(super) type LocalPath = Box<[Box<str>]>;

/// How the event's side relates to the local.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Relation {
    /// It equals the local.
    Equal,
    /// It equals the local or, when that is a list, one of its items.
    In,
}

/// The event's side of a correlation; depends on nothing but the event.
pub(super) trait EventSide: Debug + Send + Sync {
    /// The value; `None` when it is no text, number or boolean.
    fn scalar(&self, scope: &mut Scope) -> Result<Option<Scalar>, ExprError>;
}

impl Correlation {
    /// The most items that a list in a local may have for [`of_locals`](Self::of_locals) to name
    /// them.
    pub const MAX_VALUES: usize = 64;

    pub(super) fn new(
        event: impl EventSide + 'static,
        local: LocalPath,
        relation: Relation,
    ) -> Self {
        Self { event: Arc::new(event), local, relation }
    }

    /// The value that the scope's event has. `None` when that is no text, number or boolean: then
    /// it equals no local for which [`of_locals`](Self::of_locals) names values.
    ///
    /// # Errors
    /// When the evaluation fails, as that of the whole expression would if it came to this part.
    pub fn of_event(&self, scope: &mut Scope) -> Result<Option<Scalar>, ExprError> {
        self.event.scalar(scope)
    }

    /// The values of which the event must have one, sorted, each once; none at all when the local
    /// is an empty list that the event's value must be in. `None` when that cannot be told: the
    /// local is missing, null, an object or a list, or holds more than
    /// [`MAX_VALUES`](Self::MAX_VALUES) items, or one that is no text, number or boolean.
    pub fn of_locals(&self, locals: &Map<String, Value>) -> Option<Vec<Scalar>> {
        let (first, rest) = self.local.split_first()?;
        let found = rest.iter().try_fold(locals.get(&**first)?, |value, name| value.get(&**name));
        match (found?, self.relation) {
            (Value::Array(items), Relation::In) if items.len() <= Self::MAX_VALUES => {
                let mut values = items.iter().map(Scalar::of).collect::<Option<Vec<_>>>()?;
                values.sort_unstable();
                values.dedup();
                Some(values)
            }
            (value, _) => Some(vec![Scalar::of(value)?]),
        }
    }
}

/// What is known of an expression that is true: at least one of the alternatives holds, and of that
/// every correlation.
#[derive(Clone, Debug, Default)]
pub struct Correlations(Vec<Vec<Correlation>>);

impl Correlations {
    /// The most alternatives that are told apart.
    pub const MAX_ALTERNATIVES: usize = 8;

    /// The most correlations of one alternative; those that are written later are left out.
    pub const MAX_TOGETHER: usize = 4;

    /// Nothing is known.
    pub fn none() -> Self {
        Self::default()
    }

    pub(super) fn one(correlation: Correlation) -> Self {
        Self(vec![vec![correlation]])
    }

    /// Whether nothing is known.
    pub fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    /// The alternatives; none of them is empty.
    pub fn alternatives(&self) -> impl ExactSizeIterator<Item = &[Correlation]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// What is known when both expressions are true: each alternative of one with each of the
    /// other. Where those would be too many, the side that has fewer, or is written first, counts
    /// alone.
    pub(super) fn and(self, other: Self) -> Self {
        match (self.0.len(), other.0.len()) {
            (_, 0) => self,
            (0, _) => other,
            (a, b) if a * b <= Self::MAX_ALTERNATIVES => {
                let pairs = self.0.iter().flat_map(|a| other.0.iter().map(move |b| (a, b)));
                let together = |(a, b): (&Vec<_>, &Vec<_>)| {
                    a.iter().chain(b).take(Self::MAX_TOGETHER).cloned().collect()
                };
                Self(pairs.map(together).collect())
            }
            (a, b) if b < a => other,
            _ => self,
        }
    }

    /// What is known when at least one of two expressions is true.
    pub(super) fn or(mut self, other: Self) -> Self {
        if self.is_none()
            || other.is_none()
            || self.0.len() + other.0.len() > Self::MAX_ALTERNATIVES
        {
            return Self::none();
        }
        self.0.extend(other.0);
        self
    }
}

#[cfg(test)]
mod tests;
