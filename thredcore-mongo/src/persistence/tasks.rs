//! Tasks, one after the other, in one transaction.

use async_trait::async_trait;
use mongodb::{
    ClientSession, Collection,
    bson::{DateTime, Document, doc},
    error::Error,
};
use serde_json::{Map, Value};
use thredcore::persistence::{PersistenceError, TaskContext};
use thredlib::task::{
    CREATED, Collector, ID, MODIFIED, Op, Query, Record, RecordType, Records, Selector, Target,
    Task, Update, UpdateError,
};

use super::{
    MongoPersistence, code, collection,
    filter::{Filter, sort_of},
    values::{KEY, document, record},
};
use crate::{
    archive::chunks,
    connection::{Write, write_error},
    documents::{COUNTERS, EXECUTED, json, parsed, signed},
    transaction::{Stop, Work},
};

type Fields = Map<String, Value>;

/// Why a task was not done.
enum Refused {
    Failed(Error),
    Store(PersistenceError),
    Task(String),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

impl From<String> for Refused {
    fn from(message: String) -> Self {
        Self::Task(message)
    }
}

/// A list of tasks to be done as one.
pub(super) struct Tasks<'a> {
    store: &'a MongoPersistence,
    tasks: &'a [Task],
    context: &'a TaskContext<'a>,
    sorting: Sorting,
}

/// Who sorts. MongoDB does not sort by two fields that both hold lists.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sorting {
    There,
    Failed,
    Here,
}

impl<'a> Tasks<'a> {
    pub(super) fn new(
        store: &'a MongoPersistence,
        tasks: &'a [Task],
        context: &'a TaskContext<'a>,
    ) -> Self {
        Self { store, tasks, context, sorting: Sorting::There }
    }

    /// Whether it failed because MongoDB cannot sort; then it will not have to, the next time.
    pub(super) fn sorts_here_from_now(&mut self) -> bool {
        let failed = self.sorting == Sorting::Failed;
        if failed {
            self.sorting = Sorting::Here;
        }
        failed
    }
}

#[async_trait]
impl Work for Tasks<'_> {
    type Output = Vec<Value>;
    type Refusal = PersistenceError;

    async fn run(
        &mut self,
        session: &mut ClientSession,
    ) -> Result<Vec<Value>, Stop<PersistenceError>> {
        let writes = self.tasks.iter().any(|task| task.op.writes());
        let executed: Collection<Document> = self.store.mongo.collection(EXECUTED);
        let key = self.context.key;
        if writes {
            let find = executed.find_one(doc! { "_id": { "$eq": key } });
            if let Some(before) = find.session(&mut *session).await? {
                let results = before.get_str("results").unwrap_or_default();
                return parsed(results).map_err(|error| Stop::Refused(error.into()));
            }
        }
        let mut results = Vec::with_capacity(self.tasks.len());
        for (position, task) in self.tasks.iter().enumerate() {
            let mut transaction =
                Transaction { work: self, session: &mut *session, task: position };
            results.push(transaction.apply(&task.op).await.map_err(|refused| match refused {
                Refused::Failed(error) => Stop::Failed(error),
                Refused::Store(error) => Stop::Refused(error),
                Refused::Task(message) => {
                    Stop::Refused(PersistenceError::Refused { task: position, message })
                }
            })?);
        }
        if writes {
            let results = json(&results).map_err(|error| Stop::Refused(error.into()))?;
            let memory = doc! { "_id": key, "results": results, "at": DateTime::now() };
            executed.insert_one(memory).session(&mut *session).await?;
        }
        Ok(results)
    }
}

/// One task in the transaction.
struct Transaction<'w, 'a, 's> {
    work: &'w mut Tasks<'a>,
    session: &'s mut ClientSession,
    task: usize,
}

