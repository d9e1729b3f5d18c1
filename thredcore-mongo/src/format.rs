//! Which version of the stored forms a database has.

use std::sync::Arc;

use mongodb::{
    bson::{Bson, Document, doc, oid::ObjectId},
    options::ReturnDocument,
};
use thredcore::{
    format::{Attendance, FORMATS, StoreFormat},
    port::PortError,
};

use crate::{
    connection::{Mongo, number},
    documents::{HISTORY, THREDS},
    error::MongoError,
};

/// The version of databases that were made before there was a number.
const FIRST: u32 = 1;

/// The collection that holds the number, and in the same document who is there: `processes`, each
/// with the newest format that it reads and when it was there last.
const META: &str = "meta";

/// This process, as others see it.
#[derive(Debug)]
pub(crate) struct Process {
    id: ObjectId,
    pub(crate) attendance: Attendance,
}

impl Default for Process {
    fn default() -> Self {
        Self { id: ObjectId::new(), attendance: Attendance::default() }
    }
}

fn the_format() -> Document {
    doc! { "_id": "format" }
}

/// Finds out the version of a database. One that is new gets the newest, or the one that is asked for.
pub(crate) async fn agree(mongo: &Mongo) -> Result<u32, MongoError> {
    let database = || mongo.database.name().to_owned();
    let checked = |found| {
        let problem = |problem| MongoError::Format { database: database(), problem };
        FORMATS.check(found).map_err(problem)
    };
    let found = found(mongo).await.map_err(|error| mongo.prepare_error(error))?;
    let found = found.ok_or_else(|| MongoError::Nothing { database: database() })?;
    let version = checked(found)?;
    if !mongo.config.create {
        return Ok(version);
    }
    // Whoever upgrades after this sees this process.
    checked(attend(mongo).await.map_err(|error| mongo.prepare_error(error))?)
}

/// `None` if there is nothing, and nothing is to be made.
async fn found(mongo: &Mongo) -> Result<Option<u64>, PortError> {
    const OPERATION: &str = "look at the format";
    let meta = mongo.collection::<Document>(META);
    let known = mongo.call(OPERATION, meta.find_one(the_format())).await?;
    let is_used = async || {
        for name in [THREDS, HISTORY] {
            let collection = mongo.collection::<Document>(name);
            if mongo.call(OPERATION, collection.find_one(doc! {})).await?.is_some() {
                return Ok::<_, PortError>(true);
            }
        }
        Ok(false)
    };
    match known {
        Some(document) => Ok(Some(version(&document))),
        None if !mongo.config.create => Ok(is_used().await?.then_some(FIRST.into())),
        None => {
            let make = FORMATS.make(mongo.config.make_format);
            let new = if is_used().await? { FIRST } else { make };
            let set = doc! { "$setOnInsert": { "version": i64::from(new) } };
            let set = meta.find_one_and_update(the_format(), set).upsert(true);
            let set = set.return_document(ReturnDocument::After);
            let set = mongo.call("write the format", set).await?;
            Ok(Some(set.as_ref().map_or(new.into(), version)))
        }
    }
}

fn version(document: &Document) -> u64 {
    let version = number(document, "version").and_then(|version| u64::try_from(version).ok());
    // What is no number is not ours to read either.
    version.unwrap_or(u64::MAX)
}

/// Of the noted processes those that are still there, and meet a condition.
fn there(condition: Document) -> Document {
    let lasts = i64::try_from(Attendance::LASTS.as_millis()).unwrap_or(i64::MAX);
    let is_there = doc! { "$gt": ["$$this.seen", { "$subtract": ["$$NOW", lasts] }] };
    doc! { "$filter": {
        "input": { "$ifNull": ["$processes", []] },
        "cond": { "$and": [is_there, condition] },
    } }
}

/// Notes that this process is there, and forgets those that have been silent for long. Answers the
/// version that the database has.
async fn attend(mongo: &Mongo) -> Result<u64, PortError> {
    let process = mongo.process.id;
    let others = there(doc! { "$ne": ["$$this.id", process] });
    let newest = i64::from(FORMATS.newest());
    let own = doc! { "id": process, "newest": newest, "seen": "$$NOW" };
    let note = vec![doc! { "$set": { "processes": { "$concatArrays": [others, [own]] } } }];
    let meta = mongo.collection::<Document>(META);
    let noted = meta.find_one_and_update(the_format(), note);
    let noted = noted.return_document(ReturnDocument::After);
    let noted = mongo.call("note that this process is there", noted).await?;
    // A database that was dropped is of no version.
    Ok(noted.as_ref().map_or(FORMATS.newest().into(), version))
}

/// Notes again and again that this process is there, as long as somebody uses the connection. A
/// database that was upgraded beyond this program is worked on no more.
pub(crate) fn keep_attending(mongo: &Mongo) {
    let process = Arc::downgrade(&mongo.process);
    let Mongo { database, config, unreadable, format, .. } = mongo.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(Attendance::EVERY).await;
            let Some(process) = process.upgrade() else { return };
            let (database, config) = (database.clone(), config.clone());
            let mongo = Mongo { database, config, unreadable: unreadable.clone(), process, format };
            match attend(&mongo).await {
                Ok(format) => mongo.process.attendance.found(FORMATS, format),
                // The next one may get through.
                Err(error) => tracing::debug!(%error, "could not note that this process is there"),
            }
        }
    });
}

/// The version of a database, and who is there.
pub(crate) async fn stand(mongo: &Mongo) -> Result<StoreFormat, PortError> {
    let shown = doc! { "version": 1, "processes": there(doc! {}) };
    let meta = mongo.collection::<Document>(META);
    let look = meta.aggregate([doc! { "$match": the_format() }, doc! { "$project": shown }]);
    let found = mongo.all("look at the format", look).await?;
    let newest = FORMATS.newest();
    let Some(found) = found.into_iter().next() else {
        return Ok(StoreFormat { format: FIRST, newest, processes: vec![] });
    };
    let processes = found.get_array("processes").map(Vec::as_slice).unwrap_or_default();
    let reads = |process: &Bson| {
        let newest = process.as_document().and_then(|process| number(process, "newest"));
        newest.and_then(|newest| u32::try_from(newest).ok()).unwrap_or_default()
    };
    let format = u32::try_from(version(&found)).unwrap_or(u32::MAX);
    mongo.process.attendance.found(FORMATS, format.into());
    Ok(StoreFormat { format, newest, processes: processes.iter().map(reads).collect() })
}

/// Raises the version, unless a process is there that would not read the new one.
pub(crate) async fn upgrade(mongo: &Mongo) -> Result<StoreFormat, PortError> {
    let newest = i64::from(FORMATS.newest());
    let older = there(doc! { "$lt": ["$$this.newest", newest] });
    let ready = doc! {
        "_id": "format",
        "version": { "$lt": newest },
        "$expr": { "$eq": [{ "$size": older }, 0] },
    };
    let raise = doc! { "$set": { "version": newest } };
    let meta = mongo.collection::<Document>(META);
    mongo.call("upgrade the database", meta.update_one(ready, raise)).await?;
    stand(mongo).await
}
