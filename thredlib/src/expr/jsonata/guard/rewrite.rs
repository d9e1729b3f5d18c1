//! The rewriting of a syntax tree so that it pays; see the module above.

use std::collections::HashSet;

use jsonata_core::ast::{AstNode, BinaryOp, PathStep, Stage};
use regex::RegexBuilder;

use super::name;

/// Trees may not nest deeper.
const MAX_DEPTH: usize = 200;

/// Compiled size of a regex, in bytes; a class such as `\w` takes some 20 KB.
const MAX_REGEX: usize = 512 * 1024;

/// What cannot be made safe.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Unguardable {
    pub(in super::super) message: String,
    /// A piece of the text near the place.
    pub(in super::super) near: Option<String>,
}

/// Rewrites a tree.
pub(in super::super) fn guard(ast: AstNode) -> Result<AstNode, Unguardable> {
    let mut bound = HashSet::new();
    inspect(&ast, MAX_DEPTH, &mut bound)?;
    if let Some(name) = bound.iter().find(|name| arity(name).is_some()) {
        return Err(Unguardable {
            message: format!("`${name}` is a built-in function; bind another name"),
            near: Some(format!("${name}")),
        });
    }
    Ok(plain(ast))
}

/// Finds the names that the expression binds, and what is to be refused.
fn inspect(ast: &AstNode, depth: usize, bound: &mut HashSet<String>) -> Result<(), Unguardable> {
    let Some(depth) = depth.checked_sub(1) else {
        let message = format!("nested deeper than {MAX_DEPTH} levels; split the expression");
        return Err(Unguardable { message, near: None });
    };
    match ast {
        AstNode::Regex { pattern, flags } => check_regex(pattern, flags)?,
        AstNode::Lambda { params, .. } => bound.extend(params.iter().cloned()),
        AstNode::Binary { op: BinaryOp::ColonEqual, lhs, .. } => {
            if let AstNode::Variable(name) = &**lhs {
                bound.insert(name.clone());
            }
        }
        AstNode::Path { steps } => {
            for step in steps {
                bound.extend(step.focus.iter().chain(&step.index_var).cloned());
                bound.extend(step.stages.iter().filter_map(|stage| match stage {
                    Stage::Index(name) => Some(name.clone()),
                    _ => None,
                }));
            }
        }
        _ => {}
    }
    children(ast).into_iter().try_for_each(|child| inspect(child, depth, bound))
}

fn check_regex(pattern: &str, flags: &str) -> Result<(), Unguardable> {
    let built = RegexBuilder::new(pattern)
        .case_insensitive(flags.contains('i'))
        .multi_line(flags.contains('m'))
        .dot_matches_new_line(flags.contains('s'))
        .size_limit(MAX_REGEX)
        .build();
    built.map(|_| ()).map_err(|error| {
        let reason = error.to_string();
        let last = reason.lines().last().unwrap_or_default();
        Unguardable {
            message: format!("regex that cannot run in linear time: {last}"),
            near: Some(pattern.to_owned()),
        }
    })
}

