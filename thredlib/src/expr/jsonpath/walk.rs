//! Evaluation: a walk over the nodes, depth first, that hands out each selected node as it is
//! found and stops when enough are.

use std::{
    cmp::Ordering,
    collections::HashMap,
    ops::ControlFlow::{self, Break, Continue},
    time::Instant,
};

use super::{
    node::Node,
    query::{Logical, Operand, Operator, Origin, Pattern, Query, Segment, Selector},
    regexp::Regexp,
};
use crate::ExprLimits;

/// The name of a limit that was gone over.
pub(super) type Breach = &'static str;

/// Whether to go on.
type Flow = Result<ControlFlow<()>, Breach>;

type Found<'f, 'a> = &'f mut dyn FnMut(&mut Walk<'a>, Node<'a>) -> Flow;

/// How much deeper than a result the walk may nest: filters look at a node within the walk to it.
const DEPTH_FACTOR: usize = 4;

/// Visits between two looks at the clock.
const VISITS: usize = 256;

/// How many visits cost as much as one step of the other language.
const VISITS_PER_STEP: usize = 20;

/// One evaluation.
pub(super) struct Walk<'a> {
    root: Node<'a>,
    deadline: Instant,
    /// Visits before the next look at the clock.
    visits: usize,
    /// Visits so far, and the most that there may be.
    steps: usize,
    most_steps: usize,
    depth: usize,
    /// Regular expressions that come from the data, if they are any.
    regexps: HashMap<(&'a str, bool), Option<Regexp>>,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: Node<'a>, limits: &ExprLimits) -> Self {
        Self {
            root,
            deadline: Instant::now() + limits.time,
            visits: VISITS,
            steps: 0,
            most_steps: limits.steps.saturating_mul(VISITS_PER_STEP),
            depth: limits.depth.saturating_mul(DEPTH_FACTOR),
            regexps: HashMap::new(),
        }
    }

    /// Calls `found` with the nodes that the query selects, in order, until it breaks.
    pub(super) fn select(
        &mut self,
        query: &'a Query,
        current: Node<'a>,
        found: Found<'_, 'a>,
    ) -> Flow {
        let start = match query.origin {
            Origin::Root => self.root,
            Origin::Current => current,
        };
        self.follow(&query.segments, start, found)
    }

    /// The node of a singular query.
    pub(super) fn single(&self, query: &Query, current: Node<'a>) -> Option<Node<'a>> {
        let start = match query.origin {
            Origin::Root => self.root,
            Origin::Current => current,
        };
        query.segments.iter().try_fold(start, |node, segment| match segment {
            Segment::Step(step) => node.step(step),
            _ => None,
        })
    }

    fn follow(
        &mut self,
        segments: &'a [Segment],
        mut node: Node<'a>,
        found: Found<'_, 'a>,
    ) -> Flow {
        self.spend(1)?;
        for (at, segment) in segments.iter().enumerate() {
            let rest = &segments[at + 1..];
            match segment {
                Segment::Step(step) => match node.step(step) {
                    Some(next) => node = next,
                    None => return Ok(Continue(())),
                },
                Segment::Children(selectors) => {
                    return self.nested(|walk| walk.apply(selectors, rest, node, found));
                }
                Segment::Descendants(selectors) => {
                    return self.descend(selectors, rest, node, found);
                }
            }
        }
        found(self, node)
    }

    fn descend(
        &mut self,
        selectors: &'a [Selector],
        rest: &'a [Segment],
        node: Node<'a>,
        found: Found<'_, 'a>,
    ) -> Flow {
        self.spend(1)?;
        if !node.is_container() {
            return Ok(Continue(()));
        }
        self.nested(|walk| {
            if walk.apply(selectors, rest, node, found)?.is_break() {
                return Ok(Break(()));
            }
            for child in node.children() {
                if walk.descend(selectors, rest, child, found)?.is_break() {
                    return Ok(Break(()));
                }
            }
            Ok(Continue(()))
        })
    }

    fn apply(
        &mut self,
        selectors: &'a [Selector],
        rest: &'a [Segment],
        node: Node<'a>,
        found: Found<'_, 'a>,
    ) -> Flow {
        for selector in selectors {
            let flow = match selector {
                Selector::Step(step) => match node.step(step) {
                    Some(next) => self.follow(rest, next, found)?,
                    None => Continue(()),
                },
                Selector::Wildcard => self.each(node.children(), None, rest, found)?,
                Selector::Filter(filter) => {
                    self.each(node.children(), Some(filter), rest, found)?
                }
                Selector::Slice { start, end, step } => match node {
                    Node::Array(items) => {
                        let nodes = slice(items.len(), *start, *end, *step);
                        self.each(nodes.map(|index| Node::from(&items[index])), None, rest, found)?
                    }
                    _ => Continue(()),
                },
            };
            if flow.is_break() {
                return Ok(flow);
            }
        }
        Ok(Continue(()))
    }

    fn each(
        &mut self,
        nodes: impl Iterator<Item = Node<'a>>,
        filter: Option<&'a Logical>,
        rest: &'a [Segment],
        found: Found<'_, 'a>,
    ) -> Flow {
        for node in nodes {
            self.spend(1)?;
            if let Some(filter) = filter
                && !self.holds(filter, node)?
            {
                continue;
            }
            if self.follow(rest, node, found)?.is_break() {
                return Ok(Break(()));
            }
        }
        Ok(Continue(()))
    }

    fn holds(&mut self, logical: &'a Logical, current: Node<'a>) -> Result<bool, Breach> {
        match logical {
            Logical::Or(parts) => {
                for part in parts {
                    if self.holds(part, current)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Logical::And(parts) => {
                for part in parts {
                    if !self.holds(part, current)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Logical::Not(inner) => self.holds(inner, current).map(|holds| !holds),
            Logical::Exists(query) => {
                Ok(self.select(query, current, &mut |_, _| Ok(Break(())))?.is_break())
            }
            Logical::Compare(left, operator, right) => {
                let left = self.operand(left, current)?;
                let right = self.operand(right, current)?;
                self.compare(left, *operator, right)
            }
            Logical::Matches { text, pattern, whole } => {
                let Some(Node::Text(text)) = self.operand(text, current)? else {
                    return Ok(false);
                };
                self.matches(text, pattern, *whole, current)
            }
        }
    }

    fn operand(
        &mut self,
        operand: &'a Operand,
        current: Node<'a>,
    ) -> Result<Option<Node<'a>>, Breach> {
        Ok(match operand {
            Operand::Literal(value) => Some(value.into()),
            Operand::Query(query) => {
                self.spend(1 + query.segments.len() / 8)?;
                self.single(query, current)
            }
            Operand::Length(of) => match self.operand(of, current)? {
                Some(Node::Text(text)) => {
                    self.spend(text.len() / 1024)?;
                    Some(Node::Integer(text.chars().count() as i128))
                }
                Some(Node::Array(items)) => Some(Node::Integer(items.len() as i128)),
                Some(Node::Object(object)) => Some(Node::Integer(object.len() as i128)),
                _ => None,
            },
            Operand::Count(query) => {
                let mut count = 0;
                let _ = self.select(query, current, &mut |_, _| {
                    count += 1;
                    Ok(Continue(()))
                })?;
                Some(Node::Integer(count))
            }
            Operand::Value(query) => {
                let mut first = None;
                let flow = self.select(query, current, &mut |_, node| {
                    Ok(if first.replace(node).is_some() { Break(()) } else { Continue(()) })
                })?;
                first.filter(|_| flow.is_continue())
            }
        })
    }

    fn compare(
        &mut self,
        left: Option<Node<'a>>,
        operator: Operator,
        right: Option<Node<'a>>,
    ) -> Result<bool, Breach> {
        let order = match (left, right) {
            (Some(left), Some(right)) => left.order(right),
            _ => None,
        };
        Ok(match operator {
            Operator::Equal => self.equal(left, right)?,
            Operator::NotEqual => !self.equal(left, right)?,
            Operator::Less => order == Some(Ordering::Less),
            Operator::Greater => order == Some(Ordering::Greater),
            Operator::LessOrEqual => order == Some(Ordering::Less) || self.equal(left, right)?,
            Operator::GreaterOrEqual => {
                order == Some(Ordering::Greater) || self.equal(left, right)?
            }
        })
    }

    fn equal(&mut self, left: Option<Node<'a>>, right: Option<Node<'a>>) -> Result<bool, Breach> {
        match (left, right) {
            (Some(left), Some(right)) => self.same(left, right),
            (left, right) => Ok(left.is_none() && right.is_none()),
        }
    }

    fn same(&mut self, left: Node<'a>, right: Node<'a>) -> Result<bool, Breach> {
        self.spend(1)?;
        match (left, right) {
            (Node::Null, Node::Null) => Ok(true),
            (Node::Bool(a), Node::Bool(b)) => Ok(a == b),
            (Node::Text(a), Node::Text(b)) => {
                self.spend(a.len() / 1024)?;
                Ok(a == b)
            }
            (Node::Array(a), Node::Array(b)) if a.len() == b.len() => self.nested(|walk| {
                for (a, b) in a.iter().zip(b) {
                    if !walk.same(a.into(), b.into())? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }),
            (Node::Object(a), Node::Object(b)) if a.len() == b.len() => self.nested(|walk| {
                for (name, member) in a.members() {
                    let Some(other) = b.member(name) else { return Ok(false) };
                    if !walk.same(member, other)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }),
            (a, b) => Ok(a.order(b) == Some(Ordering::Equal)),
        }
    }

    fn matches(
        &mut self,
        text: &str,
        pattern: &'a Pattern,
        whole: bool,
        current: Node<'a>,
    ) -> Result<bool, Breach> {
        self.spend(1 + text.len() / 64)?;
        let outcome = match pattern {
            Pattern::Fixed(regexp) => regexp.is_match(text),
            Pattern::Computed(operand) => {
                let Some(Node::Text(source)) = self.operand(operand, current)? else {
                    return Ok(false);
                };
                if !self.regexps.contains_key(&(source, whole)) {
                    // Compiling takes about as long as many visits.
                    self.spend(VISITS)?;
                    self.regexps.insert((source, whole), Regexp::compile_from_data(source, whole));
                }
                match &self.regexps[&(source, whole)] {
                    Some(regexp) => regexp.is_match(text),
                    None => Some(false),
                }
            }
        };
        outcome.ok_or("size")
    }

    fn nested<T>(
        &mut self,
        inner: impl FnOnce(&mut Self) -> Result<T, Breach>,
    ) -> Result<T, Breach> {
        self.depth = self.depth.checked_sub(1).ok_or("depth")?;
        let outcome = inner(self)?;
        self.depth += 1;
        Ok(outcome)
    }

    /// The steps taken so far.
    pub(super) fn steps(&self) -> usize {
        self.steps / VISITS_PER_STEP
    }

    /// Counts, and looks at the clock each time that so many visits are spent.
    fn spend(&mut self, visits: usize) -> Result<(), Breach> {
        self.steps += visits;
        if self.steps > self.most_steps {
            return Err("steps");
        }
        match self.visits.checked_sub(visits) {
            Some(left) => self.visits = left,
            None if Instant::now() > self.deadline => return Err("time"),
            None => self.visits = VISITS,
        }
        Ok(())
    }
}

/// The indexes of a slice, as RFC 9535 section 2.3.4.2.2 computes them.
fn slice(
    len: usize,
    start: Option<i64>,
    end: Option<i64>,
    step: i64,
) -> impl Iterator<Item = usize> {
    let len = len as i64;
    let absolute = |index: i64| if index < 0 { len + index } else { index };
    let (first, end) = if step >= 0 {
        (absolute(start.unwrap_or(0)).clamp(0, len), absolute(end.unwrap_or(len)).clamp(0, len))
    } else {
        let last = len - 1;
        let end = end.map_or(-1, absolute);
        (start.map_or(last, absolute).clamp(-1, last), end.clamp(-1, last))
    };
    let mut next = first;
    std::iter::from_fn(move || {
        let within = (step > 0 && next < end) || (step < 0 && next > end);
        let index = within.then_some(next as usize);
        next += step;
        index
    })
}
