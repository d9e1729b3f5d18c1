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

use std::sync::Arc;

use futures::TryStreamExt;
use mongodb::{
    Collection,
    bson::{Document, doc},
    options::IndexOptions,
};
use thredcore::port::{History, LogRecord, PortError, ThredPage, ThredQuery};
use thredlib::{Event, ThredId};

use crate::{
    connection::{Mongo, Write},
    documents::{ENDED, HISTORY, Past, Step, signed, state_fields, unmoved},
    error::{DUPLICATE_KEY, MongoError},
};

/// Event records, thred logs and ended threds in MongoDB. Cheap to clone.
#[derive(Clone, Debug)]
pub struct MongoArchive {
    pub(crate) mongo: Mongo,
    history: Collection<Past>,
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
            mongo.index(HISTORY, doc! { "moved": 1, "at": 1, "seq": 1 }, unmoved).await?;
            for keys in [
                doc! { "status": 1, "started": 1, "_id": 1 },
                doc! { "participants": 1, "started": 1, "_id": 1 },
            ] {
                mongo.index(ENDED, keys, IndexOptions::default()).await?;
            }
            Ok(())
        };
        indexes.await.map_err(|error| mongo.prepare_error(error))?;
        Ok(Self { mongo: mongo.clone(), history: mongo.collection(HISTORY) })
    }

    /// What is archived of one thred's past, in the order of its versions; with `None`, of the
    /// events that moved no thred, latest last. Only the latest `limit` steps.
    ///
    /// # Errors
    /// When MongoDB cannot be reached.
    pub async fn history(
        &self,
        thred: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        if limit == 0 {
            return Ok(vec![]);
        }
        let mut past = match thred {
            Some(id) => self.steps(id, limit).await?,
            None => {
                let find = self.history.find(doc! { "moved": false });
                let find = find.sort(doc! { "moved": -1, "at": -1, "seq": -1 });
                let find = find.limit(signed(limit as u64)).batch_size(1_000);
                self.mongo.all("read the history", find).await?
            }
        };
        past.reverse();
        past.iter().map(Past::history).collect()
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

    /// The latest steps of a thred, latest first.
    pub(crate) async fn steps(&self, id: &ThredId, limit: usize) -> Result<Vec<Past>, PortError> {
        // 0 would stand for all.
        let limit = limit.max(1);
        let bound = |version: i64| doc! { "t": id.as_str(), "v": version };
        let range = doc! { "$gte": bound(0), "$lte": bound(i64::MAX) };
        let find = self.history.find(doc! { "_id": range }).sort(doc! { "_id": -1 });
        let find = find.limit(signed(limit as u64)).batch_size(1_000);
        self.mongo.all("read the history", find).await
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
            let mut next = archived.try_next().await?;
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
                let step = match from_archive {
                    true => std::mem::replace(&mut next, archived.try_next().await?),
                    false => waiting.pop(),
                };
                let Some(history) = step.map(|step| step.history()) else { break };
                latest.push(history);
                count += latest.last().and_then(|it| it.as_ref().ok()).map_or(0, |it| it.log.len());
            }
            Ok(latest)
        };
        let latest = self.mongo.call("read the log", read).await?;
        let mut records = Vec::new();
        for history in latest.into_iter().rev() {
            records.extend(history?.log);
        }
        let excess = records.len().saturating_sub(limit);
        Ok(records.split_off(excess))
    }

    /// Writes steps, each once however often it comes.
    pub(crate) async fn file(&self, steps: &[Step]) -> Result<(), PortError> {
        let archived = steps.iter().map(Step::archived).collect();
        self.insert(archived).await?;
        let ended: Vec<_> = steps.iter().filter_map(|step| step.ended.as_ref()).collect();
        if ended.is_empty() {
            return Ok(());
        }
        let updates = ended.into_iter().map(|state| {
            let id = state.id.as_str();
            let older = doc! { "_id": id, "v": { "$lt": signed(state.version) } };
            Ok(doc! { "q": older, "u": { "$set": state_fields(state)? }, "upsert": true })
        });
        let updates = updates.collect::<Result<Vec<Document>, PortError>>()?;
        let written = self.mongo.write("archive threds", ENDED, Write::Update, updates).await?;
        // A later state of the thred is there already.
        written.except("archive threds", DUPLICATE_KEY)
    }

    /// Writes records of events that moved no thred, each once.
    pub(crate) async fn append(
        &self,
        records: &[(LogRecord, Arc<Event>)],
    ) -> Result<(), PortError> {
        let documents = records.iter().map(|(record, event)| unmoved(record, event));
        self.insert(documents.collect::<Result<Vec<_>, _>>()?).await
    }

    async fn insert(&self, documents: Vec<Document>) -> Result<(), PortError> {
        for documents in chunks(documents) {
            let written = self.mongo.write("archive", HISTORY, Write::Insert, documents).await?;
            written.except("archive", DUPLICATE_KEY)?;
        }
        Ok(())
    }
}

/// Statements in portions that fit into one command.
pub(crate) fn chunks(documents: Vec<Document>) -> Vec<Vec<Document>> {
    /// MongoDB takes 48 MB.
    const BYTES: usize = 8 << 20;
    const COUNT: usize = 500;
    let mut chunks: Vec<Vec<Document>> = Vec::new();
    let mut room = 0;
    for document in documents {
        let size = size(&document);
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

/// About how many bytes a document has: its texts are what makes it large.
fn size(document: &Document) -> usize {
    use mongodb::bson::Bson;
    fn of(value: &Bson) -> usize {
        match value {
            Bson::String(text) => text.len() + 16,
            Bson::Document(document) => size(document),
            Bson::Array(items) => items.iter().map(of).sum::<usize>() + 16,
            _ => 16,
        }
    }
    document.iter().map(|(name, value)| name.len() + of(value)).sum()
}
