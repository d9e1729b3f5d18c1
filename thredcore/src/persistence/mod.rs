//! Persistence: the store that a persistence agent executes [tasks](thredlib::task) on.
//!
//! [`Persistence`] is what a store implements, [`PersistenceAgent`] puts it behind messages,
//! [`MemoryPersistence`] is one in memory, and `conformance` (a feature) shows whether a store
//! means by tasks what all others do.

mod agent;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod memory;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use serde_json::Value;
use thredlib::{
    derive_id,
    task::{Task, TaskGroup, TaskList},
};

pub use agent::PersistenceAgent;
pub use memory::{MemoryPersistence, Procedure};

use crate::port::PortError;

/// A store of records that executes tasks.
///
/// What the tasks mean is written in [`thredlib::task`]; `Matcher::matches`, `Update::apply`,
/// `Collector::arrange` and `Selector::select` are that meaning as code. A store that translates
/// them into a language of its own keeps three things in mind: a text is data even when it starts
/// with `$`; a matcher's regular expressions are case-insensitive and Unicode-aware; between equals
/// records stand in the order of their ids.
#[async_trait]
pub trait Persistence: Send + Sync {
    /// Executes tasks as one transaction, each seeing what those before it did, and gives their
    /// results in the same order. All of them take effect, or none does.
    ///
    /// If one of the tasks [writes](thredlib::task::Op::writes), the store remembers the key with
    /// the results in the same transaction. Executed again under that key, at once or after a
    /// failure, the tasks have no second effect and give the first results. How long a key is
    /// remembered is the store's to say; it must be longer than messages are redelivered.
    ///
    /// # Errors
    /// After [`PersistenceError::Refused`] nothing has changed. After [`PersistenceError::Store`]
    /// with an unknown outcome, executing again under the same key is safe and tells.
    async fn execute(
        &self,
        tasks: &[Task],
        context: &TaskContext<'_>,
    ) -> Result<Vec<Value>, PersistenceError>;
}

/// What surrounds a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskContext<'a> {
    /// Names the transaction: the same one executed again has the same key.
    pub key: &'a str,
    /// Milliseconds since the Unix epoch.
    pub now: i64,
}

impl TaskContext<'_> {
    /// The id of a record that came without one: the same whenever the tasks are executed under the
    /// same key. `task` is the task's position in the transaction, `record` the record's in the
    /// task.
    pub fn record_id(&self, task: usize, record: usize) -> String {
        derive_id("record", &[self.key, &task.to_string(), &record.to_string()]).to_string()
    }
}

/// Why a transaction was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersistenceError {
    /// A task cannot be done: it does not fit the records that it met, or the store has no such
    /// procedure. Trying again will not help.
    #[error("{message}")]
    Refused {
        /// The task's position in the transaction.
        task: usize,
        /// Why, and what to do about it.
        message: String,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] PortError),
}

impl PersistenceError {
    /// Whether trying again may help.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Refused { .. } => false,
            Self::Store(error) => error.is_retryable(),
        }
    }
}

/// Why a list of tasks was not done to its end. The groups before the failed one have been done.
#[derive(Debug, thiserror::Error)]
#[error("{path} failed: {source}")]
pub struct ListError {
    /// The task, as `tasks[1][0]`; the group when it is not the fault of one task.
    pub path: String,
    /// Why.
    #[source]
    pub source: PersistenceError,
}

/// Executes a list group by group, each group as one transaction, and gives the results by
/// position: a list of results for a transaction.
///
/// The key names the list; executed again under it, groups that were done are not done again.
///
/// # Errors
/// The first group that fails; those after it are not tried.
pub async fn execute_list<P: Persistence + ?Sized>(
    persistence: &P,
    list: &TaskList,
    context: &TaskContext<'_>,
) -> Result<Vec<Value>, ListError> {
    let mut results = Vec::with_capacity(list.groups().len());
    for (position, group) in list.groups().iter().enumerate() {
        let key = format!("{}/{position}", context.key);
        let context = TaskContext { key: &key, now: context.now };
        let mut values = persistence.execute(group.tasks(), &context).await.map_err(|source| {
            let path = match (&source, group) {
                (PersistenceError::Refused { task, .. }, TaskGroup::Transaction(_)) => {
                    format!("tasks[{position}][{task}]")
                }
                _ => format!("tasks[{position}]"),
            };
            ListError { path, source }
        })?;
        results.push(match group {
            TaskGroup::Single(_) => values.pop().unwrap_or_default(),
            TaskGroup::Transaction(_) => Value::Array(values),
        });
    }
    Ok(results)
}
