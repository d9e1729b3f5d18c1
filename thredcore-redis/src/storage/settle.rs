//! What is settled on its way: records and receipts of a partition that meet share a call.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::{AtomicI64, AtomicU64, Ordering},
};

use thredcore::port::{Receipt, Settlement};
use thredlib::EventKey;
use tokio::sync::oneshot;

use super::{RedisStorage, record, records::millis, script};
use crate::{connection::Request, error::Error, gather::Gathering};

script!(SETTLE, "settle.lua");
script!(TURN, "turn.lua");

/// How many events one call of the script is about, and how many bytes: the server does nothing else
/// meanwhile.
const EVENTS: usize = 256;
const BYTES: usize = 4 << 20;

/// Records and receipts that are written together.
#[derive(Debug, Default)]
pub(super) struct Settles {
    /// Key, type and text.
    records: Vec<(EventKey, String, String)>,
    /// Key, and how often it was dead, or 0.
    receipts: Vec<(EventKey, u32)>,
    bytes: usize,
    now: i64,
}

impl Settles {
    fn len(&self) -> usize {
        self.records.len() + self.receipts.len()
    }
}

/// What one caller wants settled.
#[derive(Debug)]
pub(super) struct Part {
    settles: Settles,
    answer: oneshot::Sender<Result<(), Error>>,
}

fn next(waiting: &Gathering<Part>) -> Vec<Part> {
    let (mut events, mut bytes) = (0, 0);
    waiting.next(|part| {
        events += part.settles.len();
        bytes += part.settles.bytes;
        events <= EVENTS && bytes <= BYTES
    })
}

/// Which generation of receipts is written, in all partitions. A generation has as many receipts as are to
/// be found, or takes as long as they are; each process counts what it writes and tells it from time
/// to time. What is told late makes a generation longer, which does no harm.
#[derive(Debug, Default)]
pub(super) struct Generation {
    number: AtomicU64,
    /// Receipts that were not told yet.
    untold: AtomicU64,
    /// When they were told last; 0: never.
    told: AtomicI64,
}

impl Generation {
    fn number(&self) -> u64 {
        self.number.load(Ordering::Acquire)
    }
}

/// What is told at once is this part of a generation.
const PART: u64 = 64;

impl RedisStorage {
    /// Counts receipts that are about to be written; looks whether a generation has ended.
    pub(super) async fn count_receipts(&self, receipts: usize, now: i64) -> Result<(), Error> {
        let generation = &self.0.generation;
        let config = self.0.connection.config();
        let (capacity, time) = (config.receipts_capacity, millis(config.receipts_time));
        let more = receipts as u64;
        let untold = generation.untold.fetch_add(more, Ordering::AcqRel) + more;
        let told = generation.told.load(Ordering::Acquire);
        let is_known = generation.number() > 0;
        if is_known && untold < capacity / PART && (now - told).abs() < time / PART as i64 {
            return Ok(());
        }
        let untold = generation.untold.swap(0, Ordering::AcqRel);
        let tag = &self.0.shared.receipts;
        let request = Request::script(tag, &TURN, &[&tag.key("generation")])
            .arg((untold, now, capacity, time));
        match self.0.connection.ask::<u64>(request).await {
            Ok(number) => {
                generation.told.store(now, Ordering::Release);
                generation.number.fetch_max(number, Ordering::AcqRel);
                Ok(())
            }
            Err(error) => {
                generation.untold.fetch_add(untold, Ordering::AcqRel);
                // A longer generation is no harm.
                if is_known { Ok(()) } else { Err(error) }
            }
        }
    }

