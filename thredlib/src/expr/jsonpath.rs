//! JSONPath: not written yet.

use std::sync::Arc;

use super::{CompileError, Expression};
use crate::ExprLimits;

pub(super) fn compile(
    source: &str,
    _limits: &ExprLimits,
) -> Result<Arc<dyn Expression>, CompileError> {
    Err(CompileError::at(source, 1, "JSONPath is not supported yet"))
}
