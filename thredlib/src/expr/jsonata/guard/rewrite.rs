//! The rewriting of a syntax tree so that it pays; see the module above.

use jsonata_core::ast::{AstNode, BinaryOp, PathStep, Stage};

use super::{
    calls::{
        applies_functions, arity, as_lambda, call, callback_arity, gives_sequence, has_placeholder,
        is_builtin, match_call,
    },
    children, name,
};

/// Rewrites a tree that was inspected.
pub(in super::super) fn rewrite(ast: AstNode) -> AstNode {
    plain(ast)
}
/// A node whose value is used at once.
pub(super) fn plain(ast: AstNode) -> AstNode {
    let boxed = |node: Box<AstNode>| Box::new(plain(*node));
    match ast {
        AstNode::Variable(name) => match callback_arity(&name) {
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
            AstNode::Lambda { params, body: Box::new(counted(tail(*body))), signature, thunk }
        }
        AstNode::Array(items) => AstNode::Array(items.into_iter().map(item).collect()),
        AstNode::ArrayGroup(items) => AstNode::ArrayGroup(items.into_iter().map(made).collect()),
        AstNode::Object(pairs) => AstNode::Object(entries(pairs)),
        AstNode::ObjectTransform { input, pattern } => kept(AstNode::ObjectTransform {
            input: Box::new(source(*input)),
            pattern: entries(pattern),
        }),
        AstNode::Block(nodes) => AstNode::Block(nodes.into_iter().map(plain).collect()),
        AstNode::Conditional { condition, then_branch, else_branch } => AstNode::Conditional {
            condition: Box::new(truth(*condition)),
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

/// What a step, a group or a sort works on. The interpreter looks into such nodes, and what it
/// does depends on what it sees there, so only what surely makes no difference is wrapped.
fn source(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Path { steps } => {
            // A call in its place would be made for each item of the context.
            AstNode::Path { steps: guarded_steps(steps) }
        }
        AstNode::Block(mut nodes) => {
            let last = nodes.pop().map(source);
            AstNode::Block(nodes.into_iter().map(plain).chain(last).collect())
        }
        AstNode::FunctionApplication(inner) => {
            AstNode::FunctionApplication(Box::new(source(*inner)))
        }
        AstNode::Sort { .. } | AstNode::ObjectTransform { .. } => unwrapped(plain(ast)),
        AstNode::Variable(name) if name.is_empty() => AstNode::Variable(name),
        AstNode::Array(items) => AstNode::Array(items.into_iter().map(made).collect()),
        AstNode::ArrayGroup(_) | AstNode::Object(_) | AstNode::Name(_) => plain(ast),
        AstNode::Wildcard | AstNode::Descendant | AstNode::Parent(_) => ast,
        other => tail(other),
    }
}

/// Takes the outermost check off again.
fn unwrapped(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Function { name, mut args, .. } if name == name::KEEP && args.len() == 1 => {
            args.remove(0)
        }
        other => other,
    }
}

/// A node whose value is asked whether it is true. Only arithmetic makes what is no number, and
/// only a variable holds it.
pub(super) fn truth(ast: AstNode) -> AstNode {
    use BinaryOp::{Add, Divide, Modulo, Multiply, Subtract};
    let may_be_none = match &ast {
        AstNode::Binary { op, .. } => matches!(op, Add | Subtract | Multiply | Divide | Modulo),
        AstNode::Unary { .. } | AstNode::Variable(_) | AstNode::Call { .. } => true,
        AstNode::Block(nodes) => nodes.len() == 1,
        AstNode::Function { name, .. } => !is_builtin(name),
        _ => false,
    };
    let ast = plain(ast);
    if may_be_none { check(name::TRUTH, ast) } else { ast }
}

/// A node that is evaluated again and again: counted each time.
fn counted(ast: AstNode) -> AstNode {
    let step = check(name::STEP, AstNode::Null);
    AstNode::Block(match ast {
        AstNode::Block(nodes) => std::iter::once(step).chain(nodes).collect(),
        ast => vec![step, ast],
    })
}

/// Whether a node, evaluated for each item of a list, goes through a list of its own.
fn loops(ast: &AstNode) -> bool {
    let own = match ast {
        AstNode::Path { steps } => match steps.first().map(|step| &step.node) {
            Some(AstNode::Variable(name)) => !name.is_empty() && steps.len() > 1,
            Some(AstNode::ParentVariable(_) | AstNode::Wildcard | AstNode::Descendant) => true,
            _ => false,
        },
        _ => false,
    };
    own || children(ast).into_iter().any(loops)
}

/// A node whose value is kept: in a collection, a variable, or for the caller.
fn kept(ast: AstNode) -> AstNode {
    check(name::KEEP, ast)
}

pub(super) fn check(name: &str, ast: AstNode) -> AstNode {
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

/// An item of an array: an array written in place, filtered or not, stays one, and its own items
/// pay.
fn item(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Array(_) => plain(ast),
        AstNode::Path { steps }
            if matches!(steps.as_slice(), [PathStep { node: AstNode::Array(_), .. }]) =>
        {
            AstNode::Path { steps: guarded_steps(steps) }
        }
        ast => value(ast),
    }
}

/// An item of an array that a step makes for each of its items: literals pay too, else the
/// interpreter would make all of them without a look at the clock.
fn made(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Array(items) => AstNode::Array(items.into_iter().map(made).collect()),
        ast if is_small(&ast) => kept(plain(ast)),
        ast => item(ast),
    }
}

