//! `$error` as a variable: the error that the event carries.
//!
//! It is a function of the language, too. So the variable gets a name of its own, which no
//! expression can write, wherever it is not called and the expression does not bind it itself.

use std::collections::HashSet;

use jsonata_core::ast::AstNode;

use super::guard::{bound_names, map_children};

/// The name that the variable has in the tree.
pub(super) const NAME: &str = "event error";

const WRITTEN: &str = "error";

/// Renames the variable.
pub(super) fn rename(ast: AstNode) -> AstNode {
    let bound: HashSet<String> = bound_names(&ast);
    if bound.contains(WRITTEN) { ast } else { renamed(ast) }
}

fn renamed(ast: AstNode) -> AstNode {
    match ast {
        AstNode::Variable(name) if name == WRITTEN => AstNode::Variable(NAME.to_owned()),
        // Applied to what stands before it, it is the function.
        AstNode::Binary { op: op @ jsonata_core::ast::BinaryOp::ChainPipe, lhs, rhs } => {
            let rhs = match *rhs {
                rhs @ AstNode::Variable(_) => rhs,
                rhs => renamed(rhs),
            };
            AstNode::Binary { op, lhs: Box::new(renamed(*lhs)), rhs: Box::new(rhs) }
        }
        ast => map_children(ast, &mut renamed),
    }
}
