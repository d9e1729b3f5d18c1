//! Integers that a double cannot hold, in the interpreter, which knows doubles only.
//!
//! Such an integer is carried in a value that nothing else makes: a regular expression that is
//! none. Copies keep it, and what does not know it fails instead of giving a wrong number. Where an
//! expression or its data has such integers, the tree is rewritten so that comparisons, conditions,
//! sorts and texts know them, too; all other expressions run as they are.

use std::cmp::Ordering;

use jsonata_core::{
    ast::{AstNode, BinaryOp, UnaryOp},
    evaluator::{Context, Evaluator, EvaluatorError, HostFnResult},
    value::JValue,
};

use super::{
    guard::{map_children, map_filters},
    host::failed,
};
use crate::json::exact;

/// Marks the value of an integer.
const FLAGS: &str = "guard integer";

/// Makes the pattern one that no regular expression can have.
const OPEN: &str = "(";

/// The value that carries an integer.
pub(super) fn boxed(n: i128) -> JValue {
    JValue::regex(format!("{OPEN}{n}"), FLAGS)
}

/// The integer that a value carries.
pub(super) fn unboxed(value: &JValue) -> Option<i128> {
    match value {
        JValue::Regex { pattern, flags } if **flags == *FLAGS => {
            pattern.strip_prefix(OPEN)?.parse().ok()
        }
        _ => None,
    }
}

/// The node of an integer.
pub(super) fn literal(n: i128) -> AstNode {
    AstNode::Regex { pattern: format!("{OPEN}{n}"), flags: FLAGS.to_owned() }
}

/// The integer of such a node.
pub(super) fn literal_value(ast: &AstNode) -> Option<i128> {
    match ast {
        AstNode::Regex { pattern, flags } if flags == FLAGS => {
            pattern.strip_prefix(OPEN)?.parse().ok()
        }
        _ => None,
    }
}

/// Functions that the rewritten tree calls.
mod name {
    pub(super) const TEXT: &str = "exact text";
    pub(super) const NEAR: &str = "exact near";
    pub(super) const REST: &str = "exact rest";
    pub(super) const NONE: &str = "exact none";
    pub(super) const IS: &str = "exact is";
    pub(super) const NUMBER: &str = "exact number";
    pub(super) const EQUAL: &str = "exact equal";
    pub(super) const UNEQUAL: &str = "exact unequal";
    pub(super) const LESS: &str = "exact less";
    pub(super) const AT_MOST: &str = "exact at most";
    pub(super) const GREATER: &str = "exact greater";
    pub(super) const AT_LEAST: &str = "exact at least";
    pub(super) const IN: &str = "exact in";
}

type Function = fn(&[JValue]) -> HostFnResult;

/// The functions by name.
pub(super) const FUNCTIONS: &[(&str, Function)] = &[
    (name::TEXT, |args| text(first(args))),
    (name::NEAR, |args| Ok(near(first(args)))),
    (name::REST, |args| Ok(JValue::Number(rest(first(args))))),
    (name::NONE, |args| none(first(args))),
    (name::IS, |args| Ok(JValue::Bool(unboxed(first(args)).is_some()))),
    (name::NUMBER, |args| match unboxed(first(args)) {
        Some(_) => Ok(first(args).clone()),
        None => builtin("number", first(args)),
    }),
    (name::EQUAL, |args| compare(BinaryOp::Equal, args)),
    (name::UNEQUAL, |args| compare(BinaryOp::NotEqual, args)),
    (name::LESS, |args| compare(BinaryOp::LessThan, args)),
    (name::AT_MOST, |args| compare(BinaryOp::LessThanOrEqual, args)),
    (name::GREATER, |args| compare(BinaryOp::GreaterThan, args)),
    (name::AT_LEAST, |args| compare(BinaryOp::GreaterThanOrEqual, args)),
    (name::IN, |args| compare(BinaryOp::In, args)),
];