/// An argument of a function that the expression defines: paid when it is new.
pub(super) fn argument(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Variable(_) => plain(ast),
        ast => value(ast),
    }
}

fn entries(pairs: Vec<(AstNode, AstNode)>) -> Vec<(AstNode, AstNode)> {
    let mut is_paid = false;
    let entry = |(key, content): (AstNode, AstNode)| {
        let key = value(key);
        if is_paid || matches!(content, AstNode::Lambda { .. }) {
            return (key, value(content));
        }
        is_paid = true;
        (key, check(name::FIRST, plain(content)))
    };
    pairs.into_iter().map(entry).collect()
}

/// A node that a function ends with: kept by the caller, except that a call to another function
/// of the expression stays in its place, as such a call needs no stack.
pub(super) fn tail(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Conditional { condition, then_branch, else_branch } => AstNode::Conditional {
            condition: Box::new(truth(*condition)),
            then_branch: Box::new(tail(*then_branch)),
            else_branch: else_branch.map(|ast| Box::new(tail(*ast))),
        },
        AstNode::Block(mut nodes) => {
            let last = nodes.pop().map(tail);
            AstNode::Block(nodes.into_iter().map(plain).chain(last).collect())
        }
        AstNode::Function { ref name, ref args, .. }
            if !is_builtin(name) || args.is_empty() || applies_functions(name) =>
        {
            plain(ast)
        }
        // As the last call of a function these give a sequence, which a check would unwrap.
        AstNode::Function { name, args, is_builtin: true } if gives_sequence(&name) => {
            if name == "match" && !has_placeholder(&args) {
                return match_call(args);
            }
            let pays = name != "lookup";
            match call(name, args, true) {
                AstNode::Function { name, args, is_builtin } if pays => {
                    let args = args.into_iter().map(kept).collect();
                    AstNode::Function { name, args, is_builtin }
                }
                other => other,
            }
        }
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
        let kind = std::mem::discriminant(&step.node);
        step.node = match step.node {
            // The first step decides how the path begins.
            AstNode::Variable(name) if index == 0 || name.is_empty() => AstNode::Variable(name),
            AstNode::ParentVariable(name) if index == 0 => AstNode::ParentVariable(name),
            AstNode::Variable(_) | AstNode::ParentVariable(_) => kept(step.node),
            node @ (AstNode::Function { .. } | AstNode::Call { .. }) => plain(node),
            node @ AstNode::Block(_) if index > 0 => counted(source(node)),
            AstNode::FunctionApplication(inner) if index > 0 && loops(&inner) => {
                AstNode::FunctionApplication(Box::new(counted(source(*inner))))
            }
            node => source(node),
        };
        debug_assert!(
            // Either is a function, which no further step leads on from.
            index > 0
                || kind == std::mem::discriminant(&step.node)
                || matches!(step.node, AstNode::Lambda { .. }),
            "{step:?}"
        );
        for stage in &mut step.stages {
            if let Stage::Filter(filter) = stage {
                let inner = std::mem::replace(&mut **filter, AstNode::Null);
                let (once, loops) = (selects_once(&inner), loops(&inner));
                let inner = if once { plain(inner) } else { value(inner) };
                **filter = if loops { counted(inner) } else { inner };
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
        BinaryOp::Range => kept(node(bound(lhs), bound(rhs))),
        BinaryOp::ColonEqual => node(lhs, value(rhs)),
        BinaryOp::ChainPipe => chain(lhs, rhs),
        BinaryOp::Equal | BinaryOp::NotEqual => node(argument(lhs), argument(rhs)),
        BinaryOp::And | BinaryOp::Or => node(truth(lhs), truth(rhs)),
        _ => node(plain(lhs), plain(rhs)),
    }
}

/// An end of a range. The interpreter subtracts them as integers.
fn bound(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Number(n) if n.abs() < 1e9 => ast,
        ast => check(name::BOUND, plain(ast)),
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
            rhs: Box::new(match rhs {
                AstNode::Path { steps } => AstNode::Path { steps: guarded_steps(steps) },
                // A call in this place would be given the left side.
                rhs => unwrapped(plain(rhs)),
            }),
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
