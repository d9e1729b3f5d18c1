//! Receipts: a collection for each generation, so that forgetting costs nothing, and one for what is
//! among the dead letters.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use mongodb::bson::{Binary, DateTime, Document, doc};
use parking_lot::Mutex;
use serde::Deserialize;
use thredcore::port::{PortError, Receipt, ReceiptRetention};
use thredlib::EventKey;

use crate::{
    archive::chunks,
    connection::{Mongo, Write},
    documents::{COUNTERS, DEAD, RECEIPTS, binary, key_of},
    error::{DUPLICATE_KEY, is_duplicate_key, port_error},
};

/// The receipts of all partitions.
///
/// A generation is followed by the next when half of the retention is over, by time or by number. The
/// current one and the two before it are kept, so what was written last is found for the whole of
/// the retention.
#[derive(Debug)]
pub(super) struct Receipts {
    mongo: Mongo,
    retention: ReceiptRetention,
    known: Mutex<Known>,
}

/// Which generation is current, as far as this process knows: another may have gone on.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    number: i64,
    /// When the generation began, milliseconds since the Unix epoch.
    since: i64,
    looked: Option<Instant>,
    /// When its receipts were counted.
    counted: Option<Instant>,
    /// How many this process has written since.
    written: u64,
}

#[derive(Debug, Deserialize)]
struct Generation {
    number: i64,
    since: i64,
}

/// The counter that tells the current generation.
const CURRENT: &str = "receipts";

impl Receipts {
    /// How long what is known of the current generation is taken for true. Two generations at least
    /// would have to pass meanwhile for a receipt to be missed.
    const FRESH: Duration = Duration::from_secs(5);

    pub(super) fn of(mongo: &Mongo) -> Self {
        let (time, capacity) = (mongo.config.receipts_time, mongo.config.receipts_capacity);
        let retention = ReceiptRetention { time, capacity };
        Self { mongo: mongo.clone(), retention, known: Mutex::default() }
    }

    pub(super) fn retention(&self) -> ReceiptRetention {
        self.retention
    }

    fn know(&self, learn: impl FnOnce(&mut Known)) {
        learn(&mut self.known.lock());
    }

    fn known(&self) -> Known {
        *self.known.lock()
    }

    pub(super) async fn write(
        &self,
        receipts: &[(EventKey, Receipt)],
        now: i64,
    ) -> Result<(), PortError> {
        const OPERATION: &str = "write receipts";
        let dead = receipts.iter().filter_map(|(key, receipt)| match receipt {
            Receipt::Dead(times) => Some(doc! {
                "q": { "_id": binary(key.as_bytes()) },
                // By the server's time they are forgotten.
                "u": { "$max": { "n": i64::from(*times) }, "$set": { "at": DateTime::now() } },
                "upsert": true,
            }),
            Receipt::Settled => None,
        });
        for statements in chunks(dead.collect()) {
            let written = self.mongo.write(OPERATION, DEAD, Write::Update, statements).await?;
            written.all(OPERATION)?;
        }
        let settled = receipts.iter().filter(|(_, receipt)| *receipt == Receipt::Settled);
        let settled: Vec<_> =
            settled.map(|(key, _)| doc! { "_id": binary(key.as_bytes()) }).collect();
        if settled.is_empty() {
            return Ok(());
        }
        let count = settled.len() as u64;
        let collection = collection(self.current(now).await?);
        for documents in chunks(settled) {
            let written = self.mongo.write(OPERATION, &collection, Write::Insert, documents);
            written.await?.except(OPERATION, DUPLICATE_KEY)?;
        }
        self.know(|known| known.written += count);
        Ok(())
    }

