//! Threds: reading them, clearing their outboxes, asking for those that something is due with.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use mongodb::{
    bson::{Bson, Document, RawDocumentBuf, doc},
    options::Hint,
};
use serde::Deserialize;
use thredcore::{
    port::{
        Cleared, Commit, Committed, Due, Ended, Loaded, ParkedTopic, PendingOutbox, PortError,
        ThredCount, ThredPage, ThredQuery, ThredStore, Timer,
    },
    state::{PatternKey, Status, WaitKey},
};
use thredlib::{ThredId, Topic};

use super::MongoStorage;
use crate::{
    archive::find_threds,
    documents::{ENDED, StateDocument, THREDS, binary, listening_key, revision_of, signed},
};

/// The index by which threds are counted, and found by pattern and reaction.
pub(crate) fn kinds() -> Document {
    doc! { "pattern": 1, "reaction": 1, "status": 1, "revision": 1, "started": 1, "_id": 1 }
}

/// The index of timers, in their order.
pub(super) fn timer_index() -> Document {
    doc! { "due": 1, "_id": 1, "entry": 1 }
}

#[async_trait]
impl ThredStore for MongoStorage {
    /// One: MongoDB's indexes have no need of partitions, and one question is cheaper than many.
    fn partitions(&self) -> u16 {
        1
    }

    fn max_commit_bytes(&self) -> usize {
        Self::MAX_COMMIT_BYTES
    }

    async fn load(&self, ids: &[ThredId]) -> Result<Vec<Option<Loaded>>, PortError> {
        if ids.is_empty() {
            return Ok(vec![]);
        }
        let texts: Vec<_> = ids.iter().map(ThredId::as_str).collect();
        let threds = self.mongo.collection::<RawDocumentBuf>(THREDS);
        let mut fields = StateDocument::fields();
        fields.extend(doc! { "outbox": 1, "events": 1, "parked": 1 });
        let find = threds.find(doc! { "_id": { "$in": texts } }).projection(fields);
        let read = |thred: StateDocument| {
            let (state, outbox) = (thred.state()?, Self::unparked(&thred)?);
            Ok((Arc::new(state), outbox, thred.parked.is_some()))
        };
        let find = find.batch_size(10_000);
        let mut found = self.mongo.readable("load threds", THREDS, find, read).await?;
        let with_parked = found.iter().filter(|(.., parked)| *parked);
        let with_parked: Vec<_> = with_parked.map(|(state, ..)| state.id.clone()).collect();
        if !with_parked.is_empty() {
            let ids: Vec<_> = with_parked.iter().map(ThredId::as_str).collect();
            let mut parked = self.parked_of(&ids).await?;
            for (state, outbox, _) in &mut found {
                outbox.extend(parked.remove(&state.id).unwrap_or_default());
            }
        }
        let found = found.into_iter().map(|(state, outbox, _)| {
            let outbox = outbox.into_values().collect();
            (state.id.clone(), Loaded { state, outbox })
        });
        let found: HashMap<ThredId, Loaded> = found.collect();
        Ok(ids.iter().map(|id| found.get(id).cloned()).collect())
    }

    async fn commit(&self, commits: &[Arc<Commit>]) -> Vec<Result<Committed, PortError>> {
        self.commit_all(commits).await
    }

    async fn clear_outbox(&self, cleared: &[Cleared]) -> Result<(), PortError> {
        self.clear(cleared).await
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
        self.pending(made_before, limit).await
    }

    async fn parked_topics(&self) -> Result<Vec<ParkedTopic>, PortError> {
        self.topics().await
    }

    async fn parked_outboxes(
        &self,
        partition: u16,
        topic: &Topic,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        if partition > 0 || limit == 0 {
            return Ok(vec![]);
        }
        self.parked_for(topic, limit).await
    }

