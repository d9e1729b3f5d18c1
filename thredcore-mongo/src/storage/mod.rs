//! The storage: one document for each thred.

mod commit;
mod limits;
mod patterns;
mod records;
mod threds;

use async_trait::async_trait;
use mongodb::{
    action::Find,
    bson::{Bson, Document, doc},
    options::IndexOptions,
};
use thredcore::port::PortError;

use crate::{
    archive::{Filer, MongoArchive, Origin, chunks},
    connection::{Mongo, Write, wall_clock},
    documents::{LEASES, PATTERNS, StateDocument, Step, THREDS, literal, signed},
    error::MongoError,
};

/// A [`Storage`](thredcore::port::Storage) in MongoDB.
///
/// A commit is one write of one document: state, timer, outbox and the step of the past, under the
/// condition that the version is still the expected one and the inbox does not hold what is
/// consumed. The commits of a batch go together in one command. Steps move from the documents to the
/// [archive](MongoArchive) afterwards, which is where history and log are read from.
#[derive(Debug)]
pub struct MongoStorage {
    mongo: Mongo,
    archive: MongoArchive,
    filer: Filer,
}

impl MongoStorage {
    /// Opens the storage, and makes its indexes where they are missing.
    ///
    /// # Errors
    /// When an index cannot be made.
    pub async fn open(mongo: &Mongo) -> Result<Self, MongoError> {
        let archive = MongoArchive::open(mongo).await?;
        prepare(mongo).await.map_err(|error| mongo.prepare_error(error))?;
        let filer = Filer::start(archive.clone(), Threds(archive.clone()));
        Ok(Self { mongo: mongo.clone(), archive, filer })
    }

    /// The archive behind it.
    pub fn archive(&self) -> &MongoArchive {
        &self.archive
    }

    /// Archives the steps that killed processes have left behind, and removes threds that ended
    /// [long ago](crate::MongoConfig::keep_ended). Done every 5 s by itself.
    ///
    /// # Errors
    /// Some may have been left as they are.
    pub async fn clean_up(&self) -> Result<(), PortError> {
        Threds(self.archive.clone()).tend().await
    }

    /// Waits until all that was committed here is in the archive; but for commits whose answer was
    /// lost, which are archived by [`clean_up`](Self::clean_up).
    pub async fn flush(&self) {
        self.filer.flush().await;
    }
}

/// An index costs each write of a document that is in it, so all but one hold only those documents
/// that have the field.
async fn prepare(mongo: &Mongo) -> Result<(), PortError> {
    let all = IndexOptions::default;
    let having = |field: &str| {
        let filter = doc! { field: { "$exists": true } };
        IndexOptions::builder().partial_filter_expression(filter).build()
    };
    mongo.index(THREDS, doc! { "status": 1, "started": 1, "_id": 1 }, all()).await?;
    mongo.index(THREDS, doc! { "participants": 1, "started": 1, "_id": 1 }, all()).await?;
    mongo.index(THREDS, doc! { "due": 1, "_id": 1, "entry": 1 }, having("due")).await?;
    mongo.index(THREDS, doc! { "oldest": 1 }, having("oldest")).await?;
    mongo.index(THREDS, doc! { "listens": 1, "reaction": 1 }, having("listens")).await?;
    mongo.index(THREDS, doc! { "unfiled": 1 }, having("unfiled")).await?;
    mongo.index(THREDS, doc! { "closed": 1 }, having("closed")).await?;
    mongo.index(PATTERNS, doc! { "active": 1 }, all()).await?;
    mongo.index(LEASES, doc! { "until": 1 }, all()).await
}

/// The steps that are not archived yet, of each thred that is found.
async fn waiting(
    mongo: &Mongo,
    operation: &'static str,
    find: Find<'_, StateDocument>,
) -> Result<Vec<Vec<Step>>, PortError> {
    let find = find.projection(doc! { "state": 1, "inbox": 1, "past": 1 });
    mongo.all(operation, find).await?.iter().map(Step::waiting).collect()
}

/// The documents of the threds as the place where steps wait.
struct Threds(MongoArchive);

