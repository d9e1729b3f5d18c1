//! From the syntax tree to the native one.

use jsonata_core::ast::{AstNode, BinaryOp, PathStep, UnaryOp};
use serde_json::Value;

use super::{
    super::{super::published::Published, convert, error_variable, exact, guard::children},
    Arithmetic, Node, Order, Program, Root, Statement,
};

/// Expressions that search for more values by name are left to the interpreter, which looks at the
/// clock between the searches.
const MAX_SEARCHES: usize = 16;

/// Trees that nest deeper are left to the interpreter.
const MAX_DEPTH: usize = 64;

impl Program {
    /// `None` when the interpreter would have to do all of it anyway.
    pub(in super::super) fn compile(ast: &AstNode) -> Option<Self> {
        let nodes = match ast {
            AstNode::Block(nodes) => nodes.as_slice(),
            node => std::slice::from_ref(node),
        };
        if searches(ast) > MAX_SEARCHES {
            return None;
        }
        let statements: Vec<_> = nodes.iter().map(statement).collect();
        let foreign = |statement: &Statement| {
            matches!(
                statement,
                Statement::Evaluate(Node::Foreign) | Statement::SetLocal(_, Node::Foreign)
            )
        };
        // Past a foreign statement nothing would run natively.
        if statements.iter().any(foreign) {
            return None;
        }
        let sets_locals = statements.iter().any(|s| matches!(s, Statement::SetLocal(..)));
        Some(Self { statements, sets_locals })
    }
}

fn searches(ast: &AstNode) -> usize {
    let own = matches!(ast, AstNode::Function { name, .. } if name == "valueNamed");
    usize::from(own) + children(ast).into_iter().map(searches).sum::<usize>()
}

fn statement(ast: &AstNode) -> Statement {
    if let AstNode::Function { name, args, is_builtin: true } = ast
        && name == "setLocal"
        && let [AstNode::String(local), value] = args.as_slice()
    {
        return Statement::SetLocal(local.as_str().into(), node(value, MAX_DEPTH));
    }
    Statement::Evaluate(node(ast, MAX_DEPTH))
}

fn node(ast: &AstNode, depth: usize) -> Node {
    let Some(depth) = depth.checked_sub(1) else { return Node::Foreign };
    let boxed = |ast: &AstNode| Box::new(node(ast, depth));
    match ast {
        AstNode::Undefined => Node::Undefined,
        AstNode::Block(nodes) => match nodes.as_slice() {
            [only] => node(only, depth),
            _ => Node::Foreign,
        },
        AstNode::Variable(name) => root_variable(name).map_or(Node::Foreign, place),
        AstNode::Path { steps } => path(steps),
        AstNode::Binary { op, lhs, rhs } => binary(*op, lhs, rhs, depth),
        AstNode::Unary { op: UnaryOp::Negate, operand } => Node::Negate(boxed(operand)),
        AstNode::Function { name, args, is_builtin: true } => call(name, args, depth),
        AstNode::Conditional { condition, then_branch, else_branch } => {
            let otherwise = else_branch.as_ref().map_or(Node::Undefined, |ast| node(ast, depth));
            Node::If(Box::new([node(condition, depth), node(then_branch, depth), otherwise]))
        }
        AstNode::Object(pairs) => object(pairs, depth),
        AstNode::Array(items) => Node::Array(items.iter().map(|ast| node(ast, depth)).collect()),
        _ => literal(ast).map_or(Node::Foreign, Node::Literal),
    }
}

fn literal(ast: &AstNode) -> Option<Value> {
    match ast {
        AstNode::String(s) => Some(Value::String(s.clone())),
        AstNode::Number(n) if n.is_finite() => Some(convert::number(*n)),
        AstNode::Boolean(b) => Some(Value::Bool(*b)),
        AstNode::Null => Some(Value::Null),
        ast => exact::literal_value(ast).map(convert::integer),
    }
}

fn place(root: Root) -> Node {
    Node::Path(root, Box::default())
}

fn root_variable(name: &str) -> Option<Root> {
    Some(match name {
        "event" => Root::Event,
        error_variable::NAME => Root::Error,
        "outboundEvent" => Root::Outbound,
        "data" => Root::Data,
        "content" => Root::Content,
        "values" => Root::Values,
        "advice" => Root::Advice,
        "thredId" => Root::ThredId,
        _ => return None,
    })
}

