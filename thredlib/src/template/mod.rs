//! Templates: JSON with expressions in it.
//!
//! | written | gives |
//! |---|---|
//! | `"$xpr(…)"` as a value | the result of the expression, of any JSON type |
//! | `"$xpr": "…"` as a key | the members of the expression's object, at that place |
//! | `"$xpr": {"jsonpath": "…"}` | the same, in the language that is named; `jsonata` likewise |
//! | anything else | itself |
//!
//! An undefined result drops what it stands for: the key, the item of the array, the spread. Of
//! two members with one name the later one wins and the place of the earlier one stays, as in a
//! JavaScript object spread. What an expression gives is data and is never evaluated again.

mod compile;
mod render;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use serde_json::Value;

use crate::{
    CompileError, EventData, ExprError, ExprLimits, ExpressionLanguage,
    expr::{Expression, Scope},
    json::Built,
};

/// A compiled template; cheap to clone.
///
/// A string that starts with `$xpr(` and ends with `)` stands for its expression's result, of any
/// JSON type; an undefined result drops the key. A key `"$xpr"` spreads its expression's object
/// into the enclosing object. Everything else is literal.
///
/// ```
/// use std::sync::Arc;
/// use serde_json::json;
/// use thredlib::{Event, ExprLimits, ExpressionLanguage, Template, expr::Scope};
///
/// let template = json!({ "title": "Order", "amount": "$xpr($.values.amount)" });
/// let limits = ExprLimits::default();
/// let template = Template::compile(&template, ExpressionLanguage::Jsonpath, &limits).unwrap();
///
/// let event = Event::builder("org.example.order", "shop").values(json!({ "amount": 10 })).build();
/// let rendered = template.render(&mut Scope::new(Arc::new(event), 0, 0)).unwrap();
/// assert_eq!(rendered, Some(json!({ "title": "Order", "amount": 10 })));
/// ```
#[derive(Clone, Debug)]
pub struct Template {
    root: Arc<Node>,
    limits: ExprLimits,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// Every expression that does not compile, with its JSON path below the template
    /// (`.content.values.x`, `.to[1]`) and the column within the expression. A template that is
    /// itself over the limits of a result.
    pub fn compile(
        template: &Value,
        language: ExpressionLanguage,
        limits: &ExprLimits,
    ) -> Result<Self, Vec<(String, CompileError)>> {
        let root = compile::compile(template, language, limits)?;
        Ok(Self { root: Arc::new(root), limits: *limits })
    }

    /// The JSON with all expressions replaced; `None` when the whole is one undefined expression.
    ///
    /// Expressions run in the order they are written. The limits hold for each of them, and
    /// steps, time, size and depth for the whole as well.
    ///
    /// # Errors
    /// When an expression fails, a `"$xpr"` key gives no object, or the result is over the limit.
    /// The scope's locals may have been changed in part.
    pub fn render(&self, scope: &mut Scope) -> Result<Option<Value>, ExprError> {
        Ok(render::render(&self.root, scope, &self.limits)?.map(Built::into_value))
    }

    /// The payload of an event, rendered without a JSON value in between; `None` when the result is
    /// no object.
    ///
    /// # Errors
    /// As [`render`](Self::render).
    pub fn render_data(&self, scope: &mut Scope) -> Result<Option<EventData>, ExprError> {
        Ok(render::render(&self.root, scope, &self.limits)?.and_then(EventData::built))
    }

    /// The value of a template without expressions.
    pub fn as_literal(&self) -> Option<&Value> {
        match &*self.root {
            Node::Literal { value, .. } => Some(value),
            _ => None,
        }
    }
}

/// A part of a template.
#[derive(Debug)]
enum Node {
    /// Without an expression anywhere below.
    Literal {
        value: Value,
        /// As JSON, about.
        bytes: usize,
    },
    Expression(Arc<dyn Expression>),
    Array(Vec<Node>),
    Object(Vec<Entry>),
}

#[derive(Debug)]
enum Entry {
    Member(String, Node),
    Spread(Arc<dyn Expression>),
}

/// How deep a template and its result may nest: as deep as a result, less the level of the event
/// that it becomes the payload of.
fn deepest(limits: &ExprLimits) -> usize {
    limits.result_depth().saturating_sub(1)
}

/// Pays for a value out of the bytes that are left. The error names the limit that does not hold.
fn pay_for(value: &Value, depth: usize, bytes: &mut usize) -> Result<(), &'static str> {
    match value {
        Value::String(s) => pay(s.len() + 2, bytes),
        Value::Array(items) => {
            pay(items.len() + 2, bytes)?;
            let depth = depth.checked_sub(1).ok_or("depth")?;
            items.iter().try_for_each(|item| pay_for(item, depth, bytes))
        }
        Value::Object(map) => {
            pay(2, bytes)?;
            let depth = depth.checked_sub(1).ok_or("depth")?;
            map.iter().try_for_each(|(name, item)| {
                pay(name.len() + 4, bytes)?;
                pay_for(item, depth, bytes)
            })
        }
        _ => pay(5, bytes),
    }
}

fn pay(price: usize, bytes: &mut usize) -> Result<(), &'static str> {
    *bytes = bytes.checked_sub(price).ok_or("size")?;
    Ok(())
}
