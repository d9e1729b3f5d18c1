//! Records in memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::Arc,
};

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use thredlib::task::{
    CREATED, ID, MODIFIED, Op, Query, Record, RecordType, Records, Target, Task, Update,
    UpdateError,
};

use super::{Persistence, PersistenceError, TaskContext};

/// How many transactions are remembered unless the maker says otherwise.
const DEFAULT_WINDOW: usize = 10_000;

/// A procedure that a task may `run`: gets the argument, gives the result or why not.
///
/// It must not touch the store that it is registered with, and it may be called again for the same
/// transaction if a later task of that transaction fails.
pub type Procedure = Arc<dyn Fn(&Value) -> Result<Value, String> + Send + Sync>;

/// Records in memory, with the semantics of a database: for tests, demos and small data. Everything
/// is gone when it is dropped.
///
/// It remembers the last 10,000 transactions that wrote, see [`MemoryPersistence::with_window`].
pub struct MemoryPersistence {
    state: Mutex<State>,
    procedures: HashMap<String, Procedure>,
    window: usize,
}

impl Default for MemoryPersistence {
    fn default() -> Self {
        Self { state: Mutex::default(), procedures: HashMap::new(), window: DEFAULT_WINDOW }
    }
}

impl fmt::Debug for MemoryPersistence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryPersistence").field("window", &self.window).finish_non_exhaustive()
    }
}

impl MemoryPersistence {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets how many transactions are remembered for redelivery.
    pub fn with_window(mut self, transactions: usize) -> Self {
        self.window = transactions;
        self
    }

    /// Registers a procedure for `run`.
    pub fn with_procedure(
        mut self,
        name: impl Into<String>,
        procedure: impl Fn(&Value) -> Result<Value, String> + Send + Sync + 'static,
    ) -> Self {
        self.procedures.insert(name.into(), Arc::new(procedure));
        self
    }

    fn execute_now(
        &self,
        tasks: &[Task],
        context: &TaskContext<'_>,
    ) -> Result<Vec<Value>, PersistenceError> {
        // A panic in a procedure rolls back like a failure does, see `Transaction`.
        let mut state = self.state.lock();
        if let Some(results) = state.executed.get(context.key) {
            return Ok(results.clone());
        }
        let mut transaction = Transaction {
            records: &mut state.records,
            procedures: &self.procedures,
            undo: Vec::new(),
            now: context.now,
        };
        let results = tasks
            .iter()
            .enumerate()
            .map(|(position, task)| {
                let new_id = |record| context.record_id(position, record);
                let refused = |message| PersistenceError::Refused { task: position, message };
                transaction.apply(&task.op, &new_id).map_err(refused)
            })
            .collect::<Result<Vec<_>, _>>()?;
        transaction.undo.clear();
        drop(transaction);
        if tasks.iter().any(|task| task.op.writes()) {
            state.remember(context.key, &results, self.window);
        }
        Ok(results)
    }
}

#[async_trait]
impl Persistence for MemoryPersistence {
    async fn execute(
        &self,
        tasks: &[Task],
        context: &TaskContext<'_>,
    ) -> Result<Vec<Value>, PersistenceError> {
        self.execute_now(tasks, context)
    }
}

type Fields = Map<String, Value>;
type RecordsById = BTreeMap<String, Fields>;

#[derive(Default)]
struct State {
    records: HashMap<RecordType, RecordsById>,
    executed: HashMap<String, Vec<Value>>,
    /// The keys of `executed`, oldest first.
    order: VecDeque<String>,
}

impl State {
    fn remember(&mut self, key: &str, results: &[Value], window: usize) {
        self.executed.insert(key.to_owned(), results.to_vec());
        self.order.push_back(key.to_owned());
        while self.order.len() > window {
            if let Some(oldest) = self.order.pop_front() {
                self.executed.remove(&oldest);
            }
        }
    }
}

/// Changes that are taken back when it is dropped, unless `undo` has been cleared.
struct Transaction<'s> {
    records: &'s mut HashMap<RecordType, RecordsById>,
    procedures: &'s HashMap<String, Procedure>,
    /// What was there before each change, in order.
    undo: Vec<(RecordType, String, Option<Fields>)>,
    now: i64,
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        for (record_type, id, before) in self.undo.drain(..).rev() {
            let records = self.records.entry(record_type).or_default();
            match before {
                Some(fields) => records.insert(id, fields),
                None => records.remove(&id),
            };
        }
    }
}

