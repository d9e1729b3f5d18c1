//! JSONata: compiled by jsonata-core, fenced in by limits that also reach inside its built-in
//! functions.
//!
//! An expression is done [natively](native) where that is possible, else by the interpreter in the
//! [`Session`] of its scope, from a tree that was [made safe](guard). It differs from JSONata 2 in
//! this: `$eval` is refused, `$now`, `$millis`, `$random` and `$shuffle` follow the scope's clock
//! and seed, and the few built-in functions whose calls are rewritten cannot be bound anew.

mod convert;
mod correlation;
mod guard;
mod host;
mod native;
mod position;
mod requirement;
mod session;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use jsonata_core::{ast::AstNode, parser};
use serde_json::Value;

use native::Program;
pub(super) use session::Session;

use super::{CompileError, Correlations, ExprError, Expression, Requirement, Scope};
use crate::{ExprLimits, ExpressionLanguage};

/// The longest text that is taken for an expression, in bytes.
const MAX_SOURCE: usize = 16 * 1024;

/// The most dots in it: the parser's time grows with the square of a path's length.
const MAX_DOTS: usize = 500;

/// Compiles a JSONata expression.
pub(super) fn compile(
    source: &str,
    limits: &ExprLimits,
) -> Result<Arc<dyn Expression>, CompileError> {
    Ok(Arc::new(Jsonata::compile(source, limits)?))
}

/// A compiled JSONata expression.
#[derive(Debug)]
struct Jsonata {
    source: Box<str>,
    native: Option<Program>,
    ast: AstNode,
    reads_context: bool,
    binds_items: bool,
    limits: ExprLimits,
}

impl Jsonata {
    fn compile(source: &str, limits: &ExprLimits) -> Result<Self, CompileError> {
        if source.len() > MAX_SOURCE {
            let message = format!("the expression is longer than {MAX_SOURCE} bytes; split it");
            return Err(CompileError::at(source, 1, message));
        }
        if source.matches('.').count() > MAX_DOTS {
            let message = format!("the expression has more than {MAX_DOTS} dots; split it");
            return Err(CompileError::at(source, 1, message));
        }
        let ast = parser::parse(source).map_err(|error| position::locate(source, &error))?;
        guard::inspect(&ast).map_err(|refused| {
            let at = refused.near.and_then(|near| source.find(&near)).unwrap_or(0);
            CompileError::at(source, source[..at].chars().count() + 1, refused.message)
        })?;
        Ok(Self::of_tree(source, ast, limits))
    }

    fn of_tree(source: &str, ast: AstNode, limits: &ExprLimits) -> Self {
        let native = Program::compile(&ast);
        let binds_items = guard::binds_items(&ast);
        let ast = guard::rewrite(ast);
        let reads_context = may_read_context(source);
        Self { source: source.into(), native, ast, reads_context, binds_items, limits: *limits }
    }

    /// A part of the expression as an expression of its own.
    fn part(&self, ast: AstNode) -> Self {
        Self::of_tree(&self.source, ast, &self.limits)
    }
}

impl Expression for Jsonata {
    fn language(&self) -> ExpressionLanguage {
        ExpressionLanguage::Jsonata
    }

    fn source(&self) -> &str {
        &self.source
    }

    fn evaluate(&self, scope: &mut Scope) -> Result<Option<Value>, ExprError> {
        if let Some(program) = &self.native
            && let Ok(value) =
                program.run(scope, &self.limits, |value| value.into_value(&self.limits))
        {
            return Ok(value);
        }
        session::run(self, scope, |value, limits| {
            convert::from_interpreter(value, limits).map_err(Into::into)
        })
    }

    fn test(&self, scope: &mut Scope) -> Result<bool, ExprError> {
        if let Some(program) = &self.native
            && let Ok(value) = program.run(scope, &self.limits, |value| value.truthy())
        {
            return Ok(value);
        }
        session::run(self, scope, |value, _| Ok(truthy(value)))
    }

    fn requirement(&self) -> Requirement {
        self.native.as_ref().map_or(Requirement::Anything, Program::requirement)
    }

    fn correlations(&self) -> Correlations {
        Self::correlations(self)
    }

    fn may_set_locals(&self) -> bool {
        self.sets_locals()
    }
}

/// JSONata's boolean cast.
fn truthy(value: &jsonata_core::value::JValue) -> bool {
    use jsonata_core::value::JValue;
    match value {
        JValue::Bool(b) => *b,
        JValue::Number(n) => *n != 0.0,
        JValue::String(s) => !s.is_empty(),
        JValue::Array(items) => items.iter().any(truthy),
        JValue::Object(map) => !map.is_empty(),
        _ => false,
    }
}

/// Whether an expression may look at `context` in its input; told from its text, in doubt yes.
fn may_read_context(source: &str) -> bool {
    const WAYS: &[&str] =
        &["context", "\\", "*", "%", "$$", "()", "$lookup", "$each", "$sift", "^"];
    let bare = source.split('$').skip(1).any(|rest| !rest.starts_with(char::is_alphabetic));
    bare || WAYS.iter().any(|way| source.contains(way))
}