    /// Splits a settlement into what fits into a call. The records of an event stand with its
    /// receipt, so that both are written or none.
    pub(super) fn settles(&self, settlement: &Settlement) -> Result<Vec<Settles>, Error> {
        let mut records: HashMap<EventKey, Vec<(String, String)>> = HashMap::new();
        let mut order = vec![];
        if self.0.steps_per_partition > 0 {
            for unmoved in &settlement.unmoved {
                let kind = record::json(&unmoved.record.log_type)?;
                let text = (kind.trim_matches('"').to_owned(), record::json(unmoved)?);
                order.push(unmoved.key);
                records.entry(unmoved.key).or_default().push(text);
            }
        }
        let receipts = settlement.receipts.iter().map(|(key, receipt)| match receipt {
            Receipt::Settled => (*key, Some(0)),
            Receipt::Dead(times) => (*key, Some((*times).max(1))),
        });
        // First those without a receipt: their events come again if the rest is not written.
        let with_receipt: HashSet<_> = settlement.receipts.iter().map(|(key, _)| *key).collect();
        let without = order.iter().filter(|key| !with_receipt.contains(key));
        let events = without.map(|key| (*key, None)).chain(receipts);
        let mut all: Vec<Settles> = vec![];
        for (key, receipt) in events {
            let texts = records.remove(&key).unwrap_or_default();
            let bytes = 64 + texts.iter().map(|(_, text)| text.len()).sum::<usize>();
            let fits = |last: &&mut Settles| last.len() < EVENTS && last.bytes + bytes <= BYTES;
            if all.last_mut().filter(fits).is_none() {
                all.push(Settles { now: settlement.now, ..Settles::default() });
            }
            if let Some(last) = all.last_mut() {
                last.bytes += bytes;
                last.records.extend(texts.into_iter().map(|(kind, text)| (key, kind, text)));
                last.receipts.extend(receipt.map(|times| (key, times)));
            }
        }
        Ok(all)
    }

    /// Writes a part, with whatever else is to be settled in the partition.
    pub(super) async fn settle_part(
        &self,
        partition: usize,
        settles: Settles,
    ) -> Result<(), Error> {
        let (answer, answered) = oneshot::channel();
        if self.0.settles[partition].add(Part { settles, answer }) {
            // A task of its own: whoever asked may be gone before the others have their answers.
            tokio::spawn(self.clone().send_settles(partition));
        }
        answered.await.unwrap_or_else(|_| Err(Error::lost()))
    }

    async fn send_settles(self, partition: usize) {
        while self.0.settles[partition].has_more() {
            let parts = next(&self.0.settles[partition]);
            let settles: Vec<_> = parts.iter().map(|part| &part.settles).collect();
            let done = self.0.connection.ask::<i64>(self.settle_call(partition, &settles)).await;
            let refused = matches!(done, Err(Error::Refused(_))) && parts.len() > 1;
            for part in parts {
                let done = if refused {
                    // It is one of them that the server will not take.
                    let request = self.settle_call(partition, &[&part.settles]);
                    self.0.connection.ask::<i64>(request).await
                } else {
                    done.clone()
                };
                // Whoever does not wait any more does not care.
                let _ = part.answer.send(done.map(drop));
            }
        }
    }

    fn settle_call(&self, partition: usize, settles: &[&Settles]) -> Request {
        let keys = &self.0.partitions[partition];
        let names = [
            &*keys.unmoved,
            &keys.unmoved_known,
            &keys.receipts,
            &keys.receipts_before,
            &keys.dead,
            &keys.dead_times,
            &keys.numbers,
        ];
        let config = self.0.connection.config();
        let mut call = Request::script(&keys.tag, &SETTLE, &names)
            .arg(self.0.steps_per_partition)
            .arg(self.0.generation.number())
            .arg(settles.iter().map(|it| it.now).max().unwrap_or_default())
            .arg(millis(config.dead_receipts_time))
            .arg(settles.iter().map(|it| it.records.len()).sum::<usize>());
        for (key, kind, text) in settles.iter().flat_map(|it| &it.records) {
            call.push(&key.as_bytes()[..]);
            call.push(kind);
            call.push(text);
        }
        for (key, times) in settles.iter().flat_map(|it| &it.receipts) {
            call.push(&key.as_bytes()[..]);
            call.push(*times);
        }
        call
    }
}
