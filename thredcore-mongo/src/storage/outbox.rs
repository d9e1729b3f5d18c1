//! Outboxes: what is published leaves them, and messages whose topic is full wait apart, a document
//! each, so that they neither fill their thred's document nor hold up its other messages.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use futures::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocumentBuf, doc, oid::ObjectId};
use serde::Deserialize;
use thredcore::port::{Cleared, OutboxEntry, ParkedTopic, PendingOutbox, PortError};
use thredlib::{ThredId, Topic};

use super::{MongoStorage, Struck, strike_off};
use crate::{
    archive::chunks,
    connection::Write,
    documents::{
        EntryDocument, EventDocument, Events, PARKED, ParkedDocument, StateDocument, THREDS,
        parked_id,
    },
    error::DUPLICATE_KEY,
};

/// A thred's document without its state.
#[derive(Debug, Deserialize)]
struct OutboxDocument {
    #[serde(rename = "_id")]
    id: String,
    #[serde(default)]
    outbox: Vec<EntryDocument>,
    #[serde(default)]
    events: Vec<EventDocument>,
    parked: Option<ObjectId>,
}

/// The entries of a thred by their place in the order of making.
type Entries = BTreeMap<i64, OutboxEntry>;

fn entries(outbox: &[EntryDocument], events: &[EventDocument]) -> Result<Entries, PortError> {
    let mut events = Events::of(events);
    outbox.iter().map(|entry| entry.entry(&mut events)).collect()
}

impl MongoStorage {
    /// The entries in a document, without the parked ones.
    pub(super) fn unparked(thred: &StateDocument) -> Result<BTreeMap<i64, OutboxEntry>, PortError> {
        entries(&thred.outbox, &thred.events)
    }

    /// The parked messages of threds.
    pub(super) async fn parked_of(
        &self,
        threds: &[&str],
    ) -> Result<HashMap<ThredId, Entries>, PortError> {
        let mut parked: HashMap<ThredId, Entries> = HashMap::new();
        for threds in threds.chunks(256) {
            let any: Vec<_> = threds.iter().map(|id| doc! { "_id": all_of(id) }).collect();
            let messages = self.mongo.collection::<RawDocumentBuf>(PARKED);
            let find = messages.find(doc! { "$or": any }).batch_size(1_000);
            let read = |message: ParkedDocument| message.entry();
            for (thred, n, entry) in
                self.mongo.readable("read parked messages", PARKED, find, read).await?
            {
                parked.entry(thred).or_default().insert(n, entry);
            }
        }
        Ok(parked)
    }

    /// Whole outboxes.
    async fn outboxes(
        &self,
        operation: &'static str,
        filter: Document,
        sort: Option<Document>,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let threds = self.mongo.collection::<RawDocumentBuf>(THREDS);
        let mut find = threds.find(filter);
        if let Some(sort) = sort {
            find = find.sort(sort);
        }
        let find = find.projection(doc! { "outbox": 1, "events": 1, "parked": 1 });
        let read = |thred: OutboxDocument| {
            let entries = entries(&thred.outbox, &thred.events)?;
            Ok((thred.id, thred.parked.is_some(), entries))
        };
        let find = find.batch_size(u32::try_from(limit).unwrap_or(1_000).min(1_000));
        let found = self.mongo.first_readable(operation, THREDS, find, limit, read).await?;
        let with_parked = found.iter().filter(|(_, parked, _)| *parked);
        let with_parked: Vec<_> = with_parked.map(|(id, ..)| &**id).collect();
        let mut parked = self.parked_of(&with_parked).await?;
        let outboxes = found.into_iter().map(|(id, _, mut entries)| {
            let thred_id = ThredId::from(&*id);
            entries.extend(parked.remove(&thred_id).unwrap_or_default());
            PendingOutbox { thred_id, entries: entries.into_values().collect() }
        });
        Ok(outboxes.collect())
    }

