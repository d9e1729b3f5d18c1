//! JSONPath (RFC 9535): queries over `{event, data, content, values, local, thredId,
//! outboundEvent}`, walked in place under limits.
//!
//! A filter matches when some selected node is neither false nor null. The form for a condition on
//! the event is a filter at the root that looks at absolute paths:
//!
//! ```text
//! $[?$.event.type == 'org.example.order' && $.values.amount > 100]
//! ```
//!
//! It selects all or nothing, and its type is read off it as a [`Requirement`], so that the
//! pattern is only offered events of that type. `$[?@.type == 'org.example.order']` is not the
//! same: each member of the root may have a `type`, the data and the locals too.
//!
//! As a value, a query of names and indexes gives its node, any other the list of its nodes.
//!
//! An event shows its JSON, its timestamp also as `time`. In two places a query is held to more
//! than the RFC asks: a regular expression in the text must be valid, and nesting has a bound.

mod correlation;
mod node;
mod parse;
mod query;
mod regexp;
mod requirement;
mod walk;

#[cfg(test)]
mod tests;

use std::{
    ops::ControlFlow::{Break, Continue},
    sync::Arc,
};

use serde_json::Value;

use self::{
    node::Node,
    query::Query,
    walk::{Breach, Walk},
};
use super::{CompileError, Correlations, ExprError, Expression, Requirement, Scope};
use crate::{ExprLimits, ExpressionLanguage};

/// Compiles a JSONPath query.
pub(super) fn compile(
    source: &str,
    limits: &ExprLimits,
) -> Result<Arc<dyn Expression>, CompileError> {
    let query = parse::parse(source)?;
    Ok(Arc::new(Jsonpath { source: source.into(), query, limits: *limits }))
}

/// A compiled JSONPath query.
#[derive(Debug)]
struct Jsonpath {
    source: Box<str>,
    query: Query,
    limits: ExprLimits,
}

impl Jsonpath {
    fn value<'a>(&'a self, walk: &mut Walk<'a>, root: Node<'a>) -> Result<Option<Value>, Breach> {
        let mut bytes = self.limits.result_bytes;
        if self.query.is_singular() {
            let node = walk.single(&self.query, root);
            return node
                .map(|node| node.to_value(&mut bytes, self.limits.result_depth()))
                .transpose();
        }
        let mut values = Vec::new();
        let _ = walk.select(&self.query, root, &mut |_, node| {
            if values.len() == self.limits.sequence {
                return Err("sequence");
            }
            values.push(node.to_value(&mut bytes, self.limits.result_depth().saturating_sub(1))?);
            Ok(Continue(()))
        })?;
        Ok(Some(Value::Array(values)))
    }

    fn matches<'a>(&'a self, walk: &mut Walk<'a>, root: Node<'a>) -> Result<bool, Breach> {
        let flow = walk.select(&self.query, root, &mut |_, node| {
            Ok(match node {
                Node::Null | Node::Bool(false) => Continue(()),
                _ => Break(()),
            })
        })?;
        Ok(flow.is_break())
    }

    fn run<T>(
        &self,
        scope: &mut Scope,
        evaluate: for<'a> fn(&'a Self, &mut Walk<'a>, Node<'a>) -> Result<T, Breach>,
    ) -> Result<T, ExprError> {
        let root = Node::root(scope);
        let mut walk = Walk::new(root, &self.limits);
        let outcome = evaluate(self, &mut walk, root);
        let steps = walk.steps();
        scope.spend(steps);
        outcome.map_err(|breach| ExprError::limit(&self.source, breach, &self.limits))
    }
}

impl Expression for Jsonpath {
    fn language(&self) -> ExpressionLanguage {
        ExpressionLanguage::Jsonpath
    }

    fn source(&self) -> &str {
        &self.source
    }

    fn evaluate(&self, scope: &mut Scope) -> Result<Option<Value>, ExprError> {
        self.run(scope, Self::value)
    }

    fn test(&self, scope: &mut Scope) -> Result<bool, ExprError> {
        self.run(scope, Self::matches)
    }

    fn requirement(&self) -> Requirement {
        self.query.requirement()
    }

    fn correlations(&self) -> Correlations {
        self.query.correlations(&self.limits)
    }

    fn may_set_locals(&self) -> bool {
        false
    }
}
