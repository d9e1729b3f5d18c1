//! What a port can fail with.

use std::error::Error;

/// A failed call of a port, with the adapter's own error as its source.
#[derive(Debug, thiserror::Error)]
#[error("{operation} failed")]
pub struct PortError {
    /// What was tried, as `commit` or `publish events`.
    operation: &'static str,
    kind: PortErrorKind,
    #[source]
    source: Box<dyn Error + Send + Sync>,
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortErrorKind {
    /// It was not done; trying again may help.
    Unavailable,
    /// It may or may not have been done: a time limit ran out, or the connection broke on the way.
    Unknown,
    /// It was not done, and trying the same again will never help: too large, malformed, refused.
    Rejected,
    /// It was not done, since there is no room; other topics are not concerned.
    Full,
    /// The port has been closed; the engine stops.
    Closed,
}

/// An error with what lies below it, in a line.
pub(crate) fn describe(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        below = cause.source();
    }
    text
}

impl PortError {
    /// A failure of an operation.
    pub fn new(
        operation: &'static str,
        kind: PortErrorKind,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self { operation, kind, source: source.into() }
    }

    /// A port that has been closed.
    pub fn closed(operation: &'static str) -> Self {
        Self::new(operation, PortErrorKind::Closed, "the port is closed")
    }

    /// What follows from the failure.
    pub fn kind(&self) -> PortErrorKind {
        self.kind
    }

    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            PortErrorKind::Unavailable | PortErrorKind::Unknown | PortErrorKind::Full
        )
    }
}
