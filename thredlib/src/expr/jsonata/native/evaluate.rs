//! Evaluation of the native tree over the event and the locals as they are.

use serde_json::{Map, Value};

use super::{
    super::{super::Scope, convert, host},
    Arithmetic, Node, Order, Program, Root, Statement,
};
use crate::{Event, ExprLimits};

/// The native part ends here; the interpreter has to do it.
#[derive(Debug)]
pub(in super::super) struct Bail;

/// A value on its way, borrowed where it can be.
#[derive(Debug)]
pub(in super::super) enum Operand<'a> {
    Undefined,
    Null,
    Bool(bool),
    Number(f64),
    Text(&'a str),
    List(&'a [Value]),
    Map(&'a Map<String, Value>),
    Made(Value),
    /// The whole event or its source: what only the interpreter has as one value.
    Event(&'a Event),
    Source(&'a Event),
}

type Evaluated<'a> = Result<Operand<'a>, Bail>;

impl Program {
    /// Runs the statements and reads the last one's value off with `read`. After a bail the
    /// locals are as before.
    pub(in super::super) fn run<T>(
        &self,
        scope: &mut Scope,
        limits: &ExprLimits,
        read: impl FnOnce(&Operand<'_>) -> Result<T, Bail>,
    ) -> Result<T, Bail> {
        if !self.sets_locals {
            let frame = Frame { scope, limits };
            let mut last = Operand::Undefined;
            for statement in &self.statements {
                if let Statement::Evaluate(node) = statement {
                    last = frame.evaluate(node)?;
                }
            }
            return read(&last);
        }
        let before = scope.locals.clone();
        let result = self.run_setting(scope, limits).and_then(|last| {
            read(&match last {
                Some(value) => Operand::Made(value),
                None => Operand::Undefined,
            })
        });
        if result.is_err() {
            scope.locals = before;
        }
        result
    }

    fn run_setting(&self, scope: &mut Scope, limits: &ExprLimits) -> Result<Option<Value>, Bail> {
        let mut last = None;
        for statement in &self.statements {
            let (Statement::Evaluate(node) | Statement::SetLocal(_, node)) = statement;
            last = Frame { scope, limits }.evaluate(node)?.to_value(limits)?;
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
}

impl<'a> Frame<'a> {
    fn evaluate(&self, node: &'a Node) -> Evaluated<'a> {
        Ok(match node {
            Node::Foreign => return Err(Bail),
            Node::Undefined => Operand::Undefined,
            Node::Literal(value) => Operand::of(value),
            Node::Path(root, names) => self.path(root, names)?,
            Node::IsResponseFor(local) => {
                let re = self.scope.event.re.as_ref();
                Operand::Bool(host::answers(re, &self.scope.locals, local))
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
                    if let Some(value) = self.evaluate(node)?.to_value(self.limits)? {
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
            let value = self.evaluate(node)?.to_value(self.limits)?;
            match value {
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
            Root::Outbound => {
                self.scope.outbound.as_deref().map_or(Operand::Undefined, Operand::Event)
            }
            Root::Data => {
                event.data.as_ref().map_or(Operand::Undefined, |data| Operand::Map(data.as_map()))
            }
            Root::Content => Operand::of_option(event.content()),
            Root::Values => Operand::of_option(event.values()),
            Root::Advice => Operand::of_option(event.data.as_ref().and_then(|d| d.get("advice"))),
            Root::ThredId => Operand::of_text(self.scope.thred_id.as_ref().map(|id| id.as_str())),
            Root::ValueNamed(name) => Operand::of_option(event.value_named(name)),
            Root::Local(name) => Operand::of_option(self.scope.locals.get(&**name)),
        };
        names.iter().try_fold(start, |value, name| value.step(name))
    }
}

impl<'a> Operand<'a> {
    fn of(value: &'a Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => Self::Number(n.as_f64().unwrap_or(f64::NAN)),
            Value::String(s) => Self::Text(s),
            Value::Array(items) => Self::List(items),
            Value::Object(map) => Self::Map(map),
        }
    }

    fn of_option(value: Option<&'a Value>) -> Self {
        value.map_or(Self::Undefined, Self::of)
    }

    fn of_text(text: Option<&'a str>) -> Self {
        text.map_or(Self::Undefined, Self::Text)
    }

    fn is_undefined(&self) -> bool {
        matches!(self, Self::Undefined)
    }

    /// One field on. A list would be mapped over; that is the interpreter's.
    fn step(self, name: &str) -> Evaluated<'a> {
        Ok(match self {
            Self::Map(map) => Self::of_option(map.get(name)),
            Self::Event(event) => match name {
                "id" => Self::Text(event.id.as_str()),
                "type" => Self::Text(&event.event_type),
                "thredId" => Self::of_text(event.thred_id.as_ref().map(|id| id.as_str())),
                "re" => Self::of_text(event.re.as_ref().map(|id| id.as_str())),
                "source" => Self::Source(event),
                "timestamp" | "time" => {
                    event.timestamp.map_or(Self::Undefined, |ms| Self::Number(ms as f64))
                }
                "data" => {
                    event.data.as_ref().map_or(Self::Undefined, |data| Self::Map(data.as_map()))
                }
                "trace" => Self::of_option(event.trace.as_deref()),
                name => Self::of_option(event.extra.get(name)),
            },
            Self::Source(event) => match name {
                "id" => Self::Text(event.source.id.as_str()),
                "name" => Self::of_text(event.source.name.as_deref()),
                "uri" => Self::of_text(event.source.uri.as_deref()),
                name => Self::of_option(event.source.extra.get(name)),
            },
            Self::List(_) | Self::Made(_) => return Err(Bail),
            _ => Self::Undefined,
        })
    }

    /// JSONata's boolean cast.
    pub(in super::super) fn truthy(&self) -> Result<bool, Bail> {
        Ok(match self {
            Self::Undefined | Self::Null => false,
            Self::Bool(b) => *b,
            Self::Number(n) => *n != 0.0,
            Self::Text(s) => !s.is_empty(),
            Self::List(items) => items.iter().any(truthy),
            Self::Map(map) => !map.is_empty(),
            Self::Made(value) => truthy(value),
            Self::Event(_) | Self::Source(_) => true,
        })
    }

    /// The value as the result of an expression; bails when that goes over a limit.
    pub(in super::super) fn to_value(&self, limits: &ExprLimits) -> Result<Option<Value>, Bail> {
        let mut copy = Copy { bytes: limits.result_bytes };
        Ok(Some(match self {
            Self::Undefined => return Ok(None),
            Self::Null => Value::Null,
            Self::Bool(b) => Value::Bool(*b),
            Self::Number(n) => convert::number(*n),
            Self::Text(s) => copy.text(s)?,
            Self::List(items) => copy.list(items, limits.depth)?,
            Self::Map(map) => copy.map(map, limits.depth)?,
            Self::Made(value) => copy.value(value, limits.depth)?,
            Self::Event(_) | Self::Source(_) => return Err(Bail),
        }))
    }

    /// Appends the text that `&` makes of it.
    fn write(&self, out: &mut String) -> Result<(), Bail> {
        match self {
            Self::Undefined => {}
            Self::Null => out.push_str("null"),
            Self::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
            // Fractions and huge numbers follow rules of their own.
            Self::Number(n) if n.fract() == 0.0 && n.abs() < 1e15 => {
                out.push_str(&(*n as i64).to_string());
            }
            Self::Text(s) => out.push_str(s),
            Self::Made(Value::String(s)) => out.push_str(s),
            _ => return Err(Bail),
        }
        Ok(())
    }

    /// The text, also of one that was made.
    fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(s) => Some(s),
            Self::Made(Value::String(s)) => Some(s),
            _ => None,
        }
    }
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_f64() != Some(0.0),
        Value::String(s) => !s.is_empty(),
        Value::Array(items) => items.iter().any(truthy),
        Value::Object(map) => !map.is_empty(),
    }
}

fn equal(a: &Operand<'_>, b: &Operand<'_>) -> Result<bool, Bail> {
    use Operand::{Bool, List, Map, Null, Number, Undefined};
    if let (Some(a), Some(b)) = (a.as_text(), b.as_text()) {
        return Ok(a == b);
    }
    match (a, b) {
        (Undefined, _) | (_, Undefined) => Ok(false),
        (Null, Null) => Ok(true),
        (Bool(a), Bool(b)) => Ok(a == b),
        (Number(a), Number(b)) => Ok(a == b),
        (List(_) | Map(_), List(_) | Map(_)) => Err(Bail),
        (Operand::Made(_) | Operand::Event(_) | Operand::Source(_), _)
        | (_, Operand::Made(_) | Operand::Event(_) | Operand::Source(_)) => Err(Bail),
        _ => Ok(false),
    }
}

fn compare<'a>(order: Order, a: &Operand<'_>, b: &Operand<'_>) -> Evaluated<'a> {
    let ordering = match (a, b) {
        (Operand::Number(a), Operand::Number(b)) => a.partial_cmp(b).ok_or(Bail)?,
        (Operand::Undefined, Operand::Undefined | Operand::Number(_) | Operand::Text(_))
        | (Operand::Number(_) | Operand::Text(_), Operand::Undefined) => {
            return Ok(Operand::Undefined);
        }
        _ => match (a.as_text(), b.as_text()) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => return Err(Bail),
        },
    };
    Ok(Operand::Bool(match order {
        Order::Less => ordering.is_lt(),
        Order::LessOrEqual => ordering.is_le(),
        Order::Greater => ordering.is_gt(),
        Order::GreaterOrEqual => ordering.is_ge(),
    }))
}

fn is_among(item: &Operand<'_>, among: &[Value]) -> Result<bool, Bail> {
    match item {
        Operand::Undefined => Ok(false),
        // Lists and objects are found by identity, which no literal has.
        Operand::List(_) | Operand::Map(_) => Ok(false),
        Operand::Event(_) | Operand::Source(_) => Err(Bail),
        item => among
            .iter()
            .try_fold(false, |found, value| Ok(found || equal(item, &Operand::of(value))?)),
    }
}

fn arithmetic<'a>(op: Arithmetic, a: &Operand<'_>, b: &Operand<'_>) -> Evaluated<'a> {
    let (a, b) = match (a, b) {
        (Operand::Number(a), Operand::Number(b)) => (*a, *b),
        (Operand::Undefined, Operand::Undefined | Operand::Number(_))
        | (Operand::Number(_), Operand::Undefined) => return Ok(Operand::Undefined),
        _ => return Err(Bail),
    };
    let result = match op {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
    };
    if result.is_finite() { Ok(Operand::Number(result)) } else { Err(Bail) }
}

/// Copies data as the interpreter's results are: whole numbers as integers, within limits.
struct Copy {
    bytes: usize,
}

impl Copy {
    fn value(&mut self, value: &Value, depth: usize) -> Result<Value, Bail> {
        self.take(8)?;
        Ok(match value {
            Value::Null => Value::Null,
            Value::Bool(b) => Value::Bool(*b),
            Value::Number(n) => n.as_f64().map_or(Value::Null, convert::number),
            Value::String(s) => self.text(s)?,
            Value::Array(items) => self.list(items, depth)?,
            Value::Object(map) => self.map(map, depth)?,
        })
    }

    fn text(&mut self, text: &str) -> Result<Value, Bail> {
        self.take(text.len() + 2)?;
        Ok(Value::String(text.to_owned()))
    }

    fn list(&mut self, items: &[Value], depth: usize) -> Result<Value, Bail> {
        let depth = depth.checked_sub(1).ok_or(Bail)?;
        let items = items.iter().map(|item| self.value(item, depth));
        Ok(Value::Array(items.collect::<Result<_, _>>()?))
    }

    fn map(&mut self, map: &Map<String, Value>, depth: usize) -> Result<Value, Bail> {
        let depth = depth.checked_sub(1).ok_or(Bail)?;
        let mut copy = Map::with_capacity(map.len());
        for (key, value) in map {
            self.take(key.len() + 4)?;
            copy.insert(key.clone(), self.value(value, depth)?);
        }
        Ok(Value::Object(copy))
    }

    fn take(&mut self, bytes: usize) -> Result<(), Bail> {
        self.bytes = self.bytes.checked_sub(bytes).ok_or(Bail)?;
        Ok(())
    }
}