fn children(ast: &AstNode) -> Vec<&AstNode> {
    match ast {
        AstNode::Path { steps } => steps
            .iter()
            .flat_map(|step| {
                let filters = step.stages.iter().filter_map(|stage| match stage {
                    Stage::Filter(filter) => Some(&**filter),
                    _ => None,
                });
                std::iter::once(&step.node).chain(filters)
            })
            .collect(),
        AstNode::Binary { lhs, rhs, .. } => vec![lhs, rhs],
        AstNode::Unary { operand, .. } => vec![operand],
        AstNode::Function { args, .. } => args.iter().collect(),
        AstNode::Call { procedure, args } => std::iter::once(&**procedure).chain(args).collect(),
        AstNode::Lambda { body, .. } => vec![body],
        AstNode::Array(nodes) | AstNode::ArrayGroup(nodes) | AstNode::Block(nodes) => {
            nodes.iter().collect()
        }
        AstNode::Object(pairs) => pairs.iter().flat_map(|(key, value)| [key, value]).collect(),
        AstNode::ObjectTransform { input, pattern } => std::iter::once(&**input)
            .chain(pattern.iter().flat_map(|(key, value)| [key, value]))
            .collect(),
        AstNode::Conditional { condition, then_branch, else_branch } => {
            [&**condition, &**then_branch].into_iter().chain(else_branch.as_deref()).collect()
        }
        AstNode::FunctionApplication(inner) => vec![inner],
        AstNode::Sort { input, terms } => {
            std::iter::once(&**input).chain(terms.iter().map(|(term, _)| term)).collect()
        }
        AstNode::Transform { location, update, delete } => {
            [&**location, &**update].into_iter().chain(delete.as_deref()).collect()
        }
        _ => Vec::new(),
    }
}

/// A node whose value is used at once.
fn plain(ast: AstNode) -> AstNode {
    let boxed = |node: Box<AstNode>| Box::new(plain(*node));
    match ast {
        AstNode::Variable(name) => match arity(&name) {
            Some(arity) => as_lambda(&name, arity),
            None => AstNode::Variable(name),
        },
        AstNode::Path { steps } => path(steps),
        AstNode::Binary { op, lhs, rhs } => binary(op, *lhs, *rhs),
        AstNode::Unary { op, operand } => AstNode::Unary { op, operand: boxed(operand) },
        AstNode::Function { name, args, is_builtin } => call(name, args, is_builtin),
        AstNode::Call { procedure, args } => AstNode::Call {
            procedure: boxed(procedure),
            args: args.into_iter().map(argument).collect(),
        },
        AstNode::Lambda { params, body, signature, thunk } => {
            AstNode::Lambda { params, body: Box::new(tail(*body)), signature, thunk }
        }
        AstNode::Array(items) => AstNode::Array(items.into_iter().map(item).collect()),
        AstNode::ArrayGroup(items) => AstNode::ArrayGroup(items.into_iter().map(item).collect()),
        AstNode::Object(pairs) => AstNode::Object(entries(pairs)),
        AstNode::ObjectTransform { input, pattern } => kept(AstNode::ObjectTransform {
            input: Box::new(source(*input)),
            pattern: entries(pattern),
        }),
        AstNode::Block(nodes) => AstNode::Block(nodes.into_iter().map(plain).collect()),
        AstNode::Conditional { condition, then_branch, else_branch } => AstNode::Conditional {
            condition: boxed(condition),
            then_branch: boxed(then_branch),
            else_branch: else_branch.map(boxed),
        },
        AstNode::FunctionApplication(inner) => AstNode::FunctionApplication(Box::new(tail(*inner))),
        AstNode::Sort { input, terms } => AstNode::Sort {
            input: Box::new(source(*input)),
            terms: terms.into_iter().map(|(term, ascending)| (plain(term), ascending)).collect(),
        },
        AstNode::Transform { location, update, delete } => transform(AstNode::Transform {
            location: boxed(location),
            update: boxed(update),
            delete: delete.map(boxed),
        }),
        other => other,
    }
}

/// What a group or sort works on: the tree looks into such nodes, so they stay as they are.
fn source(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Path { steps } => AstNode::Path { steps: guarded_steps(steps) },
        other => plain(other),
    }
}

/// A node whose value is kept: in a collection, a variable, or for the caller.
fn kept(ast: AstNode) -> AstNode {
    check(name::KEEP, ast)
}

fn check(name: &str, ast: AstNode) -> AstNode {
    AstNode::Function { name: name.to_owned(), args: vec![ast], is_builtin: true }
}

