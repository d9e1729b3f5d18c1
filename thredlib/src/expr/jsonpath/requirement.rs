//! What an event must be like, read off a query.
//!
//! Read from a filter on the root's children, and there from comparisons of an absolute singular
//! query with a literal, which no limit can cut short: an event that an index passes over because
//! of the requirement would not have made the evaluation fail either.

use super::{
    super::{Field, Requirement, Scalar},
    query::{Logical, Operand, Operator, Origin, Query, Segment, Selector, Step},
};

impl Query {
    pub(super) fn requirement(&self) -> Requirement {
        match &*self.segments {
            [Segment::Children(selectors), ..] => {
                any(selectors.iter().map(|selector| match selector {
                    Selector::Filter(filter) => filter.requirement(),
                    _ => Requirement::Anything,
                }))
            }
            _ => Requirement::Anything,
        }
    }
}

impl Logical {
    fn requirement(&self) -> Requirement {
        match self {
            Self::Or(parts) => any(parts.iter().map(Self::requirement)),
            Self::And(parts) => {
                let known = parts.iter().position(|part| !part.is_infallible());
                let reached = known.map_or(parts.len(), |at| at + 1);
                all(parts[..reached].iter().map(Self::requirement))
            }
            Self::Compare(Operand::Query(query), Operator::Equal, Operand::Literal(value))
            | Self::Compare(Operand::Literal(value), Operator::Equal, Operand::Query(query)) => {
                match (field(query), Scalar::of(value)) {
                    (Some(field), Some(scalar)) => Requirement::OneOf(field, vec![scalar]),
                    _ => Requirement::Anything,
                }
            }
            _ => Requirement::Anything,
        }
    }

    /// Whether it needs no more than a few steps, whatever the event.
    fn is_infallible(&self) -> bool {
        match self {
            Self::Or(parts) | Self::And(parts) => parts.iter().all(Self::is_infallible),
            Self::Not(inner) => inner.is_infallible(),
            Self::Exists(query) => query.is_singular(),
            Self::Compare(left, _, right) => matches!(
                (left, right),
                (Operand::Query(_), Operand::Literal(_)) | (Operand::Literal(_), Operand::Query(_))
            ),
            Self::Matches { .. } => false,
        }
    }
}

fn field(query: &Query) -> Option<Field> {
    if query.origin != Origin::Root {
        return None;
    }
    let name = |segment: &'_ Segment| match segment {
        Segment::Step(Step::Name(name)) => Some(name.clone()),
        _ => None,
    };
    let names: Vec<Box<str>> = query.segments.iter().map(name).collect::<Option<_>>()?;
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    match names.as_slice() {
        ["event", "type"] => Some(Field::Type),
        ["event", "source", "id"] => Some(Field::SourceId),
        // A value's own name comes before those below it, so this one is the first.
        ["values", name]
        | ["content", "values", name]
        | ["data", "content", "values", name]
        | ["event", "data", "content", "values", name] => Some(Field::ValueNamed((*name).into())),
        _ => None,
    }
}

fn all(parts: impl Iterator<Item = Requirement>) -> Requirement {
    let mut known: Vec<_> = parts.filter(|part| *part != Requirement::Anything).collect();
    match known.pop() {
        None => Requirement::Anything,
        Some(only) if known.is_empty() => only,
        Some(last) => {
            known.push(last);
            Requirement::All(known)
        }
    }
}

fn any(parts: impl Iterator<Item = Requirement>) -> Requirement {
    let mut parts: Vec<_> = parts.collect();
    match parts.pop() {
        _ if parts.contains(&Requirement::Anything) => Requirement::Anything,
        None | Some(Requirement::Anything) => Requirement::Anything,
        Some(only) if parts.is_empty() => only,
        Some(last) => {
            parts.push(last);
            Requirement::Any(parts)
        }
    }
}
