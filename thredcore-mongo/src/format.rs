//! Which version of the stored forms a database has.

use mongodb::{
    bson::{Document, doc},
    options::ReturnDocument,
};
use thredcore::{format::Formats, port::PortError};

use crate::{
    connection::{Mongo, number},
    documents::{HISTORY, THREDS},
    error::MongoError,
};

/// The versions that are read. A version is raised with every change of what is stored that an older
/// program does not read as it is meant; the one before is still read, and a database that has it
/// keeps it.
///
/// The first version was never released, and is not read.
pub(crate) const FORMATS: Formats = Formats::new(2, 2);

/// The version of databases that were made before there was a number.
const FIRST: u32 = 1;

/// The collection that holds the number.
const META: &str = "meta";

/// Finds out the version of a database. One that is new gets the newest.
pub(crate) async fn agree(mongo: &Mongo) -> Result<u32, MongoError> {
    let database = || mongo.database.name().to_owned();
    let found = found(mongo).await.map_err(|error| mongo.prepare_error(error))?;
    let found = found.ok_or_else(|| MongoError::Nothing { database: database() })?;
    FORMATS.check(found).map_err(|problem| MongoError::Format { database: database(), problem })
}

/// `None` if there is nothing, and nothing is to be made.
async fn found(mongo: &Mongo) -> Result<Option<u64>, PortError> {
    const OPERATION: &str = "look at the format";
    let meta = mongo.collection::<Document>(META);
    let format = doc! { "_id": "format" };
    let known = mongo.call(OPERATION, meta.find_one(format.clone())).await?;
    let is_used = async || {
        for name in [THREDS, HISTORY] {
            let collection = mongo.collection::<Document>(name);
            if mongo.call(OPERATION, collection.find_one(doc! {})).await?.is_some() {
                return Ok::<_, PortError>(true);
            }
        }
        Ok(false)
    };
    let version = |document: &Document| {
        let version = number(document, "version").and_then(|version| u64::try_from(version).ok());
        // What is no number is not ours to read either.
        version.unwrap_or(u64::MAX)
    };
    match known {
        Some(document) => Ok(Some(version(&document))),
        None if !mongo.config.create => Ok(is_used().await?.then_some(FIRST.into())),
        None => {
            let new = if is_used().await? { FIRST } else { FORMATS.newest() };
            let set = doc! { "$setOnInsert": { "version": i64::from(new) } };
            let set = meta.find_one_and_update(format, set).upsert(true);
            let set = set.return_document(ReturnDocument::After);
            let set = mongo.call("write the format", set).await?;
            Ok(Some(set.as_ref().map_or(new.into(), version)))
        }
    }
}