/// Whether its value is always a small scalar, or a function.
fn is_small(ast: &AstNode) -> bool {
    use BinaryOp::{ChainPipe, Coalesce, ColonEqual, Concatenate, Default, Range};
    match ast {
        AstNode::String(_)
        | AstNode::Number(_)
        | AstNode::Boolean(_)
        | AstNode::Null
        | AstNode::Undefined
        | AstNode::Placeholder
        | AstNode::Regex { .. }
        | AstNode::Unary { .. }
        | AstNode::Lambda { .. } => true,
        AstNode::Binary { op, .. } => {
            !matches!(op, ChainPipe | Coalesce | ColonEqual | Concatenate | Default | Range)
        }
        AstNode::Function { name, is_builtin: true, .. } => {
            matches!(
                name.as_str(),
                "exists"
                    | "not"
                    | "boolean"
                    | "count"
                    | "length"
                    | "number"
                    | "sum"
                    | "millis"
                    | "isResponseFor"
                    | "type"
                    | "contains"
                    | "round"
                    | "floor"
                    | "ceil"
                    | "abs"
            ) || name == name::KEEP
        }
        _ => false,
    }
}

fn value(ast: AstNode) -> AstNode {
    let ast = plain(ast);
    if is_small(&ast) { ast } else { kept(ast) }
}

/// An item of an array: an array written in place stays one, and pays for its own items.
fn item(ast: AstNode) -> AstNode {
    if matches!(ast, AstNode::Array(_)) { plain(ast) } else { value(ast) }
}

/// An argument of a function that the expression defines: paid when it is new.
fn argument(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Variable(_) => plain(ast),
        ast => value(ast),
    }
}

fn entries(pairs: Vec<(AstNode, AstNode)>) -> Vec<(AstNode, AstNode)> {
    pairs.into_iter().map(|(key, content)| (value(key), value(content))).collect()
}

/// A node that a function ends with: kept by the caller, except that a call to another function
/// of the expression stays in its place, as such a call needs no stack.
fn tail(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Conditional { condition, then_branch, else_branch } => AstNode::Conditional {
            condition: Box::new(plain(*condition)),
            then_branch: Box::new(tail(*then_branch)),
            else_branch: else_branch.map(|ast| Box::new(tail(*ast))),
        },
        AstNode::Block(mut nodes) => {
            let last = nodes.pop().map(tail);
            AstNode::Block(nodes.into_iter().map(plain).chain(last).collect())
        }
        AstNode::Function { ref name, .. } if !is_builtin(name) => plain(ast),
        AstNode::Call { .. } | AstNode::Lambda { .. } => plain(ast),
        ast => value(ast),
    }
}

fn path(steps: Vec<PathStep>) -> AstNode {
    let simple = steps.iter().all(|step| {
        matches!(step.node, AstNode::Name(_) | AstNode::Variable(_))
            && step.stages.iter().all(|stage| match stage {
                Stage::Filter(filter) => selects_once(filter),
                _ => true,
            })
    });
    // Only a path that the tree does not look into may be paid for as a whole.
    let ast = AstNode::Path { steps: guarded_steps(steps) };
    if simple { ast } else { kept(ast) }
}

/// Whether a filter keeps an item at most once.
fn selects_once(filter: &AstNode) -> bool {
    match filter {
        AstNode::Block(nodes) => nodes.last().is_none_or(selects_once),
        filter => is_small(filter),
    }
}

fn guarded_steps(steps: Vec<PathStep>) -> Vec<PathStep> {
    let guarded = steps.into_iter().enumerate().map(|(index, mut step)| {
        step.node = match step.node {
            // The first step decides how the path begins.
            AstNode::Variable(name) if index == 0 || name.is_empty() => AstNode::Variable(name),
            AstNode::Variable(_) | AstNode::ParentVariable(_) if index > 0 => kept(step.node),
            AstNode::Path { steps } => AstNode::Path { steps: guarded_steps(steps) },
            AstNode::Sort { .. } | AstNode::ObjectTransform { .. } => match plain(step.node) {
                AstNode::Function { mut args, .. } if args.len() == 1 => args.remove(0),
                other => other,
            },
            node => plain(node),
        };
        for stage in &mut step.stages {
            if let Stage::Filter(filter) = stage {
                let inner = std::mem::replace(&mut **filter, AstNode::Null);
                **filter = if selects_once(&inner) { plain(inner) } else { value(inner) };
            }
        }
        step.id = jsonata_core::ast::StepId::default();
        step
    });
    guarded.collect()
}