impl Transaction<'_, '_, '_> {
    async fn apply(&mut self, op: &Op) -> Result<Value, Refused> {
        Ok(match op {
            Op::Put(record_type, records) => {
                let ids = self.put(record_type, records.as_slice()).await?;
                let mut ids: Vec<_> = ids.into_iter().map(Value::String).collect();
                match records {
                    Records::One(_) => ids.pop().unwrap_or_default(),
                    Records::Many(_) => Value::Array(ids),
                }
            }
            Op::GetOne(query) => {
                let collector = Collector { limit: 1, ..query.collector.clone() };
                let first = self.arranged(&Query { collector, ..query.clone() }).await?.pop();
                first.map_or(Value::Null, Value::Object)
            }
            Op::Get(query) => self.arranged(query).await?.into_iter().map(Value::Object).collect(),
            Op::Update(target, update) => self.update(target, update).await?.into(),
            Op::Upsert(target, update) => self.upsert(target, update).await?.into(),
            Op::Replace(target, record) => self.replace(target, record).await?.into(),
            Op::Delete(target) => self.delete(target).await?.into(),
            Op::Count(target) => self.count(target).await?.into(),
            Op::Run(name, argument) => (self.work.store.procedure(name)?)(argument)?,
        })
    }

    fn records(&self, record_type: &RecordType) -> Collection<Document> {
        self.work.store.mongo.collection(&collection(record_type))
    }

    fn now(&self) -> i64 {
        self.work.context.now
    }

    fn new_id(&self, record: usize) -> String {
        self.work.context.record_id(self.task, record)
    }

    async fn put(
        &mut self,
        record_type: &RecordType,
        records: &[Record],
    ) -> Result<Vec<String>, Refused> {
        let ids = records.iter().enumerate();
        let ids = ids.map(|(n, record)| record.id.clone().unwrap_or_else(|| self.new_id(n)));
        let ids: Vec<_> = ids.collect();
        let collection = self.records(record_type);
        let find = collection.find(doc! { KEY: { "$in": &ids } });
        let find = find.projection(doc! { CREATED: 1 }).batch_size(1_000);
        let mut cursor = find.session(&mut *self.session).await?;
        let mut created = std::collections::HashMap::new();
        while let Some(existing) = cursor.next(&mut *self.session).await {
            let existing = record(existing?);
            let id = existing.get(ID).and_then(Value::as_str).unwrap_or_default().to_owned();
            created.insert(id, existing.get(CREATED).and_then(Value::as_i64));
        }
        let now = self.now();
        let stored = ids.iter().zip(records).map(|(id, record)| {
            let created = created.get(id).copied().flatten().unwrap_or(now);
            record.stored(id, created, now)
        });
        let stored: Vec<_> = stored.collect();
        self.write(record_type, &stored).await?;
        Ok(ids)
    }

    async fn update(&mut self, target: &Target, update: &Update) -> Result<usize, Refused> {
        const PORTION: usize = 500;
        let mut count = 0;
        let mut last: Option<String> = None;
        loop {
            let found = self.first(target, PORTION, last.as_deref()).await?;
            let Some(fields) = found.last() else { return Ok(count) };
            last = Some(id_of(fields).to_owned());
            count += found.len();
            let changed = found.into_iter().map(|fields| self.updated(fields, update));
            let changed = changed.collect::<Result<Vec<_>, _>>()?;
            self.write(&target.record_type, &changed).await?;
            if changed.len() < PORTION {
                return Ok(count);
            }
        }
    }

    async fn upsert(&mut self, target: &Target, update: &Update) -> Result<String, Refused> {
        let fields = match self.first(target, 1, None).await?.pop() {
            Some(fields) => fields,
            None => {
                let id = self.unused_id(target, update.id.as_deref()).await?;
                let fields = target.matcher.seed().map_err(|error| error.to_string())?;
                Record { id: None, fields }.stored(&id, self.now(), self.now())
            }
        };
        let changed = self.updated(fields, update)?;
        self.write(&target.record_type, std::slice::from_ref(&changed)).await?;
        Ok(id_of(&changed).to_owned())
    }

    async fn replace(&mut self, target: &Target, record: &Record) -> Result<String, Refused> {
        let found = self.first(target, 1, None).await?.pop();
        let (id, created) = match (&found, &record.id) {
            (Some(fields), Some(id)) if id_of(fields) != id => {
                let found = id_of(fields);
                return Err(Refused::Task(format!(
                    "the record found is `{found}`, its replacement `{id}`; leave out its id"
                )));
            }
            (Some(fields), _) => {
                (id_of(fields).to_owned(), fields.get(CREATED).and_then(Value::as_i64))
            }
            (None, id) => (self.unused_id(target, id.as_deref()).await?, None),
        };
        let stored = record.stored(&id, created.unwrap_or(self.now()), self.now());
        self.write(&target.record_type, std::slice::from_ref(&stored)).await?;
        Ok(id)
    }

    /// The id of a record to be created. A record may have it without matching otherwise.
    async fn unused_id(
        &mut self,
        target: &Target,
        wanted: Option<&str>,
    ) -> Result<String, Refused> {
        let named = wanted.or(target.matcher.id());
        let id = named.map_or_else(|| self.new_id(0), str::to_owned);
        let records = self.records(&target.record_type);
        let find = records.find_one(doc! { KEY: { "$eq": &id } });
        if find.projection(doc! { KEY: 1 }).session(&mut *self.session).await?.is_some() {
            return Err(Refused::Task(format!(
                "record `{id}` exists but does not match; match it by its id"
            )));
        }
        if named.is_none() {
            // Two that find nothing at the same time would both create a record. They meet here,
            // and one of them is tried anew.
            let guards: Collection<Document> = self.work.store.mongo.collection(COUNTERS);
            let guard = doc! { "_id": format!("created.{}", target.record_type) };
            let meet = guards.update_one(guard, doc! { "$inc": { "n": 1_i64 } }).upsert(true);
            meet.session(&mut *self.session).await?;
        }
        Ok(id)
    }

    async fn delete(&mut self, target: &Target) -> Result<u64, Refused> {
        let filter = Filter::of(&target.matcher);
        let records = self.records(&target.record_type);
        if filter.exact {
            let delete = records.delete_many(filter.document);
            return Ok(delete.session(&mut *self.session).await?.deleted_count);
        }
        let mut ids = Vec::new();
        let all = Fetch { sort: Some(doc! { KEY: 1 }), ..Fetch::default() };
        for fields in self.fetch(target, all).await? {
            ids.push(id_of(&fields).to_owned());
        }
        let mut count = 0;
        for ids in ids.chunks(1_000) {
            let delete = records.delete_many(doc! { KEY: { "$in": ids } });
            count += delete.session(&mut *self.session).await?.deleted_count;
        }
        Ok(count)
    }

    async fn count(&mut self, target: &Target) -> Result<u64, Refused> {
        let filter = Filter::of(&target.matcher);
        if filter.exact {
            let records = self.records(&target.record_type);
            let count = records.count_documents(filter.document);
            return Ok(count.session(&mut *self.session).await?);
        }
        Ok(self.fetch(target, Fetch::default()).await?.len() as u64)
    }

    /// The records that a query means, in its order, with the fields that it wants.
    async fn arranged(&mut self, query: &Query) -> Result<Vec<Fields>, Refused> {
        let Query { target, selector, collector } = query;
        let sort = sort_of(collector).filter(|_| self.work.sorting != Sorting::Here);
        let found = match sort {
            Some(sort) => {
                let (skip, limit) = (collector.skip, Some(collector.limit));
                let sort = Some(sort);
                let projection = projection(selector);
                let fetch = Fetch { sort, skip, limit, projection, after: None };
                self.fetch(target, fetch).await?
            }
            None => {
                let all = self.fetch(target, Fetch::default()).await?;
                collector.arrange(&all).into_iter().cloned().collect()
            }
        };
        Ok(found.iter().map(|fields| selector.select(fields)).collect())
    }

    /// The first records by id, from an id on.
    async fn first(
        &mut self,
        target: &Target,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Vec<Fields>, Refused> {
        let (sort, limit) = (Some(doc! { KEY: 1 }), Some(limit));
        self.fetch(target, Fetch { sort, limit, after, ..Fetch::default() }).await
    }

    async fn fetch(&mut self, target: &Target, fetch: Fetch<'_>) -> Result<Vec<Fields>, Refused> {
        let Filter { mut document, exact } = Filter::of(&target.matcher);
        if let Some(after) = fetch.after {
            document = doc! { "$and": [document, { KEY: { "$gt": after } }] };
        }
        let records = self.records(&target.record_type);
        let mut find = records.find(document).batch_size(1_000);
        if let Some(sort) = fetch.sort {
            find = find.sort(sort);
        }
        let limit = fetch.limit.unwrap_or(usize::MAX);
        if exact {
            find = find.skip(fetch.skip);
            if let Some(limit) = fetch.limit {
                find = find.limit(signed(limit as u64));
            }
            if let Some(projection) = fetch.projection {
                find = find.projection(projection);
            }
        }
        let found = find.session(&mut *self.session).await;
        let mut cursor = found.inspect_err(|error| self.work.cannot_sort(error))?;
        let mut skip = if exact { 0 } else { fetch.skip };
        let mut found_records = Vec::new();
        while found_records.len() < limit
            && let Some(found) = cursor.next(&mut *self.session).await
        {
            let fields = record(found.inspect_err(|error| self.work.cannot_sort(error))?);
            if !exact && !target.matcher.matches(&fields) {
                continue;
            }
            match skip {
                0 => found_records.push(fields),
                _ => skip -= 1,
            }
        }
        Ok(found_records)
    }

    fn updated(&self, mut fields: Fields, update: &Update) -> Result<Fields, Refused> {
        let id = id_of(&fields).to_owned();
        let refused = |error: UpdateError| format!("record `{id}`: {error}");
        update.apply(&mut fields, self.now()).map_err(refused)?;
        fields.insert(MODIFIED.to_owned(), self.now().into());
        Ok(fields)
    }

    /// Writes whole records, new or not.
    async fn write(&mut self, record_type: &RecordType, records: &[Fields]) -> Result<(), Refused> {
        let statements = records.iter().map(|fields| {
            doc! { "q": { KEY: id_of(fields) }, "u": document(fields), "upsert": true }
        });
        for statements in chunks(statements.collect()) {
            let mongo = &self.work.store.mongo;
            let name = collection(record_type);
            let written = mongo.write_in(self.session, &name, Write::Update, statements).await?;
            if let Some((_, code, text)) = written.errors.into_iter().next() {
                let error = write_error("execute tasks", code, text);
                return Err(Refused::Store(error.into()));
            }
        }
        Ok(())
    }
}

impl Tasks<'_> {
    fn cannot_sort(&mut self, error: &Error) {
        /// `BadValue`; the text tells which.
        const BAD_VALUE: i32 = 2;
        let parallel = error.to_string().contains("parallel arrays");
        if code(error) == Some(BAD_VALUE) && parallel && self.sorting == Sorting::There {
            self.sorting = Sorting::Failed;
        }
    }
}

/// What is fetched of the records that match.
#[derive(Default)]
struct Fetch<'a> {
    sort: Option<Document>,
    skip: u64,
    limit: Option<usize>,
    projection: Option<Document>,
    after: Option<&'a str>,
}

/// The outermost fields that are wanted; `None` for all.
fn projection(selector: &Selector) -> Option<Document> {
    let heads = selector.include.iter().filter_map(|path| path.segments().next());
    let fields: Document = heads.map(|head| (head.to_owned(), 1.into())).collect();
    (!fields.is_empty()).then_some(fields)
}

fn id_of(fields: &Fields) -> &str {
    fields.get(ID).and_then(Value::as_str).unwrap_or_default()
}
