//! What an event and a thred have in common, read off the syntax tree.

use jsonata_core::{
    ast::{AstNode, BinaryOp, PathStep, Stage, UnaryOp},
    parser,
    value::JValue,
};

use super::{
    super::{
        Correlation, Correlations, ExprError, Scalar, Scope,
        correlation::{EventSide, LocalPath, Relation},
    },
    Jsonata, exact,
    native::{Bail, Operand},
    session,
};
use crate::ExprLimits;

/// Functions whose result follows from their arguments alone, when they are given any.
const PURE: &[&str] = &[
    "abs",
    "boolean",
    "ceil",
    "floor",
    "length",
    "lowercase",
    "number",
    "round",
    "string",
    "substring",
    "substringAfter",
    "substringBefore",
    "trim",
    "uppercase",
    "valueNamed",
];

/// How much longer than an expression its event's side may take. A process that is paused for a
/// moment would else look in vain for a thred whose filter is true. The text and the event bound the
/// work.
const PATIENCE: u32 = 20;

impl Jsonata {
    /// Whether the evaluation may change locals; told from the text, in doubt yes.
    pub(super) fn sets_locals(&self) -> bool {
        self.source.contains("setLocal")
    }

    pub(super) fn correlations(&self) -> Correlations {
        // A name that is bound in the expression may stand for something else, and a local that it
        // sets is not the one that the thred waits with.
        if self.sets_locals() || self.has_large || self.binds_items || self.source.contains(":=") {
            return Correlations::none();
        }
        match parser::parse(&self.source) {
            Ok(ast) => self.read(&ast),
            Err(_) => Correlations::none(),
        }
    }

    fn read(&self, ast: &AstNode) -> Correlations {
        match ast {
            AstNode::Block(nodes) => match nodes.as_slice() {
                [only] => self.read(only),
                _ => Correlations::none(),
            },
            AstNode::Binary { op, lhs, rhs } => match op {
                BinaryOp::And => self.read(lhs).and(self.read(rhs)),
                BinaryOp::Or => self.read(lhs).or(self.read(rhs)),
                BinaryOp::Equal => {
                    let correlation = self.relate(lhs, rhs, Relation::Equal);
                    correlation
                        .or_else(|| self.relate(rhs, lhs, Relation::Equal))
                        .map_or_else(Correlations::none, Correlations::one)
                }
                BinaryOp::In => self
                    .relate(lhs, rhs, Relation::In)
                    .map_or_else(Correlations::none, Correlations::one),
                _ => Correlations::none(),
            },
            _ => Correlations::none(),
        }
    }

    fn relate(&self, event: &AstNode, local: &AstNode, relation: Relation) -> Option<Correlation> {
        let local = local_path(local)?;
        if !follows_from_event(event) {
            return None;
        }
        let mut side = self.part(event.clone());
        side.limits.time = side.limits.time.saturating_mul(PATIENCE);
        Some(Correlation::new(Side(side), local, relation))
    }
}

/// An expression over the event alone.
#[derive(Debug)]
struct Side(Jsonata);

impl EventSide for Side {
    fn scalar(&self, scope: &mut Scope) -> Result<Option<Scalar>, ExprError> {
        let limits: &ExprLimits = &self.0.limits;
        if let Some(program) = &self.0.native
            && let Ok(scalar) = program.run(scope, limits, |value| native_scalar(&value))
        {
            return Ok(scalar);
        }
        session::run(&self.0, scope, |value, _| Ok(scalar(value)))
    }
}

fn native_scalar(value: &Operand<'_>) -> Result<Option<Scalar>, Bail> {
    Ok(match value {
        Operand::Bool(b) => Some(Scalar::Bool(*b)),
        Operand::Number(n) => Some(Scalar::number(*n)),
        // As `Scalar::of` does: what is found by the nearest double is compared exactly then.
        Operand::Integer(n) => Some(Scalar::number(*n as f64)),
        Operand::Text(s) => Some(Scalar::Text((*s).into())),
        Operand::Made(value) => Scalar::of(value),
        Operand::Undefined
        | Operand::Null
        | Operand::List(_)
        | Operand::Map(_)
        | Operand::Event(_)
        | Operand::Source(_) => None,
    })
}

