//! The part of JSONata that patterns use most, evaluated straight over the event.
//!
//! A [`Program`] is compiled from the syntax tree; what it does not know becomes [`Node::Foreign`].
//! Where a value at run time leads outside of the part where both surely agree, or to an error,
//! evaluation stops with `Bail` and the interpreter does the whole expression from the start.

mod compile;
mod evaluate;
mod operand;
#[cfg(test)]
mod tests;

pub(super) use operand::{Bail, Operand};
use serde_json::Value;

use super::super::published::Published;

/// An expression that is native at least in part.
#[derive(Debug)]
pub(super) struct Program {
    /// What runs before the result, in order.
    pub(super) statements: Vec<Statement>,
    /// Whether locals are set, so that a bail must undo that.
    pub(super) sets_locals: bool,
}

#[derive(Debug)]
pub(super) enum Statement {
    Evaluate(Node),
    SetLocal(Box<str>, Node),
}

/// A node of the native tree.
#[derive(Debug)]
pub(super) enum Node {
    /// Left to the interpreter.
    Foreign,
    Undefined,
    Literal(Value),
    /// A place, and the names of the fields that lead on from it.
    Path(Root, Box<[Box<str>]>),
    /// `$isResponseFor`.
    IsResponseFor(Box<Published>),
    Millis,
    Equal(Box<[Node; 2]>),
    NotEqual(Box<[Node; 2]>),
    Compare(Order, Box<[Node; 2]>),
    In(Box<Node>, Box<[Value]>),
    And(Box<[Node; 2]>),
    Or(Box<[Node; 2]>),
    /// `$not`; undefined stays undefined.
    Not(Box<Node>),
    /// `$boolean`; undefined stays undefined.
    Boolean(Box<Node>),
    Exists(Box<Node>),
    Concat(Box<[Node; 2]>),
    Arithmetic(Arithmetic, Box<[Node; 2]>),
    Negate(Box<Node>),
    /// Condition, then, else.
    If(Box<[Node; 3]>),
    Object(Box<[(Box<str>, Node)]>),
    Array(Box<[Node]>),
}

/// Where a path starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Root {
    Event,
    /// The error that the event carries.
    Error,
    Outbound,
    Data,
    Content,
    Values,
    Advice,
    ThredId,
    ValueNamed(Box<str>),
    Local(Box<str>),
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Order {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
}