/// Rewrites a tree so that it knows the integers.
pub(super) fn rewrite(ast: AstNode) -> AstNode {
    let ast = match ast {
        AstNode::Binary { op: BinaryOp::ChainPipe, lhs, rhs } => applied(*lhs, *rhs),
        ast => ast,
    };
    let ast = map_filters(map_children(ast, &mut rewrite), &mut condition);
    match ast {
        AstNode::Binary { op: BinaryOp::ChainPipe, lhs, rhs } => chain(*lhs, *rhs),
        AstNode::Binary { op, lhs, rhs } => binary(op, *lhs, *rhs),
        AstNode::Unary { op: UnaryOp::Negate, operand } if !is_number(&operand) => {
            AstNode::Unary { op: UnaryOp::Negate, operand: Box::new(call(name::NONE, *operand)) }
        }
        AstNode::Conditional { condition: test, then_branch, else_branch } => {
            let test = Box::new(condition(*test));
            AstNode::Conditional { condition: test, then_branch, else_branch }
        }
        AstNode::Sort { input, terms } => {
            let both = |(term, ascending): (AstNode, bool)| {
                let rest = call(name::REST, term.clone());
                [(call(name::NEAR, term), ascending), (rest, ascending)]
            };
            AstNode::Sort { input, terms: terms.into_iter().flat_map(both).collect() }
        }
        AstNode::Function { name, args, is_builtin: true } => function(name, args),
        AstNode::Variable(name) if CONVERTERS.contains(&&*name) => {
            let param = "exact 0".to_owned();
            let body = function(name.clone(), vec![AstNode::Variable(param.clone())]);
            let signature = (name == "string").then(|| "<x-:s>".to_owned());
            AstNode::Lambda { params: vec![param], body: Box::new(body), signature, thunk: false }
        }
        ast => ast,
    }
}

/// Functions of one argument that take these integers, too.
const CONVERTERS: &[&str] = &["string", "boolean", "not", "type", "number"];

/// Functions that compute with numbers.
const ARITHMETIC: &[&str] = &[
    "sum",
    "max",
    "min",
    "average",
    "abs",
    "floor",
    "ceil",
    "round",
    "power",
    "sqrt",
    "formatNumber",
    "formatBase",
    "formatInteger",
    "fromMillis",
    "pad",
    "substring",
];

fn function(name: String, mut args: Vec<AstNode>) -> AstNode {
    let is_converter = CONVERTERS.contains(&&*name);
    if args.is_empty() && is_converter {
        args.push(AstNode::Variable(String::new()));
    }
    if matches!(args.first(), Some(AstNode::Placeholder)) {
        return AstNode::Function { name, args, is_builtin: true };
    }
    let wrap = |args: &mut Vec<AstNode>, index: usize, with: fn(AstNode) -> AstNode| {
        if let Some(arg) = args.get_mut(index) {
            *arg = with(std::mem::replace(arg, AstNode::Null));
        }
    };
    match &*name {
        "string" => wrap(&mut args, 0, |arg| call(name::TEXT, arg)),
        "type" => wrap(&mut args, 0, |arg| call(name::NEAR, arg)),
        "boolean" | "not" => wrap(&mut args, 0, condition),
        "number" => return call(name::NUMBER, args.swap_remove(0)),
        "filter" | "single" | "sift" => wrap(&mut args, 1, |arg| match arg {
            AstNode::Lambda { params, body, signature, thunk: false } => {
                let body = Box::new(condition(*body));
                AstNode::Lambda { params, body, signature, thunk: false }
            }
            arg => arg,
        }),
        "sort" if args.len() == 1 => {
            let params = vec!["exact 0".to_owned(), "exact 1".to_owned()];
            let [a, b] = [&params[0], &params[1]].map(|name| AstNode::Variable(name.clone()));
            let body = Box::new(binary(BinaryOp::GreaterThan, a, b));
            args.push(AstNode::Lambda { params, body, signature: None, thunk: false });
        }
        name if ARITHMETIC.contains(&name) => {
            for index in 0..args.len() {
                if !matches!(args[index], AstNode::Placeholder) {
                    wrap(&mut args, index, |arg| call(name::NONE, arg));
                }
            }
        }
        _ => {}
    }
    AstNode::Function { name, args, is_builtin: true }
}

fn binary(op: BinaryOp, lhs: AstNode, rhs: AstNode) -> AstNode {
    use BinaryOp as Op;
    let compared = |name: &str, lhs, rhs| AstNode::Function {
        name: name.to_owned(),
        args: vec![lhs, rhs],
        is_builtin: true,
    };
    let both = |with: fn(AstNode) -> AstNode, lhs, rhs| AstNode::Binary {
        op,
        lhs: Box::new(with(lhs)),
        rhs: Box::new(with(rhs)),
    };
    match op {
        Op::Equal => compared(name::EQUAL, lhs, rhs),
        Op::NotEqual => compared(name::UNEQUAL, lhs, rhs),
        Op::LessThan => compared(name::LESS, lhs, rhs),
        Op::LessThanOrEqual => compared(name::AT_MOST, lhs, rhs),
        Op::GreaterThan => compared(name::GREATER, lhs, rhs),
        Op::GreaterThanOrEqual => compared(name::AT_LEAST, lhs, rhs),
        Op::In => compared(name::IN, lhs, rhs),
        Op::And | Op::Or => both(condition, lhs, rhs),
        Op::Concatenate => both(|side| call(name::TEXT, side), lhs, rhs),
        Op::Add | Op::Subtract | Op::Multiply | Op::Divide | Op::Modulo | Op::Range => {
            let operand = |ast| if is_number(&ast) { ast } else { call(name::NONE, ast) };
            both(operand, lhs, rhs)
        }
        Op::Default => {
            let kept = || AstNode::Variable("exact 0".to_owned());
            let bind =
                AstNode::Binary { op: Op::ColonEqual, lhs: Box::new(kept()), rhs: Box::new(lhs) };
            let choice = AstNode::Conditional {
                condition: Box::new(call(name::NEAR, kept())),
                then_branch: Box::new(kept()),
                else_branch: Some(Box::new(rhs)),
            };
            AstNode::Block(vec![bind, choice])
        }
        _ => AstNode::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) },
    }
}

