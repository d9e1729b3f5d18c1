//! A query as compiled.

use serde_json::Value;

use super::regexp::Regexp;

/// A query, absolute or within a filter.
#[derive(Debug)]
pub(super) struct Query {
    pub(super) origin: Origin,
    pub(super) segments: Box<[Segment]>,
}

impl Query {
    /// Whether it is only names and indexes, so that it selects one node at most.
    pub(super) fn is_singular(&self) -> bool {
        self.segments.iter().all(|segment| matches!(segment, Segment::Step(_)))
    }
}

/// Where a query starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// `$`
    Root,
    /// `@`
    Current,
}

#[derive(Debug)]
pub(super) enum Segment {
    /// One name or one index.
    Step(Step),
    /// `[…]`
    Children(Box<[Selector]>),
    /// `..[…]`
    Descendants(Box<[Selector]>),
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Name(Box<str>),
    Index(i64),
}

#[derive(Debug)]
pub(super) enum Selector {
    Step(Step),
    Wildcard,
    Slice { start: Option<i64>, end: Option<i64>, step: i64 },
    Filter(Logical),
}

#[derive(Debug)]
pub(super) enum Logical {
    Or(Vec<Logical>),
    And(Vec<Logical>),
    Not(Box<Logical>),
    Exists(Query),
    Compare(Operand, Operator, Operand),
    /// `match()`, or `search()` when not `whole`.
    Matches {
        text: Operand,
        pattern: Pattern,
        whole: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// What has a value, or nothing.
#[derive(Debug)]
pub(super) enum Operand {
    Literal(Value),
    /// A singular query.
    Query(Query),
    Length(Box<Operand>),
    Count(Query),
    Value(Query),
}

#[derive(Debug)]
pub(super) enum Pattern {
    Fixed(Regexp),
    Computed(Operand),
}
