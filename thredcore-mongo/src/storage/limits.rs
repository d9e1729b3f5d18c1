//! Places and leases.

use async_trait::async_trait;
use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use serde::Deserialize;
use thredcore::port::{
    Lease, LeaseStore, LimitStore, PortError, PortErrorKind, Reservation, Reserved,
};
use thredlib::{PatternId, ThredId};

use super::MongoStorage;
use crate::{
    documents::{LEASES, PLACES},
    error::{is_duplicate_key, port_error},
};

/// Who takes up a pattern's places: one document, so that a place is taken by one write. It holds
/// some 300,000 threds.
#[derive(Debug, Deserialize)]
struct Places {
    threds: Vec<String>,
    /// When the last one was taken.
    last: i64,
}

impl Places {
    /// Why there was no place; `None` when there is one by now.
    fn refusal(&self, wanted: &Reservation) -> Option<Reserved> {
        let earliest = self.last.saturating_add_unsigned(wanted.interval);
        if self.threds.iter().any(|thred| *thred == *wanted.thred.as_str()) {
            Some(Reserved::Granted)
        } else if wanted.max_instances > 0 && self.threds.len() as u64 >= wanted.max_instances {
            Some(Reserved::Full)
        } else if wanted.interval > 0 && wanted.now < earliest {
            Some(Reserved::TooSoon)
        } else {
            None
        }
    }
}

#[async_trait]
impl LimitStore for MongoStorage {
    async fn reserve(&self, wanted: &Reservation) -> Result<Reserved, PortError> {
        /// Somebody else has to give a place back between our two looks, each time.
        const TRIES: usize = 16;
        let places = self.mongo.collection::<Places>(PLACES);
        let mut free = doc! {
            "_id": wanted.pattern.as_str(),
            "threds": { "$ne": wanted.thred.as_str() },
        };
        if wanted.max_instances > 0 {
            let last = format!("threds.{}", wanted.max_instances - 1);
            free.insert(last, doc! { "$exists": false });
        }
        if wanted.interval > 0 {
            let before = wanted.now.saturating_sub_unsigned(wanted.interval);
            free.insert("last", doc! { "$lte": before });
        }
        let take = doc! {
            "$push": { "threds": wanted.thred.as_str() },
            "$max": { "last": wanted.now },
        };
        for _ in 0..TRIES {
            let update = places.update_one(free.clone(), take.clone()).upsert(true);
            let taken = self.mongo.within("reserve a place", async {
                match update.await {
                    Ok(_) => Ok(true),
                    // The places are there, but none is free, or it is ours already.
                    Err(error) if is_duplicate_key(&error) => Ok(false),
                    Err(error) => Err(port_error("reserve a place", error)),
                }
            });
            if taken.await? {
                return Ok(Reserved::Granted);
            }
            let find = places.find_one(doc! { "_id": wanted.pattern.as_str() });
            let found = self.mongo.call("reserve a place", find).await?;
            if let Some(refusal) = found.and_then(|places| places.refusal(wanted)) {
                return Ok(refusal);
            }
        }
        let cause = "the places changed all the time";
        Err(PortError::new("reserve a place", PortErrorKind::Unavailable, cause))
    }

    async fn release(&self, released: &[(PatternId, ThredId)]) -> Result<(), PortError> {
        let mut threds: std::collections::BTreeMap<&str, Vec<&str>> = Default::default();
        for (pattern, thred) in released {
            threds.entry(pattern.as_str()).or_default().push(thred.as_str());
        }
        for (pattern, threds) in threds {
            let places = self.mongo.collection::<Document>(PLACES);
            let free = doc! { "$pull": { "threds": { "$in": threds } } };
            let update = places.update_one(doc! { "_id": pattern }, free);
            self.mongo.call("release places", update).await?;
        }
        Ok(())
    }

    async fn reserved(&self, pattern: &PatternId) -> Result<Vec<ThredId>, PortError> {
        let places = self.mongo.collection::<Places>(PLACES);
        let find = places.find_one(doc! { "_id": pattern.as_str() });
        let found = self.mongo.call("read places", find).await?;
        let threds = found.into_iter().flat_map(|places| places.threds);
        Ok(threds.map(|id| id.as_str().into()).collect())
    }
}

/// A lease as it is stored.
#[derive(Debug, Deserialize)]
struct LeaseDocument {
    #[serde(rename = "_id")]
    name: String,
    owner: String,
    until: i64,
}

#[async_trait]
impl LeaseStore for MongoStorage {
    async fn acquire(&self, lease: &Lease, now: i64) -> Result<bool, PortError> {
        let leases = self.mongo.collection::<Document>(LEASES);
        let free = doc! {
            "_id": &lease.name,
            "$or": [{ "owner": { "$eq": &lease.owner } }, { "until": { "$lte": now } }],
        };
        let take = doc! { "$set": { "owner": &lease.owner, "until": lease.until } };
        let update = leases.update_one(free, take).upsert(true);
        let taken = self.mongo.within("acquire a lease", async {
            match update.await {
                Ok(result) => Ok(Some(result)),
                Err(error) if is_duplicate_key(&error) => Ok(None),
                Err(error) => Err(port_error("acquire a lease", error)),
            }
        });
        let Some(taken) = taken.await? else { return Ok(false) };
        if taken.upserted_id.is_some() {
            // With each new name, those that nobody has renewed for long go.
            const LONG: i64 = 24 * 60 * 60 * 1000;
            let old = leases.delete_many(doc! { "until": { "$lt": now.saturating_sub(LONG) } });
            self.mongo.call("acquire a lease", old).await?;
        }
        Ok(true)
    }

    async fn give_back(&self, name: &str, owner: &str) -> Result<(), PortError> {
        let leases = self.mongo.collection::<Document>(LEASES);
        let own = doc! { "_id": name, "owner": { "$eq": owner } };
        self.mongo.call("give back a lease", leases.delete_one(own)).await.map(drop)
    }

    async fn leases(&self, prefix: &str, now: i64) -> Result<Vec<Lease>, PortError> {
        let leases = self.mongo.collection::<LeaseDocument>(LEASES);
        let named = doc! { "_id": { "$gte": prefix } };
        let find = leases.find(named).sort(doc! { "_id": 1 }).batch_size(1_000);
        let read = async {
            let mut found = Vec::new();
            let mut cursor = find.await?;
            while let Some(LeaseDocument { name, owner, until }) = cursor.try_next().await? {
                if !name.starts_with(prefix) {
                    break;
                }
                if until > now {
                    found.push(Lease { name, owner, until });
                }
            }
            Ok(found)
        };
        self.mongo.call("read leases", read).await
    }
}