fn binary(op: BinaryOp, lhs: AstNode, rhs: AstNode) -> AstNode {
    let node = |lhs, rhs| AstNode::Binary { op, lhs: Box::new(lhs), rhs: Box::new(rhs) };
    let text = |ast: AstNode| {
        let ast = plain(ast);
        if is_small(&ast) { ast } else { check(name::TEXT, ast) }
    };
    match op {
        BinaryOp::Concatenate => node(text(lhs), text(rhs)),
        BinaryOp::Range => kept(node(plain(lhs), plain(rhs))),
        BinaryOp::ColonEqual => node(lhs, value(rhs)),
        BinaryOp::ChainPipe => chain(lhs, rhs),
        _ => node(plain(lhs), plain(rhs)),
    }
}

/// `x ~> $f(y)` is `$f(x, y)`.
fn chain(lhs: AstNode, rhs: AstNode) -> AstNode {
    match rhs {
        AstNode::Function { name, mut args, is_builtin: true }
            if arity(&name).is_some() && !has_placeholder(&args) =>
        {
            args.insert(0, lhs);
            call(name, args, true)
        }
        AstNode::Path { mut steps }
            if steps.len() == 1
                && matches!(&steps[0].node, AstNode::Function { name, args, is_builtin: true }
                    if arity(name).is_some() && !has_placeholder(args)) =>
        {
            if let AstNode::Function { args, .. } = &mut steps[0].node {
                args.insert(0, lhs);
            }
            path(steps)
        }
        rhs => AstNode::Binary {
            op: BinaryOp::ChainPipe,
            lhs: Box::new(value(lhs)),
            rhs: Box::new(plain(rhs)),
        },
    }
}

/// `|...|...|` copies what it is applied to.
fn transform(transform: AstNode) -> AstNode {
    let input = "guard input".to_owned();
    let body = AstNode::Binary {
        op: BinaryOp::ChainPipe,
        lhs: Box::new(kept(AstNode::Variable(input.clone()))),
        rhs: Box::new(transform),
    };
    AstNode::Lambda { params: vec![input], body: Box::new(body), signature: None, thunk: false }
}

fn has_placeholder(args: &[AstNode]) -> bool {
    args.iter().any(|arg| matches!(arg, AstNode::Placeholder))
}

/// The functions whose arguments are checked, with the number of arguments that they take as a
/// callback.
fn arity(function: &str) -> Option<usize> {
    Some(match function {
        "string" | "distinct" | "sort" => 1,
        "join" | "fromMillis" | "toMillis" | "formatInteger" | "parseInteger" => 2,
        "split" | "match" | "pad" | "formatNumber" => 3,
        "replace" => 4,
        _ => return None,
    })
}

/// Functions of the language itself, which end a chain of tail calls.
fn is_builtin(function: &str) -> bool {
    const OTHERS: &[&str] = &[
        "abs",
        "append",
        "assert",
        "average",
        "base64decode",
        "base64encode",
        "boolean",
        "ceil",
        "contains",
        "count",
        "decodeUrl",
        "decodeUrlComponent",
        "each",
        "encodeUrl",
        "encodeUrlComponent",
        "error",
        "exists",
        "filter",
        "floor",
        "formatBase",
        "keys",
        "length",
        "local",
        "log",
        "lookup",
        "lowercase",
        "map",
        "max",
        "merge",
        "millis",
        "min",
        "not",
        "now",
        "number",
        "power",
        "random",
        "reduce",
        "reverse",
        "round",
        "setLocal",
        "shuffle",
        "sift",
        "single",
        "spread",
        "sqrt",
        "substring",
        "substringAfter",
        "substringBefore",
        "sum",
        "trim",
        "type",
        "uppercase",
        "valueNamed",
        "zip",
    ];
    arity(function).is_some() || OTHERS.contains(&function)
}

