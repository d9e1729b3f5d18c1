//! JSONata: compiled by jsonata-core, fenced in by limits that also reach inside its built-in
//! functions.
//!
//! An expression is done [natively](native) where that is possible, else by the interpreter in the
//! [`Session`] of its scope, from a tree that was [made safe](guard). It differs from JSONata 2 in
//! this: `$eval` is refused, `$now`, `$millis`, `$random` and `$shuffle` follow the scope's clock
//! and seed, and the few built-in functions whose calls are rewritten cannot be bound anew.

mod convert;
mod correlation;
mod error_variable;
mod exact;
mod guard;
mod host;
mod literal;
mod native;
mod position;
mod requirement;
mod session;

#[cfg(test)]
mod exact_tests;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod suite;
#[cfg(test)]
mod tests;

use std::sync::{Arc, OnceLock};

use jsonata_core::{ast::AstNode, parser, value::JValue};
use serde_json::Value;

use convert::Refused;
use literal::TooLarge;
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
    /// The tree that knows integers beyond doubles; made when the data first has some.
    exact: OnceLock<AstNode>,
    /// The tree as it was written, if it is a part of what the text says.
    part: Option<AstNode>,
    /// Whether the text has such an integer.
    has_large: bool,
    reads_locals: bool,
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
        let at_byte = |at: usize, message: String| {
            CompileError::at(source, source[..at].chars().count() + 1, message)
        };
        let ast = parser::parse(source).map_err(|error| position::locate(source, &error))?;
        guard::inspect(&ast).map_err(|refused| {
            let at = refused.near.and_then(|near| source.find(&near)).unwrap_or(0);
            at_byte(at, refused.message)
        })?;
        let large = large_integers(source).map_err(|TooLarge { at }| {
            at_byte(at, "an integer beyond 64 bits, which would be rounded; write a text".into())
        })?;
        let has_large = large.is_some();
        let ast = named(source, large.unwrap_or(ast));
        Ok(Self::of_tree(source, ast, has_large, limits))
    }

    fn of_tree(source: &str, ast: AstNode, has_large: bool, limits: &ExprLimits) -> Self {
        let reads_context = may_read_context(source);
        Self {
            source: source.into(),
            native: Program::compile(&ast),
            binds_items: guard::binds_items(&ast),
            ast: guard::rewrite(ast),
            exact: OnceLock::new(),
            part: None,
            has_large,
            reads_locals: reads_context || source.contains("local"),
            reads_context,
            limits: *limits,
        }
    }

    /// A part of the expression as an expression of its own.
    fn part(&self, ast: AstNode) -> Self {
        let part = Some(ast.clone());
        Self { part, ..Self::of_tree(&self.source, ast, self.has_large, &self.limits) }
    }

    /// The tree for data that has integers beyond doubles.
    fn exact(&self) -> &AstNode {
        self.exact.get_or_init(|| {
            let large = || large_integers(&self.source).ok().flatten();
            let whole = || large().or_else(|| parser::parse(&self.source).ok());
            let whole = || whole().map(|ast| named(&self.source, ast));
            let ast = self.part.clone().or_else(whole);
            ast.map_or_else(|| self.ast.clone(), |ast| guard::rewrite(exact::rewrite(ast)))
        })
    }
}

/// The tree with its variables under the names that they are bound by.
fn named(source: &str, ast: AstNode) -> AstNode {
    if source.contains("$error") { error_variable::rename(ast) } else { ast }
}

/// The tree of a text that has integers beyond doubles; `None` when it has none.
fn large_integers(source: &str) -> Result<Option<AstNode>, TooLarge> {
    let hidden = literal::hide(source)?;
    Ok(hidden.and_then(|hidden| parser::parse(&hidden).ok()).map(literal::restore))
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
        session::run(self, scope, |value, _| match value {
            JValue::Number(n) if n.is_infinite() => Err(Refused::OutOfRange.into()),
            value => Ok(truthy(value)),
        })
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
fn truthy(value: &JValue) -> bool {
    match value {
        JValue::Bool(b) => *b,
        JValue::Number(n) => *n != 0.0 && !n.is_nan(),
        JValue::String(s) => !s.is_empty(),
        JValue::Array(items) => items.iter().any(truthy),
        JValue::Object(map) => !map.is_empty(),
        value => exact::unboxed(value).is_some(),
    }
}

/// Whether an expression may look at `context` in its input; told from its text, in doubt yes.
fn may_read_context(source: &str) -> bool {
    const WAYS: &[&str] =
        &["context", "\\", "*", "%", "$$", "()", "$lookup", "$each", "$sift", "^"];
    let bare = source.split('$').skip(1).any(|rest| !rest.starts_with(char::is_alphabetic));
    bare || WAYS.iter().any(|way| source.contains(way))
}