    async fn due(
        &self,
        partition: u16,
        at: i64,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Due, PortError> {
        /// Mostly none is due, and the first one tells when that changes.
        const FIRST: usize = 8;
        if partition > 0 {
            return Ok(Due::default());
        }
        let wanted = limit.saturating_add(1);
        let mut found = self.timers(after, FIRST.min(wanted)).await?;
        let all_due = found.last().is_some_and(|last| last.due <= at);
        if found.len() == FIRST && wanted > FIRST && all_due {
            found = self.timers(after, wanted).await?;
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
        let collections: &[&str] =
            if query.status.contains(&Status::Terminated) { &[THREDS, ENDED] } else { &[THREDS] };
        find_threds(&self.mongo, collections, query).await
    }

    async fn counts(&self) -> Result<Vec<ThredCount>, PortError> {
        const OPERATION: &str = "count threds";
        #[derive(Deserialize)]
        struct Counted {
            #[serde(rename = "_id")]
            kind: Kind,
            threds: i64,
        }
        #[derive(Deserialize)]
        struct Kind {
            pattern: String,
            revision: String,
            reaction: String,
            status: Status,
        }
        let fields = ["pattern", "revision", "reaction", "status"];
        let kind: Document =
            fields.map(|name| (name.to_owned(), format!("${name}").into())).into_iter().collect();
        let threds = self.mongo.collection::<Document>(THREDS);
        // Read from the index alone.
        let group = threds
            .aggregate([
                doc! { "$match": { "pattern": { "$gte": "" }, "status": { "$in": LIVE.to_vec() } } },
                doc! { "$group": { "_id": kind, "threds": { "$sum": 1_i64 } } },
            ])
            .hint(Hint::Keys(kinds()))
            .with_type::<RawDocumentBuf>();
        let read = |counted: Counted| {
            let Kind { pattern, revision, reaction, status } = counted.kind;
            let pattern =
                PatternKey { id: pattern.as_str().into(), revision: revision_of(&revision)? };
            let threds = counted.threds.unsigned_abs();
            Ok(ThredCount { pattern, reaction: reaction.into(), status, threds })
        };
        let mut counts = self.mongo.readable(OPERATION, THREDS, group, read).await?;
        counts.sort_unstable();
        Ok(counts)
    }

    async fn waiting(
        &self,
        keys: &[WaitKey],
        after: Option<&ThredId>,
        limit: usize,
    ) -> Result<Vec<ThredId>, PortError> {
        /// For more keys at a time MongoDB would sort all that it finds.
        const KEYS: usize = 128;
        if limit == 0 {
            return Ok(vec![]);
        }
        let mut waiting = Vec::new();
        for keys in keys.chunks(KEYS) {
            let keys: Vec<_> = keys.iter().map(|key| binary(key.as_bytes())).collect();
            let mut filter = doc! { "waits": { "$in": keys } };
            if let Some(after) = after {
                filter.insert("_id", doc! { "$gt": after.as_str() });
            }
            let threds = self.mongo.collection::<RawDocumentBuf>(THREDS);
            let find = threds.find(filter).sort(doc! { "_id": 1 }).projection(doc! { "_id": 1 });
            let find = find.limit(signed(limit as u64)).batch_size(10_000);
            let read = |thred: IdDocument| Ok(ThredId::from(&*thred.id));
            waiting
                .extend(self.mongo.readable("look for waiting threds", THREDS, find, read).await?);
        }
        if keys.len() > KEYS {
            waiting.sort_unstable();
            waiting.dedup();
            waiting.truncate(limit);
        }
        Ok(waiting)
    }

    async fn surplus(
        &self,
        partition: u16,
        skip: usize,
        limit: usize,
    ) -> Result<Vec<Ended>, PortError> {
        const OPERATION: &str = "look for ended threds";
        if partition > 0 || limit == 0 {
            return Ok(vec![]);
        }
        let threds = self.mongo.collection::<RawDocumentBuf>(THREDS);
        let ended = || doc! { "closed": { "$gte": i64::MIN } };
        let order = doc! { "closed": 1, "_id": 1 };
        let count = threds.count_documents(ended()).hint(Hint::Keys(order.clone()));
        let count = usize::try_from(self.mongo.call(OPERATION, count).await?).unwrap_or(usize::MAX);
        let beyond = count.saturating_sub(self.mongo.config.ended_threds);
        if beyond <= skip {
            return Ok(vec![]);
        }
        let find = threds.find(Self::published(ended())).sort(order).skip(skip as u64);
        let find = find.limit(signed(limit.min(beyond - skip) as u64)).batch_size(1_000);
        let read = |thred: StateDocument| {
            Ok(Ended { thred: thred.id.as_str().into(), inbox: thred.inbox()? })
        };
        let find = find.projection(StateDocument::fields());
        self.mongo.readable(OPERATION, THREDS, find, read).await
    }

    async fn forget(&self, threds: &[ThredId]) -> Result<(), PortError> {
        // A step that is not archived yet would go with its thred.
        self.filer.flush_in_time().await;
        for ids in threds.chunks(1_000) {
            let ids: Vec<_> = ids.iter().map(ThredId::as_str).collect();
            let threds = self.mongo.collection::<Document>(THREDS);
            let mut gone = Self::published(doc! { "_id": { "$in": ids } });
            gone.insert("past.0", doc! { "$exists": false });
            self.mongo.call("forget threds", threds.delete_many(gone)).await?;
        }
        Ok(())
    }
}

/// The words for threds that have not ended.
const LIVE: [&str; 2] = ["active", "finished"];

impl MongoStorage {
    /// The first timers after one of them; read from the index alone.
    async fn timers(
        &self,
        after: Option<&Timer>,
        limit: usize,
    ) -> Result<Vec<TimerDocument>, PortError> {
        let Some(Timer { at, thred_id, entry }) = after else {
            return self.timers_in(doc! { "due": { "$gte": i64::MIN } }, limit).await;
        };
        // The rest of those that are due at the same time, then later ones: both are ranges of the
        // index, one question for both would not be.
        let beside = doc! { "due": *at, "_id": { "$gte": thred_id.as_str() } };
        let mut found = self.timers_in(beside, limit.saturating_add(1)).await?;
        found.retain(|it| it.id != *thred_id.as_str() || it.entry > signed(*entry));
        found.truncate(limit);
        if found.len() < limit {
            let later = doc! { "due": { "$gt": *at } };
            found.extend(self.timers_in(later, limit - found.len()).await?);
        }
        Ok(found)
    }

    async fn timers_in(
        &self,
        range: Document,
        limit: usize,
    ) -> Result<Vec<TimerDocument>, PortError> {
        let threds = self.mongo.collection::<RawDocumentBuf>(THREDS);
        let find = threds.find(range).projection(doc! { "_id": 1, "due": 1, "entry": 1 });
        let find = find.sort(doc! { "due": 1, "_id": 1 }).limit(signed(limit as u64));
        let find = find.hint(Hint::Keys(timer_index())).batch_size(10_000);
        let read = |timer: TimerDocument| Ok(timer);
        self.mongo.readable("look for timers", THREDS, find, read).await
    }

    /// Where threds listen.
    pub(super) async fn listening(&self) -> Result<Vec<PatternKey>, PortError> {
        let threds = self.mongo.collection::<Document>(THREDS);
        let distinct = threds.distinct("listens", doc! { "listens": { "$gte": "" } });
        let found = self.mongo.call("look for listeners", distinct).await?;
        // What cannot be read is told where its thred is read.
        let texts = found.iter().filter_map(Bson::as_str);
        Ok(texts.filter_map(|text| listening_key(text).ok()).collect())
    }
}

#[derive(Debug, Deserialize)]
struct IdDocument {
    #[serde(rename = "_id")]
    id: String,
}

#[derive(Debug, Deserialize)]
struct TimerDocument {
    #[serde(rename = "_id")]
    id: String,
    due: i64,
    entry: i64,
}
