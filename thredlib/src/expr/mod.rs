//! Expressions: what patterns compute, behind one small trait.
//!
//! An expression is compiled once, when its pattern is loaded, and shared by all threads. It is
//! evaluated in a [`Scope`], which lasts for one event and is not shared.
//!
//! The result of an expression is data: nothing here evaluates it again.

mod correlation;
mod jsonata;
mod jsonpath;
pub mod published;
mod requirement;
mod scope;

use std::{fmt::Debug, sync::Arc};

use serde_json::Value;

pub use correlation::{Correlation, Correlations};
pub use requirement::{Field, Requirement, Scalar};
pub use scope::{Locals, Scope, no_locals};

use crate::{ExprLimits, ExpressionLanguage};

/// A compiled expression.
pub trait Expression: Debug + Send + Sync {
    /// The language that it is written in.
    fn language(&self) -> ExpressionLanguage;

    /// The text that it was compiled from.
    fn source(&self) -> &str;

    /// The value; `None` when it is undefined.
    ///
    /// # Errors
    /// When the evaluation fails or goes over a limit. The scope's locals may have been changed
    /// in part; the caller throws the scope away.
    fn evaluate(&self, scope: &mut Scope) -> Result<Option<Value>, ExprError>;

    /// Whether a filter with this expression matches.
    ///
    /// # Errors
    /// As [`evaluate`](Self::evaluate).
    fn test(&self, scope: &mut Scope) -> Result<bool, ExprError>;

    /// What an event must be like for [`test`](Self::test) to be true, as far as the text tells.
    fn requirement(&self) -> Requirement;

    /// What the event and the locals have in common when [`test`](Self::test) is true, as far as
    /// the text tells. Worked out at each call.
    fn correlations(&self) -> Correlations;

    /// Whether an evaluation may change locals; in doubt it may.
    fn may_set_locals(&self) -> bool;
}

/// Compiles an expression.
///
/// # Errors
/// When the text is not of the language; says where.
pub fn compile(
    language: ExpressionLanguage,
    source: &str,
    limits: &ExprLimits,
) -> Result<Arc<dyn Expression>, CompileError> {
    match language {
        ExpressionLanguage::Jsonata => jsonata::compile(source, limits),
        ExpressionLanguage::Jsonpath => jsonpath::compile(source, limits),
    }
}

/// A text that is no expression of its language.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} at column {column}: {excerpt}")]
pub struct CompileError {
    /// What is wrong.
    pub message: String,
    /// Where, in characters from 1.
    pub column: usize,
    /// The text around that place.
    pub excerpt: String,
}

impl CompileError {
    /// An error at a column of a text.
    pub(crate) fn at(source: &str, column: usize, message: impl Into<String>) -> Self {
        const AROUND: usize = 20;
        let from = column.saturating_sub(AROUND + 1);
        let excerpt = source.chars().skip(from).take(2 * AROUND).collect();
        Self { message: message.into(), column, excerpt }
    }
}

/// An evaluation that failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExprError {
    /// The expression does not fit the data it was given.
    #[error("expression `{source_text}` failed: {message}")]
    Failed {
        /// The expression, shortened.
        source_text: String,
        /// What went wrong.
        message: String,
    },
    /// It went over a limit.
    #[error("expression `{source_text}` went over its {limit} limit, {bound}")]
    Limit {
        /// The expression, shortened.
        source_text: String,
        /// The name of the limit: `steps`, `time`, `depth`, `sequence` or `size`.
        limit: &'static str,
        /// How much that is, and how to keep within it.
        bound: String,
    },
}

impl ExprError {
    pub(crate) fn failed(source: &str, message: impl Into<String>) -> Self {
        Self::Failed { source_text: shortened(source), message: message.into() }
    }

    pub(crate) fn limit(source: &str, limit: &'static str, limits: &ExprLimits) -> Self {
        Self::Limit { source_text: shortened(source), limit, bound: limits.bound(limit) }
    }
}

fn shortened(source: &str) -> String {
    const SHOWN: usize = 80;
    match source.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &source[..end]),
        None => source.to_owned(),
    }
}
