//! The archive: event records, thred logs and ended threds, for ever.
//!
//! Whatever is written here has an id that derives from what it is: writing it again changes
//! nothing. What feeds the archive is durable until the archive has it; so nothing is lost, whoever
//! is killed in between. [`MongoStorage`](crate::MongoStorage) keeps a step in the thred's document
//! until it is here; [`Archived`] keeps it in the outbox of any other storage.

mod archived;
mod filer;
mod query;

pub use archived::Archived;
pub(crate) use archived::merged;
pub(crate) use filer::{Filer, Origin};
pub(crate) use query::find_threds;

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use futures::TryStreamExt;
use mongodb::{
    Collection,
    bson::{Bson, Document, RawDocumentBuf, doc},
    options::IndexOptions,
};
use thredcore::{
    port::{
        History, LogRecord, PortError, PortErrorKind, ThredPage, ThredQuery, Unmoved, UnmovedPage,
    },
    state::ThredState,
};
use thredlib::{Event, EventKey, ThredId, expr::no_locals};
use tracing::warn;

use crate::{
    connection::{Mongo, Write},
    documents::{ENDED, HISTORY, Past, Step, bytes_of, signed, state_fields, unmoved},
    error::{DUPLICATE_KEY, MongoError},
    unreadable::decoded,
};

/// Event records, thred logs and ended threds in MongoDB. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MongoArchive {
    pub(crate) mongo: Mongo,
    history: Collection<RawDocumentBuf>,
    shortened: Arc<AtomicU64>,
}

impl MongoArchive {
    /// Opens the archive, and makes its indexes where they are missing.
    ///
    /// # Errors
    /// When an index cannot be made.
    pub async fn open(mongo: &Mongo) -> Result<Self, MongoError> {
        let indexes = async {
            mongo.index(HISTORY, doc! { "at": 1, "seq": 1 }, IndexOptions::default()).await?;
            let unmoved = doc! { "moved": false };
            let unmoved = IndexOptions::builder().partial_filter_expression(unmoved).build();
            let order = doc! { "moved": 1, "at": 1, "seq": 1, "_id": 1 };
            mongo.index(HISTORY, order, unmoved).await?;
            for keys in [
                doc! { "status": 1, "started": 1, "_id": 1 },
                doc! { "participants": 1, "started": 1, "_id": 1 },
                doc! { "pattern": 1, "started": 1, "_id": 1 },
            ] {
                mongo.index(ENDED, keys, IndexOptions::default()).await?;
            }
            Ok(())
        };
        indexes.await.map_err(|error| mongo.prepare_error(error))?;
        let history = mongo.collection(HISTORY);
        Ok(Self { mongo: mongo.clone(), history, shortened: Arc::default() })
    }

    /// What is archived of one thred's past, in the order of its versions: the latest `limit` steps
    /// that led to versions below `before`.
    ///
    /// # Errors
    /// When MongoDB cannot be reached.
    pub async fn history(
        &self,
        thred: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        Ok(merged(&[], self.steps(thred, before, limit).await?, before, limit))
    }

    /// What is archived of events that changed nothing, oldest first: the latest `limit` before a
    /// cursor that an earlier page gave.
    ///
    /// # Errors
    /// When MongoDB cannot be reached, or the cursor is not what an earlier page gave.
    pub async fn unmoved(
        &self,
        before: Option<&str>,
        limit: usize,
    ) -> Result<UnmovedPage, PortError> {
        const OPERATION: &str = "read the history";
        if limit == 0 {
            return Ok(UnmovedPage { records: vec![], before: before.map(str::to_owned) });
        }
        let mut filter = doc! { "moved": false };
        if let Some(cursor) = before {
            let (at, seq, id) = place(cursor).ok_or_else(|| {
                let cause = "the cursor is not what an earlier page gave as `before`";
                PortError::new(OPERATION, PortErrorKind::Rejected, cause)
            })?;
            // The first part is implied, but lets the index begin there.
            filter.insert("at", doc! { "$lte": at });
            filter.insert(
                "$or",
                vec![
                    doc! { "at": { "$lt": at } },
                    doc! { "at": at, "seq": { "$lt": seq } },
                    doc! { "at": at, "seq": seq, "_id": { "$lt": id } },
                ],
            );
        }
        let find = self.history.find(filter);
        let find = find.sort(doc! { "moved": -1, "at": -1, "seq": -1, "_id": -1 });
        let one_more = limit.saturating_add(1);
        let find = find.batch_size(u32::try_from(one_more).unwrap_or(1_000).min(1_000));
        let read = |past: Past| Ok((cursor(&past), past.unmoved()?));
        let found = self.mongo.first_readable(OPERATION, HISTORY, find, one_more, read);
        let mut found = found.await?;
        let more = found.len() > limit;
        found.truncate(limit);
        let before = found.last().filter(|_| more).map(|(cursor, _)| cursor.clone());
        found.reverse();
        Ok(UnmovedPage { records: found.into_iter().map(|(_, record)| record).collect(), before })
    }

