//! Receipts, the log and the history.

use async_trait::async_trait;
use thredcore::port::{
    History, LogRecord, LogType, PortError, PortErrorKind, Receipt, ReceiptRetention, RecordStore,
    Settlement, Unmoved, UnmovedPage,
};
use thredlib::{EventKey, ThredId};

use super::{
    RedbStorage, apart, failed,
    texts::{self, StoredStep},
};
use crate::{
    error::{RedbError, Refusal},
    journal::{Recorded, What},
    segments,
    shared::Shared,
    tables::{META, META_UNMOVED, STEPS},
};

/// By what a record about an event that changed nothing is known, or the event.
fn mark(key: &EventKey, decision: Option<LogType>) -> [u8; 16] {
    let word = decision.and_then(|decision| serde_json::to_string(&decision).ok());
    *EventKey::of(&key.to_string(), word.as_deref().unwrap_or("")).as_bytes()
}

fn recorded(unmoved: &Unmoved) -> Result<Recorded, PortError> {
    let body = texts::unmoved_body(unmoved).map_err(texts::unwritable("settle"))?;
    let decision = unmoved.record.log_type;
    let marks = [mark(&unmoved.key, Some(decision)), mark(&unmoved.key, None)];
    Ok(Recorded { decision, marks, body })
}

#[async_trait]
impl RecordStore for RedbStorage {
    async fn settle(&self, partition: u16, settlement: &Settlement) -> Result<(), PortError> {
        const SETTLE: &str = "settle";
        let unmoved = settlement.unmoved.iter().map(recorded).collect::<Result<Vec<_>, _>>()?;
        if self.journal.shared.is_full() {
            return Err(Refusal::Full.port(SETTLE));
        }
        let is_awaited = !unmoved.is_empty();
        // They are told to the writer under the lock: whoever sees a receipt, and writes something
        // because of it, writes it later.
        let answered = {
            let receipts = &self.journal.shared.receipts;
            let mut receipts = receipts.write();
            let receipts = receipts.add(partition, &settlement.receipts, settlement.now);
            if is_awaited {
                let sent = self.journal.sent(What::Settle { unmoved, receipts });
                Some(sent.map_err(|refusal| refusal.port(SETTLE))?)
            } else {
                if !receipts.is_empty() || receipts.opened.is_some() {
                    self.journal.defer(SETTLE, What::Settle { unmoved, receipts })?;
                }
                None
            }
        };
        match answered {
            None => self.journal.breathe().await,
            Some(answered) => {
                let answer = answered.await.unwrap_or(Err(Refusal::Closed));
                answer.map_err(|refusal| refusal.port(SETTLE))?;
            }
        }
        Ok(())
    }

    async fn receipts(
        &self,
        partition: u16,
        keys: &[EventKey],
    ) -> Result<Vec<Option<Receipt>>, PortError> {
        let receipts = self.journal.shared.receipts.read();
        Ok(keys.iter().map(|key| receipts.get(partition, key)).collect())
    }

    async fn recorded(&self, keys: &[EventKey]) -> Result<Vec<bool>, PortError> {
        let known = self.journal.shared.recorded.lock();
        let is_known = |key| known.contains(u128::from_be_bytes(mark(key, None)));
        Ok(keys.iter().map(is_known).collect())
    }

    fn retention(&self) -> ReceiptRetention {
        self.journal.shared.config.retention()
    }

    async fn history(
        &self,
        thred: &ThredId,
        before: Option<u64>,
        limit: usize,
    ) -> Result<Vec<History>, PortError> {
        let shared = &self.journal.shared;
        let last = shared.shard(thred).lock().index.head(thred).map_or(0, |head| head.at.step);
        let read = move |shared: &Shared| {
            let is_meant = |step: &StoredStep| before.is_none_or(|before| step.version() < before);
            walk_back(shared, last, limit, |step| is_meant(&step).then(|| step.history()))
        };
        let (history, _) = apart(shared, read).await?.map_err(failed("read the history"))?;
        Ok(history)
    }

    async fn unmoved(&self, before: Option<&str>, limit: usize) -> Result<UnmovedPage, PortError> {
        let start = before.map(|before| before.parse::<u64>()).transpose().map_err(|_| {
            let cause = "the cursor is not what an earlier page gave";
            PortError::new("read records", PortErrorKind::Rejected, cause)
        })?;
        let read = move |shared: &Shared| {
            let last = match start {
                Some(start) => start,
                None => shared.read(|txn| {
                    let last = txn.open_table(META)?.get(META_UNMOVED)?;
                    Ok(last.map_or(0, |last| last.value()))
                })?,
            };
            walk_back(shared, last, limit, StoredStep::unmoved)
        };
        let read = apart(&self.journal.shared, read).await?;
        let (records, next) = read.map_err(failed("read records"))?;
        Ok(UnmovedPage { records, before: next.map(|next| next.to_string()) })
    }

    async fn log(&self, limit: usize) -> Result<Vec<LogRecord>, PortError> {
        let walk = move |shared: &Shared| {
            shared.read(|txn| {
                let table = txn.open_table(STEPS.data)?;
                let mut latest = vec![];
                segments::each_back(&table, |number, body| {
                    match texts::step(body) {
                        Ok(step) if latest.len() < limit => {
                            latest.extend(step.log.into_iter().rev());
                        }
                        Ok(_) => {}
                        Err(error) => shared.unreadable.note("step", number, &error),
                    }
                    Ok::<_, RedbError>(latest.len() < limit)
                })?;
                latest.truncate(limit);
                latest.reverse();
                Ok(latest)
            })
        };
        apart(&self.journal.shared, walk).await?.map_err(failed("read the log"))
    }
}

/// Goes back from a step over those before it, and takes the first so many that are meant; in the
/// order of their making, with the number of the one before them.
fn walk_back<T>(
    shared: &Shared,
    last: u64,
    limit: usize,
    mut take: impl FnMut(StoredStep) -> Option<T>,
) -> Result<(Vec<T>, Option<u64>), crate::shared::ReadError> {
    shared.read(|txn| {
        let table = txn.open_table(STEPS.data)?;
        let mut next = last;
        let mut latest = vec![];
        while next > 0 && latest.len() < limit {
            let step = segments::read(&table, next, |before, body| {
                (before, (!body.is_empty()).then(|| texts::step(body)))
            })?;
            let Some((before, step)) = step else {
                // What was before is not kept any more.
                next = 0;
                break;
            };
            match step {
                Some(Ok(step)) => latest.extend(take(step)),
                Some(Err(error)) => shared.unreadable.note("step", next, &error),
                None => {}
            }
            next = before;
        }
        latest.reverse();
        // Whether there is anything to be found.
        let has_more = next > 0 && segments::read(&table, next, |_, _| ())?.is_some();
        Ok((latest, has_more.then_some(next)))
    })
}
