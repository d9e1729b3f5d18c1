//! Leases.

use async_trait::async_trait;
use futures::TryStreamExt;
use mongodb::bson::{Document, doc};
use serde::Deserialize;
use thredcore::port::{Lease, LeaseStore, PortError};

use super::MongoStorage;
use crate::{
    documents::LEASES,
    error::{is_duplicate_key, port_error},
};

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
