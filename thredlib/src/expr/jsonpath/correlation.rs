//! What an event and a thred have in common, read off a query.
//!
//! Read from a list of filters, which decides over everything that the query selects, and there
//! from comparisons of absolute singular queries: one into the event, the other into the locals.

use super::{
    super::{
        Correlation, Correlations, ExprError, Scalar, Scope,
        correlation::{EventSide, LocalPath, Relation},
    },
    node::Node,
    query::{Logical, Operand, Operator, Origin, Query, Segment, Selector, Step},
    walk::Walk,
};
use crate::ExprLimits;

impl Query {
    pub(super) fn correlations(&self, limits: &ExprLimits) -> Correlations {
        let known = self.segments.iter().map(|segment| match segment {
            Segment::Children(selectors) | Segment::Descendants(selectors) => {
                any(selectors.iter().map(|selector| match selector {
                    Selector::Filter(filter) => filter.correlations(limits),
                    _ => Correlations::none(),
                }))
            }
            Segment::Step(_) => Correlations::none(),
        });
        known.fold(Correlations::none(), Correlations::and)
    }
}

impl Logical {
    fn correlations(&self, limits: &ExprLimits) -> Correlations {
        match self {
            Self::Or(parts) => any(parts.iter().map(|part| part.correlations(limits))),
            Self::And(parts) => {
                let parts = parts.iter().map(|part| part.correlations(limits));
                parts.fold(Correlations::none(), Correlations::and)
            }
            Self::Compare(Operand::Query(left), Operator::Equal, Operand::Query(right)) => {
                let correlation =
                    relate(left, right, limits).or_else(|| relate(right, left, limits));
                correlation.map_or_else(Correlations::none, Correlations::one)
            }
            Self::Compare(Operand::Query(query), Operator::Equal, Operand::Literal(value))
            | Self::Compare(Operand::Literal(value), Operator::Equal, Operand::Query(query)) => {
                let fixed = Scalar::of(value).map(Fixed);
                match (fixed, local_path(query)) {
                    (Some(fixed), Some(local)) => {
                        Correlations::one(Correlation::new(fixed, local, Relation::Equal))
                    }
                    _ => Correlations::none(),
                }
            }
            _ => Correlations::none(),
        }
    }
}

fn any(mut parts: impl Iterator<Item = Correlations>) -> Correlations {
    let first = parts.next().unwrap_or_default();
    parts.fold(first, Correlations::or)
}

fn relate(event: &Query, local: &Query, limits: &ExprLimits) -> Option<Correlation> {
    let segments = event_path(event)?;
    let query = Query { origin: Origin::Root, segments };
    Some(Correlation::new(Side { query, limits: *limits }, local_path(local)?, Relation::Equal))
}

/// A singular query into the event.
#[derive(Debug)]
struct Side {
    query: Query,
    limits: ExprLimits,
}

impl EventSide for Side {
    fn scalar(&self, scope: &mut Scope) -> Result<Option<Scalar>, ExprError> {
        let root = Node::root(scope);
        Ok(match Walk::new(root, &self.limits).single(&self.query, root) {
            Some(Node::Bool(b)) => Some(Scalar::Bool(b)),
            Some(Node::Integer(n)) => Some(Scalar::number(n as f64)),
            Some(Node::Float(n)) => Some(Scalar::number(n)),
            Some(Node::Text(s)) => Some(Scalar::Text(s.into())),
            Some(Node::Null | Node::Array(_) | Node::Object(_)) | None => None,
        })
    }
}

/// A literal: the same for every event.
#[derive(Debug)]
struct Fixed(Scalar);

impl EventSide for Fixed {
    fn scalar(&self, _: &mut Scope) -> Result<Option<Scalar>, ExprError> {
        Ok(Some(self.0.clone()))
    }
}

fn event_path(query: &Query) -> Option<Box<[Segment]>> {
    let (Segment::Step(Step::Name(first)), Origin::Root) = (query.segments.first()?, query.origin)
    else {
        return None;
    };
    if !matches!(&**first, "event" | "data" | "content" | "values") {
        return None;
    }
    let steps = query.segments.iter().map(|segment| match segment {
        Segment::Step(step) => Some(Segment::Step(step.clone())),
        _ => None,
    });
    steps.collect()
}

/// `$.local.name`, and members of it.
fn local_path(query: &Query) -> Option<LocalPath> {
    let (Segment::Step(Step::Name(first)), Origin::Root) = (query.segments.first()?, query.origin)
    else {
        return None;
    };
    if &**first != "local" || query.segments.len() < 2 {
        return None;
    }
    let names = query.segments[1..].iter().map(|segment| match segment {
        Segment::Step(Step::Name(name)) => Some(name.clone()),
        _ => None,
    });
    names.collect()
}
