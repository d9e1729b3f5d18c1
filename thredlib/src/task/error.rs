//! What can be wrong with tasks.

/// A list of tasks that cannot be read: where, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct TaskError {
    /// The place in the event's content, as `tasks[1].params.matcher.age`.
    pub path: String,
    /// What is wrong and how to mend it.
    pub message: String,
}

/// A change that does not fit the record it meets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {message}")]
pub struct UpdateError {
    /// The field.
    pub field: String,
    /// Why it cannot be changed so.
    pub message: String,
}
