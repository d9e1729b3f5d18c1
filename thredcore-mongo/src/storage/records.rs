//! History and log: the archive's, and what is on its way there. Receipts.

use async_trait::async_trait;
use mongodb::bson::{RawDocumentBuf, doc};
use thredcore::port::{
    History, LogRecord, PortError, Receipt, ReceiptRetention, RecordStore, Settlement, UnmovedPage,
};
use thredlib::{EventKey, ThredId};

use super::{MongoStorage, waiting};
use crate::{
    archive::merged,
    documents::{Past, Step, THREDS},
};

#[async_trait]
impl RecordStore for MongoStorage {
    /// There is one partition.
    async fn settle(&self, _: u16, settlement: &Settlement) -> Result<(), PortError> {
        self.archive.append(&settlement.unmoved).await?;
        self.receipts.write(&settlement.receipts, settlement.now).await
    }

    async fn receipts(&self, _: u16, keys: &[EventKey]) -> Result<Vec<Option<Receipt>>, PortError> {
        self.receipts.read(keys).await
    }

    async fn recorded(&self, keys: &[EventKey]) -> Result<Vec<bool>, PortError> {
        self.archive.recorded(keys).await
    }

    fn retention(&self) -> ReceiptRetention {
        self.receipts.retention()
    }

    async fn history(
        &self,
        thred: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        // In this order, a step on its way from the one to the other is seen at least once.
        let threds = self.mongo.collection::<RawDocumentBuf>(THREDS);
        let find = threds.find(doc! { "_id": thred.as_str() });
        let waiting = waiting(&self.mongo, "read the history", find).await?;
        let archived = self.archive.steps(thred, before, limit).await?;
        Ok(merged(&waiting.concat(), archived, before, limit))
    }

    async fn unmoved(&self, before: Option<&str>, limit: usize) -> Result<UnmovedPage, PortError> {
        self.archive.unmoved(before, limit).await
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        let threds = self.mongo.collection::<RawDocumentBuf>(THREDS);
        let find = threds.find(doc! { "unfiled": { "$gte": 0 } }).batch_size(1_000);
        let waiting = waiting(&self.mongo, "read the log", find).await?;
        let waiting: Vec<Past> = waiting.iter().flatten().map(Step::past).collect();
        self.archive.log_with(waiting, limit).await
    }
}
