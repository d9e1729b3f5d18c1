//! The log and the history.

use std::sync::Arc;

use async_trait::async_trait;
use thredcore::port::{History, LogRecord, PortError, RecordStore};
use thredlib::{Event, ThredId};

use super::{RedisStorage, record, script};
use crate::connection::Request;

script!(APPEND, "append.lua");
script!(HISTORY, "history.lua");
script!(LATEST, "latest.lua");

impl RedisStorage {
    /// The latest records about events that moved no thred, by partition, each latest first.
    async fn unmoved(&self, operation: &'static str, limit: usize) -> Result<Texts, PortError> {
        let requests = self.0.partitions.iter().map(|keys| {
            let request = Request::asking_script(&keys.tag, &LATEST, &[&keys.unmoved]);
            request.arg(limit).arg(self.0.steps_per_partition)
        });
        self.all(operation, &requests.collect::<Vec<_>>()).await
    }

    /// The latest steps of threds, by partition, each latest first.
    async fn steps(&self, operation: &'static str, limit: usize) -> Result<Texts, PortError> {
        let requests = self.0.partitions.iter().map(|keys| {
            let mut command = redis::cmd("XREVRANGE");
            command.arg(&keys.history).arg("+").arg("-").arg("COUNT").arg(limit);
            Request::read(&keys.tag, command)
        });
        type Entries = Vec<(String, (String, String, String, String))>;
        let found = self.all::<Entries>(operation, &requests.collect::<Vec<_>>()).await?;
        let text = |(_, (_, _, _, step)): (_, (_, _, _, String))| step;
        Ok(found.into_iter().map(|entries| entries.into_iter().map(text).collect()).collect())
    }
}

type Texts = Vec<Vec<String>>;

/// Reads entries of all partitions, in the order of their times.
fn in_order(operation: &'static str, texts: Texts) -> Result<Vec<History>, PortError> {
    let texts = texts.iter().flat_map(|texts| texts.iter().rev());
    let entries: Result<Vec<History>, _> = texts.map(|text| record::parse(text)).collect();
    let mut entries = entries.map_err(|error| error.of(operation))?;
    // Stable: within a partition they stand in order.
    entries.sort_by_key(|entry| entry.log.first().map(|record| record.timestamp));
    Ok(entries)
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
            let mut entries = in_order(OPERATION, self.unmoved(OPERATION, limit).await?)?;
            return Ok(entries.split_off(entries.len().saturating_sub(limit)));
        };
        let keys = &self.0.partitions[self.partition_of(id.as_str())];
        let request = Request::asking_script(&keys.tag, &HISTORY, &[&keys.threds, &keys.history]);
        let steps: Vec<String> = self.one(OPERATION, request.arg(id.as_str()).arg(limit)).await?;
        let steps = steps.iter().rev().map(|text| record::parse(text));
        steps.collect::<Result<_, _>>().map_err(|error| error.of(OPERATION))
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        const OPERATION: &str = "read the log";
        let mut texts = self.steps(OPERATION, limit).await?;
        texts.extend(self.unmoved(OPERATION, limit).await?);
        let entries = in_order(OPERATION, texts)?;
        let mut records: Vec<_> = entries.into_iter().flat_map(|entry| entry.log).collect();
        Ok(records.split_off(records.len().saturating_sub(limit)))
    }
}