fn scalar(value: &JValue) -> Option<Scalar> {
    match value {
        JValue::Bool(b) => Some(Scalar::Bool(*b)),
        JValue::Number(n) => Some(Scalar::number(*n)),
        JValue::String(s) => Some(Scalar::Text((**s).into())),
        // Whether a sequence of one is its item depends on where it stands; as the item, it is
        // found in either case.
        JValue::Array(items) if items.len() == 1 => scalar(&items[0]),
        value => exact::unboxed(value).map(|n| Scalar::number(n as f64)),
    }
}

/// `$local('name')`, and fields of it. A list on the way has no such field, here as in
/// [`Correlation::of_locals`], which then knows nothing.
fn local_path(ast: &AstNode) -> Option<LocalPath> {
    let local = |ast: &AstNode| match ast {
        AstNode::Function { name, args, is_builtin: true } if name == "local" => match &**args {
            [AstNode::String(local)] => Some(Box::from(local.as_str())),
            _ => None,
        },
        _ => None,
    };
    match ast {
        AstNode::Path { steps } => {
            let (first, rest) = steps.split_first()?;
            let names = rest.iter().map(|step| match &step.node {
                AstNode::Name(name) => Some(name.as_str().into()),
                _ => None,
            });
            let bare = steps.iter().all(|step| is_plain(step) && step.stages.is_empty());
            let path = std::iter::once(local(&first.node)).chain(names);
            path.collect::<Option<LocalPath>>().filter(|_| bare)
        }
        AstNode::Block(nodes) => match nodes.as_slice() {
            [only] => local_path(only),
            _ => None,
        },
        ast => Some(Box::from([local(ast)?])),
    }
}

/// Whether a node depends on nothing but the event, and has no effect.
fn follows_from_event(ast: &AstNode) -> bool {
    match ast {
        AstNode::String(_) | AstNode::Number(_) | AstNode::Boolean(_) | AstNode::Null => true,
        AstNode::Variable(name) => {
            matches!(name.as_str(), "event" | "data" | "content" | "values" | "advice")
        }
        AstNode::Path { steps } => {
            let Some((first, rest)) = steps.split_first() else { return false };
            let starts = match &first.node {
                AstNode::Name(name) => name == "event",
                node @ (AstNode::Variable(_) | AstNode::Function { .. } | AstNode::Block(_)) => {
                    follows_from_event(node)
                }
                _ => false,
            };
            starts
                && rest.iter().all(|step| matches!(step.node, AstNode::Name(_)))
                && steps.iter().all(|step| is_plain(step) && step.stages.iter().all(is_position))
        }
        AstNode::Block(nodes) => matches!(nodes.as_slice(), [only] if follows_from_event(only)),
        AstNode::Binary { op, lhs, rhs } => {
            let joins = matches!(
                op,
                BinaryOp::Concatenate
                    | BinaryOp::Add
                    | BinaryOp::Subtract
                    | BinaryOp::Multiply
                    | BinaryOp::Divide
                    | BinaryOp::Modulo
            );
            joins && follows_from_event(lhs) && follows_from_event(rhs)
        }
        AstNode::Unary { op: UnaryOp::Negate, operand } => follows_from_event(operand),
        AstNode::Conditional { condition, then_branch, else_branch } => {
            follows_from_event(condition)
                && follows_from_event(then_branch)
                && else_branch.as_deref().is_none_or(follows_from_event)
        }
        AstNode::Function { name, args, is_builtin: true } => {
            let pure = PURE.contains(&name.as_str());
            pure && !args.is_empty() && args.iter().all(follows_from_event)
        }
        _ => false,
    }
}

/// `[0]`, `[-1]`.
fn is_position(stage: &Stage) -> bool {
    match stage {
        Stage::Filter(filter) => match &**filter {
            AstNode::Number(_) => true,
            AstNode::Unary { op: UnaryOp::Negate, operand } => {
                matches!(**operand, AstNode::Number(_))
            }
            _ => false,
        },
        _ => false,
    }
}

fn is_plain(step: &PathStep) -> bool {
    step.focus.is_none()
        && step.index_var.is_none()
        && step.ancestor_label.is_none()
        && !step.is_tuple
        && !step.inner_tuple
}
