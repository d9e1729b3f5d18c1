//! Threds: reading them, clearing their outboxes, asking for those that something is due with.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use mongodb::bson::{Bson, Document, doc};
use serde::Deserialize;
use thredcore::{
    port::{
        Commit, Committed, Due, Loaded, PendingOutbox, PortError, ThredPage, ThredQuery,
        ThredStore, Timer,
    },
    state::{PatternKey, Status},
};
use thredlib::{MessageId, ThredId};

use super::{MongoStorage, Struck, strike_off};
use crate::{
    archive::find_threds,
    documents::{
        ENDED, EntryDocument, StateDocument, THREDS, listening_key, listening_text, signed,
    },
};

#[async_trait]
impl ThredStore for MongoStorage {
    /// One: MongoDB's indexes have no need of partitions, and one question is cheaper than many.
    fn partitions(&self) -> u16 {
        1
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let texts: Vec<_> = ids.iter().map(ThredId::as_str).collect();
        let threds = self.mongo.collection::<StateDocument>(THREDS);
        let find = threds.find(doc! { "_id": { "$in": texts } });
        let find = find.projection(doc! { "state": 1, "inbox": 1, "outbox": 1 });
        let found = self.mongo.all("load threds", find.batch_size(10_000)).await?;
        let found: HashMap<_, _> = found.iter().map(|thred| (thred.id.as_str(), thred)).collect();
        let loaded = ids.iter().map(|id| match found.get(id.as_str()) {
            Some(thred) => {
                let state = Arc::new(thred.state()?);
                Ok(Some(Loaded { state, outbox: thred.entries()? }))
            }
            None => Ok(None),
        });
        loaded.collect()
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        self.commit_all(commits).await
    }

    async fn clear_outbox(&self, published: &[(ThredId, Vec<MessageId>)]) -> Result<(), PortError> {
        let cleared = published.iter().filter(|(_, ids)| !ids.is_empty()).map(|(thred, ids)| {
            let values: Vec<Bson> = ids.iter().map(|id| id.as_str().into()).collect();
            let id = thred.as_str();
            let oldest = doc! { "$min": "$outbox.at" };
            Struck { id, field: "outbox", key: "id", values, time: "oldest" }.statements(oldest)
        });
        strike_off(&self.mongo, "clear outboxes", cleared.collect()).await
    }

    async fn pending_outboxes(
        &self,
        partition: u16,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        if partition > 0 || limit == 0 {
            return Ok(vec![]);
        }
        let threds = self.mongo.collection::<Outbox>(THREDS);
        let find = threds.find(doc! { "oldest": { "$lt": made_before } });
        let find = find.sort(doc! { "oldest": 1 }).limit(signed(limit as u64));
        let find = find.projection(doc! { "outbox": 1 }).batch_size(1_000);
        let found = self.mongo.all("look for forgotten outboxes", find).await?;
        let pending = found.into_iter().map(|thred| {
            let entries = thred.outbox.iter().map(EntryDocument::entry);
            let entries = entries.collect::<Result<_, _>>()?;
            Ok(PendingOutbox { thred_id: thred.id.as_str().into(), entries })
        });
        pending.collect()
    }

    async fn due(&self, partition: u16, at: i64, limit: usize) -> Result<Due, PortError> {
        /// Mostly none is due, and the first one tells when that changes.
        const FIRST: usize = 8;
        if partition > 0 {
            return Ok(Due::default());
        }
        let wanted = limit.saturating_add(1);
        let mut found = self.timers(FIRST.min(wanted)).await?;
        let all_due = found.last().is_some_and(|last| last.due <= at);
        if found.len() == FIRST && wanted > FIRST && all_due {
            found = self.timers(wanted).await?;
        }
        let due = found.iter().take(limit).take_while(|timer| timer.due <= at).count();
        let next = found.get(due).map(|timer| timer.due);
        let timers = found.into_iter().take(due).map(|timer| Timer {
            at: timer.due,
            thred_id: timer.id.as_str().into(),
            entry: u64::try_from(timer.entry).unwrap_or_default(),
        });
        Ok(Due { timers: timers.collect(), next })
    }

    async fn threds(&self, query: &ThredQuery) -> Result<ThredPage, PortError> {
        // The archive has those that have ended, also when they are no longer kept here.
        let collections: &[&str] = match query.status.contains(&Status::Terminated) {
            true => &[THREDS, ENDED],
            false => &[THREDS],
        };
        find_threds(&self.mongo, collections, query).await
    }

    async fn listeners(
        &self,
        pattern: &PatternKey,
        reaction: &str,
    ) -> Result<Vec<ThredId>, PortError> {
        let threds = self.mongo.collection::<IdDocument>(THREDS);
        let find = threds.find(doc! { "listens": listening_text(pattern), "reaction": reaction });
        let find = find.projection(doc! { "_id": 1 }).batch_size(10_000);
        let found = self.mongo.all("look for listeners", find).await?;
        Ok(found.into_iter().map(|thred| thred.id.as_str().into()).collect())
    }
}

impl MongoStorage {
    /// The first timers; read from the index alone.
    async fn timers(&self, limit: usize) -> Result<Vec<TimerDocument>, PortError> {
        let threds = self.mongo.collection::<TimerDocument>(THREDS);
        let find = threds.find(doc! { "due": { "$gte": i64::MIN } });
        let find = find.projection(doc! { "_id": 1, "due": 1, "entry": 1 });
        let find = find.sort(doc! { "due": 1, "_id": 1 }).limit(signed(limit as u64));
        self.mongo.all("look for timers", find.batch_size(10_000)).await
    }

    /// Where threds listen.
    pub(super) async fn listening(&self) -> Result<Vec<PatternKey>, PortError> {
        let threds = self.mongo.collection::<Document>(THREDS);
        let distinct = threds.distinct("listens", doc! { "listens": { "$gte": "" } });
        let found = self.mongo.call("look for listeners", distinct).await?;
        let texts = found.iter().filter_map(Bson::as_str);
        texts.map(listening_key).collect()
    }
}

#[derive(Debug, Deserialize)]
struct IdDocument {
    #[serde(rename = "_id")]
    id: String,
}

#[derive(Debug, Deserialize)]
struct Outbox {
    #[serde(rename = "_id")]
    id: String,
    outbox: Vec<EntryDocument>,
}

#[derive(Debug, Deserialize)]
struct TimerDocument {
    #[serde(rename = "_id")]
    id: String,
    due: i64,
    entry: i64,
}
