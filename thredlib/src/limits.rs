//! Limits, each with a name and a default.

use std::time::Duration;

/// What one evaluation of an expression may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExprLimits {
    /// Wall-clock time. Default 50 ms.
    pub time: Duration,
    /// Nesting of the evaluation and of its result. Default 128.
    pub depth: usize,
    /// Items in a sequence. Default 10,000.
    pub sequence: usize,
    /// Size of a result or of an intermediate text, as JSON, in bytes. Default 256 KiB.
    pub result_bytes: usize,
}

impl Default for ExprLimits {
    fn default() -> Self {
        Self {
            time: Duration::from_millis(50),
            depth: 128,
            sequence: 10_000,
            result_bytes: 256 * 1024,
        }
    }
}

/// What an event may be like to be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventLimits {
    /// Size as JSON, in bytes. Default 1 MiB.
    pub bytes: usize,
    /// Length of `id`, `type`, `thredId`, `re` and `source.id`, in bytes. Default 256.
    pub id_bytes: usize,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { bytes: 1024 * 1024, id_bytes: 256 }
    }
}
