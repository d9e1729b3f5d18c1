//! Events that end the process which works on them.

use std::sync::Arc;

use async_trait::async_trait;
use thredcore::port::{
    History, LogRecord, PortError, Receipt, ReceiptRetention, RecordStore, Settlement, Storage,
    UnmovedPage,
};
use thredlib::{Event, EventKey, ThredId};

/// The type of the events that are deadly.
const DEADLY: &str = "chaos.deadly";

/// An event that is deadly.
pub fn deadly_event(number: usize) -> Event {
    Event::builder(DEADLY, "bob").id(format!("deadly {number}")).build()
}

/// A storage that ends the process when a deadly event is to go on record, before it has written
/// anything of it: as if the process had died over the event.
pub struct Deadly {
    storage: Arc<dyn Storage>,
}

impl Deadly {
    /// Makes the events deadly that are to be.
    pub fn new(storage: Arc<dyn Storage>) -> Self {
        Self { storage }
    }
}

thredcore::forward_store!(
    ThredStore, LimitStore, LeaseStore, PatternStore, Quarantine for Deadly => storage
);

#[async_trait]
impl RecordStore for Deadly {
    async fn settle(&self, partition: u16, settlement: &Settlement) -> Result<(), PortError> {
        if settlement.unmoved.iter().any(|unmoved| &*unmoved.event.event_type == DEADLY) {
            std::process::abort();
        }
        self.storage.settle(partition, settlement).await
    }

    async fn receipts(
        &self,
        partition: u16,
        keys: &[EventKey],
    ) -> Result<Vec<Option<Receipt>>, PortError> {
        self.storage.receipts(partition, keys).await
    }

    async fn recorded(&self, keys: &[EventKey]) -> Result<Vec<bool>, PortError> {
        self.storage.recorded(keys).await
    }

    fn retention(&self) -> ReceiptRetention {
        self.storage.retention()
    }

    async fn history(
        &self,
        thred: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        self.storage.history(thred, before, limit).await
    }

    async fn unmoved(&self, before: Option<&str>, limit: usize) -> Result<UnmovedPage, PortError> {
        self.storage.unmoved(before, limit).await
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        self.storage.log(limit).await
    }
}