    pub(super) async fn clear(&self, cleared: &[Cleared]) -> Result<(), PortError> {
        const OPERATION: &str = "clear outboxes";
        let parked = self.park(cleared).await?;
        let struck = cleared.iter().filter_map(|it| {
            let thred = it.thred.as_str();
            let mut values: Vec<Bson> = it.published.iter().map(|id| id.as_str().into()).collect();
            let parked = parked.get(thred).filter(|_| !it.parked.is_empty());
            values.extend(parked.into_iter().flatten().cloned());
            (!values.is_empty()).then(|| Struck::entries(thred, values, parked.is_some()))
        });
        let struck: Vec<_> = struck.collect();
        if struck.is_empty() || strike_off(&self.mongo, OPERATION, struck).await? {
            return Ok(());
        }
        // Some thred had more than that, perhaps parked messages.
        let published = cleared.iter().flat_map(|it| {
            it.published.iter().map(|message| parked_id(&it.thred, message.as_str()))
        });
        let mut gone = 0;
        for ids in published.collect::<Vec<_>>().chunks(1_000) {
            let messages = self.mongo.collection::<Document>(PARKED);
            let delete = messages.delete_many(doc! { "_id": { "$in": ids } });
            gone += self.mongo.call(OPERATION, delete).await?.deleted_count;
        }
        if gone > 0 {
            let threds: BTreeSet<_> = cleared.iter().map(|it| it.thred.as_str()).collect();
            self.tidy(threds.into_iter().collect()).await?;
        }
        Ok(())
    }

    /// Stores messages apart, before they leave their outboxes; says which, by their threds.
    async fn park(&self, cleared: &[Cleared]) -> Result<HashMap<String, Vec<Bson>>, PortError> {
        const OPERATION: &str = "park messages";
        let wanted: HashMap<&str, HashSet<&str>> = cleared
            .iter()
            .filter(|it| !it.parked.is_empty())
            .map(|it| (it.thred.as_str(), it.parked.iter().map(|id| id.as_str()).collect()))
            .collect();
        if wanted.is_empty() {
            return Ok(HashMap::new());
        }
        let threds = self.mongo.collection::<RawDocumentBuf>(THREDS);
        let ids: Vec<_> = wanted.keys().copied().collect();
        let find = threds.find(doc! { "_id": { "$in": ids } });
        let find = find.projection(doc! { "outbox": 1, "events": 1, "parked": 1 });
        let read = |thred: OutboxDocument| {
            let (id, events) = (ThredId::from(&*thred.id), Events::of(&thred.events));
            let (mut ids, mut messages) = (Vec::new(), Vec::new());
            for entry in &thred.outbox {
                let parks = wanted.get(&*thred.id).is_some_and(|it| it.contains(&*entry.id));
                if parks && let Some(message) = entry.parked(&id, &events)? {
                    ids.push(Bson::from(&*entry.id));
                    messages.push(message);
                }
            }
            Ok(((thred.id, ids), messages))
        };
        let parked = self.mongo.readable(OPERATION, THREDS, find.batch_size(64), read).await?;
        let (mut parked, messages): (HashMap<_, _>, Vec<_>) = parked.into_iter().unzip();
        for messages in chunks(messages.concat()) {
            let written = self.mongo.write(OPERATION, PARKED, Write::Insert, messages).await?;
            written.except(OPERATION, DUPLICATE_KEY)?;
        }
        parked.retain(|_, ids| !ids.is_empty());
        Ok(parked)
    }

    /// Notes of threds that nothing of theirs is parked any more.
    async fn tidy(&self, threds: Vec<&str>) -> Result<(), PortError> {
        #[derive(Deserialize)]
        struct Flagged {
            #[serde(rename = "_id")]
            id: String,
            parked: ObjectId,
        }
        let documents = self.mongo.collection::<RawDocumentBuf>(THREDS);
        let flagged = doc! { "_id": { "$in": threds }, "parked": { "$exists": true } };
        let find = documents.find(flagged).projection(doc! { "parked": 1 });
        let read = |flagged: Flagged| Ok(flagged);
        let flagged = self.mongo.readable("clear outboxes", THREDS, find, read).await?;
        let ids: Vec<_> = flagged.iter().map(|it| &*it.id).collect();
        let left = self.parked_of(&ids).await?;
        let done = flagged.iter().filter(|it| !left.contains_key(&ThredId::from(&*it.id)));
        // If something has been parked since, the mark is another one.
        let updates = done.map(|Flagged { id, parked }| {
            doc! { "q": { "_id": id, "parked": parked }, "u": { "$unset": { "parked": "" } } }
        });
        for updates in chunks(updates.collect()) {
            let written =
                self.mongo.write("clear outboxes", THREDS, Write::Update, updates).await?;
            written.all("clear outboxes")?;
        }
        Ok(())
    }

