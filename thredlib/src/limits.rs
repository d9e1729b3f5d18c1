//! Limits, each with a name and a default.

use std::time::Duration;

/// Levels of objects and lists in one another that JSON's reader takes.
pub const READABLE_DEPTH: usize = 127;

/// Levels that are kept for what values are put into: an event, a message, an outbox entry, a
/// thred's state, a step of its history, the answer that shows one.
pub const ENVELOPE_DEPTH: usize = 15;

/// Levels that an event, an expression's result, a local, a rendered template or a pattern may
/// have, so that whatever it is put into can be read again.
pub const MAX_DEPTH: usize = READABLE_DEPTH - ENVELOPE_DEPTH;

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
    /// Nesting of the evaluation. Default 128. A result may have [`MAX_DEPTH`] levels at most.
    pub depth: usize,
    /// Items in a sequence. Default 10,000.
    pub sequence: usize,
    /// Size of a result or of an intermediate text, as JSON, in bytes. Default 256 KiB.
    pub result_bytes: usize,
}

impl ExprLimits {
    /// Levels that a result may have.
    pub fn result_depth(&self) -> usize {
        self.depth.min(MAX_DEPTH)
    }

    /// How much a limit is, by its name, and how to keep within it.
    pub(crate) fn bound(&self, limit: &str) -> String {
        let Self { steps, time, depth, sequence, result_bytes } = self;
        match limit {
            "steps" => format!("{steps} steps; split it over reactions, or take fewer items"),
            "time" => format!("{time:?}; split it over reactions, or take fewer items"),
            "depth" => format!(
                "{} levels of lists and objects in a result, {depth} calls in one another; flatten it",
                self.result_depth()
            ),
            "sequence" => format!("{sequence} items in a list; select fewer of them"),
            _ => format!("{result_bytes} bytes of a result; keep less of it"),
        }
    }
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
    /// Levels of objects and lists in one another, the event's own included. Default and at most
    /// [`MAX_DEPTH`].
    pub depth: usize,
}

impl Default for EventLimits {
    fn default() -> Self {
        Self { bytes: 1024 * 1024, id_bytes: 256, depth: MAX_DEPTH }
    }
}
