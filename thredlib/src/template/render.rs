//! From a template to JSON.

use std::time::Instant;

use serde_json::Value;

use super::{Entry, Node, deepest, pay, pay_for};
use crate::{
    ExprError, ExprLimits,
    expr::{Expression, Scope},
    json::{Builder, Built},
};

pub(super) fn render(
    root: &Node,
    scope: &mut Scope,
    limits: &ExprLimits,
) -> Result<Option<Built>, ExprError> {
    let deadline = Instant::now() + limits.time;
    let most_steps = scope.steps().saturating_add(limits.steps);
    let bytes = limits.result_bytes;
    let mut renderer = Renderer { scope, limits, deadline, most_steps, bytes, out: Builder::new() };
    if renderer.node(root, deepest(limits))? {
        renderer.out.finish().map(Some).map_err(|_| over_size(limits))
    } else {
        Ok(None)
    }
}

/// One rendering and what it may still use.
struct Renderer<'s> {
    scope: &'s mut Scope,
    limits: &'s ExprLimits,
    deadline: Instant,
    /// The scope's steps may not become more.
    most_steps: usize,
    bytes: usize,
    out: Builder,
}

impl Renderer<'_> {
    /// Says whether the value is defined; if not, nothing was put out.
    fn node(&mut self, node: &Node, depth: usize) -> Result<bool, ExprError> {
        match node {
            Node::Literal { value, bytes } => {
                self.pay(*bytes)?;
                self.out.copy(value.into());
            }
            Node::Expression(expression) => match self.evaluate(&**expression, depth)? {
                Some(value) => self.out.copy((&value).into()),
                None => return Ok(false),
            },
            Node::Array(nodes) => {
                self.pay(nodes.len() + 2)?;
                let mut list = self.out.open();
                for node in nodes {
                    if self.node(node, depth - 1)? {
                        self.out.item(&mut list);
                    }
                }
                self.out.close_list(list);
            }
            Node::Object(entries) => self.object(entries, depth)?,
        }
        Ok(true)
    }

    fn object(&mut self, entries: &[Entry], depth: usize) -> Result<(), ExprError> {
        self.pay(2)?;
        let mut object = self.out.open();
        for entry in entries {
            match entry {
                Entry::Member(name, node) => {
                    self.pay(name.len() + 4)?;
                    let (mark, before) = (self.out.mark(), object);
                    self.out.member(&mut object, name);
                    if !self.node(node, depth - 1)? {
                        self.out.undo(mark);
                        object = before;
                    }
                }
                Entry::Spread(expression) => match self.evaluate(&**expression, depth)? {
                    Some(Value::Object(members)) => {
                        for (name, value) in &members {
                            self.out.member(&mut object, name);
                            self.out.copy(value.into());
                        }
                    }
                    Some(other) => {
                        let message = format!(
                            "a `$xpr` key spreads an object, and this gives {}",
                            kind(&other)
                        );
                        return Err(ExprError::failed(expression.source(), message));
                    }
                    None => {}
                },
            }
        }
        self.out.close_object(object);
        Ok(())
    }

    fn evaluate(
        &mut self,
        expression: &dyn Expression,
        depth: usize,
    ) -> Result<Option<Value>, ExprError> {
        let limits = self.limits;
        let over = |limit| ExprError::limit(expression.source(), limit, limits);
        if Instant::now() > self.deadline {
            return Err(over("time"));
        }
        let value = expression.evaluate(self.scope)?;
        if self.scope.steps() > self.most_steps {
            return Err(over("steps"));
        }
        if let Some(value) = &value {
            pay_for(value, depth, &mut self.bytes).map_err(over)?;
        }
        Ok(value)
    }

    fn pay(&mut self, price: usize) -> Result<(), ExprError> {
        pay(price, &mut self.bytes).map_err(|_| over_size(self.limits))
    }
}

fn over_size(limits: &ExprLimits) -> ExprError {
    ExprError::limit("the template", "size", limits)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
