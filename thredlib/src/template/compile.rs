//! From JSON to a template.

use std::sync::Arc;

use serde_json::{Map, Value};

use super::{Entry, Node, deepest, pay_for};
use crate::{
    CompileError, ExprLimits, ExpressionLanguage,
    expr::{self, Expression},
};

/// The key that spreads an object.
const SPREAD: &str = "$xpr";

pub(super) fn compile(
    template: &Value,
    language: ExpressionLanguage,
    limits: &ExprLimits,
) -> Result<Node, Vec<(String, CompileError)>> {
    let mut compiler = Compiler {
        language,
        limits,
        path: String::new(),
        bytes: limits.result_bytes,
        errors: Vec::new(),
    };
    let node = compiler.node(template, deepest(limits));
    if !compiler.errors.is_empty() {
        // What is deeper than the limit must not be copied.
        return Err(compiler.errors);
    }
    let node = compiler.or_literal(node, template, deepest(limits));
    if compiler.errors.is_empty() { Ok(node) } else { Err(compiler.errors) }
}

struct Compiler<'l> {
    language: ExpressionLanguage,
    limits: &'l ExprLimits,
    /// Where it is, below the template.
    path: String,
    /// What is left for the literal parts.
    bytes: usize,
    errors: Vec<(String, CompileError)>,
}

impl Compiler<'_> {
    /// `None` when there is no expression in the value, so that only the topmost value without
    /// one is copied.
    fn node(&mut self, value: &Value, depth: usize) -> Option<Node> {
        match value {
            Value::String(text) => {
                let source = text.strip_prefix("$xpr(")?.strip_suffix(')')?;
                self.expression(self.language, source.trim()).map(Node::Expression)
            }
            Value::Array(items) => {
                let depth = self.deeper(depth)?;
                self.array(items, depth)
            }
            Value::Object(map) => {
                let depth = self.deeper(depth)?;
                self.object(map, depth)
            }
            _ => None,
        }
    }

    fn array(&mut self, items: &[Value], depth: usize) -> Option<Node> {
        let nodes: Vec<_> = items
            .iter()
            .enumerate()
            .map(|(index, item)| self.below(&format!("[{index}]"), |own| own.node(item, depth)))
            .collect();
        if nodes.iter().all(Option::is_none) {
            return None;
        }
        let nodes = nodes.into_iter().zip(items);
        Some(Node::Array(nodes.map(|(node, item)| self.or_literal(node, item, depth)).collect()))
    }

    fn object(&mut self, map: &Map<String, Value>, depth: usize) -> Option<Node> {
        let entries: Vec<_> = map
            .iter()
            .map(|(name, value)| {
                self.below(&step(name), |own| {
                    if name == SPREAD {
                        own.spread(value).map(Entry::Spread)
                    } else {
                        own.node(value, depth).map(|node| Entry::Member(name.clone(), node))
                    }
                })
            })
            .collect();
        if entries.iter().all(Option::is_none) {
            return None;
        }
        let entries = entries.into_iter().zip(map).map(|(entry, (name, value))| {
            entry
                .unwrap_or_else(|| Entry::Member(name.clone(), self.or_literal(None, value, depth)))
        });
        Some(Node::Object(entries.collect()))
    }

    fn or_literal(&mut self, node: Option<Node>, value: &Value, depth: usize) -> Node {
        node.unwrap_or_else(|| self.literal(value, depth))
    }

    fn literal(&mut self, value: &Value, depth: usize) -> Node {
        let before = self.bytes;
        match pay_for(value, depth, &mut self.bytes) {
            Ok(()) => Node::Literal { value: value.clone(), bytes: before - self.bytes },
            Err("size") => {
                let most = self.limits.result_bytes;
                self.refuse(format!("the template is longer than {most} bytes; shorten it"), "");
                // Said once is enough.
                self.bytes = usize::MAX;
                Node::Literal { value: Value::Null, bytes: 0 }
            }
            // Too deep, which is refused already.
            Err(_) => Node::Literal { value: Value::Null, bytes: 0 },
        }
    }

    /// The expression of a `$xpr` key.
    fn spread(&mut self, value: &Value) -> Option<Arc<dyn Expression>> {
        let named = |map: &Map<String, Value>| {
            let (name, source) = map.iter().next().filter(|_| map.len() == 1)?;
            let language = match name.as_str() {
                "jsonata" => ExpressionLanguage::Jsonata,
                "jsonpath" => ExpressionLanguage::Jsonpath,
                _ => return None,
            };
            Some((language, source.as_str()?.to_owned()))
        };
        let found = match value {
            Value::String(source) => Some((self.language, source.clone())),
            Value::Object(map) => named(map),
            _ => None,
        };
        match found {
            Some((language, source)) => self.expression(language, &source),
            None => {
                let shown: String = value.to_string().chars().take(40).collect();
                let message = "a `$xpr` key takes an expression: a text, {\"jsonata\": \"…\"} or \
                               {\"jsonpath\": \"…\"}";
                self.refuse(message, &shown);
                None
            }
        }
    }

    fn expression(
        &mut self,
        language: ExpressionLanguage,
        source: &str,
    ) -> Option<Arc<dyn Expression>> {
        match expr::compile(language, source, self.limits) {
            Ok(expression) => Some(expression),
            Err(error) => {
                self.errors.push((self.path.clone(), error));
                None
            }
        }
    }

    fn deeper(&mut self, depth: usize) -> Option<usize> {
        let deeper = depth.checked_sub(1);
        if deeper.is_none() {
            let most = deepest(self.limits);
            self.refuse(format!("the template nests deeper than {most} levels; flatten it"), "");
        }
        deeper
    }

    fn below<T>(&mut self, step: &str, inner: impl FnOnce(&mut Self) -> T) -> T {
        let length = self.path.len();
        self.path.push_str(step);
        let outcome = inner(self);
        self.path.truncate(length);
        outcome
    }

    fn refuse(&mut self, message: impl Into<String>, shown: &str) {
        self.errors.push((self.path.clone(), CompileError::at(shown, 1, message)));
    }
}

/// A member's step in a JSON path; quoted when it would not read as one name.
fn step(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "_$-".contains(c);
    if !name.is_empty() && name.chars().all(plain) {
        format!(".{name}")
    } else {
        format!("[{}]", Value::from(name))
    }
}
