//! Limits, each with a name and a default.

use std::time::Duration;

/// What one evaluation of an expression may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExprLimits {
    /// Steps: a call of a function that the expression defines and a turn of a loop within a loop
    /// are one, a value made or a node visited is a part of one. The same event always takes the same ones, so that it ends the same
    /// way on every machine. Default 50,000.
    pub steps: usize,
    /// Wall-clock time: the fence behind the others, for what takes long in one step. Default
    /// 1 s.
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
            steps: 50_000,
            time: Duration::from_secs(1),
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
