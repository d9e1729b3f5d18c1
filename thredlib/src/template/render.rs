//! From a template to JSON.

use std::time::Instant;

use serde_json::{Map, Value};

use super::{Entry, Node, deepest, pay, pay_for};
use crate::{
    ExprError, ExprLimits,
    expr::{Expression, Scope},
};

pub(super) fn render(
    root: &Node,
    scope: &mut Scope,
    limits: &ExprLimits,
) -> Result<Option<Value>, ExprError> {
    let deadline = Instant::now() + limits.time;
    Renderer { scope, deadline, bytes: limits.result_bytes }.node(root, deepest(limits))
}

/// One rendering and what it may still use.
struct Renderer<'s> {
    scope: &'s mut Scope,
    deadline: Instant,
    bytes: usize,
}

impl Renderer<'_> {
    fn node(&mut self, node: &Node, depth: usize) -> Result<Option<Value>, ExprError> {
        Ok(Some(match node {
            Node::Literal { value, bytes } => {
                self.pay(*bytes)?;
                value.clone()
            }
            Node::Expression(expression) => return self.evaluate(&**expression, depth),
            Node::Array(nodes) => {
                self.pay(nodes.len() + 2)?;
                let items = nodes.iter().filter_map(|node| self.node(node, depth - 1).transpose());
                Value::Array(items.collect::<Result<_, _>>()?)
            }
            Node::Object(entries) => Value::Object(self.object(entries, depth)?),
        }))
    }

    fn object(&mut self, entries: &[Entry], depth: usize) -> Result<Map<String, Value>, ExprError> {
        self.pay(2)?;
        let mut map = Map::with_capacity(entries.len());
        for entry in entries {
            match entry {
                Entry::Member(name, node) => {
                    self.pay(name.len() + 4)?;
                    if let Some(value) = self.node(node, depth - 1)? {
                        map.insert(name.clone(), value);
                    }
                }
                Entry::Spread(expression) => match self.evaluate(&**expression, depth)? {
                    Some(Value::Object(members)) => map.extend(members),
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
        Ok(map)
    }

    fn evaluate(
        &mut self,
        expression: &dyn Expression,
        depth: usize,
    ) -> Result<Option<Value>, ExprError> {
        let over = |limit| ExprError::limit(expression.source(), limit);
        if Instant::now() > self.deadline {
            return Err(over("time"));
        }
        let value = expression.evaluate(self.scope)?;
        if let Some(value) = &value {
            pay_for(value, depth, &mut self.bytes).map_err(over)?;
        }
        Ok(value)
    }

    fn pay(&mut self, price: usize) -> Result<(), ExprError> {
        pay(price, &mut self.bytes).map_err(|limit| ExprError::limit("the template", limit))
    }
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
