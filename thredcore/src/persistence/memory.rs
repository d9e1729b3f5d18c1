//! Records in memory.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use async_trait::async_trait;
use serde_json::{Map, Value};
use thredlib::task::{
    CREATED, Collector, ID, MODIFIED, Matcher, Op, Record, RecordType, Records, Task, Update,
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
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(results) = state.executed.get(context.key) {
            return Ok(results.clone());
        }
        let mut transaction =
            Transaction { records: &mut state.records, undo: Vec::new(), now: context.now };
        let results = tasks
            .iter()
            .enumerate()
            .map(|(position, task)| {
                let new_id = |record| context.record_id(position, record);
                let result = match &task.op {
                    Op::Run { procedure, argument } => self.run(procedure, argument),
                    op => transaction.apply(op, &new_id),
                };
                result.map_err(|message| PersistenceError::Refused { task: position, message })
            })
            .collect::<Result<Vec<_>, _>>()?;
        transaction.undo.clear();
        drop(transaction);
        if tasks.iter().any(|task| task.op.writes()) {
            state.remember(context.key, &results, self.window);
        }
        Ok(results)
    }

    fn run(&self, name: &str, argument: &Value) -> Result<Value, String> {
        match self.procedures.get(name) {
            Some(procedure) => procedure(argument),
            None => Err(format!("there is no procedure `{name}`; register it with the store")),
        }
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
            Op::Put { record_type, records } => {
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
            Op::GetOne { record_type, matcher, selector, collector } => {
                let first = self.arranged(record_type, matcher, collector).into_iter().next();
                first.map_or(Value::Null, |record| Value::Object(selector.select(record)))
            }
            Op::Get { record_type, matcher, selector, collector } => {
                let records = self.arranged(record_type, matcher, collector);
                records.into_iter().map(|record| Value::Object(selector.select(record))).collect()
            }
            Op::Update { record_type, matcher, update } => {
                let ids = self.ids(record_type, matcher);
                ids.iter().try_for_each(|id| self.update(record_type, id, update))?;
                ids.len().into()
            }
            Op::Upsert { record_type, matcher, update } => {
                let id = match self.first_id(record_type, matcher) {
                    Some(id) => id,
                    None => {
                        let id = matcher.id().map(str::to_owned).or_else(|| update.id.clone());
                        let id = id.unwrap_or_else(|| new_id(0));
                        self.refuse_existing(record_type, &id)?;
                        let fields = matcher.seed().map_err(|error| error.to_string())?;
                        self.put(record_type, &id, &Record { id: None, fields });
                        id
                    }
                };
                self.update(record_type, &id, update)?;
                id.into()
            }
            Op::Replace { record_type, matcher, record } => {
                let id = match (self.first_id(record_type, matcher), &record.id) {
                    (Some(found), Some(id)) if found != *id => {
                        return Err(format!(
                            "the record found is `{found}`, its replacement `{id}`; leave out its id"
                        ));
                    }
                    (Some(found), _) => found,
                    (None, id) => {
                        let id = id.clone().or_else(|| matcher.id().map(str::to_owned));
                        let id = id.unwrap_or_else(|| new_id(0));
                        self.refuse_existing(record_type, &id)?;
                        id
                    }
                };
                self.put(record_type, &id, record);
                id.into()
            }
            Op::Delete { record_type, matcher } => {
                let ids = self.ids(record_type, matcher);
                ids.iter().for_each(|id| self.write(record_type, id, None));
                ids.len().into()
            }
            Op::Count { record_type, matcher } => {
                self.matching(record_type, matcher).count().into()
            }
            op => return Err(format!("`{}` is not supported by this store", op.name())),
        })
    }

    fn matching<'t, 'm>(
        &'t self,
        record_type: &RecordType,
        matcher: &'m Matcher,
    ) -> impl Iterator<Item = (&'t String, &'t Fields)> + use<'t, 'm> {
        let records = self.records.get(record_type);
        let (one, all) = match matcher.id() {
            Some(id) => (records.and_then(|records| records.get_key_value(id)), None),
            None => (None, records),
        };
        let candidates = one.into_iter().chain(all.into_iter().flatten());
        candidates.filter(|(_, record)| matcher.matches(record))
    }

    fn arranged(
        &self,
        record_type: &RecordType,
        matcher: &Matcher,
        collector: &Collector,
    ) -> Vec<&Fields> {
        collector.arrange(self.matching(record_type, matcher).map(|(_, record)| record))
    }

    fn ids(&self, record_type: &RecordType, matcher: &Matcher) -> Vec<String> {
        self.matching(record_type, matcher).map(|(id, _)| id.clone()).collect()
    }

    fn first_id(&self, record_type: &RecordType, matcher: &Matcher) -> Option<String> {
        self.matching(record_type, matcher).map(|(id, _)| id.clone()).next()
    }

    fn get(&self, record_type: &RecordType, id: &str) -> Option<&Fields> {
        self.records.get(record_type)?.get(id)
    }

    /// A record that does not match, but has the id of the one to be created.
    fn refuse_existing(&self, record_type: &RecordType, id: &str) -> Result<(), String> {
        match self.get(record_type, id) {
            Some(_) => Err(format!("record `{id}` exists but does not match; match it by its id")),
            None => Ok(()),
        }
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
