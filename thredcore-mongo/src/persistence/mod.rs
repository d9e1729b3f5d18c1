//! Persistence: the tasks of the pattern language, on MongoDB.

mod filter;
mod tasks;
mod values;

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use mongodb::{
    bson::doc,
    error::{Error, ErrorKind},
    options::IndexOptions,
};
use parking_lot::Mutex;
use serde_json::Value;
use thredcore::persistence::{Persistence, PersistenceError, Procedure, TaskContext};
use thredlib::task::{Op, RecordType, Task};

use crate::{
    connection::Mongo,
    documents::{EXECUTED, RECORDS},
    error::MongoError,
};

/// Records in MongoDB: a collection for each type, named `records.TYPE`, of documents whose `_id` is
/// the record's `id`.
///
/// Each list of tasks is one transaction with snapshot isolation; one that loses against another is
/// tried anew. Matchers, order and limits are MongoDB's work. Regular expressions and changes are
/// worked out here, over what MongoDB finds, since the pattern language defines them apart from any
/// database: `Update::apply` is their one meaning, and a text never becomes a program.
///
/// Where it connects to is for whoever makes it. An agent has one of these for each connection and
/// knows it by a name of its own; nothing that a task says leads anywhere else.
pub struct MongoPersistence {
    mongo: Mongo,
    procedures: HashMap<String, Procedure>,
    /// The collections that are there.
    known: Mutex<HashSet<RecordType>>,
}

impl fmt::Debug for MongoPersistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MongoPersistence").field("mongo", &self.mongo).finish_non_exhaustive()
    }
}

impl MongoPersistence {
    /// MongoDB's error when a collection is there already.
    const EXISTS: i32 = 48;
    /// The longest name of a collection, with the database's and a dot before it.
    const NAME_BYTES: usize = 255;

    /// Opens the records.
    ///
    /// # Errors
    /// When the index of remembered keys cannot be made.
    pub async fn open(mongo: &Mongo) -> Result<Self, MongoError> {
        let window = mongo.config.redelivery_window;
        let expiring = IndexOptions::builder().expire_after(window).build();
        let index = mongo.index(EXECUTED, doc! { "at": 1 }, expiring).await;
        index.map_err(|error| mongo.prepare_error(error))?;
        Ok(Self { mongo: mongo.clone(), procedures: HashMap::new(), known: Mutex::default() })
    }

    /// Registers a procedure for `run`.
    #[must_use]
    pub fn with_procedure(
        mut self,
        name: impl Into<String>,
        procedure: impl Fn(&Value) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        self.procedures.insert(name.into(), Arc::new(procedure));
        self
    }

    /// Makes the collections that will be written to: in a transaction, that makes conflicts.
    async fn prepare(&self, tasks: &[Task]) -> Result<(), PersistenceError> {
        for (position, task) in tasks.iter().enumerate() {
            let record_type = match &task.op {
                Op::Put(record_type, _) => record_type,
                Op::Upsert(target, _) | Op::Replace(target, _) => &target.record_type,
                _ => continue,
            };
            let known = |types: &Mutex<HashSet<_>>| types.lock().contains(record_type);
            if known(&self.known) {
                continue;
            }
            let name = self.mongo.name(&collection(record_type));
            let room = Self::NAME_BYTES.saturating_sub(self.mongo.database.name().len() + 1);
            if name.len() > room {
                let message = format!(
                    "the type's name is too long for MongoDB; shorten it by {} bytes",
                    name.len() - room
                );
                return Err(PersistenceError::Refused { task: position, message });
            }
            let make = async {
                match self.mongo.database.create_collection(name).await {
                    Err(error) if code(&error) == Some(Self::EXISTS) => Ok(()),
                    other => other,
                }
            };
            self.mongo.call("make a collection", make).await?;
            let mut types = self.known.lock();
            types.insert(record_type.clone());
        }
        Ok(())
    }
}

fn collection(record_type: &RecordType) -> String {
    format!("{RECORDS}{record_type}")
}

fn code(error: &Error) -> Option<i32> {
    match &*error.kind {
        ErrorKind::Command(command) => Some(command.code),
        _ => None,
    }
}

#[async_trait]
impl Persistence for MongoPersistence {
    async fn execute(
        &self,
        tasks: &[Task],
        context: &TaskContext<'_>,
    ) -> Result<Vec<Value>, PersistenceError> {
        if tasks.is_empty() {
            return Ok(vec![]);
        }
        self.prepare(tasks).await?;
        let mut work = tasks::Tasks::new(self, tasks, context);
        loop {
            match self.mongo.transact("execute tasks", &mut work).await {
                Err(_) if work.sorts_here_from_now() => {}
                other => return other,
            }
        }
    }
}

impl MongoPersistence {
    fn procedure(&self, name: &str) -> Result<&Procedure, String> {
        self.procedures
            .get(name)
            .ok_or_else(|| format!("there is no procedure `{name}`; register it with the store"))
    }
}
