//! History and log: the archive's, and what is on its way there.

use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::doc;
use thredcore::port::{History, LogRecord, PortError, RecordStore};
use thredlib::{Event, ThredId};

use super::{MongoStorage, waiting};
use crate::{
    archive::merged,
    documents::{Past, StateDocument, Step, THREDS},
};

#[async_trait]
impl RecordStore for MongoStorage {
    async fn append_log(&self, records: Vec<(LogRecord, Arc<Event>)>) -> Result<(), PortError> {
        self.archive.append(&records).await
    }

    async fn history(
        &self,
        thred: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        let Some(id) = thred else { return self.archive.history(None, limit).await };
        // In this order, a step on its way from the one to the other is seen at least once.
        let threds = self.mongo.collection::<StateDocument>(THREDS);
        let find = threds.find(doc! { "_id": id.as_str() });
        let waiting = waiting(&self.mongo, "read the history", find).await?;
        merged(&waiting.concat(), self.archive.steps(id, limit).await?, limit)
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        let threds = self.mongo.collection::<StateDocument>(THREDS);
        let find = threds.find(doc! { "unfiled": { "$gte": 0 } }).batch_size(1_000);
        let waiting = waiting(&self.mongo, "read the log", find).await?;
        let waiting: Vec<Past> = waiting.iter().flatten().map(Step::past).collect();
        self.archive.log_with(waiting, limit).await
    }
}