/// A function as a value: one that checks its arguments and calls it.
fn as_lambda(function: &str, arity: usize) -> AstNode {
    let params: Vec<String> = (0..arity).map(|i| format!("guard {i}")).collect();
    let args = params.iter().map(|param| AstNode::Variable(param.clone())).collect();
    let body =
        Box::new(tail(AstNode::Function { name: function.to_owned(), args, is_builtin: true }));
    AstNode::Lambda { params, body, signature: None, thunk: false }
}

fn call(function: String, args: Vec<AstNode>, is_builtin_call: bool) -> AstNode {
    if !is_builtin_call || arity(&function).is_none() {
        let own = !is_builtin(&function);
        let args = args.into_iter().map(if own { argument } else { plain }).collect();
        return AstNode::Function { name: function, args, is_builtin: is_builtin_call };
    }
    if has_placeholder(&args) {
        return partial(function, args);
    }
    let context_first = matches!(
        (function.as_str(), args.len()),
        ("string", 0) | ("match" | "split", 1) | ("replace", 2)
    );
    let context = context_first.then(|| AstNode::Variable(String::new()));
    let mut args: Vec<AstNode> = context.into_iter().chain(args.into_iter().map(plain)).collect();
    let arabic = matches!(args.get(1), Some(AstNode::String(p)) if !p.contains(['i', 'I']));
    let mut wrap = |index: usize, name: &str| {
        if let Some(arg) = args.get_mut(index)
            && !matches!(arg, AstNode::Lambda { .. } | AstNode::Regex { .. })
        {
            *arg = check(name, std::mem::replace(arg, AstNode::Null));
        }
    };
    match function.as_str() {
        "string" => wrap(0, name::TEXT),
        "join" => {
            wrap(0, name::TIMES);
            wrap(1, name::BY);
        }
        "replace" => {
            wrap(0, name::TIMES);
            wrap(2, name::BY);
        }
        "split" => wrap(0, name::CHARS),
        "match" => {
            let unlimited = args.len() == 2;
            args.extend(unlimited.then_some(AstNode::Undefined));
            if let Some(limit) = args.get_mut(2) {
                *limit = check(name::AT_MOST, std::mem::replace(limit, AstNode::Null));
            }
        }
        "distinct" => wrap(0, name::PAIRS),
        "sort" => wrap(0, name::LIST),
        "pad" => (0..3).for_each(|index| wrap(index, name::WIDTH)),
        "formatInteger" => {
            let check = if arabic { name::PICTURE } else { name::NUMERAL };
            (0..2).for_each(|index| wrap(index, check));
        }
        "toMillis" => wrap(1, name::PICTURE),
        _ => (0..3).for_each(|index| wrap(index, name::PICTURE)),
    }
    let is_match = function == "match";
    let call = AstNode::Function { name: function, args, is_builtin: true };
    if is_match { kept(check(name::LIST, call)) } else { call }
}

/// `$f(?, x)` is `function($p) { $f($p, x) }`.
fn partial(function: String, args: Vec<AstNode>) -> AstNode {
    let mut params = Vec::new();
    let args = args.into_iter().map(|arg| match arg {
        AstNode::Placeholder => {
            let param = format!("guard {}", params.len());
            params.push(param.clone());
            AstNode::Variable(param)
        }
        arg => arg,
    });
    let args = args.collect();
    let body = Box::new(call(function, args, true));
    AstNode::Lambda { params, body, signature: None, thunk: false }
}
