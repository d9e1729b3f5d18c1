//! Shows whether a store means by tasks what all others do.
//!
//! ```
//! use std::sync::Arc;
//! use thredcore::persistence::{MemoryPersistence, conformance};
//!
//! # tokio::runtime::Builder::new_current_thread().build()?.block_on(async {
//! conformance::persistence(Arc::new(MemoryPersistence::new())).await;
//! # });
//! # Ok::<(), std::io::Error>(())
//! ```

mod changing;
mod finding;
mod transactions;

use std::sync::Arc;

use serde_json::{Value, json};
use thredlib::{new_event_id, task::TaskList};

use super::{ListError, Persistence, PersistenceError, TaskContext, execute_list};

/// Runs all cases. They write records of new types, so the store may hold others.
///
/// # Panics
/// At the first promise that the store does not keep.
pub async fn persistence(persistence: Arc<dyn Persistence>) {
    finding::check(&persistence).await;
    changing::check(&persistence).await;
    transactions::check(&persistence).await;
}

/// One set of records in the store, empty at first.
struct Case {
    persistence: Arc<dyn Persistence>,
    record_type: String,
}

impl Case {
    /// When tasks are executed, milliseconds since the Unix epoch.
    const NOW: i64 = 1_700_000_000_000;

    fn new(persistence: &Arc<dyn Persistence>) -> Self {
        let record_type = format!("conformance-{}", new_event_id());
        Self { persistence: Arc::clone(persistence), record_type }
    }

    async fn with(persistence: &Arc<dyn Persistence>, records: Value) -> Self {
        let case = Self::new(persistence);
        case.run("put", json!({ "values": records })).await;
        case
    }

    /// A task on the case's records.
    fn task(&self, op: &str, mut params: Value) -> Value {
        params["type"] = self.record_type.as_str().into();
        json!({ "op": op, "params": params })
    }

    /// Executes a list under a key.
    async fn list(&self, key: &str, now: i64, tasks: Value) -> Result<Vec<Value>, ListError> {
        let list = TaskList::from_value(&tasks).unwrap_or_else(|error| panic!("{error}: {tasks}"));
        execute_list(&*self.persistence, &list, &TaskContext { key, now }).await
    }

    async fn try_run(&self, op: &str, params: Value) -> Result<Value, ListError> {
        let tasks = json!([self.task(op, params)]);
        let mut results = self.list(new_event_id().as_str(), Self::NOW, tasks).await?;
        assert_eq!(results.len(), 1, "one task has one result");
        Ok(results.remove(0))
    }

    /// Executes one task under a new key.
    async fn run(&self, op: &str, params: Value) -> Value {
        let text = params.to_string();
        self.try_run(op, params).await.unwrap_or_else(|error| panic!("{error}: {op} {text}"))
    }

    /// Executes one task that must be refused for good, and gives the message.
    async fn refused(&self, op: &str, params: Value) -> String {
        let text = params.to_string();
        match self.try_run(op, params).await {
            Ok(result) => panic!("{op} {text} must be refused, but gave {result}"),
            Err(error) => {
                let refused = matches!(error.source, PersistenceError::Refused { .. });
                assert!(refused && !error.source.is_retryable(), "{op} {text}: {error:?}");
                error.to_string()
            }
        }
    }

    /// The ids of the records that match, in the collector's order.
    async fn ids(&self, matcher: Value, collector: Value) -> Vec<String> {
        let params = json!({ "matcher": matcher, "collector": collector });
        let found = self.run("get", params).await;
        let records = found.as_array().unwrap_or_else(|| panic!("`get` gave {found}, not a list"));
        records.iter().map(|record| record["id"].as_str().unwrap_or("?").to_owned()).collect()
    }

    /// A record without its times.
    async fn record(&self, id: &str) -> Value {
        let selector = json!({ "exclude": ["created", "modified"] });
        self.run("getOne", json!({ "matcher": { "id": id }, "selector": selector })).await
    }
}
