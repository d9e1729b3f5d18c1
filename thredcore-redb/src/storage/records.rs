//! The log and the history.

use std::sync::Arc;

use async_trait::async_trait;
use thredcore::port::{History, LogRecord, PortError, RecordStore};
use thredlib::{Event, ThredId};

use super::{
    RedbStorage, texts,
    threds::{apart, failed},
};
use crate::{
    journal::{What, lock},
    segments,
    tables::{META, META_UNMOVED, STEPS},
};

#[async_trait]
impl RecordStore for RedbStorage {
    async fn append_log(&self, records: Vec<(LogRecord, Arc<Event>)>) -> Result<(), PortError> {
        let with_text = |(record, event): (LogRecord, Arc<Event>)| {
            texts::unmoved_body(&record, &event).map(|body| (record, event, body))
        };
        let records = records.into_iter().map(with_text).collect::<Result<Vec<_>, _>>();
        let records = records.map_err(texts::unwritable("append to the log"))?;
        match records.is_empty() {
            true => Ok(()),
            false => {
                self.journal.write("append to the log", What::Unmoved(records)).await.map(drop)
            }
        }
    }

    async fn history(
        &self,
        thred: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        let shared = &self.journal.shared;
        let head = thred.map(|id| lock(shared.shard(id)).heads.get(id).map(|head| head.step));
        let walk = move |shared: &crate::shared::Shared| {
            shared.read(|txn| {
                let table = txn.open_table(STEPS.data)?;
                let mut next = match head {
                    Some(last) => last.unwrap_or(0),
                    None => {
                        let last = txn.open_table(META)?.get(META_UNMOVED)?;
                        last.map_or(0, |last| last.value())
                    }
                };
                let mut latest = vec![];
                while next > 0 && latest.len() < limit {
                    let step = segments::read(&table, next, |before, body| {
                        texts::step(body).map(|step| (before, step))
                    })?;
                    let Some((before, step)) = step.transpose()? else { break };
                    latest.push(step.history());
                    next = before;
                }
                latest.reverse();
                Ok(latest)
            })
        };
        apart(shared, walk).await?.map_err(failed("read the history"))
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        let walk = move |shared: &crate::shared::Shared| {
            shared.read(|txn| {
                let table = txn.open_table(STEPS.data)?;
                let mut latest = vec![];
                segments::each_back(&table, |body| {
                    if latest.len() < limit {
                        latest.extend(texts::step(body)?.log.into_iter().rev());
                    }
                    Ok(latest.len() < limit)
                })?;
                latest.truncate(limit);
                latest.reverse();
                Ok(latest)
            })
        };
        apart(&self.journal.shared, walk).await?.map_err(failed("read the log"))
    }
}