impl Threds {
    async fn archive_forgotten(&self) -> Result<(), PortError> {
        const AT_ONCE: i64 = 256;
        let mongo = &self.0.mongo;
        loop {
            let threds = mongo.collection::<StateDocument>(THREDS);
            let age = i64::try_from(mongo.config.left_behind.as_millis()).unwrap_or(i64::MAX);
            let before = wall_clock().saturating_sub(age);
            let find = threds.find(doc! { "unfiled": { "$lte": before } });
            let find = find.sort(doc! { "unfiled": 1 }).limit(AT_ONCE);
            let forgotten = waiting(mongo, "look for forgotten steps", find).await?;
            let steps = forgotten.concat();
            if steps.is_empty() {
                return Ok(());
            }
            for steps in steps.chunks(256) {
                self.0.file(steps).await?;
                self.forget(steps).await?;
            }
            if (forgotten.len() as i64) < AT_ONCE {
                return Ok(());
            }
        }
    }

    async fn remove_ended(&self) -> Result<(), PortError> {
        let mongo = &self.0.mongo;
        let keep = i64::try_from(mongo.config.keep_ended.as_millis()).unwrap_or(i64::MAX);
        let gone = doc! {
            "closed": { "$lte": wall_clock().saturating_sub(keep) },
            "status": "terminated",
            "outbox.0": { "$exists": false },
            "past.0": { "$exists": false },
        };
        let threds = mongo.collection::<Document>(THREDS);
        mongo.call("remove ended threds", threds.delete_many(gone)).await.map(drop)
    }
}

#[async_trait]
impl Origin for Threds {
    async fn forget(&self, steps: &[Step]) -> Result<(), PortError> {
        let mut versions: std::collections::BTreeMap<&str, Vec<i64>> = Default::default();
        for step in steps {
            versions.entry(step.thred.as_str()).or_default().push(signed(step.version));
        }
        let now = wall_clock();
        let struck = versions.into_iter().map(|(id, versions)| {
            let versions: Vec<Bson> = versions.into_iter().map(Bson::from).collect();
            Struck { id, field: "past", key: "v", values: versions, time: "unfiled" }
                .statements(now)
        });
        strike_off(&self.0.mongo, "strike off steps", struck.collect()).await
    }

    async fn tend(&self) -> Result<(), PortError> {
        self.archive_forgotten().await?;
        self.remove_ended().await
    }
}

/// Items of a list in a thred's document that have been dealt with.
struct Struck<'a> {
    id: &'a str,
    field: &'a str,
    /// The field of the items that tells them apart, and its values.
    key: &'a str,
    values: Vec<Bson>,
    /// The field that is there while the list holds something.
    time: &'a str,
}

impl Struck<'_> {
    /// The statement for a list that holds nothing else, and the one for any list, which costs
    /// MongoDB more. The index is named, or MongoDB would try others each time. `left` is the new time of a list that still holds something.
    fn statements(self, left: impl Into<Bson>) -> (Document, Document) {
        let Self { id, field, key, values, time } = self;
        let other = doc! { "$elemMatch": { key: { "$nin": values.clone() } } };
        let all = doc! {
            "q": { "_id": id, time: { "$exists": true }, field: { "$not": other } },
            "u": { "$set": { field: [] }, "$unset": { time: "" } },
            "hint": "_id_",
        };
        let list = format!("${field}");
        let struck = doc! { "$in": [format!("$$this.{key}"), literal(values)] };
        let kept = doc! { "input": &list, "cond": { "$not": struck } };
        let none = doc! { "$eq": [{ "$size": &list }, 0] };
        let some = doc! {
            "q": { "_id": id, time: { "$exists": true } },
            "u": [
                { "$set": { field: { "$filter": kept } } },
                { "$set": { time: { "$cond": [none, "$$REMOVE", left.into()] } } },
            ],
            "hint": "_id_",
        };
        (all, some)
    }
}

/// Removes items; what is not there is ignored.
async fn strike_off(
    mongo: &Mongo,
    operation: &'static str,
    statements: Vec<(Document, Document)>,
) -> Result<(), PortError> {
    let (all, some): (Vec<_>, Vec<_>) = statements.into_iter().unzip();
    let count = all.len();
    let mut struck = 0;
    for statements in chunks(all) {
        let written = mongo.write(operation, THREDS, Write::Update, statements).await?;
        struck += written.count;
        written.all(operation)?;
    }
    if struck == count {
        return Ok(());
    }
    for statements in chunks(some) {
        let written = mongo.write(operation, THREDS, Write::Update, statements).await?;
        written.all(operation)?;
    }
    Ok(())
}

/// How many steps a thred may have that are not archived yet, before its next commit has to wait.
const PAST_LIMIT: usize = 1_024;
