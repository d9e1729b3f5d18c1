//! Calls of built-in functions whose arguments are to be checked.

use jsonata_core::ast::AstNode;

use super::{
    name,
    rewrite::{argument, check, plain, tail, truth},
};

pub(super) fn has_placeholder(args: &[AstNode]) -> bool {
    args.iter().any(|arg| matches!(arg, AstNode::Placeholder))
}

/// The functions whose arguments are checked, with the number of arguments that they take as a
/// callback.
pub(super) fn arity(function: &str) -> Option<usize> {
    Some(match function {
        "string" | "distinct" | "sort" => 1,
        "join" | "fromMillis" | "toMillis" | "formatInteger" | "parseInteger" => 2,
        "split" | "match" | "pad" | "formatNumber" => 3,
        "replace" => 4,
        _ => return None,
    })
}

/// As `arity`, with the functions of the host that would be handed more arguments than they expect
/// from a callback.
pub(super) fn callback_arity(function: &str) -> Option<usize> {
    match function {
        "shuffle" | "valueNamed" | "zip" => Some(1),
        function => arity(function),
    }
}

/// Functions of the language itself, which end a chain of tail calls.
pub(super) fn is_builtin(function: &str) -> bool {
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
pub(super) fn as_lambda(function: &str, arity: usize) -> AstNode {
    let params: Vec<String> = (0..arity).map(|i| format!("guard {i}")).collect();
    let args = params.iter().map(|param| AstNode::Variable(param.clone())).collect();
    let body =
        Box::new(tail(AstNode::Function { name: function.to_owned(), args, is_builtin: true }));
    // `$string` is the one that is often called on the context.
    let signature = (function == "string").then(|| "<x-:s>".to_owned());
    AstNode::Lambda { params, body, signature, thunk: false }
}

pub(super) fn call(function: String, args: Vec<AstNode>, is_builtin_call: bool) -> AstNode {
    if is_builtin_call && matches!(&*function, "boolean" | "not") {
        let args = args.into_iter().map(truth).collect();
        return AstNode::Function { name: function, args, is_builtin: true };
    }
    // The interpreter looks for a variable of that name, and the context has none.
    if is_builtin_call && function == "exists" && args == [AstNode::Variable(String::new())] {
        let args = vec![AstNode::Block(args)];
        return AstNode::Function { name: function, args, is_builtin: true };
    }
    let compiles = args.iter().skip(1).any(|arg| matches!(arg, AstNode::Regex { .. }));
    let args: Vec<AstNode> = if compiles && !has_placeholder(&args) {
        let mut args = args.into_iter();
        let text = args.next().map(|text| check(name::REGEX, text));
        text.into_iter().chain(args).collect()
    } else {
        args
    };
    if !is_builtin_call || arity(&function).is_none() {
        let own = !is_builtin(&function);
        let args = args.into_iter().map(if own { argument } else { plain }).collect();
        return AstNode::Function { name: function, args, is_builtin: is_builtin_call };
    }
    if has_placeholder(&args) {
        return partial(function, args);
    }
    if function == "match" {
        return check(name::LIST, match_call(args));
    }
    let takes_context = match function.as_str() {
        "replace" => args.len() == 2,
        "toMillis" => args.is_empty(),
        _ => false,
    };
    let context = takes_context.then(|| AstNode::Variable(String::new()));
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
            wrap(2, name::REPLACEMENT);
            wrap(2, name::BY);
        }
        "split" => wrap(0, name::CHARS),
        "distinct" => wrap(0, name::PAIRS),
        "sort" => wrap(0, name::LIST),
        "pad" => (0..3).for_each(|index| wrap(index, name::WIDTH)),
        "formatInteger" => {
            let check = if arabic { name::PICTURE } else { name::NUMERAL };
            (0..2).for_each(|index| wrap(index, check));
        }
        "toMillis" => wrap(1, name::DATE),
        "fromMillis" => (0..3).for_each(|index| wrap(index, name::DATE)),
        _ => (0..3).for_each(|index| wrap(index, name::PICTURE)),
    }
    AstNode::Function { name: function, args, is_builtin: true }
}

/// `$match`, stopped one match after the largest sequence.
pub(super) fn match_call(args: Vec<AstNode>) -> AstNode {
    let context = (args.len() == 1).then(|| AstNode::Variable(String::new()));
    let mut args = context.into_iter().chain(args.into_iter().map(plain));
    let text = check(name::MATCHES, args.next().unwrap_or(AstNode::Undefined));
    let pattern = args.next().unwrap_or(AstNode::Undefined);
    let limit = check(name::AT_MOST, args.next().unwrap_or(AstNode::Undefined));
    let args = [text, pattern, limit].into_iter().chain(args).collect();
    AstNode::Function { name: "match".to_owned(), args, is_builtin: true }
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
    let body = Box::new(tail(AstNode::Function { name: function, args, is_builtin: true }));
    AstNode::Lambda { params, body, signature: None, thunk: false }
}

/// Whether what it collects was paid for by the functions that it applies.
pub(super) fn applies_functions(function: &str) -> bool {
    matches!(function, "map" | "filter" | "each" | "reduce" | "sift" | "single")
}

pub(super) fn gives_sequence(function: &str) -> bool {
    matches!(function, "keys" | "lookup" | "spread" | "match")
}
