//! What is refused, as no rewriting makes it safe.

use std::collections::HashSet;

use jsonata_core::ast::{AstNode, BinaryOp, Stage};
use regex::RegexBuilder;

use super::calls::callback_arity;

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

/// Refuses a tree that cannot be made safe.
pub(in super::super) fn inspect(ast: &AstNode) -> Result<(), Unguardable> {
    let mut bound = HashSet::new();
    visit(ast, MAX_DEPTH, &mut bound)?;
    match bound.into_iter().find(|name| callback_arity(name).is_some()) {
        None => Ok(()),
        Some(name) => Err(Unguardable {
            message: format!("`${name}` is a built-in function; bind another name"),
            near: Some(format!("${name}")),
        }),
    }
}

/// The names that the expression binds.
pub(in super::super) fn bound_names(ast: &AstNode) -> HashSet<String> {
    let mut bound = HashSet::new();
    // What nests too deep has been refused.
    let _ = visit(ast, MAX_DEPTH, &mut bound);
    bound
}

/// Whether a path binds variables to its items (`@$v`, `#$i`, `%`): the interpreter makes an object
/// for each of them before it looks at its limits.
pub(in super::super) fn binds_items(ast: &AstNode) -> bool {
    let own = match ast {
        AstNode::Path { steps } => steps.iter().any(|step| {
            step.is_tuple
                || step.inner_tuple
                || step.focus.is_some()
                || step.index_var.is_some()
                || step.ancestor_label.is_some()
        }),
        _ => false,
    };
    own || children(ast).into_iter().any(binds_items)
}

/// Finds the names that the expression binds, and what is to be refused.
fn visit(ast: &AstNode, depth: usize, bound: &mut HashSet<String>) -> Result<(), Unguardable> {
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
    children(ast).into_iter().try_for_each(|child| visit(child, depth, bound))
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

/// The nodes right below a node.
pub(in super::super) fn children(ast: &AstNode) -> Vec<&AstNode> {
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