/// `x ~> $f(y)` as `$f(x, y)` for the functions that are rewritten.
fn applied(lhs: AstNode, rhs: AstNode) -> AstNode {
    let is_rewritten =
        |name: &str| CONVERTERS.contains(&name) || ARITHMETIC.contains(&name) || name == "sort";
    match rhs {
        AstNode::Function { name, mut args, is_builtin: true }
            if is_rewritten(&name) && !args.contains(&AstNode::Placeholder) =>
        {
            args.insert(0, lhs);
            AstNode::Function { name, args, is_builtin: true }
        }
        rhs => chained(lhs, rhs),
    }
}

fn chained(lhs: AstNode, rhs: AstNode) -> AstNode {
    AstNode::Binary { op: BinaryOp::ChainPipe, lhs: Box::new(lhs), rhs: Box::new(rhs) }
}

/// `x ~> f` where both may be functions, which makes one of them; the interpreter takes an integer
/// for one, too.
fn chain(lhs: AstNode, rhs: AstNode) -> AstNode {
    match rhs {
        rhs @ (AstNode::Function { .. } | AstNode::Path { .. }) => chained(lhs, rhs),
        rhs => {
            let kept = || AstNode::Variable("exact 0".to_owned());
            let bind = AstNode::Binary {
                op: BinaryOp::ColonEqual,
                lhs: Box::new(kept()),
                rhs: Box::new(lhs),
            };
            let procedure = Box::new(rhs.clone());
            let choice = AstNode::Conditional {
                condition: Box::new(call(name::IS, kept())),
                then_branch: Box::new(AstNode::Call { procedure, args: vec![kept()] }),
                else_branch: Some(Box::new(chained(kept(), rhs))),
            };
            AstNode::Block(vec![bind, choice])
        }
    }
}

/// A node that is asked whether it is true, or which items it selects.
fn condition(ast: AstNode) -> AstNode {
    let is_decided = match &ast {
        AstNode::Boolean(_) | AstNode::Number(_) | AstNode::String(_) | AstNode::Null => true,
        AstNode::Binary { op, .. } => matches!(op, BinaryOp::And | BinaryOp::Or),
        AstNode::Function { name, .. } => {
            name.starts_with("exact ") && *name != *name::NUMBER
                || matches!(&**name, "not" | "boolean" | "exists" | "contains")
        }
        _ => false,
    };
    if is_decided { ast } else { call(name::NEAR, ast) }
}

fn is_number(ast: &AstNode) -> bool {
    matches!(ast, AstNode::Number(_))
}

fn call(name: &str, arg: AstNode) -> AstNode {
    AstNode::Function { name: name.to_owned(), args: vec![arg], is_builtin: true }
}

fn first(args: &[JValue]) -> &JValue {
    args.first().unwrap_or(&JValue::Undefined)
}

fn has_boxed(value: &JValue) -> bool {
    match value {
        JValue::Array(items) => items.iter().any(has_boxed),
        JValue::Object(map) => map.values().any(has_boxed),
        value => unboxed(value).is_some(),
    }
}

/// The value with the nearest doubles for its integers.
fn near(value: &JValue) -> JValue {
    if !has_boxed(value) {
        return value.clone();
    }
    match value {
        JValue::Array(items) => JValue::array(items.iter().map(near).collect::<Vec<_>>()),
        JValue::Object(map) => {
            super::convert::object(map.iter().map(|(key, item)| (key.clone(), near(item))))
        }
        value => unboxed(value).map_or_else(|| value.clone(), |n| JValue::Number(n as f64)),
    }
}

/// What the nearest double leaves; the two together are ordered as the integers are.
fn rest(value: &JValue) -> f64 {
    unboxed(value).map_or(0.0, |n| (n - (n as f64) as i128) as f64)
}

