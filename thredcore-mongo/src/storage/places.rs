//! Places: a document for each thred that takes one up, so that there may be millions, and one for
//! each pattern that counts them.

use std::collections::BTreeMap;

use async_trait::async_trait;
use mongodb::{
    ClientSession,
    bson::{Bson, Document, RawDocumentBuf, doc},
};
use serde::Deserialize;
use thredcore::{
    port::{LimitStore, PortError, Reservation, Reserved},
    state::partition_of,
};
use thredlib::{PatternId, ThredId};
use tokio::sync::Mutex;

use super::MongoStorage;
use crate::{
    connection::Mongo,
    documents::{PLACES, TAKEN, signed},
    transaction::{Stop, Work},
};

/// Those who change the places of one pattern stand in line in their process: MongoDB would let all
/// but one of them try anew.
#[derive(Debug)]
pub(super) struct InLine([Mutex<()>; Self::LINES as usize]);

impl InLine {
    const LINES: u16 = 16;

    async fn of(&self, pattern: &PatternId) -> tokio::sync::MutexGuard<'_, ()> {
        self.0[usize::from(partition_of(pattern.as_str(), Self::LINES))].lock().await
    }
}

impl Default for InLine {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

/// How many places of a pattern are taken.
#[derive(Debug, Default, Deserialize)]
struct Taken {
    n: i64,
    /// When the last one was taken.
    last: Option<i64>,
}

impl Taken {
    /// Why there is no place for a thred that has none yet.
    fn refusal(&self, wanted: &Reservation) -> Option<Reserved> {
        let full = wanted.max_instances > 0 && self.n >= signed(wanted.max_instances);
        let too_soon = self.last.is_some_and(|last| {
            wanted.interval > 0 && wanted.now < last.saturating_add_unsigned(wanted.interval)
        });
        if full {
            Some(Reserved::Full)
        } else if too_soon {
            Some(Reserved::TooSoon)
        } else {
            None
        }
    }
}

fn place_id(pattern: &PatternId, thred: impl Into<Bson>) -> Document {
    doc! { "p": pattern.as_str(), "t": thred.into() }
}

fn own(pattern: &PatternId) -> Document {
    doc! { "_id": { "$eq": pattern.as_str() } }
}

/// Takes a place.
struct Take<'a> {
    mongo: &'a Mongo,
    wanted: &'a Reservation,
}

#[async_trait]
impl Work for Take<'_> {
    type Output = Reserved;
    type Refusal = PortError;

    async fn run(&mut self, session: &mut ClientSession) -> Result<Reserved, Stop<PortError>> {
        let Self { mongo, wanted } = self;
        let places = mongo.collection::<Document>(PLACES);
        let place = doc! { "_id": place_id(&wanted.pattern, wanted.thred.as_str()) };
        if places.find_one(place.clone()).session(&mut *session).await?.is_some() {
            return Ok(Reserved::Granted);
        }
        let taken = mongo.collection::<Taken>(TAKEN);
        let now = taken.find_one(own(&wanted.pattern)).session(&mut *session).await?;
        if let Some(refusal) = now.unwrap_or_default().refusal(wanted) {
            return Ok(refusal);
        }
        let one_more = doc! { "$inc": { "n": 1_i64 }, "$max": { "last": wanted.now } };
        let count = taken.update_one(own(&wanted.pattern), one_more).upsert(true);
        count.session(&mut *session).await?;
        places.insert_one(place).session(&mut *session).await?;
        Ok(Reserved::Granted)
    }
}

/// Gives places of one pattern back.
struct GiveBack<'a> {
    mongo: &'a Mongo,
    pattern: &'a PatternId,
    places: Vec<Document>,
}

#[async_trait]
impl Work for GiveBack<'_> {
    type Output = ();
    type Refusal = PortError;

    async fn run(&mut self, session: &mut ClientSession) -> Result<(), Stop<PortError>> {
        let places = self.mongo.collection::<Document>(PLACES);
        let delete = places.delete_many(doc! { "_id": { "$in": &self.places } });
        let gone = delete.session(&mut *session).await?.deleted_count;
        if gone > 0 {
            let taken = self.mongo.collection::<Document>(TAKEN);
            let fewer = doc! { "$inc": { "n": signed(gone).saturating_neg() } };
            taken.update_one(own(self.pattern), fewer).session(&mut *session).await?;
        }
        Ok(())
    }
}

#[async_trait]
impl LimitStore for MongoStorage {
    async fn reserve(&self, wanted: &Reservation) -> Result<Reserved, PortError> {
        const OPERATION: &str = "reserve a place";
        // Where there is none, no transaction is needed to tell.
        let taken = self.mongo.collection::<Taken>(TAKEN);
        let now = self.mongo.call(OPERATION, taken.find_one(own(&wanted.pattern))).await?;
        if let Some(refusal) = now.unwrap_or_default().refusal(wanted) {
            let places = self.mongo.collection::<Document>(PLACES);
            let place = doc! { "_id": place_id(&wanted.pattern, wanted.thred.as_str()) };
            let had = self.mongo.call(OPERATION, places.find_one(place)).await?.is_some();
            return Ok(if had { Reserved::Granted } else { refusal });
        }
        let _in_line = self.in_line.of(&wanted.pattern).await;
        self.mongo.transact(OPERATION, &mut Take { mongo: &self.mongo, wanted }).await
    }

    async fn release(&self, released: &[(PatternId, ThredId)]) -> Result<(), PortError> {
        /// A transaction is not to take long.
        const PORTION: usize = 500;
        let mut places: BTreeMap<&PatternId, Vec<Document>> = BTreeMap::new();
        for (pattern, thred) in released {
            places.entry(pattern).or_default().push(place_id(pattern, thred.as_str()));
        }
        for (pattern, places) in places {
            let _in_line = self.in_line.of(pattern).await;
            for places in places.chunks(PORTION) {
                let places = places.to_vec();
                let mut back = GiveBack { mongo: &self.mongo, pattern, places };
                self.mongo.transact("release places", &mut back).await?;
            }
        }
        Ok(())
    }

    async fn reserved(
        &self,
        pattern: &PatternId,
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        #[derive(Deserialize)]
        struct Place {
            #[serde(rename = "_id")]
            id: PlaceId,
        }
        #[derive(Deserialize)]
        struct PlaceId {
            t: ThredId,
        }
        if limit == 0 {
            return Ok(vec![]);
        }
        let start = after.map_or(Bson::MinKey, |thred| thred.as_str().into());
        let range = doc! {
            "$gt": place_id(pattern, start), "$lt": place_id(pattern, Bson::MaxKey),
        };
        let places = self.mongo.collection::<RawDocumentBuf>(PLACES);
        let find = places.find(doc! { "_id": range }).sort(doc! { "_id": 1 });
        let find = find.limit(signed(limit as u64)).batch_size(10_000);
        self.mongo.readable("read places", PLACES, find, |place: Place| Ok(place.id.t)).await
    }
}
