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

/// How many steps of a thred are looked for at once: the server does nothing else meanwhile.
const STEPS: usize = 256;

impl RedisStorage {
    /// The latest records about events that moved no thred, by partition, each latest first.
    async fn unmoved(&self, operation: &'static str, limit: usize) -> Result<Entries, PortError> {
        let requests = self.0.partitions.iter().map(|keys| {
            let request = Request::asking_script(&keys.tag, &LATEST, &[&keys.unmoved]);
            request.arg(limit).arg(self.0.steps_per_partition)
        });
        let found: Vec<Vec<String>> = self.all(operation, &requests.collect::<Vec<_>>()).await?;
        let read = |texts: &Vec<String>| texts.iter().map(|text| record::parse(text)).collect();
        found.iter().map(read).collect::<Result<_, _>>().map_err(|error| error.of(operation))
    }

    /// The latest steps of threds, by partition, each latest first.
    async fn steps(&self, operation: &'static str, limit: usize) -> Result<Entries, PortError> {
        // A list of threds, each followed by a step and its outbox.
        let first = i64::from(u32::try_from(limit).unwrap_or(u32::MAX)) * -3;
        let requests = self.0.partitions.iter().map(|keys| {
            let mut command = redis::cmd("LRANGE");
            command.arg(&keys.history).arg(first).arg(-1);
            Request::read(&keys.tag, command)
        });
        let found: Vec<Vec<String>> = self.all(operation, &requests.collect::<Vec<_>>()).await?;
        let read = |step: &[String]| record::history(&step[1], &step[2]);
        let read = |steps: &Vec<String>| steps.rchunks_exact(3).map(read).collect();
        found.iter().map(read).collect::<Result<_, _>>().map_err(|error| error.of(operation))
    }
}

type Entries = Vec<Vec<History>>;

/// Entries of all partitions, in the order of their times.
fn in_order(entries: Entries) -> Vec<History> {
    let entries = entries.into_iter().flat_map(|entries| entries.into_iter().rev());
    let mut entries: Vec<_> = entries.collect();
    // Stable: within a partition they stand in order.
    entries.sort_by_key(|entry| entry.log.first().map(|record| record.timestamp));
    entries
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
            let mut entries = in_order(self.unmoved(OPERATION, limit).await?);
            return Ok(entries.split_off(entries.len().saturating_sub(limit)));
        };
        let keys = &self.0.partitions[self.partition_of(id.as_str())];
        let names = [&*keys.threds, &keys.history];
        let mut steps: Vec<History> = vec![];
        let mut seen = 0;
        // What is before its start is of a thred of the same id that was forgotten.
        while steps.len() < limit && steps.last().is_none_or(|step| step.version > 1) {
            let count = (limit - steps.len()).min(STEPS);
            let request = Request::asking_script(&keys.tag, &HISTORY, &names);
            let request = request.arg(id.as_str()).arg(seen).arg(count);
            let page: Vec<(String, String)> = self.one(OPERATION, request).await?;
            if page.is_empty() {
                break;
            }
            seen += page.len();
            for (step, outbox) in page {
                let step = record::history(&step, &outbox).map_err(|error| error.of(OPERATION))?;
                // Those that came meanwhile have moved the others: some are seen again.
                if steps.last().is_none_or(|last| step.version < last.version) {
                    steps.push(step);
                }
            }
        }
        if let Some(start) = steps.iter().position(|step| step.version == 1) {
            steps.truncate(start + 1);
        }
        steps.reverse();
        Ok(steps)
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        const OPERATION: &str = "read the log";
        let mut entries = self.steps(OPERATION, limit).await?;
        entries.extend(self.unmoved(OPERATION, limit).await?);
        let mut records: Vec<_> =
            in_order(entries).into_iter().flat_map(|entry| entry.log).collect();
        Ok(records.split_off(records.len().saturating_sub(limit)))
    }
}
