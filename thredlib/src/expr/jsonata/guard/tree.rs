//! Walks over syntax trees.

use jsonata_core::ast::{AstNode, PathStep, Stage};

type Map<'f> = &'f mut dyn FnMut(AstNode) -> AstNode;

/// A node with each node right below it mapped.
pub(in super::super) fn map_children(ast: AstNode, map: Map<'_>) -> AstNode {
    match ast {
        AstNode::Path { steps } => {
            let steps = steps.into_iter().map(|step| map_step(step, map)).collect();
            AstNode::Path { steps }
        }
        AstNode::Binary { op, lhs, rhs } => {
            let (lhs, rhs) = (boxed(lhs, map), boxed(rhs, map));
            AstNode::Binary { op, lhs, rhs }
        }
        AstNode::Unary { op, operand } => AstNode::Unary { op, operand: boxed(operand, map) },
        AstNode::Function { name, args, is_builtin } => {
            AstNode::Function { name, args: all(args, map), is_builtin }
        }
        AstNode::Call { procedure, args } => {
            let procedure = boxed(procedure, map);
            AstNode::Call { procedure, args: all(args, map) }
        }
        AstNode::Lambda { params, body, signature, thunk } => {
            AstNode::Lambda { params, body: boxed(body, map), signature, thunk }
        }
        AstNode::Array(nodes) => AstNode::Array(all(nodes, map)),
        AstNode::ArrayGroup(nodes) => AstNode::ArrayGroup(all(nodes, map)),
        AstNode::Block(nodes) => AstNode::Block(all(nodes, map)),
        AstNode::Object(pairs) => AstNode::Object(both(pairs, map)),
        AstNode::ObjectTransform { input, pattern } => {
            let input = boxed(input, map);
            AstNode::ObjectTransform { input, pattern: both(pattern, map) }
        }
        AstNode::Conditional { condition, then_branch, else_branch } => AstNode::Conditional {
            condition: boxed(condition, map),
            then_branch: boxed(then_branch, map),
            else_branch: else_branch.map(|node| boxed(node, map)),
        },
        AstNode::FunctionApplication(inner) => AstNode::FunctionApplication(boxed(inner, map)),
        AstNode::Sort { input, terms } => {
            let input = boxed(input, map);
            let terms = terms.into_iter().map(|(term, ascending)| (map(term), ascending));
            AstNode::Sort { input, terms: terms.collect() }
        }
        AstNode::Transform { location, update, delete } => AstNode::Transform {
            location: boxed(location, map),
            update: boxed(update, map),
            delete: delete.map(|node| boxed(node, map)),
        },
        leaf => leaf,
    }
}

/// A node with each filter of its steps mapped, if it is a path.
pub(in super::super) fn map_filters(ast: AstNode, map: Map<'_>) -> AstNode {
    match ast {
        AstNode::Path { mut steps } => {
            steps.iter_mut().for_each(|step| filters(step, map));
            AstNode::Path { steps }
        }
        other => other,
    }
}

fn map_step(mut step: PathStep, map: Map<'_>) -> PathStep {
    step.node = map(step.node);
    filters(&mut step, map);
    // The interpreter remembers by it what it has learnt about the step as it was.
    step.id = jsonata_core::ast::StepId::default();
    step
}

fn filters(step: &mut PathStep, map: Map<'_>) {
    for stage in &mut step.stages {
        if let Stage::Filter(filter) = stage {
            **filter = map(std::mem::replace(&mut **filter, AstNode::Null));
        }
    }
}

fn boxed(mut node: Box<AstNode>, map: Map<'_>) -> Box<AstNode> {
    *node = map(std::mem::replace(&mut *node, AstNode::Null));
    node
}

fn all(nodes: Vec<AstNode>, map: Map<'_>) -> Vec<AstNode> {
    nodes.into_iter().map(map).collect()
}

fn both(pairs: Vec<(AstNode, AstNode)>, map: Map<'_>) -> Vec<(AstNode, AstNode)> {
    pairs.into_iter().map(|(key, value)| (map(key), map(value))).collect()
}