    /// Which events are archived as having changed nothing.
    ///
    /// # Errors
    /// When MongoDB cannot be reached.
    pub async fn recorded(&self, keys: &[EventKey]) -> Result<Vec<bool>, PortError> {
        let mut found = HashSet::new();
        for keys in keys.chunks(256) {
            let any: Vec<_> = keys.iter().map(Past::about).collect();
            let records = self.history.clone_with_type::<Document>();
            let find = records.find(doc! { "$or": any });
            let find = find.projection(doc! { "_id": 1 }).batch_size(1_000);
            for document in self.mongo.all("look for records", find).await? {
                let id = document.get_document("_id").and_then(|id| id.get_str("e"));
                found.extend(id.ok().and_then(|key| key.parse::<EventKey>().ok()));
            }
        }
        Ok(keys.iter().map(|key| found.contains(key)).collect())
    }

    /// The largest commit whose step is surely archived whole.
    pub(crate) fn max_step_bytes(&self) -> usize {
        /// For what the document takes besides.
        const FRAME: usize = 4_096;
        self.mongo.config.archived_step_bytes.saturating_sub(FRAME)
    }

    /// How many steps and records this process has not archived whole, since they were larger than
    /// [`archived_step_bytes`](crate::MongoConfig::archived_step_bytes).
    pub fn shortened(&self) -> u64 {
        self.shortened.load(Ordering::Relaxed)
    }