    /// The receipts of keys, by one call.
    pub(super) async fn read(&self, keys: &[EventKey]) -> Result<Vec<Option<Receipt>>, PortError> {
        const OPERATION: &str = "read receipts";
        #[derive(Deserialize)]
        struct Found {
            #[serde(rename = "_id")]
            id: Binary,
            n: Option<i64>,
        }
        if keys.is_empty() {
            return Ok(vec![]);
        }
        if self.known().looked.is_none_or(|at| at.elapsed() > Self::FRESH) {
            self.look(None).await?;
        }
        let number = self.known().number;
        let ids: Vec<_> = keys.iter().map(|key| binary(key.as_bytes())).collect();
        let these = doc! { "$match": { "_id": { "$in": ids } } };
        // Somebody may have gone on to the next generation already.
        let others = (number - KEPT..=number + 1).filter(|it| *it != number).map(collection);
        let others = others.chain([DEAD.to_owned()]).map(|name| {
            doc! { "$unionWith": { "coll": self.mongo.name(&name), "pipeline": [these.clone()] } }
        });
        let pipeline: Vec<_> = [these.clone()].into_iter().chain(others).collect();
        let current = self.mongo.collection::<Document>(&collection(number));
        let find = current.aggregate(pipeline).batch_size(10_000).with_type::<Found>();
        let mut receipts: HashMap<EventKey, Receipt> = HashMap::new();
        for found in self.mongo.all(OPERATION, find).await? {
            let receipt = match found.n {
                Some(times) => Receipt::Dead(u32::try_from(times).unwrap_or(u32::MAX)),
                None => Receipt::Settled,
            };
            let highest = receipts.entry(key_of(&found.id)?).or_insert(receipt);
            *highest = receipt.max(*highest);
        }
        Ok(keys.iter().map(|key| receipts.get(key).copied()).collect())
    }

    /// The number of the generation to write to, after going on to the next one if it is time.
    async fn current(&self, now: i64) -> Result<i64, PortError> {
        let half = i64::try_from(self.retention.time.as_millis() / 2).unwrap_or(i64::MAX);
        let known = self.known();
        let fresh = known.counted.is_some_and(|at| at.elapsed() <= Self::FRESH);
        let old = now.saturating_sub(known.since) >= half;
        // What others write is seen at the next look; it takes a few seconds.
        let many = known.written >= self.retention.capacity / 16;
        if fresh && !old && !many {
            return Ok(known.number);
        }
        let Generation { number, since } = self.look(Some(now)).await?;
        let current = self.mongo.collection::<Document>(&collection(number));
        let count = current.estimated_document_count();
        let count = self.mongo.call("count receipts", count).await?;
        self.know(|known| (known.counted, known.written) = (Some(Instant::now()), 0));
        if now.saturating_sub(since) < half && count < self.retention.capacity.div_ceil(2) {
            return Ok(number);
        }
        let counters = self.mongo.collection::<Document>(COUNTERS);
        let next = doc! { "$set": { "number": number + 1, "since": now } };
        let advance = counters.update_one(doc! { "_id": CURRENT, "number": number }, next);
        self.mongo.call("begin a generation of receipts", advance).await?;
        // Also what somebody who died in between has left.
        for number in [number - KEPT, number - KEPT - 1] {
            let old = self.mongo.collection::<Document>(&collection(number));
            self.mongo.call("forget receipts", old.drop()).await?;
        }
        Ok(self.look(Some(now)).await?.number)
    }

    /// Looks which generation is current; the first one begins now.
    async fn look(&self, now: Option<i64>) -> Result<Generation, PortError> {
        const OPERATION: &str = "look for the generation of receipts";
        let counters = self.mongo.collection::<Generation>(COUNTERS);
        let find = || counters.find_one(doc! { "_id": CURRENT });
        let mut found = self.mongo.call(OPERATION, find()).await?;
        if let (None, Some(now)) = (&found, now) {
            let first = doc! { "$setOnInsert": { "number": 1_i64, "since": now } };
            let begin = counters.update_one(doc! { "_id": CURRENT }, first).upsert(true);
            let begin = async {
                match begin.await {
                    Err(error) if !is_duplicate_key(&error) => Err(port_error(OPERATION, error)),
                    _ => Ok(()),
                }
            };
            self.mongo.within(OPERATION, begin).await?;
            found = self.mongo.call(OPERATION, find()).await?;
        }
        let generation = found.unwrap_or(Generation { number: 1, since: i64::MAX });
        self.know(|known| {
            (known.number, known.since) = (generation.number, generation.since);
            known.looked = Some(Instant::now());
        });
        Ok(generation)
    }
}

/// How many generations before the current one are kept.
const KEPT: i64 = 2;

fn collection(number: i64) -> String {
    format!("{RECEIPTS}{number}")
}
