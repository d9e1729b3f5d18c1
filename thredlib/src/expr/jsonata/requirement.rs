//! What an event must be like, read off the native tree.
//!
//! A requirement that does not hold must mean that the expression is falsy *and does not fail*:
//! an index would else hide the failure. So the right side of an `and` counts only when the left
//! side cannot fail.

use serde_json::Value;

use super::{
    super::{Field, Requirement, Scalar},
    native::{Node, Program, Root, Statement},
};

impl Program {
    pub(super) fn requirement(&self) -> Requirement {
        match self.statements.as_slice() {
            [Statement::Evaluate(node)] => node.requirement(),
            _ => Requirement::Anything,
        }
    }
}

impl Node {
    fn requirement(&self) -> Requirement {
        match self {
            Self::Undefined => Requirement::Nothing,
            Self::Literal(value) if is_falsy(value) => Requirement::Nothing,
            Self::Equal(sides) => match &**sides {
                [field, Self::Literal(value)] | [Self::Literal(value), field] => {
                    one_of(field, std::slice::from_ref(value))
                }
                _ => Requirement::Anything,
            },
            Self::In(field, among) => one_of(field, among),
            Self::Boolean(inner) => inner.requirement(),
            Self::And(sides) => {
                let [left, right] = &**sides;
                match left.requirement() {
                    requirement if !left.is_infallible() => requirement,
                    requirement => all(requirement, right.requirement()),
                }
            }
            Self::Or(sides) => any(sides[0].requirement(), sides[1].requirement()),
            _ => Requirement::Anything,
        }
    }

    /// Whether evaluation never fails, whatever the event.
    fn is_infallible(&self) -> bool {
        match self {
            Self::Undefined | Self::Literal(_) | Self::IsResponseFor(_) | Self::Millis => true,
            Self::Path(root, names) => match root {
                // Texts and numbers. A longer path may map over a list that is too long, and what
                // is no scalar takes the interpreter.
                Root::Event => match &**names {
                    [name] => {
                        matches!(&**name, "type" | "id" | "thredId" | "re" | "timestamp" | "time")
                    }
                    [first, second] => first.as_ref() == "source" && second.as_ref() == "id",
                    _ => false,
                },
                _ => names.is_empty(),
            },
            Self::Equal(sides) | Self::NotEqual(sides) | Self::And(sides) | Self::Or(sides) => {
                sides.iter().all(Self::is_infallible)
            }
            Self::In(inner, _) | Self::Not(inner) | Self::Boolean(inner) | Self::Exists(inner) => {
                inner.is_infallible()
            }
            Self::If(parts) => parts.iter().all(Self::is_infallible),
            _ => false,
        }
    }
}

fn one_of(field: &Node, values: &[Value]) -> Requirement {
    let Node::Path(root, names) = field else { return Requirement::Anything };
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let field = match (root, names.as_slice()) {
        (Root::Event, ["type"]) => Field::Type,
        (Root::Event, ["source", "id"]) => Field::SourceId,
        (Root::ValueNamed(name), []) => Field::ValueNamed(name.clone()),
        _ => return Requirement::Anything,
    };
    match values.iter().map(Scalar::of).collect::<Option<Vec<_>>>() {
        Some(scalars) if scalars.is_empty() => Requirement::Nothing,
        Some(scalars) => Requirement::OneOf(field, scalars),
        None => Requirement::Anything,
    }
}

fn is_falsy(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Number(n) => n.as_f64() == Some(0.0),
        Value::String(s) => s.is_empty(),
        _ => false,
    }
}

fn all(a: Requirement, b: Requirement) -> Requirement {
    match (a, b) {
        (Requirement::Nothing, _) | (_, Requirement::Nothing) => Requirement::Nothing,
        (Requirement::Anything, other) | (other, Requirement::Anything) => other,
        (Requirement::All(mut parts), Requirement::All(more)) => {
            parts.extend(more);
            Requirement::All(parts)
        }
        (Requirement::All(mut parts), other) => {
            parts.push(other);
            Requirement::All(parts)
        }
        (a, b) => Requirement::All(vec![a, b]),
    }
}

fn any(a: Requirement, b: Requirement) -> Requirement {
    match (a, b) {
        (Requirement::Anything, _) | (_, Requirement::Anything) => Requirement::Anything,
        (Requirement::Nothing, other) | (other, Requirement::Nothing) => other,
        (Requirement::OneOf(f, mut values), Requirement::OneOf(g, more)) if f == g => {
            values.extend(more);
            Requirement::OneOf(f, values)
        }
        (Requirement::Any(mut parts), other) => {
            parts.push(other);
            Requirement::Any(parts)
        }
        (a, b) => Requirement::Any(vec![a, b]),
    }
}
