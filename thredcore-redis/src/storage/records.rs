//! The log and the history.

use std::sync::Arc;

use async_trait::async_trait;
use thredcore::port::{History, LogRecord, PortError, RecordStore};
use thredlib::{Event, ThredId};

use super::{RedisStorage, record, script};
use crate::{connection::Request, keys::PartitionKeys};

script!(APPEND, "append.lua");
script!(HISTORY, "history.lua");
script!(LATEST, "latest.lua");

impl RedisStorage {
    /// The latest entries of numbered hashes, in the order of their times.
    async fn latest<'k>(
        &'k self,
        operation: &'static str,
        keys: impl Fn(&'k PartitionKeys) -> Vec<&'k str>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        let mut requests = vec![];
        for partition in &self.0.partitions {
            for key in keys(partition) {
                let request = Request::asking_script(&partition.tag, &LATEST, &[key]);
                requests.push(request.arg(limit).arg(self.0.steps_per_partition));
            }
        }
        let found: Vec<Vec<String>> = self.all(operation, &requests).await?;
        let mut entries = vec![];
        for texts in found {
            for text in texts.iter().rev() {
                entries.push(record::parse::<History>(text).map_err(|error| error.of(operation))?);
            }
        }
        // Stable: within a partition they stand in order.
        entries.sort_by_key(|entry| entry.log.first().map(|record| record.timestamp));
        Ok(entries)
    }
}

#[async_trait]
impl RecordStore for RedisStorage {
    async fn append_log(&self, records: Vec<(LogRecord, Arc<Event>)>) -> Result<(), PortError> {
        const OPERATION: &str = "append to the log";
        if self.0.steps_per_partition == 0 {
            return Ok(());
        }
        let mut calls: Vec<Option<Request>> = vec![None; self.0.partitions.len()];
        for (log, event) in records {
            let partition = self.partition_of(log.event.as_str());
            let keys = &self.0.partitions[partition];
            let kind = record::json(&log.log_type).map_err(|error| error.of(OPERATION))?;
            let name = format!("{}\t{kind}", record::escape(log.event.as_str()));
            let entry = History::unmoved(log, event);
            let call = calls[partition].get_or_insert_with(|| {
                let names = [&*keys.unmoved, &keys.unmoved_known];
                Request::script(&keys.tag, &APPEND, &names).arg(self.0.steps_per_partition)
            });
            call.push(name);
            call.push(record::json(&entry).map_err(|error| error.of(OPERATION))?);
        }
        let requests: Vec<_> = calls.into_iter().flatten().collect();
        self.all::<i64>(OPERATION, &requests).await.map(drop)
    }

    async fn history(
        &self,
        thred: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        const OPERATION: &str = "read history";
        let Some(id) = thred else {
            let mut entries = self.latest(OPERATION, |keys| vec![&*keys.unmoved], limit).await?;
            return Ok(entries.split_off(entries.len().saturating_sub(limit)));
        };
        let keys = &self.0.partitions[self.partition_of(id.as_str())];
        let request = Request::asking_script(&keys.tag, &HISTORY, &[&keys.threds, &keys.history]);
        let steps: Vec<String> = self.one(OPERATION, request.arg(id.as_str()).arg(limit)).await?;
        let steps = steps.iter().rev().map(|text| record::parse(text));
        steps.collect::<Result<_, _>>().map_err(|error| error.of(OPERATION))
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        let entries =
            self.latest("read the log", |keys| vec![&*keys.history, &*keys.unmoved], limit).await?;
        let mut records: Vec<_> = entries.into_iter().flat_map(|entry| entry.log).collect();
        Ok(records.split_off(records.len().saturating_sub(limit)))
    }
}
