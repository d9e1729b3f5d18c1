//! Patterns: their revisions, and which are current.

use std::{collections::HashMap, sync::Arc};

use async_trait::async_trait;
use mongodb::{
    ClientSession,
    bson::{Document, RawDocumentBuf, doc},
};
use serde::Deserialize;
use thredcore::{
    port::{PatternStore, PortError, StoredPattern},
    state::PatternKey,
};
use thredlib::{PatternId, PatternModel};

use super::MongoStorage;
use crate::{
    connection::Mongo,
    documents::{COUNTERS, PATTERNS, REVISIONS, json, parsed, revision_of, revision_text},
    transaction::{Stop, Work},
};

/// The counter that changes with the current revisions.
const VERSION: &str = "patterns";

/// Which revision of a pattern is current, if it is in use.
#[derive(Debug, Deserialize)]
pub(super) struct Current {
    #[serde(rename = "_id")]
    id: String,
    revision: String,
    active: bool,
}

/// One revision.
#[derive(Debug, Deserialize)]
pub(super) struct Revision {
    #[serde(rename = "_id")]
    key: RevisionKey,
    model: String,
}

#[derive(Debug, Deserialize)]
struct RevisionKey {
    p: String,
    r: String,
}

impl Revision {
    pub(super) fn pattern(&self) -> Result<StoredPattern, PortError> {
        let (id, revision) = (self.key.p.as_str().into(), revision_of(&self.key.r)?);
        let model: PatternModel = parsed(&self.model)?;
        Ok(StoredPattern { key: PatternKey { id, revision }, model: Arc::new(model) })
    }
}

fn revision_id(key: &PatternKey) -> Document {
    doc! { "p": key.id.as_str(), "r": revision_text(key.revision) }
}

/// Makes a revision current, or takes a pattern out of use.
struct Change<'a> {
    mongo: &'a Mongo,
    id: &'a str,
    /// The revision and its text.
    put: Option<(Document, String, String)>,
}

#[async_trait]
impl Work for Change<'_> {
    type Output = ();
    type Refusal = PortError;

    async fn run(&mut self, session: &mut ClientSession) -> Result<(), Stop<PortError>> {
        let patterns = self.mongo.collection::<Current>(PATTERNS);
        let own = doc! { "_id": self.id };
        let current = patterns.find_one(own.clone()).session(&mut *session).await?;
        let change = match (&self.put, &current) {
            (Some((key, revision, model)), current) => {
                let revisions = self.mongo.collection::<Document>(REVISIONS);
                let text = doc! { "$set": { "model": model } };
                let put = revisions.update_one(doc! { "_id": key }, text).upsert(true);
                put.session(&mut *session).await?;
                match current {
                    Some(it) if it.active && it.revision == *revision => return Ok(()),
                    _ => doc! { "revision": revision, "active": true },
                }
            }
            (None, Some(current)) if current.active => doc! { "active": false },
            (None, _) => return Ok(()),
        };
        let change = patterns.update_one(own, doc! { "$set": change }).upsert(true);
        change.session(&mut *session).await?;
        let counters = self.mongo.collection::<Document>(COUNTERS);
        let next = doc! { "$inc": { "n": 1_i64 } };
        let count = counters.update_one(doc! { "_id": VERSION }, next).upsert(true);
        count.session(&mut *session).await?;
        Ok(())
    }
}

#[async_trait]
impl PatternStore for MongoStorage {
    async fn put_pattern(&self, pattern: StoredPattern) -> Result<(), PortError> {
        let StoredPattern { key, model } = pattern;
        let revision = revision_text(key.revision);
        let put = Some((revision_id(&key), revision, json(&*model)?));
        let mut change = Change { mongo: &self.mongo, id: key.id.as_str(), put };
        self.mongo.transact("store a pattern", &mut change).await
    }

    async fn remove_pattern(&self, id: &PatternId) -> Result<(), PortError> {
        let mut change = Change { mongo: &self.mongo, id: id.as_str(), put: None };
        self.mongo.transact("remove a pattern", &mut change).await
    }

    async fn patterns(&self) -> Result<Vec<StoredPattern>, PortError> {
        const OPERATION: &str = "read patterns";
        let patterns = self.mongo.collection::<RawDocumentBuf>(PATTERNS);
        let find = patterns.find(doc! { "active": true }).sort(doc! { "_id": 1 });
        let read = |current: Current| Ok(current);
        let current =
            self.mongo.readable(OPERATION, PATTERNS, find.batch_size(1_000), read).await?;
        let mut found = HashMap::new();
        for some in current.chunks(256) {
            let keys: Vec<_> =
                some.iter().map(|it| doc! { "p": &it.id, "r": &it.revision }).collect();
            let revisions = self.mongo.collection::<RawDocumentBuf>(REVISIONS);
            let find = revisions.find(doc! { "_id": { "$in": keys } }).batch_size(256);
            let read = |revision: Revision| revision.pattern();
            for pattern in self.mongo.readable(OPERATION, REVISIONS, find, read).await? {
                found.insert(pattern.key.id.as_str().to_owned(), pattern);
            }
        }
        Ok(current.iter().filter_map(|it| found.remove(&it.id)).collect())
    }

    async fn pattern(&self, key: &PatternKey) -> Result<Option<StoredPattern>, PortError> {
        let revisions = self.mongo.collection::<RawDocumentBuf>(REVISIONS);
        let find = revisions.find(doc! { "_id": revision_id(key) });
        let read = |revision: Revision| revision.pattern();
        let mut found = self.mongo.readable("read a pattern", REVISIONS, find, read).await?;
        Ok(found.pop())
    }

    async fn listening_patterns(&self) -> Result<Vec<PatternKey>, PortError> {
        self.listening().await
    }

    async fn patterns_version(&self) -> Result<u64, PortError> {
        let counters = self.mongo.collection::<Document>(COUNTERS);
        let find = counters.find_one(doc! { "_id": VERSION });
        let found = self.mongo.call("read the patterns' version", find).await?;
        let number = found.and_then(|counter| counter.get_i64("n").ok()).unwrap_or_default();
        Ok(u64::try_from(number).unwrap_or_default())
    }
}
