//! History and log: the archive's, and what is on its way there.

use std::sync::Arc;

use async_trait::async_trait;
use mongodb::bson::doc;
use thredcore::port::{History, LogRecord, PortError, RecordStore};
use thredlib::{Event, ThredId};

use super::MongoStorage;
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
        let find = find.projection(doc! { "state": 1, "inbox": 1, "past": 1 });
        let found = self.mongo.all("read the history", find).await?;
        let waiting = found.iter().map(Step::waiting).collect::<Result<Vec<_>, _>>()?;
        merged(&waiting.concat(), self.archive.steps(id, limit).await?, limit)
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        let threds = self.mongo.collection::<StateDocument>(THREDS);
        let find = threds.find(doc! { "unfiled": { "$gte": 0 } });
        let find = find.projection(doc! { "state": 1, "inbox": 1, "past": 1 });
        let found = self.mongo.all("read the log", find.batch_size(1_000)).await?;
        let waiting = found.iter().map(Step::waiting).collect::<Result<Vec<_>, _>>()?;
        let waiting: Vec<Past> = waiting.iter().flatten().map(Step::past).collect();
        self.archive.log_with(waiting, limit).await
    }
}