    /// The log records that are archived, oldest first; only the latest `limit`.
    ///
    /// # Errors
    /// When MongoDB cannot be reached.
    pub async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        self.log_with(vec![], limit).await
    }

    /// The last states of threds that have ended, oldest start first, a page at a time; what the
    /// query says of the status is left aside.
    ///
    /// # Errors
    /// When MongoDB cannot be reached, or `after` is not what an earlier page gave.
    pub async fn ended(&self, query: &ThredQuery) -> Result<ThredPage, PortError> {
        let status = vec![thredcore::state::Status::Terminated];
        find_threds(&self.mongo, &[ENDED], &ThredQuery { status, ..query.clone() }).await
    }

    /// The latest steps of a thred below a version, latest first.
    pub(crate) async fn steps(
        &self,
        id: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<Past>, PortError> {
        if limit == 0 {
            return Ok(vec![]);
        }
        let bound = |version: i64| doc! { "t": id.as_str(), "v": version };
        let end = before.map_or(i64::MAX, signed);
        let range = doc! { "$gte": bound(0), "$lt": bound(end) };
        let find = self.history.find(doc! { "_id": range }).sort(doc! { "_id": -1 });
        let find = find.limit(signed(limit as u64)).batch_size(1_000);
        // Whether the text can be read is seen once, here.
        let read = |past: Past| past.history().map(|_| past);
        self.mongo.readable("read the history", HISTORY, find, read).await
    }

    /// The latest log records of the archive and of steps that are on their way to it.
    pub(crate) async fn log_with(
        &self,
        mut waiting: Vec<Past>,
        limit: usize,
    ) -> Result<Vec<LogRecord>, PortError> {
        let order = |past: &Past| (past.at, past.seq);
        waiting.sort_by_key(order);
        let read = async {
            let find = self.history.find(doc! {}).sort(doc! { "at": -1, "seq": -1 });
            let mut archived = find.batch_size(1_000).await?;
            let mut next = self.next(&mut archived).await?;
            let mut latest = Vec::new();
            let mut count = 0;
            while count < limit {
                let from_archive = match (waiting.last(), &next) {
                    (None, None) => break,
                    (Some(waits), Some(filed)) if waits.id == filed.id => {
                        waiting.pop();
                        continue;
                    }
                    (Some(waits), Some(filed)) => order(filed) > order(waits),
                    (None, Some(_)) => true,
                    (Some(_), None) => false,
                };
                let step = if from_archive {
                    std::mem::replace(&mut next, self.next(&mut archived).await?)
                } else {
                    waiting.pop()
                };
                let records = step.and_then(|step| step.log().ok()).unwrap_or_default();
                count += records.len();
                latest.push(records);
            }
            Ok(latest)
        };
        let latest = self.mongo.call("read the log", read).await?;
        let mut records = latest.into_iter().rev().flatten().collect::<Vec<_>>();
        let excess = records.len().saturating_sub(limit);
        Ok(records.split_off(excess))
    }

    /// The next step that can be read.
    async fn next(
        &self,
        archived: &mut mongodb::Cursor<RawDocumentBuf>,
    ) -> mongodb::error::Result<Option<Past>> {
        while let Some(document) = archived.try_next().await? {
            match decoded::<Past>(&document).and_then(|past| past.log().map(|_| past)) {
                Ok(past) => return Ok(Some(past)),
                Err(error) => self.mongo.unreadable.warn(HISTORY, &document, &error),
            }
        }
        Ok(None)
    }

    /// Writes steps, each once however often it comes. One that is too large is shortened.
    pub(crate) async fn file(&self, steps: &[Step]) -> Result<(), PortError> {
        let most = self.mongo.config.archived_step_bytes;
        let archived = steps.iter().map(|step| {
            let document = step.archived();
            let bytes = bytes_of(&document);
            if bytes <= most {
                return Ok(document);
            }
            self.warn_of_shortened(step.thred.as_str(), step.version, bytes);
            step.shortened(bytes)
        });
        self.insert(archived.collect::<Result<_, PortError>>()?).await?;
        let ended: Vec<_> = steps.iter().filter_map(|step| step.ended.as_ref()).collect();
        if ended.is_empty() {
            return Ok(());
        }
        let updates = ended.into_iter().map(|state| {
            let id = state.id.as_str();
            let older = doc! { "_id": id, "v": { "$lt": signed(state.version) } };
            let mut fields = state_fields(state, self.mongo.format())?;
            let bytes = bytes_of(&fields);
            if bytes > most {
                self.warn_of_shortened(id, state.version, bytes);
                let short = ThredState {
                    locals: no_locals(),
                    participants: state.participants.iter().take(SOME).cloned().collect(),
                    ..(**state).clone()
                };
                fields = state_fields(&short, self.mongo.format())?;
                fields.insert("shortened", signed(bytes as u64));
            }
            Ok(doc! { "q": older, "u": { "$set": fields }, "upsert": true })
        });
        let updates = updates.collect::<Result<Vec<Document>, PortError>>()?;
        for updates in chunks(updates) {
            let written = self.mongo.write("archive threds", ENDED, Write::Update, updates).await?;
            // A later state of the thred is there already.
            written.except("archive threds", DUPLICATE_KEY)?;
        }
        Ok(())
    }

    fn warn_of_shortened(&self, what: &str, version: u64, bytes: usize) {
        self.shortened.fetch_add(1, Ordering::Relaxed);
        warn!(%what, version, bytes, most = self.mongo.config.archived_step_bytes,
              "too large for the archive, which keeps what was decided; the rest is left out");
    }

    /// Writes records of events that changed nothing, each once.
    pub(crate) async fn append(&self, records: &[Unmoved]) -> Result<(), PortError> {
        if records.is_empty() {
            return Ok(());
        }
        let most = self.mongo.config.archived_step_bytes;
        let documents = records.iter().map(|record| {
            let document = unmoved(record)?;
            let bytes = bytes_of(&document);
            if bytes <= most {
                return Ok(document);
            }
            self.warn_of_shortened(record.record.event.as_str(), 0, bytes);
            let event = Arc::new(Event {
                data: None,
                trace: None,
                extra: Default::default(),
                ..(*record.event).clone()
            });
            let mut document = unmoved(&Unmoved { event, ..record.clone() })?;
            document.insert("shortened", signed(bytes as u64));
            Ok(document)
        });
        self.insert(documents.collect::<Result<Vec<_>, PortError>>()?).await
    }

    async fn insert(&self, documents: Vec<Document>) -> Result<(), PortError> {
        for documents in chunks(documents) {
            let written = self.mongo.write("archive", HISTORY, Write::Insert, documents).await?;
            written.except("archive", DUPLICATE_KEY)?;
        }
        Ok(())
    }
}

/// How many participants are kept of an ended thred that is too large.
const SOME: usize = 1_000;

/// Where a record stands among those of events that changed nothing.
fn cursor(past: &Past) -> String {
    let part = |name| past.id.get_str(name).unwrap_or_default();
    format!("{}/{}/{}/{}", past.at, past.seq, part("e"), part("y"))
}

fn place(cursor: &str) -> Option<(i64, i64, Bson)> {
    let mut parts = cursor.split('/');
    let (at, seq) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let (key, decision) = (parts.next()?, parts.next()?);
    parts.next().is_none().then(|| (at, seq, doc! { "e": key, "y": decision }.into()))
}

/// Statements in portions that fit into one command.
pub(crate) fn chunks(documents: Vec<Document>) -> Vec<Vec<Document>> {
    /// MongoDB takes 48 MB.
    const BYTES: usize = 8 << 20;
    const COUNT: usize = 500;
    let mut chunks: Vec<Vec<Document>> = Vec::new();
    let mut room = 0;
    for document in documents {
        let size = bytes_of(&document);
        match chunks.last_mut() {
            Some(chunk) if size <= room && chunk.len() < COUNT => {
                room -= size;
                chunk.push(document);
            }
            _ => {
                room = BYTES.saturating_sub(size);
                chunks.push(vec![document]);
            }
        }
    }
    chunks
}
