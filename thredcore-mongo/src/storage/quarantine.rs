//! What cannot be read, in all collections.

use async_trait::async_trait;
use futures::TryStreamExt;
use mongodb::bson::{Bson, Document, RawDocument, RawDocumentBuf, doc};
use serde::de::DeserializeOwned;
use thredcore::port::{PortError, Quarantine, Unreadable};

use super::{
    MongoStorage,
    patterns::{Current, Revision},
};
use crate::{
    archive::MongoArchive,
    connection::Mongo,
    directory::User,
    documents::{
        ENDED, HISTORY, PARKED, PATTERNS, ParkedDocument, Past, REVISIONS, StateDocument, Step,
        THREDS, USERS,
    },
    unreadable::{decoded, described, id_of},
};

/// Reads a document as what it should be.
type Read = fn(&RawDocument) -> Result<(), PortError>;

fn read<D: DeserializeOwned>(
    document: &RawDocument,
    read: impl FnOnce(D) -> Result<(), PortError>,
) -> Result<(), PortError> {
    decoded(document).and_then(read)
}

fn thred(document: &RawDocument) -> Result<(), PortError> {
    read(document, |thred: StateDocument| {
        MongoStorage::unparked(&thred)?;
        for step in Step::waiting(&thred)? {
            step.past().history()?;
        }
        Ok(())
    })
}

/// What stands where, and how it is read.
const THRED_STORE: [(&str, &str, Read); 5] = [
    ("thred", THREDS, thred),
    ("message", PARKED, |it| read(it, |message: ParkedDocument| message.entry().map(drop))),
    ("pattern", REVISIONS, |it| read(it, |revision: Revision| revision.pattern().map(drop))),
    ("pattern", PATTERNS, |it| read(it, |_: Current| Ok(()))),
    ("user", USERS, |it| read(it, |_: User| Ok(()))),
];

const ARCHIVE: [(&str, &str, Read); 2] = [
    ("thred", ENDED, |it| read(it, |thred: StateDocument| thred.state().map(drop))),
    ("step", HISTORY, |it| {
        read(
            it,
            |past: Past| {
                if past.moved { past.history().map(drop) } else { past.unmoved().map(drop) }
            },
        )
    }),
];

impl Mongo {
    /// Looks for what cannot be read, and takes it out if that is wanted.
    async fn quarantined(
        &self,
        places: &[(&str, &str, Read)],
        limit: usize,
        takes_out: bool,
    ) -> Result<Vec<Unreadable>, PortError> {
        let mut found = Vec::new();
        for (kind, name, read) in places {
            if found.len() >= limit {
                break;
            }
            let collection = self.collection::<RawDocumentBuf>(name);
            // It goes on as long as it takes, a batch at a time.
            let find = async { collection.find(doc! {}).batch_size(1_000).await };
            let mut cursor = self.call("look for what cannot be read", find).await?;
            let mut ids: Vec<Bson> = Vec::new();
            while found.len() < limit
                && let Some(document) =
                    self.call("look for what cannot be read", cursor.try_next()).await?
            {
                if let Err(error) = read(&document) {
                    found.push(described(kind, name, &document, &error));
                    ids.extend(id_of(&document));
                }
            }
            if takes_out && !ids.is_empty() {
                let documents = self.collection::<Document>(name);
                let delete = documents.delete_many(doc! { "_id": { "$in": ids } });
                self.call("take out what cannot be read", delete).await?;
            }
        }
        Ok(found)
    }
}

impl MongoArchive {
    pub(crate) async fn quarantined(
        &self,
        limit: usize,
        takes_out: bool,
    ) -> Result<Vec<Unreadable>, PortError> {
        self.mongo.quarantined(&ARCHIVE, limit, takes_out).await
    }
}

impl MongoStorage {
    async fn all_quarantined(
        &self,
        limit: usize,
        takes_out: bool,
    ) -> Result<Vec<Unreadable>, PortError> {
        let mut found = self.mongo.quarantined(&THRED_STORE, limit, takes_out).await?;
        let rest = limit - found.len();
        found.extend(self.archive.quarantined(rest, takes_out).await?);
        Ok(found)
    }
}

#[async_trait]
impl Quarantine for MongoStorage {
    async fn unreadable(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.all_quarantined(limit, false).await
    }

    async fn move_out(&self, limit: usize) -> Result<Vec<Unreadable>, PortError> {
        self.all_quarantined(limit, true).await
    }
}