    pub(super) async fn pending(
        &self,
        made_before: i64,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        let old = doc! { "oldest": { "$lt": made_before } };
        let sort = Some(doc! { "oldest": 1 });
        self.outboxes("look for forgotten outboxes", old, sort, limit).await
    }

    pub(super) async fn topics(&self) -> Result<Vec<ParkedTopic>, PortError> {
        #[derive(Deserialize)]
        struct Waiting {
            #[serde(rename = "_id")]
            topic: String,
            messages: i64,
            oldest: i64,
        }
        let messages = self.mongo.collection::<Document>(PARKED);
        // Read from the index alone.
        let group = messages
            .aggregate([
                doc! { "$match": { "topic": { "$gte": "" } } },
                doc! { "$project": { "_id": 0, "topic": 1, "at": 1 } },
                doc! { "$group": {
                    "_id": "$topic", "messages": { "$sum": 1_i64 }, "oldest": { "$min": "$at" },
                } },
                doc! { "$sort": { "_id": 1 } },
            ])
            .with_type::<Waiting>();
        let found = self.mongo.all("look for parked messages", group).await?;
        let topics = found.into_iter().map(|waiting| ParkedTopic {
            topic: waiting.topic.as_str().into(),
            messages: waiting.messages.unsigned_abs(),
            oldest: waiting.oldest,
        });
        Ok(topics.collect())
    }

    pub(super) async fn parked_for(
        &self,
        topic: &Topic,
        limit: usize,
    ) -> Result<Vec<PendingOutbox>, PortError> {
        const OPERATION: &str = "look for parked messages";
        let messages = self.mongo.collection::<Document>(PARKED);
        let find = messages.find(doc! { "topic": { "$eq": topic.as_str() } });
        let find = find.sort(doc! { "topic": 1, "at": 1, "_id": 1 });
        let find = find.projection(doc! { "_id": 1 }).batch_size(1_000);
        let oldest = async {
            let mut threds: Vec<String> = Vec::new();
            let mut cursor = find.await?;
            let mut seen = HashSet::new();
            while threds.len() < limit
                && let Some(message) = cursor.try_next().await?
            {
                let id = message.get_document("_id").and_then(|id| id.get_str("t"));
                if let Ok(thred) = id
                    && seen.insert(thred.to_owned())
                {
                    threds.push(thred.to_owned());
                }
            }
            Ok(threds)
        };
        let threds = self.mongo.call(OPERATION, oldest).await?;
        if threds.is_empty() {
            return Ok(vec![]);
        }
        let named = doc! { "_id": { "$in": &threds } };
        let found = self.outboxes(OPERATION, named, None, threds.len()).await?;
        let mut by_thred: HashMap<_, _> =
            found.into_iter().map(|outbox| (outbox.thred_id.as_str().to_owned(), outbox)).collect();
        // Should a thred be gone, its messages are there.
        let gone = threds.iter().filter(|thred| !by_thred.contains_key(*thred));
        let gone: Vec<_> = gone.map(String::as_str).collect();
        for (thred_id, entries) in self.parked_of(&gone).await? {
            let thred = thred_id.as_str().to_owned();
            let entries = entries.into_values().collect();
            by_thred.insert(thred, PendingOutbox { thred_id, entries });
        }
        Ok(threds.iter().filter_map(|thred| by_thred.remove(thred)).collect())
    }

    /// The threds out of these that have ended and have nothing left to publish.
    pub(super) fn published(mut filter: Document) -> Document {
        filter.extend(doc! {
            "status": "terminated",
            "outbox.0": { "$exists": false },
            "parked": { "$exists": false },
        });
        filter
    }
}

fn all_of(thred: &str) -> Document {
    let bound = |message: Bson| doc! { "t": thred, "m": message };
    doc! { "$gte": bound(Bson::MinKey), "$lte": bound(Bson::MaxKey) }
}