impl Transaction<'_> {
    fn apply(&mut self, op: &Op, new_id: &dyn Fn(usize) -> String) -> Result<Value, String> {
        Ok(match op {
            Op::Put(record_type, records) => {
                let ids = records.as_slice().iter().enumerate().map(|(position, record)| {
                    let id = record.id.clone().unwrap_or_else(|| new_id(position));
                    self.put(record_type, &id, record);
                    Value::String(id)
                });
                let mut ids: Vec<_> = ids.collect();
                match records {
                    Records::One(_) => ids.pop().unwrap_or_default(),
                    Records::Many(_) => Value::Array(ids),
                }
            }
            Op::GetOne(query) => {
                let first = self.arranged(query).into_iter().next();
                first.map_or(Value::Null, |record| Value::Object(query.selector.select(record)))
            }
            Op::Get(query) => {
                let records = self.arranged(query).into_iter();
                records.map(|record| Value::Object(query.selector.select(record))).collect()
            }
            Op::Update(target, update) => {
                let ids = self.ids(target);
                ids.iter().try_for_each(|id| self.update(&target.record_type, id, update))?;
                ids.len().into()
            }
            Op::Upsert(target, update) => self.upsert(target, update, new_id)?.into(),
            Op::Replace(target, record) => self.replace(target, record, new_id)?.into(),
            Op::Delete(target) => {
                let ids = self.ids(target);
                ids.iter().for_each(|id| self.write(&target.record_type, id, None));
                ids.len().into()
            }
            Op::Count(target) => self.matching(target).count().into(),
            Op::Run(name, argument) => match self.procedures.get(name) {
                Some(procedure) => procedure(argument)?,
                None => {
                    return Err(format!(
                        "there is no procedure `{name}`; register it with the store"
                    ));
                }
            },
        })
    }

    fn upsert(
        &mut self,
        target: &Target,
        update: &Update,
        new_id: &dyn Fn(usize) -> String,
    ) -> Result<String, String> {
        let id = match self.first_id(target) {
            Some(id) => id,
            None => {
                let id = self.unused_id(target, update.id.as_deref(), new_id)?;
                let fields = target.matcher.seed().map_err(|error| error.to_string())?;
                self.put(&target.record_type, &id, &Record { id: None, fields });
                id
            }
        };
        self.update(&target.record_type, &id, update)?;
        Ok(id)
    }

    fn replace(
        &mut self,
        target: &Target,
        record: &Record,
        new_id: &dyn Fn(usize) -> String,
    ) -> Result<String, String> {
        let id = match (self.first_id(target), &record.id) {
            (Some(found), Some(id)) if found != *id => {
                return Err(format!(
                    "the record found is `{found}`, its replacement `{id}`; leave out its id"
                ));
            }
            (Some(found), _) => found,
            (None, id) => self.unused_id(target, id.as_deref(), new_id)?,
        };
        self.put(&target.record_type, &id, record);
        Ok(id)
    }

    /// The id of a record to be created. A record may have it without matching otherwise.
    fn unused_id(
        &self,
        target: &Target,
        wanted: Option<&str>,
        new_id: &dyn Fn(usize) -> String,
    ) -> Result<String, String> {
        let id = wanted.or(target.matcher.id()).map_or_else(|| new_id(0), str::to_owned);
        match self.get(&target.record_type, &id) {
            Some(_) => Err(format!("record `{id}` exists but does not match; match it by its id")),
            None => Ok(id),
        }
    }

    fn matching<'t, 'o>(
        &'t self,
        target: &'o Target,
    ) -> impl Iterator<Item = (&'t String, &'t Fields)> + use<'t, 'o> {
        let records = self.records.get(&target.record_type);
        let (one, all) = match target.matcher.id() {
            Some(id) => (records.and_then(|records| records.get_key_value(id)), None),
            None => (None, records),
        };
        let candidates = one.into_iter().chain(all.into_iter().flatten());
        candidates.filter(|(_, record)| target.matcher.matches(record))
    }

    fn arranged(&self, query: &Query) -> Vec<&Fields> {
        query.collector.arrange(self.matching(&query.target).map(|(_, record)| record))
    }

    fn ids(&self, target: &Target) -> Vec<String> {
        self.matching(target).map(|(id, _)| id.clone()).collect()
    }

    fn first_id(&self, target: &Target) -> Option<String> {
        self.matching(target).map(|(id, _)| id.clone()).next()
    }

    fn get(&self, record_type: &RecordType, id: &str) -> Option<&Fields> {
        self.records.get(record_type)?.get(id)
    }

    fn put(&mut self, record_type: &RecordType, id: &str, record: &Record) {
        let existing = self.get(record_type, id);
        let created = existing.and_then(|existing| existing.get(CREATED)?.as_i64());
        let stored = record.stored(id, created.unwrap_or(self.now), self.now);
        self.write(record_type, id, Some(stored));
    }

    fn update(
        &mut self,
        record_type: &RecordType,
        id: &str,
        update: &Update,
    ) -> Result<(), String> {
        let mut record = self.get(record_type, id).cloned().unwrap_or_default();
        let refused = |error: UpdateError| format!("record `{id}`: {error}");
        update.apply(&mut record, self.now).map_err(refused)?;
        record.insert(MODIFIED.to_owned(), self.now.into());
        self.write(record_type, id, Some(record));
        Ok(())
    }

    fn write(&mut self, record_type: &RecordType, id: &str, record: Option<Fields>) {
        debug_assert!(record.as_ref().is_none_or(|r| r.get(ID).is_some_and(|own| own == id)));
        let records = self.records.entry(record_type.clone()).or_default();
        let before = match record {
            Some(record) => records.insert(id.to_owned(), record),
            None => records.remove(id),
        };
        self.undo.push((record_type.clone(), id.to_owned(), before));
    }
}