fn none(value: &JValue) -> HostFnResult {
    fn find(value: &JValue) -> Option<i128> {
        match value {
            JValue::Array(items) => items.iter().find_map(find),
            value => unboxed(value),
        }
    }
    match find(value) {
        None => Ok(value.clone()),
        Some(n) => Err(failed(format!(
            "the integer {n} is beyond 2^53, where arithmetic is not exact; it can be compared, \
             joined to a text and passed on"
        ))),
    }
}

/// The text of a value that has such integers; any other value as it is.
fn text(value: &JValue) -> HostFnResult {
    if !has_boxed(value) {
        return Ok(value.clone());
    }
    let mut text = String::new();
    write(value, &mut text)?;
    Ok(JValue::string(text))
}

fn write(value: &JValue, out: &mut String) -> Result<(), EvaluatorError> {
    if let Some(n) = unboxed(value) {
        out.push_str(&n.to_string());
        return Ok(());
    }
    match value {
        JValue::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                match item {
                    JValue::Undefined => out.push_str("null"),
                    item => write(item, out)?,
                }
            }
            out.push(']');
        }
        JValue::Object(map) => {
            out.push('{');
            let defined = map.iter().filter(|(_, item)| !item.is_undefined());
            for (index, (key, item)) in defined.enumerate() {
                out.push_str(if index == 0 { "" } else { "," });
                write(&JValue::string(key.as_str()), out)?;
                out.push(':');
                write(item, out)?;
            }
            out.push('}');
        }
        JValue::String(_) => {
            out.push_str(&value.to_json_string().map_err(|error| failed(error.to_string()))?);
        }
        JValue::Lambda(_) | JValue::Builtin { .. } | JValue::Regex { .. } => out.push_str("\"\""),
        value => {
            if let JValue::String(text) = builtin("string", value)? {
                out.push_str(&text);
            }
        }
    }
    Ok(())
}

/// What a function of the language gives.
fn builtin(name: &str, arg: &JValue) -> HostFnResult {
    let mut context = Context::new();
    context.bind("a".into(), arg.clone());
    let call = call(name, AstNode::Variable("a".into()));
    Evaluator::with_context(context).evaluate(&call, &JValue::Undefined)
}

fn compare(op: BinaryOp, args: &[JValue]) -> HostFnResult {
    let a = first(args);
    let b = args.get(1).unwrap_or(&JValue::Undefined);
    if !has_boxed(a) && !has_boxed(b) {
        return operator(op, a, b);
    }
    let defined = !a.is_undefined() && !b.is_undefined();
    let decided = match op {
        BinaryOp::Equal => Some(defined && equal(a, b)),
        BinaryOp::NotEqual => Some(defined && !equal(a, b)),
        BinaryOp::In => Some(match b {
            JValue::Array(items) => items.iter().any(|item| is_same(a, item)),
            b => is_same(a, b),
        }),
        op => order(a, b).map(|order| match op {
            BinaryOp::LessThan => order.is_lt(),
            BinaryOp::LessThanOrEqual => order.is_le(),
            BinaryOp::GreaterThan => order.is_gt(),
            _ => order.is_ge(),
        }),
    };
    match decided {
        Some(decided) => Ok(JValue::Bool(decided)),
        // Undefined, or an error, as with any other number.
        None => operator(op, &near(a), &near(b)),
    }
}

fn operator(op: BinaryOp, a: &JValue, b: &JValue) -> HostFnResult {
    let mut context = Context::new();
    context.bind("a".into(), a.clone());
    context.bind("b".into(), b.clone());
    let side = |name: &str| Box::new(AstNode::Variable(name.to_owned()));
    let operation = AstNode::Binary { op, lhs: side("a"), rhs: side("b") };
    Evaluator::with_context(context).evaluate(&operation, &JValue::Undefined)
}

/// How two numbers are ordered, one of which at least is such an integer.
fn order(a: &JValue, b: &JValue) -> Option<Ordering> {
    match (unboxed(a), unboxed(b), a, b) {
        (Some(a), Some(b), ..) => Some(a.cmp(&b)),
        (Some(a), None, _, JValue::Number(b)) => exact::compare(a, *b),
        (None, Some(b), JValue::Number(a), _) => exact::compare(b, *a).map(Ordering::reverse),
        _ => None,
    }
}

fn equal(a: &JValue, b: &JValue) -> bool {
    match (a, b) {
        (JValue::Array(a), JValue::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| equal(a, b))
        }
        (JValue::Object(a), JValue::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        (a, b) => is_same(a, b),
    }
}

/// Whether two scalars are the same.
fn is_same(a: &JValue, b: &JValue) -> bool {
    match (unboxed(a), unboxed(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => match (a, b) {
            (JValue::Array(_) | JValue::Object(_), _) => false,
            (a, b) => a == b,
        },
        _ => false,
    }
}
