//! Evaluation of the native tree over the event and the locals as they are.

use std::cell::Cell;

use serde_json::{Map, Value};

use super::{
    super::super::Scope,
    Node, Program, Root, Statement,
    operand::{Bail, Copy, Evaluated, Operand, arithmetic, compare, equal, is_among},
};
use crate::ExprLimits;

impl Program {
    /// Runs the statements and reads the last one's value off with `read`. After a bail the
    /// locals are as before.
    pub(in super::super) fn run<T>(
        &self,
        scope: &mut Scope,
        limits: &ExprLimits,
        read: impl FnOnce(Operand<'_>) -> Result<T, Bail>,
    ) -> Result<T, Bail> {
        if !self.sets_locals {
            let frame = Frame::new(scope, limits);
            let mut last = Operand::Undefined;
            for statement in &self.statements {
                if let Statement::Evaluate(node) = statement {
                    last = frame.evaluate(node)?;
                }
            }
            return read(last);
        }
        let before = scope.locals.clone();
        let result = self
            .run_setting(scope, limits)
            .and_then(|last| read(last.map_or(Operand::Undefined, Operand::Made)));
        if result.is_err() {
            scope.locals = before;
        }
        result
    }

    fn run_setting(&self, scope: &mut Scope, limits: &ExprLimits) -> Result<Option<Value>, Bail> {
        let mut last = None;
        for statement in &self.statements {
            let (Statement::Evaluate(node) | Statement::SetLocal(_, node)) = statement;
            last = Frame::new(scope, limits).evaluate(node)?.into_value(limits)?;
            if let Statement::SetLocal(name, _) = statement {
                scope.set_local(name, last.clone());
            }
        }
        Ok(last)
    }
}

struct Frame<'a> {
    scope: &'a Scope,
    limits: &'a ExprLimits,
    /// Bytes that may still be copied into arrays and objects.
    room: Cell<usize>,
}

impl<'a> Frame<'a> {
    fn new(scope: &'a Scope, limits: &'a ExprLimits) -> Self {
        Self { scope, limits, room: Cell::new(limits.result_bytes) }
    }

    /// A part of what is being made.
    fn part(&self, node: &'a Node) -> Result<Option<Value>, Bail> {
        let mut copy = Copy { bytes: self.room.get() };
        let value = copy.operand(self.evaluate(node)?, self.limits.result_depth())?;
        self.room.set(copy.bytes);
        Ok(value)
    }

    fn evaluate(&self, node: &'a Node) -> Evaluated<'a> {
        Ok(match node {
            Node::Foreign => return Err(Bail),
            Node::Undefined => Operand::Undefined,
            Node::Literal(value) => Operand::of(value),
            Node::Path(root, names) => self.path(root, names)?,
            Node::IsResponseFor(published) => {
                let re = self.scope.event.re.as_ref();
                Operand::Bool(published.is_answered(re, &self.scope.locals))
            }
            Node::Millis => Operand::Number(self.scope.now as f64),
            Node::Equal(sides) => {
                let [a, b] = self.both(sides)?;
                Operand::Bool(equal(&a, &b)?)
            }
            Node::NotEqual(sides) => {
                let [a, b] = self.both(sides)?;
                let defined = !a.is_undefined() && !b.is_undefined();
                Operand::Bool(defined && !equal(&a, &b)?)
            }
            Node::Compare(order, sides) => {
                let [a, b] = self.both(sides)?;
                compare(*order, &a, &b)?
            }
            Node::In(item, among) => {
                let item = self.evaluate(item)?;
                Operand::Bool(is_among(&item, among)?)
            }
            Node::And(sides) => Operand::Bool(self.truthy(&sides[0])? && self.truthy(&sides[1])?),
            Node::Or(sides) => Operand::Bool(self.truthy(&sides[0])? || self.truthy(&sides[1])?),
            Node::Not(inner) => match self.evaluate(inner)? {
                Operand::Undefined => Operand::Undefined,
                value => Operand::Bool(!value.truthy()?),
            },
            Node::Boolean(inner) => match self.evaluate(inner)? {
                Operand::Undefined => Operand::Undefined,
                value => Operand::Bool(value.truthy()?),
            },
            Node::Exists(inner) => Operand::Bool(!self.evaluate(inner)?.is_undefined()),
            Node::Concat(sides) => self.concat(sides)?,
            Node::Arithmetic(op, sides) => {
                let [a, b] = self.both(sides)?;
                arithmetic(*op, &a, &b)?
            }
            Node::Negate(inner) => match self.evaluate(inner)? {
                Operand::Number(n) => Operand::Number(-n),
                Operand::Undefined => Operand::Undefined,
                _ => return Err(Bail),
            },
            Node::If(parts) => {
                let [condition, then, otherwise] = &**parts;
                return self.evaluate(if self.truthy(condition)? { then } else { otherwise });
            }
            Node::Object(entries) => {
                let mut map = Map::with_capacity(entries.len());
                for (key, node) in entries {
                    if let Some(value) = self.part(node)? {
                        map.insert(String::from(&**key), value);
                    }
                }
                Operand::Made(Value::Object(map))
            }
            Node::Array(items) => self.array(items)?,
        })
    }

    fn both(&self, sides: &'a [Node; 2]) -> Result<[Operand<'a>; 2], Bail> {
        Ok([self.evaluate(&sides[0])?, self.evaluate(&sides[1])?])
    }

    fn truthy(&self, node: &'a Node) -> Result<bool, Bail> {
        self.evaluate(node)?.truthy()
    }

    fn array(&self, items: &'a [Node]) -> Evaluated<'a> {
        let mut array = Vec::with_capacity(items.len());
        for node in items {
            match self.part(node)? {
                None => {}
                // Only an array that is written as one stays one; others are spliced in.
                Some(Value::Array(_)) if !matches!(node, Node::Array(_)) => return Err(Bail),
                Some(value) => array.push(value),
            }
        }
        Ok(Operand::Made(Value::Array(array)))
    }

    fn concat(&self, sides: &'a [Node; 2]) -> Evaluated<'a> {
        let [a, b] = self.both(sides)?;
        let mut text = String::new();
        for side in [&a, &b] {
            side.write(&mut text)?;
        }
        if text.len() > self.limits.result_bytes {
            return Err(Bail);
        }
        Ok(Operand::Made(Value::String(text)))
    }

    fn path(&self, root: &'a Root, names: &'a [Box<str>]) -> Evaluated<'a> {
        let event = &*self.scope.event;
        let start = match root {
            Root::Event => Operand::Event(event),
            Root::Error => Operand::of_option(event.error_view()),
            Root::Outbound => {
                self.scope.outbound.as_deref().map_or(Operand::Undefined, Operand::Event)
            }
            Root::Data => {
                event.data.as_ref().map_or(Operand::Undefined, |data| Operand::Map(data.view()))
            }
            Root::Content => Operand::of_option(event.view(&["content"])),
            Root::Values => Operand::of_option(event.view(&["content", "values"])),
            Root::Advice => Operand::of_option(event.view(&["advice"])),
            Root::ThredId => Operand::of_text(self.scope.thred_id.as_ref().map(|id| id.as_str())),
            Root::ValueNamed(name) => Operand::of_option(event.view_named(name)),
            Root::Local(name) => Operand::of_option(self.scope.locals.get(&**name)),
        };
        names.iter().try_fold(start, |value, name| value.step(name))
    }
}