/// A path of plain names from a place that is known.
fn path(steps: &[PathStep]) -> Node {
    let Some((first, rest)) = steps.split_first() else { return Node::Foreign };
    let root = match &first.node {
        AstNode::Variable(name) => root_variable(name),
        AstNode::Name(name) if name == "event" => Some(Root::Event),
        AstNode::Function { name, args, is_builtin: true } => root_call(name, args),
        _ => None,
    };
    let names = rest.iter().map(|step| match &step.node {
        AstNode::Name(name) => Some(name.as_str().into()),
        _ => None,
    });
    match (root, names.collect::<Option<Box<[_]>>>()) {
        (Some(root), Some(names)) if steps.iter().all(is_plain) => Node::Path(root, names),
        _ => Node::Foreign,
    }
}

fn is_plain(step: &PathStep) -> bool {
    step.stages.is_empty()
        && step.focus.is_none()
        && step.index_var.is_none()
        && step.ancestor_label.is_none()
        && !step.is_tuple
        && !step.inner_tuple
}

fn root_call(name: &str, args: &[AstNode]) -> Option<Root> {
    match (name, args) {
        ("valueNamed", [AstNode::String(name)]) => Some(Root::ValueNamed(name.as_str().into())),
        ("valueNamed", [AstNode::String(name), AstNode::Variable(event)]) if event == "event" => {
            Some(Root::ValueNamed(name.as_str().into()))
        }
        ("local", [AstNode::String(name)]) => Some(Root::Local(name.as_str().into())),
        _ => None,
    }
}

fn call(name: &str, args: &[AstNode], depth: usize) -> Node {
    if let Some(root) = root_call(name, args) {
        return place(root);
    }
    match (name, args) {
        ("isResponseFor", [AstNode::String(name)]) => {
            Node::IsResponseFor(Box::new(Published::new(name)))
        }
        ("millis", []) => Node::Millis,
        ("not", [arg]) => Node::Not(Box::new(node(arg, depth))),
        ("boolean", [arg]) => Node::Boolean(Box::new(node(arg, depth))),
        ("exists", [arg]) => Node::Exists(Box::new(node(arg, depth))),
        _ => Node::Foreign,
    }
}

fn binary(op: BinaryOp, lhs: &AstNode, rhs: &AstNode, depth: usize) -> Node {
    if op == BinaryOp::In {
        return membership(lhs, rhs, depth);
    }
    let both = || Box::new([node(lhs, depth), node(rhs, depth)]);
    match op {
        BinaryOp::Equal => Node::Equal(both()),
        BinaryOp::NotEqual => Node::NotEqual(both()),
        BinaryOp::LessThan => Node::Compare(Order::Less, both()),
        BinaryOp::LessThanOrEqual => Node::Compare(Order::LessOrEqual, both()),
        BinaryOp::GreaterThan => Node::Compare(Order::Greater, both()),
        BinaryOp::GreaterThanOrEqual => Node::Compare(Order::GreaterOrEqual, both()),
        BinaryOp::And => Node::And(both()),
        BinaryOp::Or => Node::Or(both()),
        BinaryOp::Concatenate => Node::Concat(both()),
        BinaryOp::Add => Node::Arithmetic(Arithmetic::Add, both()),
        BinaryOp::Subtract => Node::Arithmetic(Arithmetic::Subtract, both()),
        BinaryOp::Multiply => Node::Arithmetic(Arithmetic::Multiply, both()),
        BinaryOp::Divide => Node::Arithmetic(Arithmetic::Divide, both()),
        _ => Node::Foreign,
    }
}

fn membership(lhs: &AstNode, rhs: &AstNode, depth: usize) -> Node {
    let among = match rhs {
        AstNode::Array(items) => items.iter().map(literal).collect::<Option<Box<[_]>>>(),
        _ => literal(rhs).map(|value| Box::from([value])),
    };
    among.map_or(Node::Foreign, |among| Node::In(Box::new(node(lhs, depth)), among))
}

fn object(pairs: &[(AstNode, AstNode)], depth: usize) -> Node {
    let mut entries: Vec<(Box<str>, Node)> = Vec::with_capacity(pairs.len());
    for (key, value) in pairs {
        match key {
            AstNode::String(key) if entries.iter().all(|(known, _)| **known != **key) => {
                entries.push((key.as_str().into(), node(value, depth)));
            }
            _ => return Node::Foreign,
        }
    }
    Node::Object(entries.into())
}
